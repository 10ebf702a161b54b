"""Imports by a name that comes from a setting or a file, of allowed modules alone."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

__all__ = [
    "SHIPPED_PLUGINS",
    "allow_module",
    "has_plugins",
    "import_object",
    "is_allowed",
    "is_foreign",
    "shadowing_path",
]

# Beside `src/` in the code of a served model: the modules that were allowed when it was written.
SHIPPED_PLUGINS = "shipped_plugins.txt"
# The project in the paths that settings and files state, and the package that it is here.
_OWN, _PACKAGE = "src", __name__.partition(".")[0]
_allowed: set[str] = set()


def shadowing_path() -> Path | None:
    """Return a file or folder of the present folder that was imported instead of a package.

    `python -m` looks there first: a file torch.py hides the installed package torch.
    """
    here = Path.cwd()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or file is None or name == _PACKAGE:
            continue
        path = Path(file).absolute()
        place = path.parent if path.name == "__init__.py" else path
        if place.parent == here and name in packages_distributions():
            return place
    return None


def allow_module(name: str) -> None:
    """Let `import_object` import this module, and all of it where it is a package."""
    _allowed.add(name)


def has_plugins() -> bool:
    """Return whether modules were given to `allow_module`."""
    return bool(_allowed)


def is_foreign(target: str) -> bool:
    """Return whether an import path leads out of the project."""
    return target.partition(".")[0] not in (_OWN, _PACKAGE)


def is_allowed(path: str) -> bool:
    """Return whether a path leads into a module that was given to `allow_module`."""
    return any(f"{path}.".startswith(f"{name}.") for name in (*_allowed, *_shipped()))


def import_object(target: str, within: str = "src.") -> Any:
    """Return the object of an import path `package.module.name`.

    Paths of the project that begin with `within` are allowed, and all in modules of `allow_module`.

    Raises:
        ValueError: the path leads elsewhere, or to nothing.
    """
    module, _, name = target.rpartition(".")
    if not target.startswith(within) and not is_allowed(module):
        raise ValueError(
            f"{target} is not under {within}* and not of a plugin that is allowed: set "
            "plugins=FOLDER (or a module's name) if you trust the code"
        )
    if module.startswith(f"{_OWN}."):
        module = _PACKAGE + module.removeprefix(_OWN)
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{target} cannot be imported: {error}") from error


def _shipped() -> list[str]:
    try:
        return (Path(__file__).resolve().parents[2] / SHIPPED_PLUGINS).read_text().split()
    except FileNotFoundError:
        return []
