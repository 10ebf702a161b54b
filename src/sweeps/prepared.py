"""What is known of a family: what its trials share, what they take, and what that promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..search.study import SweepStudy

__all__ = ["NOT_OPENED", "PREPARED", "THREADS", "Prepared", "kept_preparations"]

# What a study keeps of its families, and each trial of that of its own, which a later start may
# replace.
PREPARED = "prepared"
# The threads of a network that has more than those of its slot.
THREADS = "runtime.threads="
# The note of what was measured without the pictures.
NOT_OPENED = "not opened: by a few steps on drawn pictures"
# What is chosen by the time that there is.
_CUT = (
    *("model.networks=", "model.input_size=", "data.image_size=", "data.fit="),
    *("data.train_limit=", "trainer.max_epochs="),
)


@dataclass(frozen=True)
class Prepared:
    """A family's own configuration with nothing left open.

    Attributes:
        overrides: what all its trials share, beside the family's own.
        epochs: of a whole trial; 1 for what has no epochs.
        seconds_per_epoch: about what one of them takes in a slot.
        published: whether it starts from published weights, which promise most a second.
        affordable: whether a trial fits into the time that the sweep has.
        limit: seconds of the race that it was cut down to fit into, 0 of what was there already
            for a first answer; None where more would not have changed it.
        trainings: that a trial consists of: its folds, where each costs as much as the first.
        data: lines that describe the pictures at the size of this family.
        networks: of a frozen network's family, the arguments of a `NetworkRecord` for each that
            was considered.
        parts: number of pictures in each part.
        side: pixels of the longer side of the pictures, as they are taken; None where it is not
            known.
        search_seconds: in which a trial may try classifiers, beyond `seconds`.
        fit_seconds: about what fitting each kind of classifier takes beyond describing, by
            `name_of_kind`; of kinds on each variant of the features as well.
        longer: how many times as long as `seconds` a trial takes, by names of variants.
        all_cores: whether `seconds` are with all cores of the machine, not with those of a slot.
        promise: about the accuracy of heads on frozen networks by what is published of them, in
            points, for comparisons alone; None for other families.
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
    promise: float | None = None

    @property
    def seconds(self) -> float:
        """About what a whole trial takes; 0 where all its features are there."""
        return self.epochs * self.seconds_per_epoch * self.trainings

    @property
    def is_late(self) -> bool:
        """Whether it was left out for want of time, not of memory."""
        return not self.affordable and self.limit is not None

    @property
    def takes_turns(self) -> bool:
        """Whether a trial computes with threads of other slots as well, beside which none runs."""
        return any(word.startswith(THREADS) for word in self.overrides)

    @property
    def cut(self) -> frozenset[str]:
        """The overrides of networks, sizes of pictures and epochs."""
        return frozenset(word for word in self.overrides if word.startswith(_CUT))

    def betters(self, other: Prepared) -> bool:
        """Return whether it is another preparation than an earlier one, and no worse.

        Frozen networks go by what they promise, unless time was too short for none; all else by
        training pictures, the size of pictures and epochs, in this order. A busy machine, or less
        time, may buy less than an earlier start had.
        """
        if self.cut == other.cut and self.epochs == other.epochs:
            return False
        if self.promise is not None and other.promise is not None:
            return self.limit is None or self.promise > other.promise
        return self._extent >= other._extent

    @property
    def _extent(self) -> tuple[int, int, int]:
        return self.parts.get("train", 0), self.side or 0, self.epochs

    def but(self, note: str, **changes: Any) -> Prepared:
        """Return it with these changes, and with a further note that says so."""
        return replace(self, notes=[*self.notes, note], **changes)

    def left_out(self, why: str) -> Prepared:
        """Return it as what cannot be afforded."""
        return self.but(f"left out: {why}", affordable=False)


def kept_preparations(study: SweepStudy) -> dict[str, Prepared]:
    """Return what a study keeps of its families that can be afforded, by name."""
    return {name: Prepared(**plain) for name, plain in (study.recall(PREPARED) or {}).items()}
