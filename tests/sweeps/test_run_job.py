"""The trial runner: too little memory, and a worker that runs a hundred trainings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.config.schema import RunSettings
from src.machine.failures import OutOfMemory
from src.records.run import RunSummary
from src.runs.resume_settings import read_run_settings
from src.search.pool import Ended, Noted, Pool, Reported
from src.search.workers.local import LocalEngine, Slot
from src.sweeps import run_job as runners
from src.sweeps.race import _changed
from src.sweeps.run_job import TrialRunner

WORDS = ["model=mlp", "data.batch_size=256", "trainer.max_epochs=1", "runtime=float32"]


class Mute:
    def note(self, **facts: Any) -> None:
        return None

    def report(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        return None


def job(output_dir: Path, words: list[str]) -> dict[str, Any]:
    places = [f"output_dir={output_dir}", "tracking.enabled=false", "evaluate_test=false"]
    places += ["tracking.log_model=false", "tracking.figures=false", "trainer.progress=false"]
    return {
        **{"do": "train", "words": words, "places": places, "command": "c", "name": "n"},
        **{"tags": {}, "parent_run_id": "0" * 32, "resume": None},
        **{"metric": "val/accuracy", "direction": "maximize"},
    }


def test_too_little_memory_asks_for_the_same_step_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[RunSettings] = []

    def experiment(settings: RunSettings, *_: Any, **__: Any) -> RunSummary:
        tried.append(settings)
        raise OutOfMemory("there is not enough memory")

    monkeypatch.setattr(runners, "run_experiment", experiment)
    words, run = [*WORDS, "trainer.accumulate_batches=3"], TrialRunner()
    ending = run(job(tmp_path, words), Mute())
    assert (ending.state, ending.reason) == ("failed", "there is not enough memory")
    assert ending.again is not None
    smaller = _changed(words, ending.again["changes"])
    assert len(smaller) == len(words), "a key is there twice"
    run(job(tmp_path, smaller), Mute())
    sizes = [(s.data.batch_size, s.trainer.accumulate_batches) for s in tried]
    assert sizes == [(256, 3), (128, 6)]
    # Everything else is as before, and a person may type it.
    assert read_run_settings(smaller).optimizer == read_run_settings(words).optimizer
    single = run(job(tmp_path, _changed(words, ["data.batch_size=1"])), Mute())
    assert single.again is None, "there is nothing smaller than one picture"


def test_of_two_changes_the_later_counts() -> None:
    first = _changed(["model=mlp", "data.batch_size=256"], ["data.batch_size=128", "seed=1"])
    assert first == ["model=mlp", "data.batch_size=128", "seed=1"]
    both = _changed(["data.batch_size=256"], ["data.batch_size=128", "data.batch_size=64"])
    assert both == ["data.batch_size=64"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_warm_worker_stays_flat_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    logs = tmp_path / "logs"
    pool = Pool(LocalEngine([Slot(None, 1)], "src.sweeps.run_job:TrialRunner", logs))
    pool.start()
    (worker,) = (
        child
        for child in psutil.Process().children()
        if "src.sweeps.run_job:TrialRunner" in child.cmdline()
    )
    sizes: list[int] = []
    try:
        while len(sizes) <= 100:
            if pool.free():
                hidden = 64 + 8 * (len(sizes) % 16)
                words = _changed(WORDS, [f"model.hidden=[{hidden}]", f"seed={len(sizes)}"])
                pool.give(0, job(tmp_path, words))
            for event in pool.events(0.25):
                match event:
                    case Reported(slot=slot):
                        pool.answer(slot, "behind" if len(sizes) % 3 == 2 else None)
                    case Ended(ending=ending):
                        assert ending.state in ("complete", "pruned"), ending.reason
                        sizes.append(worker.memory_info().rss)
                    case Noted():
                        pass
    finally:
        pool.close()
    assert sizes[100] <= 1.05 * sizes[10], [size >> 20 for size in sizes[::10]]
