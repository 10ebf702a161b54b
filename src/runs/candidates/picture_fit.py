"""The choice of how pictures are fitted into the square of frozen networks (`data.fit`).

Which value is better depends on where in a picture its subject is. By five folds of the training
part (benchmarks/fits.py) clothes, which lie in the middle, gain 1.4 to 2.3 points by being cropped,
and magnetic tiles, whose defects lie anywhere, lose 2.5 to 2.8. Such small differences can only be
measured on the whole training part. They hardly depend on the network, so that the fastest of the
chosen ones is used.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...config.data import PictureFit
from ...config.schema import RunSettings
from ...data.decoding.format_choice import chosen_size
from ...data.loading.picture_data import PictureData
from ...features.transfer import CrossValidated, cross_validated, gain
from ...machine.arrays import Float32Array
from ...machine.parallel import TooSlow
from ...machine.text import fixed
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from ..build import feature_table, fold_codes, frozen_network, native_side
from .affordable import SURE
from .sample import embedding_settings

__all__ = ["FitChoice", "choose_fit", "kept_fit"]

_log = logging.getLogger(__name__)

# To be raised when a measurement would hold other values.
_VERSION = 1
_KIND = "fits_of_pictures"
# Values that are compared, the one that was best most often first.
_FITS: tuple[PictureFit, ...] = ("squeeze", "crop", "pad")
# Mean fraction of a picture that a crop cuts off, above which the values are compared.
_MIN_CUT_OFF = 0.1
# Fraction of the time left for the comparison: before the networks describe the pictures, and once
# the features are stored.
_TIME_FRACTION, _TIME_FRACTION_DESCRIBED = 0.25, 0.5
# Number of standard errors by which another value must be better than the one of the settings.
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class FitChoice:
    """How pictures are fitted into a square.

    Attributes:
        fit: the value of `data.fit`.
        points: gain in accuracy, or in mean average precision, over the settings' own value.
        notes: sentences on the choice.
        cut: whether more time could lead to another choice.
    """

    fit: PictureFit
    points: float = 0.0
    notes: tuple[str, ...] = ()
    cut: bool = False

    def apply(self, settings: RunSettings) -> RunSettings:
        """Return the settings with this value."""
        return replace(settings, data=replace(settings.data, fit=self.fit))


def kept_fit(settings: RunSettings, data: PictureData) -> FitChoice | None:
    """Return the stored choice of an earlier `choose_fit` on these pictures, or None."""
    kept = load_measurement(_KIND, _identity(settings, data), settings.data.cache_dir)
    return None if kept is None else _choice(settings, kept)


def choose_fit(
    settings: RunSettings,
    data: PictureData,
    speeds: Mapping[str, float],
    *,
    seconds: float | None,
    open_pictures: Callable[[RunSettings], PictureData],
    described: bool = False,
) -> FitChoice:
    """Choose `data.fit` by cross-validated quick heads on features of the training part.

    The settings' own value is replaced by the best other one if that is better by more than two
    standard errors of the paired difference. Nothing is compared if a crop would cut off hardly
    anything, or if pictures are not fitted into a square.

    Args:
        settings: of a run with the chosen networks.
        data: the pictures, in any format.
        speeds: pictures a second of these networks.
        seconds: for this comparison and for describing the pictures by all networks; None for no
            limit.
        open_pictures: returns the pictures of a run's settings.
        described: whether the networks have described the pictures already.

    Raises:
        ConfigError: the weights of a network are not available.
    """
    if not _matters(settings, data):
        return FitChoice(settings.data.fit)
    known = _identity(settings, data)
    kept = load_measurement(_KIND, known, settings.data.cache_dir)
    others = _affordable(settings, data, speeds, seconds, described)
    compared = 0 if kept is None else len(kept.found["gains"])
    found = FitChoice(settings.data.fit, cut=True) if kept is None else _choice(settings, kept)
    if len(others) <= compared:
        return found
    name = max(speeds, key=lambda one: speeds[one])
    _log.info("comparing ways to fit pictures into a square (data.fit), by %s", name)
    deadline = None if seconds is None else time.perf_counter() + SURE * seconds
    targets = data.pictures.targets[data.split.train]
    contents = fold_codes(data, data.split.train, targets)

    def cross_validate(fit: PictureFit) -> CrossValidated:
        features = _features(settings, fit, name, deadline, open_pictures)
        return cross_validated(features, targets, contents, settings.seed)

    gains: dict[str, tuple[float, float]] = {}
    try:
        usual = cross_validate(settings.data.fit)
        for fit in others:
            gains[fit] = gain(usual, cross_validate(fit))
    except TooSlow:
        if len(gains) <= compared:
            return found
    limit = None if len(gains) + 1 == len(_FITS) else seconds
    measurement = CachedMeasurement({"network": name, "gains": gains}, False, limit)
    store_measurement(_KIND, known, measurement, settings.data.cache_dir)
    return _choice(settings, measurement)


def _affordable(
    settings: RunSettings,
    data: PictureData,
    speeds: Mapping[str, float],
    seconds: float | None,
    described: bool,
) -> list[PictureFit]:
    """Return the other values that there is time to compare."""
    others = [fit for fit in _FITS if fit != settings.data.fit]
    if seconds is None:
        return others
    if not speeds:
        return []
    train, val = len(data.split.train), len(data.split.val)
    views = embedding_settings(settings).views(settings.data.mirror_ok)
    describing = sum((views * train + val) / speed for speed in speeds.values())
    each = (train + val) / max(speeds.values())
    # If another value wins, all networks describe the pictures with it; the features that are
    # computed here are a part of those. The same holds for the settings' own value, unless that is
    # done.
    left = SURE * seconds - describing + (each if described else 0.0)
    share = _TIME_FRACTION_DESCRIBED if described else _TIME_FRACTION
    return others[: max(0, int(min(share * seconds, left) / each))]


def _matters(settings: RunSettings, data: PictureData) -> bool:
    """Return whether pictures are fitted into a square, and are often not square themselves."""
    sizes = data.pictures.original_sizes
    side = native_side(settings.model)
    height, width = chosen_size(sizes, settings.data.image_size, side)
    cut_off = 1 - sizes.min(axis=1) / sizes.max(axis=1)
    several = np.count_nonzero(data.class_counts) > 1
    return bool(height == width and cut_off.mean() > _MIN_CUT_OFF and several)


def _features(
    settings: RunSettings,
    fit: PictureFit,
    name: str,
    deadline: float | None,
    open_pictures: Callable[[RunSettings], PictureData],
) -> Float32Array:
    """Return the features (N, D) of the training part by one network, and store them.

    Raises:
        TooSlow: it is clear that the deadline cannot be met.
    """
    settings = FitChoice(fit).apply(settings)
    data = open_pictures(settings)
    extractor = frozen_network(settings, name, data, data.pictures.format)
    return feature_table(settings, data, [extractor], deadline).part("train")


def _identity(settings: RunSettings, data: PictureData) -> dict[str, Any]:
    """Return everything that the result of a comparison depends on."""
    model, train = embedding_settings(settings), data.split.train
    groups = None if data.groups is None else data.groups[train]
    return {
        "version": _VERSION,
        "weights": model.pretrained,
        "fit": settings.data.fit,
        "format": [settings.data.image_size, data.pictures.format.channels],
        "pictures": hashlib.sha256(data.pictures.content_hashes[train].tobytes()).hexdigest(),
        "labels": data.pictures.targets[train].tolist(),
        "groups": None if groups is None else groups.tolist(),
        "seed": settings.seed,
    }


def _choice(settings: RunSettings, measurement: CachedMeasurement) -> FitChoice:
    """Return the best compared value if it is clearly better than the settings' own, else that."""
    gains, name = measurement.found["gains"], measurement.found["network"]
    text = ", ".join(
        f"{fit} {fixed(100 * more, 1, '+')} ± {100 * se:.1f}" for fit, (more, se) in gains.items()
    )
    own = settings.data.fit
    clear = {fit: more for fit, (more, error) in gains.items() if more > _STANDARD_ERRORS * error}
    taken, points = max(clear.items(), key=lambda one: one[1], default=(own, 0.0))
    why = f"clearly better than {own}" if clear else "nothing else is clearly better"
    note = (
        f"takes data.fit={taken}, {why}: points gained on the training part, by {name}, with "
        f"standard errors: {text}"
    )
    return FitChoice(taken, 100 * points, (note,), measurement.limit is not None)
