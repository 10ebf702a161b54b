"""The command line of every entry: help, --cfg job, multirun, messages, exit codes."""

from __future__ import annotations

import dataclasses
import errno
import logging
import re
import shlex
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from ..machine.cache_place import place_for_matplotlib
from ..machine.disk import refusal
from ..machine.failures import RunFailed, explained
from ..machine.imports import shadowing_path
from ..machine.interruption import Interrupted, Interruption
from ..machine.package import PACKAGE, package_version, typed
from ..machine.yaml_text import yaml_text
from .checks import ConfigError, NotGiven, Settings, options_of, to_plain
from .compose import compose_settings, expand, flattened, with_pictures
from .console import on_plain_output
from .credentials import problem_of_overrides, without_password
from .nested import put
from .other_names import hint_for_option, known_as
from .plugins import fault_text, faulty_frames, faulty_line, plugin_overrides, take_plugins
from .tracking import environment_overrides

__all__ = [
    "CONFIG_NAME_FLAGS",
    "FLAGS",
    "ChildEnded",
    "Invocation",
    "errors_explained",
    "from_environment",
    "parse",
    "progress_shown",
    "run_command",
    "run_entry",
    "take_config_name",
]

S = TypeVar("S", bound=Settings)

FLAGS = "--help, --version, --cfg job, --config-dir FOLDER"
_MULTIRUN = "-m or --multirun"
CONFIG_NAME_FLAGS = ("--config-name", "-cn")
# Stands for a setting that must be given where settings are shown without it.
_NOT_GIVEN = "???"
_LONG_DASHES = re.compile("^[\u2012-\u2015\u2212]+")


class ChildEnded(Exception):
    """A process that did the work of a job ended with this exit code, and printed the reason."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"ended with exit code {exit_code}")
        self.exit_code = exit_code


@dataclass
class Invocation:
    """A parsed command line."""

    overrides: list[str] = dataclasses.field(default_factory=list)
    multirun: bool = False
    help: bool = False
    version: bool = False
    show_config: bool = False


def parse(argv: Sequence[str], flags: Sequence[str] = (FLAGS, _MULTIRUN)) -> Invocation:
    """Parse a command line.

    Args:
        argv: its arguments.
        flags: that the entry accepts, for the message.

    Raises:
        ConfigError: an unknown flag.
    """
    found = Invocation()
    # Documents make one long dash of the two before a flag.
    rest = iter([_LONG_DASHES.sub("--", argument) for argument in argv])
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if argument in ("-h", "--help"):
            found.help = True
        elif argument in ("-V", "--version"):
            found.version = True
        elif argument in ("-m", "--multirun"):
            found.multirun = True
        elif flag in ("-c", "--cfg"):
            if (value if equals else next(rest, None)) != "job":
                raise ConfigError(f"{flag} shows the run's settings: use {flag} job.")
            found.show_config = True
        elif flag in ("-cd", "--config-dir"):  # Hydra's name for a folder of config groups
            folder = value if equals else next(rest, "")
            found.overrides.append(f"plugins={folder}")
        elif argument == "--resolve":
            continue  # what is shown is always resolved
        elif argument.startswith("-"):
            setting = known_as(flag.lstrip("-").replace("-", "_"))
            after = next(rest, "")
            given = value or (after if after[:1] not in ("", "-") and "=" not in after else "VALUE")
            known = hint_for_option(setting, given) or shlex.quote(f"{setting}={given}")
            raise ConfigError(
                f"there is no flag {argument}: settings have no dashes, as in {known}, "
                f"and the flags are {', '.join(flags)}."
            )
        else:
            found.overrides.append(argument)
    return found


def take_config_name(argv: Sequence[str], default: str) -> tuple[list[str], str]:
    """Return the overrides without `--config-name NAME` (or `-cn NAME`), and NAME or `default`.

    A flag without a name stands for the name, of which there is no file.
    """
    overrides, name, rest = list[str](), default, iter(argv)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag in CONFIG_NAME_FLAGS:
            name = value if equals else next(rest, "")
            name = re.sub(r"^(\./)?(sweeps/)?|\.ya?ml$", "", name) or flag
        else:
            overrides.append(argument)
    return overrides, name


def run_command(
    description: str | None,
    cls: type[S],
    action: Callable[[S, Sequence[str]], bool | None],
    **options: Any,
) -> int:
    """Run an entry whose settings are those of one class; the rest is as of `run_entry`."""
    return run_entry(description or "", partial(compose_settings, cls), action, **options)


@on_plain_output
def run_entry(
    description: str,
    read_settings: Callable[[Sequence[str]], S],
    action: Callable[[S, Sequence[str]], bool | None],
    *,
    argv: Sequence[str] | None = None,
    from_mlflow: Sequence[str] = (),
    choices: Callable[[], Mapping[str, Sequence[str]]] = dict,
    flags: Sequence[str] = (FLAGS, _MULTIRUN),
    no_multirun: str | None = None,
) -> int:
    """Run an entry and return its exit code.

    0 done; 1 a fault of ours or of a plugin, the run failed, or the action returned False; 2 the
    input is wrong; 130 Ctrl-C; 143 SIGTERM; 129 the terminal was closed.
    With several jobs (multirun) every one is composed and validated before the first starts, a job
    that fails does not stop the later ones, and the largest code is returned.

    Args:
        description: first lines of the help.
        read_settings: `key=value` overrides of one job -> its settings; ConfigError where wrong.
        action: what to do with the settings of a job and the overrides they came from.
        argv: the overrides; None for those of the process.
        from_mlflow: keys whose values MLflow's environment variables give where nothing else does.
        choices: return for the help what may be chosen by name: config groups with their options.
        flags: for the help and for refusals, where they are not the usual ones.
        no_multirun: why the entry takes no -m, as a sentence; None where it does.
    """
    todo: list[tuple[S, list[str]]] = []
    noted: set[str] = set()

    def settings_of(job: list[str]) -> tuple[S, list[str]]:
        settings = read_settings(job)
        further = from_environment(from_mlflow, settings, job, noted) if from_mlflow else []
        return (read_settings([*job, *further]), [*job, *further]) if further else (settings, job)

    def read() -> None:
        invocation = _invocation(argv, flags, no_multirun)
        if invocation.version:
            print(f"bakeoff {package_version()}")
            return
        overrides = take_plugins(invocation.overrides)
        jobs = expand(overrides) if invocation.multirun else [overrides]
        names = choices().get("data", ())
        jobs = [flattened(with_pictures(job, names) if names else job) for job in jobs]
        if invocation.help:
            (settings, _), not_given = _with_placeholders(settings_of, jobs[0])
            print(_help(description, settings, not_given, choices(), flags))
        elif invocation.show_config:
            for job in jobs:
                print(_config_text(*_with_placeholders(settings_of, job)), end="")
        else:
            todo.extend([settings_of(job) for job in jobs])

    with progress_shown():
        worst = _guarded(read)
        for settings, overrides in todo:
            folder = Path(getattr(settings, "output_dir", "."))
            asked = getattr(settings, "data", settings)
            place_for_matplotlib(getattr(asked, "cache_dir", None))
            worst = max(worst, _guarded(partial(action, settings, overrides), folder))
            if worst >= 128:  # stopped by the user: skip the later jobs
                break
    return worst


def _invocation(
    argv: Sequence[str] | None, flags: Sequence[str], no_multirun: str | None
) -> Invocation:
    # Checked first, since the message of any other error repeats the override.
    if problem := problem_of_overrides([*sys.argv[1:], *(argv or ())]):
        raise ConfigError(problem)
    found = parse(sys.argv[1:] if argv is None else argv, flags)
    if found.multirun and no_multirun is not None:
        raise ConfigError(no_multirun)
    return found


def from_environment(
    keys: Sequence[str], settings: Any, overrides: Sequence[str], noted: set[str] | None = None
) -> list[str]:
    """Return what MLflow's variables set, as `environment_overrides` does, and print it once.

    Args:
        noted: what was printed already, to which the rest is added.
    """
    found = environment_overrides(keys, settings, overrides)
    noted = set() if noted is None else noted
    if note := " ".join(override for override in found if override not in noted):
        _complain(f"from MLflow's environment variables: {note}")
    noted.update(found)
    return found


class _Lines(logging.StreamHandler[TextIO]):
    """Writes messages, with commands as they are typed here, and calls `also` with each."""

    def __init__(self, also: Callable[[str], None]) -> None:
        super().__init__()
        self._also = also

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        self._also(self.format(record))

    def format(self, record: logging.LogRecord) -> str:
        return typed(super().format(record))


@contextmanager
def progress_shown(also: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Print on standard error what the project's modules log of long steps.

    Args:
        also: called with each line.
    """
    logger, handler = logging.getLogger(PACKAGE), _Lines(also)
    level = logger.level
    if logger.handlers:  # an entry within an entry
        yield
        return
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def errors_explained(folder: Path | None = None) -> Iterator[None]:
    """Turn errors of memory, disks and names of files into `RunFailed` and `ConfigError`.

    Args:
        folder: named where an error names no file; None for the current one.
    """
    try:
        with explained(folder or _here()), _permissions_explained():
            yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ConfigError(
            f"{error.filename}: the name is longer than the file system takes, mostly 255 bytes "
            "between two slashes; give a shorter one."
        ) from error


@contextmanager
def _permissions_explained() -> Iterator[None]:
    """Turn the lack of a permission for what a person named, not a run, into `ConfigError`."""
    try:
        yield
    except PermissionError as error:
        if (reason := refusal(error)) is None:
            raise
        raise ConfigError(f"{reason}.") from error


def _guarded(action: Callable[[], bool | None], folder: Path | None = None) -> int:
    try:
        with Interruption(), errors_explained(folder):
            return int(action() is False)
    except Interrupted as stop:
        _complain(str(stop))
        return stop.exit_code
    except ChildEnded as child:
        return child.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        cause = error.__cause__ if isinstance(error, RunFailed) else error
        if isinstance(cause, ImportError | AttributeError) and (path := shadowing_path()):
            _complain(
                f"error: {path} is imported instead of the package {path.stem}: rename it, or give "
                "the command in another folder."
            )
            return 2
        if isinstance(error, ConfigError | RunFailed):
            _complain(f"error: {error}")
            return 2 if isinstance(error, ConfigError) else 1
        if faulty_line(error):
            _complain(f"{faulty_frames(error)}error: {fault_text(error)}")
            return 2
        _complain(traceback.format_exc().rstrip())
        # What a plugin returns may be what the project cannot take.
        other = " or of a plugin" if plugin_overrides() else ", not of your input"
        _complain(f"error: a fault of Bakeoff{other}: {fault_text(error)}")
        return 1


def _here() -> Path:
    """Return the current folder.

    Raises:
        ConfigError: it was removed, which a shell in it does not notice.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "the current folder was moved or removed: change to one that is there, and give the "
            "command again."
        ) from None


def _complain(text: str) -> None:
    """Print a text to standard error; a closed terminal does not change the exit code."""
    with suppress(OSError, ValueError):
        print(without_password(typed(text)), file=sys.stderr, flush=True)


def _with_placeholders(
    settings_of: Callable[[list[str]], tuple[S, list[str]]], job: list[str]
) -> tuple[tuple[S, list[str]], set[str]]:
    """Return what `settings_of` returns, and the keys that had to be given and were not."""
    missing: set[str] = set()
    while True:
        try:
            return settings_of([*job, *(f"{key}=NAME" for key in sorted(missing))]), missing
        except NotGiven as error:
            if error.key in missing:
                raise
            missing.add(error.key)


def _config_text(job: tuple[Settings, list[str]], not_given: Collection[str]) -> str:
    """Return the settings of a job as YAML, with a mark at those that must be given."""
    plain = to_plain(job[0])
    for key in not_given:
        put(plain, key, _NOT_GIVEN)
    return yaml_text(plain)


def _help(
    description: str,
    settings: Settings,
    not_given: Collection[str],
    choices: Mapping[str, Sequence[str]],
    flags: Sequence[str],
) -> str:
    width = min(max(shutil.get_terminal_size().columns, 60), 120)
    lines = _wrapped(
        [*typed(description.strip()).split("\n"), "", f"flags: {', '.join(flags)}"], width
    )
    lines += [""]
    if choices:
        lines += ["groups (choose with GROUP=OPTION):"]
        for name, options in choices.items():
            lines += _table_row(f"{name:<10}", ", ".join(options), 12, width)
        lines += [""]
    own = ["plugins=FOLDER or plugins=MODULE: code of your own that may be used"]
    if "data" in choices:
        own = [
            "data=PLACE: pictures of your own, in a folder, archive or table, or at an address",
            *own,
        ]
    lines += [*_wrapped(own, width), ""]
    lines += ["keys (set with KEY=VALUE) with their values here:"]
    for key, value, meaning in sorted(_rows(settings), key=lambda row: row[0] not in not_given):
        if key in not_given:
            value, meaning = _NOT_GIVEN, f"{meaning}; must be given"
        # A key that is longer than its column has a line of its own.
        lines += _table_row(f"{key}={value}", meaning, min(38, width // 3), width)
    return "\n".join(lines)


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Return lines of prose wrapped, and commands, which are to be copied, as they are."""
    command = re.compile(r"python -m |bakeoff ")
    found: list[str] = []
    for line in lines:
        whole = command.match(line)
        found += [line] if whole else textwrap.wrap(line, width, break_on_hyphens=False) or [""]
    return found


def _table_row(left: str, right: str, column: int, width: int) -> list[str]:
    """Return the lines of a row with `right` wrapped in a second column."""
    wrapped = textwrap.wrap(right, width - column - 2) or [""]
    if len(left) > column - 2:
        style: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        first, rest = textwrap.wrap(left, width - 4, subsequent_indent="  ", **style), wrapped
    else:
        first, rest = [f"{left:<{column}}{wrapped[0]}"], wrapped[1:]
    return [f"  {line}" for line in (*first, *(f"{'':<{column}}{one}" for one in rest))]


def _rows(settings: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    """Return (key, value, meaning) of all settings; those of an entry alone come first.

    The meaning ends with the values that may be chosen, where only certain ones may.
    """
    rows = []
    own = type(settings).__annotations__
    for field in sorted(dataclasses.fields(settings), key=lambda one: one.name not in own):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            rows += _rows(value, f"{prefix}{field.name}.")
        elif field.name != "_target_":
            shown = "null" if value is None else str(value)
            shown = shown.lower() if isinstance(value, bool) else shown
            options = ", ".join(options_of(type(settings), field.name))
            meaning = field.metadata.get("meaning", "") + (f" ({options})" if options else "")
            rows.append((f"{prefix}{field.name}", shown, meaning))
    return rows
