"""The name of this package, and the commands that a person types for its entries.

The code is the package `src` of a checkout (`python -m src.train`), and `bakeoff` where it is
installed (`bakeoff train`).
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

__all__ = [
    "CHECKOUT",
    "ENTRIES",
    "PACKAGE",
    "PRESETS",
    "command",
    "module_command",
    "overrides_of",
    "package_version",
    "typed",
]

PACKAGE = __name__.partition(".")[0]
_FOLDER = Path(__file__).resolve().parents[1]
# The folder of the checkout; None where the package is installed.
CHECKOUT = _FOLDER.parent if PACKAGE == "src" else None
# What holds conf/ and sweeps/.
PRESETS = CHECKOUT or _FOLDER / "presets"
# Commands with their modules, and what each does.
ENTRIES = {
    "train": ("train", "train one model"),
    "sweep": ("sweep", "race architectures and settings"),
    "compare": ("compare", "recommend a candidate, with its uncertainty"),
    "select": ("select", "make the verdict's choice the champion"),
    "predict": ("predict", "label pictures"),
    "evaluate": ("evaluate", "measure a finished run on a part of its pictures"),
    "scaling": ("scaling", "forecast what more training pictures would bring"),
    "export": ("export", "make a run faster: ONNX, int8, torch.export"),
    "push": ("push", "publish a model: a folder, or the Hugging Face hub"),
    "verify": ("verify", "check that files are what was written"),
    "weights": ("weights", "list the pretrained networks that load here"),
    "ui": ("tracking.ui", "show the tracked runs in a browser"),
    "replay": ("tracking.replay", "send to MLflow what it has missed"),
    "dashboard": ("sweeps.dashboard", "show a sweep's study in Optuna's pages"),
}

_COMMAND = re.compile(r"python -m src\.(?:\w+\.)?(\w+)")


def command(entry: str, *overrides: str) -> str:
    """Return the command line that a person types for an entry, quoted for a shell.

    Args:
        entry: a key of `ENTRIES`.
        overrides: of the settings, and flags.
    """
    start = ["bakeoff", entry] if CHECKOUT is None else ["python", "-m", f"src.{ENTRIES[entry][0]}"]
    return shlex.join([*start, *overrides])


def overrides_of(line: str, entry: str) -> list[str] | None:
    """Return what follows an entry on a command line of `command`; None for another command."""
    arguments = shlex.split(line)
    for start in (["bakeoff", entry], ["python", "-m", f"src.{ENTRIES[entry][0]}"]):
        if arguments[: len(start)] == start:
            return arguments[len(start) :]
    return None


def typed(text: str) -> str:
    """Return a text with its commands, `python -m src.train` and so on, as they are typed here."""
    if CHECKOUT is not None:
        return text
    return _COMMAND.sub(lambda found: f"bakeoff {found[1]}", text)


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package, with the same Python.

    Args:
        module: its name within the package, such as "tracking.mirror".
        arguments: of its command line.
    """
    return [sys.executable, "-m", f"{PACKAGE}.{module}", *arguments]


def package_version() -> str:
    """Return the version of this code, such as "0.1.0"."""
    if CHECKOUT is None:
        return version("bakeoff")
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
