"""Measure a trained run on a part of its data.

python -m src.evaluate run=ID split=test
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.evaluate in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.checks import input_of
from .config.command_line import run_command
from .config.finished import EvaluateSettings
from .machine.ending import leave
from .machine.status import doing
from .runs.folder import trained_run
from .runs.seal import refuse_changed


def evaluate(settings: EvaluateSettings, overrides: Sequence[str]) -> None:
    """Predict the part, print its metrics, and keep both with the run."""
    with input_of("run"):
        folder, checkpoint = trained_run(settings.run, Path(settings.output_dir))
        refuse_changed(folder.path, settings.changed)

    from .runs.finished.refusals import refuse_measuring

    refuse_measuring(folder, settings.split)

    with doing("loading PyTorch"):
        from .records.run import Predictions
        from .reporting.formatting import times_measured
        from .reporting.terminal import format_metrics
        from .runs.finished.evaluate import measure_again

    metrics, measurements = measure_again(folder, checkpoint, settings)
    stored = folder.predictions / f"{settings.split}.parquet"
    class_names = Predictions.read(stored, with_paths=False).class_names
    print(format_metrics(metrics, settings.split, class_names))
    if measurements is not None:
        print(f"the test part has been measured {times_measured(measurements)}", flush=True)
    print(f"summary: {folder.summary}")


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, EvaluateSettings, evaluate)


if __name__ == "__main__":
    leave(main())
