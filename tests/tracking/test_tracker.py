"""Trainings and mirrors as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from src.config.checks import ConfigError, from_plain
from src.config.tracking import ReplaySettings, TrackingSettings
from src.machine.interruption import Interruption
from src.tracking.addresses import default_uri
from src.tracking.events import last_event, last_start, read_events, spool_path
from src.tracking.mirror_state import is_mirrored
from src.tracking.mlflow_store import Store
from src.tracking.replay import replay
from src.tracking.spool import mirror_lock
from src.tracking.tracker import Tracker, dotted
from tests.entries.commands import complaints, free_port, mlflow_server
from tests.tracking.diary import PATIENCE_SECONDS, client, history, python, wait_until

_TRAINER = """
import signal, sys, time
from pathlib import Path
from src.config.tracking import TrackingSettings
from src.tracking.tracker import Tracker
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
output_dir, run_id, epochs, pause, wait = sys.argv[1:6]
uri = sys.argv[6] if len(sys.argv) > 6 else None
tracker = Tracker.start(
    Path(output_dir, "runs", run_id[:6]), TrackingSettings(uri=uri, system_metrics_seconds=None),
    output_dir=Path(output_dir), run_id=run_id, run_name=run_id[:6],
)
tracker.params({"seed": 1})
took = []
for epoch in range(int(epochs)):
    before = time.perf_counter()
    tracker.metrics({"loss": 1 / (epoch + 1)}, epoch)
    took.append(time.perf_counter() - before)
    print("epoch", epoch, flush=True)
    time.sleep(float(pause))
before = time.perf_counter()
print("id", tracker.finish("FINISHED", wait_seconds=float(wait)), flush=True)
print("finish", time.perf_counter() - before, flush=True)
print("usual", sorted(took)[len(took) // 2], flush=True)
print("imported", [name for name in ("mlflow", "torch", "hydra") if name in sys.modules])
"""


def trainer(
    output_dir: Path, run_id: str, epochs: int, pause: float, *more: str
) -> subprocess.Popen[str]:
    overrides = [
        str(output_dir),
        run_id,
        str(epochs),
        str(pause),
        *(more or (f"{PATIENCE_SECONDS}",)),
    ]
    return python("-c", _TRAINER, *overrides, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def new_id() -> str:
    return uuid.uuid4().hex


def start(
    output_dir: Path,
    run_id: str,
    warn: Callable[[str], None] | None = None,
    *,
    uri: str | None = None,
    enabled: bool = True,
    system_metrics_seconds: float | None = None,
    **options: Any,
) -> Tracker:
    tracking = TrackingSettings(
        uri=uri, enabled=enabled, system_metrics_seconds=system_metrics_seconds
    )
    run_dir = options.pop("run_dir", output_dir / "runs" / run_id[:6])
    names: dict[str, Any] = {"run_id": run_id, "run_name": run_dir.name}
    return Tracker.start(run_dir, tracking, output_dir=output_dir, warn=warn, **names, **options)


@pytest.mark.parametrize(
    ("stated", "tags", "expected"),
    [
        (None, {"bakeoff.data": "clothing"}, "bakeoff-clothing"),
        (None, {"bakeoff.data": "s3://me:secret@shop/shirts"}, "bakeoff-s3://me:***@shop/shirts"),
        (None, {}, "bakeoff"),
        ("shirts", {"bakeoff.data": "clothing"}, "shirts"),
    ],
)
def test_each_data_set_has_an_experiment(
    stated: str | None, tags: dict[str, str], expected: str, tmp_path: Path
) -> None:
    tracking = TrackingSettings(enabled=False, experiment=stated, system_metrics_seconds=None)
    Tracker.start(
        tmp_path / "a", tracking, output_dir=tmp_path, run_id=new_id(), run_name="a", tags=tags
    ).finish("FINISHED")
    assert last_start(tmp_path / "a")["experiment"] == expected


def test_parameters_look_as_on_the_command_line() -> None:
    nested = {
        "seed": 1,
        "model": {"_target_": "src.models.cnn.CNN", "widths": [32, 64], "name": "cnn", "x": None},
        "trainer": {"deep": {"er": True}, "rate": 1e-3},
        "tracking": {"uri": "postgresql://me:secret@host/db"},
    }
    assert dotted(nested) == {
        "seed": "1",
        "model.widths": "[32, 64]",
        "model.name": "cnn",
        "model.x": "null",
        "trainer.deep.er": "true",
        "trainer.rate": "0.001",
        "tracking.uri": "postgresql://me:***@host/db",
    }


def child_of(parent: Tracker, output_dir: Path, **options: Any) -> Tracker:
    """Start a run that the mirror of its parent sends, as a trial of a sweep."""
    child = start(output_dir, new_id(), parent_run_id=parent.run_id, **options)
    parent.follow(child.run_dir)
    return child


@pytest.mark.usefixtures("forking")
def test_the_mirror_of_a_sweep_sends_its_trials_one_after_another(
    output_dir: Path, store: Store
) -> None:
    parent = start(output_dir, new_id())
    for _ in range(3):
        child = child_of(parent, output_dir)
        child.params({"optimizer": {"lr": 0.1}})
        child.metrics({"val/accuracy": 0.5}, 1)
        assert child.finish("FINISHED") is None, "it has no mirror of its own"
        assert parent._mirror is not None
        assert parent._mirror.wait(child.run_dir, PATIENCE_SECONDS, lambda _: None).done
        got = client(store).get_run(str(store.find(child.run_id)))
        assert got.info.status == "FINISHED" and got.data.params == {"optimizer.lr": "0.1"}
    found = parent.finish("FINISHED", wait_seconds=PATIENCE_SECONDS)
    assert parent.is_sent and found == store.find(parent.run_id) is not None


@pytest.mark.usefixtures("forking")
def test_what_is_added_to_a_finished_run_does_not_lengthen_it(
    output_dir: Path, store: Store
) -> None:
    run_id = new_id()
    found = start(output_dir, run_id).finish("FINISHED", wait_seconds=PATIENCE_SECONDS)
    assert found is not None
    before = client(store).get_run(found).info
    time.sleep(0.05)
    later = start(output_dir, run_id, amends="FINISHED")
    later.metrics({"test/accuracy": 0.5}, 0)
    assert later.finish("FINISHED", wait_seconds=PATIENCE_SECONDS) == found
    after = client(store).get_run(found)
    assert after.info.end_time == before.end_time and after.info.status == "FINISHED"
    assert after.data.metrics == {"test/accuracy": 0.5}
    # A run that goes on does last longer.
    time.sleep(0.05)
    start(output_dir, run_id).finish("FINISHED", wait_seconds=PATIENCE_SECONDS)
    assert client(store).get_run(found).info.end_time > before.end_time


@pytest.mark.usefixtures("forking")
def test_the_warnings_of_the_mirror_reach_a_person(output_dir: Path) -> None:
    said: list[str] = []
    tracker = start(output_dir, new_id(), said.append)
    tracker.metrics({"no(good)": 1.0, "good": 1.0}, 1)
    assert tracker.finish("FINISHED", wait_seconds=PATIENCE_SECONDS) is not None
    assert len(said) == 1 and said[0].startswith("warning: MLflow refuses the metric 'no(good)'")


def test_without_mlflow_the_folder_alone_is_written(output_dir: Path) -> None:
    run_id = new_id()
    tracker = start(output_dir, run_id, enabled=False)
    tracker.metrics({"loss": 1.0}, 1)
    assert not _mirrors_of(tracker.run_dir) and tracker.finish("FINISHED") is None
    events = [event["event"] for event, _ in read_events(spool_path(tracker.run_dir))]
    assert events == ["start", "metrics", "finish"]
    assert sorted(p.name for p in spool_path(tracker.run_dir).parent.iterdir()) == [
        "spool.jsonl",
        "writer.lock",
    ]


def test_secrets_in_addresses_are_not_written_down(output_dir: Path) -> None:
    tracker = start(
        output_dir,
        new_id(),
        enabled=False,
        tags={"bakeoff.command": "python -m src.train tracking.uri=http://me:secret@localhost:1"},
    )
    tracker.params({"tracking": {"uri": "http://me:secret@localhost:1"}})
    tracker.finish("FAILED", "no answer from http://me:secret@localhost:1")
    text = spool_path(tracker.run_dir).read_text()
    assert "secret" not in text and "me:***@localhost:1" in text


def test_a_folder_of_another_run_is_refused(output_dir: Path) -> None:
    first = start(output_dir, "a" * 32, enabled=False)
    first.finish("FINISHED")
    with pytest.raises(ConfigError, match="holds the run"):
        start(output_dir, "b" * 32, run_dir=first.run_dir, enabled=False)
    start(output_dir, "a" * 32, enabled=False).finish("FINISHED")


def test_a_server_that_is_away_costs_a_warning_and_nothing_else(output_dir: Path) -> None:
    """Nobody listens there; then the next run sends both to the database that does answer."""
    run_id = new_id()
    process = trainer(output_dir, run_id, 3, 0.1, "60", "http://127.0.0.1:9")
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines["id"] == "None" and lines["imported"] == "[]"
    # Of three calls the median: other programs may hold up one, a server that is away each.
    assert float(lines["usual"]) < 0.05
    run_dir = output_dir / "runs" / run_id[:6]
    *_, last = err.strip().splitlines()
    assert f"the record of the run is in {run_dir}, but MLflow at http://127.0.0.1:9" in last
    assert f"python -m src.tracking.replay output_dir={output_dir}" in last
    assert all(line.startswith("warning: ") for line in complaints(err))
    assert "Traceback" not in (run_dir / "tracking" / "mirror.log").read_text()


@pytest.mark.slow
def test_a_killed_training_is_killed_in_mlflow_and_its_mirror_ends(
    output_dir: Path, store: Store
) -> None:
    run_id = new_id()
    process = trainer(output_dir, run_id, 10**6, 0.01)
    assert process.stdout is not None
    wait_until(lambda: store.find(run_id))
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.wait()
    found = str(store.find(run_id))
    wait_until(lambda: client(store).get_run(found).info.status == "KILLED")
    run_dir = output_dir / "runs" / run_id[:6]
    wait_until(lambda: is_mirrored(run_dir, None))
    got = client(store).get_run(found)
    assert "ended without a result" in got.data.tags["bakeoff.reason"]
    written = [e["step"] for e, _ in read_events(spool_path(run_dir)) if e["event"] == "metrics"]
    assert [step for step, *_ in history(store, found)["loss"]] == written
    assert len(written) >= 20
    wait_until(lambda: not _mirrors_of(run_dir))

    # The same run goes on, and what it says twice is there once.
    process = trainer(output_dir, run_id, len(written) + 5, 0.0)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0 and f"id {found}" in out and complaints(err) == []
    got = client(store).get_run(found)
    assert got.info.status == "FINISHED" and "bakeoff.reason" not in got.data.tags
    assert [s for s, *_ in history(store, found)["loss"]] == list(range(len(written) + 5))


def _mirrors_of(run_dir: Path) -> list[str]:
    """Processes whose standard error is this run's mirror log."""
    log, found = str(run_dir / "tracking" / "mirror.log"), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "fd" / "2") == log:
                found.append(process.name)
        except OSError:
            continue
    return found


def test_the_mirror_is_nobodys_burden_and_is_replaced_when_it_dies(
    output_dir: Path, store: Store
) -> None:
    tracker = start(output_dir, new_id())
    tracker.metrics({"loss": 1.0}, 1)
    (first,) = map(int, _mirrors_of(tracker.run_dir))
    assert os.getsid(first) == first  # Ctrl-C does not reach it
    nicer = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, first) == nicer)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not _mirrors_of(tracker.run_dir))
    tracker.metrics({"loss": 2.0}, 2)
    found = tracker.finish("FINISHED", wait_seconds=PATIENCE_SECONDS)
    assert found is not None
    assert [step for step, *_ in history(store, found)["loss"]] == [1, 2]


def test_a_mirror_whose_pipe_is_closed_before_it_has_ended_is_replaced(
    output_dir: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = "import os, time; os.close(0); time.sleep(0.5)"
    command = "src.tracking.mirror_process.module_command"
    with monkeypatch.context() as patch:
        patch.setattr(command, lambda *_: [sys.executable, "-c", dying])
        tracker = start(output_dir, new_id())
        (first,) = _mirrors_of(tracker.run_dir)
        wait_until(lambda: not Path("/proc", first, "fd", "0").exists())
    tracker.metrics({"loss": 1.0}, 1)
    found = tracker.finish("FINISHED", wait_seconds=PATIENCE_SECONDS)
    assert found is not None and [step for step, *_ in history(store, found)["loss"]] == [1]


def test_ctrl_c_ends_the_waiting_and_a_replay_sends_what_is_left(
    output_dir: Path, store: Store
) -> None:
    run_id = new_id()
    run_dir = output_dir / "runs" / run_id[:6]
    with FileLock(mirror_lock(run_dir)):  # as if another process were sending it, slowly
        process = trainer(output_dir, run_id, 1, 0.0, f"{PATIENCE_SECONDS}")
        wait_until(
            lambda: spool_path(run_dir).exists() and last_event(run_dir).get("event") == "finish"
        )
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert f"nothing is lost: the record is in {run_dir}" in err
    assert "python -m src.tracking.replay" in err
    assert not is_mirrored(run_dir, None) and store.find(run_id) is None
    assert replay(from_plain(ReplaySettings, {"output_dir": str(output_dir)}))
    assert is_mirrored(run_dir, None) and store.find(run_id) is not None


def test_a_signal_that_is_deferred_ends_the_waiting_as_well(output_dir: Path) -> None:
    run_id, said = new_id(), list[str]()
    with (
        Interruption() as interruption,
        FileLock(mirror_lock(output_dir / "runs" / run_id[:6])),
    ):
        tracker = start(output_dir, run_id, said.append)
        interruption.defer(True)
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        before = time.monotonic()
        assert tracker.finish("FINISHED", wait_seconds=PATIENCE_SECONDS) is None
        assert time.monotonic() - before < PATIENCE_SECONDS / 2
        assert "The next run sends it" in said[-1]


@pytest.mark.slow
def test_two_starts_at_once_on_a_fresh_database(tmp_path: Path) -> None:
    run_ids = [new_id() for _ in range(3)]
    processes = [trainer(tmp_path, run_id, 5, 0.1) for run_id in run_ids]
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0 and complaints(err) == [], err
    store = Store(default_uri(tmp_path))
    for run_id in run_ids:
        found = store.find(run_id)
        assert found is not None and len(history(store, found)["loss"]) == 5
        uri = client(store).get_run(found).info.artifact_uri
        assert uri.startswith((tmp_path / "mlartifacts").as_uri())
    assert len(client(store).search_experiments()) == 2  # Default and ours
    left = {p.name for p in tmp_path.iterdir()}
    assert left <= {"runs", "mlflow.db", "mlflow.db.lock", "mlartifacts"}


@pytest.mark.slow
def test_a_mirror_stays_small_over_hundreds_of_runs(output_dir: Path) -> None:
    """And a run costs it little: some tens of milliseconds."""
    parent = start(output_dir, new_id())
    mirror = parent._mirror
    assert mirror is not None

    def serve(count: int) -> float:
        before = time.perf_counter()
        for _ in range(count):
            tracker = child_of(parent, output_dir)
            tracker.params({f"p{i}": i for i in range(40)})
            for step in range(5):
                tracker.metrics({f"m{i}": i / (step + 1) for i in range(10)}, step)
            tracker.finish("FINISHED")
            assert mirror.wait(tracker.run_dir, PATIENCE_SECONDS, lambda _: None).done
        return (time.perf_counter() - before) / count

    def resident() -> int:
        assert mirror._process is not None
        status = Path(f"/proc/{mirror._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    serve(50)
    before = resident()
    seconds = serve(250)
    assert resident() < 1.05 * before
    assert seconds < 0.5
    parent.finish("FINISHED", wait_seconds=PATIENCE_SECONDS)


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_misses_nothing(
    tmp_path: Path, empty_database: Path
) -> None:
    """A real MLflow server: away at the start, there, killed in the middle, back for the end."""
    server_dir, output_dir, port = tmp_path / "server", tmp_path / "outputs", free_port()
    uri = f"http://127.0.0.1:{port}"
    run_id = new_id()
    process = trainer(output_dir, run_id, 10**6, 0.02, "120", uri)
    run_dir = output_dir / "runs" / run_id[:6]
    wait_until(lambda: spool_path(run_dir).exists())
    with mlflow_server(server_dir, port, empty_database):
        store = Store(default_uri(server_dir))  # beside the server, to see what it has
        found = str(wait_until(lambda: store.find(run_id)))
        wait_until(lambda: "loss" in history(store, found))
    before = len(history(store, found)["loss"])
    time.sleep(1)
    assert process.poll() is None  # it trains on
    with mlflow_server(server_dir, port, empty_database):
        wait_until(lambda: len(history(store, found)["loss"]) > before + 100)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: is_mirrored(run_dir, uri))
    written = [e["step"] for e in _all(run_dir) if e["event"] == "metrics"]
    assert written == list(range(len(written)))
    assert [step for step, *_ in history(store, found)["loss"]] == written
    assert client(store).get_run(found).info.status == "KILLED"
    assert client(store).get_run(found).info.artifact_uri.startswith("mlflow-artifacts:")


def _all(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in spool_path(run_dir).read_text().splitlines()]
