"""A trained model as a folder that needs no checkout: weights, passport, the code for both.

    network.safetensors   a network's weights, and nothing that could run; or
    network.onnx, .pt2    an exported network, with its normalisation; or
    classifier.skops      a classifier on features, with all that describes its pictures; or
    members/0, 1, ...     of several models that answer as one: a bundle each, without the code
    passport.json         class names, picture size, settings; of a network, how it is built, of
                          several models, how their answers become one
    code/                 the modules that decode, build and predict, as they were then, with those
                          of the plugins that the model is made of
    requirements.txt      the packages that these import, in the versions of then
    example.png           a picture to try
    digest.txt            of weights and passport, written last: the rest is whole

`mlflow_model.py` among the code makes it an MLflow model.
"""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.machine.imports import SHIPPED_PLUGINS, import_object, is_foreign
from src.serving.exported import ONNX_FILE, PT2_FILE, classifier_of, open_logits
from src.serving.predictor import Predictor
from src.storage.files import replacing, write_atomically

if TYPE_CHECKING:  # a classifier on features needs no torch
    import torch
    from torch import nn

__all__ = [
    "open_predictor",
    "write_bundle",
    "write_classifier_bundle",
    "write_ensemble_bundle",
    "write_exported_bundle",
]

_WEIGHTS = "network.safetensors"
_CLASSIFIER = "classifier.skops"
_MEMBERS = "members"
_DIGESTS = "members/digests.txt"
_PASSPORT = "passport.json"
_DIGEST = "digest.txt"
# The package's own `src/`; what a prediction imports of it is shipped, and no more.
_SOURCES = Path(__file__).resolve().parents[1]
_SHIPPED = (
    "__init__.py",
    *(f"machine/{name}.py" for name in ("__init__", "disk", "imports", "openmp", "text")),
    *("storage/__init__.py", "storage/files.py", "data/__init__.py"),
    *(f"data/decoding/{name}.py" for name in ("__init__", "decode", "depth")),
    *("data/sources/__init__.py", "data/sources/source.py"),
    *(
        f"serving/{name}.py"
        for name in ("__init__", "bundle", "exported", "inputs", "mlflow_model", "predictor")
    ),
)
_SHIPPED_FOR_NETWORKS = (
    "serving/network.py",
    *(f"data/augmentation/{name}.py" for name in ("__init__", "affine", "transforms")),
    "models/*.py",
    *(f"training/{name}.py" for name in ("__init__", "inference", "tta")),
)
_SHIPPED_FOR_CLASSIFIERS = (
    *(f"features/{name}.py" for name in ("__init__", "calibration", "classifier", "embedding")),
    *(f"features/{name}.py" for name in ("fusion", "means", "rbf", "scaling", "selection")),
    "features/descriptors/*.py",
)
_SHIPPED_FOR_ENSEMBLES = (
    "serving/ensemble.py",
    *("metrics/__init__.py", "metrics/inputs.py", "metrics/probabilistic.py"),
    *("ensembles/__init__.py", "ensembles/mixing.py"),
)
_SHIPPED_FOR_EXPORTED = {
    ONNX_FILE: ("serving/onnx_network.py",),
    PT2_FILE: ("serving/pt2_network.py",),
}
# What a plugin's file may import of the settings, beside the code of its own.
_SHIPPED_FOR_PLUGINS = tuple(
    f"config/{name}.py"
    for name in (
        *("__init__", "augment", "checks", "credentials"),
        *("data", "features", "models", "training"),
    )
)
_PACKAGES = ("torch", "numpy", "pillow", "safetensors")
_CLASSIFIER_PACKAGES = ("numpy", "pillow", "scipy", "scikit-image", "scikit-learn", "skops")
_EXPORTED_PACKAGES = {
    ONNX_FILE: ("onnxruntime", "numpy", "pillow"),
    PT2_FILE: ("torch", "numpy", "pillow"),
}
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

    _empty(folder)
    # A copy of each: what shares memory or lies there in another order cannot be stored.
    weights = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in network.state_dict().items()
    }
    with replacing(folder / _WEIGHTS) as temporary:
        save_file(weights, temporary)
    packages = (*_PACKAGES, *_library(passport["network"]["target"]))
    return _complete(folder, _WEIGHTS, passport, example, _SHIPPED_FOR_NETWORKS, packages)


def write_classifier_bundle(
    folder: Path, file: Path, passport: Mapping[str, Any], example: NDArray[np.uint8]
) -> str:
    """Write the bundle of a classifier on features; otherwise as `write_bundle`.

    Args:
        folder: to write to.
        file: that `FeatureClassifier.save` wrote.
        passport: what it says of itself, with the `networks` that describe its pictures, if any.
        example: a picture (C, H, W) uint8.
    """
    _empty(folder)
    shutil.copyfile(file, folder / _CLASSIFIER)
    shipped, packages = list(_SHIPPED_FOR_CLASSIFIERS), list(_CLASSIFIER_PACKAGES)
    networks = passport.get("networks", [])
    if networks:
        shipped.append("models/*.py")
        libraries = [name for one in networks for name in _library(one["target"])]
        packages += ["torch", *dict.fromkeys(libraries)]
    return _complete(folder, _CLASSIFIER, passport, example, shipped, packages)


def write_ensemble_bundle(
    folder: Path,
    members: Sequence[Callable[[Path], str]],
    passport: Mapping[str, Any],
    example: NDArray[np.uint8],
) -> str:
    """Write the bundle of several models that answer as one; otherwise as `write_bundle`.

    Args:
        folder: to write to.
        members: each writes its own bundle into a folder and returns the digest.
        passport: with `ensemble`, its `way` and of each of its `members` the `weight`.
        example: a picture (C, H, W) uint8.
    """
    _empty(folder)
    digests: list[str] = []
    packages: dict[str, None] = {}  # a set that keeps its order
    for number, write in enumerate(members):
        place = folder / _MEMBERS / str(number)
        digests.append(write(place))
        # One copy of the code and one list of packages serves all.
        shutil.copytree(place / "code", folder / "code", dirs_exist_ok=True)
        shutil.rmtree(place / "code")
        needed = place / "requirements.txt"
        packages |= {line.partition("==")[0]: None for line in needed.read_text().split()}
        needed.unlink()
    write_atomically(folder / _DIGESTS, "\n".join(digests) + "\n")
    return _complete(folder, _DIGESTS, passport, example, _SHIPPED_FOR_ENSEMBLES, tuple(packages))


def write_exported_bundle(
    folder: Path, file: Path, passport: Mapping[str, Any], example: NDArray[np.uint8]
) -> str:
    """Write the bundle of an exported network; otherwise as `write_bundle`.

    Args:
        folder: to write to.
        file: the network, .onnx or .pt2: decoded pictures to logits.
        passport: what the run's checkpoints say of it, and which variant of it this is.
        example: a picture (C, H, W) uint8.
    """
    name = {".onnx": ONNX_FILE, ".pt2": PT2_FILE}[file.suffix]
    _empty(folder)
    shutil.copyfile(file, folder / name)
    shipped, packages = _SHIPPED_FOR_EXPORTED[name], _EXPORTED_PACKAGES[name]
    return _complete(folder, name, passport, example, shipped, packages)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _library(target: str) -> tuple[str, ...]:
    """The package that a network of this import path comes from, beside torch."""
    library = _FURTHER.get(target.rpartition(".")[2])
    return () if library is None else (library,)


def _complete(
    folder: Path,
    model: str,
    passport: Mapping[str, Any],
    example: NDArray[np.uint8],
    shipped: Sequence[str],
    packages: Sequence[str],
) -> str:
    """Write all but the model's own file; returns the digest."""
    stated = json.dumps(dict(passport), ensure_ascii=False, indent=1).encode()
    write_atomically(folder / _PASSPORT, stated)
    own = (source for pattern in (*_SHIPPED, *shipped) for source in _SOURCES.glob(pattern))
    _ship(_SOURCES.parent, sorted(own), folder / "code")
    packages = [*packages, *_ship_plugins(folder / "code", passport)]
    # Without the build's own suffix (+cpu, +cu128): the machine that serves may need another.
    pinned = [f"{name}=={version(name).partition('+')[0]}" for name in dict.fromkeys(packages)]
    write_atomically(folder / "requirements.txt", "\n".join(pinned) + "\n")
    pixels = example[0] if len(example) == 1 else example.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(folder / "example.png")
    digest = _digest(folder / model, stated)
    write_atomically(folder / _DIGEST, f"{digest}\n")
    return digest


def _ship(root: Path, sources: Iterable[Path], code: Path) -> None:
    """Copy files below `root` to where they are imported from in a bundle."""
    for source in sources:
        target = code / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _ship_plugins(code: Path, passport: Mapping[str, Any]) -> list[str]:
    """Write the code of the plugins that a model is made of; return the packages it imports."""
    targets = [passport.get("network", {}).get("target", "src.")]
    targets += [network["target"] for network in passport.get("networks", [])]
    targets += [
        *passport.get("descriptors", {}).values(),
        passport.get("classifier_target", "src."),
    ]
    foreign = [target for target in targets if is_foreign(target)]
    if not foreign:
        return []
    from src.config.plugins import plugin_of

    packages: list[str] = []
    modules: list[str] = []
    for plugin in dict.fromkeys(plugin_of(target) for target in foreign):
        if plugin is None:
            raise ValueError(f"{', '.join(foreign)} are not of a plugin that is allowed")
        files = [plugin.root / file for file in plugin.files()]
        _ship(plugin.root, files, code)
        modules += plugin.modules
        packages += _imported_packages(files)
    _ship(_SOURCES.parent, (s for one in _SHIPPED_FOR_PLUGINS for s in _SOURCES.glob(one)), code)
    write_atomically(code / SHIPPED_PLUGINS, "\n".join(modules) + "\n")
    return packages


def _imported_packages(files: Iterable[Path]) -> list[str]:
    """Return the installed packages that Python files import, by their names in requirements."""
    found: dict[str, None] = {}  # a set that keeps its order
    for file in files:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0]: None for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.partition(".")[0]] = None
    installed = packages_distributions()
    return [installed[name][0] for name in found if name in installed]


def open_predictor(
    folder: Path, device: torch.device | None = None, batch_size: int = 128
) -> Predictor:
    """What labels pictures with a bundle's model.

    Args:
        folder: the bundle.
        device: for a network that torch computes as in training; None for a GPU where there is
            one. Exported networks compute on the CPU.
        batch_size: pictures at once.

    Raises:
        ValueError: the bundle's files are damaged, or do not belong together.
    """
    predictor = _opened(folder, device, batch_size)
    _check_digest(folder)  # after what is plainly no model has been refused with its reason
    return predictor


def _opened(folder: Path, device: torch.device | None, batch_size: int) -> Predictor:
    if (folder / _CLASSIFIER).is_file():
        from src.features.classifier import FeatureClassifier

        classifier = FeatureClassifier.load(folder / _CLASSIFIER)
        return Predictor(classifier, classifier.passport, batch_size=batch_size)

    if (folder / _MEMBERS).is_dir():
        return _open_ensemble(folder, device, batch_size)

    logits = open_logits(folder)
    if logits is not None:
        return Predictor(classifier_of(logits), _passport(folder), batch_size=batch_size)

    import torch
    from safetensors.torch import load_file

    from src.serving.network import network_classifier
    from src.training.inference import require_finite

    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        passport = _passport(folder)
        network = _network(passport)
        network.load_state_dict(load_file(folder / _WEIGHTS))
        require_finite(network)
    except Exception as error:  # safetensors and torch have many words for a damaged file
        raise ValueError(f"{folder} holds no network that can be loaded: {error}") from error
    classify = network_classifier(network, passport, device)
    return Predictor(classify, passport, batch_size=batch_size)


def _check_digest(folder: Path) -> None:
    """Raise a ValueError unless weights and passport are those that the bundle was written with."""
    files = (_WEIGHTS, ONNX_FILE, PT2_FILE, _CLASSIFIER, _DIGESTS)
    try:
        stated = (folder / _DIGEST).read_text().strip()
        model = next(name for name in files if (folder / name).is_file())
        found = _digest(folder / model, (folder / _PASSPORT).read_bytes())
    except (OSError, ValueError, StopIteration) as error:
        raise ValueError(f"{folder} is no whole bundle: {error!r}") from error
    if stated != found:
        raise ValueError(
            f"{folder} is damaged: {model} or {_PASSPORT} is not what {_DIGEST} was written for; "
            "write the bundle anew, or put a copy of it back"
        )


def _digest(model: Path, passport: bytes) -> str:
    with model.open("rb") as file:
        hashed = hashlib.file_digest(file, "sha256")
    hashed.update(passport)
    return hashed.hexdigest()


def _passport(folder: Path) -> dict[str, Any]:
    try:
        passport: dict[str, Any] = json.loads((folder / _PASSPORT).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} has no readable {_PASSPORT}: {error}") from error
    return passport


def _open_ensemble(folder: Path, device: torch.device | None, batch_size: int) -> Predictor:
    from src.serving.ensemble import ensemble_predictor

    try:
        passport = json.loads((folder / _PASSPORT).read_bytes())
        way = passport["ensemble"]["way"]
        weights = [float(member["weight"]) for member in passport["ensemble"]["members"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no ensemble that can be loaded: {error!r}") from error
    places = [folder / _MEMBERS / str(number) for number in range(len(weights))]
    members = [open_predictor(place, device) for place in places]
    found = [(place / _DIGEST).read_text().strip() for place in places]
    if (folder / _DIGESTS).read_text().split() != found:
        raise ValueError(f"{folder} was written with other members than it has")
    return ensemble_predictor(members, way, weights, passport, batch_size=batch_size)


def _network(passport: Mapping[str, Any]) -> nn.Module:
    target, arguments = passport["network"]["target"], passport["network"]["arguments"]
    network: nn.Module = import_object(target, within="src.models.")(
        passport["channels"],
        len(passport["class_names"]),
        tuple(passport["image_size"]),
        **arguments,
    )
    return network
