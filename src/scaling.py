"""Forecast what more training pictures would bring, by trainings on fewer of them.

python -m src.scaling run=champion
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.scaling in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import run_command
from .config.finished import ScalingSettings
from .config.overrides import key_of_override
from .machine.ending import leave
from .machine.status import doing


def scaling(settings: ScalingSettings, overrides: Sequence[str]) -> None:
    """Train on fractions of the pictures, and print the forecast."""
    with doing("reading the run"):
        from .selection.scaling_plan import plan_scaling

        plan = plan_scaling(settings)

    # torch and the rest are paid for only once it is known what to do with them.
    with doing("loading PyTorch"):
        from .reporting.data_scaling_report import format_scaling
        from .runs.folder import predict_command
        from .selection.data_scaling import measure_scaling

    record, drawing = measure_scaling(plan, settings)
    width, wrapped = shutil.get_terminal_size().columns, sys.stdout.isatty()
    print(format_scaling(record, width, wrapped=wrapped))
    print(f"figure: {drawing}", flush=True)
    kept = [one for one in overrides if key_of_override(one) in ("output_dir", "plugins")]
    target = plan.chosen.settings.data.target
    label = predict_command(settings.run, target, "label_next=100", *kept)
    print(f"which pictures to label first: {label}", flush=True)


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, ScalingSettings, scaling)


if __name__ == "__main__":
    leave(main())
