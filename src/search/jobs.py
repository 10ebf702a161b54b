"""Jobs, and the messages about them that pass between the driver and its workers.

Each message is a frozen dataclass of plain values and travels as one JSON object. To a worker go
`Run`, `Answer` and `Interrupt`; from it come `Ready`, `Note`, `Report` and `Ending`. A connection
that is not established yet delivers `Waiting` in their stead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

__all__ = [
    "Answer",
    "Channel",
    "Ending",
    "Interrupt",
    "Job",
    "Message",
    "Note",
    "Ready",
    "Report",
    "Run",
    "Runner",
    "State",
    "Waiting",
    "decode",
    "encode",
]

State = Literal["complete", "pruned", "failed", "interrupted", "lost", "starved"]


@dataclass(frozen=True)
class Job:
    """A job of a worker.

    Attributes:
        task: plain values for the runner of the worker; nothing in this package reads them.
        epochs: of the whole job, or of each of its folds.
        folds: number of folds after each of which the job reports; None where it reports epochs.
        overrides: command-line overrides that make the configuration, kept with the trial.
    """

    task: Mapping[str, Any]
    epochs: int = 1
    folds: int | None = None
    overrides: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """Run this job."""

    job: Job


@dataclass(frozen=True)
class Answer:
    """The answer to a `Report`: the reason to stop, or None to go on."""

    stop: str | None


@dataclass(frozen=True)
class Interrupt:
    """Save the job and end it."""


@dataclass(frozen=True)
class Ready:
    """The worker takes jobs."""


@dataclass(frozen=True)
class Waiting:
    """The worker has not connected yet."""


@dataclass(frozen=True)
class Note:
    """Facts to keep with the job, whatever happens to its worker."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Metrics after an epoch or a fold, counted from 1; the worker waits for an `Answer`."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        state: "complete", "pruned", "failed", "interrupted" (it can go on later), "lost" (its
            worker died; it can go on in another one) or "starved" (it can go on once there is what
            every job needs, such as room on a disk).
        metrics: of a complete job, by key.
        result: further plain values.
        reason: why it is not complete.
        again: facts to keep with the job, with which another attempt may succeed; None where
            none would.
    """

    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    again: Mapping[str, Any] | None = None


Message = Run | Answer | Interrupt | Ready | Waiting | Note | Report | Ending

_KINDS: dict[str, type[Message]] = {
    "run": Run,
    "answer": Answer,
    "interrupt": Interrupt,
    "ready": Ready,
    "waiting": Waiting,
    "note": Note,
    "report": Report,
    "ending": Ending,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class Channel(Protocol):
    """What a running job can send to its driver."""

    def note(self, **facts: Any) -> None:
        """Send plain values to keep, whatever happens to this process."""

    def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
        """Send metrics after an epoch or a fold (from 1); return the reason to stop, or None."""


Runner = Callable[[Job, Channel], Ending]


def encode(message: Message) -> bytes:
    """Return a message as one JSON object."""
    return json.dumps({"kind": _NAMES[type(message)], **asdict(message)}).encode()


def decode(content: bytes) -> Message:
    """Return the message that `encode` wrote."""
    fields = json.loads(content)
    kind = _KINDS[fields.pop("kind")]
    if kind is Run:
        return Run(Job(**fields["job"]))
    return kind(**fields)
