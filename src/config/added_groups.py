"""Groups of settings that a class gets from other files: those of descriptors, classifiers and
operations, of the project and of plugins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from keyword import iskeyword
from typing import TypeVar

from .checks import ADDED, ConfigError, Settings, default_of, extended, is_again

__all__ = ["group_of"]

T = TypeVar("T")
V = TypeVar("V")


def group_of(
    base: type, name: str, targets: dict[str, V], target: V
) -> Callable[[type[T]], type[T]]:
    """Register a settings class as the group `name` of `base`, and of what is derived from that.

    `from_plain` then makes objects of a subclass that has the group as a further field. `targets`
    gets `target`, the import path of what the group's settings make, by the name.

    Raises:
        ConfigError: the name is none of Python or taken, one of the group's fields has no default,
            or what is decorated is no settings class, whose values would not be checked.
    """

    def register(cls: type[T]) -> type[T]:
        if not name.isidentifier() or iskeyword(name):
            raise ConfigError(f"{cls.__name__}: {name!r} is no name of Python: letters, digits, _.")
        related = (*base.__mro__, *_derived(base))
        known = [ADDED[one][name][0] for one in related if name in ADDED.get(one, {})]
        if not any(is_again(one, cls) for one in known):
            for one in related:
                if name in getattr(one, "__dataclass_fields__", {}) or name in ADDED.get(one, {}):
                    raise ConfigError(
                        f"{cls.__name__}: {one.__name__} has a field {name} already: choose "
                        "another name."
                    )
        if not (issubclass(cls, Settings) and dataclasses.is_dataclass(cls)):
            raise ConfigError(
                f"{cls.__name__}: derive it from Settings, and decorate it with "
                f"@dataclass(frozen=True) below what registers {name}."
            )
        for field in dataclasses.fields(cls):
            if default_of(field) is dataclasses.MISSING:
                raise ConfigError(
                    f"{cls.__name__}.{field.name}: give it a default, setting(default=...)."
                )
        meaning = (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        ADDED.setdefault(base, {})[name] = (cls, meaning)
        extended.cache_clear()
        targets[name] = target
        return cls

    return register


def _derived(base: type) -> Iterator[type]:
    """Yield the classes that are derived from a class, and those that are from them."""
    cls: type
    for cls in base.__subclasses__():
        yield from (cls, *_derived(cls))
