"""Put a trained model where others find it: a folder, or a repository of the Hugging Face hub.

python -m src.push run=champion to=FOLDER license=apache-2.0
python -m src.push run=ID to=hf://USER/NAME
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.push in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.checks import ConfigError, input_of
from .config.command_line import run_command
from .config.finished import HUB, PushSettings
from .machine.ending import leave
from .machine.status import doing
from .runs.folder import RunFolder, refuse_unfinished


def push(settings: PushSettings, overrides: Sequence[str]) -> None:
    """Write or send the files, and print where they are and how they are used."""
    with input_of("run"):
        folder = RunFolder.find(settings.run, Path(settings.output_dir))
        refuse_unfinished(folder)
    if settings.to.startswith(HUB) and not _has_token():
        raise ConfigError(
            "to: the hub takes files from those it knows: set HF_TOKEN to a token with the right "
            "to write (the hub's settings, Access Tokens)."
        )
    with doing("loading PyTorch"):
        from .selection.publish import publish

    publish(folder, settings)


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, PushSettings, push)


if __name__ == "__main__":
    leave(main())
