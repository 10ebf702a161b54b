"""What a family's own configuration takes on this machine, before any of its trials begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from src.config.checks import ConfigError
from src.machine.failures import RunFailed
from src.reporting.formatting import duration
from src.search.pool import Pool
from src.search.space import Family
from src.sweeps.clock import Clock
from src.sweeps.families import words_of

__all__ = ["Preparation", "Prepared"]

# Of the time that trials have: what the first trial of a family may take at most, and what
# choosing and describing may take before it, while nothing else runs. Frozen networks promise most
# a second, so that describing pictures by them may take more.
_ALLOWANCE, _MEASURING, _DESCRIBING = 0.5, 0.35, 0.6
# Fewer epochs than these say little of a network from scratch; a pretrained one knows much before
# the first.
_LEAST_EPOCHS, _LEAST_PRETRAINED = 3, 1
# What makes a network cheaper whose own configuration cannot be afforded: from scratch, and tuned.
_SMALLER, _SMALLER_TUNED = "data.image_size=64", "model.input_size=160"
_FROM_SCRATCH = frozenset(
    f"model={name}" for name in ("cnn", "fcn", "gru", "lstm", "mlp", "renet", "rnn", "vit")
)


@dataclass(frozen=True)
class Prepared:
    """A family's own configuration with nothing left open.

    Attributes:
        words: that all its trials share, beside the family's own.
        epochs: of a whole trial; 1 for what knows no epochs.
        seconds_per_epoch: about what one of them takes in a slot.
        trainings: that a trial consists of: its folds, where each costs as much as the first.
        published: whether it starts from published weights, which promise most a second.
        affordable: whether a trial fits into the time that the sweep has.
        notes: what a person should know of it.
        data: what was understood of the pictures, at the size of this family.
    """

    words: Sequence[str]
    epochs: int
    seconds_per_epoch: float
    published: bool = False
    affordable: bool = True
    notes: Sequence[str] = ()
    trainings: int = 1
    data: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """About what a whole trial takes."""
        return self.epochs * self.seconds_per_epoch * self.trainings

    @property
    def immediate(self) -> bool:
        """Whether a trial takes next to nothing, and starts from published weights."""
        return self.affordable and self.published and self.seconds == 0


class Preparation:
    """Measures families, each alone in the pool, and fits their trials into the time that is left.

    Args:
        pool: started, with nothing to do.
        clock: of the sweep.
        base: words that all trials share.
        places: words that say where a run is kept.
        check: called all the time; what it raises ends the preparation.
    """

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        base: Sequence[str],
        places: Sequence[str],
        check: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._base = tuple(base)
        self._places = list(places)
        self._check = check

    def find_out(self, family: Family) -> Prepared:
        """Return what the family's own configuration takes, made to fit where it does not.

        A network gets smaller pictures first, then fewer epochs.

        Args:
            family: of the sweep.

        Raises:
            ConfigError: the pictures or the settings are wrong.
            RunFailed: it cannot be trained.
        """
        left = self._clock.race_left
        allowance = None if left is None else left * _ALLOWANCE
        frozen = "model=embedding" in family.words
        measuring = None if left is None else left * (_DESCRIBING if frozen else _MEASURING)
        found = self._measured(family, (), measuring)
        from_scratch = not _FROM_SCRATCH.isdisjoint(family.words)
        if allowance is None or found.seconds <= allowance:
            return found
        smaller = self._smaller(family, found)
        if smaller is not None:
            found = self._measured(family, (smaller,), measuring)
            found = replace(found, notes=[*found.notes, f"{smaller}, for lack of time"])
            if found.seconds <= allowance:
                return found
        times = f"{found.trainings} times " if found.trainings > 1 else ""
        said = f"{times}{found.epochs} epochs would take {duration(found.seconds)}"
        epochs = int(allowance / (found.seconds_per_epoch * found.trainings))
        if epochs < min(_LEAST_EPOCHS if from_scratch else _LEAST_PRETRAINED, found.epochs):
            note = f"left out: {said}, and a trial may take {duration(allowance)} of this budget"
            return replace(found, affordable=False, notes=[*found.notes, note])
        return replace(
            found,
            epochs=epochs,
            words=[*found.words, f"trainer.max_epochs={epochs}"],
            notes=[*found.notes, f"trainer.max_epochs={epochs}, for {said}"],
        )

    def _measured(self, family: Family, changes: Sequence[str], seconds: float | None) -> Prepared:
        words = [*words_of(family, self._base, {}), *changes]
        job = {"do": "prepare", "words": words, "places": self._places, "seconds": seconds}
        ending = self._pool.run_alone(job, self._check).ending
        if ending.result.get("wrong_input"):
            raise ConfigError(f"{family.name}: {ending.reason}")
        if ending.state != "complete":
            raise RunFailed(f"the family {family.name} cannot be trained: {ending.reason}")
        result = ending.result
        return Prepared(
            [*changes, *result["words"]],
            result["epochs"],
            result["seconds_per_epoch"],
            published=result.get("published", False),
            notes=result.get("notes", ()),
            trainings=result.get("trainings", 1),
            data=result.get("data", ()),
        )

    def _smaller(self, family: Family, found: Prepared) -> str | None:
        """The word for smaller pictures; None where their size is given or means nothing."""
        if self._says("data.image_size"):
            return None
        if not _FROM_SCRATCH.isdisjoint(family.words):
            return _SMALLER
        return _SMALLER_TUNED if found.published and found.seconds > 0 else None

    def _says(self, key: str) -> bool:
        """Whether the command line or the sweep's file sets the key."""
        return any(word.partition("=")[0] == key for word in self._base)
