"""What more training pictures would bring, by the losses of trainings on fewer of them.

Over a few doublings the loss falls by a power of the number of training pictures (Hestness et al.,
"Deep Learning Scaling Is Predictable, Empirically", 2017; of many learners Viering & Loog, "The
Shape of Learning Curves: a Review", IEEE TPAMI 2023): a line of log loss over log number, whose
slope is the exponent. No law holds for long, so here the exponent drifts from doubling to doubling,
a little downwards and else as much as the measured losses allow: a smoothing spline as a Gaussian
process (Wahba, "Improper Priors, Spline Smoothing and the Problem of Guarding Against Model Errors
in Regression", JRSS B 1978), about whose end most is known, and about what comes after it the less
the farther it is. How strongly it drifts and how far single trainings stray from it is averaged
over, by how probable they make what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..machine.arrays import Float64Array
from ..records.comparison import Interval
from .evidence import Evidence

__all__ = ["MOST_TIMES", "DataScaling", "data_scaling", "measured_losses"]

# How many times the pictures are forecast at most: six doublings beyond what was measured.
MOST_TIMES = 64.0

# Exponents before anything is measured: mean and standard deviation. Published ones of pictures
# are 0.1 to 0.6, those of few pictures higher.
_EXPONENT, _EXPONENT_SD = 0.4, 0.4
# By how much it falls in a doubling on the average: without, forecasts of what twice and four times
# as many pictures bring were a quarter too high for classifiers of digits, clothing and CIFAR-10;
# with it, of Fashion-MNIST they were right on the average (`benchmarks/data_scaling.py`).
_FLATTENING = 0.03
# Standard deviations of the drift of the exponent in a doubling, and of the log loss of a single
# training around the curve, all of one kind as probable as each other before.
_DRIFTS = (0.03, 0.06, 0.12)
_STRAYING = (0.01, 0.02, 0.04, 0.08, 0.16)
_DRAWS = 20_000
# Of the log loss at all pictures, which the measurements alone tell.
_UNKNOWN = 100.0
# What perfect answers to all pictures may lose, in pictures: further ones would show mistakes.
_PERFECT = 0.5


@dataclass(frozen=True, eq=False)
class DataScaling:
    """Draws of what is known of the loss at other numbers of training pictures.

    Attributes:
        level: (D,) log of the loss with all pictures.
        exponent: (D,) there, at least 0: more pictures of the same kind make no model worse.
        drift: (D,) by how much it falls less than on the average, per root of a doubling.
    """

    level: Float64Array
    exponent: Float64Array
    drift: Float64Array

    def losses(self, factor: float) -> Float64Array:
        """Return (D,) losses with so many times the pictures, `factor` at least 1."""
        # Where the exponent comes to 0, which is after `root` squared doublings, the loss stays.
        bend = math.sqrt(0.75) * self.drift
        root = (np.sqrt(bend**2 + 4 * _FLATTENING * self.exponent) - bend) / (2 * _FLATTENING)
        doublings = np.minimum(math.log2(factor), root**2)
        fall = (self.exponent - _FLATTENING * doublings / 2) * doublings
        fall -= self.drift * np.sqrt(doublings**3 / 3)
        return np.asarray(np.exp(self.level - math.log(2) * np.maximum(fall, 0)))

    def loss(self, factor: float) -> tuple[float, Interval]:
        """Return the median loss with so many times the pictures, and its 95 % interval."""
        return _median(self.losses(factor))

    def gain(self, factor: float) -> tuple[float, Interval]:
        """Return by how much the loss falls from all pictures to so many times as many, likewise.

        What the measured pictures err in is common to both losses, so that this is known better.
        """
        return _median(self.losses(1) - self.losses(factor))

    def needed(self, loss: float) -> tuple[float, Interval]:
        """Return the factor with which the loss is reached, median and 95 % interval.

        Infinite where it takes more than `MOST_TIMES` times the pictures; less than 1 is 1.
        """
        factors = np.geomspace(1, MOST_TIMES, 193)
        reached = np.stack([self.losses(factor) <= loss for factor in factors])
        first = np.where(reached.any(axis=0), factors[reached.argmax(axis=0)], np.inf)
        low, middle, high = np.quantile(first, (0.025, 0.5, 0.975), method="higher")
        return float(middle), Interval(float(low), float(high))


def measured_losses(evidence: Evidence) -> tuple[Float64Array, Float64Array]:
    """Return (S,) losses of candidates, above 0, and (S, S) their covariance due to the pictures.

    The loss is one minus the figure, or of a figure without a best one, such as the log-loss, what
    it is below 0.
    """
    best = 0.0 if evidence.lowest is None else 1.0
    losses, covariance = best - evidence.figure, evidence.shared.astype(np.float64)
    least = _PERFECT / evidence.pictures
    covariance += np.diag(np.where(losses < least, least**2, 0.0))
    return np.maximum(losses, least), covariance


def data_scaling(
    fractions: Sequence[float], losses: Float64Array, covariance: Float64Array, *, seed: int = 0
) -> DataScaling:
    """Return what losses of trainings on fractions of the pictures say of more pictures.

    Args:
        fractions: of the training pictures, ascending, 1 as the last one; at least two.
        losses: (S,) of a training on each, above 0, such as 1 minus the accuracy.
        covariance: (S, S) of these due to the pictures that they were measured on.
        seed: of the draws.

    Raises:
        ValueError: there are fewer than two fractions, they do not ascend to 1, or a loss is not
            above 0.
    """
    shares, values = np.asarray(fractions, np.float64), np.asarray(losses, np.float64)
    if len(shares) < 2 or shares[-1] != 1 or (np.diff(shares) <= 0).any() or shares[0] <= 0:
        raise ValueError(f"fractions are {list(fractions)}: they must ascend to 1, two at least.")
    if not (values > 0).all():
        raise ValueError(f"losses are {values.tolist()}: they must be above 0.")
    doublings = np.log2(shares)
    errors = np.asarray(covariance) / np.outer(values, values)  # of logarithms, to first order
    design = np.stack([np.ones(len(shares)), -math.log(2) * doublings], axis=1)
    mean = np.array([0.0, _EXPONENT])
    prior = np.diag([_UNKNOWN, _EXPONENT_SD**2])
    bend = math.log(2) ** 2 * _integrated_walk(-doublings)
    rest = np.log(values) - design @ mean - math.log(2) * _FLATTENING * doublings**2 / 2
    evidence, means, roots, drifts = [], [], [], []
    for drift in _DRIFTS:
        for straying in _STRAYING:
            noise = errors + drift**2 * bend + straying**2 * np.eye(len(shares))
            whole = noise + design @ prior @ design.T
            gain = np.linalg.solve(whole, design @ prior).T
            evidence.append(-rest @ np.linalg.solve(whole, rest) - np.linalg.slogdet(whole)[1])
            means.append(mean + gain @ rest)
            left = prior - gain @ design @ prior
            roots.append(np.linalg.cholesky((left + left.T) / 2))
            drifts.append(drift)
    weights = np.exp((np.array(evidence) - max(evidence)) / 2)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(weights), _DRAWS, p=weights / weights.sum())
    normal = rng.standard_normal((_DRAWS, 3))
    found = np.array(means)[drawn] + np.einsum("dij,dj->di", np.array(roots)[drawn], normal[:, :2])
    kept = found[:, 1] >= 0
    walks = np.array(drifts)[drawn] * normal[:, 2]
    return DataScaling(found[kept, 0], found[kept, 1], walks[kept])


def _integrated_walk(times: Float64Array) -> Float64Array:
    """Return (S, S) covariances of the integral of a random walk that begins with 0 at time 0."""
    first = np.minimum(times[:, None], times[None, :])
    last = np.maximum(times[:, None], times[None, :])
    return np.asarray(first**2 * (3 * last - first) / 6)


def _median(values: Float64Array) -> tuple[float, Interval]:
    low, middle, high = np.quantile(values, (0.025, 0.5, 0.975)).tolist()
    return middle, Interval(low, high)
