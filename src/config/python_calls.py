"""Functions called from Python that do what commands do: their arguments, progress and errors."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from reprlib import repr as shortened

from ..machine.cache_place import place_for_matplotlib
from ..machine.failures import RunFailed
from ..machine.interruption import Interrupted
from ..machine.package import typed
from ..machine.text import nearest
from .checks import ConfigError
from .command_line import errors_explained, progress_shown
from .compose import flattened
from .other_names import known_as
from .overrides import by_key
from .plugins import import_plugins, take_plugins

__all__ = ["MINUTES", "as_command", "given_overrides", "refuse_no_name"]

MINUTES = "budget.minutes"


@contextmanager
def as_command() -> Iterator[None]:
    """Show progress as commands do, and raise the sentences that they would print.

    Ctrl-C and a notebook's "interrupt" leave as what other Python raises, and who asks the process
    to end gets its exit code.
    """
    place_for_matplotlib(None)
    try:
        with progress_shown(), errors_explained():
            import_plugins()  # that the environment names, and no override of this call
            yield
    except (ConfigError, RunFailed) as error:
        error.args = (typed(str(error)),)
        raise
    except Interrupted as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt(str(stop)) from None
        raise SystemExit(stop.exit_code) from None


def refuse_no_name(**given: object) -> None:
    """Raise a ConfigError for an argument that is no text or path, or is empty, which means `.`."""
    for key, value in given.items():
        if not isinstance(value, str | PathLike) or not str(value).strip():
            shown = " ".join(shortened(value).split())  # of an array in a line
            raise ConfigError(f"{key} is {shown}: it must be a text or a path, and not empty.")


def given_overrides(
    overrides: Sequence[str], keywords: Mapping[str, object], *known: str
) -> list[str]:
    """Return overrides of a single setting each, but those of plugins, which are imported.

    Args:
        overrides: as they were given.
        keywords: that the function does not have, with their values.
        known: keywords that it has.

    Raises:
        ConfigError: there are keywords, or one of the overrides is no text, or one that the
            function has a keyword for, of which one of two values would be ignored.
    """
    for key, value in keywords.items():
        near, setting = nearest(key, known), known_as(key)
        if "minutes" in known and setting in ("budget", MINUTES):
            near = f" (did you mean minutes={value}?)"
        given = "" if near else f': a setting is given as a text, "{setting}={value}"'
        raise ConfigError(f"{key}: there is no such keyword{near}{given}.")
    for one in overrides:
        if not isinstance(one, str):
            raise ConfigError(f'{one!r} is no text: settings are given as "seed=1".')
        if one.startswith("-"):
            raise ConfigError(f'{one!r}: settings have no dashes here: "seed=1".')
    found = flattened(take_plugins(overrides))
    for key, value in by_key(found).items():
        if key in known:
            raise ConfigError(f"{value!r}: give it as an argument of its own, {key}=...")
    return found
