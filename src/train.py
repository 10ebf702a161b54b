"""Train one image classifier and track the whole run.

python -m src.train model=cnn data=digits optimizer.lr=0.002 seed=1
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from src.config.command_line import run_entry
from src.config.resume import read_run_settings
from src.config.schema import RunSettings


def train(settings: RunSettings, words: Sequence[str]) -> None:
    """Run the experiment and print where its summary lies."""
    # torch, Lightning and the rest are paid for only once the settings are known to be right.
    from src.experiment import run_experiment

    summary = run_experiment(settings, command=shlex.join(["python", "-m", "src.train", *words]))
    if summary is not None:  # None in the helper processes of a run on several devices
        print(f"summary: {summary.run_dir}/summary.json", flush=True)


def main() -> int:
    """The exit code of the command line."""
    return run_entry(__doc__ or "", read_run_settings, train)


if __name__ == "__main__":
    sys.exit(main())
