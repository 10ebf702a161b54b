"""Plain values as YAML and back, by libyaml, which takes a tenth of the time of PyYAML's Python."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["read_yaml", "yaml_text"]

# Without libyaml, as where PyYAML was built from source, they are PyYAML's own.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_yaml(text: str) -> Any:
    """Return what a document holds, of plain types alone.

    Raises:
        yaml.YAMLError: it is no YAML, or names other types; the message is of one line.
    """
    try:
        try:
            return yaml.load(text, _LOADER)
        except yaml.YAMLError:
            if "\\u" not in text:
                raise
            return yaml.load(text, yaml.SafeLoader)  # libyaml refuses the escapes of `yaml_text`
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            reason = f"line {error.problem_mark.line + 1}: {error.problem}"
        raise yaml.YAMLError(reason) from error


def yaml_text(plain: Any) -> str:
    """Return nested dicts and lists of plain values as a document, with the keys in their order.

    A byte of a path that is no UTF-8, half a character in Python, is written as an escape.
    """
    text: str
    try:
        text = yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    except UnicodeEncodeError:
        text = yaml.dump(plain, Dumper=yaml.SafeDumper, sort_keys=False, allow_unicode=True)
    return text
