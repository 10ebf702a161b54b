"""The choice of how pictures are fitted into the square of frozen networks (`data.fit`).

Which way is better depends on where in a picture its subject is. By five folds of the training part
(benchmarks/fits.py) clothes, which lie in the middle, gain 1.4 to 2.3 points by being cropped, and
magnetic tiles, whose defects lie anywhere, lose 2.5 to 2.8. So few points show on the whole
training part alone, and on one network as on another: the fastest of those that are chosen decides.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...config.features import EmbeddingSettings
from ...config.schema import RunSettings
from ...data.decoding.format_choice import chosen_size
from ...data.loading.datamodule import PictureData
from ...features.calibration import held_together
from ...features.transfer import CrossValidated, cross_validated, gain
from ...machine.arrays import Float32Array
from ...machine.parallel import TooSlow
from ...storage.cache import Record, load_record, store_record
from ..build import feature_table, frozen_network, native_side
from .affordable import SURE

__all__ = ["FitChoice", "choose_fit", "kept_fit"]

_log = logging.getLogger(__name__)

# To be raised when a record would hold other values.
_VERSION = 1
_RECORDS = "fits_of_pictures"
Way = Literal["squeeze", "crop", "pad", "windows"]
# The one that won most often first.
_WAYS: tuple[Way, ...] = ("squeeze", "crop", "pad")
# Share of a picture that a crop cuts off on average, above which the ways are compared.
_CUT_OFF = 0.1
# Of the time that is left, what comparing may take: while the networks are still to describe the
# pictures, and where their features are there.
_SHARE, _SHARE_AFTER = 0.25, 0.5
# Standard errors by which another way must be ahead of the usual one.
_CLEARLY = 2.0


@dataclass(frozen=True)
class FitChoice:
    """How pictures are fitted into a square.

    Attributes:
        fit: the value of `data.fit`.
        points: by which accuracy, or mean average precision, was better than by the usual way.
        notes: sentences on how it was chosen.
        cut: whether more time could lead to another choice.
    """

    fit: Way
    points: float = 0.0
    notes: tuple[str, ...] = ()
    cut: bool = False

    def apply(self, settings: RunSettings) -> RunSettings:
        """Return the settings with it."""
        return replace(settings, data=replace(settings.data, fit=self.fit))


def kept_fit(settings: RunSettings, data: PictureData) -> FitChoice | None:
    """Return what an earlier call of `choose_fit` has found on these pictures."""
    kept = load_record(_RECORDS, _identity(settings, data), settings.data.cache_dir)
    return None if kept is None else _choice(settings, kept)


def choose_fit(
    settings: RunSettings,
    data: PictureData,
    speeds: Mapping[str, float],
    seconds: float | None,
    open_pictures: Callable[[RunSettings], PictureData],
    described: bool = False,
) -> FitChoice:
    """Compare the ways on the features of the training part, by cross-validated quick heads.

    The first way is the settings' own. Another one is taken where it is better by more than two
    standard errors of the paired difference; of several, the best. Nothing is compared where hardly
    any picture is cut off by a crop, or pictures are not fitted into a square at all.

    Args:
        settings: of a run with the chosen networks.
        data: the pictures, in any format.
        speeds: pictures a second of these networks.
        seconds: for this and for describing the pictures by all networks, of which this has a
            part; None for no limit.
        open_pictures: returns the pictures of a run's settings.
        described: whether the networks have described the pictures already.

    Raises:
        ConfigError: a network's weights cannot be had.
    """
    if not _matters(settings, data):
        return FitChoice(settings.data.fit)
    known = _identity(settings, data)
    kept = load_record(_RECORDS, known, settings.data.cache_dir)
    others = _affordable(settings, data, speeds, seconds, described)
    compared = 0 if kept is None else len(kept.found["gains"])
    found = FitChoice(settings.data.fit, cut=True) if kept is None else _choice(settings, kept)
    if len(others) <= compared:
        return found
    name = max(speeds, key=lambda one: speeds[one])
    _log.info("comparing ways to fit pictures into a square (data.fit), by %s", name)
    deadline = None if seconds is None else time.perf_counter() + SURE * seconds
    train, groups = data.split.train, data.groups
    targets = data.pictures.targets[train]
    hashes = data.pictures.content_hashes[train]
    contents = held_together(targets, None if groups is None else groups[train], hashes)

    def judged(way: Way) -> CrossValidated:
        features = _features(settings, way, name, deadline, open_pictures)
        return cross_validated(features, targets, contents, settings.seed)

    gains: dict[str, tuple[float, float]] = {}
    try:
        usual = judged(settings.data.fit)
        for way in others:
            gains[way] = gain(usual, judged(way), contents)
    except TooSlow:
        if len(gains) <= compared:
            return found
    limit = None if len(gains) + 1 == len(_WAYS) else seconds
    record = Record({"network": name, "gains": gains}, False, limit)
    store_record(_RECORDS, known, record, settings.data.cache_dir)
    return _choice(settings, record)


def _affordable(
    settings: RunSettings,
    data: PictureData,
    speeds: Mapping[str, float],
    seconds: float | None,
    described: bool,
) -> list[Way]:
    """Return the other ways that there is time for."""
    others = [way for way in _WAYS if way != settings.data.fit]
    if seconds is None:
        return others
    if not speeds:
        return []
    train, val = len(data.split.train), len(data.split.val)
    views = _model(settings).views(settings.data.mirror_ok)
    describing = sum((views * train + val) / speed for speed in speeds.values())
    each = (train + val) / max(speeds.values())
    # Should another way win, all networks describe the pictures by it, of which this is a part. So
    # it is of what they do by the usual way, unless that is done.
    left = SURE * seconds - describing + (each if described else 0.0)
    share = _SHARE_AFTER if described else _SHARE
    return others[: max(0, int(min(share * seconds, left) / each))]


def _matters(settings: RunSettings, data: PictureData) -> bool:
    """Return whether pictures are fitted into a square, and enough of them are none."""
    sizes = data.pictures.original_sizes
    side = native_side(settings.model)
    height, width = chosen_size(sizes, settings.data.image_size, side)
    cut_off = 1 - sizes.min(axis=1) / sizes.max(axis=1)
    several = np.count_nonzero(data.class_counts) > 1
    return bool(height == width and cut_off.mean() > _CUT_OFF and several)


def _features(
    settings: RunSettings,
    way: Way,
    name: str,
    deadline: float | None,
    open_pictures: Callable[[RunSettings], PictureData],
) -> Float32Array:
    """Return the features (N, D) of the training part by one network, which are kept.

    Raises:
        TooSlow: as soon as it is clear that the deadline cannot be met.
    """
    settings = FitChoice(way).apply(settings)
    data = open_pictures(settings)
    extractor = frozen_network(settings, name, data, data.pictures.format)
    return feature_table(settings, data, [extractor], deadline).part("train")


def _identity(settings: RunSettings, data: PictureData) -> dict[str, Any]:
    """Return all that a comparison depends on."""
    model, train = _model(settings), data.split.train
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


def _model(settings: RunSettings) -> EmbeddingSettings:
    assert isinstance(settings.model, EmbeddingSettings)
    return settings.model


def _choice(settings: RunSettings, record: Record) -> FitChoice:
    """Return the best of what was compared, where it is clearly better than the settings' own."""
    gains, name = record.found["gains"], record.found["network"]
    text = ", ".join(
        f"{way} {100 * more:+.1f} +- {100 * se:.1f}" for way, (more, se) in gains.items()
    )
    own = settings.data.fit
    clear = {way: more for way, (more, error) in gains.items() if more > _CLEARLY * error}
    taken, points = max(clear.items(), key=lambda one: one[1], default=(own, 0.0))
    note = (
        f"takes data.fit={taken}: on the training part, by {name}, points more than {own}: {text}"
    )
    return FitChoice(taken, 100 * points, (note,), record.limit is not None)
