"""What differs between the pictures of two runs that cannot be compared, in a sentence."""

from __future__ import annotations

from collections import Counter

from ...data.splitting.splits import PARTS, Split
from ...machine.text import counted
from ...targets import kind_of
from .read_runs import FinishedRun, picture_order

__all__ = ["difference", "renumbered"]

_ONE_LISTING = "train them from one listing of the pictures, whose names and lines stay as they are"
_ONE_SPLIT = "name runs of one split"


def renumbered(run: FinishedRun, other: FinishedRun) -> bool:
    """Return whether runs have equally divided pictures, and number them in different orders."""
    fingerprint = run.summary.split_fingerprint
    if fingerprint is None or fingerprint != other.summary.split_fingerprint:
        return False
    orders = picture_order(run), picture_order(other)
    other_numbers = run.measured.pictures != other.measured.pictures
    return "" not in orders and (other_numbers or orders[0] != orders[1])


def difference(run: FinishedRun, other: FinishedRun) -> str:
    """Return what differs between the pictures of two runs, and what to do, without a full stop."""
    if renumbered(run, other):
        return (
            "they number the same pictures in different orders, as after files were renamed or the "
            "lines of a table moved, so their answers cannot be compared picture by picture: "
            f"{_ONE_LISTING}"
        )
    pixels = any(kind_of(one.target).pixels for one in (run, other))
    what = _of_splits(run, other)
    remedy = f"{_ONE_SPLIT}, in one size" if pixels else _ONE_SPLIT
    return (
        f"they were measured on different pictures{what}, so no difference between them would mean "
        f"anything: {remedy}"
    )


def _of_splits(run: FinishedRun, other: FinishedRun) -> str:
    """Return what differs between the splits, in brackets; "" where that is not known."""
    try:
        splits = [Split.read(one.folder.split) for one in (run, other)]
    except (OSError, ValueError):
        return ""
    names = [one.folder.name for one in (run, other)]
    own, others = (Counter(_kept(split)) for split in splits)
    for name, alone, second in ((names[0], own - others, 1), (names[1], others - own, 0)):
        if count := alone.total():
            return f" ({counted(count, 'picture')} of {name} not in {names[second]})"
    if sorted(_labelled(splits[0])) != sorted(_labelled(splits[1])):
        return " (the same ones with other labels, or with their classes in another order)"
    return " (the same ones in other parts, as by data.split_seed)"


def _kept(split: Split) -> list[bytes]:
    """Return the content hashes of the pictures that are in a part."""
    kept = split.parts != PARTS.index("dropped")
    found: list[bytes] = split.content_hashes[kept].tolist()
    return found


def _labelled(split: Split) -> list[tuple[bytes, str]]:
    kept = split.parts != PARTS.index("dropped")
    masks = split.mask_hashes
    labels = split.targets if masks is None else masks
    return list(zip(_kept(split), map(str, labels[kept].tolist()), strict=True))
