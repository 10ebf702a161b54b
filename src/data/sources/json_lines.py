"""Files of JSON lines: an object a picture, with its path and its label or labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...config.checks import ConfigError
from ...machine.text import nearest, text_fault
from .label_sets import SEPARATORS
from .label_spelling import clean_label
from .table_columns import ParsedTable, TableSchema, cell_value, check_table, not_utf8

__all__ = ["read_json_lines"]

_OPTIONAL_KEYS = ("split", "group")
_NO_OBJECT = 'it is no object of JSON, such as {"path": "a.jpg", "label": "cat"}'


def read_json_lines(file: Path, several: bool) -> ParsedTable:
    """Return the lines of a file of JSON objects in UTF-8.

    Args:
        file: with the keys path, label or labels, and if wanted split and group in all lines.
        several: whether a picture has a list of labels, maybe an empty one, and not one label.

    Raises:
        ConfigError: a line is no object, lacks a key, or has another kind of value; with its
            number.
    """
    rows = list(_objects(file))
    if not rows:
        raise ConfigError(f"{file} is empty: it names no pictures.")
    further = [name for name in _OPTIONAL_KEYS if any(name in one for _, one in rows)]
    names = ["path", *([] if several else ["label"]), *further]
    known = {*names, "label", "labels"}
    others = dict.fromkeys(name for _, one in rows for name in one if name not in known)
    table = ParsedTable(
        [*names, *others],
        {name: at for at, name in enumerate(names)},
        schema=TableSchema(several=several),
    )
    table.used, table.sets = set(table.places.values()), [] if several else None
    for number, one in rows:
        where = f"{file}, line {number}"
        table.lines.append(number)
        if "label" in one and "labels" in one:
            raise ConfigError(f"{where}: label and labels could each be meant: leave one out.")
        label = one.get("label", one.get("labels"))
        if table.sets is not None:
            if "label" not in one and "labels" not in one:
                raise ConfigError(
                    f"{where}: there is no key labels{nearest('labels', list(one))}; a picture "
                    "without any has null or []."
                )
            table.sets.append(_set(label, where))
        for name in names:
            value = label if name == "label" else one.get(name)
            value = str(value) if isinstance(value, int) else value
            if not isinstance(value, str) or not clean_label(value):
                raise ConfigError(f"{where}: {name} is {value!r}: it must be a text.")
            _check(value, name, where)
            table.values.setdefault(name, []).append(cell_value(name, value))
    return table


def _objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line that is not empty."""
    number = 0
    check_table(file)
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                one = json.loads(line)
                if not isinstance(one, dict):
                    raise ConfigError(f"{file}, line {number}: {_NO_OBJECT}.")
                yield number, one
    except UnicodeDecodeError:
        raise not_utf8(file) from None
    except RecursionError:
        raise ConfigError(f"{file}, line {number}: it has too many brackets.") from None
    except ConfigError:
        raise
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise ConfigError(f"{file}, line {number}: it is no JSON ({error}).") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from None


def _check(text: str, name: str, where: str) -> None:
    if (fault := text_fault(text)) is not None:
        raise ConfigError(f"{where}: {name} is {text!r}, which has {fault}.")


def _set(label: Any, where: str) -> tuple[str, ...]:
    if isinstance(label, str) and any(sign in label for sign in SEPARATORS):
        raise ConfigError(
            f"{where}: labels is {label!r}, which may be one name or several: write a list of "
            "names, also of one."
        )
    names = [label] if isinstance(label, str) else [] if label is None else label
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: labels is {label!r}: it must be a list of names.")
    for name in names:
        _check(name, "labels", where)
    return tuple(dict.fromkeys(name for one in names if (name := clean_label(one))))
