"""What becomes of the runs of trials that were ended from outside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from src.records.run import RunSummary
from src.records.trials import FAILED, PRUNED, TrialRecord
from src.runs.folder import RunFolder
from src.search.loop import OVER
from src.sweeps.parent_run import ParentRun
from src.tracking.addresses import default_uri
from src.tracking.events import read_events, spool_path
from src.tracking.mirror import Mirror
from src.tracking.mlflow_store import Store
from src.tracking.spool import Spool
from tests.tracking.diary import history, run_of

ABOUT = {"run_name": "cnn-0", "experiment": "e", "mirrored": True, "target": None}


def begun(output_dir: Path, *, ends: str | None = "KILLED") -> RunFolder:
    """Return the folder of a run with a checkpoint, as its worker left it."""
    folder = RunFolder.create(output_dir, "cnn", "digits")
    folder.checkpoints.mkdir()
    (folder.checkpoints / "last.ckpt").touch()
    with Spool(folder.path) as spool:
        spool.begin(run_id=folder.run_id, tags={}, **ABOUT)
        if ends is not None:
            spool.tags({"bakeoff.state": "interrupted"})
            spool.end(ends, "stopped by SIGTERM")
    return folder


def events(folder: RunFolder) -> list[dict[str, Any]]:
    return [event for event, _ in read_events(spool_path(folder.path), 0)]


def end(trial: TrialRecord) -> list[Path]:
    """End a trial; return the runs that are sent once more."""
    sent: list[Path] = []
    parent: Any = object.__new__(ParentRun)
    parent._tracker = SimpleNamespace(follow=sent.append)
    parent.ended(0, trial, None)
    return sent


@pytest.mark.parametrize("ends", ["KILLED", None])
def test_a_trial_that_ended_for_its_time_is_closed_as_pruned_and_leaves_no_checkpoints(
    tmp_path: Path, ends: str | None
) -> None:
    folder = begun(tmp_path, ends=ends)
    trial = TrialRecord(0, "cnn", PRUNED, {}, reason=OVER, run_dir=str(folder.path))
    assert end(trial) == [folder.path] and not folder.checkpoints.exists()
    *_, tags, last = events(folder)
    assert tags["values"] == {"bakeoff.state": PRUNED}
    assert (last["event"], last["status"], last["reason"]) == ("finish", "FINISHED", OVER)


def test_of_a_late_cross_validation_the_folds_that_ended_keep_their_record(tmp_path: Path) -> None:
    whole, *folds = (begun(tmp_path) for _ in range(3))
    book = {"command": [], "runs": {n: fold.name for n, fold in enumerate(folds)}}
    (whole.path / "folds.json").write_text(json.dumps(book))
    about = {
        "name": "n",
        "model": "cnn",
        "data": "digits",
        "seed": 0,
        "command": "",
        "run_dir": "/gone",
    }
    about |= {"split_fingerprint": None, "num_parameters": None, "duration_seconds": 1.0}
    done = RunSummary(run_id="0" * 32, status="FINISHED", metrics={}, **about)
    done.write(folds[0].summary)
    trial = TrialRecord(0, "cnn", PRUNED, {}, reason=OVER, run_dir=str(whole.path))
    assert end(trial) == [whole.path, folds[1].path]
    assert not any(run.checkpoints.exists() for run in (whole, *folds))
    # Its worker was killed between its last word and the answer to it.
    finished = begun(tmp_path, ends="FINISHED")
    done.write(finished.summary)
    trial = replace(trial, run_dir=str(finished.path))
    assert end(trial) == [] and finished.checkpoints.exists()


def test_what_its_own_worker_ended_is_left_as_it_is(tmp_path: Path) -> None:
    folder = begun(tmp_path, ends="FAILED")
    before = events(folder)
    for state, reason in ((PRUNED, "pruned after 2 epochs"), (FAILED, "no memory")):
        trial = TrialRecord(0, "cnn", state, {}, reason=reason, run_dir=str(folder.path))
        assert end(trial) == [] and events(folder) == before and folder.checkpoints.exists()
    lost = begun(tmp_path, ends=None)
    trial = TrialRecord(1, "cnn", FAILED, {}, reason="it died", run_dir=str(lost.path))
    assert end(trial) == [lost.path] and events(lost)[-1]["status"] == "FAILED"


def test_a_run_that_goes_on_on_another_host_ends_in_mlflow_as_it_comes_back(
    tmp_path: Path, empty_database: Path
) -> None:
    """Until then all of the folder here is in MLflow, with the end of the earlier attempt."""
    shutil.copy(empty_database, tmp_path)
    uri, mirror = default_uri(tmp_path), Mirror(lambda report: None)

    def follow(run_dir: Path) -> None:
        about = {"run_dir": str(run_dir), "uri": uri, "target": None}
        mirror.command({"command": "follow", **about})
        while mirror.work():
            continue

    parent: Any = object.__new__(ParentRun)
    parent._tracker, parent._written = SimpleNamespace(follow=follow), {}
    folder = begun(tmp_path)
    trial = TrialRecord(0, "cnn", "running", {}, run_dir=str(folder.path))
    parent.noted(0, trial, {"run_dir": str(folder.path)})
    parent.freed(0)
    assert run_of(Store(uri), folder.run_id).info.status == "KILLED"

    there = tmp_path / "there"
    shutil.copytree(folder.path, there)
    with Spool(there) as spool:
        spool.begin(run_id=folder.run_id, tags={}, **ABOUT)
        parent.noted(1, trial, {"run_dir": str(folder.path)})
        assert mirror.idle, "nothing of what goes on is here"
        spool.metrics({"val/accuracy": 0.5}, 1)
        spool.end("FINISHED")
    spool_path(there).replace(spool_path(folder.path))
    parent.freed(1)
    found = run_of(Store(uri), folder.run_id)
    assert found.info.status == "FINISHED" and "bakeoff.reason" not in found.data.tags
    points = history(Store(uri), found.info.run_id)["val/accuracy"]
    assert [(step, value) for step, _, value in points] == [(1, 0.5)]
    assert mirror.idle
