"""Groups: the sets of pictures that stay together in a split, and their random order.

Two pictures of equal content, of one named group (a patient, a camera), or of one subject shot
twice are not independent, so parts and folds are made of groups, the connected components of "equal
content, equal group name or nearly equal", as in scikit-learn's `GroupKFold`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...machine.arrays import BytesArray, Int64Array, IntegerArray
from ...targets.labels import memberships

__all__ = ["Groups", "components", "deal_iteratively", "group_pictures"]


@dataclass(frozen=True, eq=False)
class Groups:
    """G groups of N pictures."""

    of_sample: Int64Array  # (N,) in [0, G), the group of each picture
    sizes: Int64Array  # (G,) pictures in each group
    # (G,) the class that a group is stratified by: of its pictures' classes the one that the fewest
    # groups have, so that rare classes are spread first.
    strata: Int64Array
    # (G,) a keyed hash of the group's smallest content hash. Sorting by it is a random order in
    # which a group's place does not depend on the other groups.
    ranks: Int64Array

    @cached_property
    def by_stratum(self) -> dict[int, Int64Array]:
        """The groups of each stratum, by rising rank."""
        order = np.lexsort((self.ranks, self.strata))
        classes, starts = np.unique(self.strata[order], return_index=True)
        return dict(zip(classes.tolist(), np.split(order, starts[1:]), strict=True))


def group_pictures(
    targets: IntegerArray,
    content_hashes: BytesArray,
    names: Sequence[str] | Sequence[int] | None,
    *,
    seed: int,
    near: Int64Array | None = None,
) -> Groups:
    """Return the groups of N pictures; arguments as of `make_split`, with the seed of the ranks."""
    hashes, content = np.unique(content_hashes, return_inverse=True)
    group_of_content = np.arange(len(hashes))
    if names is not None:
        group = np.unique(np.asarray(names), return_inverse=True)[1]
        nodes = len(hashes) + int(group.max()) + 1
        joined = components(nodes, content, len(hashes) + group)[: len(hashes)]
        group_of_content = np.unique(joined, return_inverse=True)[1]
    if near is not None and len(near):
        ends = group_of_content[content[near]]
        count = int(group_of_content.max()) + 1
        group_of_content = components(count, ends[:, 0], ends[:, 1])[group_of_content]
    of_sample = group_of_content[content]
    # `hashes` is sorted, so the first of a group is its smallest.
    _, smallest = np.unique(group_of_content, return_index=True)
    return Groups(
        of_sample=of_sample,
        sizes=np.bincount(of_sample),
        strata=_rarest_class(of_sample, targets),
        ranks=_ranks(hashes[smallest], seed),
    )


def components(nodes: int, first: Int64Array, second: Int64Array) -> Int64Array:
    """Return (nodes,) int64: the connected component of each node under edges (first, second)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(nodes, nodes))
    return connected_components(edges, directed=False)[1].astype(np.int64)


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


def _rarest_class(of_sample: Int64Array, targets: IntegerArray) -> Int64Array:
    """Return (G,) int64: of each group's classes the one that the fewest groups have."""
    pictures, of_picture = memberships(targets)
    classes, codes = np.unique(of_picture, return_inverse=True)
    # With indices NumPy sorts; its hashing takes 25 times as long for 10 times as many numbers.
    pairs = np.unique(of_sample[pictures] * len(classes) + codes, return_index=True)[0]
    groups, codes = np.divmod(pairs, len(classes))
    order = np.lexsort((codes, np.bincount(codes)[codes], groups))
    _, first = np.unique(groups[order], return_index=True)
    return classes[codes[order[first]]].astype(np.int64)


def _ranks(hashes: BytesArray, seed: int) -> Int64Array:
    """Return (G,) int64: a keyed hash of each hash, padded with zeros to whole words."""
    # torch takes seconds to import, which reading a split does not need.
    import torch

    from ..randomness import hash_words

    width = -(-hashes.dtype.itemsize // 8) * 8
    words = hashes.astype(f"S{width}").view("<i8").reshape(len(hashes), -1)
    return hash_words(torch.from_numpy(words.astype(np.int64)), seed).numpy()
