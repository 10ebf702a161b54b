"""What every entry does with its command line: help, --cfg job, multirun, messages, exit codes."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..machine.failures import RunFailed, explained
from ..machine.interruption import Interrupted, Interruption
from ..machine.package import PACKAGE, typed
from .checks import ConfigError, Settings, to_plain
from .compose import expand, groups
from .console import on_plain_output
from .credentials import problem_of_overrides, without_password
from .plugins import take_plugins
from .tracking import environment_overrides

__all__ = ["ChildEnded", "Invocation", "parse", "run_entry", "take_config_name"]

S = TypeVar("S", bound=Settings)

_FLAGS = "--help, --cfg job, -m or --multirun"


class ChildEnded(Exception):
    """A process that did the work of a job ended with this exit code, and has said why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"ended with exit code {exit_code}")
        self.exit_code = exit_code


@dataclass
class Invocation:
    """A command line taken apart."""

    overrides: list[str] = dataclasses.field(default_factory=list)
    multirun: bool = False
    help: bool = False
    show_config: bool = False


def parse(argv: Sequence[str]) -> Invocation:
    """Take a command line apart.

    Raises:
        ConfigError: an unknown flag.
    """
    found = Invocation()
    rest = iter(argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            found.help = True
        elif word in ("-m", "--multirun"):
            found.multirun = True
        elif flag in ("-c", "--cfg"):
            if (value if equals else next(rest, None)) != "job":
                raise ConfigError(f"{flag} shows the run's settings: say {flag} job.")
            found.show_config = True
        elif word.startswith("-") and word != "--resolve":  # what is shown is always resolved
            raise ConfigError(f"there is no flag {word}: the flags are {_FLAGS}.")
        elif word != "--resolve":
            found.overrides.append(word)
    return found


def take_config_name(argv: Sequence[str], default: str) -> tuple[list[str], str]:
    """The overrides without `--config-name NAME` (or `-cn NAME`), and NAME, or `default`."""
    overrides, name, rest = list[str](), default, iter(argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in ("--config-name", "-cn"):
            name = (value if equals else next(rest, "")).removesuffix(".yaml")
        else:
            overrides.append(word)
    return overrides, name


@on_plain_output
def run_entry(
    description: str,
    read_settings: Callable[[Sequence[str]], S],
    action: Callable[[S, Sequence[str]], None],
    *,
    argv: Sequence[str] | None = None,
    from_mlflow: Sequence[str] = (),
) -> int:
    """Run an entry and return its exit code.

    0 done; 1 a fault of ours, or the run failed; 2 the input is wrong; 130 Ctrl-C; 143 SIGTERM;
    129 the terminal was closed.
    With several jobs (multirun) every one is composed and validated before the first starts, a job
    that fails does not stop the later ones, and the largest code is returned.

    Args:
        description: first lines of the help.
        read_settings: `key=value` overrides of one job -> its settings; ConfigError where wrong.
        action: what to do with the settings of a job and the overrides they came from.
        argv: the overrides; None for those of the process.
        from_mlflow: keys whose values MLflow's environment variables give where nothing else does.
    """
    todo: list[tuple[S, list[str]]] = []

    def read() -> None:
        # Before anything is looked at, because whatever is wrong with a word repeats the word.
        if problem := problem_of_overrides([*sys.argv[1:], *(argv or ())]):
            raise ConfigError(problem)
        invocation = parse(sys.argv[1:] if argv is None else argv)
        overrides = take_plugins(invocation.overrides)
        jobs = list(expand(overrides)) if invocation.multirun else [overrides]
        settings = [read_settings(job) for job in jobs]
        if from_mlflow:
            found = [environment_overrides(from_mlflow, *pair) for pair in zip(settings, jobs)]
            jobs = [[*job, *further] for job, further in zip(jobs, found)]
            settings = [read_settings(job) for job in jobs]
            if note := " ".join(dict.fromkeys(word for further in found for word in further)):
                _complain(f"from MLflow's environment variables: {note}")
        if invocation.help:
            print(_help(description, settings[0]))
        elif invocation.show_config:
            for one in settings:
                print(yaml.safe_dump(to_plain(one), sort_keys=False, allow_unicode=True), end="")
        else:
            todo.extend(zip(settings, jobs, strict=True))

    with _progress_shown():
        worst = _guarded(read)
        for settings, overrides in todo:
            folder = Path(getattr(settings, "output_dir", Path.cwd()))
            worst = max(worst, _guarded(partial(action, settings, overrides), folder))
            if worst >= 128:  # a person stopped it: the later jobs are not wanted either
                break
    return worst


class _Typed(logging.Formatter):
    """Shows commands in messages as they are typed here."""

    def format(self, record: logging.LogRecord) -> str:
        return typed(super().format(record))


@contextmanager
def _progress_shown() -> Iterator[None]:
    """Print what the project's modules log of long steps, beside the results on stdout."""
    logger, handler = logging.getLogger(PACKAGE), logging.StreamHandler()
    handler.setFormatter(_Typed())
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


def _guarded(action: Callable[[], None], folder: Path | None = None) -> int:
    try:
        with Interruption(), explained(folder or Path.cwd()):
            action()
    except (ConfigError, RunFailed) as error:
        _complain(f"error: {error}")
        return 2 if isinstance(error, ConfigError) else 1
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
        _complain(traceback.format_exc().rstrip())
        _complain(f"error: a fault of Bakeoff, not of your input: {error}")
        return 1
    return 0


def _complain(text: str) -> None:
    """Print it to standard error; a terminal that was closed meanwhile changes no exit code."""
    with suppress(OSError, ValueError):
        print(without_password(typed(text)), file=sys.stderr, flush=True)


def _help(description: str, settings: Settings) -> str:
    width = min(max(shutil.get_terminal_size().columns, 72), 120)
    lines = [typed(description.strip()), "", f"flags: {_FLAGS}", ""]
    if any(f.name == "data" for f in dataclasses.fields(settings)):  # type: ignore[arg-type]
        lines += ["groups (choose with GROUP=OPTION):"]
        for name, options in groups().items():
            lines += _table_row(f"{name:<10}", ", ".join(options), 12, width)
        lines += [""]
    lines += ["plugins=FOLDER or plugins=MODULE: code of your own that may be used", ""]
    lines += ["keys (set with KEY=VALUE) with their values here:"]
    for key, value, meaning in _rows(settings):
        lines += _table_row(f"{key}={value}", meaning, 38, width)
    return "\n".join(lines)


def _table_row(left: str, right: str, column: int, width: int) -> list[str]:
    """`left`, and `right` wrapped in a column of its own."""
    wrapped = textwrap.wrap(right, width - column - 2) or [""]
    if len(left) > column - 2:
        first, rest = f"  {left}", wrapped
    else:
        first, rest = f"  {left:<{column}}{wrapped[0]}", wrapped[1:]
    return [first, *(f"  {'':<{column}}{line}" for line in rest)]


def _rows(settings: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    rows = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            rows += _rows(value, f"{prefix}{field.name}.")
        elif field.name != "_target_":
            shown = "null" if value is None else str(value)
            shown = shown.lower() if isinstance(value, bool) else shown
            rows.append((f"{prefix}{field.name}", shown, field.metadata.get("meaning", "")))
    return rows
