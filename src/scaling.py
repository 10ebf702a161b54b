"""Forecast what more training pictures would bring, by trainings on fewer of them.

python -m src.scaling run=champion
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.scaling in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import run_entry
from .config.compose import compose_settings
from .config.finished import ScalingSettings
from .machine.ending import leave
from .machine.package import command
from .machine.status import doing


def scaling(settings: ScalingSettings, overrides: Sequence[str]) -> None:
    """Train on fractions of the pictures, and print the forecast."""
    with doing("reading the run"):
        from .selection.scaling_plan import plan_scaling

        plan = plan_scaling(settings)

    # torch and the rest are paid for only once it is known what to do with them.
    with doing("loading PyTorch and Lightning"):
        from .reporting.data_scaling_report import format_scaling
        from .selection.data_scaling import measure_scaling
        from .targets import kind_of

    record, drawing = measure_scaling(plan, settings)
    width, wrapped = shutil.get_terminal_size().columns, sys.stdout.isatty()
    print(format_scaling(record, width, wrapped=wrapped))
    print(f"figure: {drawing}", flush=True)
    pixels = kind_of(plan.chosen.settings.data.target).pixels
    kept = ("run=", "output_dir=", "plugins=")
    given = [one for one in overrides if one.startswith(kept)]
    out = "out=MASKS" if pixels else "out=labels.csv"
    named = [*given, "images=FOLDER", out, "label_next=100"]
    print(f"which pictures to label first: {command('predict', *named)}", flush=True)


def main() -> int:
    """The exit code of the command line."""
    read = partial(compose_settings, ScalingSettings, config_name="scaling")
    return run_entry(__doc__ or "", read, scaling)


if __name__ == "__main__":
    leave(main())
