"""Whole sweeps with real workers, whose jobs train nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from filelock import FileLock
from PIL import Image

from src.config.checks import ConfigError
from src.config.command_line import take_config_name
from src.config.sweep import base_overrides, read_sweep_settings
from src.data.splitting.test_usage import past_test_measurements
from src.machine.failures import RunFailed
from src.machine.package import overrides_of
from src.records.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    RUNNING,
    NetworkRecord,
    SweepRecord,
    TrialRecord,
)
from src.reporting.sweep_figures import draw_sweep_figures
from src.reporting.sweep_report import format_result
from src.search.driver import Driver
from src.search.space import Family
from src.search.study import SweepStudy
from src.sweeps import race as race_module
from src.sweeps.clock import Clock
from src.sweeps.earlier_command import completed_command, keep_command
from src.sweeps.families import default_values, load_families, name_of_kind
from src.sweeps.forecast import TimeForecast
from src.sweeps.launch import run_sweep
from src.sweeps.prepared import PREPARED, Prepared
from src.sweeps.sweep_study import study_spec
from src.sweeps.tasks import SweepJobs

pytestmark = pytest.mark.usefixtures("forking")
_DRAW = "src.reporting.sweep_figures.draw_sweep_figures"


@pytest.fixture(autouse=True)
def no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are figures drawn, which takes half of the time of such a sweep."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(race_module, "_RUNNER", "tests.sweeps.stand_in:StandIn")
    monkeypatch.setattr(race_module, "_OF_NETWORKS", "json")  # which is imported already
    monkeypatch.setattr(_DRAW, lambda *_: [])


GIVEN = (
    *("families=[mlp,embedding]", "study=s", "tracking=none", "workers.count=1"),
    *("search=[model.dropout,model.classifier]", "budget.trials=4", "finalists=2"),
)


def sweep(output_dir: Path, *overrides: str) -> SweepRecord:
    seeds = () if "finalists=0" in overrides else ("finalist_seeds=2",)
    given = [*GIVEN, *seeds, f"output_dir={output_dir}", *overrides]
    return run_sweep(read_sweep_settings(given, "default"), given, "default")


def opened_study(output_dir: Path, *overrides: str) -> SweepStudy:
    """Return the study of such a sweep, as its race opens it."""
    given = [*GIVEN, f"output_dir={output_dir}", *overrides]
    settings, base = read_sweep_settings(given, "default"), base_overrides(given, "default")
    families = load_families(settings.families, base, settings.search)
    return SweepStudy(settings.study_folder, study_spec(settings, families, base))


def log(output_dir: Path) -> list[str]:
    return (output_dir / "log").read_text().splitlines()


def test_what_was_killed_while_it_wrote_its_end_writes_it_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ["families=[embedding]", "budget.trials=1", "finalist_seeds=1"]

    class Killed(BaseException): ...

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(_DRAW, killed)
    with pytest.raises(Killed):
        sweep(tmp_path, *short)
    monkeypatch.setattr(_DRAW, draw_sweep_figures)
    folder, done = tmp_path / "sweeps" / "s", log(tmp_path)
    assert not (folder / "figures").exists()
    record = sweep(tmp_path, *short)
    assert log(tmp_path) == done and any((folder / "figures").iterdir())
    (folder / "sweep.json").unlink()
    assert sweep(tmp_path, *short).trials == record.trials
    assert log(tmp_path) == done and (folder / "sweep.json").is_file()


def test_the_page_is_there_before_a_race_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page, pages = tmp_path / "sweeps" / "s" / "sweep.html", []

    def seen(finals: Any) -> None:
        pages.append(page.read_text(encoding="utf-8"))
        run_finals(finals)

    run_finals = race_module.Finals.run
    monkeypatch.setattr(race_module.Finals, "run", seen)
    sweep(tmp_path, "families=[embedding]", "budget.trials=2", "finalist_seeds=1")
    assert capsys.readouterr().err.count(f"page: {page}, up to date while the race runs") == 1
    assert "The race is running" in pages[0]
    assert "The race is running" not in page.read_text(encoding="utf-8")


def test_a_search_for_the_fit_of_pictures_begins_with_that_of_the_frozen_networks(
    tmp_path: Path,
) -> None:
    (tmp_path / "crop").touch()
    families = "families=[embedding,efficientnet_lite0]"
    record = sweep(tmp_path, families, "search=[data.fit]", "budget.trials=6", "finalists=0")
    fits = [[one for one in t.overrides if one.startswith("data.fit=")] for t in record.trials]
    tuned = [trial for trial in record.trials if trial.family == "efficientnet_lite0"]
    assert tuned[0].is_default and tuned[0].values["data.fit"] == "crop"
    assert {trial.values["data.fit"] for trial in tuned} > {"crop"}, "others are tried as well"
    for trial, fit in zip(record.trials, fits, strict=True):
        assert fit == [f"data.fit={trial.values.get('data.fit', 'crop')}"]


def test_races_and_finals_keep_account_of_their_time_for_a_start_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.sweeps.clock._NOTE_SECONDS", 0.0)
    grew: list[tuple[str, bool]] = []
    for part, name in ((race_module.Driver, "race"), (race_module.Finals, "run_jobs")):
        real = getattr(part, name)

        def watched(self: Any, real: Any = real, name: str = name) -> Any:
            before = self._study.recall("spent")
            result = real(self)
            grew.append((name, self._study.recall("spent") > before))
            return result

        monkeypatch.setattr(part, name, watched)
    short = ["families=[mlp]", "budget.trials=1", "finalists=1", "finalist_seeds=1"]
    record = sweep(tmp_path, *short)
    assert grew == [("race", True), ("run_jobs", True)]
    trained = sum(trial.seconds or 0.0 for trial in record.trials)
    assert record.seconds > trained, "the page says how long all of it took"
    assert sweep(tmp_path, *short).seconds == record.seconds, "to show it takes none"


@pytest.mark.parametrize(("given", "limit"), [((), 230), (["trainer.max_time=40"], 40)])
def test_the_only_training_that_there_is_time_for_ends_itself(
    tmp_path: Path, given: Sequence[str], limit: float
) -> None:
    """Three epochs of a minute in four and a half: the trial stands for the finalist."""
    (tmp_path / "slow").touch()
    overrides = ["families=[mlp]", "budget.minutes=4.5", "budget.trials=1", *given]
    record = sweep(tmp_path, *overrides)
    (trial,) = record.trials
    assert trial.state == COMPLETE
    (found,) = [one for one in trial.overrides if one.startswith("trainer.max_time=")]
    spent = 0.0 if given else record.seconds  # at the most, when the trial began
    assert limit - 0.85 * spent - 1 <= float(found.partition("=")[2]) <= limit
    # With time for more it is a candidate like others, without a limit of its own.
    more = sweep(tmp_path, "families=[mlp]", "study=more", "budget.minutes=60", "budget.trials=1")
    assert not any(
        override.startswith("trainer.max_time=") for override in more.trials[0].overrides
    )


def test_an_only_network_that_must_be_cut_is_trained_alone_with_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for place in ("src.sweeps.reduction", "src.sweeps.race", "src.machine.cpu_load"):
        monkeypatch.setattr(f"{place}.available_cores", lambda: 2)
    monkeypatch.setattr("src.sweeps.reduction.others_load", lambda: 0.0)
    at_once: list[int | None] = []

    def driver(*parts: Any, **given: Any) -> Driver:
        at_once.append(given["at_once"])
        return Driver(*parts, **given)

    monkeypatch.setattr(race_module, "Driver", driver)
    for name in ("slow", "divides"):
        (tmp_path / name).touch()
    overrides = ["families=[mlp]", "workers.count=null", "budget.minutes=4", "budget.trials=2"]
    record = sweep(tmp_path, *overrides)
    threads = [[w for w in t.overrides if w.startswith("runtime.threads=")] for t in record.trials]
    assert threads == [["runtime.threads=2"]] * 2 and at_once == [1]
    again = sweep(tmp_path, *overrides, "study=stated", "workers.count=2")
    assert at_once[1:] == [None]
    assert all("runtime.threads=1" in trial.overrides for trial in again.trials)


def test_a_network_that_has_no_time_for_an_epoch_is_trained_for_a_part_of_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow").touch()
    overrides = ["families=[mlp]", "budget.minutes=1", "budget.trials=1", "finalists=0"]
    (trial,) = sweep(tmp_path, *overrides, "evaluate_test=false").trials
    assert trial.state == COMPLETE and "trainer.max_epochs=1" in trial.overrides
    assert any(override.startswith("trainer.max_time=") for override in trial.overrides)


def test_where_nothing_ends_in_time_the_minimal_trial_of_all_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slow").touch()
    overrides = ["families=[mlp]", "budget.minutes=0.05", "budget.trials=1"]
    record = sweep(tmp_path, *overrides, "evaluate_test=false")
    (trial,) = record.trials
    assert trial.state == COMPLETE and record.winner == trial.number
    assert {"data.train_limit=500", "trainer.max_epochs=1"} <= {*trial.overrides}
    assert "no trial ends within budget.minutes=0.05" in capsys.readouterr().err
    sentence, remedy = record.short
    assert "rough result" in sentence and trial.name in sentence and "budget.minutes=" in remedy
    # Each start that finds no other answer would try no more than this one again.
    assert sweep(tmp_path, *overrides, "evaluate_test=false").trials == record.trials
    # It is no measure of its family, which has its own turn with more minutes.
    (tmp_path / "slow").unlink()
    more = sweep(tmp_path, *overrides, "budget.minutes=60", "budget.trials=3")
    assert more.trials[0] == trial and len(more.trials) == 3 and more.short == ("", "")
    assert not any("data.train_limit=500" in one.overrides for one in more.trials[1:])


def test_the_minimal_trial_answers_though_epochs_are_spent_as_well(tmp_path: Path) -> None:
    """What an earlier start spent them on had no answer; nothing would begin after the remark."""
    (tmp_path / "slow").touch()
    overrides = ["families=[mlp]", "budget.minutes=0.05", "budget.epochs=5", "evaluate_test=false"]
    with opened_study(tmp_path, *overrides) as study:
        study.remember("epochs", 5)
    (trial,) = sweep(tmp_path, *overrides).trials
    assert trial.state == COMPLETE and "data.train_limit=500" in trial.overrides


def test_the_minimal_trial_is_a_fit_on_features_that_are_there(tmp_path: Path) -> None:
    """However long the fit was measured to take: there is no cheaper trial."""
    overrides = ["families=[embedding]", "search=[model.*]", "budget.minutes=0.0005"]
    cheapest = {"model.classifier": "nearest_mean", "model.selection": "none"}
    frozen = Prepared(["model.input_size=96"], 1, 0.0, published=True)
    frozen = replace(frozen, fit_seconds={name_of_kind(cheapest): 3600.0})
    with opened_study(tmp_path, *overrides, "evaluate_test=false") as study:
        study.remember(PREPARED, {"embedding": asdict(frozen)})
    (trial,) = sweep(tmp_path, *overrides, "evaluate_test=false").trials
    assert trial.state == COMPLETE and cheapest.items() <= trial.values.items()
    assert "model.input_size=96" in trial.overrides
    assert not any(one.startswith("data.train_limit=") for one in trial.overrides)


@pytest.mark.parametrize(
    ("states", "minutes", "seconds"),
    [([FAILED], 1.0, 30.0), ([PRUNED, FAILED], 1.0, 30.0), ([], None, 0.0), ([], 1.0, 0.0)],
)
def test_the_minimal_trial_is_for_want_of_time_alone(
    states: list[str], minutes: float | None, seconds: float
) -> None:
    sweep: Any = SimpleNamespace(
        _settings=SimpleNamespace(budget=SimpleNamespace(minutes=minutes)),
        _clock=SimpleNamespace(minimal_trial_seconds=lambda slower, again: seconds),
        _study=SimpleNamespace(
            best=lambda: None, trials=lambda: [SimpleNamespace(state=one) for one in states]
        ),
    )
    assert not race_module.Race._run_minimal_trial(sweep), "nothing is enqueued"


def test_the_minimal_trial_of_a_start_that_was_ended_goes_on(tmp_path: Path) -> None:
    raced: list[tuple[int, set[str], float]] = []
    sweep: Any = SimpleNamespace(
        _settings=SimpleNamespace(budget=SimpleNamespace(minutes=1.0)),
        _clock=Clock(60.0, finals=True, earlier=75.0, note=lambda spent: None),
        _study=SimpleNamespace(
            best=lambda: 0.5 if raced else None,
            trials=lambda: [TrialRecord(0, "cnn", PRUNED, {}), TrialRecord(1, "mlp", RUNNING, {})],
            enqueue=Mock(side_effect=AssertionError("another one is not begun")),
        ),
        _race=lambda trials, *names, until: raced.append((trials, {*names}, until)),
    )
    assert race_module.Race._run_minimal_trial(sweep)
    ((trials, names, until),) = raced
    assert (trials, names) == (2, {"mlp"}) and until >= 75 + 30
    # Its family was not measured by this start: it goes by what it was prepared with.
    facts = {PREPARED: ["data.train_limit=500"]}
    jobs: Any = SimpleNamespace(prepared={}, study=SimpleNamespace(facts=lambda number: facts))
    known = SweepJobs.prepared_of(jobs, TrialRecord(1, "mlp", RUNNING, {}))
    assert known.overrides == ["data.train_limit=500"] and known.affordable


def test_a_family_that_is_ready_begins_before_the_others_are_prepared(tmp_path: Path) -> None:
    record = sweep(tmp_path, "families=[embedding,mlp]", "budget.trials=2", "finalists=0")
    assert log(tmp_path) == ["Prepare embedding", "Train embedding", "Prepare mlp", "Train mlp"]
    assert [(t.family, t.is_default, t.state) for t in record.trials] == [
        ("embedding", True, COMPLETE),
        ("mlp", True, COMPLETE),
    ]


def test_a_sweep_goes_from_its_families_to_the_test_of_the_winner(tmp_path: Path) -> None:
    (tmp_path / "deadly").touch()
    record = sweep(tmp_path)
    assert [trial.number for trial in record.trials] == [0, 1, 2, 3]
    assert [trial.is_default for trial in record.trials] == [True, True, False, False]
    assert record.trials[0].family == "embedding", "published weights come first"
    winner = record.finalists[0]
    assert record.winner == winner.trial and record.trials[winner.trial].family == "embedding"
    assert winner.runs == {1: 0.9, 2: 0.9}, "the one whose worker died was trained again"
    assert record.test == {"test/accuracy": 0.85} and record.test_measurements == 1
    assert past_test_measurements(tmp_path, "f") == 1
    assert record.commands[winner.trial].endswith("seed=1 evaluate_test=false")
    assert record.networks == (NetworkRecord("n", taken=True, side=96, family="embedding"),)
    table = (tmp_path / "sweeps" / "s" / "networks.csv").read_text().splitlines()
    assert table[1] == f"embedding,n,true,96,,,,,{winner.trial},0.9"
    done = log(tmp_path)
    assert done.count("MeasureTest ") == 1
    assert sum(line.startswith("Train") for line in done) == 4 + 2 * 2 + 1

    output = tmp_path / "sweeps" / "s" / "workers" / "worker-0.log"
    stamp = output.stat().st_mtime_ns
    # How many threads a worker has is known where workers are started.
    assert replace(sweep(tmp_path), base=record.base) == record
    assert output.stat().st_mtime_ns == stamp and log(tmp_path) == done, "it is only shown"
    more = sweep(tmp_path, "budget.trials=5")
    assert more.trials[:4] == record.trials and len(more.trials) == 5
    added = log(tmp_path)[len(done) :]
    assert not any(line.startswith("Prepare") for line in added)
    # The winner of before was measured; another one is.
    assert added.count("MeasureTest ") == (more.winner != record.winner)
    kept = json.loads((tmp_path / "sweeps" / "s" / "sweep.json").read_text())
    assert len(kept["trials"]) == 5 and kept["winner"] == more.winner


def test_a_trial_that_leaves_no_time_for_its_finals_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An hour has 500 s left. The mlp was measured to take 180 s, and four of its finals 360 s."""
    (tmp_path / "slow").touch()
    more_keys = "search=[model.dropout,model.classifier,model.*.strength]"
    first = sweep(tmp_path, "budget.minutes=60", more_keys)
    assert {trial.family for trial in first.trials} == {"embedding", "mlp"}
    said = capsys.readouterr().err
    assert (
        " of 1 h 0 min: all trials that budget.trials allows have begun; 40 s are kept for the "
        "finals" in said
    )
    monkeypatch.setattr(race_module, "spent", lambda study: 3600 - 500)
    more = sweep(tmp_path, "budget.minutes=60", "budget.trials=10", more_keys).trials[4:]
    assert [trial.family for trial in more] == ["embedding"] * 6
    monkeypatch.setattr(race_module, "spent", lambda study: 3600 - 600)
    more = sweep(tmp_path, "budget.minutes=60", "budget.trials=16", more_keys).trials[10:]
    assert {trial.family for trial in more} == {"embedding", "mlp"}


def test_a_race_of_stated_minutes_ends_where_every_configuration_was_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its frozen networks have five classifiers; those of another kind begin with more minutes."""
    free = ["budget.trials=null", "finalists=0", "evaluate_test=false"]
    first = sweep(tmp_path, "families=[embedding]", "budget.minutes=30", *free)
    assert len({trial.values["model.classifier"] for trial in first.trials}) == 5
    assert len(first.trials) == 5
    assert "of 30 min 0 s: there is no further configuration" in capsys.readouterr().err
    done = log(tmp_path)
    again = sweep(tmp_path, "families=[embedding]", "budget.minutes=30", *free)
    assert again.trials == first.trials and log(tmp_path) == done, "it is only shown"
    more = sweep(tmp_path, "families=[embedding]", "budget.minutes=60", *free)
    assert more.trials == first.trials
    assert "no further trial, 5 so far: there is no further" in capsys.readouterr().err


def test_a_race_without_minutes_says_why_it_ends_before_its_trials_are_used_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = ["budget.minutes=null", "finalists=0", "evaluate_test=false"]
    for trials, said in ((3, False), (9, True)):
        record = sweep(tmp_path, "families=[embedding]", f"budget.trials={trials}", *free)
        assert len(record.trials) == min(trials, 5)
        shown = capsys.readouterr().err
        assert ("trials ended after 5: there is no further configuration" in shown) == said


def test_a_race_of_stated_minutes_does_not_go_on_with_what_no_trial_makes_better(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All trials of its frozen networks are equally good; a counted number of them is run."""
    wide = ["families=[embedding]", "search=[model.*]", "finalists=0", "evaluate_test=false"]
    first = sweep(tmp_path, *wide, "budget.trials=null", "budget.minutes=60")
    assert len(first.trials) == 25
    said = "nothing better is expected of embedding (its latest trials were no better than"
    assert said in capsys.readouterr().err
    more = sweep(tmp_path, *wide, "budget.trials=27", "budget.minutes=60")
    assert len(more.trials) == 27


def test_the_reason_of_a_pruned_trial_has_its_figure_in_percent(tmp_path: Path) -> None:
    """After two epochs the better family has 75 % and the other one 65 %."""
    families = ["families=[mlp,efficientnet_lite0]", "search=[model.*]", "budget.trials=8"]
    across = ["pruner.across_families=true", "finalists=0", "evaluate_test=false"]
    record = sweep(tmp_path, *families, *across)
    reasons = {trial.reason for trial in record.trials if trial.state == PRUNED}
    assert "pruned after 2 epochs at validation accuracy 65.0 %" in reasons


def test_a_family_that_is_too_far_behind_leaves_its_trials_to_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accuracies are 0.9, 0.8 and 0.7, whatever is tried; two trials run at once."""
    (tmp_path / "intervals").touch()
    wide = ["families=[embedding,mlp]", "search=[model.*]", "finalists=0", "evaluate_test=false"]
    record = sweep(tmp_path, *wide, "budget.trials=20", "budget.minutes=60")
    tried = Counter(trial.family for trial in record.trials)
    assert tried.total() == 20 and 4 <= tried["mlp"] <= 5
    shown = capsys.readouterr().err
    line = "mlp: no further trial: its best of 4 trials, 80.0 %, is too far behind 90.0 %"
    assert shown.count(line) == 1 and "embedding: no further" not in shown
    assert record.closed.keys() == {"mlp"} and "is too far behind 90.0 %" in record.closed["mlp"]
    assert "mlp: no further trial: its best of " in format_result(record)
    folder = tmp_path / "sweeps" / "s"
    assert json.loads((folder / "sweep.json").read_text())["closed"] == record.closed
    assert "mlp got no further trial: its best of " in (folder / "sweep.html").read_text()
    # What has ended already keeps it, and what goes on says it anew.
    again = sweep(tmp_path, *wide, "budget.trials=20", "budget.minutes=60")
    assert again.closed == record.closed
    more = sweep(tmp_path, *wide, "budget.trials=null", "budget.minutes=60")
    shown = capsys.readouterr().err
    why = "its latest trials were no better than earlier ones"
    assert f"nothing better is expected of embedding ({why}) and mlp (its best of " in shown
    assert more.closed["embedding"] == why
    assert more.closed["mlp"] == record.closed["mlp"]


def test_a_family_is_open_again_when_a_trial_of_it_that_was_running_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behind(self: TimeForecast, judged: Sequence[TrialRecord], *_: str) -> dict[str, str]:
        closed = len(judged) < reopened and "mlp" in self.families
        return {"mlp": "too far behind"} if closed else {}

    monkeypatch.setattr(TimeForecast, "behind", behind)
    reopened = 10
    assert sweep(tmp_path, "budget.trials=2", "finalists=0").closed == {"mlp": "too far behind"}
    reopened = 3
    more = sweep(tmp_path, "budget.trials=4", "finalists=0")
    assert more.closed == {}


def test_a_journal_that_lost_its_end_between_two_lines_is_not_gone_on_with_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["budget.trials=3", "finalists=0"]
    sweep(tmp_path, *overrides)
    journal = tmp_path / "sweeps" / "s" / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    begun = [place for place, line in enumerate(lines) if b'"op_code":4' in line]
    journal.write_bytes(b"".join(lines[: begun[2]]))
    capsys.readouterr()
    sweep(tmp_path, *overrides)
    said = capsys.readouterr()
    assert "the study holds 2 trials, and" in said.out + said.err
    assert "sweep.json tells of 3" in said.out + said.err
    sweep(tmp_path, "budget.trials=4", "finalists=0")
    said = capsys.readouterr()
    assert "tells of" not in said.out + said.err


def test_a_study_goes_on_by_its_name_alone(tmp_path: Path) -> None:
    first = sweep(tmp_path, "seed=5", "budget.trials=2", "finalists=0")
    named = ["study=s", f"output_dir={tmp_path}", "budget.trials=3"]
    overrides, config_name = completed_command(named, None, "default")
    more = run_sweep(read_sweep_settings(overrides, config_name), overrides, config_name)
    assert more.trials[:2] == first.trials and len(more.trials) == 3
    assert more.families == first.families and "seed=5" in more.base
    # Whatever a result depends on, and a study that is not there, is a command of its own.
    for overrides in (
        ["study=s", f"output_dir={tmp_path}", "seed=5"],
        ["study=t", f"output_dir={tmp_path}"],
    ):
        assert completed_command(overrides, None, "default") == (overrides, "default")
    assert completed_command(named, "pareto", "default") == (named, "pareto")
    kept = tmp_path / "sweeps" / "s" / "command.json"
    kept.write_bytes(kept.read_bytes().replace(b"seed=5", b"seed=6"))
    assert completed_command(named, None, "default") == (named, "default"), "it is damaged"


def test_another_sampler_or_a_smaller_budget_of_an_ended_study_is_not_taken_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("finalists=0", "evaluate_test=false")
    first = sweep(tmp_path, "budget.trials=2", *few)
    capsys.readouterr()
    sweep(tmp_path, "budget.trials=2", *few)
    assert "no effect" not in capsys.readouterr().out
    for _ in range(2):  # what had no effect is not what the study had
        again = sweep(tmp_path, "budget.trials=2", "sampler=random", "pruner.min_epochs=5", *few)
        assert len(again.trials) == len(first.trials)
        said = capsys.readouterr().out
        assert "no effect: pruner.min_epochs=5 (so far 2), sampler.name=random (so far tpe)" in said
    sweep(tmp_path, "budget.trials=1", *few)
    assert "no further trial, 2 so far: all trials that budget.trials" in capsys.readouterr().err
    assert len(sweep(tmp_path, "budget.trials=3", "sampler=random", *few).trials) == 3
    assert "from now on alone: sampler.name=random (so far tpe)" in capsys.readouterr().out
    sweep(tmp_path, "budget.trials=4", "sampler=random", *few)
    assert "so far" not in capsys.readouterr().out


def test_what_a_later_start_makes_idle_is_left_out_of_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    first = ["seed=5", "finalist_seeds=2", "workers=ray", "workers.address=10.0.0.1:6379"]
    keep_command(folder, first, "default")
    named = ["study=s", f"output_dir={tmp_path}", "finalists=0", "workers=local"]
    overrides, config_name = completed_command(named, None, "default")
    assert overrides == ["seed=5", *named]
    read_sweep_settings(overrides, config_name)  # it refuses what is idle


def test_a_family_that_was_left_out_comes_back_with_more_minutes(tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    overrides = ["budget.trials=3", "finalists=0", "evaluate_test=false"]
    first = sweep(tmp_path, "budget.minutes=1", *overrides)
    assert [trial.family for trial in first.trials] == ["embedding"] * 3
    said, command = first.short
    assert "only embedding was tried; " in said and " mlp takes about " in said
    assert command.startswith("python -m src.sweep study=s ") and "budget.minutes=" in command
    assert set(first.left_out) == {"mlp"} and "the limit of a trial is" in first.left_out["mlp"]
    again = sweep(tmp_path, "budget.minutes=2", *overrides)
    assert again.trials == first.trials, "it cannot be afforded yet, and the trials are spent"
    (tmp_path / "slow").unlink()
    more = sweep(tmp_path, "budget.minutes=60", *overrides)
    assert more.trials[:3] == first.trials
    (added,) = more.trials[3:]
    assert (added.family, added.is_default, added.state) == ("mlp", True, COMPLETE)
    assert more.short == ("", "") and not more.left_out
    assert len(sweep(tmp_path, "budget.minutes=90", *overrides).trials) == 4


def test_a_family_that_was_ready_and_had_no_trial_has_a_reason(tmp_path: Path) -> None:
    overrides = ["finalists=0", "evaluate_test=false"]
    first = sweep(tmp_path, *overrides, "budget.trials=1")
    ((begun,), (waiting,)) = [one.family for one in first.trials], first.left_out
    assert {begun, waiting} == {"mlp", "embedding"}
    assert "budget.trials" in first.left_out[waiting]
    assert not sweep(tmp_path, *overrides, "budget.trials=2").left_out


def test_what_an_earlier_start_left_running_goes_on_beside_a_family_that_is_renewed(
    tmp_path: Path,
) -> None:
    """A kill came while a trial of the mlp ran and another one waited; now there is more time."""
    (tmp_path / "cut").touch()
    overrides = ["families=[embedding,mlp]", "finalists=0", "evaluate_test=false"]
    sweep(tmp_path, *overrides, "budget.minutes=1", "budget.trials=2")
    with opened_study(tmp_path, *overrides) as study:
        own = default_values(
            study.spec.families[1], base_overrides([*GIVEN, *overrides], "default")
        )
        for number in (0, 1):
            study.enqueue("mlp", own, prepared=[f"data.batch_size={64 + number}"])
        running = study.ask()
        assert running is not None and running.family == "mlp"
    (tmp_path / "cut").unlink()
    done = len(log(tmp_path))
    more = sweep(tmp_path, *overrides, "budget.minutes=60", "budget.trials=5")
    assert [(t.family, t.state) for t in more.trials[2:]] == [
        ("mlp", COMPLETE),
        ("mlp", COMPLETE),
        ("embedding", COMPLETE),
    ]
    assert "model.input_size=128" in more.trials[4].overrides
    assert log(tmp_path)[done:] == [
        "Prepare embedding",
        "Train mlp",
        "Train embedding",
        "Train mlp",
    ], "what was left goes on, the renewed family begins, and what waited comes after it"


def test_a_family_that_memory_is_too_small_for_leaves_the_race_to_the_others(
    tmp_path: Path,
) -> None:
    (tmp_path / "huge").touch()
    record = sweep(tmp_path, "finalists=0", "budget.trials=2", "evaluate_test=false")
    assert [trial.family for trial in record.trials] == ["embedding"] * 2
    for minutes in ("null", "60"):
        with pytest.raises(
            RunFailed,
            match=r"\(mlp: left out: .* memory\): where memory is short, choose a smaller",
        ):
            sweep(tmp_path, "families=[mlp]", "study=alone", f"budget.minutes={minutes}")


def test_a_family_that_kills_its_worker_leaves_the_race_to_the_others(tmp_path: Path) -> None:
    (tmp_path / "kills mlp").touch()
    record = sweep(tmp_path, "finalists=0", "budget.trials=1", "evaluate_test=false")
    assert [trial.family for trial in record.trials] == ["embedding"]
    assert log(tmp_path).count("Prepare mlp") == 2, "it is tried once more"
    with pytest.raises(RunFailed, match=r"\(mlp: left out: its worker ended by signal 9"):
        sweep(tmp_path, "families=[mlp]", "study=alone")


def test_where_all_trials_fail_the_output_of_the_workers_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    logs = tmp_path / "sweeps" / "s" / "workers"
    said = f"3 of 3 trials failed.*: no such thing; each worker's output is in {logs}$"
    with pytest.raises(RunFailed, match=said):
        sweep(tmp_path, "families=[mlp]")
    assert any(logs.glob("worker-*.log"))


def test_where_time_is_up_before_any_family_is_measured_memory_is_not_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race_module, "spent", lambda study: 1e4)
    with pytest.raises(RunFailed, match=r"budget\.minutes=20.* is too short for any of mlp"):
        sweep(tmp_path, "families=[mlp]", "budget.minutes=20")


def test_what_was_cut_down_is_a_further_candidate_with_more_minutes(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    overrides = ["families=[mlp]", "budget.trials=2", "evaluate_test=false"]
    first = sweep(tmp_path, "budget.minutes=1", *overrides)
    assert all("data.image_size=64" in trial.overrides for trial in first.trials)
    assert sweep(tmp_path, "budget.minutes=1.1", *overrides).trials == first.trials
    more = sweep(tmp_path, "budget.minutes=60", *overrides)
    assert more.trials[:2] == first.trials
    (added,) = more.trials[2:]
    assert added.is_default and added.state == COMPLETE
    assert not any(override.startswith("data.image_size=") for override in added.overrides)
    assert len(sweep(tmp_path, "budget.minutes=90", *overrides).trials) == 3


def test_a_study_that_another_process_drives_or_began_otherwise_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "s"
    sweep(tmp_path, "budget.trials=1", "finalists=0")
    with pytest.raises(ConfigError, match=r"settings: seed=5 now, not then\. Begin .* study=s"):
        sweep(tmp_path, "seed=5")
    with FileLock(folder / "driver.lock"):
        with pytest.raises(ConfigError) as refused:
            sweep(tmp_path)
        who = f" ({os.getpid()})" if sys.platform == "linux" else ""
        assert str(refused.value) == (
            f"the study s in {folder} is being driven by another process{who}: "
            "wait for it, or take another name, study=NAME."
        )


def test_a_sweep_goes_by_its_table_of_costs_and_by_no_other(tmp_path: Path) -> None:
    names, file = [str(digit) for digit in range(10)], tmp_path / "costs.csv"

    def write(cost: int, classes: Sequence[str] = names) -> None:
        lines = [
            f"{one},{','.join('0' if one == b else str(cost) for b in classes)}" for one in classes
        ]
        file.write_text("\n".join([f",{','.join(classes)}", *lines]))

    overrides = [
        "metric=cost",
        f"costs={file}",
        "evaluate_test=false",
    ]
    write(5, [*names[1:], "cat"])
    with pytest.raises(
        ConfigError, match=r"must name the classes of the data, .* 0, cat is on one"
    ):
        sweep(tmp_path / "out", *overrides)
    file.write_text("no table")
    with pytest.raises(ConfigError, match="first line"):
        sweep(tmp_path / "out", *overrides)
    assert not (tmp_path / "out").exists(), "a refused command left something behind"
    write(5, names[::-1])
    (tmp_path / "out").mkdir()
    record = sweep(tmp_path / "out", *overrides)
    assert record.metrics == ("val/cost",) and record.costs is not None
    assert record.costs["3"] == {name: 5 * (name != "3") for name in names}
    # The dearer family is the better one by accuracy.
    assert record.ranked()[0].family == "mlp" and record.ranked()[0].value == 0.8 * 5
    assert {round(one.mean or 0, 6) for one in record.finalists} <= {0.8 * 5, 0.9 * 5}
    kept = json.loads((tmp_path / "out" / "sweeps" / "s" / "sweep.json").read_text())
    assert kept["costs"] == record.costs
    write(5)  # in another order
    assert sweep(tmp_path / "out", *overrides).trials == record.trials
    moved = file.rename(tmp_path / "moved.csv")
    elsewhere = ["metric=cost", f"costs={moved}", "evaluate_test=false"]
    assert sweep(tmp_path / "out", *elsewhere).trials == record.trials
    write(7)
    with pytest.raises(ConfigError, match=r"has other settings: costs 0 1: 5\.0 then, 7\.0 now"):
        sweep(tmp_path / "out", *overrides)


def test_a_study_of_a_version_with_other_defaults_goes_on_by_the_command_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["metric=accuracy", "budget.trials=1", "finalists=0", "evaluate_test=false"]
    begun = sweep(tmp_path, *overrides)
    later = {"single": ("data.answer", {"val/accuracy": "balanced_accuracy"})}
    monkeypatch.setattr("src.config.sweep._ANSWERS", later)
    with pytest.raises(
        ConfigError, match=r"data\.answer=balanced_accuracy now, not then"
    ) as refused:
        sweep(tmp_path, *overrides)
    line = overrides_of(str(refused.value).partition("resume it: ")[2], "sweep")
    given, name = take_config_name(line or [], default="")
    assert "data.answer=most_probable" in given
    assert run_sweep(read_sweep_settings(given, name), given, name).trials == begun.trials
    short, name = completed_command(["study=s", f"output_dir={tmp_path}"], None, "default")
    assert run_sweep(read_sweep_settings(short, name), short, name).trials == begun.trials
    real = Family.plain
    monkeypatch.setattr(Family, "plain", lambda family: {**real(family), "more": 1})
    with pytest.raises(ConfigError, match="has other settings") as changed:
        sweep(tmp_path, *overrides)
    assert "resume it" not in str(changed.value), "no command has the earlier search space"


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_a_study_of_a_version_whose_trials_did_not_watch_its_metric_goes_on_as_it_was(
    metric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [f"metric={metric}", "pruner=none", "budget.trials=1", "finalists=0"]
    overrides += ["evaluate_test=false"]
    with monkeypatch.context() as earlier:
        earlier.setattr("src.config.sweep.monitored_metrics", lambda target=None: [])
        begun = sweep(tmp_path, *overrides)
    with pytest.raises(ConfigError, match=rf"trainer\.monitor=val/{metric} now") as refused:
        sweep(tmp_path, *overrides)
    line = overrides_of(str(refused.value).partition("resume it: ")[2], "sweep")
    given, name = take_config_name(line or [], default="")
    assert "trainer.monitor=val/accuracy" in given
    settings = read_sweep_settings([*given, "budget.trials=2"], name)
    later = run_sweep(settings, [*given, "budget.trials=2"], name)
    assert later.trials[:1] == begun.trials and len(later.trials) == 2
    assert "trainer.monitor=val/accuracy" in later.base


def test_a_folder_of_pictures_is_the_same_by_its_whole_path_and_by_a_relative_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for label, colour in (("red", "#f00"), ("blue", "#00f")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (8, 8), colour)
            image.putpixel((0, 0), (number, 0, 0))
            image.save(tmp_path / "photos" / label / f"{number}.png")
    overrides = ["data=folder", "budget.trials=1", "finalists=0", "evaluate_test=false"]
    begun = sweep(tmp_path, *overrides, "data.root=photos")
    assert sweep(tmp_path, *overrides, f"data.root={tmp_path / 'photos'}").trials == begun.trials
    assert sweep(tmp_path, *overrides, "data.root=./photos/").trials == begun.trials
    shutil.copytree(tmp_path / "photos", tmp_path / "others")
    with pytest.raises(ConfigError, match=r"data\.root=photos then, data\.root=others now"):
        sweep(tmp_path, *overrides, "data.root=others")


@pytest.mark.parametrize(
    ("system", "accelerator", "said"),
    [
        ("nt", "auto", "Windows does not let them: run the sweep in WSL"),
        ("posix", "gpu", "accelerator is gpu, but there is no GPU"),
    ],
)
def test_what_this_machine_lacks_is_told_before_anything_is_written(
    system: str, accelerator: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = SimpleNamespace(exists=lambda place: False)
    stand_in = SimpleNamespace(name=system, path=path, environ=os.environ)
    monkeypatch.setattr("src.search.workers.slots.os", stand_in)
    with pytest.raises(ConfigError, match=said):
        sweep(tmp_path / "outputs", f"trainer.accelerator={accelerator}")
    assert not list(tmp_path.iterdir())


def test_settings_are_refused_before_anything_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With those that are right the first lines are on the pictures that judge."""
    with monkeypatch.context() as patch:
        patch.setattr(race_module, "visible_gpus", lambda: ["0"])  # one of them
        for wrong in ("families=[mpl]", "sampler=grid", "trainer.devices=2"):
            with pytest.raises(ConfigError):
                sweep(tmp_path, wrong)
            assert capsys.readouterr().out == "", wrong
    sweep(tmp_path, "finalists=0", "budget.trials=1")
    assert "validation pictures detect" in capsys.readouterr().out
