"""Which of many pictures without masks are worth drawing masks of first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...config.checks import ConfigError
from ...config.console import written_to
from ...data.sources.answers import next_folder, next_table
from ...machine.arrays import UInt8Array
from ...machine.text import counted, csv_text
from ...storage.files import write_atomically
from .shortlist import Shortlist

__all__ = ["MasksNext"]


class MasksNext:
    """The pictures about whose pixels a model is least certain, as `LabelNext` has them.

    The table has no copies beside it: a predicted mask has the numbers of classes for pixels, and
    masks to learn from may have other values.

    Args:
        out: the folder of all masks; the table lies beside it.
        count: pictures wanted.

    Attributes:
        table: CSV file with `path`, `mask` and `score`.

    Raises:
        ConfigError: it is there already.
    """

    def __init__(self, out: Path, count: int) -> None:
        self.table = next_table(next_folder(out))
        if os.path.lexists(self.table):
            raise ConfigError(
                f"label_next: {self.table} is there already: move it away, or name another folder "
                "with out."
            )
        self._out = out
        self._shortlist: Shortlist[str] = Shortlist(count)

    def add(self, path: str, uncertainty: float, mask: str) -> None:
        """Add a picture with its mask, a path relative to `out`; see `Shortlist.add`."""
        self._shortlist.add(path, uncertainty, mask)

    def write(self, shown: Callable[[str], UInt8Array]) -> str:
        """Write the table, and return lines on it.

        Args:
            shown: returns a thumbnail (3, H, W) uint8 of a path.

        Raises:
            ConfigError: it cannot be written.
        """
        chosen = self._shortlist.chosen(shown)
        remarks = self._shortlist.remarks(chosen)
        if not chosen:
            return "\n".join(["to label next: no picture.", *remarks])
        rows = [
            (os.path.abspath(one.file), str(self._out / one.answer), f"{one.uncertainty:.4f}")
            for one in chosen
        ]
        with written_to("label_next", self.table):
            write_atomically(self.table, csv_text(("path", "mask", "score"), rows))
        done = (
            f"to label next: {counted(len(chosen), 'picture')}, in {self.table}. Draw their masks, "
            "or correct copies of the model's, in the values that your other masks have, and add "
            "them to the training part alone."
        )
        return "\n".join([done, *remarks])
