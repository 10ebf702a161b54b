"""Mean brightness of the rows and of the columns of a picture, as a descriptor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.config.checks import Settings, setting
from src.config.features import descriptor


@descriptor("projections", "projections.Projections")
@dataclass(frozen=True)
class ProjectionsSettings(Settings):
    """Mean brightness of rows and columns."""

    bins: int = setting("groups of rows, and of columns", at_least=1, at_most=64, default=8)


@dataclass(frozen=True)
class Projections:
    """A picture (H, W, C) float32 in [0, 1] to (2 * bins,) float32."""

    bins: int

    def __call__(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        grey = picture.mean(axis=2)
        means = []
        for profile in (grey.mean(axis=1), grey.mean(axis=0)):
            places = np.linspace(0, len(profile) - 1, self.bins)
            means.append(np.interp(places, np.arange(len(profile)), profile))
        return np.concatenate(means).astype(np.float32)
