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
        yaml.YAMLError: it is no YAML, or names other types.
    """
    return yaml.load(text, _LOADER)


def yaml_text(plain: Any) -> str:
    """Return nested dicts and lists of plain values as a document, with the keys in their order."""
    text: str = yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text
