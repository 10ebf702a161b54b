"""What a family's own configuration takes on this machine, made to fit into a sweep's time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..config.checks import ConfigError
from ..config.compose import effective_overrides
from ..machine.cpu_load import others_load, threads_beside
from ..machine.failures import RunFailed
from ..machine.parallel import available_cores
from ..reporting.formatting import duration
from ..search.loop import run_single
from ..search.pool import Pool
from ..search.space import Family
from ..targets import kind_of
from .clock import Clock
from .families import default_values, kinds_of
from .forecast import (
    TUNED_SIDE,
    Forecast,
    crafted_seconds,
    partly,
    pictures_within,
    training_pictures,
    tuned_epoch,
)
from .prepared import PREPARED, THREADS, Prepared, keep_preparations, kept_preparations
from .tasks import SweepJobs

__all__ = ["ALLOWANCE", "DESCRIBING", "FROM_SCRATCH", "LITTLE", "Preparation"]

# What a study keeps the names under of families that some start left out.
_LEFT_OUT = "left_out"

# For all workers, and of the time that is left. Those of a cluster may wait for room much longer,
# and are on other machines.
_GATHER_SECONDS, _GATHER_SHARE = 20.0, 0.1
# Of the time that trials have: what the first trial of a family may take at most, and what
# choosing and describing may take before it, while nothing else runs. Frozen networks promise most
# a second, so that describing pictures by them may take more.
ALLOWANCE, _MEASURING, DESCRIBING = 0.5, 0.35, 0.65
# In less nothing can be measured.
_LEAST_MEASURING = 2.0
# Of all that is left, the time for finalists included, what the trials of an only family may take
# that would be cut otherwise: one long training is worth more than several short ones.
_ALONE = 0.7
# All cores are for one network where it takes no longer than so much of the time with its own.
_FASTER = 0.8
# By so much more of all that is left describing may be late, where other work has come or the
# least that can be described takes longer, before all is given up: the first trial may end in the
# time that is kept for finalists. An only family has no other to leave the time to.
_LATE, _LATE_ALONE = 0.2, 0.3
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
# But where no other family can answer, a part of an epoch is better than no answer. A pretrained
# network has its head fitted first, which takes a pass through it, a third of a step.
_LEAST_PART, _LEAST_TUNED = 0.05, 0.5
# What makes a network cheaper whose own configuration cannot be afforded: from scratch, and tuned.
_SMALLER_SIDE = 64
_SMALLER, _SMALLER_TUNED = f"data.image_size={_SMALLER_SIDE}", f"model.input_size={TUNED_SIDE}"
# Where trials wait, what a try of hand-crafted features may take of the time that is left.
LITTLE = 0.25
# In the name of a kind of trials.
_SEARCH = "model.classifier=auto"
FROM_SCRATCH = frozenset(
    f"model={name}" for name in ("cnn", "fcn", "gru", "lstm", "mlp", "renet", "rnn", "vit")
)


@dataclass(frozen=True)
class Preparation:
    """Measures families, each alone in the pool, and fits their trials into the time that is left.

    Attributes:
        pool: started, with nothing to do.
        show: called with lines for a person.
        check: called all the time; what it raises ends the preparation.
        doing: called with what goes on.
    """

    pool: Pool
    clock: Clock
    jobs: SweepJobs
    show: Callable[[str], None]
    check: Callable[[], None]
    doing: Callable[[str], None] = lambda _: None

    def run(self) -> Iterator[str]:
        """Find out what the families take, one after another on an otherwise idle machine.

        Yield a family of which the next trial is to run before the others are measured, since it
        takes next to nothing, as with features of a frozen network that are known by then.
        """
        known, found = kept_preparations(self.jobs.study), self.jobs.prepared
        if any(n not in known or self._has_more(known[n]) for n in self.jobs.families):
            share = _GATHER_SHARE * (self.clock.left or math.inf)
            self.pool.gather(min(_GATHER_SECONDS, share), self.check)
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
            left = clock.left if clock.trials_wait else None
            up = left is not None and _MEASURING * left < _LEAST_MEASURING
            return "for time is up" if up else None
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
        if left is not None and epoch > ALLOWANCE * left:
            return (
                f"for an epoch would take some {duration(epoch)} by the speed of the frozen "
                f"networks, and a trial may take {duration(ALLOWANCE * left)} of this budget"
            )
        return None

    def _tried_on(self, family: Family) -> int | None:
        """Return the training pictures of a cheap try of hand-crafted features; None for no try.

        That is one beside others that wait for the time. Where all pictures would take more than a
        small part of it, a half of them, a quarter, ... may be tried.
        """
        left, prepared = self.clock.race_left or 0.0, self.jobs.prepared.values()
        needed = crafted_seconds(family, prepared)
        return pictures_within(LITTLE * left, training_pictures(prepared), needed, self.jobs.base)

    def _has_more(self, known: Prepared) -> bool:
        """Return whether there is clearly more time than what was prepared was cut down to."""
        left = self.clock.race_left
        return known.limit is not None and (left is None or left > _CLEARLY_MORE * known.limit)

    def _keep(self, known: dict[str, Prepared], name: str, new: Prepared) -> bool:
        """Keep what was found of a family where it betters what is known; return whether so."""
        for note in new.notes:
            self.show(f"{name}: {note}")
        old = known.get(name)
        if old is not None and not (new.affordable and new.betters(old)):
            # The next start does not try the same again.
            limit = new.limit if new.affordable else self.clock.race_left or 0.0
            limit = None if limit is None else max(limit, old.limit or 0.0)
            known[name] = replace(old, limit=limit)
        else:
            known[name] = new
        keep_preparations(self.jobs.study, known)
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
        found = self._measured(family, (), seconds, what="what the time that is left buys")
        return self._keep(known, family.name, found)

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
        fewer training pictures. An only family has nearly all of the time, and a network that has
        none for its epochs is trained until a clock ends it.

        Raises:
            ConfigError: the pictures or the settings are wrong.
            RunFailed: it cannot be trained.
        """
        left = self._left
        allowance = None if left is None else left * ALLOWANCE
        frozen = "model=embedding" in family.overrides
        only = len(self.jobs.families) == 1 and not frozen
        share = DESCRIBING if frozen else _MEASURING
        measuring = None if left is None else share * left
        late = _LATE_ALONE if only else _LATE
        latest = (share + late) * (self.clock.time_left(self._ready) or 0.0)
        most = _ALONE * (self.clock.left or 0.0) if only and allowance is not None else allowance
        found = self._measured(family, (), measuring, latest - (measuring or 0.0), most)
        if allowance is None or not found.affordable:
            return found
        crafted = "model=handcrafted" in family.overrides
        takes = found.seconds
        if only:
            allowance = _ALONE * (self.clock.left or 0.0)
            if crafted:  # its first trial has no other to tell whether there is time for the fit
                takes = self._with_fit(family, found)
        if takes <= allowance:
            return found
        found = replace(found, limit=left)
        count = training_pictures([found])
        if crafted and (few := pictures_within(allowance, count, takes, self.jobs.base)):
            return _on_fewer(found, few, count)
        if frozen or crafted:
            took = duration(takes)
            return found.left_out(f"describing the pictures would take {took} of this budget")
        smaller = self._smaller(family, found)
        if smaller is not None:
            measuring = _MEASURING * (self._left or 0.0)
            cheaper = self._measured(family, (smaller,), measuring, trial=most)
            if cheaper.affordable and cheaper.seconds < found.seconds:
                notes = [*cheaper.notes, f"{smaller}, for lack of time"]
                found = replace(cheaper, limit=left, notes=notes)
            if only:
                allowance = _ALONE * (self.clock.left or 0.0)
            if found.seconds <= allowance:
                return found
        if only:
            found = self._with_all_cores(family, found)
            allowance = _ALONE * (self.clock.left or 0.0)
            if found.seconds <= allowance:
                return found
        return self._fewer_epochs(family, found, allowance, only=only)

    def _with_all_cores(self, family: Family, found: Prepared) -> Prepared:
        """Return what was found of a network with the threads of all slots, where that is faster.

        Where a training must be cut, a longer one is worth more than two at the same time.
        """
        settings, threads = self.jobs.settings, available_cores()
        workers, word = settings.workers, f"{THREADS}{threads}"
        stated = "OMP_NUM_THREADS" in os.environ or settings.runtime.threads not in ("auto", None)
        divided = workers.engine == "local" and workers.count is None and workers.threads is None
        if stated or not divided or self.pool.size == 1 or settings.trainer.devices != 1:
            return found
        # What is no network has no threads of this kind, and those of other programs delay all.
        if not effective_overrides([word], family.overrides) or (
            threads_beside(others_load(), threads) < threads
        ):
            return found
        # What was chosen for one thread is kept, for choosing takes longer than a few steps.
        changes = [*found.overrides, word]
        trial = _ALONE * (self.clock.left or 0.0)
        faster = self._measured(family, changes, _MEASURING * (self._left or 0.0), trial=trial)
        if not faster.affordable or faster.seconds > _FASTER * found.seconds:
            return found
        note = f"{word}, one trial at a time: a training takes the whole of this budget"
        return replace(faster, limit=found.limit, notes=[*found.notes, *faster.notes, note])

    def _fewer_epochs(
        self, family: Family, found: Prepared, allowance: float, *, only: bool
    ) -> Prepared:
        """Return what was found of a network with as many epochs as there is time for."""
        from_scratch = not FROM_SCRATCH.isdisjoint(family.overrides)
        times = f"{found.trainings} times " if found.trainings > 1 else ""
        cost = f"{times}{found.epochs} epochs would take {duration(found.seconds)}"
        each = found.seconds_per_epoch
        there_are = allowance / (each * found.trainings)
        epochs = int(there_are)
        if epochs < min(_LEAST_EPOCHS if from_scratch else _LEAST_PRETRAINED, found.epochs):
            if not only or there_are < (_LEAST_PART if from_scratch else _LEAST_TUNED):
                limit = f"a trial may take {duration(allowance)} of this budget"
                return found.left_out(f"{cost}, and {limit}")
            epochs, each = max(1, epochs), min(each, allowance / found.trainings)
        return replace(
            found,
            epochs=epochs,
            seconds_per_epoch=each,
            overrides=[*found.overrides, f"trainer.max_epochs={epochs}"],
            notes=[*found.notes, f"trainer.max_epochs={epochs}, for {cost}"],
        )

    def _with_fit(self, family: Family, found: Prepared) -> float:
        """Return the seconds of a trial of the family's own configuration, its fit included."""
        own = default_values(family, self.jobs.base)
        kind = next(kind for kind in kinds_of(family) if kind.holds(family.name, own))
        return Forecast({family.name: family}, {family.name: found}).needed(kind, ())

    def _tried(self, family: Family) -> Prepared:
        """Return what a cheap try of a family takes, as `_tried_on` foresees it."""
        few, count = self._tried_on(family), training_pictures(self.jobs.prepared.values())
        if few is None or few >= count:
            return self.measure(family)
        left = self.clock.race_left or 0.0
        found = self._measured(family, (f"data.train_limit={few}",), LITTLE * left)
        if found.affordable:
            found = replace(found, notes=[*found.notes, _fewer(few, count)])
        return replace(found, limit=left)

    def _measured(
        self,
        family: Family,
        changes: Sequence[str],
        seconds: float | None,
        late_by: float = 0.0,
        trial: float | None = None,
        what: str = "how to train it on this machine",
    ) -> Prepared:
        least = _LEAST_PART if len(self.jobs.families) == 1 else _LEAST_EPOCHS
        job = self.jobs.prepare(family, changes, seconds, late_by, trial, least)
        left = self.clock.race_left
        most = None if seconds is None else _STOPPED * (seconds + late_by)
        limit = "" if seconds is None else f", for up to {duration(seconds)}"

        def doing(line: str) -> None:
            self.doing(f"{family.name}: {line}")

        doing(f"finding out {what}{limit}")
        ending = run_single(self.pool, job, self.check, seconds=most, doing=doing)
        if most is not None and ending.state == "pruned":
            unknown = Prepared(list(changes), 1, 0.0, limit=left)
            return unknown.left_out(f"to measure it took more than {duration(most)}")
        if ending.result.get("wrong_input"):
            raise ConfigError(f"{family.name}: {ending.reason}")
        if ending.state in ("lost", "gone"):  # another one may be smaller
            return Prepared(list(changes), 1, 0.0).left_out(f"{ending.reason}")
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
        if not FROM_SCRATCH.isdisjoint(family.overrides):
            small = found.side is not None and found.side <= _SMALLER_SIDE
            return None if small else _SMALLER
        return _SMALLER_TUNED if found.published and found.seconds > 0 else None


def _on_fewer(found: Prepared, few: int, count: int) -> Prepared:
    """Return what was found of hand-crafted features for `few` of the `count` training pictures.

    A fit to fewer takes less in proportion at least, and a search is bounded.
    """
    share = few / count
    fits = {
        name: one if _SEARCH in name else share * one for name, one in found.fit_seconds.items()
    }
    return replace(
        found,
        seconds_per_epoch=partly(found.seconds, share),
        fit_seconds=fits,
        overrides=[f"data.train_limit={few}", *found.overrides],
        parts={**found.parts, "train": few, "dropped": count - few},
        notes=[*found.notes, _fewer(few, count)],
    )


def _fewer(few: int, count: int) -> str:
    return f"data.train_limit={few} of {count:,} training pictures, for lack of time"
