"""A trial on two devices of the CPU: asked to stop, killed, and gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.search.pool import Ended, Noted, Pool, Reported
from src.search.workers.local import LocalEngine, Slot
from src.search.workers.process import Ending
from tests.sweeps.test_run_job import job

WORDS = [
    *("model=mlp", "data.batch_size=32", "runtime=float32", "runtime.threads=1"),
    *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=3"),
]


def processes(word: str) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [one for one in found if one.is_running() and word in " ".join(one.cmdline())]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_on_two_devices_is_stopped_killed_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    pool = Pool(LocalEngine([Slot(None, 1)], "src.sweeps.run_job:TrialRunner", tmp_path / "logs"))
    pool.start()
    facts: dict[str, Any] = {}
    epochs: list[int] = []

    def run(at_report: Callable[[int], None]) -> Ending:
        given, deadline = False, time.monotonic() + 200
        while time.monotonic() < deadline:
            if not given and pool.free():
                pool.give(0, {**job(tmp_path, WORDS), "resume": facts.get("run_dir")})
                given = True
            for event in pool.events(0.25):
                match event:
                    case Noted():
                        facts.update(event.facts)
                    case Reported(epoch=epoch):
                        epochs.append(epoch)
                        at_report(epoch)
                        pool.answer(0, None)
                    case Ended(ending=ending):
                        return ending
        raise AssertionError("it does not end")

    def interrupt(epoch: int) -> None:
        pool.interrupt([0])

    def kill(epoch: int) -> None:
        first, *_ = processes("src.sweeps.ddp_trial")
        first.kill()

    def status() -> str:
        return str(json.loads((Path(facts["run_dir"]) / "summary.json").read_text())["status"])

    try:
        assert run(interrupt).state == "interrupted"
        assert epochs == [1], "its run was not told to end"
        assert processes("src.sweeps.ddp_trial") == []
        ending = run(kill)
        assert (ending.state, ending.reason) == ("interrupted", "its process ended by signal 9")
        assert processes("src.sweeps.ddp_trial") == [], "the other device trains on"
        ending = run(lambda epoch: None)
        assert ending.state == "complete", ending.reason
        assert status() == "FINISHED" and sorted(set(epochs)) == [1, 2, 3]
    finally:
        pool.close()
