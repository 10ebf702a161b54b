"""Arguments of the functions for Python that are no names of anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import src
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
        (lambda: api.sweep("digits", minutes=float("nan")), "budget.minutes"),
        (lambda: api.sweep("digits", minutes=np.int64(0)), "budget.minutes"),  # type: ignore[arg-type]
        (lambda: api.compare(output_dir=None), "output_dir"),  # type: ignore[arg-type]
        (lambda: api.load(None), "run"),  # type: ignore[arg-type]
        (lambda: api.scaling(None), "run"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_name_is_refused_by_its_argument(call: Callable[[], Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} is .*: it must be a"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: api.load("a" * 300),
        lambda: api.load(output_dir="a" * 300),
        lambda: api.scaling("a" * 300),
        lambda: api.compare(f"runs=[{'a' * 300}]"),
        lambda: api.sweep("digits", minutes=1, study="a" * 300),
    ],
)
def test_names_that_are_too_long_for_the_disk_are_refused_as_by_the_commands(
    call: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"longer than|at most"):
        call()
    assert not list(tmp_path.iterdir())


def test_the_package_lists_what_it_offers_and_no_more() -> None:
    assert set(dir(src)) == {*api.__all__, "__version__"}
    assert all(getattr(src, name) is getattr(api, name) for name in ("ConfigError", "RunFailed"))
