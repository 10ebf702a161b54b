"""Linear discriminant analysis, as a classifier on features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from src.config.checks import Settings, setting
from src.config.features import classifier


@classifier("lda", "lda.lda")
@dataclass(frozen=True)
class LdaSettings(Settings):
    """Linear discriminant analysis."""

    shrinkage: float = setting(
        "of the covariance towards equal variances", at_least=0, at_most=1, default=0.1
    )


def lda(*, shrinkage: float, seed: int, threads: int, pictures: int) -> Any:
    """Return the estimator, not fitted yet."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
