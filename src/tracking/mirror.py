"""The process that mirrors runs in MLflow, beside the trainings: `python -m src.tracking.mirror`.

It has an interpreter of its own, so that neither MLflow's import nor a server's silence ever takes
the training's time. It is told on standard input which run folders to follow, one JSON object a
line, answers on standard output likewise, and ends when standard input does: then the trainings
are over or dead.

Commands (`do`): `prepare` (uri), `follow` (run_dir, uri, target), `replay` (output_dir, uri,
target), `flush`, `end`. Answers (`said`): `created`, `done`, `warning`, `away`, all with run_dir.
"""

from __future__ import annotations

import json
import os
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.tracking.follower import Follower, is_complete
from src.tracking.mlflow_store import ServerAway, Store
from src.tracking.spool import find_runs, last_start

__all__ = ["Mirror", "main"]

_POLL_SECONDS = 0.5
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0
# How long to go on without any progress once the trainings are gone.
_LINGER_SECONDS = 15.0
_AFTERLIFE_SECONDS = 60.0
_NICENESS = 10


class _Place:
    """One tracking URI: its store once opened, and when to try again after a failure."""

    def __init__(self, uri: str, clock: Callable[[], float]) -> None:
        self.uri = uri
        self._clock = clock
        self._store: Store | None = None
        self._delay = 0.0
        self._next_try = 0.0

    @property
    def away(self) -> bool:
        return self._delay > 0

    def ready(self) -> bool:
        return self._clock() >= self._next_try

    def store(self) -> Store:
        if self._store is None:
            self._store = Store(self.uri)
        return self._store

    def failed(self, longest_delay: float) -> None:
        self._delay = min(max(2 * self._delay, _FIRST_DELAY_SECONDS), longest_delay)
        self._next_try = self._clock() + self._delay

    def answered(self) -> None:
        self._delay = 0.0

    def hurry(self) -> None:
        self._next_try = 0.0


class Mirror:
    """Everything but the process: takes commands, does a slice of work at a time, says what it did.

    Args:
        say: takes the answers.
        clock: monotonic seconds.

    Attributes:
        closing: the trainings are gone, and only what is left is to be sent.
    """

    def __init__(
        self, say: Callable[[dict[str, Any]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._places: dict[str, _Place] = {}
        self._unopened: list[str] = []
        self._followed: dict[Path, Follower] = {}
        self._earlier: deque[Iterator[Follower]] = deque()
        self._replaying: Follower | None = None
        self._created: set[Path] = set()
        self._told_away: set[Path] = set()
        self.closing = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing left that could be sent."""
        return not (self._followed or self._earlier or self._replaying)

    def command(self, message: dict[str, Any]) -> None:
        """Take a command; whatever waits for an absent server is tried again at once."""
        match message.get("do"):
            case "prepare":
                self._unopened.append(message["uri"])
            case "follow":
                run_dir = Path(message["run_dir"])
                self._forget(run_dir)
                self._followed[run_dir] = self._follower(run_dir, message["uri"], message["target"])
            case "end":
                self.close()
            case "replay":
                output_dir = Path(message["output_dir"])
                self._earlier.append(
                    self._unsent_runs(output_dir, message["uri"], message["target"])
                )
        self._told_away.clear()
        for place in self._places.values():
            place.hurry()

    def close(self) -> None:
        """The trainings are gone: from now on what has no last word is given one."""
        if self.closing:
            return
        self.closing = True
        for place in self._places.values():
            place.hurry()

    def work(self) -> bool:
        """Do a slice for each followed run, then for one earlier run; True if anything was sent."""
        while self._unopened:
            with suppress(ServerAway):  # said, in time, for the run that needs it
                self._place(self._unopened.pop()).store()
        sent = False
        for run_dir, follower in list(self._followed.items()):
            sent |= self._advance(follower)
            if self._is_over(follower):
                self._forget(run_dir)
        return self._replay() or sent

    def _replay(self) -> bool:
        """A slice of the earlier run at hand, or find the next one."""
        if self._replaying is None:
            if not self._earlier:
                return False
            self._replaying = next(self._earlier[0], None)
            if self._replaying is None:
                self._earlier.popleft()
            return True
        sent = self._advance(self._replaying)
        if self._is_over(self._replaying):
            self._replaying.release()
            self._replaying = None
        return sent

    def _advance(self, follower: Follower) -> bool:
        place = self._place(follower.uri)
        if not place.ready():
            return False
        run_dir = str(follower.run_dir)
        try:
            if not follower.take():
                return False
            if self.closing:
                follower.close_lost()
            sent = follower.step(place.store())
        except ServerAway as error:
            place.failed(_FIRST_DELAY_SECONDS if self.closing else _LONGEST_DELAY_SECONDS)
            if follower.run_dir not in self._told_away:
                self._told_away.add(follower.run_dir)
                self._say({"said": "away", "run_dir": run_dir, "text": str(error)})
            return False
        except OSError as error:  # the run folder itself: gone, unreadable, on a full disk
            follower.given_up = f"{run_dir} cannot be read: {error}"
            return False
        place.answered()
        if follower.mlflow_run_id and follower.run_dir not in self._created:
            self._created.add(follower.run_dir)
            self._say(
                {"said": "created", "run_dir": run_dir, "mlflow_run_id": follower.mlflow_run_id}
            )
        return sent

    def _is_over(self, follower: Follower) -> bool:
        if follower.given_up is not None:
            self._warn(follower.run_dir, follower.given_up)
        elif self.closing and not follower.take():
            return True  # another process sends it, or it never began
        elif not follower.finished:
            return False
        self._say(
            {
                "said": "done",
                "run_dir": str(follower.run_dir),
                "mlflow_run_id": follower.mlflow_run_id,
                "status": follower.status,
            }
        )
        return True

    def _forget(self, run_dir: Path) -> None:
        self._created.discard(run_dir)
        self._told_away.discard(run_dir)
        if follower := self._followed.pop(run_dir, None):
            follower.release()

    def _unsent_runs(self, output_dir: Path, uri: str, target: str | None) -> Iterator[Follower]:
        """The earlier runs that were meant for `target` and are not all there, taken."""
        for run_dir in find_runs(output_dir):
            with suppress(OSError):  # a folder that cannot be written is not ours to send
                if run_dir in self._followed or is_complete(run_dir, target):
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
        return Follower(run_dir, uri, target, lambda text: self._warn(run_dir, text))

    def _place(self, uri: str) -> _Place:
        return self._places.setdefault(uri, _Place(uri, self._clock))

    def _warn(self, run_dir: Path, text: str) -> None:
        self._say({"said": "warning", "run_dir": str(run_dir), "text": text})


class _Inbox:
    """Lines of standard input, without waiting for them; and whether whoever wrote them is gone."""

    def __init__(self, descriptor: int, parent: int) -> None:
        self._descriptor = descriptor
        self._parent = parent
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)
        self.closed = False

    def read(self, seconds: float) -> list[dict[str, Any]]:
        """Wait up to `seconds` for something, and return the whole lines there are."""
        if self.closed:
            time.sleep(seconds)
            return []
        # A child that the trainer forked keeps the pipe open after it: ask for the parent, too.
        if os.getppid() != self._parent:
            self.closed = True
        if self._selector.select(seconds):
            data = os.read(self._descriptor, 1 << 16)
            self.closed |= not data
            *lines, self._rest = (self._rest + data).split(b"\n")
            return [json.loads(line) for line in lines if line.strip()]
        return []


def main() -> int:
    """Serve until standard input ends and what is left is sent, or cannot be for a while."""
    parent = os.getppid()
    os.nice(_NICENESS)
    # Whatever libraries print goes to standard error; the answers have standard output alone.
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        with suppress(OSError):  # the trainer is gone
            os.write(answers, json.dumps(message).encode() + b"\n")

    inbox, mirror = _Inbox(0, parent), Mirror(say)
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
        elif now - last_open > _AFTERLIFE_SECONDS:  # a replay sends the rest
            return 1
        if busy or not mirror.closing:
            last_progress = now
        elif now - last_progress > _LINGER_SECONDS:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
