"""Units: the sets of pictures that must not be torn apart, each with its place in a random order.

Two pictures of equal content, of the same group (one patient, one camera), or of one subject shot
twice, say the same thing twice: a model trained on the one has seen the answer to the other. So
parts and folds are dealt in units, the connected components of "equal content, equal group or
nearly equal".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Units", "components", "units_of"]

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Units:
    """U units over N pictures.

    Attributes:
        of_sample: (N,) int64 in [0, U), the unit of each picture.
        sizes: (U,) int64, pictures in each unit.
        strata: (U,) int64, the class that a unit is dealt as: of its pictures' classes the one
            that the fewest units have, so that rare classes are spread first.
        ranks: (U,) int64, a keyed hash of the unit's smallest content hash. Sorting by it is a
            random order in which a unit's place does not depend on the other units.
    """

    of_sample: Integers
    sizes: Integers
    strata: Integers
    ranks: Integers

    @cached_property
    def by_stratum(self) -> dict[int, Integers]:
        """The units of each stratum, by rising rank."""
        order = np.lexsort((self.ranks, self.strata))
        classes, starts = np.unique(self.strata[order], return_index=True)
        return dict(zip(classes.tolist(), np.split(order, starts[1:]), strict=True))


def units_of(
    targets: NDArray[np.integer],
    content_hashes: NDArray[np.bytes_],
    groups: Sequence[str] | None,
    *,
    seed: int,
    near: Integers | None = None,
) -> Units:
    """Find the units of N pictures.

    Args:
        targets: (N,) integers, the classes.
        content_hashes: (N,) fixed-width bytes; equal hashes mean equal pictures.
        groups: N names, or None where every picture stands for itself.
        seed: key of the ranks.
        near: (P, 2) pairs of pictures that are nearly equal, or None.
    """
    hashes, content = np.unique(content_hashes, return_inverse=True)
    unit_of_content = np.arange(len(hashes))
    if groups is not None:
        unit_of_content = _linked(content, np.unique(np.asarray(groups), return_inverse=True)[1])
    if near is not None and len(near):
        ends = unit_of_content[content[near]]
        count = int(unit_of_content.max()) + 1
        unit_of_content = components(count, ends[:, 0], ends[:, 1])[unit_of_content]
    of_sample = unit_of_content[content]
    # `hashes` is sorted, so the first of a unit is its smallest.
    _, smallest = np.unique(unit_of_content, return_index=True)
    return Units(
        of_sample=of_sample,
        sizes=np.bincount(of_sample),
        strata=_rarest_class(of_sample, targets),
        ranks=_ranks(hashes[smallest], seed),
    )


def components(nodes: int, first: Integers, second: Integers) -> Integers:
    """(nodes,) int64: the connected component of each node, joined by edges first[i]-second[i]."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(nodes, nodes))
    found: Integers = connected_components(edges, directed=False)[1].astype(np.int64)
    return found


def _linked(content: Integers, group: Integers) -> Integers:
    """(contents,) int64: the component of each content, joined through groups."""
    contents, groups = content.max() + 1, group.max() + 1
    joined = components(contents + groups, content, contents + group)[:contents]
    return np.unique(joined, return_inverse=True)[1]


def _rarest_class(of_sample: Integers, targets: NDArray[np.integer]) -> Integers:
    """(U,) int64: the class of each unit that the fewest units have; of equals, the smallest."""
    classes, codes = np.unique(targets, return_inverse=True)
    pairs = np.unique(of_sample * len(classes) + codes)
    units, codes = np.divmod(pairs, len(classes))
    order = np.lexsort((codes, np.bincount(codes)[codes], units))
    _, first = np.unique(units[order], return_index=True)
    rarest: Integers = classes[codes[order[first]]].astype(np.int64)
    return rarest


def _ranks(hashes: NDArray[np.bytes_], seed: int) -> Integers:
    """(U,) int64: a keyed hash of each hash, whose bytes are padded with zeros to whole words."""
    # torch takes seconds to import, which those who only read a split should not wait for.
    import torch

    from src.data.randomness import hash_words

    width = -(-hashes.dtype.itemsize // 8) * 8
    words = hashes.astype(f"S{width}").view("<i8").reshape(len(hashes), -1)
    ranks: Integers = hash_words(torch.from_numpy(words.astype(np.int64)), seed).numpy()
    return ranks
