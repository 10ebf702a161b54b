"""What a setting names, and what it is called with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.utils import get_object

from src.config.checks import ConfigError, Settings

__all__ = ["get_object", "input_of", "own_fields"]


@contextmanager
def input_of(group: str) -> Iterator[None]:
    """What a room refuses with ValueError was the user's choice in this config group."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{group}: {error}") from error


def own_fields(settings: Settings, base: type[Settings]) -> dict[str, Any]:
    """The fields a variant adds to its base: the arguments of what it describes."""
    shared = getattr(base, "__dataclass_fields__", {})  # Settings itself has no fields
    own = [name for name in vars(settings) if name not in shared]
    return {name: getattr(settings, name) for name in own}
