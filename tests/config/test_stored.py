from __future__ import annotations

import pytest

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings, groups
from src.config.schema import RunSettings, stored_settings


@pytest.mark.parametrize("model", groups()["model"])
def test_the_settings_of_every_model_are_read_as_they_were_written(model: str) -> None:
    runs = ["model.runs=[a,b]"] if model == "ensemble" else []
    settings = compose_settings(RunSettings, [f"model={model}", *runs, "cv.folds=4"])
    plain = to_plain(settings)
    before = repr(plain)
    assert stored_settings(plain) == settings
    assert repr(plain) == before, "what was read stays as it is"


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [("optimizer", "lr", None), ("trainer", "tta", "sideways"), ("data", "colour", 3)],
)
def test_settings_of_another_version_are_refused_with_the_key(
    group: str, key: str, value: object
) -> None:
    plain = to_plain(compose_settings(RunSettings, []))
    plain[group].pop(key, None)
    if value is not None:
        plain[group][key] = value
    with pytest.raises(ConfigError, match=rf"another version.*{group}\.{key}.*train it again"):
        stored_settings(plain)
