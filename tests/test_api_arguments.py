"""Arguments of the functions for Python that are no names of anything."""

from __future__ import annotations

import sys
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
        (lambda: api.sweep("digits", study=1), "study"),  # type: ignore[arg-type]
        (lambda: api.sweep("digits", minutes="10"), "minutes"),  # type: ignore[arg-type]
        (lambda: api.sweep("digits", minutes=True), "minutes"),
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


def test_settings_with_the_dashes_of_another_command_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^'--model=mlp': settings have no dashes here"):
        api.fit("digits", "--model=mlp")


def test_an_array_in_place_of_a_folder_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^data is array.*\.\.\..*: it must be a text or a path"):
        api.fit(np.zeros((3, 8, 8)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda: api.fit("digits", "data=mnist"), "data"),
        (lambda: api.fit("digits", "output_dir=mine"), "output_dir"),
        (lambda: api.sweep("digits", "study=mine"), "study"),
        (lambda: api.scaling("champion", "run=other"), "run"),
        (lambda: api.compare("output_dir=mine"), "output_dir"),
        (lambda: api.load("champion", "changed=use"), "changed"),
    ],
)
def test_an_override_of_what_is_an_argument_is_not_passed_over(
    call: Callable[[], Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^'{key}=.*argument of its own, {key}="):
        call()


def test_a_plugin_of_the_environment_is_there_for_a_run_that_is_loaded_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_the_environment.py").write_text("")
    monkeypatch.setenv("BAKEOFF_PLUGINS", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match="there is no run"):
        api.load("absent", output_dir=tmp_path)
    assert "of_the_environment" in sys.modules


def test_a_model_is_loaded_with_plugins_and_no_other_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_a_model.py").write_text("")
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")  # what the call sets goes with the test
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match="there is no run"):
        api.load("absent", f"plugins={tmp_path}", output_dir=tmp_path)
    assert "of_a_model" in sys.modules
    with pytest.raises(ConfigError, match=r"^coverage=0.9: .* plugins=FOLDER and no other"):
        api.load("absent", "coverage=0.9", output_dir=tmp_path)
    with pytest.raises(ConfigError, match=r"^output_dri: .*did you mean output_dir"):
        api.load("absent", output_dri=tmp_path)  # type: ignore[arg-type]
