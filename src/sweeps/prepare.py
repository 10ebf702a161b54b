"""What a family's own configuration takes on this machine, made to fit into a sweep's time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from ..config.checks import ConfigError
from ..machine.failures import RunFailed
from ..reporting.formatting import duration
from ..search.loop import run_single
from ..search.pool import Pool
from ..search.space import Family
from ..search.study import SweepStudy
from ..targets import kind_of
from .clock import Clock
from .foreseen import (
    TUNED_SIDE,
    crafted_seconds,
    pictures_within,
    training_pictures,
    tuned_epoch,
)
from .tasks import PREPARED, Prepared, SweepJobs

__all__ = ["Preparation", "kept_preparations"]

# What a study keeps of its families: measurements, and names of those that some start left out.
_PREPARED, _LEFT_OUT = "prepared", "left_out"

# Workers of a cluster may wait for room much longer, and are on other machines.
_GATHER_SECONDS = 20.0
# Of the time that trials have: what the first trial of a family may take at most, and what
# choosing and describing may take before it, while nothing else runs. Frozen networks promise most
# a second, so that describing pictures by them may take more.
_ALLOWANCE, _MEASURING, _DESCRIBING = 0.5, 0.35, 0.65
# Of all that is left, the time for finalists included, what the trials of an only family may take
# that would be cut otherwise: one long training is worth more than several short ones.
_ALONE = 0.7
# By so much more of all that is left describing may be late, where other work has come or the
# least that can be described takes longer, before all is given up: the first trial may end in the
# time that is kept for finalists.
_LATE = 0.2
# What measures and describes watches its time; after so many times as long it is stopped all the
# same, for a step of a large network on a busy machine, or decoding, may take longer than expected.
_STOPPED = 1.1
# What was cut down to fit is prepared anew where there is so many times as much.
_CLEARLY_MORE = 1.25
# Pictures are described once more where at least so many seconds are left beside those of a trial,
# of which other work may take a part.
_LEAST_DESCRIBING, _SURE = 15.0, 0.85
# Fewer epochs than these are no measure of a network from scratch; a pretrained one is good before
# the first.
_LEAST_EPOCHS, _LEAST_PRETRAINED = 3, 1
# What makes a network cheaper whose own configuration cannot be afforded: from scratch, and tuned.
_SMALLER_SIDE = 64
_SMALLER, _SMALLER_TUNED = f"data.image_size={_SMALLER_SIDE}", f"model.input_size={TUNED_SIDE}"
# Where trials wait, what a try of hand-crafted features may take of the time that is left.
_LITTLE = 0.25
_FROM_SCRATCH = frozenset(
    f"model={name}" for name in ("cnn", "fcn", "gru", "lstm", "mlp", "renet", "rnn", "vit")
)


@dataclass(frozen=True)
class Preparation:
    """Measures families, each alone in the pool, and fits their trials into the time that is left.

    Attributes:
        pool: started, with nothing to do.
        show: called with lines for a person.
        check: called all the time; what it raises ends the preparation.
    """

    pool: Pool
    clock: Clock
    jobs: SweepJobs
    show: Callable[[str], None]
    check: Callable[[], None]

    def run(self) -> Iterator[str]:
        """Find out what the families take, one after another on an otherwise idle machine.

        Yield a family of which the next trial is to run before the others are measured, since it
        takes next to nothing, as with features of a frozen network that are known by then.
        """
        known, found = kept_preparations(self.jobs.study), self.jobs.prepared
        if any(n not in known or self._has_more(known[n]) for n in self.jobs.families):
            self.pool.gather(_GATHER_SECONDS, self.check)
        # Trials that an earlier start left running go on as soon as others begin.
        found.update({name: known[name] for name in self.jobs.families if name in known})
        described = False
        for name, family in self.jobs.families.items():
            new = name not in known
            if new and (reason := self._unmeasured(family)):
                self.show(f"{name}: left out, {reason}")
                continue
            renewed = not new and self._has_more(known[name]) and not self.clock.trials_wait
            if new or renewed:
                self.show(f"{name}: finding out how to train it on this machine")
                waits = self._ready and self.clock.trials_wait
                self._keep(known, name, self._tried(family) if waits else self.measure(family))
            found[name] = one = known[name]
            if one.affordable and not described:
                described = True
                for line in one.data:
                    self.show(f"data: {line}")
            immediate = one.affordable and one.published and one.seconds == 0
            if immediate and (renewed or not self.jobs.study.trials()):
                yield name
                while self._improved(known, family):
                    found[name] = known[name]
                    yield name
        missing = {n for n in self.jobs.families if n not in found or not found[n].affordable}
        if missing:
            self.jobs.study.remember(_LEFT_OUT, sorted(self._left_out() | missing))

    def _unmeasured(self, family: Family) -> str | None:
        """Return why a family is left out before time is spent on it; None where it is not."""
        clock = self.clock
        if not self._ready:
            return "for time is up" if clock.trials_wait and not clock.left else None
        left, prepared = clock.race_left, self.jobs.prepared.values()
        if clock.trials_wait and left is not None:
            if not left:
                return "for the time of trials is over"
            if self._tried_on(family) is not None:
                return None
            needed = crafted_seconds(family, prepared)
            took = f": a try would take some {duration(needed)} of {duration(left)}"
            return f"so that the others have time for trials{took if needed else ''}"
        epoch = tuned_epoch(family, prepared, self.pool.size)
        if left is not None and epoch > _ALLOWANCE * left:
            return (
                f"for an epoch would take some {duration(epoch)} by the speed of the frozen "
                f"networks, and a trial may take {duration(_ALLOWANCE * left)} of this budget"
            )
        return None

    def _tried_on(self, family: Family) -> int | None:
        """Return the training pictures of a cheap try of hand-crafted features; None for no try.

        That is one beside others that wait for the time. Where all pictures would take more than a
        small part of it, a half of them, a quarter, ... may be tried.
        """
        left, prepared = self.clock.race_left or 0.0, self.jobs.prepared.values()
        needed = crafted_seconds(family, prepared)
        return pictures_within(_LITTLE * left, training_pictures(prepared), needed, self.jobs.base)

    def _has_more(self, known: Prepared) -> bool:
        """Return whether there is clearly more time than what was prepared was cut down to."""
        left = self.clock.race_left
        return known.limit is not None and (left is None or left > _CLEARLY_MORE * known.limit)

    def _keep(self, known: dict[str, Prepared], name: str, new: Prepared) -> bool:
        """Keep what was found of a family, unless what is known is as good; return whether so."""
        for note in new.notes:
            self.show(f"{name}: {note}")
        old = known.get(name)
        if old is not None and (not new.affordable or new.is_cut_as(old)):
            # The next start does not try the same again.
            left = self.clock.race_left
            limit = new.limit if new.affordable else max(left or 0.0, old.limit or 0.0)
            known[name] = replace(old, limit=limit)
        else:
            known[name] = new
        # What was left out may have its turn when the study gets more time.
        fitting = {n: asdict(one) for n, one in known.items() if one.affordable}
        self.jobs.study.remember(_PREPARED, fitting)
        return known[name] is new

    def _improved(self, known: dict[str, Prepared], family: Family) -> bool:
        """Describe the pictures better where the time that is left buys that; return whether so."""
        left, trials = self.clock.race_left, self.jobs.study.trials()
        most = self.jobs.settings.budget.trials
        if known[family.name].limit is None or left is None or len(trials) >= (most or math.inf):
            return False
        # The last trial shows what one takes once the pictures are described.
        took = [trial.seconds or left for trial in trials if trial.family == family.name]
        seconds = _SURE * left - took[-1] if took else 0.0
        if seconds < _LEAST_DESCRIBING:
            return False
        self.show(f"{family.name}: finding out what the time that is left buys")
        return self._keep(known, family.name, self._measured(family, (), seconds))

    def late(self) -> set[str]:
        """Return the families that can be afforded by now, but not so by an earlier start.

        The budget's trials may be spent without any of theirs.
        """
        prepared, study = self.jobs.prepared, self.jobs.study
        fitting = {name: list(one.overrides) for name, one in prepared.items() if one.affordable}
        kept = [(trial.family, study.facts(trial.number)) for trial in study.trials()]
        begun = {name for name, _ in kept}
        tried = {name for name, facts in kept if facts.get(PREPARED) in (None, fitting.get(name))}
        return ((self._left_out() | begun) & fitting.keys()) - tried

    @property
    def _ready(self) -> bool:
        """Whether trials of some family can begin."""
        return any(one.affordable for one in self.jobs.prepared.values())

    @property
    def _left(self) -> float | None:
        """Seconds for measuring a family and for its first trial; None for no limit.

        Where trials should have begun by now and no family is ready, the time for finalists counts.
        """
        late = self.clock.trials_wait and not self._ready
        return self.clock.left if late else self.clock.race_left

    def _left_out(self) -> set[str]:
        return set(self.jobs.study.recall(_LEFT_OUT) or ())

    def measure(self, family: Family) -> Prepared:
        """Return what the family's own configuration takes, made to fit where it does not.

        A network gets smaller pictures first, then fewer epochs, and hand-crafted features get
        fewer training pictures.

        Raises:
            ConfigError: the pictures or the settings are wrong.
            RunFailed: it cannot be trained.
        """
        left = self._left
        allowance = None if left is None else left * _ALLOWANCE
        frozen = "model=embedding" in family.overrides
        share = _DESCRIBING if frozen else _MEASURING
        measuring = None if left is None else share * left
        latest = (share + _LATE) * (self.clock.time_left(self._ready) or 0.0)
        found = self._measured(family, (), measuring, late_by=latest - (measuring or 0.0))
        from_scratch = not _FROM_SCRATCH.isdisjoint(family.overrides)
        if allowance is None or found.seconds <= allowance:
            return found
        if len(self.jobs.families) == 1 and not frozen:
            allowance = _ALONE * (self.clock.left or 0.0)
            if found.seconds <= allowance:
                return found
        found = replace(found, limit=left)
        crafted = "model=handcrafted" in family.overrides
        count = training_pictures([found])
        if crafted and (few := pictures_within(allowance, count, found.seconds, self.jobs.base)):
            part = self._of_pictures(family, few, count, _MEASURING * (self._left or 0.0))
            if part.affordable and part.seconds <= (self._left or 0.0):
                return part
        if frozen or crafted:
            took = duration(found.seconds)
            return _left_out(found, f"describing the pictures would take {took} of this budget")
        smaller = self._smaller(family, found)
        if smaller is not None:
            measuring = _MEASURING * (self._left or 0.0)
            cheaper = self._measured(family, (smaller,), measuring)
            if cheaper.affordable and cheaper.seconds < found.seconds:
                notes = [*cheaper.notes, f"{smaller}, for lack of time"]
                found = replace(cheaper, limit=left, notes=notes)
            if found.seconds <= allowance:
                return found
        times = f"{found.trainings} times " if found.trainings > 1 else ""
        cost = f"{times}{found.epochs} epochs would take {duration(found.seconds)}"
        epochs = int(allowance / (found.seconds_per_epoch * found.trainings))
        if epochs < min(_LEAST_EPOCHS if from_scratch else _LEAST_PRETRAINED, found.epochs):
            limit = f"a trial may take {duration(allowance)} of this budget"
            return _left_out(found, f"{cost}, and {limit}")
        return replace(
            found,
            epochs=epochs,
            overrides=[*found.overrides, f"trainer.max_epochs={epochs}"],
            notes=[*found.notes, f"trainer.max_epochs={epochs}, for {cost}"],
        )

    def _tried(self, family: Family) -> Prepared:
        """Return what a cheap try of a family takes, as `_tried_on` foresees it."""
        count = self._tried_on(family)
        all_of_them = training_pictures(self.jobs.prepared.values())
        if count is None or count >= all_of_them:
            return self.measure(family)
        most = _LITTLE * (self.clock.race_left or 0.0)
        return self._of_pictures(family, count, all_of_them, most)

    def _of_pictures(self, family: Family, count: int, of: int, seconds: float) -> Prepared:
        """Return what a family takes on so many of its training pictures, measured in so long."""
        left, limit = self.clock.race_left, f"data.train_limit={count}"
        found = self._measured(family, (limit,), seconds)
        if found.affordable:
            note = f"{limit} of {of:,} training pictures, for lack of time"
            found = replace(found, notes=[*found.notes, note])
        return replace(found, limit=left)

    def _measured(
        self, family: Family, changes: Sequence[str], seconds: float | None, late_by: float = 0.0
    ) -> Prepared:
        job = self.jobs.prepare(family, changes, seconds, late_by)
        left = self.clock.race_left
        most = None if seconds is None else _STOPPED * (seconds + late_by)
        ending = run_single(self.pool, job, self.check, seconds=most)
        if most is not None and ending.state == "pruned":
            unknown = Prepared(list(changes), 1, 0.0, limit=left)
            return _left_out(unknown, f"to measure it took more than {duration(most)}")
        if ending.result.get("wrong_input"):
            raise ConfigError(f"{family.name}: {ending.reason}")
        if ending.state in ("lost", "gone"):  # another one may be smaller
            return _left_out(Prepared(list(changes), 1, 0.0), f"{ending.reason}")
        if ending.state != "complete":
            raise RunFailed(f"the family {family.name} cannot be trained: {ending.reason}")
        found = Prepared(**ending.result)
        if found.limit is not None:  # those of describing, which are a part of those of the race
            found = replace(found, limit=left)
        return replace(found, overrides=[*changes, *found.overrides])

    def _smaller(self, family: Family, found: Prepared) -> str | None:
        """Return the override for smaller pictures; None where it is given, or changes nothing."""
        # Figures of pixels in two sizes do not compare.
        if kind_of(self.jobs.settings.data.target).pixels:
            return None
        # Smaller windows would be as many more, and a size that is searched is each trial's own.
        kept = ("data.image_size=", "data.fit=windows")
        stated = any(word.startswith(kept) for word in (*self.jobs.base, *family.overrides))
        if stated or any(one.key == "data.image_size" for one in family.parameters):
            return None
        if not _FROM_SCRATCH.isdisjoint(family.overrides):
            small = found.side is not None and found.side <= _SMALLER_SIDE
            return None if small else _SMALLER
        return _SMALLER_TUNED if found.published and found.seconds > 0 else None


def kept_preparations(study: SweepStudy) -> dict[str, Prepared]:
    """Return what a study keeps of its families that can be afforded, by name."""
    return {name: Prepared(**plain) for name, plain in (study.recall(_PREPARED) or {}).items()}


def _left_out(found: Prepared, why: str) -> Prepared:
    return replace(found, affordable=False, notes=[*found.notes, f"left out: {why}"])
