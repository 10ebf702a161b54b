"""The heads that a search tries, kinds of classifiers with strengths and normalisations, and how
long that takes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..config.features import ClassicalSettings

__all__ = ["Head", "HeadGroup", "Normalisation", "axes_seconds", "head_groups"]

# Number of training pictures above which kernels and distances between all of them are left out.
_MOST_EXACT = 7_500
# Size of the sample of the remaining kernel machine.
_COMPONENTS = 2_000
_COUNTS = (1, 2, 3, 4, 5, 7, 10, 14, 20, 28, 40, 56)
# Fewest training pictures for which votes of neighbours are tried. Of fewer held-out ones, a head
# with so few different scores is the best by luck too often: without them the choice by 20 to 80
# photos had 0.5 points more accuracy on others (standard error 0.2) and 0.04 nats less log-loss
# (0.01), in 512 draws (benchmarks/few_pictures.py).
_LEAST_FOR_NEIGHBOURS = 200

# The processor time of a search comes from sizes alone, whatever else runs. These are seconds of
# one thread of an AVX-512 server, measured for 400 to 7,200 pictures, 64 to 3,000 features and 2 to
# 100 classes. There a group of heads took 0.4 to 1.5 times as long, and all of them 0.7 to 1.2
# times.
# Seconds of a multiply-add: in products of large matrices, and in those of a descent with all its
# steps.
_PRODUCT, _DESCENT = 1e-10, 1.5e-9
# Seconds of a pair of pictures: in a kernel machine, and in those of a class against each of the
# others.
_PAIR, _PAIR_OF_CLASS = 2.3e-8, 7e-10
# Seconds of a multiply-add in the linear system of a sample of pictures.
_SAMPLED = 3.5e-11
# Seconds of calibrating a head: fixed, and for each score.
_HEAD, _SCORE = 1e-3, 2.5e-7
_WHOLE_NUMBERS = ("neighbours", "exact_up_to", "components")


@dataclass(frozen=True)
class Normalisation:
    """The preparation of features before they are classified; see `make_pipeline`."""

    scaling: str  # "blocks" or "features"
    rows: bool  # whether rows are scaled to length 1 at the end
    keep: int | None = None  # principal components; None for the features as they are
    whitening: float = 0.0  # power of their deviations that components are divided by

    # Where there are more features and pictures than can be decomposed.
    MOST_KEPT: ClassVar[int] = 400

    def plain(self) -> dict[str, Any]:
        """Return the settings that say the same."""
        reduced = {} if self.keep is None else {"keep": self.keep, "whitening": self.whitening}
        return {
            "scaling": self.scaling,
            "selection": "none" if self.keep is None else "pca",
            **reduced,
            "normalise": "rows" if self.rows else "none",
        }

    def __str__(self) -> str:
        parts = [] if self.scaling == "blocks" else ["features standardised"]
        if self.keep is not None:
            parts.append(f"{self.keep} components, whitened by a power of {self.whitening:g}")
        parts += ["scaled to length 1"] * self.rows
        return ", ".join(parts) or "features as they are"


@dataclass(frozen=True)
class Head:
    """A kind of `CLASSIFIERS`, its own settings, and the normalisation of its features."""

    kind: str
    normalisation: Normalisation
    values: tuple[tuple[str, float], ...]

    def settings(self, base: ClassicalSettings) -> ClassicalSettings:
        """Return the settings that fit this head; all else is as in `base`."""
        changed = self.plain()
        changed[self.kind] = replace(getattr(base, self.kind), **changed[self.kind])
        return replace(base, **changed)

    def plain(self) -> dict[str, Any]:
        """Return the settings that differ from head to head, as plain values."""
        own = {k: int(v) if k in _WHOLE_NUMBERS else v for k, v in self.values}
        return {"classifier": self.kind, **self.normalisation.plain(), self.kind: own}

    def __str__(self) -> str:
        shown = [f"{k} {v:.2g}" for k, v in self.values if k in _SHOWN]
        return ", ".join([self.kind, *shown, str(self.normalisation)])


_SHOWN = ("strength", "gamma", "shrinkage", "neighbours")


@dataclass(frozen=True)
class HeadGroup:
    """Heads of one kind and normalisation, which share their work."""

    kind: str
    normalisation: Normalisation
    heads: tuple[Head, ...]

    @classmethod
    def of(
        cls, kind: str, normalisation: Normalisation, values: Sequence[dict[str, float]]
    ) -> HeadGroup:
        """Return the group of one head for each of the classifier's settings."""
        heads = tuple(Head(kind, normalisation, tuple(one.items())) for one in values)
        return cls(kind, normalisation, heads)

    def only(self, heads: Container[Head]) -> HeadGroup:
        """Return the group of those of its heads that are among these, in its own order."""
        return replace(self, heads=tuple(head for head in self.heads if head in heads))

    def seconds(self, rows: int, held: int, features: int, classes: int) -> float:
        """Return the seconds that scores on a `View` of so many rows take, with their calibration.

        `held` are the other rows, which are scored.
        """
        heads, values = len(self.heads), dict(self.heads[0].values)
        found = heads * (_HEAD + _SCORE * held * classes)
        match self.kind:
            case "logistic" | "linear_svm":
                return found + heads * (_HEAD + _DESCENT * rows * features * classes)
            case "knn":
                return found + _PRODUCT * rows * held * features
            case "rbf_svm" if values["exact_up_to"] > 0:
                return found + heads * (_PAIR + _PAIR_OF_CLASS * classes) * rows**2
            case "rbf_svm":
                return found + heads * _SAMPLED * rows * values["components"] ** 2
            case _:
                return found + _PRODUCT * (rows + heads * held) * features * classes


def axes_seconds(rows: int, held: int, features: int) -> float:
    """Return the seconds that a `View` of so many rows takes, of which others are held out."""
    return 2 * _PRODUCT * (rows + held) * features * min(rows, features)


def head_groups(pictures: int, features: int) -> list[HeadGroup]:
    """Return the heads to try for so many training pictures and features, the most promising first.

    Order and ranges come from held-out photos under a frozen network and digits under wavelets.
    Cheap kinds on the most promising normalisations come first.
    """
    whole = None if min(pictures, features) <= 2_000 else Normalisation.MOST_KEPT
    exact = pictures <= _MOST_EXACT
    scalings = ("blocks", "features")
    plain = [Normalisation(one, rows, whole) for one in scalings for rows in (True, False)]
    part = Normalisation("blocks", False, 200, 0.5)
    whitened = [Normalisation(one, True, 400, power) for one in scalings for power in (0.25, 0.5)]
    if not exact:  # each normalisation is another copy of all features
        plain, whitened = plain[:3], whitened[:1]
    found = _linear(plain[:2])
    found.append(_kernel(part, exact))
    found += _linear(plain[2:]) + _linear(whitened)
    hinge = [{"strength": one} for one in _powers(-1, 1, 9)]
    found += [HeadGroup.of("linear_svm", one, hinge) for one in plain[:2]]
    found += [_kernel(one, exact) for one in (plain[:3] if exact else plain[:1])]
    if exact and pictures >= _LEAST_FOR_NEIGHBOURS:
        counts: list[dict[str, float]] = [{"neighbours": count} for count in _COUNTS]
        found += [HeadGroup.of("knn", n, counts) for n in (plain[0], plain[2], whitened[1], part)]
    return found


def _linear(normalisations: Sequence[Normalisation]) -> list[HeadGroup]:
    """Return the kinds that are solved in closed form, and logistic regression."""
    ridge = [{"strength": one} for one in _powers(-2, 2.5, 19)]
    shrinkages = (0.01, 0.02, *(0.05 * step for step in range(1, 21)))
    mean = [{"shrinkage": round(one, 2)} for one in shrinkages]
    groups = []
    for one in normalisations:
        # Weak penalties never win where the small components are raised.
        logistic = _powers(0, 2, 9) if one.whitening > 0 else _powers(0, 3, 13)
        groups += [
            HeadGroup.of("nearest_mean", one, mean),
            HeadGroup.of("logistic", one, [{"strength": strength} for strength in logistic]),
            HeadGroup.of("ridge", one, ridge),
        ]
    return groups


def _kernel(normalisation: Normalisation, exact: bool) -> HeadGroup:
    gammas, strengths = ((0.25, 0.5, 1.0, 2.0), (1.0, 10.0)) if exact else ((0.5, 1.0), (10.0,))
    beyond: dict[str, float] = {"exact_up_to": 0, "components": _COMPONENTS}
    further: dict[str, float] = {"exact_up_to": 2 * _MOST_EXACT} if exact else beyond
    values = [{"gamma": g, "strength": c, **further} for g in gammas for c in strengths]
    return HeadGroup.of("rbf_svm", normalisation, values)


def _powers(low: float, high: float, count: int) -> list[float]:
    return [float(f"{one:.3g}") for one in np.logspace(low, high, count)]
