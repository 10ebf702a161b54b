"""Arguments of the functions for Python that are no names of anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from src import api
from src.config.checks import ConfigError

__all__: list[str] = []


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: api.fit(None), "data"),  # type: ignore[arg-type]
        (lambda: api.fit(""), "data"),
        (lambda: api.fit("digits", output_dir=None), "output_dir"),  # type: ignore[arg-type]
        (lambda: api.sweep("digits", study=None), "study"),  # type: ignore[arg-type]
        (lambda: api.sweep("digits", minutes="10"), "minutes"),  # type: ignore[arg-type]
        (lambda: api.compare(output_dir=None), "output_dir"),  # type: ignore[arg-type]
        (lambda: api.load(None), "run"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_name_is_refused_by_its_argument(call: Callable[[], Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} is .*: it must be a"):
        call()
