"""The time of fitting a classifier on features, estimated from a fit to few pictures."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
import torch
from threadpoolctl import threadpool_limits

from ...config.checks import to_plain
from ...config.features import ClassicalSettings
from ...config.overrides import with_values
from ...config.schema import RunSettings
from ...features.calibration import ENOUGH_UNSEEN, scores_of
from ...features.pipeline import make_pipeline
from ...machine.arrays import Float32Array, Int64Array
from ...machine.cpu_load import CpuLoad, slowdown
from ...machine.hardware import machine
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from ..resolve import threads_of

__all__ = ["SAMPLE", "FitSample", "fits_of", "growth"]

_log = logging.getLogger(__name__)

# Number of pictures in a sample. A fit to fewer takes milliseconds, too short for an estimate.
SAMPLE = 200
# Seconds below which a fit is timed twice.
_MOMENT = 0.2
# Settings of the model on which the time of a fit does not depend, given the features.
_NO_TIME = ("auto", "networks", "run")


@dataclass(frozen=True, eq=False)
class FitSample:
    """The features of some training pictures, by which fits to all of them are timed.

    Attributes:
        settings: of a run, its model a classical one.
        features, labels: (n, D) and (n,) in [0, K) of the pictures, n above 2.
        sizes: features of each descriptor, D in all.
        count: pictures that a trial is fitted to.
    """

    settings: RunSettings
    features: Float32Array
    labels: Int64Array
    sizes: Sequence[int]
    count: int

    def seconds(
        self, kinds: Sequence[Mapping[str, Any]], widths: Sequence[int]
    ) -> list[list[float]]:
        """Estimate the seconds of fitting each kind of classifier, calibration included.

        On an idle machine they are timed once for the same features. Under load a stored time is
        multiplied by the current slowdown of a thread, and new times are not stored.

        Args:
            kinds: values of keys of the model, by key ("model.classifier"), that replace its own.
            widths: numbers of features, for each of which the seconds are asked for.
        """
        settings = self.settings
        model = to_plain(settings.model)
        known = {
            "features": hashlib.sha256(self.features.tobytes()).hexdigest(),
            "labels": self.labels.tolist(),
            "asked": [list(self.sizes), self.count, list(widths), [dict(kind) for kind in kinds]],
            "model": {name: value for name, value in model.items() if name not in _NO_TIME},
            "machine": machine(torch.device("cpu")) | {"threads": threads_of(settings)},
            "libraries": [np.__version__, sklearn.__version__],
        }
        cache_dir = settings.data.cache_dir
        kept = load_measurement("fits", known, cache_dir)
        if kept is not None:
            slower = slowdown()
            return [[slower * one for one in kind] for kind in kept.found["seconds"]]
        _log.info("timing %d kinds of classifiers on some of the pictures", len(kinds))
        with CpuLoad() as load:
            found = self._timed(kinds, widths)
        if not load.disturbed:
            store_measurement(
                "fits", known, CachedMeasurement({"seconds": found}, False), cache_dir
            )
        return found

    def _timed(
        self, kinds: Sequence[Mapping[str, Any]], widths: Sequence[int]
    ) -> list[list[float]]:
        model, threads, features = self.settings.model, threads_of(self.settings), self.features
        assert isinstance(model, ClassicalSettings)
        labels = np.unique(self.labels, return_inverse=True)[1]
        if labels.max() == 0:  # only the time of the fit matters
            labels = np.arange(len(labels)) % 2
        # Some pictures of every class, and enough for any classifier.
        first = np.union1d(np.unique(labels, return_index=True)[1], np.arange(len(labels) // 4))
        held, classes = max(1, len(features) // model.calibration_folds), labels.max() + 1

        def seconds(wanted: ClassicalSettings, rows: Int64Array) -> tuple[float, float]:
            """Return the seconds of scaling and selecting features, and of the classifier."""
            made = make_pipeline(wanted, self.sizes, pictures=len(rows), seed=0, threads=threads)
            started = time.perf_counter()
            normalised = made[:-1].fit_transform(features[rows], labels[rows])
            between = time.perf_counter()
            scores_of(made[-1].fit(normalised, labels[rows]), normalised[:held], int(classes))
            return between - started, time.perf_counter() - between

        folds, count = model.calibration_folds, self.count
        counts = [count, *[round(count * (1 - 1 / folds))] * (fits_of(count, folds) - 1)]
        warm: set[str] = set()
        found = []
        for kind in kinds:
            wanted = with_values(model, kind)
            with threadpool_limits(threads):
                if wanted.classifier not in warm:  # imports take no time in a trial
                    warm.add(wanted.classifier)
                    seconds(wanted, first)
                before, fit = seconds(wanted, np.arange(len(features)))
                if before + fit < _MOMENT:  # another program may have run meanwhile
                    again = seconds(wanted, np.arange(len(features)))
                    before, fit = min(before, again[0]), min(fit, again[1])
            few, own = features.shape
            found.append(
                [
                    sum(
                        before * n / few * width / own
                        + fit * growth(wanted, (few, own), (n, width))
                        for n in counts
                    )
                    for width in widths
                ]
            )
        return found


def fits_of(count: int, folds: int) -> int:
    """Return how often `CalibratedModel.fit` fits a classifier to so many pictures."""
    return 1 + min(folds, math.ceil(ENOUGH_UNSEEN * folds / count))


def growth(model: ClassicalSettings, few: tuple[int, int], many: tuple[int, int]) -> float:
    """Return how many times as long a fit to `many` (pictures, features) takes as one to `few`.

    A kernel machine and neighbours compare each two pictures, the former as long as it is exact; a
    forest sorts them by some features; a nearest mean has a matrix of all features to factorise, or
    of all pictures; all else goes through all numbers. A selection leaves as many features to all.
    """
    own: Any = getattr(model, model.classifier, None)
    exact = max(few[0], own.exact_up_to) if model.classifier == "rbf_svm" else 0
    kinds: dict[str, Callable[[int, float], float]] = {
        "rbf_svm": lambda n, d: n * min(n, exact) * d,
        "knn": lambda n, d: n * n * d,
        "random_forest": lambda n, d: n * math.log(n + 1) * math.sqrt(d),
        "nearest_mean": lambda n, d: n * d * min(n, d) + min(n, d) ** 3 / 3,
    }
    work = kinds.get(model.classifier, _numbers)
    kept = math.inf if model.selection == "none" else model.keep
    (n, d), (m, e) = few, many
    return work(m, min(e, kept)) / work(n, min(d, kept))


def _numbers(pictures: int, features: float) -> float:
    return pictures * features
