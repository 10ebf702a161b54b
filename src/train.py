"""Train one image classifier and track the whole run.

python -m src.train model=cnn data=digits optimizer.lr=0.002 seed=1
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.train in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.command_line import ChildEnded, run_entry
from .config.compose import groups
from .config.plugins import plugin_overrides
from .config.schema import RunSettings
from .machine.ending import leave
from .machine.package import command, module_command
from .machine.status import doing
from .machine.subprocesses import end_with_parent, run_bound
from .runs.settings import of_pictures, read_settings

if TYPE_CHECKING:
    from .records.run import RunSummary


def train(settings: RunSettings, overrides: Sequence[str]) -> None:
    """Run the experiment and print where its summary lies."""
    if settings.trainer.devices != 1 and list(overrides) != sys.argv[1:]:
        # For each further device Lightning repeats the command line of this process, which in a
        # multirun means all jobs and not this one: such a job gets a process of its own.
        if code := run_bound(module_command("train", *overrides)):
            raise ChildEnded(code)
        return

    from .data.sources.listing import check_root

    check_root(of_pictures(settings).data)
    # torch and the rest are paid for only once the settings are known to be right.
    with doing("loading PyTorch"):
        from .runs.build import check_plugins
        from .runs.experiment import run_experiment

    check_plugins(settings)
    line = command("train", *plugin_overrides(), *overrides)
    summary = run_experiment(settings, command=line)
    if summary is not None:  # None in the further processes of a run on several devices
        print(f"next: {_next_step(settings, summary)}")
        print(f"summary: {summary.run_dir}/summary.json", flush=True)


def _next_step(settings: RunSettings, summary: RunSummary) -> str:
    """Return the command that uses the model; of a cross-validation the one that makes one."""
    from .runs.folder import RunFolder, predict_command

    folder = RunFolder.open(Path(summary.run_dir))
    place = folder.place_overrides()
    if settings.cv.is_whole:
        return command("select", f"run={folder.name}", "refit=true", *place)
    return predict_command(folder.name, settings.data.target, *place)


def main() -> int:
    """Return the exit code of the command line."""
    if os.environ.get("LOCAL_RANK", "0") != "0":  # a further device's process
        end_with_parent()
    mirrored = ("tracking.uri", "tracking.experiment")
    return run_entry(__doc__ or "", read_settings, train, from_mlflow=mirrored, choices=groups)


if __name__ == "__main__":
    leave(main())
