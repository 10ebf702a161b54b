from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from src.records.trials import RUNNING, SweepRecord
from src.sweeps import live_page
from src.sweeps.live_page import LivePage
from tests.reporting.races import race
from tests.sweeps.stand_in import Clock

WHOLE = replace(race(12), finalists=(), winner=None)


class Kept:
    """A page of some trials, more with every one that begins."""

    def __init__(self, folder: Path) -> None:
        self.path, self.clock, self.read = folder / "sweep.html", Clock(), 0
        self.shown: list[str] = []
        self.page = LivePage(self.path, self._record, self.shown.append, self.clock)

    def _record(self) -> SweepRecord:
        self.read += 1
        return replace(WHOLE, trials=WHOLE.trials[: self.read])

    def tick(self) -> str:
        self.page.tick({}, "")
        return self.path.read_text(encoding="utf-8") if self.path.is_file() else ""


def test_the_page_follows_what_begins_and_ends_and_shows_that_the_race_runs(
    tmp_path: Path,
) -> None:
    kept = Kept(tmp_path)
    assert kept.tick() == ""
    kept.page.began(0, replace(WHOLE.trials[0], state=RUNNING), 9)
    first = kept.tick()
    assert "1 trial (" in first and "The race is running" in first
    assert kept.shown == [f"page: {kept.path}, up to date while the race runs"]
    kept.clock.now += 59
    assert kept.tick() == first and kept.read == 1, "nothing is new"
    kept.page.ended(0, WHOLE.trials[0], None)
    assert "2 trials (" in kept.tick()
    for trials, seconds in ((2, 59), (3, 2), (3, 59), (4, 2)):
        kept.clock.now += seconds
        assert f"{trials} trials (" in kept.tick()
    assert len(kept.shown) == 1
    kept.clock.now += 1000
    assert '"next_within":60' in kept.tick().replace(" ", "")


def test_a_page_that_takes_long_is_written_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    for seconds, pause in ((0.0, 5), (0.01, 5), (0.2, 20), (3.0, 300)):
        times = iter([10.0, 10.0 + seconds])
        monkeypatch.setattr(live_page.time, "thread_time", lambda times=times: next(times))
        kept.page.ended(0, WHOLE.trials[0], None)
        before = kept.read
        kept.tick()
        assert kept.read == before + 1
        kept.page.ended(0, WHOLE.trials[0], None)
        kept.clock.now += pause - 0.1
        kept.tick()
        assert kept.read == before + 1, "it is too early"
        kept.clock.now += 0.2


def test_a_folder_that_takes_no_page_ends_no_race(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.write_text("no folder", encoding="utf-8")
    kept = Kept(folder)
    kept.page.ended(0, WHOLE.trials[0], None)
    kept.page.tick({}, "")
    assert kept.read == 1 and not kept.shown
    folder.unlink()
    kept.clock.now += 1000
    kept.page.ended(0, WHOLE.trials[0], None)
    assert kept.tick() and kept.shown
