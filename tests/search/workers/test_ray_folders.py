"""Folders of jobs on a node that shares no disk, with a Ray of a single process."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import src.search.workers.ray as ray_module
from src.search.jobs import Death, Ending, Job, Message, Ready, decode, encode
from src.search.workers.folders import Incoming, Outgoing, states
from src.search.workers.ray import RayEngine
from src.search.workers.ray_slot import Delivery
from src.tracking.spool import Spool, is_being_written, writer_lock
from tests.search.workers.pools import RUNNER, WORKERS


class Node:
    """The actor of the one slot, on a node that shares no disk: its folders lie in `place`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.answers: deque[Any] = deque()
        self.jobs: list[Message] = []
        self._parcel: Outgoing | None = None

    def take(self, chunk: bytes, size: int, digest: str) -> None:
        incoming = Incoming(size, digest, self.place)
        assert incoming.add(chunk), "one part is enough"
        incoming.close()

    def send(self, content: bytes) -> None:
        self.jobs.append(decode(content))

    def receive(self) -> Any:
        return self.answers.popleft()

    def has_answer(self, call: Call) -> bool:
        return call.method != self.receive or bool(self.answers)

    def deliver(self, message: Message, folder: Path | None = None) -> None:
        """Let this be what comes next, with a folder that has changed, or without one."""
        if folder is None:
            self.answers.append(Delivery(encode(message), b""))
            return
        self._parcel = Outgoing.pack({folder: {}}, self.place)
        about = (self._parcel.size, self._parcel.digest)
        self.answers.append(Delivery(encode(message), b"", *about))

    def part(self, offset: int) -> bytes:
        assert self._parcel is not None
        return self._parcel.chunk(offset)

    def delete(self, folders: list[str]) -> None:
        pass

    def end(self) -> None:
        pass


class Call:
    """A reference to what a method returns, which is called by whoever gets it."""

    def __init__(self, method: Callable[..., Any], *arguments: Any) -> None:
        self.method, self.arguments = method, arguments


class Remote:
    """A method of the actor."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def options(self, **_: Any) -> Remote:
        return self

    def remote(self, *arguments: Any) -> Call:
        call = Call(self._method, *arguments)
        if self._method.__name__ in ("take", "send"):
            call.method(*call.arguments)
        return call


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "node").mkdir()
    return Node(tmp_path / "node")


@pytest.fixture
def engine(tmp_path: Path, node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayEngine]:
    names = ("take", "send", "receive", "part", "delete", "end")
    actor = SimpleNamespace(**{name: Remote(getattr(node, name)) for name in names})
    error = type("Never", (Exception,), {})
    cluster = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}],
        get_runtime_context=lambda: SimpleNamespace(gcs_address="127.0.0.1:1"),
        remote=lambda **_: lambda _: SimpleNamespace(remote=lambda **_: actor),
        wait=lambda calls, **_: ([one for one in calls if node.has_answer(one)], []),
        get=lambda call, **_: call.method(*call.arguments),
        kill=lambda _: None,
        shutdown=lambda: None,
        exceptions=SimpleNamespace(GetTimeoutError=error, OutOfMemoryError=error, RayError=error),
    )
    monkeypatch.setattr(ray_module, "_connect", lambda _: cluster)
    settings = replace(WORKERS, engine="ray", count=1)
    folder = tmp_path / "workers"
    engine = RayEngine(settings, RUNNER, folder, devices=1, use_gpus=False, lock_of=writer_lock)
    engine._checked = float("inf")  # no connection is tried
    node.deliver(Ready())
    engine.start(0)
    assert _messages(engine) == [Ready()]
    yield engine
    engine.close()


def _messages(engine: RayEngine) -> list[Any]:
    """What comes until nothing does."""
    found: list[Any] = []
    for _ in range(6):
        found += [message for _, message in engine.messages(0.0)]
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Spool(tmp_path / "run"):
        pass
    return tmp_path / "run"


def test_a_folder_that_is_away_is_being_written(
    engine: RayEngine, node: Node, run: Path, tmp_path: Path
) -> None:
    assert not is_being_written(run)
    engine.send(0, Job({}, folders=[str(run)]))
    assert _messages(engine) == [] and len(node.jobs) == 1
    assert is_being_written(run)
    # It comes back with what the job has written.
    here = run.rename(tmp_path / "here")
    shutil.copytree(here, run)
    (run / "summary.json").write_text("{}")
    node.deliver(Ending("complete"), run)
    shutil.rmtree(run)
    here.rename(run)
    assert _messages(engine) == [Ending("complete")]
    assert "summary.json" in states(run) and not is_being_written(run)


@pytest.mark.parametrize("close", [False, True])
def test_a_folder_whose_node_is_lost_is_free_again(
    engine: RayEngine, node: Node, run: Path, close: bool
) -> None:
    engine.send(0, Job({}, folders=[str(run)]))
    _messages(engine)
    assert is_being_written(run)
    if close:
        engine.close()
    else:
        node.answers.append("ended by signal 9")
        assert engine.stop(0) == Death("ended by signal 9")
    assert not is_being_written(run)


def test_a_folder_that_another_process_writes_is_not_sent(
    engine: RayEngine, node: Node, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_module, "_LOCK_SECONDS", 0.1)
    with Spool(run):
        engine.send(0, Job({}, folders=[str(run)]))
        (ending,) = _messages(engine)
    assert ending.state == "failed" and "is being written by" in ending.reason
    assert node.jobs == []
    engine.send(0, Job({}, folders=[str(run)]))
    assert _messages(engine) == [] and len(node.jobs) == 1
