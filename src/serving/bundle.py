"""A trained network as a folder that needs no checkout: weights, passport, the code for both.

    network.safetensors   weights, and nothing that could run
    passport.json         class names, picture size, normalisation, network, settings
    code/                 the modules that decode, build and predict, as they were then
    requirements.txt      the packages that these import, in the versions of then
    example.png           a picture to try
    digest.txt            of weights and passport, written last: the rest is whole

`mlflow_model.py` among the code makes it an MLflow model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from src.files import replacing, write_atomically
from src.serving.predictor import Predictor

__all__ = ["open_predictor", "write_bundle"]

_WEIGHTS = "network.safetensors"
_PASSPORT = "passport.json"
# The package's own `src/`; what a prediction imports of it is shipped, and no more.
_SOURCES = Path(__file__).resolve().parents[1]
_SHIPPED = (
    "__init__.py",
    "files.py",
    "data/__init__.py",
    "data/decode.py",
    "data/source.py",
    "data/transforms.py",
    "models/*.py",
    "serving/*.py",
    "training/__init__.py",
    "training/inference.py",
    "training/tta.py",
)
_NETWORKS = "src.models."
_PACKAGES = ("torch", "numpy", "pillow", "safetensors")
_FURTHER = {"TimmNet": "timm", "TorchvisionNet": "torchvision"}


def write_bundle(
    folder: Path, network: nn.Module, passport: Mapping[str, Any], example: NDArray[np.uint8]
) -> str:
    """Write the bundle of a trained network; one that is there is replaced.

    Args:
        folder: to write to.
        network: the one whose predictions count.
        passport: what the run's checkpoints say of it; see `ClassificationTask`.
        example: a picture (C, H, W) uint8.

    Returns:
        A digest of weights and passport, 64 hex digits: two bundles with the same one predict the
        same.

    Raises:
        OSError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # A copy of each: what shares memory or lies there in another order cannot be stored.
    weights = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
    with replacing(folder / _WEIGHTS) as temporary:
        save_file(weights, temporary)
    stated = json.dumps(dict(passport), ensure_ascii=False, indent=1).encode()
    write_atomically(folder / _PASSPORT, stated)
    for source in _shipped():
        target = folder / "code" / "src" / source.relative_to(_SOURCES)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    further = _FURTHER.get(passport["network"]["target"].rpartition(".")[2])
    packages = [*_PACKAGES, *([further] if further else [])]
    # Without the build's own suffix (+cpu, +cu128): the machine that serves may need another.
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in packages]
    write_atomically(folder / "requirements.txt", "\n".join(pinned) + "\n")
    pixels = example[0] if len(example) == 1 else example.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(folder / "example.png")
    with (folder / _WEIGHTS).open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256")
    hashed.update(stated)
    write_atomically(folder / "digest.txt", f"{hashed.hexdigest()}\n")
    return hashed.hexdigest()


def open_predictor(folder: Path, device: torch.device | None = None) -> Predictor:
    """What labels pictures with a bundle's network; by default on a GPU where there is one.

    Raises:
        ValueError: the bundle's files are damaged, or do not belong together.
    """
    from safetensors.torch import load_file

    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        passport = json.loads((folder / _PASSPORT).read_bytes())
        network = _network(passport)
        network.load_state_dict(load_file(folder / _WEIGHTS))
    except Exception as error:  # safetensors and torch have many words for a damaged file
        raise ValueError(f"{folder} holds no network that can be loaded: {error}") from error
    return Predictor(network, passport, device)


def _network(passport: Mapping[str, Any]) -> nn.Module:
    target, arguments = passport["network"]["target"], passport["network"]["arguments"]
    module, _, name = target.rpartition(".")
    if not f"{module}.".startswith(_NETWORKS):
        raise ValueError(f"{target} is no network of {_NETWORKS}*")
    network: nn.Module = getattr(import_module(module), name)(
        passport["channels"],
        len(passport["class_names"]),
        tuple(passport["image_size"]),
        **arguments,
    )
    return network


def _shipped() -> Iterator[Path]:
    for pattern in _SHIPPED:
        yield from sorted(_SOURCES.glob(pattern))
