"""Bundles: a trained model as a folder that can be served without a checkout.

    network.safetensors   a network's weights, and no code; or
    network.onnx, .pt2    an exported network, with its normalisation; or
    classifier.skops      a classifier on features, with the networks that compute them; or
    members/0, 1, ...     of an ensemble: a bundle per member, without the code
    passport.json         metadata: class names, picture size, settings; of a network, how it is
                          built, of an ensemble, how probabilities are combined
    code/                 the modules that decode, build and predict, as they were when written,
                          with those of the plugins that the model is made of
    certainty.npz         the model's answers on calibration pictures, for a champion; no code
    requirements.txt      the packages that these import, in the versions of that moment
    example.png           a picture to try; of other than grey or colour, example.npy
    digest.txt            of the files above but the example, written last: a bundle with it is
                          complete

`mlflow_model.py` among the code makes it an MLflow model. The metadata keep the file name of
earlier bundles, so that every version reads them all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..data.decoding.picture_format import PictureFormat
from ..machine.imports import import_object
from ..records.certainty import Certainty
from ..records.pictures import Pixels
from ..storage.files import replacing, write_atomically
from .bundled_code import (
    FOR_CLASSIFIERS,
    FOR_ENSEMBLES,
    FOR_NETWORKS,
    FOR_NETWORKS_OF_CLASSIFIERS,
    ship_modules,
    ship_plugins,
)
from .exported import ONNX_FILE, PT2_FILE, classifier_of, open_logits
from .predictor import Predictor, ensemble_predictor

if TYPE_CHECKING:  # a classifier on features needs no torch
    import torch
    from torch import nn

__all__ = [
    "CERTAINTY",
    "WEIGHTS",
    "add_certainty",
    "change_metadata",
    "open_network",
    "open_predictor",
    "read_metadata",
    "write_bundle",
    "write_classifier_bundle",
    "write_ensemble_bundle",
    "write_example",
    "write_exported_bundle",
]

WEIGHTS = "network.safetensors"
_CLASSIFIER = "classifier.skops"
_MEMBERS = "members"
_DIGESTS = "members/digests.txt"
_METADATA = "passport.json"
_DIGEST = "digest.txt"
_CODE = "code"
_REQUIREMENTS = "requirements.txt"
CERTAINTY = "certainty.npz"
# What the numbers of a promise are computed with.
_FOR_CERTAINTY = "scipy"
_PACKAGES = ("torch", "numpy", "pillow", "safetensors")
_CLASSIFIER_PACKAGES = ("numpy", "pillow", "scipy", "scikit-image", "scikit-learn", "skops")
_EXPORTED_PACKAGES = {
    ONNX_FILE: ("onnxruntime", "numpy", "pillow"),
    PT2_FILE: ("torch", "numpy", "pillow"),
}
_FURTHER = {"TimmNet": "timm", "TorchvisionNet": "torchvision"}


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
    return _complete(folder, WEIGHTS, metadata, example, FOR_NETWORKS, packages)


def write_classifier_bundle(
    folder: Path, file: Path, metadata: Mapping[str, Any], example: Pixels
) -> str:
    """Write the bundle of a classifier on features; otherwise as `write_bundle`.

    Args:
        file: that `FeatureClassifier.save` wrote.
        metadata: of the classifier, with the `networks` that compute features, if any.
    """
    _empty(folder)
    shutil.copyfile(file, folder / _CLASSIFIER)
    shipped, packages = list(FOR_CLASSIFIERS), list(_CLASSIFIER_PACKAGES)
    if networks := metadata.get("networks"):
        shipped += FOR_NETWORKS_OF_CLASSIFIERS
        packages += ["torch", *_libraries(one["target"] for one in networks)]
    return _complete(folder, _CLASSIFIER, metadata, example, shipped, packages)


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
        place = folder / _MEMBERS / str(number)
        write(place)
        # One copy of the code and one list of packages serves all.
        shutil.copytree(place / _CODE, folder / _CODE, dirs_exist_ok=True)
        shutil.rmtree(place / _CODE)
        needed = place / _REQUIREMENTS
        packages |= {line.partition("==")[0]: None for line in needed.read_text().split()}
        needed.unlink()
        digests.append(_write_digest(place, _model_file(place)))
    write_atomically(folder / _DIGESTS, "\n".join(digests) + "\n")
    return _complete(folder, _DIGESTS, metadata, example, FOR_ENSEMBLES, tuple(packages))


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
    return _complete(folder, name, metadata, example, (), _EXPORTED_PACKAGES[name])


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _libraries(targets: Iterable[str]) -> list[str]:
    """Return the packages, beside torch, of networks with these import paths."""
    names = (target.rpartition(".")[2] for target in targets)
    return [_FURTHER[name] for name in names if name in _FURTHER]


def _complete(
    folder: Path,
    model: str,
    metadata: Mapping[str, Any],
    example: Pixels,
    shipped: Sequence[str],
    packages: Sequence[str],
) -> str:
    """Write everything but the model's own file and return the digest."""
    content = json.dumps(dict(metadata), ensure_ascii=False, indent=1).encode()
    write_atomically(folder / _METADATA, content)
    ship_modules(folder / _CODE, shipped)
    packages = [*packages, *ship_plugins(folder / _CODE, metadata)]
    if not PictureFormat.of(metadata).ordinary:
        packages += _for_bands()
    # Without the build's own suffix (+cpu, +cu128): the machine that serves may need another.
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in dict.fromkeys(packages)]
    write_atomically(folder / _REQUIREMENTS, "\n".join(pinned) + "\n")
    write_example(folder, example, PictureFormat.of(metadata))
    return _write_digest(folder, model)


def _for_bands() -> list[str]:
    """Return the packages that read pictures of many bands or bits, as far as they are here."""
    return ["tifffile", *(name for name in ("imagecodecs", "pydicom") if find_spec(name))]


def write_example(folder: Path, example: Pixels, form: PictureFormat) -> None:
    """Write a decoded picture as a file that the model takes: of 8 bits, whatever its depth."""
    pixels = np.rint(example).astype(np.uint8).transpose(1, 2, 0)
    if form.bands is None:
        image = Image.fromarray(pixels[:, :, 0] if len(example) == 1 else pixels.copy())
        image.save(folder / "example.png")
        return
    whole = np.zeros((*pixels.shape[:2], form.band_count), np.uint8)
    whole[:, :, [band - 1 for band in form.bands]] = pixels
    np.save(folder / "example.npy", whole)


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
    model = _model_file(folder)
    needed = (folder / _REQUIREMENTS).read_text().split()
    (folder / _DIGEST).unlink()  # written last: until then the bundle is not complete
    certainty.write(folder / CERTAINTY)
    if not any(line.startswith(f"{_FOR_CERTAINTY}==") for line in needed):
        needed.append(f"{_FOR_CERTAINTY}=={version(_FOR_CERTAINTY)}")
        write_atomically(folder / _REQUIREMENTS, "\n".join(needed) + "\n")
    return _write_digest(folder, model)


def change_metadata(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """Change the metadata of a bundle and of its members, which predicts as before.

    Args:
        folder: a complete bundle.
        change: old metadata -> new.

    Returns:
        The bundle's digest from now on.

    Raises:
        OSError: the folder cannot be written, or holds no bundle.
        ValueError: the bundle is damaged.
    """
    model = _model_file(folder)
    if model == _CLASSIFIER:
        from ..features.classifier import FeatureClassifier

        classifier = FeatureClassifier.load(folder / model)
        replace(classifier, metadata=change(classifier.metadata)).save(folder / model)
    if model == _DIGESTS:
        members = (folder / _MEMBERS).glob("*/" + _DIGEST)
        numbered = sorted(members, key=lambda file: int(file.parent.name))
        digests = [change_metadata(file.parent, change) for file in numbered]
        write_atomically(folder / _DIGESTS, "\n".join(digests) + "\n")
    content = json.dumps(change(read_metadata(folder)), ensure_ascii=False, indent=1)
    write_atomically(folder / _METADATA, content)
    return _write_digest(folder, model)


def _write_digest(folder: Path, model: str) -> str:
    digest = _digest(folder, model)
    write_atomically(folder / _DIGEST, f"{digest}\n")
    return digest


def _model_file(folder: Path) -> str:
    files = (WEIGHTS, ONNX_FILE, PT2_FILE, _CLASSIFIER, _DIGESTS)
    found = next((name for name in files if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} holds no model")
    return found


def open_predictor(
    folder: Path, device: torch.device | None = None, batch_size: int = 128
) -> Predictor:
    """Return a predictor with the model of a bundle.

    Args:
        folder: the bundle.
        device: for a network that torch computes as in training; None for a GPU where there is
            one. Exported networks compute on the CPU.
        batch_size: pictures at once.

    Raises:
        ValueError: the bundle's files are damaged, or do not belong together.
    """
    try:
        predictor = _opened(folder, device, batch_size)
    except (LookupError, TypeError, AttributeError) as error:  # metadata that were changed
        _check_digest(folder)
        raise ValueError(f"{folder} holds no model that can be opened: {error!r}") from error
    _check_digest(folder)  # last, so that what is no model at all is refused with its own reason
    predictor.certainty = Certainty.read(folder / CERTAINTY)
    return predictor


def _opened(folder: Path, device: torch.device | None, batch_size: int) -> Predictor:
    if (folder / _CLASSIFIER).is_file():
        from ..features.classifier import FeatureClassifier

        classifier = FeatureClassifier.load(folder / _CLASSIFIER)
        return Predictor(
            classifier,
            classifier.metadata,
            describe=classifier.describe,
            batch_size=batch_size,
        )

    if (folder / _MEMBERS).is_dir():
        return _open_ensemble(folder, device, batch_size)

    logits = open_logits(folder)
    if logits is not None:
        return Predictor(classifier_of(logits), read_metadata(folder), batch_size=batch_size)

    import torch

    from ..training.links import link_of, outputs_of
    from .whole_network import network_classifier, network_describer

    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, metadata = open_network(folder), read_metadata(folder)
    classify = network_classifier(network, metadata, device)
    outputs = outputs_of(link_of(metadata), len(metadata["class_names"]))
    describe = network_describer(network, classify, outputs)
    return Predictor(classify, metadata, describe=describe, batch_size=batch_size)


def open_network(folder: Path) -> nn.Module:
    """Return the network of a bundle, in the state that it was built in.

    Raises:
        ValueError: the bundle holds no network that can be loaded.
    """
    from safetensors.torch import load_file

    from ..training.inference import require_finite

    try:
        network = _network(read_metadata(folder))
        network.load_state_dict(load_file(folder / WEIGHTS))
        require_finite(network)
    except Exception as error:  # safetensors and torch have many exceptions
        raise ValueError(f"{folder} holds no network that can be loaded: {error}") from error
    return network


def _check_digest(folder: Path) -> None:
    """Raise a ValueError unless the digest is that of the bundle's files."""
    try:
        stated = (folder / _DIGEST).read_text().strip()
        model = _model_file(folder)
        found = _digest(folder, model)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is no whole bundle: {error!r}") from error
    if stated != found:
        raise ValueError(
            f"{folder} is damaged: {model}, {_METADATA}, {CERTAINTY} or the code is not what "
            f"{_DIGEST} was written for; write the bundle anew, or put a copy of it back"
        )


def _digest(folder: Path, model: str) -> str:
    with (folder / model).open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256")
    # What Python writes beside modules when they are first imported is no part of the bundle.
    code = sorted((folder / _CODE).rglob("*.py"))
    for path in (folder / _METADATA, folder / CERTAINTY, folder / _REQUIREMENTS, *code):
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            hashed.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
            hashed.update(content)
    return hashed.hexdigest()


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a bundle.

    Raises:
        ValueError: its file is not there, or damaged.
    """
    try:
        metadata: dict[str, Any] = json.loads((folder / _METADATA).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable {_METADATA}: {error}") from error
    return metadata


def _open_ensemble(folder: Path, device: torch.device | None, batch_size: int) -> Predictor:
    try:
        metadata = read_metadata(folder)
        method = metadata["ensemble"]["way"]
        weights = [float(member["weight"]) for member in metadata["ensemble"]["members"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no ensemble that can be loaded: {error!r}") from error
    places = [folder / _MEMBERS / str(number) for number in range(len(weights))]
    members = [open_predictor(place, device) for place in places]
    found = [(place / _DIGEST).read_text().strip() for place in places]
    if (folder / _DIGESTS).read_text().split() != found:
        raise ValueError(f"{folder} was written with other members than it has")
    return ensemble_predictor(members, method, weights, metadata, batch_size=batch_size)


def _network(metadata: Mapping[str, Any]) -> nn.Module:
    from ..training.links import link_of, outputs_of

    channels = metadata["channels"]
    classes = outputs_of(link_of(metadata), len(metadata["class_names"]))
    make = import_object(metadata["network"]["target"], within="src.models.")
    return make(
        channels, classes, tuple(metadata["image_size"]), **metadata["network"]["arguments"]
    )
