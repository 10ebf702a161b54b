"""The split of a data set into its train, val and test parts.

A split is a function of the pictures' contents, their classes and a seed. Listing order
and folders do not matter, names only where successive numbers hint at a burst of one subject, and
a picture more or less moves hardly any other one.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...machine.arrays import BoolArray, BytesArray, Int64Array, IntegerArray
from ...machine.text import csv_cell, from_csv_cell
from ...storage.files import replacing
from ...targets.labels import label_codes
from .groups import Groups, deal_iteratively, group_pictures

__all__ = ["PARTS", "EmptyPart", "Split", "make_split", "refuse_overlap"]

# The codes of `Split.parts`. A picture that is on both sides of given parts stays in the part
# with the higher code: the test part is never thinned for the sake of the training part.
PARTS = ("train", "val", "test", "dropped")
_TRAIN, _VAL, _TEST, _DROPPED = range(4)
_COLUMNS = ("part", "target", "content_hash", "path")
# Of label sets, whose digits 0 and 1 are one cell.
_COLUMNS_OF_SETS = ("part", "labels", "content_hash", "path")
_COLUMNS_WITH_MASKS = (*_COLUMNS_OF_SETS, "mask_hash")
_MOST_NAMED = 10


class EmptyPart(ValueError):
    """No picture would be left for a part.

    Attributes:
        part: "training" or "validation".
    """

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, eq=False)
class Split:
    """The part of each of N pictures."""

    parts: NDArray[np.int8]  # (N,) indices into `PARTS`
    targets: Int64Array  # (N,) the classes, or of label sets (N, K), 0 and 1
    content_hashes: BytesArray  # (N,) fixed-width ASCII
    names: tuple[str, ...] | None = None  # N paths; None where the pictures have none
    # (N,) fixed-width ASCII: the mask of each and what its values mean; None without masks
    mask_hashes: BytesArray | None = None
    # (N,) `parts` as they were before `with_less_training`; None where it left out none
    unlimited: NDArray[np.int8] | None = None

    @cached_property
    def train(self) -> Int64Array:
        """Sorted int64 indices of the pictures that train."""
        return np.flatnonzero(self.parts == _TRAIN)

    @cached_property
    def val(self) -> Int64Array:
        """Sorted int64 indices of the pictures that select."""
        return np.flatnonzero(self.parts == _VAL)

    @cached_property
    def test(self) -> Int64Array:
        """Sorted int64 indices of the pictures that are measured once; may be empty."""
        return np.flatnonzero(self.parts == _TEST)

    @cached_property
    def dropped(self) -> Int64Array:
        """Sorted int64 indices of the copies that are left out."""
        return np.flatnonzero(self.parts == _DROPPED)

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits that name this division of these contents, wherever they lie.

        SHA-256 over the sorted (content hash, class, part) of the pictures that are not dropped;
        the hash of a mask stands before the part.
        """
        kept = self.parts != _DROPPED
        masks = self.mask_hashes
        rows = np.empty(
            int(kept.sum()),
            [
                ("hash", self.content_hashes.dtype),
                ("target", ">i8", self.targets.shape[1:]),
                *([] if masks is None else [("mask", masks.dtype)]),
                ("part", "u1"),
            ],
        )
        rows["hash"] = self.content_hashes[kept]
        rows["target"] = self.targets[kept]
        if masks is not None:
            rows["mask"] = masks[kept]
        # The last byte of a row must not be 0: NumPy takes zeros at the end for padding.
        rows["part"] = self.parts[kept] + 1
        return hashlib.sha256(np.sort(rows.view(f"S{rows.itemsize}")).tobytes()).hexdigest()

    @cached_property
    def division(self) -> str:
        """64 hex digits that are equal where the same pictures may be trained and judged on.

        Those of `fingerprint`, but for what `with_less_training` left out.
        """
        return self.whole.fingerprint

    def numbers_as(self, other: Split) -> bool:
        """Return whether index i is a picture of the same content here and there, for every i.

        Splits of equal fingerprints need not: files may have been renamed between them.
        """
        return np.array_equal(self.content_hashes, other.content_hashes)

    def is_of_same(self, other: Split) -> bool:
        """Return whether both divide the same pictures, labels and masks in the same order."""
        rows = ("targets", "content_hashes", "mask_hashes")
        return all(np.array_equal(getattr(self, row), getattr(other, row)) for row in rows)

    @property
    def whole(self) -> Split:
        """The split with what `with_less_training` left out."""
        if self.unlimited is None:
            return self
        return replace(self, parts=self.unlimited, unlimited=None)

    @cached_property
    def test_fingerprint(self) -> str:
        """64 hex digits that name the pictures of the test part alone, with their classes."""
        parts = np.where(self.parts == _TEST, self.parts, np.int8(_DROPPED))
        return replace(self, parts=parts).fingerprint

    def with_val_training(self) -> Split:
        """Return the split in which the validation pictures train as well; test stays."""

        def training(parts: NDArray[np.int8]) -> NDArray[np.int8]:
            return np.where(parts == _VAL, np.int8(_TRAIN), parts)

        whole = None if self.unlimited is None else training(self.unlimited)
        return replace(self, parts=training(self.parts), unlimited=whole)

    def limited(self, most: int) -> Split:
        """Return the split with at most so many pictures in each part, the others dropped.

        They are taken in turns from the classes, or from the sets of labels, those with the
        smallest content hashes first.

        Args:
            most: pictures of a part, at least 1.
        """
        parts = np.full_like(self.parts, _DROPPED)
        for code in (_TRAIN, _VAL, _TEST):
            own, rank, _ = self._ranked(code)
            parts[own[np.argsort(rank, kind="stable")[:most]]] = code
        return replace(self, parts=parts)

    def with_less_training(self, most: int) -> Split:
        """Return the split with at most so many training pictures, the others dropped.

        Each class, or set of labels, keeps its share of them, and one picture at the least while
        there is room; those with the smallest content hashes stay, so that fewer are always among
        more.

        Args:
            most: training pictures, at least 1.
        """
        parts = np.where(self.parts == _TRAIN, np.int8(_DROPPED), self.parts)
        parts[self.sample("train", most)] = _TRAIN
        return replace(self, parts=parts, unlimited=self.parts)

    def sample(self, part: str, most: int) -> Int64Array:
        """Return sorted indices of at most so many pictures of a part of `PARTS`.

        They are those that `with_less_training` keeps: drawn by their contents, each class with its
        share.
        """
        own, rank, sizes = self._ranked(PARTS.index(part))
        # By how much of the class comes before a picture; the first of each comes first.
        order = np.lexsort(((rank + 0.5) / sizes, rank > 0))
        return np.sort(own[order[:most]])

    def _ranked(self, part: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Return (n,) pictures of a part, the rank of each in its class, and the class's size."""
        own = np.flatnonzero(self.parts == part)
        labels = label_codes(self.targets[own])
        order = np.lexsort((self.content_hashes[own], labels))
        _, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
        rank = np.arange(len(own)) - np.repeat(first, sizes)
        return own[order], rank, np.repeat(sizes, sizes)

    def write(self, path: Path) -> None:
        """Write the manifest: a CSV file with part, target, content hash and path per picture.

        Pictures with masks have those of masks as well.
        """
        names = [*map(csv_cell, self.names or ("",) * len(self.parts))]
        parts = [PARTS[part] for part in self.parts.tolist()]
        hashes = self.content_hashes.astype(str).tolist()
        with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            sets = self.targets.ndim == 2
            targets: list[Any] = self.targets.tolist()
            if sets:
                targets = ["".join(map(str, row)) for row in targets]
            columns = [parts, targets, hashes, names]
            header: tuple[str, ...] = _COLUMNS_OF_SETS if sets else _COLUMNS
            if self.mask_hashes is not None:
                columns.append(self.mask_hashes.astype(str).tolist())
                header = _COLUMNS_WITH_MASKS
            rows.writerow(header)
            rows.writerows(zip(*columns, strict=True))

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read back what `write` wrote.

        Raises:
            ValueError: the file is no manifest.
        """
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        header = tuple(rows[0]) if rows else ()
        known = (_COLUMNS, _COLUMNS_OF_SETS, _COLUMNS_WITH_MASKS)
        if header not in known or any(len(row) != len(header) for row in rows):
            raise ValueError(f"{path} is no split manifest: its columns must be {_COLUMNS}.")
        columns = [*zip(*rows[1:], strict=True)] if rows[1:] else [()] * len(header)
        parts, targets, hashes, names, *masks = columns
        codes = {part: code for code, part in enumerate(PARTS)}
        if unknown := set(parts) - set(codes):
            raise ValueError(f"{path} has the part {unknown.pop()!r}: it must be one of {PARTS}.")
        return cls(
            np.array([codes[part] for part in parts], np.int8),
            np.array([[*row] for row in targets] if header[1] == "labels" else targets, np.int64),
            np.array(hashes, "S"),
            tuple(map(from_csv_cell, names)) if any(names) else None,
            np.array(masks[0], "S") if masks else None,
        )


def make_split(
    targets: IntegerArray,
    content_hashes: BytesArray,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    given_parts: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    on_duplicates: str = "error",
    names: Sequence[str] | None = None,
    near: Int64Array | None = None,
) -> Split:
    """Divide N pictures into train, val and test.

    Parts that are given stay as they are; each one that is not is cut from the training pictures.
    Pictures of equal content or group always land on one side, and so do nearly equal ones that are
    dealt here; where parts are given, those may stand on both sides. Every class is dealt on its
    own: a part gets its fraction of the class's pictures, rounded half up, to within half of the
    group at the border. A class of at least 3 groups is in every part that is wanted, a class of
    one group trains. Label sets are dealt by `deal_iteratively`. (A group of several classes counts
    as the rarest of them; a picture without copies and without a group name is a group of its own.)

    Args:
        targets: (N,) integers, the classes, or of label sets (N, K), 0 and 1.
        content_hashes: (N,) fixed-width ASCII bytes.
        seed: of the split; not that of the training.
        val_fraction, test_fraction: shares of the training pictures, in [0, 1); ignored where the
            part is given.
        given_parts: N times "train", "val" or "test"; None where all are "train".
        groups: N names of groups, or None.
        on_duplicates: what to do with a group that lies in several given parts: "error", or "drop"
            its copies in all but the last of train, val, test.
        names: N names for messages and the manifest, or None.
        near: (P, 2) pairs of pictures that are nearly equal, or None.

    Raises:
        EmptyPart: a part would be empty (test may be).
        ValueError: the given parts share pictures, or an argument is out of range.
    """
    if on_duplicates not in ("error", "drop"):
        raise ValueError(f"on_duplicates is {on_duplicates!r}: it must be error or drop.")
    parts = np.zeros(len(targets), np.int8) if given_parts is None else _as_numbers(given_parts)
    val_fraction = 0.0 if (parts == _VAL).any() else val_fraction
    test_fraction = 0.0 if (parts == _TEST).any() else test_fraction
    if val_fraction < 0 or test_fraction < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction is {val_fraction:g} and test_fraction {test_fraction:g}: neither may be "
            "below 0 and their sum must be below 1, or nothing is left to train on."
        )
    grouped = group_pictures(targets, content_hashes, groups, seed=seed)
    last = _last_parts(grouped, parts)
    refused = on_duplicates == "error"
    astray = _astray(grouped, parts, content_hashes, names, refused=refused)

    # Groups that lie in a given val or test part stay there; the others are divided.
    if near is not None:
        free = (last == _TRAIN)[grouped.of_sample]
        near = near[free[near].all(axis=1)]
        grouped = group_pictures(targets, content_hashes, groups, seed=seed, near=near)
        last = _last_parts(grouped, parts)
    if targets.ndim == 2:
        cut = _cut_sets(grouped, targets, last == _TRAIN, val_fraction, test_fraction)
    else:
        cut = _cut(grouped, last == _TRAIN, val_fraction, test_fraction)
    parts = np.where(astray, np.int8(_DROPPED), np.maximum(last, cut)[grouped.of_sample])
    known = None if names is None else tuple(names)
    split = Split(parts, np.asarray(targets, np.int64), content_hashes, known)
    if given_parts is not None and not (last == _TRAIN).any():
        named = " and ".join(PARTS[code] for code in np.unique(last))
        raise ValueError(
            f"all {len(targets)} pictures are given as {named}, and none as train: those to learn "
            "from have to be of the part train."
        )
    _refuse_empty_parts(split, val_fraction, test_fraction)
    return split


def refuse_overlap(
    targets: IntegerArray,
    content_hashes: BytesArray,
    given_parts: Sequence[str],
    groups: Sequence[str] | None,
    names: Sequence[str] | None,
) -> None:
    """Refuse given parts that share pictures or groups; arguments as of `make_split`.

    Raises:
        ValueError: they do.
    """
    grouped = group_pictures(targets, content_hashes, groups, seed=0)
    _astray(grouped, _as_numbers(given_parts), content_hashes, names, refused=True)


def _astray(
    groups: Groups,
    parts: NDArray[np.int8],
    content_hashes: BytesArray,
    names: Sequence[str] | None,
    *,
    refused: bool,
) -> BoolArray:
    """Return (N,) bool: the pictures whose group is in a later part, too; raises if `refused`."""
    astray: BoolArray = parts != _last_parts(groups, parts)[groups.of_sample]
    if refused and astray.any():
        raise ValueError(
            _overlap_message(np.flatnonzero(astray), parts, groups, content_hashes, names)
        )
    return astray


def _refuse_empty_parts(split: Split, val_fraction: float, test_fraction: float) -> None:
    for part, indices in (("training", split.train), ("validation", split.val)):
        if len(indices) == 0:
            raise EmptyPart(
                part,
                f"the {part} part would be empty ({len(split.parts)} pictures, val_fraction "
                f"{val_fraction:g}, test_fraction {test_fraction:g}): add pictures or change the "
                "fractions. A class needs three pictures to be in every part, and copies, groups "
                "and shots of one subject count as one.",
            )


def _as_numbers(given_parts: Sequence[str]) -> NDArray[np.int8]:
    """Return (N,) places in `PARTS`; ValueError for a name that is none of a part."""
    found, inverse = np.unique(np.asarray(given_parts), return_inverse=True)
    if unknown := set(found.tolist()) - set(PARTS[:_DROPPED]):
        raise ValueError(
            f"a picture is in the part {min(unknown)!r}: it must be train, val or test."
        )
    return np.array([PARTS.index(part) for part in found.tolist()], np.int8)[inverse]


def _last_parts(groups: Groups, parts: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return (G,) int8: the highest part that each group has a picture in."""
    last = np.zeros(len(groups.sizes), np.int8)
    np.maximum.at(last, groups.of_sample, parts)
    return last


def _cut(
    groups: Groups, free: BoolArray, val_fraction: float, test_fraction: float
) -> NDArray[np.int8]:
    """Return (G,) int8: the part of each group; those that are not `free` count as train."""
    cut = np.zeros(len(groups.sizes), np.int8)
    for stratum in groups.by_stratum.values():
        dealt = stratum[free[stratum]]
        # Test takes the lowest ranks and val the highest: a picture more moves one border of each.
        tests = _groups_for(test_fraction, groups.sizes[dealt])
        vals = _groups_for(val_fraction, groups.sizes[dealt][::-1])
        tests = min(tests, max(len(dealt) - 1 - (val_fraction > 0 and len(dealt) > 2), 0))
        vals = min(vals, max(len(dealt) - 1 - tests, 0))
        cut[dealt[:tests]] = _TEST
        cut[dealt[len(dealt) - vals :]] = _VAL
    return cut


def _cut_sets(
    groups: Groups,
    targets: IntegerArray,
    free: BoolArray,
    val_fraction: float,
    test_fraction: float,
) -> NDArray[np.int8]:
    """Return (G,) int8 as `_cut` does, of pictures with label sets."""
    counts = np.zeros((len(groups.sizes), targets.shape[1]), np.int64)
    np.add.at(counts, groups.of_sample, targets)
    # In the order of their codes. A part that is not wanted gets nothing.
    shares = [1 - val_fraction - test_fraction, val_fraction, test_fraction]
    wanted = [part for part, share in enumerate(shares) if share > 0]
    chosen = np.flatnonzero(free)
    cut = np.zeros(len(groups.sizes), np.int8)
    dealt = deal_iteratively(
        counts[chosen],
        groups.sizes[chosen],
        groups.ranks[chosen],
        [shares[part] for part in wanted],
    )
    cut[chosen] = np.array(wanted, np.int8)[dealt]
    return cut


def _groups_for(fraction: float, sizes: Int64Array) -> int:
    """Return how many of the first groups hold nearest to `fraction` of the pictures."""
    if fraction == 0:
        return 0
    filled = np.concatenate([[0], np.cumsum(sizes)])
    # The small number takes back what 0.145 * 100 loses as a binary fraction.
    wanted = math.floor(fraction * int(filled[-1]) + 0.5 + 1e-9)
    nearest = int(np.argmin(np.abs(filled - wanted)))
    return max(nearest, 1) if len(sizes) > 2 else nearest


def _overlap_message(
    astray: Int64Array,
    parts: NDArray[np.int8],
    groups: Groups,
    content_hashes: BytesArray,
    names: Sequence[str] | None,
) -> str:
    """Name up to ten pictures that lie in another part than the rest of their group."""

    def described(index: int) -> str:
        name = f"picture {index}" if names is None else names[index]
        return f"{name} ({PARTS[parts[index]]})"

    lines = []
    for index in astray[:_MOST_NAMED].tolist():
        later = (groups.of_sample == groups.of_sample[index]) & (parts > parts[index])
        copies = later & (content_hashes == content_hashes[index])
        twin, relation = (copies, "equals") if copies.any() else (later, "shares its group with")
        lines.append(f"  {described(index)} {relation} {described(int(np.argmax(twin)))}")
    more = len(astray) - len(lines)
    lines += [f"  and {more} more"] if more else []
    return (
        "the given parts overlap, so a score on one would be partly known from another; take the "
        "copies out, or have them dropped from the earlier part by data.on_duplicates=drop:\n"
        + "\n".join(lines)
    )
