"""The result of measuring a family: overrides of its trials, their time, and expected accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..machine.text import counted, duration
from ..search.study import SweepStudy

__all__ = [
    "LEFT_OUT",
    "NETWORK",
    "NOT_OPENED",
    "PREPARED",
    "THREADS",
    "Prepared",
    "keep_without_trial",
    "kept_preparations",
    "kept_reasons",
    "reasons_without_trial",
]

# Key of the results in a study, and in each trial, of that of its family at the time: a later start
# may replace the result of the study.
PREPARED = "prepared"
# Key in a study of why some start left families out, by name. A list of names alone in older ones.
LEFT_OUT = "left_out"
# Key in a study of the families that were ready when trials ended, and had none, with the reason.
_WITHOUT_TRIAL = "without_trial"
# Override of a network that uses more threads than its slot has.
THREADS = "runtime.threads="
# Override of the published network that is fine-tuned.
NETWORK = "model.name="
# Note of a family that was measured without opening the pictures.
NOT_OPENED = "not opened: by a few steps on random pictures"
# Start of the note, the last one, of why a family was left out.
_WHY = "left out: "
# Overrides that are chosen by the time available.
_REDUCING = "model.input_size=", "data.image_size=", "data.train_limit=", "trainer.max_epochs="
_CUT = (NETWORK, "model.networks=", "data.fit=", *_REDUCING)


@dataclass(frozen=True)
class Prepared:
    """The default configuration of a family with all settings chosen, and its measured time.

    Attributes:
        overrides: of all trials of the family, in addition to the family's own.
        epochs: of a whole trial; 1 for a family without epochs.
        seconds_per_epoch: approximate seconds of an epoch in a slot.
        published: whether training starts from published weights, which gain most for their time.
        affordable: whether a trial fits into the time of the sweep.
        limit: seconds of the race that the family was reduced to fit into; 0 if stored features
            were used for the first trial; None if more time would not have changed anything.
        notes: what was reduced or left out, and why.
        trainings: number of trainings in a trial: its folds if each costs as much as the first.
        data: lines that describe the pictures at the size of this family.
        networks: arguments of a `NetworkRecord` for each frozen network that was considered.
        parts: number of pictures in each part.
        side: longer side of the pictures as used, in pixels; None if unknown.
        search_seconds: seconds of a trial's search for a classifier, in addition to `seconds`.
        fit_seconds: approximate seconds of fitting each kind of classifier, in addition to
            describing, by `name_of_kind`; for each variant of the features as well.
        longer: ratio of the seconds of a trial to `seconds`, by names of variants.
        all_cores: whether `seconds` were measured with all cores instead of those of a slot.
        device: of the measurement, "cpu" or as torch names it.
        promise: expected accuracy of heads on the frozen networks from published figures, in
            points, only for comparisons; None for other families.
    """

    overrides: Sequence[str]
    epochs: int
    seconds_per_epoch: float
    published: bool = False
    affordable: bool = True
    limit: float | None = None
    notes: Sequence[str] = ()
    trainings: int = 1
    data: Sequence[str] = ()
    networks: Sequence[Mapping[str, Any]] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    side: int | None = None
    search_seconds: float = 0.0
    fit_seconds: Mapping[str, float] = field(default_factory=dict)
    longer: Mapping[str, float] = field(default_factory=dict)
    all_cores: bool = False
    device: str = "cpu"
    promise: float | None = None

    @property
    def seconds(self) -> float:
        """Approximate seconds of a whole trial; 0 if all its features are stored."""
        return self.epochs * self.seconds_per_epoch * self.trainings

    def takes(self, about: str = "") -> str:
        """Return what a whole trial takes, as in "5 times 3 epochs would take 2 min"."""
        times = f"{self.trainings} times " if self.trainings > 1 else ""
        return f"{times}{counted(self.epochs, 'epoch')} would take {about}{duration(self.seconds)}"

    @property
    def is_described(self) -> bool:
        """Whether frozen networks have described the pictures, so that a trial is a fit alone."""
        return self.affordable and self.published and self.seconds == 0

    @property
    def is_late(self) -> bool:
        """Whether the family was left out for lack of time, not of memory."""
        return not self.affordable and self.limit is not None

    @property
    def takes_turns(self) -> bool:
        """Whether a trial also uses the threads of other slots, so that no other runs beside it."""
        return any(override.startswith(THREADS) for override in self.overrides)

    @property
    def network(self) -> str | None:
        """Name of the published network that was chosen for fine-tuning; None if none was."""
        names = (one.removeprefix(NETWORK) for one in self.overrides if one.startswith(NETWORK))
        return next(names, None)

    @property
    def cut(self) -> frozenset[str]:
        """The overrides that set networks, sizes of pictures and epochs."""
        return frozenset(override for override in self.overrides if override.startswith(_CUT))

    @property
    def reduction(self) -> str:
        """The settings that were chosen for lack of time, as overrides; "" if there are none."""
        if self.limit is None:
            return ""
        reducing = (one for one in self.overrides if one.startswith(_REDUCING))
        return " ".join(dict.fromkeys(reducing))

    def betters(self, other: Prepared) -> bool:
        """Return whether this result differs from an earlier one and is not worse.

        Frozen networks are compared by their expected accuracy, unless no network was left out for
        lack of time; a fine-tuned one by the time for which it was chosen; other families by
        training pictures, size of pictures and epochs, in this order. A busy machine or less time
        may yield a worse result than an earlier start had.
        """
        if self.cut == other.cut and self.epochs == other.epochs:
            return False
        if self.network != other.network:
            return self._time > other._time
        if self.promise is not None and other.promise is not None:
            return self.limit is None or self.promise > other.promise
        return self._extent >= other._extent

    @property
    def _time(self) -> float:
        return math.inf if self.limit is None else self.limit

    @property
    def _extent(self) -> tuple[int, int, int]:
        return self.parts.get("train", 0), self.side or 0, self.epochs

    def but(self, note: str, **changes: Any) -> Prepared:
        """Return a copy with these changes and a further note on them."""
        return replace(self, notes=[*self.notes, note], **changes)

    def left_out(self, why: str) -> Prepared:
        """Return a copy that is not affordable, with a note on the reason."""
        return self.but(f"{_WHY}{why}", affordable=False)

    @property
    def why_left_out(self) -> str:
        """The reason that `left_out` was given; "" of an affordable family."""
        return "" if self.affordable else self.notes[-1].removeprefix(_WHY)


def kept_preparations(study: SweepStudy) -> dict[str, Prepared]:
    """Return the stored results of a study's affordable families, by name."""
    return {name: Prepared(**plain) for name, plain in (study.recall(PREPARED) or {}).items()}


def kept_reasons(study: SweepStudy) -> dict[str, str]:
    """Return why some start of a study left families out, by name; "" where it is not known."""
    kept = study.recall(LEFT_OUT) or {}
    return dict(kept) if isinstance(kept, Mapping) else dict.fromkeys(kept, "")


def keep_without_trial(study: SweepStudy, why_over: str) -> None:
    """Store that families were ready and had no trial when trials ended.

    Args:
        why_over: the reason why trials ended; "" where it is not known.
    """
    begun = {trial.family for trial in study.trials()}
    why = f"no trial of it had begun when trials ended: {why_over}"
    ready = kept_preparations(study) if why_over else ()
    reasons = {name: why for name in ready if name not in begun}
    if reasons or study.recall(_WITHOUT_TRIAL):
        study.remember(_WITHOUT_TRIAL, reasons)


def reasons_without_trial(study: SweepStudy) -> dict[str, str]:
    """Return why families of a study have no trial, by name; "" where it is not known."""
    begun, ready = {trial.family for trial in study.trials()}, kept_preparations(study)
    reasons = {name: why for name, why in kept_reasons(study).items() if name not in ready}
    reasons |= study.recall(_WITHOUT_TRIAL) or {}
    return {name: why for name, why in reasons.items() if name not in begun}
