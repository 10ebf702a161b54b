"""Check that runs, studies and stores are what was written, and repair what can be made anew.

python -m src.verify run=RUN
python -m src.verify output_dir=outputs repair=true
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.verify in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import run_command
from .config.finished import VerifySettings


def verify(settings: VerifySettings, overrides: Sequence[str]) -> bool:
    """Print a line for each fault and how much was checked; returns whether all is well."""
    from .machine.text import counted
    from .verification.targets import verify_all

    checked, faults = verify_all(settings)
    count = 0
    well = True
    for fault in faults:
        count += 1
        well &= fault.repaired
        print(
            f"{'repaired' if fault.repaired else 'damaged'}  {fault.place}: {fault.what}; "
            f"{fault.remedy}",
            flush=True,
        )
    print(f"checked {checked}: {counted(count, 'fault') if count else 'no fault'}", flush=True)
    return well


def main() -> int:
    """Return the exit code: 0 all is well, 1 something is damaged, 2 the input is wrong."""
    return run_command(__doc__, VerifySettings, verify)


if __name__ == "__main__":
    sys.exit(main())
