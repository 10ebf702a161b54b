"""Groups of pictures that go together: the units that a sample of pictures is drawn in.

Ten shots of one subject are hardly ten pictures: a network that fails on one fails on most of them.
What is drawn independently are the groups, so that variances are those between sums over groups
(cluster-robust; Liang & Zeger, "Longitudinal Data Analysis Using Generalized Linear Models",
Biometrika 1986), and resampling draws groups whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import Int64Array

__all__ = ["PictureGroups"]


@dataclass(frozen=True, eq=False)
class PictureGroups:
    """G groups of N pictures.

    Attributes:
        sizes: (G,) int64 pictures in each.
        order: (N,) int64, the pictures sorted by group; None where each is a group of its own.
    """

    sizes: Int64Array
    order: Int64Array | None

    @classmethod
    def of(cls, groups: Int64Array | None, pictures: int) -> PictureGroups:
        """Build them of (N,) group numbers; None makes each picture a group of its own.

        Raises:
            ValueError: there are not as many numbers as pictures, or all of them are one group.
        """
        if groups is None:
            return cls(np.ones(pictures, np.int64), None)
        if groups.shape != (pictures,):
            raise ValueError(f"There are {len(groups)} groups of {pictures} pictures.")
        _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        if len(sizes) == pictures:
            return cls(sizes, None)
        if len(sizes) < 2:
            raise ValueError(
                "All pictures are one group, so nothing is known of other groups: at least two "
                "groups are needed."
            )
        return cls(sizes, np.argsort(codes, kind="stable"))

    @property
    def count(self) -> int:
        """G, the number of groups."""
        return len(self.sizes)

    @property
    def effective(self) -> float:
        """The number of groups of one size that hold as much (Kish, "Survey Sampling", 1965)."""
        return float(self.sizes.sum()) ** 2 / float((self.sizes.astype(np.float64) ** 2).sum())

    def totals(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return (..., G) sums over the pictures of each group, of (..., N) values."""
        if self.order is None:
            return values
        starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        sums: NDArray[np.floating] = np.add.reduceat(values[..., self.order], starts, axis=-1)
        return sums
