"""Iterative stratification: groups of pictures with several labels each, dealt into parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...machine.arrays import Int64Array

__all__ = ["deal_iteratively"]


def deal_iteratively(
    counts: Int64Array, sizes: Int64Array, ranks: Int64Array, shares: Sequence[float]
) -> Int64Array:
    """Return (G,) the part of each group, so that each part gets its share of every label.

    Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011,
    algorithm 1, with groups in the place of examples and a given order in the place of chance. The
    label that the fewest groups are left with goes first; each of its groups goes to the part that
    lacks most of the label, of equal ones to that which lacks most pictures, and so on for the
    next label. Groups without labels go to the part that lacks most pictures.

    Args:
        counts: (G, K) pictures of each group that have each label.
        sizes: (G,) pictures of each group.
        ranks: (G,) by which the groups of a label follow each other.
        shares: of the parts, which sum to one.
    """
    wanted = np.asarray(shares, np.float64)
    lacking = wanted[:, None] * counts.sum(axis=0)
    room = wanted * sizes.sum()
    part_of = np.full(len(sizes), -1, np.int64)
    having = counts > 0
    left = having.sum(axis=0)
    order = np.argsort(ranks, kind="stable")

    def deal(group: int, part: int) -> None:
        part_of[group] = part
        lacking[part] -= counts[group]
        room[part] -= sizes[group]
        left[having[group]] -= 1

    while left.any():
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for group in order[having[order, label] & (part_of[order] < 0)].tolist():
            most = np.flatnonzero(lacking[:, label] >= lacking[:, label].max() - 1e-9)
            deal(group, int(most[room[most].argmax()]))
    for group in order[part_of[order] < 0].tolist():
        deal(group, int(room.argmax()))
    return part_of
