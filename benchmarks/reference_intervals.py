"""Intervals that the verdict's are held against, made in other ways and with nothing of `src`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

__all__ = ["cluster_bootstraps", "wilson_for_all"]

Floats = NDArray[np.float64]

_LEAST = 1e-12  # a standard error that nothing is divided by


def wilson_for_all(
    share: float, pictures: int, candidates: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return Wilson's interval at the level that holds for so many independent candidates (Sidak).

    Its ends are the shares p with (share - p)^2 = z^2 p (1 - p) / pictures, the roots of a
    quadratic (Wilson, JASA 1927; Sidak, JASA 1967).

    Args:
        share: of right answers, in [0, 1].
        pictures, candidates: at least 1.
        confidence: within 0 and 1.
    """
    z = norm.ppf((1 + confidence ** (1 / candidates)) / 2)
    more = z**2 / pictures
    low, high = np.sort(np.roots([1 + more, -(2 * share + more), share**2]).real).tolist()
    return low, high


def cluster_bootstraps(
    right: NDArray[np.bool_],
    groups: NDArray[np.int64],
    generator: np.random.Generator,
    draws: int = 1000,
    confidence: float = 0.95,
) -> dict[str, Floats]:
    """Return (C, 2) ends of intervals that are to hold for all candidates, by four bootstraps.

    All draw whole groups, the same ones for all candidates. Three take the largest deviation of
    any candidate: in standard errors of the bootstrap (Romano & Wolf, Econometrica 2005); in those
    that each draw shows, as Student's ratio has it (Hall, Annals of Statistics 1988; Cameron,
    Gelbach & Miller, Rev. Econ. Stat. 2008); and the same of log-odds. One takes Student's quantile
    at Sidak's level.

    Args:
        right: (C, N) answers of single trainings.
        groups: (N,) of the pictures.
        generator: of the draws.
        draws: at least 1.
        confidence: within 0 and 1.
    """
    members = groups[:, None] == np.unique(groups)  # (N, G)
    sums, sizes = right.astype(np.float64) @ members, members.sum(axis=0).astype(np.float64)
    count, figure = len(sizes), right.mean(axis=1)
    drawn = generator.multinomial(count, np.full(count, 1 / count), draws).astype(np.float64)
    pictures = drawn @ sizes
    means = drawn @ sums.T / pictures[:, None]
    off = means - figure
    error = np.maximum(off.std(axis=0), _LEAST)
    # Sum over the groups drawn of (own sum - mean * own size)^2, multiplied out.
    squares = drawn @ (sums**2).T - 2 * means * (drawn @ (sums * sizes).T)
    squares += means**2 * (drawn @ sizes**2)[:, None]
    own = np.sqrt(np.maximum(squares, _LEAST)) / pictures[:, None]
    measured = np.sqrt(((sums - figure[:, None] * sizes) ** 2).sum(axis=1)) / sizes.sum()

    def reach(ratios: Floats) -> float:
        return float(np.quantile(np.abs(ratios).max(axis=1), confidence))

    def around(half: Floats) -> Floats:
        return np.stack([figure - half, figure + half], axis=1).clip(0.0, 1.0)

    inside, drawn_inside = (np.clip(p, 1e-6, 1 - 1e-6) for p in (figure, means))
    odds, slope = logit(inside), inside * (1 - inside)
    of_odds = (logit(drawn_inside) - odds) * drawn_inside * (1 - drawn_inside) / own
    half = measured / slope * reach(of_odds)
    level = (1 + confidence ** (1 / len(right))) / 2
    return {
        "a bootstrap of groups": around(error * reach(off / error)),
        "one with Student's quantile": around(error * student.ppf(level, count - 1)),
        "one by Student's ratios": around(measured * reach(off / own)),
        "one by Student's ratios of log-odds": expit(np.stack([odds - half, odds + half], axis=1)),
    }
