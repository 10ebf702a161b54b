"""Make the verdict's choice the champion: refit, measure once, register, describe.

python -m src.select sweep=NAME refit=true
python -m src.select run=ID
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.select in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import run_command
from .config.finished import SelectSettings
from .machine.ending import leave
from .machine.status import doing


def select(settings: SelectSettings, overrides: Sequence[str]) -> None:
    """Choose, and print what was done."""
    with doing("reading runs"):
        from .selection.choice import choose

        chosen = choose(settings)

    # torch and the rest are paid for only once it is known what to do with them.
    with doing("loading PyTorch"):
        from .selection import select as selecting

    selecting.select(chosen, settings)


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, SelectSettings, select)


if __name__ == "__main__":
    leave(main())
