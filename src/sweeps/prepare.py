"""What a family's own configuration takes on this machine, and the time that a sweep has for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from src.config.checks import ConfigError
from src.machine.failures import RunFailed
from src.reporting.formatting import duration
from src.search.loop import run_single
from src.search.pool import Pool
from src.search.space import Family
from src.search.study import SweepStudy
from src.sweeps.tasks import Prepared, SweepJobs

__all__ = ["Clock", "Preparation"]

# Of the budget, kept for training the finalists again.
_FINALS_SHARE = 0.3
# Of what trials have, kept from the measurements that come before them.
_TRIALS_SHARE = 0.4
_NOTE_SECONDS = 5.0

# Workers of a cluster may wait for room much longer, and are on other machines.
_GATHER_SECONDS = 20.0
# Of the time that trials have: what the first trial of a family may take at most, and what
# choosing and describing may take before it, while nothing else runs. Frozen networks promise most
# a second, so that describing pictures by them may take more.
_ALLOWANCE, _MEASURING, _DESCRIBING = 0.5, 0.35, 0.6
# Fewer epochs than these are no measure of a network from scratch; a pretrained one is good before
# the first.
_LEAST_EPOCHS, _LEAST_PRETRAINED = 3, 1
# What makes a network cheaper whose own configuration cannot be afforded: from scratch, and tuned.
_SMALLER, _SMALLER_TUNED = "data.image_size=64", "model.input_size=160"
_FROM_SCRATCH = frozenset(
    f"model={name}" for name in ("cnn", "fcn", "gru", "lstm", "mlp", "renet", "rnn", "vit")
)


class Clock:
    """Counts the seconds of a sweep from its first start on, without pauses.

    Args:
        budget: seconds in all; None for no limit.
        finals: whether a share of them is kept for the finalists.
        earlier: seconds that earlier starts took.
        note: called with the seconds so far, every few seconds.
        now: seconds of a clock that only moves forward.
    """

    def __init__(
        self,
        budget: float | None,
        *,
        finals: bool,
        earlier: float,
        note: Callable[[float], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget
        self._race = None if budget is None else budget * (1 - _FINALS_SHARE * finals)
        self._earlier = earlier
        self._note = note
        self._now = now
        self._began = now()
        self._noted = 0.0

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._earlier + self._now() - self._began

    @property
    def race_left(self) -> float | None:
        """Seconds in which trials may still run; None for no limit."""
        return None if self._race is None else max(0.0, self._race - self.spent)

    @property
    def trials_wait(self) -> bool:
        """Whether measuring takes time by now that trials should have."""
        left = self.race_left
        return left is not None and self._race is not None and left < _TRIALS_SHARE * self._race

    @property
    def left(self) -> float | None:
        """Seconds of the whole budget that are left; None for no limit."""
        return None if self._budget is None else max(0.0, self._budget - self.spent)

    def tick(self) -> None:
        """Keep account for a later start, every few seconds; to be called all the time."""
        if self.spent - self._noted > _NOTE_SECONDS:
            self.settle()

    def settle(self) -> None:
        """Keep account now."""
        self._noted = self.spent
        self._note(self._noted)


@dataclass(frozen=True)
class Preparation:
    """Measures families, each alone in the pool, and fits their trials into the time that is left.

    Attributes:
        study: keeps what was found.
        pool: started, with nothing to do.
        clock, jobs: of the sweep.
        show: called with lines for a person.
        check: called all the time; what it raises ends the preparation.
    """

    study: SweepStudy
    pool: Pool
    clock: Clock
    jobs: SweepJobs
    show: Callable[[str], None]
    check: Callable[[], None]

    def run(
        self,
        families: Sequence[Family],
        found: dict[str, Prepared],
        begin: Callable[[str], None],
    ) -> None:
        """Find out what the families take, one after another on an otherwise idle machine.

        Where a trial takes next to nothing, as with the features of a frozen network that are known
        by then, it begins before the others are measured.

        Args:
            families: of the sweep.
            found: gets what was found, by family.
            begin: called with the name of such a family, to run its first trial.
        """
        known: dict[str, Any] = self.study.recall("prepared") or {}
        if any(family.name not in known for family in families):
            self.pool.gather(_GATHER_SECONDS, self.check)
        for family in families:
            name = family.name
            ready = any(one.affordable for one in found.values())
            if name not in known and self.clock.trials_wait and (ready or not self.clock.race_left):
                reason = "so that the others have time for trials" if ready else "for time is up"
                self.show(f"{name}: left out, {reason}")
                continue
            if name not in known:
                self.show(f"{name}: finding out how to train it on this machine")
                measured = self.measure(family)
                for note in measured.notes:
                    self.show(f"{name}: {note}")
                known[name] = asdict(measured)
                # What was left out may have its turn when the study gets more time.
                kept = {n: plain for n, plain in known.items() if plain["affordable"]}
                self.study.remember("prepared", kept)
            if not found:
                for line in known[name]["data"]:
                    self.show(f"data: {line}")
            found[name] = Prepared(**known[name])
            if found[name].immediate and not self.study.trials():
                begin(name)

    def measure(self, family: Family) -> Prepared:
        """Return what the family's own configuration takes, made to fit where it does not.

        A network gets smaller pictures first, then fewer epochs.

        Args:
            family: of the sweep.

        Raises:
            ConfigError: the pictures or the settings are wrong.
            RunFailed: it cannot be trained.
        """
        left = self.clock.race_left
        allowance = None if left is None else left * _ALLOWANCE
        frozen = "model=embedding" in family.words
        measuring = None if left is None else left * (_DESCRIBING if frozen else _MEASURING)
        found = self._measured(family, (), measuring)
        from_scratch = not _FROM_SCRATCH.isdisjoint(family.words)
        if allowance is None or found.seconds <= allowance:
            return found
        if frozen:
            took = duration(found.seconds)
            note = f"left out: describing the pictures would take {took} of this budget"
            return replace(found, affordable=False, notes=[*found.notes, note])
        smaller = self._smaller(family, found)
        if smaller is not None:
            found = self._measured(family, (smaller,), measuring)
            found = replace(found, notes=[*found.notes, f"{smaller}, for lack of time"])
            if found.seconds <= allowance:
                return found
        times = f"{found.trainings} times " if found.trainings > 1 else ""
        cost = f"{times}{found.epochs} epochs would take {duration(found.seconds)}"
        epochs = int(allowance / (found.seconds_per_epoch * found.trainings))
        if epochs < min(_LEAST_EPOCHS if from_scratch else _LEAST_PRETRAINED, found.epochs):
            note = f"left out: {cost}, and a trial may take {duration(allowance)} of this budget"
            return replace(found, affordable=False, notes=[*found.notes, note])
        return replace(
            found,
            epochs=epochs,
            words=[*found.words, f"trainer.max_epochs={epochs}"],
            notes=[*found.notes, f"trainer.max_epochs={epochs}, for {cost}"],
        )

    def _measured(self, family: Family, changes: Sequence[str], seconds: float | None) -> Prepared:
        job = self.jobs.prepare(family, changes, seconds)
        ending = run_single(self.pool, job, self.check)
        if ending.result.get("wrong_input"):
            raise ConfigError(f"{family.name}: {ending.reason}")
        if ending.state != "complete":
            raise RunFailed(f"the family {family.name} cannot be trained: {ending.reason}")
        found = Prepared(**ending.result)
        return replace(found, words=[*changes, *found.words])

    def _smaller(self, family: Family, found: Prepared) -> str | None:
        """Return the override for smaller pictures; None where their size is given or unused."""
        if any(word.startswith("data.image_size=") for word in self.jobs.base):
            return None
        if not _FROM_SCRATCH.isdisjoint(family.words):
            return _SMALLER
        return _SMALLER_TUNED if found.published and found.seconds > 0 else None
