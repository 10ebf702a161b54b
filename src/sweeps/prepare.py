"""Which families of a sweep are measured when, and which of their results are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

from ..reporting.formatting import duration
from ..search.space import Family
from .clock import CHEAP_TRIAL_FRACTION
from .prepared import LEFT_OUT, PREPARED, Prepared, kept_preparations, kept_reasons
from .reduction import LEAST_MEASURING, Reduction, describe_limit
from .short_budget import (
    affordable_pictures,
    count_training_pictures,
    estimate_finetuning_epoch,
    estimate_handcrafted_trial,
    least_epochs,
)

__all__ = ["Preparation"]

# Longest wait for all workers to start, in seconds and as a fraction of the time left. Workers of a
# cluster may wait for resources much longer, and run on other machines.
_GATHER_SECONDS, _GATHER_SHARE = 20.0, 0.1
# Pictures are described again, by better networks, where at least so many seconds are left beside a
# trial; `_SURE` of the time left is counted on, since other programs may slow the machine down.
_LEAST_DESCRIBING, _SURE = 15.0, 0.85


class Preparation:
    """Measures the families of a sweep one after another, as far as there is time for their trials.

    Its result is kept in the `prepared` of the sweep's jobs, and in the study.

    Args:
        reduction: measures a family, and has the clock and the jobs.
        show: called with lines to print.
    """

    def __init__(self, reduction: Reduction, show: Callable[[str], None]) -> None:
        self._reduction = reduction
        self._clock, self._jobs = reduction.clock, reduction.jobs
        self._show = show

    def run(self) -> Iterator[str]:
        """Measure the families, one after another on an otherwise idle machine.

        Yields:
            the name of a family whose next trial is to run before the other families are measured,
            since it takes hardly any time: the features of its frozen network are stored already.
        """
        families, found, clock = self._jobs.families, self._jobs.prepared, self._clock
        kept = kept_preparations(self._jobs.study)
        if any(name not in kept or clock.has_more(kept[name].limit) for name in families):
            share = _GATHER_SHARE * (clock.left or math.inf)
            self._reduction.pool.gather(min(_GATHER_SECONDS, share), self._reduction.check)
        # Trials that an earlier start left running are resumed as soon as others begin.
        found.update({name: kept[name] for name in families if name in kept})
        described, reasons = False, kept_reasons(self._jobs.study)
        for name, family in families.items():
            renewed = False
            if name not in found:
                new = self._measure_new(family)
                if isinstance(new, str):
                    self._show(f"{name}: left out: {new}")
                    reasons[name] = new
                    continue
                self._keep(name, new)
            elif renewed := clock.has_more(found[name].limit) and not clock.trials_wait:
                self._keep(name, self._reduction.measure(family))
            one = found[name]
            if one.affordable and not described:
                described = True
                for line in one.data:
                    self._show(f"data: {line}")
            if one.is_described and (renewed or not self._jobs.study.trials()):
                yield name
                while self._improve(family):
                    yield name
        reasons |= {name: one.why_left_out for name, one in found.items() if not one.affordable}
        if reasons:
            self._jobs.study.remember(LEFT_OUT, reasons)

    def newly_affordable(self) -> set[str]:
        """Return the families that fit only now, and did not in an earlier start of the study.

        The number of trials in the budget may be used up without any trial of theirs.
        """
        prepared, study = self._jobs.prepared, self._jobs.study
        fitting = {name: list(one.overrides) for name, one in prepared.items() if one.affordable}
        kept = [(trial.family, study.facts(trial.number)) for trial in study.trials()]
        begun = {name for name, _ in kept}
        tried = {name for name, facts in kept if facts.get(PREPARED) in (None, fitting.get(name))}
        return ((kept_reasons(study).keys() | begun) & fitting.keys()) - tried

    def _measure_new(self, family: Family) -> Prepared | str:
        """Measure a family for the first time, or return why no time is spent on that.

        Late in a race the time is kept for trials of the families that are ready, with two
        exceptions. Hand-crafted features are still measured, on a fraction of the training pictures
        where all of them would take too long. And a published network is, if an estimate says that
        its first trial fits: it is worth more than further trials of families that had theirs.
        """
        clock, left = self._clock, self._clock.race_left
        if not self._jobs.ready:
            if clock.trials_wait and (clock.share(False).measuring or 0.0) < LEAST_MEASURING:
                return "no time is left"
            return self._reduction.measure(family)
        known, base = self._jobs.prepared.values(), self._jobs.base
        epoch = estimate_finetuning_epoch(family, known, self._reduction.sharing)
        tried = {trial.family for trial in self._jobs.study.trials()}
        if left is None or not clock.trials_wait or (epoch and tried.issuperset(self._jobs.ready)):
            share = clock.share(True)
            trainings = self._jobs.settings.cv.trainings
            trial = Prepared([], least_epochs(family, known), epoch, trainings=trainings)
            if share.trial is None or trial.seconds <= share.trial:
                return self._reduction.measure(family)
            if self._reduction.fits(family, trial, share.measuring or 0.0):
                return self._reduction.measure(family)
            speed = "estimated from the speed of the frozen networks"
            return f"{trial.takes('about ')}, {speed}, and {describe_limit(share.trial)}"
        if not left:
            return "no time is left for trials"
        needed, count = estimate_handcrafted_trial(family, known), count_training_pictures(known)
        few = affordable_pictures(CHEAP_TRIAL_FRACTION * left, count, needed, base)
        if few is None:
            others = " and ".join(self._jobs.ready)
            took = f", and one of its own would take about {duration(needed)}" if needed else ""
            return f"the {duration(left)} left for trials are those of {others}{took}"
        if few >= count:
            return self._reduction.measure(family)
        return self._reduction.measure_few_pictures(family, few, count, left)

    def _improve(self, family: Family) -> bool:
        """Describe the pictures by better networks if there is time; return whether it was."""
        trials, most = self._jobs.study.trials(), self._jobs.settings.budget.trials
        if self._jobs.prepared[family.name].limit is None or len(trials) >= (most or math.inf):
            return False
        # The last trial shows how long one takes once the pictures are described.
        took = [trial.seconds or math.inf for trial in trials if trial.family == family.name]
        seconds = _SURE * (self._clock.race_left or 0.0) - took[-1] if took else 0.0
        if seconds < _LEAST_DESCRIBING:
            return False
        return self._keep(family.name, self._reduction.choose_networks_again(family, seconds))

    def _keep(self, name: str, new: Prepared) -> bool:
        """Store a new result of a family if it is better than the old one; return whether it is."""
        found, old = self._jobs.prepared, self._jobs.prepared.get(name)
        for note in new.notes:
            if old is None or note not in old.notes:
                self._show(f"{name}: {note}")
        if old is not None and not (new.affordable and new.betters(old)):
            # Makes the next start not repeat the same measurement.
            limit = new.limit if new.affordable else self._clock.race_left or 0.0
            limit = None if limit is None else max(limit, old.limit or 0.0)
            found[name] = replace(old, limit=limit)
        else:
            found[name] = new
        # Families that were left out are measured again when the study gets more time.
        fitting = {name: asdict(one) for name, one in found.items() if one.affordable}
        self._jobs.study.remember(PREPARED, fitting)
        return found[name] is new
