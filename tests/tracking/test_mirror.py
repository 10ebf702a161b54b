"""The mirror's own logic, in this process, against a real database."""

from __future__ import annotations

import json
import os
import select
import selectors
import sys
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import src.tracking.mirror as mirror_module
import src.tracking.mirror_process as mirror_process_module
from src.tracking.addresses import default_uri
from src.tracking.mirror import Mirror, _Inbox
from src.tracking.mirror_process import MirrorProcess
from src.tracking.mirror_state import MirrorState, is_mirrored
from src.tracking.mlflow_store import ServerAway, Store
from tests.tracking.diary import PATIENCE_SECONDS, Diary, client, history, run_of


class Scene:
    """A mirror with a clock, and a store that can be made unreachable; tries are counted."""

    def __init__(self, output_dir: Path, store: Store) -> None:
        self.output_dir, self._store = output_dir, store
        self.reports: list[dict[str, Any]] = []
        self.now, self.tries, self.away = 0.0, 0, False
        self.mirror = Mirror(self.reports.append, lambda: self.now)
        self.uri = default_uri(output_dir)

    def open_store(self, uri: str) -> Store:
        self.tries += 1
        if self.away:
            raise ServerAway("connection refused")
        assert uri == self.uri
        return self._store

    def follow(self, run_dir: Path) -> None:
        self.mirror.command(
            {"command": "follow", "run_dir": str(run_dir), "uri": self.uri, "target": None}
        )

    def replay(self) -> None:
        message = {"command": "replay", "output_dir": str(self.output_dir), "uri": self.uri}
        self.mirror.command({**message, "target": None})

    def work(self) -> None:
        while self.mirror.work():
            continue

    def reported(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.reports if message["report"] == kind]


@pytest.fixture
def scene(output_dir: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(output_dir, store)
    monkeypatch.setattr(mirror_module, "Store", scene.open_store)
    return scene


def test_a_followed_run_is_created_sent_and_done(scene: Scene, store: Store, diary: Diary) -> None:
    scene.follow(diary.run_dir)  # a sweep says so before the worker has begun
    scene.work()
    assert scene.reports == [] and not scene.mirror.idle
    with diary.open() as spool:
        spool.metrics({"loss": 1.0}, 1)
        scene.work()
        (created,) = scene.reported("created")
        assert created["mlflow_run_id"] == store.find(diary.run_id)
        assert scene.reported("done") == []
        spool.end("FAILED", "because")
    scene.work()
    assert scene.reported("done") == [
        {**created, "report": "done", "status": "FAILED"},
    ]
    assert scene.mirror.idle


def test_a_server_that_is_away_is_asked_less_and_less_often(scene: Scene, diary: Diary) -> None:
    scene.away = True
    diary.ended()
    scene.follow(diary.run_dir)
    times = []
    for second in range(200):
        scene.now = float(second)
        before = scene.tries
        scene.work()
        if scene.tries > before:
            times.append(second)
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps[:5] == [1, 2, 4, 8, 16] and set(gaps[5:]) == {30}
    assert len(scene.reported("away")) == 1  # said once, not with every try
    scene.mirror.command({"command": "flush"})  # the run is over: now is the time
    scene.away = False
    scene.work()
    assert len(scene.reported("done")) == 1


def test_an_absence_in_the_middle_leaves_no_gap(scene: Scene, store: Store, diary: Diary) -> None:
    with diary.open() as spool:
        scene.follow(diary.run_dir)
        real = store.log
        for step in range(12):
            scene.now += 100
            if step == 4:

                def refuse(*_: Any, **__: Any) -> None:
                    raise ServerAway("timeout")

                store.log = refuse  # type: ignore[method-assign]
            if step == 8:
                store.log = real  # type: ignore[method-assign]
            spool.metrics({"loss": float(step)}, step)
            scene.work()
        spool.end("FINISHED")
    scene.work()
    found = store.find(diary.run_id)
    assert found is not None
    assert [step for step, *_ in history(store, found)["loss"]] == list(range(12))
    assert len(scene.reported("away")) == 1 and len(scene.reported("done")) == 1


def test_earlier_runs_are_sent_in_the_gaps(scene: Scene, store: Store, output_dir: Path) -> None:
    earlier = [Diary(output_dir / "runs" / name).ended(3) for name in ("a", "b", "c")]
    lost = Diary(output_dir / "runs" / "lost")
    with lost.open() as spool:
        spool.metrics({"loss": 0.0}, 0)
    elsewhere = Diary(output_dir / "runs" / "elsewhere").ended(target="http://other")
    private = Diary(output_dir / "runs" / "private").ended(mirrored=False)
    living = Diary(output_dir / "runs" / "living")
    with living.open():
        scene.replay()
        scene.work()
        assert store.find(living.run_id) is None
    for diary in earlier:
        found = store.find(diary.run_id)
        assert found is not None and len(history(store, found)["loss"]) == 3
        assert is_mirrored(diary.run_dir, None)
    found = store.find(lost.run_id)
    assert found is not None and client(store).get_run(found).info.status == "KILLED"
    assert store.find(elsewhere.run_id) is None and store.find(private.run_id) is None
    # All is there now: the next replay sends nothing.
    said = len(scene.reports)
    with living.open():
        scene.replay()
        scene.work()
    assert len(scene.reports) == said and scene.mirror.idle


def test_the_run_that_trains_goes_before_those_that_wait(
    scene: Scene, output_dir: Path, diary: Diary
) -> None:
    for index in range(5):
        Diary(output_dir / "runs" / f"old{index}").ended()
    with diary.open() as spool:
        scene.replay()
        scene.follow(diary.run_dir)
        scene.mirror.work()
        assert scene.reports[0]["report"] == "created"
        assert scene.reports[0]["run_dir"] == str(diary.run_dir)
        spool.end("FINISHED")
    scene.mirror.work()
    assert scene.reported("done")[0]["run_dir"] == str(diary.run_dir)


def test_no_earlier_run_is_sent_as_long_as_there_is_something_of_a_followed_one(
    scene: Scene, store: Store, output_dir: Path, diary: Diary
) -> None:
    earlier = Diary(output_dir / "runs" / "earlier").ended()
    for step in range(3):
        (diary.run_dir / f"{step}.txt").parent.mkdir(parents=True, exist_ok=True)
        (diary.run_dir / f"{step}.txt").write_text("a file")
    with diary.open() as spool:
        for step in range(3):
            spool.artifact(diary.run_dir / f"{step}.txt")
        spool.end("FINISHED")
    scene.replay()
    scene.follow(diary.run_dir)
    while scene.mirror.work():
        if not scene.reported("done"):
            assert store.find(earlier.run_id) is None
    counts = [(one["count"], one["of"]) for one in scene.reported("sent")]
    assert counts[:4] == [(2, 5), (3, 5), (4, 5), (5, 5)]  # after the start, each file and the end
    assert store.find(earlier.run_id) is not None


def test_a_run_that_another_process_follows_is_not_touched(
    scene: Scene, store: Store, output_dir: Path
) -> None:
    diary = Diary(output_dir / "runs" / "theirs").ended()
    theirs = diary.follower(store)
    scene.replay()
    scene.work()
    assert store.find(diary.run_id) is None and scene.mirror.idle
    theirs.release()


def test_at_the_end_runs_without_a_last_word_are_killed(
    scene: Scene, store: Store, output_dir: Path
) -> None:
    dead, living, never = (Diary(output_dir / "runs" / n) for n in ("dead", "living", "never"))
    dead.open().close()
    spool = living.open()
    for diary in (dead, living, never):
        scene.follow(diary.run_dir)
    scene.work()
    scene.mirror.close()
    scene.work()
    statuses = {m["run_dir"]: m["status"] for m in scene.reported("done")}
    assert statuses == {str(dead.run_dir): "KILLED"}
    assert not scene.mirror.idle  # an orphan still writes
    spool.end("FINISHED")
    spool.close()
    scene.work()
    assert scene.mirror.idle
    assert run_of(store, living.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_more_runs_than_a_process_may_have_files_are_followed_at_the_same_time(
    output_dir: Path, store: Store
) -> None:
    resource = pytest.importorskip("resource", reason="this system does not limit open files")
    few = 64
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = MirrorProcess(output_dir / "mirror.log")
    runs = [Diary(output_dir / "runs" / str(number)) for number in range(few)]
    with ExitStack() as spools:
        opened = [spools.enter_context(run.open()) for run in runs]
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))  # the process inherits it
        try:
            process.follow(runs[0].run_dir, default_uri(output_dir), None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
        for run in runs[1:]:
            process.follow(run.run_dir, default_uri(output_dir), None)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all(MirrorState.read(run.run_dir, None).mlflow_run_id for run in runs):
            assert time.monotonic() < deadline, "not all of the runs are in MLflow"
            assert not any(process.warnings(run.run_dir) for run in runs)
            time.sleep(0.1)
        for spool in opened:
            spool.end("FINISHED")
    assert all(process.wait(run.run_dir, PATIENCE_SECONDS).done for run in runs)
    process.close()


def test_reports_around_what_is_none_are_read(
    output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = output_dir / "runs" / "first"
    reports = [
        json.dumps({"report": "warning", "run_dir": str(run_dir), "text": text})
        for text in ("one", "two", "three")
    ]
    # What is started in the place of a mirror prints as its environment might, and is then killed.
    script = output_dir / "dying.py"
    script.write_text(
        "import os, signal\n"
        f"lines = {['Welcome!', reports[0], '7', '{}', reports[1], reports[2][:-9]]!r}\n"
        "os.write(1, '\\n'.join(lines).encode())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.setattr(
        mirror_process_module, "module_command", lambda *_: [sys.executable, str(script)]
    )
    process = MirrorProcess(output_dir / "mirror.log")
    process.follow(run_dir, default_uri(output_dir), None)
    found, deadline = list[str](), time.monotonic() + PATIENCE_SECONDS
    while len(found) < 2 and time.monotonic() < deadline:
        found += process.warnings(run_dir)
        time.sleep(0.01)
    assert found == ["one", "two"]
    assert not process.close()


def test_commands_are_read_from_a_pipe_that_cannot_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows, where only sockets can."""

    def refuse(*_: object) -> None:
        raise OSError("not a socket")

    monkeypatch.setattr(selectors.DefaultSelector, "register", refuse)
    monkeypatch.setattr(select, "select", refuse)
    end, start = os.pipe()
    inbox = _Inbox(end, os.getppid())
    began = time.monotonic()
    assert inbox.read(0.0) == [] and inbox.read(0.2) == []
    assert 0.2 <= time.monotonic() - began < PATIENCE_SECONDS
    os.write(start, b'{"a": 1}\n{"a": 2}\n{"a"')
    assert inbox.read(PATIENCE_SECONDS) == [{"a": 1}, {"a": 2}] and not inbox.closed
    os.write(start, b": 3}\n")
    assert inbox.read(PATIENCE_SECONDS) == [{"a": 3}]
    os.close(start)
    assert inbox.read(PATIENCE_SECONDS) == [] and inbox.closed
    os.close(end)
    orphan, _ = os.pipe()
    left = _Inbox(orphan, os.getppid() + 1)
    assert left.read(0.0) == [] and left.closed
