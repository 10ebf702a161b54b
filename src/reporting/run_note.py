"""The description of a run in MLflow, as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..records.run import RunSummary
from .formatting import code_block, duration, escaped, part_texts

__all__ = ["note", "run_note"]

_ENDINGS = {"FINISHED": "Finished", "FAILED": "Failed", "KILLED": "Stopped"}
_LONGEST_COMMAND = 2000  # a note that MLflow would have to cut ends within its code block
_WIDTH = 72  # of a line of a command: a longer one pushes what is beside it off MLflow's page
_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


def note(headline: str, command: str, results: Mapping[str, str | None]) -> str:
    """Return what a run is, the results that there are by their labels, and its command.

    Args:
        headline: one line.
        command: the command line that repeats the run.
        results: texts by label; those that are None are left out.
    """
    rows = [f"- {name}: {escaped(text)}" for name, text in results.items() if text is not None]
    shown = command if len(command) <= _LONGEST_COMMAND else f"{command[:_LONGEST_COMMAND]} ..."
    parts = [escaped(headline), "\n".join(rows), code_block(_continued(shown))]
    return "\n\n".join(part for part in parts if part)


def _continued(command: str) -> str:
    """Return a command in lines that a shell reads as one, broken between its words."""
    words = _WORD.findall(command)
    if " ".join(words) != command:  # cut short within quotes, or of other spaces
        return command
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) >= _WIDTH:
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def run_note(headline: str, command: str, summary: RunSummary | None = None) -> str:
    """Return the description of a run, with its results once there is a summary.

    Args:
        headline: model, data and size, in one line.
        command: the command line that repeats the run.
        summary: of the run that has ended; None for one that goes on.
    """
    if summary is None:
        return note(headline, command, {})
    results = {
        **part_texts(summary.metrics, "val", "validation"),
        **part_texts(summary.metrics, "test", "test"),
        _ENDINGS[summary.status].lower(): f"after {duration(summary.duration_seconds)}",
        "reason": summary.reason,
    }
    return note(headline, command, results)
