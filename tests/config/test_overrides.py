"""Tests for src.config.overrides: what an override sets, and which of several counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config.overrides import (
    by_key,
    changed,
    output_overrides,
    parse_override,
    split_override,
    value_of,
    without_keys,
)


def test_a_value_may_hold_the_sign_that_ends_the_key() -> None:
    assert split_override("data.filter=a=b") == ("data.filter", "a=b")
    assert split_override("seed=") == ("seed", "")
    assert split_override("seed") == ("seed", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[图像,标签]", ["图像", "标签"]),
        ("[Straße und Weg, ciel,null,2]", ["Straße und Weg", "ciel", None, 2]),
        ("[[道,a],空]", [["道", "a"], "空"]),
        ("猫 犬", "猫 犬"),
        ("\u3000", "\u3000"),  # a blank
        ("'Größe'", "Größe"),
        ('["é",b]', ["é", "b"]),
    ],
)
def test_letters_of_every_alphabet_need_no_quotes(text: str, value: object) -> None:
    assert value_of(f"data.class_names={text}") == value


def test_several_values_of_every_alphabet_need_no_quotes() -> None:
    several = parse_override("data.answer=a,ü").sweep_string_iterator()
    assert [value_of(f"data.answer={one}") for one in several] == ["a", "ü"]


def test_of_one_key_the_last_override_counts() -> None:
    assert by_key(["seed=1", "model=mlp", "seed=2"]) == {"seed": "seed=2", "model": "model=mlp"}


def test_only_overrides_of_the_very_key_are_left_out() -> None:
    overrides = ["model=mlp", "model.hidden=8", "seed=1", "seed=2"]
    assert without_keys(overrides, ["seed", "model"]) == ["model.hidden=8"]


def test_of_two_changes_the_later_counts() -> None:
    first = changed(["model=mlp", "data.batch_size=256"], ["data.batch_size=128", "seed=1"])
    assert first == ["model=mlp", "data.batch_size=128", "seed=1"]
    both = changed(["data.batch_size=256"], ["data.batch_size=128", "data.batch_size=64"])
    assert both == ["data.batch_size=64"]


def test_the_default_output_folder_is_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_overrides("outputs") == output_overrides(tmp_path / "outputs") == []
    assert output_overrides("other") == ["output_dir=other"]
    assert output_overrides(tmp_path) == [f"output_dir={tmp_path}"]
