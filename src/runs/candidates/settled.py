"""The settings that a candidate leaves open, chosen once for many runs of its kind."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ...config.features import (
    ClassicalSettings,
    EmbeddingSettings,
    HandcraftedSettings,
    PixelsSettings,
)
from ...config.models import NetworkSettings
from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...machine.parallel import TooSlow
from ...records.trials import NetworkRecord
from ..build import COMPARED_SIDE
from ..resolve import resolve, seconds_per_epoch
from .affordable import Option, counts_by_share

if TYPE_CHECKING:
    from .network_choice import NetworkChoice
    from .picture_fit import FitChoice

__all__ = ["Settled", "settled"]

# Time of the search for a classifier, as a fraction of that of choosing and describing.
_HEADS_SHARE = 0.25
# Most stages in which the pictures are described, each of twice as many as the one before.
_STAGES = 5
# Number of times that networks are chosen, if the first choice turns out to be too slow.
_TRIES = 3


@dataclass(frozen=True)
class Settled:
    """The settings of a candidate without any `auto`, and the expected time of a fit.

    Attributes:
        data: the pictures, as these settings have them decoded where `sized`; else smaller, for
            there was no time to decode them.
        epochs: of a whole fit; 1 for candidates without epochs.
        notes: sentences on how the settings were chosen.
        networks: those that frozen networks were chosen among.
        cut: whether more time could have led to another choice of them.
        promise: of the chosen networks, as `NetworkChoice` has it, with the points that another way
            to fit pictures into a square has gained; None for other candidates.
    """

    settings: RunSettings
    data: PictureData
    epochs: int
    seconds_per_epoch: float
    notes: tuple[str, ...] = ()
    networks: tuple[NetworkRecord, ...] = ()
    cut: bool = False
    sized: bool = True
    promise: float | None = None


def settled(
    settings: RunSettings,
    open_pictures: Callable[[RunSettings], PictureData],
    *,
    networks: bool,
    seconds: float | None,
    searching: bool = False,
    late_by: float = 0.0,
    at_once: bool = False,
    fits: bool = False,
) -> Settled:
    """Choose the settings that a candidate leaves open, once for many runs of its kind.

    The features that these runs share are computed here, with all cores.

    Args:
        settings: of a run.
        open_pictures: returns the pictures of a run's settings, as `build_data` does.
        networks: whether frozen networks are to be chosen among those that can be loaded.
        seconds: limit for measuring, choosing and computing features; None for no limit.
        searching: whether some of these runs search for a classifier, though this one does not.
        late_by: seconds by which features of chosen networks may come later before they are given
            up, but for a half, a quarter ... of the training pictures that are described by then.
        at_once: whether networks by which the pictures are described already come before better
            ones, as `choose_networks` has it.
        fits: whether it is chosen as well how frozen networks have pictures fitted into a square,
            as `choose_fit` has it.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    deadline = None if seconds is None else time.perf_counter() + seconds
    model = settings.model
    if isinstance(model, NetworkSettings):
        data = open_pictures(settings)
        settings = resolve(settings, data, deadline).settings
        epochs = settings.trainer.epochs
        return Settled(settings, data, epochs, seconds_per_epoch(settings, data, deadline))
    if isinstance(model, PixelsSettings):
        from .pixels import PixelCandidate

        data = open_pictures(settings)
        each = PixelCandidate(settings, model, data).fit_seconds()
        return Settled(settings, data, 1, each)
    if not isinstance(model, ClassicalSettings):
        return Settled(settings, open_pictures(settings), 1, 0.0)
    if seconds is not None and (searching or model.classifier == "auto"):
        model = _with_short_search(model, seconds)
        settings = replace(settings, model=model)
    if networks and isinstance(model, EmbeddingSettings) and model.run is None:
        latest = None if deadline is None else deadline + late_by
        return _FrozenNetworks(
            settings, model, open_pictures, deadline, latest, at_once, fits
        ).settled()
    data = open_pictures(settings)
    if isinstance(model, HandcraftedSettings):
        from .classical import ClassicalCandidate

        return Settled(
            settings, data, 1, ClassicalCandidate(settings, model, data).describe_seconds()
        )
    try:
        described = _described(settings, data, deadline, open_pictures)
    except TooSlow as late:
        return Settled(settings, data, 1, late.seconds)
    return Settled(
        described.settings, described.data, 1, 0.0, described.notes, cut=described.share < 1
    )


def _with_short_search(model: ClassicalSettings, seconds: float) -> ClassicalSettings:
    """Return the model with a search for a classifier that takes a fraction of the seconds."""
    shortest = min(model.auto.seconds, max(0.1, round(_HEADS_SHARE * seconds, 1)))
    return replace(model, auto=replace(model.auto, seconds=shortest))


class _Described(NamedTuple):
    """What is described of the training pictures in time, with the settings of a run on that."""

    settings: RunSettings
    data: PictureData
    share: float
    notes: tuple[str, ...]


def _described(
    settings: RunSettings,
    data: PictureData,
    deadline: float | None,
    open_pictures: Callable[[RunSettings], PictureData],
) -> _Described:
    """Describe the pictures by frozen networks, or a half, a quarter ... of those that train.

    Args:
        settings, data: of a run, its model one of `ClassicalSettings`.
        deadline: on `time.perf_counter`; None for no limit.
        open_pictures: as of `settled`.

    Raises:
        TooSlow: it is clear that not even the fewest are described by the deadline.
    """
    from .classical import ClassicalCandidate

    model, count = settings.model, len(data.split.train)
    assert isinstance(model, ClassicalSettings)
    candidate = ClassicalCandidate(settings, model, data)
    # A cross-validation holds out each picture once, so that all of them are described.
    if deadline is None or settings.cv.folds is not None:
        candidate.describe(deadline)
        return _Described(settings, data, 1.0, ())
    views, classes = model.views(settings.data.mirror_ok), len(data.pictures.class_names)
    shares = [*counts_by_share(views * count, 0, classes)][:_STAGES]
    share = candidate.describe(deadline, shares)
    if share == 1:
        return _Described(settings, data, share, ())
    most = math.ceil(share * count)
    note = f"data.train_limit={most} of {count:,} training pictures: there was no time for more"
    settings = replace(settings, data=replace(settings.data, train_limit=most))
    return _Described(settings, open_pictures(settings), share, (note,))


class _Chosen(NamedTuple):
    """Frozen networks and how pictures are fitted for them, and the settings of a run with both."""

    networks: NetworkChoice
    fit: FitChoice
    settings: RunSettings


@dataclass(frozen=True)
class _FrozenNetworks:
    """Chooses frozen networks, and describes the pictures by them until a deadline.

    Attributes:
        settings: of a run, with its model.
        deadline, latest: on `time.perf_counter`, for choosing and for describing; None for no
            limit.
        open_pictures, at_once, fits: as of `settled`.
    """

    settings: RunSettings
    model: EmbeddingSettings
    open_pictures: Callable[[RunSettings], PictureData]
    deadline: float | None
    latest: float | None
    at_once: bool
    fits: bool

    def settled(self) -> Settled:
        """Choose networks, again if describing turns out to be too slow, and describe by them.

        Until the networks are known, and with them the size that they take pictures at, the
        pictures are opened as small as they are compared with each other.
        """
        from .network_choice import described_by, keep_described
        from .picture_fit import FitChoice, kept_fit

        side = self.model.input_size or COMPARED_SIDE
        data = self.open_pictures(
            replace(self.settings, model=replace(self.model, input_size=side))
        )
        fit = (kept_fit(self.settings, data) if self.fits else None) or FitChoice(
            self.settings.data.fit
        )
        notes: tuple[str, ...] = ()
        found, opened, took = self.settings, data, 0.0
        gone = set[Option]()
        for attempt in range(_TRIES):
            if attempt and self._is_late():
                break  # timing the networks again would use up the time left
            known = described_by(fit.apply(self.settings), data) - gone
            choice, fit, found = self._chosen(data, fit, known, anew=attempt > 0)
            notes += choice.notes
            notes += tuple(note for note in fit.notes if note not in notes)
            if choice.seconds and self._is_late(choice.seconds):
                # Nothing is described that cannot finish in time.
                return Settled(found, data, 1, choice.seconds, notes, cut=True, sized=False)
            try:
                opened = self.open_pictures(found)
                described = _described(found, opened, self.latest, self.open_pictures)
            except TooSlow as late:
                took = late.seconds
                if choice.options <= known:  # expected to be stored, but gone
                    gone |= choice.options
                notes += (f"given up: {late}, for the machine is slower than it was a moment ago",)
                continue
            choice = choice.reduced(described.share)
            keep_described(fit.apply(self.settings), data, choice)
            found, opened, notes = described.settings, described.data, notes + described.notes
            cut, promise = choice.cut or fit.cut, choice.promise + fit.points
            return Settled(found, opened, 1, 0.0, notes, choice.considered, cut, promise=promise)
        return Settled(found, opened, 1, took, notes, cut=True)

    def _chosen(
        self, data: PictureData, fit: FitChoice, known: Collection[Option], *, anew: bool
    ) -> _Chosen:
        """Choose networks, and the fit if it is to be chosen.

        Args:
            data: the pictures, in any format.
            fit: that is used until another one is chosen.
            known: what the pictures are described by already.
            anew: as of `choose_networks`.
        """
        from .network_choice import choose_networks
        from .picture_fit import choose_fit

        choice = choose_networks(
            self.settings,
            data,
            self._left(),
            anew=anew,
            described=known,
            at_once=self.at_once,
        )
        size = choice.input_size or self.model.input_size
        chosen = replace(self.model, networks=list(choice.networks), input_size=size)
        found = replace(self.settings, model=chosen)
        if self.fits:
            described = choice.options <= frozenset(known)
            no_time = (self.at_once and described) or not choice.is_native
            fit = choose_fit(
                found,
                data,
                choice.speeds,
                seconds=0.0 if no_time else self._left(),
                open_pictures=self.open_pictures,
                described=described,
            )
        found = fit.apply(found)
        if choice.share < 1:
            most = math.ceil(choice.share * len(data.split.train))
            found = replace(found, data=replace(found.data, train_limit=most))
        return _Chosen(choice, fit, found)

    def _left(self) -> float | None:
        return None if self.deadline is None else self.deadline - time.perf_counter()

    def _is_late(self, seconds: float = 0.0) -> bool:
        """Return whether what ends in so many seconds ends after `latest`."""
        return self.latest is not None and time.perf_counter() + seconds > self.latest
