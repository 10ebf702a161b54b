"""Repeat the measurements: python -m benchmarks [NAME ...]

One table at the end: what was measured, the bar, and whether it is met. Leave the machine alone
meanwhile; on two cores `photos` and `rivals` take hours, and the rest some half an hour.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.table import Row, print_table

__all__ = ["main", "measurements"]


def measurements() -> list[str]:
    """Return the names of the modules and packages here that measure something."""
    here = Path(__file__).parent
    files = (*here.glob("*.py"), *here.glob("*/__init__.py"))
    found = (file for file in files if "\ndef measure(" in file.read_text(encoding="utf-8"))
    return sorted(file.relative_to(here).parts[0].removesuffix(".py") for file in found)


def main(wanted: Iterable[str]) -> int:
    """0 if every bar is met, 1 if one is missed, 2 for a name that is none."""
    known = measurements()
    chosen = list(wanted) or known
    if unknown := [name for name in chosen if name not in known]:
        print(f"there is no {', '.join(unknown)}: choose of {', '.join(known)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in chosen:
        print(f"measuring {name} ...", flush=True)
        found = importlib.import_module(f"benchmarks.{name}").measure()
        for row in found:
            print(f"  {row.what}: {row.measured}, bar {row.bar}", flush=True)
        rows += found
    if rows:
        print()
        print_table(rows)
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
