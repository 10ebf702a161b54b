"""The provenance of a run: command line, code, packages, machine; no environment variables."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..machine.hardware import processor
from ..machine.parallel import available_cores
from ..machine.subprocesses import ROOT
from ..storage.files import write_atomically
from .addresses import without_password

__all__ = ["Git", "Provenance", "command_line", "read_git", "read_machine", "read_packages"]

_GIT_SECONDS = 10
_LONGEST_DIFF_BYTES = 1 << 20
_PACKAGES = (
    *("torch", "torchvision", "pytorch-lightning", "timm", "numpy", "scikit-learn"),
    *("scikit-image", "pillow", "hydra-core", "omegaconf", "optuna", "mlflow"),
)
# Options of Python, of which several may be one argument; those that are named take a value.
_OPTION = re.compile(r"-[^-cmWX]*(?P<name>.?)(?P<value>.*)", re.DOTALL)


@dataclass(frozen=True)
class Git:
    """The code of a checkout: commit hash, and what differs from it (text, cut at 1 MB)."""

    commit: str
    diff: str

    @property
    def dirty(self) -> bool:
        return bool(self.diff)


@dataclass(frozen=True)
class Provenance:
    """The provenance of a run; `git` is None where the code is no checkout, or git is missing."""

    command: str
    git: Git | None
    packages: dict[str, str]
    machine: dict[str, Any]

    @classmethod
    def read(cls) -> Provenance:
        """Return the provenance of this process; never raises."""
        return cls(command_line(), read_git(ROOT), read_packages(), read_machine())

    def tags(self) -> dict[str, str]:
        """Return it as tags of a run; a tag that MLflow defines has MLflow's name."""
        tags = {
            "bakeoff.command": self.command,
            "mlflow.source.name": _source_name(shlex.split(self.command)),
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
        }
        if self.git is not None:
            tags["mlflow.source.git.commit"] = self.git.commit
            tags["bakeoff.git.dirty"] = str(self.git.dirty).lower()
        return tags

    def write(self, folder: Path) -> list[Path]:
        """Write `provenance.json`, and `changes.diff` where there are changes; returns the files.

        Raises:
            OSError: the folder cannot be written.
        """
        git = self.git and {"commit": self.git.commit, "dirty": self.git.dirty}
        content = asdict(self) | {"git": git}
        files = [folder / "provenance.json"]
        write_atomically(files[0], json.dumps(content, indent=2) + "\n")
        if self.git is not None and self.git.dirty:
            files.append(folder / "changes.diff")
            write_atomically(files[1], without_password(self.git.diff))
        return files


def command_line() -> str:
    """Return this process's command line, without passwords in URIs."""
    return without_password(shlex.join(["python", *sys.orig_argv[1:]]))


def _source_name(arguments: list[str]) -> str:
    """Return the module or the script that a command line runs."""
    rest = iter(arguments[1:] if arguments[0] == "python" else ())
    for argument in rest:
        option = _OPTION.fullmatch(argument)
        if option is None:
            return Path(argument).name
        value = option["value"] or (next(rest, "") if option["name"] else "")
        if option["name"] == "m":
            return value
        if option["name"] == "c":
            break
    return arguments[0]


def read_git(root: Path) -> Git | None:
    """Return the commit of the checkout at `root` and the changes against it; None without one.

    A checkout further up that contains `root` does not count. Untracked files are not part of the
    diff. Never raises.
    """
    found = _git(root, "rev-parse", "--show-toplevel", "HEAD")  # a line each
    top, _, commit = (found or b"").rstrip(b"\n").rpartition(b"\n")
    if not top or Path(os.fsdecode(top)).resolve() != root.resolve():
        return None
    diff = _git(root, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color") or b""
    text = diff[:_LONGEST_DIFF_BYTES].decode(errors="replace")
    if len(diff) > _LONGEST_DIFF_BYTES:
        text += f"\n[cut: {len(diff):,} bytes in all]\n"
    return Git(commit.decode(), text)


@cache
def read_packages() -> dict[str, str]:
    """Return versions of Python and of the installed main dependencies, without importing them."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def read_machine() -> dict[str, Any]:
    """Return system, processor, cores that this process may use, memory and GPUs.

    GPUs are named only where torch is imported already, as its import takes seconds.
    """
    from ..machine.memory import total_memory  # it loads psutil

    torch = sys.modules.get("torch")
    gpus = []
    if torch is not None and torch.cuda.is_available():
        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpu": processor(),
        "cores": available_cores(),
        "memory_gb": round(total_memory() / 1e9, 1),
        "gpus": gpus,
    }


def _git(root: Path, *arguments: str) -> bytes | None:
    # Called from a git hook, GIT_DIR and its like would point to another repository.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _user() -> str:
    try:
        return getpass.getuser()
    # A user id without a name, as in some containers; Windows without USERNAME.
    except (ImportError, KeyError, OSError):
        return "unknown"
