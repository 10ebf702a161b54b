"""Measure the default configuration of a family, and reduce it until it fits the time budget."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..config.checks import ConfigError
from ..config.compose import effective_overrides
from ..config.overrides import changed
from ..machine.cpu_load import others_load, threads_beside
from ..machine.failures import RunFailed
from ..machine.parallel import available_cores
from ..records.trials import COMPLETE
from ..reporting.formatting import duration
from ..search.loop import run_single
from ..search.pool import Pool
from ..search.space import Family
from ..targets import kind_of
from .clock import CHEAP_TRIAL_FRACTION, FIRST_TRIAL_FRACTION, Clock, TimeShare
from .families import chooses_network, default_values, is_from_scratch, is_of, kinds_of
from .forecast import TimeForecast
from .prepared import NETWORK, NOT_OPENED, THREADS, Prepared
from .short_budget import (
    REFERENCE_SIDE,
    TUNED_SIDE,
    affordable_pictures,
    cheaper_networks,
    count_training_pictures,
    estimate_finetuning_epoch,
    least_epochs,
    network_to_tune,
    seconds_on_fraction,
)
from .tasks import SweepJobs

__all__ = ["LEAST_MEASURING", "Reduction", "describe_limit"]

# Seconds below which nothing can be measured.
LEAST_MEASURING = 2.0
# A worker that measures watches its own time limit; after so many times the limit it is stopped,
# for a step of a large network on a busy machine, or decoding, may take longer than expected.
_STOPPED = 1.1
# One network gets all cores if a training then takes at most this fraction of the time.
_FASTER = 0.8
# Fewest epochs of the only family of a sweep, where a part of an epoch is better than no result. A
# pretrained network has its head fitted first, which takes a forward pass, a third of a step.
_LEAST_PART, _LEAST_TUNED = 0.05, 0.5
# Overrides for smaller pictures where the default ones are too slow: from scratch, and fine-tuned.
_SMALLER_SIDE = 64
_SMALLER, _SMALLER_TUNED = f"data.image_size={_SMALLER_SIDE}", f"model.input_size={TUNED_SIDE}"
# How a picture becomes a square, which is compared for frozen networks.
_FIT = "data.fit="
# A published network is not measured at its full size where all epochs would take so many times as
# long as a trial may by the speed of frozen networks, which is an estimate.
_CLEARLY_TOO_LONG = 2.0
# What is shown while a family is measured.
_MEASURING = "measuring its speed on this machine"
_CHOOSING = "choosing networks and extracting their features"
_IMPROVING = "looking for better networks in the time left"
# Part of the names of the kinds of trials that search for a classifier.
_SEARCH = "model.classifier=auto"


@dataclass(frozen=True)
class Reduction:
    """Measures families, each alone in the pool, and reduces them until a trial fits.

    Attributes:
        pool: started and idle.
        check: called repeatedly; an exception that it raises ends the measurement.
        doing: called with a description of the current step.
        further: as of `TimeForecast.affordable`.
    """

    pool: Pool
    clock: Clock
    jobs: SweepJobs
    check: Callable[[], None]
    doing: Callable[[str], None]
    further: Callable[[float, str], float]

    @property
    def sharing(self) -> int:
        """The number of trainings that share the cores, or the GPU, that frozen networks had."""
        frozen = (one for one in self.jobs.prepared.values() if one.networks)
        on_gpu = any(one.device != "cpu" for one in frozen)
        return self.jobs.settings.workers.per_gpu if on_gpu else self.pool.size

    def measure(self, family: Family) -> Prepared:
        """Measure the default configuration of a family, and reduce it until it fits the budget.

        A network gets smaller pictures first, then fewer epochs; hand-crafted features get fewer
        training pictures. A network that was chosen to be tuned and turns out too slow is replaced,
        once, by a cheaper one. A family that races alone has nearly all of the time, and a network
        of it without time for its fewest epochs is trained up to a limit of time. Where the first
        trial of the study is next, frozen networks whose features are stored come before better
        ones.

        Raises:
            ConfigError: the pictures or the settings are wrong.
            RunFailed: the family cannot be trained.
        """
        only, frozen = self._is_only(family), is_of(family, "embedding")
        share = self.clock.share(bool(self.jobs.ready), describes=frozen, only=only)
        network, is_cut = self._network_to_tune(family, self._first_trial_seconds(family, share))
        found = self._reduced(family, share, network, "chosen among the frozen networks")
        if is_cut:
            found = replace(found, limit=share.left)
        cheaper = self._cheaper_network(family, found) if network and found.is_late else None
        if cheaper is None:
            return found
        why = f"since {network} is too slow: {found.why_left_out}"
        share = self.clock.share(bool(self.jobs.ready))
        return replace(self._reduced(family, share, cheaper, why), limit=share.left)

    def measure_few_pictures(
        self, family: Family, few: int, count: int, seconds: float
    ) -> Prepared:
        """Measure hand-crafted features on `few` of the `count` training pictures.

        Args:
            seconds: that are left for trials, of which a cheap one takes its fraction.
        """
        share = TimeShare(CHEAP_TRIAL_FRACTION * seconds)
        found = self._measured(family, (f"data.train_limit={few}",), share)
        if found.affordable:
            found = found.but(_fewer_pictures_note(few, count))
        return replace(found, limit=seconds)

    def choose_networks_again(self, family: Family, seconds: float) -> Prepared:
        """Look for better frozen networks in these seconds, and describe the pictures by them."""
        return self._measured(family, (), TimeShare(seconds), _IMPROVING)

    def fits(self, family: Family, found: Prepared, measuring: float = 0.0) -> bool:
        """Return whether a trial of a family and the finals fit into what measuring leaves."""
        took = [trial for trial in self.jobs.study.trials() if trial.state == COMPLETE]
        forecast = TimeForecast({family.name: family}, {family.name: found})
        left = (self.clock.time_left(True) or 0.0) - measuring
        return bool(took and forecast.affordable(left, took, further=self.further))

    @property
    def _answers_first(self) -> bool:
        """Whether the next trial is the first of the study, and there is time for better ones."""
        most = self.jobs.settings.budget.trials or math.inf
        return self.clock.race_left is not None and most > 1 and not self.jobs.study.trials()

    def _reduced(
        self, family: Family, share: TimeShare, network: str | None, why_network: str
    ) -> Prepared:
        """Measure the default configuration of a family, with a network, and make it fit.

        Args:
            network: to tune; None for that of the family's own configuration.
            why_network: why it is this one, for the note on it.
        """
        frozen, crafted = is_of(family, "embedding"), is_of(family, "handcrafted")
        only, at_once = self._is_only(family), frozen and self._answers_first
        most = self._first_trial_seconds(family, share)
        smaller = self._override_by_estimate(family, network, most)
        what = _CHOOSING if frozen else _MEASURING
        found = self._measured(family, [*_named(network), *smaller], share, what, at_once)
        chosen = [] if network is None else [f"{NETWORK}{network}, {why_network}"]
        chosen += map(_for_lack_of_time, smaller)
        found = replace(found, notes=[*chosen, *found.notes])
        if smaller:
            found = replace(found, limit=share.left)
        if share.trial is None or not found.affordable:
            return found
        # Without other families, no earlier trial shows whether there is time for the fit.
        seconds = self._with_fit(family, found) if crafted and only else found.seconds
        most = self._first_trial_seconds(family, share)  # an only family's depends on the clock
        if seconds <= most:
            return found
        found = replace(found, limit=share.left)
        if is_of(family, "pixels"):
            # It cannot be cut, and the first trial of a study may use the finalists' time.
            whole = FIRST_TRIAL_FRACTION * (self.clock.left or 0.0)
            if not self.jobs.ready and seconds <= whole:
                return found
            limit = describe_limit(most)
            return found.left_out(f"a trial would take {duration(seconds)}, and {limit}")
        if crafted or frozen:
            count = count_training_pictures([found])
            few = affordable_pictures(most, count, seconds, self.jobs.base) if crafted else None
            took = f"extracting the features would take {duration(seconds)}"
            return _with_fewer_pictures(found, few, count) if few else found.left_out(took)
        for cheaper in (self._with_smaller_pictures, self._with_all_cores):
            found = cheaper(family, found, share)
            if found.seconds <= self._first_trial_seconds(family, share):
                return found
        return self._with_fewer_epochs(family, found, self._first_trial_seconds(family, share))

    def _is_only(self, family: Family) -> bool:
        """Return whether a family, not of frozen networks, is the only one of the sweep."""
        return len(self.jobs.families) == 1 and not is_of(family, "embedding")

    def _first_trial_seconds(self, family: Family, share: TimeShare) -> float:
        """Return the seconds that the first trial of a family may take; infinite for no limit."""
        if share.trial is None:
            return math.inf
        return self.clock.only_family_seconds if self._is_only(family) else share.trial

    def _measure_again(self, family: Family, changes: Sequence[str], share: TimeShare) -> Prepared:
        """Measure a family again with these changes of its overrides."""
        measuring = self.clock.share(bool(self.jobs.ready)).measuring
        return self._measured(
            family, changes, TimeShare(measuring, trial=self._first_trial_seconds(family, share))
        )

    def _network_to_tune(self, family: Family, most: float) -> tuple[str | None, bool]:
        """Return the network of a family that tunes any, and whether more time may change it.

        None for other families, and where it is that of the family's own configuration.

        Args:
            most: seconds of the family's first trial.
        """
        if not chooses_network(family, self.jobs.base):
            return None, False
        known = self.jobs.prepared.values()
        return network_to_tune(family, known, self.sharing, most / self.jobs.settings.cv.trainings)

    def _cheaper_network(self, family: Family, slow: Prepared) -> str | None:
        """Return the network to tune instead of one that was too slow; None if none fits.

        Args:
            slow: result of that one.
        """
        share, known = self.clock.share(bool(self.jobs.ready)), self.jobs.prepared.values()
        measuring, epochs = share.measuring or 0.0, least_epochs(family, known)
        if measuring < LEAST_MEASURING:
            return None
        side = TUNED_SIDE if _SMALLER_TUNED in slow.overrides else None
        for name, seconds in cheaper_networks(family, known, slow, side).items():
            trial = replace(slow, epochs=epochs, seconds_per_epoch=seconds, affordable=True)
            in_turn = trial.seconds <= (share.trial or 0.0) and not self.clock.trials_wait
            if in_turn or self.fits(family, trial, measuring):
                return name
        return None

    def _override_by_estimate(self, family: Family, network: str | None, most: float) -> list[str]:
        """Return the override of smaller pictures if full ones are clearly too slow to measure.

        That is known of published networks alone, by the speed of frozen ones.

        Args:
            network: that is tuned; None if unknown.
            most: seconds of the family's first trial.
        """
        epochs, known = self.jobs.settings.trainer.max_epochs, self.jobs.prepared.values()
        side, slots = None if network else REFERENCE_SIDE, self.sharing
        trainings = self.jobs.settings.cv.trainings
        each = trainings * estimate_finetuning_epoch(family, known, slots, side, network)
        smaller = self._smaller_pictures(family, published=True, side=REFERENCE_SIDE)
        if smaller is None or not isinstance(epochs, int) or not each:
            return []
        return [smaller] if epochs * each > _CLEARLY_TOO_LONG * most else []

    def _smaller_pictures(self, family: Family, *, published: bool, side: int | None) -> str | None:
        """Return the override of smaller pictures for a network, or None if it keeps its size.

        Args:
            published: whether it starts from published weights.
            side: longer side of the pictures, in pixels; None if unknown.
        """
        data, overrides = self.jobs.settings.data, (*self.jobs.base, *family.overrides)
        # Smaller windows would only be more in number, and a searched size is set by each trial.
        sizes = "data.image_size=", "model.input_size=", "data.fit=windows"
        stated = any(override.startswith(sizes) for override in overrides)
        searched = any(one.key == "data.image_size" for one in family.parameters)
        # Metrics per pixel at two picture sizes cannot be compared.
        if stated or searched or kind_of(data.target).pixels:
            return None
        if is_from_scratch(family):
            return None if side is not None and side <= _SMALLER_SIDE else _SMALLER
        return _SMALLER_TUNED if published else None

    def _with_smaller_pictures(self, family: Family, found: Prepared, share: TimeShare) -> Prepared:
        """Measure a network again on smaller pictures; return the faster of the two results."""
        smaller = self._smaller_pictures(family, published=found.published, side=found.side)
        if smaller is None or smaller in found.overrides:
            return found
        cheaper = self._measure_again(family, [*_named(found.network), smaller], share)
        if not cheaper.affordable or cheaper.seconds >= found.seconds:
            return found
        before = [note for note in found.notes if note.startswith(NETWORK)]
        cheaper = replace(cheaper, limit=found.limit, notes=[*before, *cheaper.notes])
        return cheaper.but(_for_lack_of_time(smaller))

    def _with_all_cores(self, family: Family, found: Prepared, share: TimeShare) -> Prepared:
        """Measure the network of an only family again with the threads of all slots.

        Return the new result if it is clearly faster. Where a training must be cut short, a longer
        one is worth more than two at the same time.
        """
        settings, threads = self.jobs.settings, available_cores()
        workers, override = settings.workers, f"{THREADS}{threads}"
        stated = "OMP_NUM_THREADS" in os.environ or settings.runtime.threads not in ("auto", None)
        divided = workers.engine == "local" and workers.count is None and workers.threads is None
        single = self._is_only(family) and self.pool.size > 1 and settings.trainer.devices == 1
        if not single or stated or not divided:
            return found
        # Only networks have threads of this kind, and on busy cores each thread delays all others.
        threaded = effective_overrides([override], family.overrides)
        if not threaded or threads_beside(others_load(), threads) < threads:
            return found
        # Choices made for one thread are kept: choosing again would take longer than a few steps.
        faster = self._measure_again(family, [*found.overrides, override], share)
        if not faster.affordable or faster.seconds > _FASTER * found.seconds:
            return found
        note = f"{override}, one trial at a time: a training takes the whole budget"
        before = [known for known in found.notes if known != NOT_OPENED]
        return replace(faster, limit=found.limit, notes=[*before, *faster.notes, note])

    def _with_fewer_epochs(self, family: Family, found: Prepared, most: float) -> Prepared:
        """Return the result of a network reduced to as many epochs as there is time for."""
        only, from_scratch = self._is_only(family), is_from_scratch(family)
        cost, each = found.takes(), found.seconds_per_epoch
        fitting = most / (each * found.trainings)
        epochs = int(fitting)
        least = min(least_epochs(family, self.jobs.prepared.values()), found.epochs)
        if epochs < least and self.fits(family, replace(found, epochs=least)):
            epochs = least
        elif epochs < least:
            if not only or fitting < (_LEAST_PART if from_scratch else _LEAST_TUNED):
                return found.left_out(f"{cost}, and {describe_limit(most)}")
            epochs, each = max(1, epochs), min(each, most / found.trainings)
        override = f"trainer.max_epochs={epochs}"
        return found.but(
            f"{override}, because {cost}",
            epochs=epochs,
            seconds_per_epoch=each,
            overrides=[*found.overrides, override],
        )

    def _with_fit(self, family: Family, found: Prepared) -> float:
        """Return the seconds of a trial of the default configuration, including the fit."""
        own = default_values(family, self.jobs.base)
        kind = next(kind for kind in kinds_of(family) if kind.holds(family.name, own))
        return TimeForecast({family.name: family}, {family.name: found}).needed(kind, ())

    def _fit_of_frozen(self, family: Family) -> list[str]:
        """Return the override of `data.fit` that was chosen for frozen networks, if there is one.

        It is for families that neither choose it themselves nor state it; where they search it,
        their default configuration begins with it. What a photo loses to another way hardly depends
        on whether the network is frozen or trained.
        """
        stated = any(one.startswith(_FIT) for one in (*self.jobs.base, *family.overrides))
        if stated or is_of(family, "embedding"):
            return []
        frozen = [name for name, one in self.jobs.families.items() if is_of(one, "embedding")]
        known = [self.jobs.prepared[name] for name in frozen if name in self.jobs.prepared]
        return [fit for one in known for fit in one.overrides if fit.startswith(_FIT)][:1]

    def _measured(
        self,
        family: Family,
        changes: Sequence[str],
        share: TimeShare,
        what: str = _MEASURING,
        at_once: bool = False,
    ) -> Prepared:
        """Have a worker measure the default configuration of a family with these changes."""
        fit = self._fit_of_frozen(family)
        changes = changed(fit, changes)
        known = self.jobs.prepared.values()
        least = _LEAST_PART if self._is_only(family) else least_epochs(family, known)
        job = self.jobs.prepare(family, changes, share, least, at_once)
        left, seconds = self.clock.race_left, share.measuring
        most = None if seconds is None else _STOPPED * (seconds + share.late_by)
        limit = "" if seconds is None else f", for up to {duration(seconds)}"

        def doing(line: str) -> None:
            self.doing(f"{family.name}: {line}")

        doing(f"{what}{limit}")
        ending = run_single(self.pool, job, self.check, seconds=most, doing=doing)
        unknown = Prepared(list(changes), 1, 0.0)
        if most is not None and ending.state == "pruned":
            took = f"measuring its speed took more than {duration(most)}"
            return replace(unknown, limit=left).left_out(took)
        if wrong := ending.result.get("wrong_input"):
            where = "" if wrong == "pictures" else f"{family.name}: "
            raise ConfigError(f"{where}{ending.reason}")
        # Another family may need less memory, or none of what failed, as code of a plugin.
        others = ending.state == "failed" and len(self.jobs.families) > 1
        if others or ending.state in ("lost", "gone"):
            return unknown.left_out(f"{ending.reason}")
        if ending.state != "complete":
            raise RunFailed(f"the family {family.name} cannot be trained: {ending.reason}")
        found = Prepared(**ending.result)
        if found.limit is not None:  # a limit of describing, which is a part of the race's time
            # Stored features took no time: a later start looks for better networks as well.
            found = replace(found, limit=0.0 if at_once and not found.seconds else left)
        notes = [*(f"{override}, as for the frozen networks" for override in fit), *found.notes]
        return replace(found, overrides=[*changes, *found.overrides], notes=notes)


def _with_fewer_pictures(found: Prepared, few: int, count: int) -> Prepared:
    """Return a result of hand-crafted features reduced to `few` of the `count` training pictures.

    The time of a fit falls at least in proportion, and that of a search has a limit anyway.
    """
    share = few / count
    fits = {
        name: one if _SEARCH in name else share * one for name, one in found.fit_seconds.items()
    }
    return found.but(
        _fewer_pictures_note(few, count),
        seconds_per_epoch=seconds_on_fraction(found.seconds, share),
        fit_seconds=fits,
        overrides=[f"data.train_limit={few}", *found.overrides],
        parts={**found.parts, "train": few, "dropped": count - few},
    )


def _named(network: str | None) -> list[str]:
    """Return the override of a network; none for that of the family's own configuration."""
    return [] if network is None else [f"{NETWORK}{network}"]


def _for_lack_of_time(override: str) -> str:
    return f"{override}, for lack of time"


def describe_limit(seconds: float) -> str:
    """Return how long a trial may take, as the end of a reason."""
    return f"the limit of a trial is {duration(seconds)}" if seconds > 0 else "no time is left"


def _fewer_pictures_note(few: int, count: int) -> str:
    return _for_lack_of_time(f"data.train_limit={few} of {count:,} training pictures")
