"""Compare finished runs by their stored predictions: which candidate to use, and how sure.

python -m src.compare sweep=NAME
python -m src.compare sweep=NAME ensemble=true
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.compare in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import run_command
from .config.console import written_to
from .config.finished import CompareSettings
from .machine.ending import leave
from .machine.package import PACKAGE
from .machine.spare_cores import SpareCores
from .machine.status import doing

# Of fewer runs all is done in a moment, and processes more would take longer to begin.
_MANY_RUNS = 300


def compare(settings: CompareSettings, overrides: Sequence[str]) -> None:
    """Print the leaderboard and the verdict, and leave a report beside the runs and in MLflow.

    With `ensemble`, a combination of the runs is made and compared with them.
    """
    with SpareCores(f"{PACKAGE}.reporting.comparison_figures", _MANY_RUNS) as spare:
        _compare(settings, overrides, spare)


def _compare(settings: CompareSettings, overrides: Sequence[str], spare: SpareCores) -> None:
    with doing("reading and judging runs"):
        from .reporting.comparison_report import format_comparison
        from .selection.comparison import compared

        comparison, made = compared(settings, spare=spare), None
        if settings.subgroup is not None:  # a wrong one is refused before anything is shown or made
            from .selection.comparison.report import subgroups_of

            subgroups_of(comparison, settings)
    if settings.ensemble:
        with doing("loading PyTorch"):
            from .selection.combined_run import with_ensemble

        comparison, made = with_ensemble(comparison, settings)
    width, wrapped = shutil.get_terminal_size((120, 24)).columns, sys.stdout.isatty()
    print(format_comparison(comparison, width, wrapped=wrapped), flush=True)

    # Imported after the verdict is printed, because the report takes a moment to import.
    with doing("preparing the report"):
        from .selection.choice import choice_command
        from .selection.comparison.write import comparison_folder, tracked, write_comparison

    next_step = choice_command(comparison, settings.part, overrides, made)
    folder = comparison_folder(settings)
    page = folder / "report.html"
    with written_to("output_dir", folder), tracked(comparison, folder, settings) as tracker:
        for file in write_comparison(comparison, settings, next_step, spare):
            tracker.artifact(file, "" if file.parent == folder else file.parent.name)
            if file == page:  # whole without the pictures that are drawn next to it
                print(f"report: {page}", flush=True)
    if tracked_as := tracker.finish("FINISHED"):
        print(f"report in MLflow: artifacts of run {tracked_as}")
    if next_step is not None:
        print(f"next: {next_step}", flush=True)


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, CompareSettings, compare, from_mlflow=["tracking.uri"])


if __name__ == "__main__":
    leave(main())
