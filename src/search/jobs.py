"""Jobs, and the messages about them that pass between the driver and its workers.

Each is a frozen dataclass of plain values and travels as one JSON object. To a worker go `Job`,
`Reply` and `Interrupt`; from it come `Ready`, `Note`, `Report` and `Ending`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, get_args

__all__ = [
    "Channel",
    "Death",
    "Ending",
    "Engine",
    "Interrupt",
    "Job",
    "Message",
    "NoReports",
    "Note",
    "Ready",
    "Reply",
    "Report",
    "Runner",
    "State",
    "WorkersFail",
    "decode",
    "encode",
]

State = Literal["complete", "pruned", "failed", "interrupted", "lost", "gone", "starved"]


@dataclass(frozen=True)
class Job:
    """A job of a worker.

    Attributes:
        task: plain values for the runner of the worker; nothing in this package reads them.
        epochs: of the whole job, or of each of its folds.
        folds: number of folds after each of which the job reports; None where it reports epochs.
        overrides: command-line overrides that make the configuration, kept with the trial.
        folders: that the job goes on with or reads, for a worker that does not see them.
        seconds: after which its training ends by itself; None for no limit.
        step_seconds: about what an epoch or a fold takes, as it was measured before; None where it
            was not.
    """

    task: Mapping[str, Any]
    epochs: int = 1
    folds: int | None = None
    overrides: Sequence[str] = ()
    folders: Sequence[str] = ()
    seconds: float | None = None
    step_seconds: float | None = None

    @property
    def steps(self) -> int:
        """The number of its reports: folds, or else epochs."""
        return self.epochs if self.folds is None else self.folds


@dataclass(frozen=True)
class Reply:
    """The reply to a `Report`: the reason to stop, or None to go on."""

    stop: str | None


@dataclass(frozen=True)
class Interrupt:
    """Save the job and end it; `reason` stands in its record, if there is one."""

    reason: str | None = None


@dataclass(frozen=True)
class Ready:
    """The worker takes jobs."""


@dataclass(frozen=True)
class Note:
    """Facts to keep with the job, whatever happens to its worker."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Metrics after an epoch or a fold, counted from 1; the worker waits for a `Reply`."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ending:
    """The end of a job.

    Attributes:
        state: "complete", "pruned", "failed", "interrupted" (it can go on later), "lost" (its
            worker died; it can go on in another one), "gone" (the same, with the worker's machine)
            or "starved" (it can go on once there is what every job needs, such as room on a disk).
        metrics, result: of a complete job: by key, and further plain values.
        reason: why it is not complete.
        again: facts to keep with the job, with which another attempt may succeed; None if none.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    again: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Death:
    """The end of a worker, which comes in place of a message.

    Attributes:
        how: to be read after "its worker".
        outside: its machine went, or the connection to it, for which no job is to blame.
    """

    how: str
    outside: bool = False


Message = Job | Reply | Interrupt | Ready | Note | Report | Ending

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}


class Channel(Protocol):
    """The messages that a running job can send to its driver."""

    def note(self, **facts: Any) -> None:
        """Send plain values to keep, whatever happens to this process."""

    def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Send metrics after an epoch or a fold (from 1); return the reason to stop, or None."""


@dataclass(frozen=True)
class NoReports:
    """A channel without reports, so that nothing stops its job; notes go to `channel`, if any."""

    channel: Channel | None = None

    def note(self, **facts: Any) -> None:
        if self.channel is not None:
            self.channel.note(**facts)

    def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
        return None


Runner = Callable[[Job, Channel], Ending]


class WorkersFail(RuntimeError):
    """Workers cannot be started, or are out of reach."""


class Engine(Protocol):
    """Runs workers, each in a slot of its own, and carries the messages to and from them."""

    size: int  # the number of slots

    def start(self, slot: int) -> None:
        """Start a worker in a slot (from 0) that has none."""

    def send(self, slot: int, message: Message) -> None:
        """Send a message to the worker of a slot; it is lost where the worker has died."""

    def messages(self, seconds: float) -> Iterator[tuple[int, Message | Death]]:
        """Yield slots with what their workers sent, waiting at most this long for the first.

        After a `Death` a slot has no worker. WorkersFail if none can be started any more.
        """

    def stop(self, slot: int) -> Death:
        """End the worker of a slot, whatever it does, and return how it ended."""

    def close(self) -> None:
        """End all workers, and release what is held."""


def encode(message: Message) -> bytes:
    """Return a message as one JSON object."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def decode(content: bytes) -> Message:
    """Return the message that `encode` wrote."""
    fields = json.loads(content)
    return _KINDS[fields.pop("kind")](**fields)
