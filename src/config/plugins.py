"""Plugins: networks, descriptors, classifiers, data sources, ... from outside of the project.

A plugin is a folder, with Python files, conf/ and sweeps/spaces/ or some of these, a folder of
config groups alone (Hydra's `--config-dir`), or an importable module or package with such folders
in it. Nothing of it is imported unless the user names it: `plugins=FOLDER` on the command line, or
the environment variable BAKEOFF_PLUGINS, which the processes that a command starts inherit. Several
are separated as in PATH.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from ..machine.imports import allow_module
from ..machine.package import PACKAGE, PRESETS
from .checks import ConfigError

__all__ = [
    "Plugin",
    "PluginLost",
    "code_digest",
    "fails_for",
    "fault_text",
    "faulty_frames",
    "faulty_line",
    "import_plugins",
    "plugin_folders",
    "plugin_of",
    "plugin_overrides",
    "take_plugins",
]

_log = logging.getLogger(__name__)

_VARIABLE = "BAKEOFF_PLUGINS"
_KEY = "plugins"
# The names of this package, in the checkout and installed.
_PACKAGES = ("src", "bakeoff")
_OWN_FOLDER = Path(__file__).resolve().parents[1]
_FRAME = re.compile(r'^  File "(.+)", line ([0-9]+)', re.MULTILINE)
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NO_MODULES = ("test_", "conftest", "setup")


class PluginLost(ConfigError):
    """The folder of a plugin, or a file in it, is not there, as may happen in mid-race."""


@dataclass(frozen=True)
class Plugin:
    """Code and configuration from outside, imported.

    Attributes:
        name: absolute path of a folder, or the name of a module.
        folder: what holds conf/ and sweeps/spaces/, if it has any.
        modules: that may be imported by name, packages with all in them.
        root: what its modules are imported from.
    """

    name: str
    folder: Path
    modules: tuple[str, ...]
    root: Path

    def files(self) -> list[Path]:
        """Return its Python files, relative to `root`."""
        alone = self.folder == self.root and self.name in self.modules  # no package, no folder
        found = [self.root / f"{self.name}.py"] if alone else self.folder.rglob("*.py")
        return sorted(file.relative_to(self.root) for file in found)


def take_plugins(overrides: Sequence[str]) -> list[str]:
    """Import the plugins that `plugins=...` names; return the other overrides.

    Raises:
        ConfigError: there is no such folder or module, it cannot be imported, or was changed since
            it was, as by the user of a notebook.
    """
    prefix = f"{_KEY}="
    named = [override.removeprefix(prefix) for override in overrides if override.startswith(prefix)]
    for value in named:
        if not value.strip(os.pathsep + " "):
            raise ConfigError(f"{_KEY} is empty: name a folder or a module, or leave it out.")
    before = os.environ.get(_VARIABLE, "")
    if wanted := dict.fromkeys([*_names(), *_names(os.pathsep.join(named))]):
        os.environ[_VARIABLE] = os.pathsep.join(wanted)
    try:
        plugins = _loaded()
    except ConfigError:  # the next call from Python does not name it again
        os.environ[_VARIABLE] = before
        raise
    for name in (file for plugin in plugins for file in _passed_over(plugin)):
        _log.warning(
            "%s: %s is passed over, for Python can import no file of this name: write it with "
            "letters, digits and _",
            _KEY,
            name,
        )
    for file, digest in (item for plugin in plugins for item in _imported_code(plugin).items()):
        if not file.is_file() or _digest_of(file) != digest:
            raise ConfigError(
                f"{_KEY}: {file} was changed after it was imported: restart Python, as a "
                "notebook's kernel, which imports a file once."
            )
    return [override for override in overrides if not override.startswith(prefix)]


def import_plugins() -> None:
    """Import this process's plugins, before a file is read that leads into them.

    Raises:
        PluginLost: one of their files is gone since.
        ConfigError: as `take_plugins`.
    """
    _present()


def plugin_overrides() -> list[str]:
    """Return the override that names this process's plugins on a command line; none without any."""
    named = _names()
    return [f"{_KEY}={os.pathsep.join(named)}"] if named else []


def _loaded() -> tuple[Plugin, ...]:
    """Return the plugins that this process may use, imported once each."""
    return tuple(map(_checked, _names()))


def _present() -> tuple[Plugin, ...]:
    """Return the plugins as `_loaded`; PluginLost if files that one came with are gone."""
    plugins = _loaded()
    for plugin in plugins:
        for place in (plugin.folder, *_files_of(plugin)):
            if not place.exists():
                raise PluginLost(
                    f"{_KEY}: {place} was removed meanwhile: put it back, and the same command "
                    "goes on."
                )
    return plugins


@cache
def _files_of(plugin: Plugin) -> tuple[Path, ...]:
    """Return code and configuration of a plugin, as far as it was there and used at its import."""
    configuration = (plugin.folder / own for own in ("conf", "sweeps"))
    files = (file for own in configuration for file in sorted(own.rglob("*.yaml")))
    return (*_imported_code(plugin), *files)


def plugin_folders(*parts: str) -> tuple[Path, ...]:
    """Return this folder of every plugin that has it: `plugin_folders("sweeps", "spaces")`."""
    folders = [plugin.folder.joinpath(*parts) for plugin in _present()]
    if parts == ("conf",):
        folders += [plugin.folder for plugin in _loaded() if _holds_groups(plugin.folder)]
    return tuple(folder for folder in folders if folder.is_dir())


def _holds_groups(folder: Path) -> bool:
    """Return whether a folder is one of config groups, as conf/ is, and has no code."""
    if folder.joinpath("conf").is_dir() or any(folder.glob("*.py")):
        return False
    return any(folder.glob("*/*.yaml"))


def plugin_of(target: str) -> Plugin | None:
    """Return the plugin that an import path leads into, or None."""
    for plugin in _loaded():
        if any(f"{target}.".startswith(f"{module}.") for module in plugin.modules):
            return plugin
    return None


def faulty_line(error: BaseException) -> str | None:
    """Return the file and line of a plugin that raised an error, itself or in a library; or None.

    None also where the plugin called this project back, as an optimizer does for the gradients.
    """
    files = _files()
    frames = [(one.filename, one.lineno) for one in traceback.extract_tb(error.__traceback__)]
    # Those of another process, as its pool tells of them.
    frames += _FRAME.findall(str(getattr(error.__cause__, "tb", "")))
    for name, line in reversed(frames):
        file = os.path.realpath(name)
        if file in files:
            return f"{name}, line {line}"
        if Path(file).is_relative_to(_OWN_FOLDER):
            return None
    return None


def faulty_frames(error: BaseException) -> str:
    """Return the part of an error's traceback that is code of plugins; empty where none is."""
    files, frames = _files(), traceback.extract_tb(error.__traceback__)
    return "".join(
        traceback.format_list([one for one in frames if os.path.realpath(one.filename) in files])
    )


def _files() -> set[str]:
    return {os.path.realpath(plugin.root / file) for plugin in _loaded() for file in plugin.files()}


def fault_text(error: BaseException) -> str:
    """Return an error with its type, after the file and line of the plugin whose code raised it."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    line = faulty_line(error)
    return f"the plugin {line}: {text}" if line else text


@contextmanager
def fails_for(part: str, target: str) -> Iterator[None]:
    """Turn what a library cannot do with the part that a plugin made into a `ConfigError`.

    Such an error has no line of the plugin in it, and without one passes for one of this project.

    Args:
        part: the group of settings that chose it.
        target: the import path of what made it; what a part of this project raises stays as it is.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, ConfigError) or plugin_of(target) is None:
            raise
        raise ConfigError(f"{part}: {target} fails: {fault_text(error)}.") from error


def code_digest(*targets: str) -> str:
    """Return a hash of the plugins that these import paths lead into; empty where they are none.

    For keys of what is computed with them and kept: it is to be computed anew when their code was
    changed.
    """
    plugins = {plugin for target in targets if (plugin := plugin_of(target)) is not None}
    if not plugins:
        return ""
    return hashlib.blake2b("".join(sorted(map(_digest, plugins))).encode()).hexdigest()[:32]


@cache  # what was imported is what counts, and it stays until the process ends
def _digest(plugin: Plugin) -> str:
    found = hashlib.blake2b(digest_size=16)
    for file in plugin.files():
        found.update(file.as_posix().encode() + b"\0")
        found.update(_digest_of(plugin.root / file))
    return found.hexdigest()


def _passed_over(plugin: Plugin) -> list[Path]:
    """Return the Python files of a folder whose names are none of modules, as my-network.py."""
    if plugin.name in plugin.modules:  # a module or a package, which imports what it needs
        return []
    return sorted(file for file in plugin.folder.glob("*.py") if not file.stem.isidentifier())


@cache
def _imported_code(plugin: Plugin) -> dict[Path, bytes]:
    """Return the files of a plugin that were imported at the first call, with their digests."""
    found = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    files = (Path(file) for file in found if file and Path(file).is_relative_to(plugin.folder))
    return {
        file: _digest_of(file)
        for file in files
        if "site-packages" not in file.relative_to(plugin.folder).parts  # of an environment in it
    }


def _digest_of(file: Path) -> bytes:
    return hashlib.blake2b(file.read_bytes()).digest()


def _names(value: str | None = None) -> list[str]:
    """Absolute paths of folders, and names of modules; None for those in the environment."""
    value = os.environ.get(_VARIABLE, "") if value is None else value
    named = filter(None, (name.strip() for name in value.split(os.pathsep)))
    return [
        name if _is_module(name) else os.path.abspath(os.path.expanduser(name)) for name in named
    ]


def _is_module(name: str) -> bool:
    return _MODULE.fullmatch(name) is not None and not Path(name).is_dir()


@cache
def _checked(name: str) -> Plugin:
    plugin = _load(name)
    for place, folder in (("conf", "conf"), ("conf", "."), ("sweeps", "sweeps")):
        if folder == "." and not _holds_groups(plugin.folder):
            continue
        theirs, ours = plugin.folder / folder, PRESETS / place
        for file in sorted(theirs.rglob("*.yaml")):
            own = ours / file.relative_to(theirs)
            if own.exists() and not own.samefile(file):
                raise ConfigError(
                    f"{_KEY}: {file} has the name of a file of this project, which stays what it "
                    "is: give it another name."
                )
    _files_of(plugin)
    return plugin


def _load(name: str) -> Plugin:
    if _is_module(name):
        return _load_module(name)
    folder = Path(name)
    if not folder.is_dir():
        raise PluginLost(f"{_KEY}: there is no folder {name}.")
    modules = tuple(
        file.stem
        for file in sorted(folder.glob("*.py"))
        if file.stem.isidentifier() and not file.stem.startswith(_NO_MODULES)
    )
    configured = any(folder.joinpath(own).is_dir() for own in ("conf", "sweeps"))
    if not (modules or configured or _holds_groups(folder)):
        raise ConfigError(
            f"{_KEY}: {name} has neither Python files nor a folder conf/ or sweeps/, nor folders "
            "of config groups."
        )
    if name not in sys.path:
        sys.path.append(name)  # at the end: a plugin replaces no module of another package
    for module in modules:
        file = folder / f"{module}.py"
        found = _imported(module, str(file))
        if Path(found.__file__ or "").resolve() != file.resolve():
            raise ConfigError(
                f"{_KEY}: {file} has the name of another module, {module}: give it another name."
            )
        allow_module(module)
    return Plugin(name, folder, modules, folder)


def _load_module(name: str) -> Plugin:
    top = _imported(name.partition(".")[0], name)
    _imported(name, name)
    if top.__file__ is None:
        raise ConfigError(f"{_KEY}: {name} is a folder without __init__.py: set plugins=FOLDER.")
    allow_module(top.__name__)
    folder = Path(top.__file__).resolve().parent
    root = folder.parent if hasattr(top, "__path__") else folder
    return Plugin(top.__name__, folder, (top.__name__,), root)


def _imported(module: str, shown: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ConfigError as error:
        raise ConfigError(f"{_KEY}: {shown}: {error}") from error
    except (Exception, SystemExit) as error:  # a script would end the command
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise ConfigError(f"{_KEY}: there is neither a folder nor a module {shown}.") from None
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f", line {f.lineno}" for f in reversed(frames) if f.filename == shown), "")
        hint, missing = "", error.name if isinstance(error, ModuleNotFoundError) else None
        top = (missing or "").partition(".")[0]
        if top in _PACKAGES and top != PACKAGE:
            hint = f" (write {PACKAGE} for {top}, as this package is called here)"
        elif "no known parent package" in str(error):
            hint = " (files of a folder import one another by name: from other import Thing)"
        raise ConfigError(
            f"{_KEY}: {shown}{line} cannot be imported: {type(error).__name__}: {error}{hint}"
        ) from error
