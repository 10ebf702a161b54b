"""Folds: training and validation pictures, divided so that each picture is held out once.

Within a class the folds differ by one picture at most where every group is a single picture; what
belongs together (copies, named groups, shots of one subject) stays in one fold. The only group of a
class trains in all folds, as it trains where parts are drawn: nothing else teaches the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...machine.arrays import BoolArray, Int64Array
from ...targets.labels import memberships
from ..randomness import derive_seed
from .groups import Groups, group_pictures
from .splits import PARTS, Split

__all__ = ["assign_folds", "groups_of_classes", "hold_out", "training_seed"]

_TRAIN, _VAL = PARTS.index("train"), PARTS.index("val")


def training_seed(seed: int, fold: int | None) -> int:
    """Return the seed of weights, order and augmentation: the run's, or a fold's (from 1) own.

    It stays below 2**31, because scikit-learn takes no larger ones than 2**32.
    """
    return seed if fold is None else derive_seed(seed, fold) % 2**31


def hold_out(split: Split, folds: NDArray[np.int16], fold: int) -> Split:
    """Return the split in which one fold validates and the others train; test and dropped stay.

    `folds` are (N,) as `assign_folds` gives them of this split, and `fold` counts from 0.
    """
    parts = np.where(split.parts == _VAL, np.int8(_TRAIN), split.parts)
    parts[folds == fold] = _VAL
    return replace(split, parts=parts)


def assign_folds(
    split: Split,
    count: int,
    *,
    seed: int,
    repeat: int,
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
    near: Int64Array | None = None,
) -> NDArray[np.int16]:
    """Divide the N pictures of a split into folds; those that none holds out get -1.

    They are the test and dropped pictures, and the only group of a class.

    The largest groups go first, each to the fold that has the least of the group's classes, every
    class measured by its own size: where the squares of the shares grow least. Groups of equal size
    go class by class in an order drawn by seed and repeat. Then a group moves wherever that makes
    the squares smaller still and leaves no fold without a class that it had, until none does.

    Args:
        split: the part of each picture; training and validation are pooled.
        count: folds, at least 2.
        seed, groups, near: as of `make_split`.
        repeat: from 0; each has folds of its own.
        class_names: K names.

    Raises:
        ValueError: fewer groups can be held out than there are folds.
    """
    pool = np.concatenate([split.train, split.val])
    pool.sort()
    targets = split.targets[pool]
    order = derive_seed(seed, repeat)
    # Of all pictures: two that a test picture joins, as the middle one of three shots does, are of
    # one subject as well.
    whole = group_pictures(split.targets, split.content_hashes, groups, seed=order, near=near)
    found = group_pictures(
        targets, split.content_hashes[pool], whole.of_sample[pool].tolist(), seed=order
    )
    lone = _only_ones(found, targets, len(class_names))
    if lone.any():
        free = ~lone[found.of_sample]
        pool, targets = pool[free], targets[free]
        found = group_pictures(
            targets, split.content_hashes[pool], found.of_sample[free].tolist(), seed=order
        )
    if len(found.sizes) < count:
        raise ValueError(
            f"there are {count} folds, but only {len(found.sizes)} training and validation "
            "pictures that can be held out (copies, groups and shots of one subject count as one, "
            "and the only one of a class trains): take fewer folds, or add pictures"
        )
    folds = np.full(len(split.parts), -1, np.int16)
    folds[pool] = _dealt(found, targets, count)[found.of_sample]
    return folds


def groups_of_classes(of_sample: Int64Array, targets: Int64Array, classes: int) -> Int64Array:
    """Return (K,) how many groups have a picture of each class.

    Args:
        of_sample: (N,) the group of each picture.
        targets: (N,) the classes, or of label sets (N, K), 0 and 1.
        classes: K.
    """
    members, of_member = memberships(targets)
    pairs = np.unique(np.stack([of_member, of_sample[members]]), axis=1)
    return np.bincount(pairs[0], minlength=classes)[:classes]


def _only_ones(groups: Groups, targets: Int64Array, classes: int) -> BoolArray:
    """Return (G,) which groups have a class to themselves."""
    having = groups_of_classes(groups.of_sample, targets, classes)
    members, of_member = memberships(targets)
    # After the classes come, of label sets, the pictures without any: of these any number will do.
    alone = np.append(having == 1, False)[of_member]
    lone = np.zeros(len(groups.sizes), bool)
    lone[groups.of_sample[members[alone]]] = True
    return lone


def _dealt(groups: Groups, targets: Int64Array, count: int) -> NDArray[np.int16]:
    """Return (G,) the fold of each group."""
    members, of_member = memberships(targets)
    classes = int(of_member.max()) + 1
    totals = np.bincount(of_member, minlength=classes).tolist()
    pairs, numbers = np.unique(groups.of_sample[members] * classes + of_member, return_counts=True)
    contents: list[list[tuple[int, int]]] = [[] for _ in groups.sizes]
    for pair, number in zip(pairs.tolist(), numbers.tolist(), strict=True):
        contents[pair // classes].append((pair % classes, number))
    held = [[0] * classes for _ in range(count)]
    sizes = [0] * count
    dealt = np.empty(len(groups.sizes), np.int16)
    for group in np.lexsort((groups.ranks, groups.strata, -groups.sizes)).tolist():
        holds = contents[group]

        def crowded(fold: int, holds: list[tuple[int, int]] = holds) -> tuple[float, int]:
            own = held[fold]
            return sum(n / totals[c] * own[c] / totals[c] for c, n in holds), sizes[fold]

        fold = min(range(count), key=crowded)
        dealt[group] = fold
        for c, number in holds:
            held[fold][c] += number
            sizes[fold] += number
    # Single pictures of one class alone are as even as can be.
    if len(contents) < len(targets) or targets.ndim == 2:
        _even_out(dealt, contents, held, totals)
    return dealt


def _even_out(
    dealt: NDArray[np.int16],
    contents: list[list[tuple[int, int]]],
    held: list[list[int]],
    totals: list[int],
) -> None:
    """Move groups, in place, as long as a move makes the squares of the shares smaller."""

    def gain(holds: list[tuple[int, int]], old: list[int], new: list[int]) -> float:
        return sum(n * (old[c] - new[c] - n) / totals[c] ** 2 for c, n in holds)

    moved = True
    while moved:
        moved = False
        for group, holds in enumerate(contents):
            old = held[dealt[group]]
            if any(old[c] == n for c, n in holds):
                continue  # the fold's last ones of a class
            gains = [gain(holds, old, new) if new is not old else 0.0 for new in held]
            best = max(range(len(held)), key=gains.__getitem__)
            if gains[best] > 1e-12:  # more than rounding, or it might go round and round
                for c, n in holds:
                    old[c] -= n
                    held[best][c] += n
                dealt[group] = best
                moved = True
