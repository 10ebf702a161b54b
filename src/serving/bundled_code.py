"""The code that a bundle ships: the modules that a prediction imports, and no others."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from src.machine.imports import SHIPPED_PLUGINS, is_foreign
from src.storage.files import write_atomically

__all__ = [
    "FOR_CLASSIFIERS",
    "FOR_ENSEMBLES",
    "FOR_NETWORKS",
    "FOR_NETWORKS_OF_CLASSIFIERS",
    "ship_modules",
    "ship_plugins",
]

# The package's own `src/`.
_SOURCES = Path(__file__).resolve().parents[1]
_SHIPPED = (
    "__init__.py",
    *(f"machine/{name}.py" for name in ("__init__", "disk", "imports", "openmp", "text")),
    *("storage/__init__.py", "storage/files.py", "data/__init__.py"),
    *(f"data/decoding/{name}.py" for name in ("__init__", "decode", "depth")),
    *("data/sources/__init__.py", "data/sources/source.py"),
    *(
        f"serving/{name}.py"
        for name in ("__init__", "bundle", "bundled_code", "exported", "inputs", "mlflow_model")
    ),
    *("serving/predictor.py", "serving/trust.py", "records/__init__.py", "records/certainty.py"),
    *(f"statistics/{name}.py" for name in ("__init__", "conformal", "novelty", "risk_control")),
)
FOR_NETWORKS = (
    "serving/whole_network.py",
    *(f"data/augmentation/{name}.py" for name in ("__init__", "affine", "transforms")),
    "models/*.py",
    *("training/__init__.py", "training/inference.py"),
)
FOR_CLASSIFIERS = (
    *(f"features/{name}.py" for name in ("__init__", "calibration", "classifier", "embedding")),
    *(f"features/{name}.py" for name in ("fusion", "means", "rbf", "scaling", "selection")),
    "features/descriptors/*.py",
)
FOR_NETWORKS_OF_CLASSIFIERS = ("models/*.py",)
FOR_ENSEMBLES = (
    *("metrics/__init__.py", "metrics/validation.py", "metrics/probabilistic.py"),
    *("ensembles/__init__.py", "ensembles/mixing.py"),
)
# What a plugin's file may import of the settings, beside the code of its own.
_FOR_PLUGINS = tuple(
    f"config/{name}.py"
    for name in (
        *("__init__", "augment", "checks", "credentials"),
        *("data", "features", "models", "training"),
    )
)


def ship_modules(code: Path, patterns: Sequence[str]) -> None:
    """Copy the modules that every bundle needs, and those that match patterns below `src/`."""
    own = (source for pattern in (*_SHIPPED, *patterns) for source in _SOURCES.glob(pattern))
    _ship(_SOURCES.parent, sorted(own), code)


def _ship(root: Path, sources: Iterable[Path], code: Path) -> None:
    """Copy files below `root` to where they are imported from in a bundle."""
    for source in sources:
        target = code / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def ship_plugins(code: Path, metadata: Mapping[str, Any]) -> list[str]:
    """Write the code of the plugins that a model is made of; return the packages it imports."""
    targets = [metadata.get("network", {}).get("target", "src.")]
    targets += [network["target"] for network in metadata.get("networks", [])]
    targets += [
        *metadata.get("descriptors", {}).values(),
        metadata.get("classifier_target", "src."),
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
    _ship(_SOURCES.parent, (s for one in _FOR_PLUGINS for s in _SOURCES.glob(one)), code)
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
