"""The code that a bundle ships: the modules that a prediction imports, and no others."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from ..machine.imports import SHIPPED_PLUGINS, is_foreign
from ..storage.files import write_atomically

__all__ = [
    "FOR_CLASSIFIERS",
    "FOR_ENSEMBLES",
    "FOR_NETWORKS",
    "FOR_NETWORKS_OF_CLASSIFIERS",
    "FOR_PLUGINS",
    "ship_modules",
    "ship_plugins",
]

# The folder of this package. In a bundle it is called `src`, wherever the bundle was made.
_SOURCES = Path(__file__).resolve().parents[1]
_NAME = "src"
_SHIPPED = (
    *("__init__", "machine/__init__", "machine/disk", "machine/imports", "machine/openmp"),
    *("machine/arrays", "machine/ending", "machine/hardware", "machine/package"),
    *("machine/text", "storage/__init__", "storage/array_files", "storage/digests"),
    *("storage/files", "data/__init__", "machine/file_names"),
    *("data/decoding/__init__", "data/decoding/decode", "data/decoding/depth"),
    *("data/decoding/jpeg", "data/decoding/mask_files", "data/decoding/picture_files"),
    *("data/decoding/picture_format", "data/decoding/rasters", "data/decoding/resizing"),
    *("data/decoding/videos", "data/decoding/windows"),
    *("records/pictures", "records/pixel_answers"),
    *("data/sources/__init__", "data/sources/source", "serving/__init__", "serving/bundle"),
    *("targets/__init__", "targets/kind", "targets/labels", "targets/multi", "targets/ordinal"),
    *("targets/dense", "targets/single", "metrics/__init__", "metrics/classification"),
    *("metrics/share_intervals", "serving/masks"),
    *("metrics/multilabel", "metrics/ordered", "metrics/probabilistic", "metrics/roc"),
    *("metrics/class_maps", "metrics/registry", "metrics/summary", "metrics/validation"),
    *("serving/bundle_files", "serving/exported", "serving/inputs", "serving/mlflow_model"),
    *("serving/file_pages", "serving/predictor", "serving/trust"),
    *("records/__init__", "records/certainty"),
    *("statistics/__init__", "statistics/conformal", "statistics/novelty"),
    *("statistics/missed_labels", "statistics/risk_control"),
)
FOR_NETWORKS = (
    *("serving/whole_network", "data/augmentation/__init__", "data/augmentation/affine"),
    *("data/augmentation/transforms", "models/*", "training/__init__", "training/inference"),
    *("training/links", "training/sliding_windows"),
)
FOR_CLASSIFIERS = (
    *("features/__init__", "features/binary", "features/calibration", "features/classifier"),
    "features/embedding",
    *("features/fusion", "features/means", "features/pixels", "features/rbf", "features/scaling"),
    *("features/selection", "features/descriptors/*"),
)
FOR_NETWORKS_OF_CLASSIFIERS = ("models/*",)
FOR_ENSEMBLES = ("ensembles/__init__", "ensembles/mixing", "serving/ensemble_predictor")
# What a plugin's file may import of the settings, beside the code of its own.
FOR_PLUGINS = (
    *("config/__init__", "config/augment", "config/checks", "config/credentials"),
    *("config/data", "config/features", "config/added_groups", "config/metrics"),
    *("config/models", "config/plugins", "config/training", "config/type_messages"),
    "machine/yaml_text",
)


def ship_modules(code: Path, patterns: Iterable[str]) -> None:
    """Copy the modules that every bundle needs, and those that match patterns below `src/`."""
    _ship_own((*_SHIPPED, *patterns), code)


def _ship_own(patterns: Iterable[str], code: Path) -> None:
    own = (source for pattern in patterns for source in _SOURCES.glob(f"{pattern}.py"))
    _ship(_SOURCES, own, code / _NAME)


def _ship(root: Path, sources: Iterable[Path], code: Path) -> None:
    """Copy files below `root` to where they are imported from in a bundle."""
    for source in sources:
        target = code / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def ship_plugins(code: Path, metadata: Mapping[str, Any]) -> list[str]:
    """Write the code of the plugins that a model is made of; return the packages it imports."""
    networks = [metadata.get("network", {}), *metadata.get("networks", [])]
    targets = [network.get("target", "src.") for network in networks]
    targets += metadata.get("descriptors", {}).values()
    targets.append(metadata.get("classifier_target", "src."))
    foreign = [target for target in targets if is_foreign(target)]
    if not foreign:
        return []
    from ..config.plugins import plugin_of

    packages: list[str] = []
    modules: list[str] = []
    for plugin in dict.fromkeys(plugin_of(target) for target in foreign):
        if plugin is None:
            raise ValueError(f"{', '.join(foreign)} are not of a plugin that is allowed")
        files = [plugin.root / file for file in plugin.files()]
        _ship(plugin.root, files, code)
        modules += plugin.modules
        packages += _imported_packages(files)
    _ship_own(FOR_PLUGINS, code)
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
