"""A kernel machine with a Gaussian kernel: exact for few pictures, by Nyström's method for many."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import Float32Array, Float64Array, Int64Array
from .means import ScoringClassifier

__all__ = ["RbfMachine", "sums_over_opponents"]

_BLOCK = 2048
_CACHE_MB = 500
# Of the sample's own kernel matrix, whose smallest eigenvalues rounding makes negative.
_JITTER = 1e-8


class RbfMachine(ScoringClassifier):
    """A support vector machine, or beyond `exact_up_to` pictures a least-squares one.

    The latter minimises the squared error of one machine a class (Suykens & Vandewalle 1999; Rifkin
    et al. 2003) among the functions that a sample of the pictures spans (Nyström's method,
    Williams & Seeger 2001), in memory that does not grow with the pictures.

    Args:
        strength: C, the weight of the errors.
        gamma: of exp(-gamma |x - y|^2), in units of 1 over the features' total variance.
        exact_up_to: pictures.
        components: pictures in the sample.
        seed: chooses the sample.

    Attributes:
        classes_: (K,) int64.
        exact_: the fitted `sklearn.svm.SVC`, or None.
        sample_, weights_, offset_: (m, D), (m, K) and (K,) of the other, or None.
    """

    def __init__(
        self,
        strength: float = 1.0,
        gamma: float = 1.0,
        exact_up_to: int = 10_000,
        components: int = 2000,
        seed: int = 0,
    ) -> None:
        self.strength = strength
        self.gamma = gamma
        self.exact_up_to = exact_up_to
        self.components = components
        self.seed = seed

    def fit(self, features: Float32Array, targets: Int64Array) -> Self:
        """Fit to features (N, D) and targets (N,)."""
        self.classes_ = np.unique(targets)
        variance = float(features.var(axis=0, dtype=np.float64).sum())
        self.width_ = self.gamma / max(variance, 1e-12)
        self.exact_: Any = None
        self.sample_: Any = None
        self.weights_: Any = None
        self.offset_: Any = None
        if len(features) <= self.exact_up_to:
            from sklearn.svm import SVC

            options = {"cache_size": _CACHE_MB, "decision_function_shape": "ovo"}
            machine = SVC(C=self.strength, gamma=self.width_, **options)
            self.exact_ = machine.fit(features, targets)
        else:
            self._fit_sample(features, targets)
        return self

    def decision_function(self, features: Float32Array) -> Float64Array:
        """Return scores (N, K); of two classes (N,) of the second, as scikit-learn does."""
        scores: Float64Array
        if self.exact_ is not None:
            scores = self.exact_.decision_function(features)
            if scores.ndim == 1:
                return scores
            return sums_over_opponents(scores, len(self.classes_))
        starts = range(0, len(features), _BLOCK)
        blocks = [self._kernel(features[at : at + _BLOCK]) @ self.weights_ for at in starts]
        scores = np.concatenate(blocks) + self.offset_
        return scores[:, 1] if len(self.classes_) == 2 else scores

    def _fit_sample(self, features: Float32Array, targets: Int64Array) -> None:
        from scipy.linalg import cho_factor, cho_solve
        from scipy.linalg.blas import dsyrk

        chosen = np.random.default_rng(self.seed).permutation(len(features))[: self.components]
        self.sample_ = features[np.sort(chosen)].astype(np.float64)
        wanted = np.where(targets[:, None] == self.classes_, 1.0, -1.0)
        self.offset_ = wanted.mean(axis=0)
        wanted -= self.offset_
        # What grows with the pictures is summed block by block. In double precision: the system is
        # as ill-conditioned as kernels are.
        size = len(self.sample_)
        gram = np.zeros((size, size), order="F")
        right = np.zeros((size, len(self.classes_)))
        for at in range(0, len(features), _BLOCK):
            kernel = self._kernel(features[at : at + _BLOCK])
            gram = dsyrk(1.0, kernel.T, beta=1.0, c=gram, overwrite_c=True, lower=True)
            right += kernel.T @ wanted[at : at + _BLOCK]
        own = self._kernel(self.sample_)
        gram += own / self.strength
        gram[np.diag_indices(size)] += _JITTER * len(features)
        factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        self.weights_ = cho_solve(factor, right, check_finite=False)

    def _kernel(self, features: NDArray[np.floating]) -> Float64Array:
        from sklearn.metrics.pairwise import rbf_kernel

        return rbf_kernel(features.astype(np.float64), self.sample_, gamma=self.width_)


def sums_over_opponents(margins: Float64Array, classes: int) -> Float64Array:
    """Return scores (N, K) from the margins (N, K (K - 1) / 2) between each two classes.

    The sum over opponents of how probable the class is against each, less how probable they are:
    Price et al., "Pairwise Neural Network Classifiers with Probabilistic Outputs" (NIPS 1994).
    A count of won pairs picks the same class nearly always, and is no measure of confidence.
    """
    scores = np.zeros((len(margins), classes))
    first, second = np.triu_indices(classes, 1)
    for pair, sure in enumerate(np.tanh(2 * margins).T):
        scores[:, first[pair]] += sure
        scores[:, second[pair]] -= sure
    return scores
