"""The process that mirrors runs in MLflow, beside the trainings: `python -m src.tracking.mirror`.

It has an interpreter of its own, so that neither MLflow's import nor a server that does not answer
takes the training's time. It reads commands from standard input, one JSON object per line, writes
reports to standard output likewise, and ends when standard input does: the trainings are then over
or dead. With the argument `nice` it gives way to other work.

Commands (`command`): `follow` (run_dir, uri, target), `replay` (output_dir, uri, target), `flush`,
`end`. Reports (`report`): `created`, `sent`, `done`, `warning`, `away`, all with run_dir.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .events import last_start, tracked_runs
from .follower import FilesAway, Follower
from .mirror_state import is_mirrored
from .mlflow_store import ServerAway, Store

__all__ = ["Mirror", "main"]

_POLL_SECONDS = 0.5
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0
# Seconds without any progress after which the process ends, once the trainings are gone.
_LINGER_SECONDS = 15.0
_AFTERLIFE_SECONDS = 60.0
_NICENESS = 10


@dataclass
class _Pause:
    """When to try again after a failure."""

    delay: float = 0.0
    next_try: float = 0.0

    def lengthen(self, now: float, longest: float) -> None:
        self.delay = min(max(2 * self.delay, _FIRST_DELAY_SECONDS), longest)
        self.next_try = now + self.delay


@dataclass
class _TrackingServer(_Pause):
    """One tracking URI, and its store, once opened."""

    uri: str = ""

    @cached_property
    def store(self) -> Store:
        return Store(self.uri)


class Mirror:
    """The work of the process: takes commands, sends a slice of each run at a time, reports.

    Attributes:
        closing: the trainings are gone, and only the rest is to be sent.
    """

    def __init__(
        self, report: Callable[[dict[str, Any]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._clock = clock
        self._servers: dict[str, _TrackingServer] = {}
        self._files: dict[Path, _Pause] = {}  # of runs whose files cannot be sent
        self._followed: dict[Path, Follower] = {}
        self._earlier: deque[Iterator[Follower]] = deque()
        self._replaying: Follower | None = None
        self._created: set[Path] = set()
        self._reported_away: set[Path] = set()
        self.closing = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to send."""
        return not (self._followed or self._earlier or self._replaying)

    def command(self, message: dict[str, Any]) -> None:
        """Execute a command; servers that were away are tried again at once."""
        match message.get("command"):
            case "follow":
                run_dir = Path(message["run_dir"])
                self._forget(run_dir)
                self._followed[run_dir] = self._follower(run_dir, message["uri"], message["target"])
            case "end":
                self.closing = True
            case "replay":
                output_dir = Path(message["output_dir"])
                self._earlier.append(
                    self._unsent_runs(output_dir, message["uri"], message["target"])
                )
        self._reported_away.clear()
        for pause in (*self._servers.values(), *self._files.values()):
            pause.next_try = 0.0

    def close(self) -> None:
        """Begin to close: the trainings are gone, and runs without an end were killed."""
        if not self.closing:
            self.command({"command": "end"})

    def work(self) -> bool:
        """Send a slice of each followed run, or else of an earlier one; return whether any was."""
        sent = False
        for run_dir, follower in list(self._followed.items()):
            sent |= self._advance(follower)
            if self._is_over(follower):
                self._forget(run_dir)
        # Whoever waits for a run that has ended does not wait for earlier ones.
        return sent or self._replay()

    def _replay(self) -> bool:
        """Send a slice of the current earlier run, or find the next one."""
        if self._replaying is None:
            if not self._earlier:
                return False
            self._replaying = next(self._earlier[0], None)
            if self._replaying is None:
                self._earlier.popleft()
            return True
        sent = self._advance(self._replaying)
        kept = self._files.pop(self._replaying.run_dir, None)  # another replay tries them again
        if kept is not None or self._is_over(self._replaying):
            self._replaying.release()
            self._replaying = None
        return sent

    def _advance(self, follower: Follower) -> bool:
        server = self._servers.setdefault(follower.uri, _TrackingServer(uri=follower.uri))
        files = self._files.get(follower.run_dir, _Pause())
        if self._clock() < max(server.next_try, files.next_try):
            return False
        run_dir = str(follower.run_dir)
        try:
            if not follower.take():
                return False
            if self.closing:
                follower.close_lost()
            sent = follower.step(server.store)
        except ServerAway as error:
            longest = _FIRST_DELAY_SECONDS if self.closing else _LONGEST_DELAY_SECONDS
            # Files that one run is left with are no reason for others to wait.
            pause: _Pause = server
            if isinstance(error, FilesAway):
                pause = self._files.setdefault(follower.run_dir, files)
            pause.lengthen(self._clock(), longest)
            if follower.run_dir not in self._reported_away:
                self._reported_away.add(follower.run_dir)
                self._report({"report": "away", "run_dir": run_dir, "text": str(error)})
            return False
        except OSError as error:  # of the run folder: gone, unreadable, on a full disk
            follower.given_up = f"{run_dir} cannot be read: {error}"
            return False
        server.delay = 0.0
        self._files.pop(follower.run_dir, None)
        if follower.mlflow_run_id and follower.run_dir not in self._created:
            self._created.add(follower.run_dir)
            self._report(
                {"report": "created", "run_dir": run_dir, "mlflow_run_id": follower.mlflow_run_id}
            )
        return sent

    def _is_over(self, follower: Follower) -> bool:
        if follower.given_up is not None:
            self._warn(follower.run_dir, follower.given_up)
        elif self.closing and not follower.take():
            return True  # another process sends it, or it never began
        elif not follower.finished:
            return False
        self._report(
            {
                "report": "done",
                "run_dir": str(follower.run_dir),
                "mlflow_run_id": follower.mlflow_run_id,
                "status": follower.status,
            }
        )
        return True

    def _forget(self, run_dir: Path) -> None:
        self._created.discard(run_dir)
        self._reported_away.discard(run_dir)
        self._files.pop(run_dir, None)
        if follower := self._followed.pop(run_dir, None):
            follower.release()

    def _unsent_runs(self, output_dir: Path, uri: str, target: str | None) -> Iterator[Follower]:
        """Yield the earlier runs for `target` that are incomplete in MLflow, locked for sending."""
        for run_dir in tracked_runs(output_dir):
            with suppress(OSError):  # a folder that cannot be written cannot be sent
                if run_dir in self._followed or is_mirrored(run_dir, target):
                    continue
                meant = last_start(run_dir)
                if not meant.get("mirrored") or meant.get("target") != target:
                    continue
                follower = self._follower(run_dir, uri, target)
                if not follower.take():
                    continue
                if follower.close_lost():
                    yield follower
                else:
                    follower.release()

    def _follower(self, run_dir: Path, uri: str, target: str | None) -> Follower:
        def progress(count: int, of: int) -> None:
            about = {"run_dir": str(run_dir), "count": count, "of": of}
            self._report({"report": "sent", **about})

        return Follower(run_dir, uri, target, lambda text: self._warn(run_dir, text), progress)

    def _warn(self, run_dir: Path, text: str) -> None:
        self._report({"report": "warning", "run_dir": str(run_dir), "text": text})


class _Inbox:
    """Commands from standard input, and whether the writer is gone.

    A thread reads it, since Windows cannot wait for a pipe and for a time at once.
    """

    def __init__(self, descriptor: int, parent: int) -> None:
        self._parent = parent
        self._rest = b""
        self._arrived: SimpleQueue[bytes] = SimpleQueue()
        self.closed = False
        threading.Thread(target=self._listen, args=(descriptor,), daemon=True).start()

    def _listen(self, descriptor: int) -> None:
        with suppress(OSError):
            while data := os.read(descriptor, 1 << 16):
                self._arrived.put(data)
        self._arrived.put(b"")

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """Wait up to `seconds` for input, and return the commands of whole lines."""
        if self.closed:
            time.sleep(seconds)
            return []
        # A child that the trainer forked keeps the pipe open after it: check the parent, too.
        if os.getppid() != self._parent:
            self.closed = True
        with suppress(Empty):
            data = self._arrived.get(timeout=seconds)
            self.closed |= not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            return [json.loads(line) for line in lines if line.strip()]
        return []


def _allow_many_files() -> None:
    """Have as many files open as the system allows: each run that is followed is locked by one."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Serve until standard input ends and the rest is sent, or cannot be sent for a while."""
    parent = os.getppid()
    if "nice" in sys.argv[1:] and hasattr(os, "nice"):  # Windows has none
        os.nice(_NICENESS)
    _allow_many_files()
    # Output of libraries goes to standard error; standard output is for reports alone.
    output = os.dup(1)
    os.dup2(2, 1)

    def report(message: dict[str, Any]) -> None:
        with suppress(OSError):  # the trainer is gone
            os.write(output, json.dumps(message).encode() + b"\n")

    inbox, mirror = _Inbox(0, parent), Mirror(report)
    busy, last_progress = True, time.monotonic()
    last_open = last_progress
    while not mirror.closing or not mirror.idle:
        for message in inbox.read(0.0 if busy else _POLL_SECONDS):
            mirror.command(message)
        if inbox.closed:
            mirror.close()
        busy = mirror.work()
        now = time.monotonic()
        if not mirror.closing:
            last_open = now
        if busy or not mirror.closing:
            last_progress = now
        if now - last_open > _AFTERLIFE_SECONDS or now - last_progress > _LINGER_SECONDS:
            return 1  # a replay sends the rest
    return 0


if __name__ == "__main__":
    sys.exit(main())
