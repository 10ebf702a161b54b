"""Writes the bundle of a trained model, and changes what a bundle says beside its answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..data.decoding.picture_format import PictureFormat
from ..records.certainty import Certainty
from ..records.pictures import Pixels
from ..storage.array_files import save_array
from ..storage.files import copy_folder, replacing, write_atomically
from .bundle_files import (
    CERTAINTY,
    CLASSIFIER,
    CODE,
    DIGEST,
    DIGESTS,
    MEMBERS,
    METADATA,
    REQUIREMENTS,
    WEIGHTS,
    check_digest,
    model_file,
    read_metadata,
    write_digest,
)
from .bundled_code import (
    FOR_CLASSIFIERS,
    FOR_ENSEMBLES,
    FOR_NETWORKS,
    FOR_NETWORKS_OF_CLASSIFIERS,
    ship_modules,
    ship_plugins,
)
from .exported import ONNX_FILE, PT2_FILE

if TYPE_CHECKING:  # a classifier on features needs no torch
    from torch import nn

__all__ = [
    "add_certainty",
    "change_metadata",
    "write_bundle",
    "write_classifier_bundle",
    "write_ensemble_bundle",
    "write_example",
    "write_exported_bundle",
]

# What the numbers of a promise are computed with.
_FOR_CERTAINTY = "scipy"
_PACKAGES = ("torch", "numpy", "pillow", "safetensors")
_CLASSIFIER_PACKAGES = ("numpy", "pillow", "scipy", "scikit-image", "scikit-learn", "skops")
_EXPORTED_PACKAGES = {
    ONNX_FILE: ("onnxruntime", "numpy", "pillow"),
    PT2_FILE: ("torch", "numpy", "pillow"),
}
_DECODERS = ("timm", "segmentation-models-pytorch")
_FURTHER = {
    "TimmNet": ("timm",),
    "TorchvisionNet": ("torchvision",),
    "SegmentationNet": ("torchvision",),
    "UNet": _DECODERS,
    "DeepLab": _DECODERS,
}


def write_bundle(
    folder: Path, network: nn.Module, metadata: Mapping[str, Any], example: Pixels
) -> str:
    """Write the bundle of a trained network; one that is there is replaced.

    Args:
        folder: to write to.
        network: the network that predicts.
        metadata: of the run's checkpoints; see `ClassificationTask`.
        example: a picture (C, H, W).

    Returns:
        A digest of weights, metadata and code, 64 hex digits: bundles with equal digests predict
        the same. `add_certainty` changes it.

    Raises:
        OSError: the folder cannot be written.
    """
    from safetensors.torch import save_file

    _empty(folder)
    # Copies: safetensors stores neither shared memory nor other layouts than contiguous.
    weights = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
    with replacing(folder / WEIGHTS) as temporary:
        save_file(weights, temporary)
    packages = (*_PACKAGES, *_libraries([metadata["network"]["target"]]))
    return _complete(folder, metadata, example, FOR_NETWORKS, packages)


def write_classifier_bundle(
    folder: Path, file: Path, metadata: Mapping[str, Any], example: Pixels
) -> str:
    """Write the bundle of a classifier on features; otherwise as `write_bundle`.

    Args:
        file: that `FeatureClassifier.save` wrote.
        metadata: of the classifier, with the `networks` that compute features, if any.
    """
    _empty(folder)
    shutil.copyfile(file, folder / CLASSIFIER)
    shipped, packages = list(FOR_CLASSIFIERS), list(_CLASSIFIER_PACKAGES)
    if networks := metadata.get("networks"):
        shipped += FOR_NETWORKS_OF_CLASSIFIERS
        packages += ["torch", *_libraries(one["target"] for one in networks)]
    return _complete(folder, metadata, example, shipped, packages)


def write_ensemble_bundle(
    folder: Path,
    members: Sequence[Callable[[Path], object]],
    metadata: Mapping[str, Any],
    example: Pixels,
) -> str:
    """Write the bundle of an ensemble; otherwise as `write_bundle`.

    Args:
        members: each writes its own bundle into a folder.
        metadata: `ensemble` has the `way` of combination and of each of its `members` the `weight`.
    """
    _empty(folder)
    digests: list[str] = []
    packages: dict[str, None] = {}  # a set that keeps its order
    for number, write in enumerate(members):
        place = folder / MEMBERS / str(number)
        write(place)
        # One copy of the code and one list of packages serves all.
        copy_folder(place / CODE, folder / CODE)
        shutil.rmtree(place / CODE)
        needed = place / REQUIREMENTS
        packages |= {line.partition("==")[0]: None for line in needed.read_text().split()}
        needed.unlink()
        digests.append(write_digest(place))
    write_atomically(folder / DIGESTS, "\n".join(digests) + "\n")
    return _complete(folder, metadata, example, FOR_ENSEMBLES, tuple(packages))


def write_exported_bundle(
    folder: Path, file: Path, metadata: Mapping[str, Any], example: Pixels
) -> str:
    """Write the bundle of an exported network; otherwise as `write_bundle`.

    Args:
        file: the network, .onnx or .pt2: decoded pictures to logits.
        metadata: of the run's checkpoints, and the name of the variant.
    """
    name = {".onnx": ONNX_FILE, ".pt2": PT2_FILE}[file.suffix]
    _empty(folder)
    shutil.copyfile(file, folder / name)
    return _complete(folder, metadata, example, (), _EXPORTED_PACKAGES[name])


def _empty(folder: Path) -> None:
    (folder / DIGEST).unlink(missing_ok=True)  # first: from now on the bundle is not complete
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _libraries(targets: Iterable[str]) -> list[str]:
    """Return the packages, beside torch, of networks with these import paths."""
    names = (target.rpartition(".")[2] for target in targets)
    return [library for name in names for library in _FURTHER.get(name, ())]


def _complete(
    folder: Path,
    metadata: Mapping[str, Any],
    example: Pixels,
    shipped: Sequence[str],
    packages: Sequence[str],
) -> str:
    """Write everything but the model's own file and return the digest."""
    content = json.dumps(dict(metadata), ensure_ascii=False, indent=1)
    write_atomically(folder / METADATA, content)
    ship_modules(folder / CODE, shipped)
    packages = [*packages, *ship_plugins(folder / CODE, metadata)]
    if not PictureFormat.of(metadata).ordinary:
        packages += _for_bands()
    # Without the build's own suffix (+cpu, +cu128): the machine that serves may need another.
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in dict.fromkeys(packages)]
    write_atomically(folder / REQUIREMENTS, "\n".join(pinned) + "\n")
    write_example(folder, example, PictureFormat.of(metadata))
    return write_digest(folder)


def _for_bands() -> list[str]:
    """Return the packages that read pictures of many bands or bits, as far as they are here."""
    return ["tifffile", *(name for name in ("imagecodecs", "pydicom") if find_spec(name))]


def write_example(folder: Path, example: Pixels, form: PictureFormat) -> None:
    """Write a decoded picture as a file that the model takes: of 8 bits, whatever its depth."""
    height, width = form.image_size  # a window is enough of a large picture
    pixels = np.rint(example[:, :height, :width]).astype(np.uint8).transpose(1, 2, 0)
    if form.bands is None:
        image = Image.fromarray(pixels[:, :, 0] if len(example) == 1 else pixels.copy())
        image.save(folder / "example.png")
        return
    whole = np.zeros((*pixels.shape[:2], form.band_count), np.uint8)
    whole[:, :, [band - 1 for band in form.bands]] = pixels
    save_array(folder / "example.npy", whole)


def add_certainty(folder: Path, certainty: Certainty) -> str:
    """Add a model's answers on calibration pictures to its bundle.

    Args:
        folder: a complete bundle.
        certainty: of the model.

    Returns:
        The bundle's digest from now on.

    Raises:
        OSError: the folder cannot be written, or holds no bundle.
    """
    needed = (folder / REQUIREMENTS).read_text().split()
    (folder / DIGEST).unlink()  # written last: until then the bundle is not complete
    certainty.write(folder / CERTAINTY)
    if not any(line.startswith(f"{_FOR_CERTAINTY}==") for line in needed):
        needed.append(f"{_FOR_CERTAINTY}=={version(_FOR_CERTAINTY)}")
        write_atomically(folder / REQUIREMENTS, "\n".join(needed) + "\n")
    return write_digest(folder)


def change_metadata(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """Change the metadata of a bundle and of its members, which predicts as before.

    Args:
        folder: a complete bundle.
        change: old metadata -> new.

    Returns:
        The bundle's digest from now on.

    Raises:
        OSError: the folder cannot be written, or holds no bundle.
        ValueError: the bundle is damaged; it gets no digest that would call it whole.
    """
    check_digest(folder)
    model = model_file(folder)
    if model == CLASSIFIER:
        from ..features.classifier import FeatureClassifier

        classifier = FeatureClassifier.load(folder / model)
        replace(classifier, metadata=change(classifier.metadata)).save(folder / model)
    if model == DIGESTS:
        members = (folder / MEMBERS).glob("*/" + DIGEST)
        numbered = sorted(members, key=lambda file: int(file.parent.name))
        digests = [change_metadata(file.parent, change) for file in numbered]
        write_atomically(folder / DIGESTS, "\n".join(digests) + "\n")
    content = json.dumps(change(read_metadata(folder)), ensure_ascii=False, indent=1)
    write_atomically(folder / METADATA, content)
    return write_digest(folder)
