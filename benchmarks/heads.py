"""Hundreds of classifiers on the stored features of a frozen network: how long the choice takes.

Features are drawn like those of EfficientNet-Lite on the clothing photos: as many, of as many
classes, with a spectrum that falls as theirs does and classes that a good head tells apart in some
nine of ten cases.
"""

from __future__ import annotations

import time

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.table import Row
from src.config.compose import compose_settings
from src.config.features import ClassicalSettings
from src.config.schema import RunSettings
from src.features.grid import head_groups
from src.features.heads import ChosenHead, Examples, choose_head, fit_chosen
from src.features.transfer import cross_validated, logme
from src.machine.arrays import Float32Array
from src.machine.parallel import available_cores

__all__ = ["measure"]

_PICTURES, _FEATURES, _CLASSES = 3_068, 1_280, 10
# More threads than cores wait for each other: ten times the time.
_THREADS = min(2, available_cores())
# Directions in which classes differ, by so many deviations of the pictures of a class: more of
# either, and all heads are right in every case, so that none drops out.
_INFORMATIVE, _DISTANCE = 100, 0.35
_RANKED = 1_000
_BAR_HEADS, _BAR_SECONDS, _BAR_RANKING = 500, 60.0, 1.0


def measure() -> list[Row]:
    """One search with its final fit, and the two estimates for a thousand pictures."""
    features, targets = _drawn(np.random.default_rng(0))
    with threadpool_limits(_THREADS):
        started, busy = time.perf_counter(), time.process_time()
        choice = _search(features, targets)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        ranking = _ranking(features[:_RANKED], targets[:_RANKED])
    return [
        Row(
            f"the best of {choice.tried} heads on {_PICTURES:,} x {_FEATURES:,} features, "
            "calibrated and fitted: time",
            f"{seconds:.0f} s ({busy:.0f} CPU seconds)",
            f"{_BAR_SECONDS:.0f} s on two cores for {_BAR_HEADS}",
            seconds <= _BAR_SECONDS and choice.tried >= _BAR_HEADS,
        ),
        Row(
            f"ranking a network by {_RANKED:,} pictures: LogME, cross-validated accuracy",
            " and ".join(f"{one:.2f} s" for one in ranking),
            f"{_BAR_RANKING:.0f} s each",
            max(ranking) <= _BAR_RANKING,
        ),
    ]


def _drawn(
    rng: np.random.Generator,
) -> tuple[Float32Array, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Return features (N, D) float32, above 0 as activations are, and targets (N,)."""
    targets = rng.integers(0, _CLASSES, _PICTURES)
    deviations = np.arange(1, _FEATURES + 1) ** -0.5
    latent = rng.standard_normal((_PICTURES, _FEATURES))
    centres = _DISTANCE * rng.standard_normal((_CLASSES, _INFORMATIVE))
    latent[:, :_INFORMATIVE] += centres[targets]
    latent *= deviations
    rotation, _ = np.linalg.qr(rng.standard_normal((_FEATURES, _FEATURES)))
    mixed = latent @ rotation
    features = np.log1p(np.exp(4 * mixed / mixed.std()))
    return features.astype(np.float32), targets.astype(np.int64)


def _search(
    features: Float32Array, targets: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> ChosenHead:
    model = compose_settings(RunSettings, ["model=embedding", "model.auto.seconds=600"]).model
    assert isinstance(model, ClassicalSettings)
    examples = Examples(features, targets, np.arange(len(targets)), [_FEATURES])
    choice = choose_head(
        examples,
        folds=model.calibration_folds,
        seed=0,
        seconds=model.auto.seconds,
        groups=head_groups(*features.shape),
    )
    fit_chosen(
        choice,
        model,
        examples,
        num_classes=_CLASSES,
        seed=0,
        threads=_THREADS,
    )
    return choice


def _ranking(
    features: Float32Array, targets: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[float, float]:
    started = time.perf_counter()
    logme(features, targets, _CLASSES)
    between = time.perf_counter()
    cross_validated(features, targets, np.arange(len(targets)), 0)
    return between - started, time.perf_counter() - between
