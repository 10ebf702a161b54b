"""Race model families and their hyperparameters; prune losers, train finalists over seeds.

python -m src.sweep study=NAME data=PICTURES budget.minutes=10
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.sweep in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import FLAGS, run_entry, take_config_name
from .config.sweep import SweepSettings, read_sweep_settings, sweep_choices, sweep_files
from .machine.ending import leave
from .machine.status import doing
from .sweeps.earlier_command import completed_command

_WIDTH = 100  # of what is no terminal
_NO_MULTIRUN = (
    "a sweep takes no -m or --multirun, since it runs many trainings by itself: name what races in "
    "families=[cnn,vit], and give each further sweep a command and a study=NAME of its own."
)


def sweep(settings: SweepSettings, overrides: Sequence[str], *, config_name: str) -> None:
    """Run a study, or go on with it, and print its result and the command that judges it."""
    if settings.workers.engine == "local":  # those of a cluster may be the only ones to have them
        from .data.sources.listing import check_root

        check_root(settings.data)
    with doing("loading Optuna"):
        from .reporting.sweep_report import format_result
        from .sweeps.launch import run_sweep

    record = run_sweep(settings, overrides, config_name)
    print(format_result(record, shutil.get_terminal_size((_WIDTH, 24)).columns))
    print(f"page: {settings.study_folder / 'sweep.html'}")
    if all(record.short):
        print(": ".join(record.short))
    print(f"next: {record.next_step}", flush=True)


def main() -> int:
    """Return the exit code of the command line."""
    argv, given = take_config_name(sys.argv[1:], default="")
    argv, config_name = completed_command(argv, given or None, default="default")
    return run_entry(
        __doc__ or "",
        partial(read_sweep_settings, config_name=config_name),
        partial(sweep, config_name=config_name),
        argv=argv,
        from_mlflow=("tracking.uri", "tracking.experiment"),
        choices=sweep_choices,
        flags=(f"--config-name NAME (of {', '.join(sweep_files())})", FLAGS),
        no_multirun=_NO_MULTIRUN,
    )


if __name__ == "__main__":
    leave(main())
