"""What is wrong with an override, and what may have been meant instead."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, get_type_hints

from ..machine.text import nearest
from .checks import ConfigError, is_literal
from .other_names import hint_for_argument, hint_for_key, hint_for_option, nearest_network
from .overrides import split_override
from .schema import RunSettings

__all__ = ["LISTED", "divided_path", "no_key", "no_option", "not_understood", "several_values"]

# Least shares of equal letters of names that may be meant for one another.
_LEAST_LIKENESS, _LEAST_LIKENESS_ELSEWHERE = 0.65, 0.75
_COMMON_BEGINNING = 2  # letters that many names begin with
# Where no key is like the one that was given.
LISTED = "; --help lists those that there are"


def not_understood(argument: str, plain: Mapping[str, Any]) -> ConfigError:
    """Return the error for an argument without a `=`, which says how to give it.

    Args:
        argument: as it was typed.
        plain: values of all keys of the command, by dotted key.
    """
    hint = hint_for_argument(argument, plain)
    return ConfigError(
        f"{argument!r} is not understood: settings are given as KEY=VALUE, spaces in quotes"
        f"{f'; {hint}' if hint else ''}."
    )


def divided_path(overrides: Sequence[str], at: int) -> str | None:
    """Return the override of a path that the shell has divided at spaces before `at`, or None."""
    before = overrides[at - 1] if at else ""
    key, value = split_override(before)
    if not is_literal(key) or "/" not in value:
        return None
    rest = takewhile(lambda argument: "=" not in argument, overrides[at:])
    return " ".join([before, *rest])


def several_values(argument: str, cls: type) -> ConfigError:
    """Return the error for `key=a,b`, which says how to give a list, a number or several runs."""
    key, value = split_override(argument)
    if "list[" in str(get_type_hints(cls).get(key)):
        advice = f"a list is {key}=[{value}]"
    elif cls is RunSettings:
        advice = "add -m to run them one by one"
    else:
        advice = "it takes one, and a sweep searches what the files of sweeps/spaces/ name"
    if re.fullmatch(r"-?\d+,\d+", value):
        advice += f"; a decimal number has a point, {key}={value.replace(',', '.')}"
    return ConfigError(f"{argument!r} names several values: {advice}.")


def no_option(group: str, given: str, options: Sequence[str]) -> str:
    """Return what an option of a group must be, with what `given` may have meant."""
    if instead := hint_for_option(group, given):
        return f"set {instead}"
    further, near = "", nearest(given, options)
    if group == "model":
        further, near = ", or a network of timm or torchvision", nearest_network(given, options)
    if group == "data" and not near:
        further = "; pictures of your own are data=FOLDER"
    return f"it must be one of {', '.join(options)}{further}{near}"


def no_key(key: str, known: Sequence[str]) -> ConfigError:
    """Return the error for an unknown key, with the key that may have been meant."""
    above = key.rpartition(".")[0]
    if above in known and not any(one.startswith(f"{above}.") for one in known):
        return ConfigError(f"{key}: {above} has no keys of its own: set {above}=VALUE.")
    elsewhere = hint_for_key(key, known)
    hint = f"; {elsewhere}" if elsewhere else _near_key(key, known) or LISTED
    return ConfigError(f"{key}: there is no such key{hint}.")


def _near_key(key: str, known: Sequence[str]) -> str:
    """`data.batchsize` -> ' (did you mean data.batch_size?)'.

    Names are compared without their groups, which would make all keys of a group alike; one of the
    same group may differ by more.
    """
    group, _, name = key.rpartition(".")
    for cutoff, near in (
        (
            _LEAST_LIKENESS,
            {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == group},
        ),
        (_LEAST_LIKENESS_ELSEWHERE, {one.rpartition(".")[2]: one for one in reversed(known)}),
    ):
        close = get_close_matches(name.lower(), near, n=1, cutoff=cutoff)
        begins = [
            one for one in near if len(name) > _COMMON_BEGINNING and one.startswith(name.lower())
        ]
        close += sorted(begins, key=len)
        if close:
            return f" (did you mean {near[close[0]]}?)"
    return ""
