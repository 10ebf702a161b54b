"""A contact sheet of the pictures that somebody should look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, zip_longest

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.records.run import Suspect
from src.reporting.contact_sheets import Cell, sheet
from src.reporting.style import INK, MUTED, WARNING, plain_labels

__all__ = ["suspects_sheet"]

_SHOWN = 36


def suspects_sheet(suspects: Sequence[Suspect], read: Callable[[int], NDArray[np.uint8]]) -> Figure:
    """The worst suspects, as many of each kind as there is room for.

    Args:
        suspects: the worst of each kind first.
        read: index -> picture (C, H, W) uint8.
    """
    shown = list(islice(_by_turns(suspects), _SHOWN))
    shown.sort(key=lambda suspect: suspect.kind)
    labels = plain_labels([suspect.label for suspect in shown], longest=17)
    others = plain_labels([s.suggested or s.like or "-" for s in shown], longest=17)
    cells = []
    for suspect, label, other in zip(shown, labels, others, strict=True):
        what = f"{suspect.kind} {suspect.score:.2f}"
        name = label
        if suspect.suggested:
            name, detail = f"is {label}", f"rather {other}"
        elif suspect.like:
            detail = f"like {other}"
        else:
            detail = suspect.part
        cells.append(Cell(read(suspect.index), ((what, WARNING), (name, INK), (detail, MUTED))))
    count = f" ({len(shown)} of {len(suspects):,})" if len(suspects) > len(shown) else ""
    return sheet(cells, f"Suspects{count}" if cells else "There are no suspects", columns=6)


def _by_turns(suspects: Sequence[Suspect]) -> Iterator[Suspect]:
    """The worst of each kind, then the second worst of each, and so on."""
    kinds: dict[str, list[Suspect]] = defaultdict(list)
    for suspect in suspects:
        kinds[suspect.kind].append(suspect)
    for row in zip_longest(*kinds.values()):
        yield from (suspect for suspect in row if suspect is not None)
