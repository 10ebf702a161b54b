"""What a family's own configuration takes on this machine, made to fit into a sweep's time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

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
from .clock import ALLOWANCE, LITTLE, Clock, Share
from .families import FROM_SCRATCH, default_values, is_of, kinds_of
from .forecast import Forecast
from .prepared import NOT_OPENED, PREPARED, THREADS, Prepared, kept_preparations
from .short_budget import (
    TUNED_SIDE,
    crafted_seconds,
    partly,
    pictures_within,
    training_pictures,
    tuned_epoch,
)
from .tasks import SweepJobs

__all__ = ["Preparation"]

# What a study keeps the names under of families that some start left out.
_LEFT_OUT = "left_out"
# For all workers, and of the time that is left. Those of a cluster may wait for room much longer,
# and are on other machines.
_GATHER_SECONDS, _GATHER_SHARE = 20.0, 0.1
# In less nothing can be measured.
_LEAST_MEASURING = 2.0
# Pictures are described once more where at least so many seconds are left beside those of a trial,
# of which other work may take a part.
_LEAST_DESCRIBING, _SURE = 15.0, 0.85
# What measures and describes watches its time; after so many times as long it is stopped all the
# same, for a step of a large network on a busy machine, or decoding, may take longer than expected.
_STOPPED = 1.1
# All cores are for one network where it takes no longer than so much of the time with its own.
_FASTER = 0.8
# Fewer epochs than these are no measure of a network from scratch; a pretrained one is good before
# the first.
_LEAST_EPOCHS, _LEAST_PRETRAINED = 3, 1
# But where no other family can answer, a part of an epoch is better than no answer. A pretrained
# network has its head fitted first, which takes a pass through it, a third of a step.
_LEAST_PART, _LEAST_TUNED = 0.05, 0.5
# What makes a network cheaper whose own configuration cannot be afforded: from scratch, and tuned.
_SMALLER_SIDE = 64
_SMALLER, _SMALLER_TUNED = f"data.image_size={_SMALLER_SIDE}", f"model.input_size={TUNED_SIDE}"
# In the name of a kind of trials.
_SEARCH = "model.classifier=auto"


@dataclass(frozen=True)
class Preparation:
    """Measures families, each alone in the pool, and fits their trials into the time that is left.

    What is known of a family is in `jobs.prepared` from then on, and in the study.

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

    # The families, one after another.

    def run(self) -> Iterator[str]:
        """Find out what the families take, one after another on an otherwise idle machine.

        Yield a family of which the next trial is to run before the others are measured, since it
        takes next to nothing, as with features of a frozen network that are known by then.
        """
        families, found, clock = self.jobs.families, self.jobs.prepared, self.clock
        kept = kept_preparations(self.jobs.study)
        if any(name not in kept or clock.has_more(kept[name].limit) for name in families):
            share = _GATHER_SHARE * (clock.left or math.inf)
            self.pool.gather(min(_GATHER_SECONDS, share), self.check)
        # Trials that an earlier start left running go on as soon as others begin.
        found.update({name: kept[name] for name in families if name in kept})
        described = False
        for name, family in families.items():
            renewed = False
            if name not in found:
                new = self._new(family)
                if isinstance(new, str):
                    self.show(f"{name}: left out, {new}")
                    continue
                self._keep(name, new)
            elif renewed := clock.has_more(found[name].limit) and not clock.trials_wait:
                self._keep(name, self.measure(family))
            one = found[name]
            if one.affordable and not described:
                described = True
                for line in one.data:
                    self.show(f"data: {line}")
            immediate = one.affordable and one.published and one.seconds == 0
            if immediate and (renewed or not self.jobs.study.trials()):
                yield name
                while self._improved(family):
                    yield name
        missing = {n for n in families if n not in found or not found[n].affordable}
        if missing:
            self.jobs.study.remember(_LEFT_OUT, sorted(self._left_out() | missing))

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
    def _answers_first(self) -> bool:
        """Whether the next trial is the first of all, and there is time to better it."""
        most = self.jobs.settings.budget.trials or math.inf
        return self.clock.race_left is not None and most > 1 and not self.jobs.study.trials()

    def _left_out(self) -> set[str]:
        return set(self.jobs.study.recall(_LEFT_OUT) or ())

    @property
    def ready(self) -> list[str]:
        """The families whose trials can begin."""
        return [name for name, one in self.jobs.prepared.items() if one.affordable]

    def _new(self, family: Family) -> Prepared | str:
        """Return what a new family takes, or why no time is spent on measuring it.

        Where trials of others wait, hand-crafted features have a cheap try: where describing all
        training pictures would take more than a small part of the time, on a half of them, ...
        """
        clock, left = self.clock, self.clock.race_left
        if not self.ready:
            if clock.trials_wait and (clock.share(False).measuring or 0.0) < _LEAST_MEASURING:
                return "for time is up"
            return self.measure(family)
        known, base = self.jobs.prepared.values(), self.jobs.base
        if left is None or not clock.trials_wait:
            epoch = tuned_epoch(family, known, self.pool.size)
            if left is None or epoch <= ALLOWANCE * left:
                return self.measure(family)
            return (
                f"for an epoch would take some {duration(epoch)} by the speed of the frozen "
                f"networks, and a trial may take {duration(ALLOWANCE * left)} of this budget"
            )
        if not left:
            return "for the time of trials is over"
        needed, count = crafted_seconds(family, known), training_pictures(known)
        few = pictures_within(LITTLE * left, count, needed, base)
        if few is None:
            took = f": a try would take some {duration(needed)} of {duration(left)}"
            return f"so that the others have time for trials{took if needed else ''}"
        if few >= count:
            return self.measure(family)
        found = self._measured(family, (f"data.train_limit={few}",), Share(LITTLE * left))
        if found.affordable:
            found = found.but(_fewer(few, count))
        return replace(found, limit=left)

    def _improved(self, family: Family) -> bool:
        """Describe the pictures better where the time that is left buys that; return whether so."""
        trials, most = self.jobs.study.trials(), self.jobs.settings.budget.trials
        if self.jobs.prepared[family.name].limit is None or len(trials) >= (most or math.inf):
            return False
        # The last trial shows what one takes once the pictures are described.
        took = [trial.seconds or math.inf for trial in trials if trial.family == family.name]
        seconds = _SURE * (self.clock.race_left or 0.0) - took[-1] if took else 0.0
        if seconds < _LEAST_DESCRIBING:
            return False
        what = "what the time that is left buys"
        return self._keep(family.name, self._measured(family, (), Share(seconds), what))

    def _keep(self, name: str, new: Prepared) -> bool:
        """Keep what was found of a family where it betters what is known; return whether so."""
        for note in new.notes:
            self.show(f"{name}: {note}")
        found, old = self.jobs.prepared, self.jobs.prepared.get(name)
        if old is not None and not (new.affordable and new.betters(old)):
            # The next start does not try the same again.
            limit = new.limit if new.affordable else self.clock.race_left or 0.0
            limit = None if limit is None else max(limit, old.limit or 0.0)
            found[name] = replace(old, limit=limit)
        else:
            found[name] = new
        # What was left out may have its turn when the study gets more time.
        fitting = {name: asdict(one) for name, one in found.items() if one.affordable}
        self.jobs.study.remember(PREPARED, fitting)
        return found[name] is new

    # One of them.

    def measure(self, family: Family) -> Prepared:
        """Return what the family's own configuration takes, made to fit where it does not.

        A network gets smaller pictures first, then fewer epochs, and hand-crafted features get
        fewer training pictures. An only family has nearly all of the time, and a network that has
        none for its epochs is trained until a clock ends it. Frozen networks by which the pictures
        are described already come before better ones where the first trial of all is next.

        Raises:
            ConfigError: the pictures or the settings are wrong.
            RunFailed: it cannot be trained.
        """
        frozen, crafted = is_of(family, "embedding"), is_of(family, "handcrafted")
        only = self._is_only(family)
        share = self.clock.share(bool(self.ready), describes=frozen, only=only)
        at_once = frozen and self._answers_first
        found = self._measured(family, (), share, at_once=at_once)
        if share.trial is None or not found.affordable:
            return found
        # The first trial of an only family has no other to tell whether there is time for its fit.
        takes = self._with_fit(family, found) if crafted and only else found.seconds
        most = self._most(family, share)
        if takes <= most:
            return found
        found = replace(found, limit=share.left)
        if crafted or frozen:
            count = training_pictures([found])
            few = pictures_within(most, count, takes, self.jobs.base) if crafted else None
            took = f"describing the pictures would take {duration(takes)} of this budget"
            return _on_fewer(found, few, count) if few else found.left_out(took)
        for cheaper in (self._on_smaller, self._with_all_cores):
            found = cheaper(family, found, share)
            if found.seconds <= self._most(family, share):
                return found
        return self._with_fewer_epochs(family, found, self._most(family, share))

    def _is_only(self, family: Family) -> bool:
        """Return whether a family races alone that may have more time for it."""
        return len(self.jobs.families) == 1 and not is_of(family, "embedding")

    def _most(self, family: Family, share: Share) -> float:
        """Return the seconds that its first trial may take; an only one has all that are left."""
        return self.clock.alone if self._is_only(family) else share.trial or 0.0

    def _again(self, family: Family, changes: Sequence[str], share: Share) -> Prepared:
        """Return what was measured anew with these changes."""
        measuring = self.clock.share(bool(self.ready)).measuring
        return self._measured(family, changes, Share(measuring, trial=self._most(family, share)))

    def _on_smaller(self, family: Family, found: Prepared, share: Share) -> Prepared:
        """Return what was found of a network on smaller pictures, where that is faster."""
        data, words = self.jobs.settings.data, (*self.jobs.base, *family.overrides)
        # Smaller windows would be as many more, and a size that is searched is each trial's own.
        sizes = "data.image_size=", "model.input_size=", "data.fit=windows"
        stated = any(word.startswith(sizes) for word in words)
        searched = any(one.key == "data.image_size" for one in family.parameters)
        if is_of(family, *FROM_SCRATCH):
            smaller, small = _SMALLER, (found.side or _SMALLER_SIDE + 1) <= _SMALLER_SIDE
        else:
            smaller, small = _SMALLER_TUNED, not found.published
        # Figures of pixels in two sizes do not compare.
        if stated or searched or small or kind_of(data.target).pixels:
            return found
        cheaper = self._again(family, (smaller,), share)
        if not cheaper.affordable or cheaper.seconds >= found.seconds:
            return found
        return replace(cheaper, limit=found.limit).but(f"{smaller}, for lack of time")

    def _with_all_cores(self, family: Family, found: Prepared, share: Share) -> Prepared:
        """Return what was found of an only network with the threads of all slots, where it pays.

        Where a training must be cut, a longer one is worth more than two at the same time.
        """
        settings, threads = self.jobs.settings, available_cores()
        workers, word = settings.workers, f"{THREADS}{threads}"
        stated = "OMP_NUM_THREADS" in os.environ or settings.runtime.threads not in ("auto", None)
        divided = workers.engine == "local" and workers.count is None and workers.threads is None
        alone = self._is_only(family) and self.pool.size > 1 and settings.trainer.devices == 1
        if not alone or stated or not divided:
            return found
        # What is no network has no threads of this kind, and those of other programs delay all.
        threaded = effective_overrides([word], family.overrides)
        if not threaded or threads_beside(others_load(), threads) < threads:
            return found
        # What was chosen for one thread is kept, for choosing takes longer than a few steps.
        faster = self._again(family, [*found.overrides, word], share)
        if not faster.affordable or faster.seconds > _FASTER * found.seconds:
            return found
        note = f"{word}, one trial at a time: a training takes the whole of this budget"
        before = [known for known in found.notes if known != NOT_OPENED]
        return replace(faster, limit=found.limit, notes=[*before, *faster.notes, note])

    def _with_fewer_epochs(self, family: Family, found: Prepared, most: float) -> Prepared:
        """Return what was found of a network with as many epochs as there is time for."""
        only, from_scratch = self._is_only(family), is_of(family, *FROM_SCRATCH)
        times = f"{found.trainings} times " if found.trainings > 1 else ""
        cost = f"{times}{found.epochs} epochs would take {duration(found.seconds)}"
        each = found.seconds_per_epoch
        there_are = most / (each * found.trainings)
        epochs = int(there_are)
        if epochs < min(_LEAST_EPOCHS if from_scratch else _LEAST_PRETRAINED, found.epochs):
            if not only or there_are < (_LEAST_PART if from_scratch else _LEAST_TUNED):
                limit = f"a trial may take {duration(most)} of this budget"
                return found.left_out(f"{cost}, and {limit}")
            epochs, each = max(1, epochs), min(each, most / found.trainings)
        word = f"trainer.max_epochs={epochs}"
        return found.but(
            f"{word}, for {cost}",
            epochs=epochs,
            seconds_per_epoch=each,
            overrides=[*found.overrides, word],
        )

    def _with_fit(self, family: Family, found: Prepared) -> float:
        """Return the seconds of a trial of the family's own configuration, its fit included."""
        own = default_values(family, self.jobs.base)
        kind = next(kind for kind in kinds_of(family) if kind.holds(family.name, own))
        return Forecast({family.name: family}, {family.name: found}).needed(kind, ())

    def _measured(
        self,
        family: Family,
        changes: Sequence[str],
        share: Share,
        what: str = "how to train it on this machine",
        at_once: bool = False,
    ) -> Prepared:
        """Return what a worker measures of a family's own configuration with these changes."""
        least = _LEAST_PART if self._is_only(family) else _LEAST_EPOCHS
        job = self.jobs.prepare(family, changes, share, least, at_once)
        left, seconds = self.clock.race_left, share.measuring
        most = None if seconds is None else _STOPPED * (seconds + share.late_by)
        limit = "" if seconds is None else f", for up to {duration(seconds)}"

        def doing(line: str) -> None:
            self.doing(f"{family.name}: {line}")

        doing(f"finding out {what}{limit}")
        ending = run_single(self.pool, job, self.check, seconds=most, doing=doing)
        unknown = Prepared(list(changes), 1, 0.0)
        if most is not None and ending.state == "pruned":
            took = f"to measure it took more than {duration(most)}"
            return replace(unknown, limit=left).left_out(took)
        if ending.result.get("wrong_input"):
            raise ConfigError(f"{family.name}: {ending.reason}")
        if ending.state in ("lost", "gone"):  # another one may be smaller
            return unknown.left_out(f"{ending.reason}")
        if ending.state != "complete":
            raise RunFailed(f"the family {family.name} cannot be trained: {ending.reason}")
        found = Prepared(**ending.result)
        if found.limit is not None:  # those of describing, which are a part of those of the race
            # What answers at once took none of them: a start after a kill looks for better, too.
            found = replace(found, limit=0.0 if at_once and not found.seconds else left)
        return replace(found, overrides=[*changes, *found.overrides])


def _on_fewer(found: Prepared, few: int, count: int) -> Prepared:
    """Return what was found of hand-crafted features for `few` of the `count` training pictures.

    A fit to fewer takes less in proportion at least, and a search is bounded.
    """
    share = few / count
    fits = {
        name: one if _SEARCH in name else share * one for name, one in found.fit_seconds.items()
    }
    return found.but(
        _fewer(few, count),
        seconds_per_epoch=partly(found.seconds, share),
        fit_seconds=fits,
        overrides=[f"data.train_limit={few}", *found.overrides],
        parts={**found.parts, "train": few, "dropped": count - few},
    )


def _fewer(few: int, count: int) -> str:
    return f"data.train_limit={few} of {count:,} training pictures, for lack of time"
