"""The runner of a sweep's workers: too little memory, a hundred trainings, several devices."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.machine.failures import OutOfMemory
from src.records.run import RunSummary
from src.search.jobs import Ending, Job, NoReports, Note, Report
from src.search.pool import Pool
from src.search.workers.local import LocalEngine, Slot
from src.sweeps import run_job as runners
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import Train, changed, plain_task

RUNNER = "src.sweeps.run_job:TrialRunner"

WORDS = ["model=mlp", "data.batch_size=256", "trainer.max_epochs=1", "runtime=float32"]
DEVICES = [
    *("model=mlp", "data.batch_size=32", "runtime=float32", "runtime.threads=1"),
    *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=3"),
]


def processes(word: str) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [one for one in found if one.is_running() and word in " ".join(one.cmdline())]


def job(output_dir: Path, overrides: list[str], resume: str | None = None) -> Job:
    places = [f"output_dir={output_dir}", "tracking.enabled=false", "evaluate_test=false"]
    places += ["tracking.log_model=false", "tracking.figures=false", "trainer.progress=false"]
    train = Train(places, "n", {}, "0" * 32, "val/accuracy", "maximize", resume)
    return Job(plain_task(train), overrides=overrides)


def test_too_little_memory_asks_for_the_same_step_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[RunSettings] = []

    def experiment(settings: RunSettings, *_: Any, **__: Any) -> RunSummary:
        tried.append(settings)
        raise OutOfMemory("there is not enough memory")

    monkeypatch.setattr(runners, "run_experiment", experiment)
    words, run = [*WORDS, "trainer.accumulate_batches=3"], TrialRunner()
    ending = run(job(tmp_path, words), NoReports())
    assert (ending.state, ending.reason) == ("failed", "there is not enough memory")
    assert ending.again is not None
    smaller = changed(words, ending.again["changes"])
    assert len(smaller) == len(words), "a key is there twice"
    run(job(tmp_path, smaller), NoReports())
    sizes = [(s.data.batch_size, s.trainer.accumulate_batches) for s in tried]
    assert sizes == [(256, 3), (128, 6)]
    # Everything else is as before, and a person may type it.
    assert read_run_settings(smaller).optimizer == read_run_settings(words).optimizer
    single = run(job(tmp_path, changed(words, ["data.batch_size=1"])), NoReports())
    assert single.again is None, "there is nothing smaller than one picture"


def test_of_two_changes_the_later_counts() -> None:
    first = changed(["model=mlp", "data.batch_size=256"], ["data.batch_size=128", "seed=1"])
    assert first == ["model=mlp", "data.batch_size=128", "seed=1"]
    both = changed(["data.batch_size=256"], ["data.batch_size=128", "data.batch_size=64"])
    assert both == ["data.batch_size=64"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_warm_worker_stays_flat_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    logs = tmp_path / "logs"
    pool = Pool(LocalEngine([Slot(None, 1)], RUNNER, logs))
    pool.start()
    (worker,) = processes(RUNNER)
    sizes: list[int] = []
    try:
        while len(sizes) <= 100:
            if pool.free():
                hidden = 64 + 8 * (len(sizes) % 16)
                words = changed(WORDS, [f"model.hidden=[{hidden}]", f"seed={len(sizes)}"])
                pool.give(0, job(tmp_path, words))
            for event in pool.events(0.25):
                match event.message:
                    case Report():
                        pool.answer(event.slot, "behind" if len(sizes) % 3 == 2 else None)
                    case Ending() as ending:
                        assert ending.state in ("complete", "pruned"), ending.reason
                        sizes.append(worker.memory_info().rss)
    finally:
        pool.close()
    assert sizes[100] <= 1.05 * sizes[10], [size >> 20 for size in sizes[::10]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_on_two_devices_is_stopped_killed_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    pool = Pool(LocalEngine([Slot(None, 1)], RUNNER, tmp_path / "logs"))
    pool.start()
    facts: dict[str, Any] = {}
    epochs: list[int] = []

    def run(at_report: Callable[[int], None]) -> Ending:
        given, deadline = False, time.monotonic() + 200
        while time.monotonic() < deadline:
            if not given and pool.free():
                pool.give(0, job(tmp_path, DEVICES, facts.get("run_dir")))
                given = True
            for event in pool.events(0.25):
                match event.message:
                    case Note() as note:
                        facts.update(note.facts)
                    case Report(step=step):
                        epochs.append(step)
                        at_report(step)
                        pool.answer(0, None)
                    case Ending() as ending:
                        return ending
        raise AssertionError("it does not end")

    def interrupt(epoch: int) -> None:
        pool.interrupt([0])

    def kill(epoch: int) -> None:
        first, *_ = processes("run_job:device_runner")
        first.kill()

    def status() -> str:
        return str(json.loads((Path(facts["run_dir"]) / "summary.json").read_text())["status"])

    try:
        assert run(interrupt).state == "interrupted"
        assert epochs == [1], "its run was not told to end"
        assert processes("run_job:device_runner") == []
        ending = run(kill)
        assert (ending.state, ending.reason) == ("interrupted", "its process ended by signal 9")
        assert processes("run_job:device_runner") == [], "the other device trains on"
        ending = run(lambda epoch: None)
        assert ending.state == "complete", ending.reason
        assert status() == "FINISHED" and sorted(set(epochs)) == [1, 2, 3]
    finally:
        pool.close()
