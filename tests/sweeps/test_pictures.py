"""A study goes on with the pictures that it began with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.config.checks import ConfigError
from src.config.sweep import read_sweep_settings
from src.sweeps.pictures import check_pictures
from tests.data.pictures import png, tree, write


class Known:
    """What a study knows beside its trials."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def recall(self, key: str) -> Any:
        return self.values.get(key)

    def remember(self, key: str, value: Any) -> None:
        self.values[key] = value


def test_other_pictures_end_a_study_and_the_same_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pets", {"cat": 6, "dog": 6})
    words = ["study=s", "data=folder", f"data.root={root}", "families=[mlp]"]
    settings = read_sweep_settings(words, "default")
    study: Any = Known()
    check_pictures(settings, study)
    first = dict(study.values)
    check_pictures(settings, study)
    assert study.values == first
    first_cat = min((root / "cat").iterdir())
    content = first_cat.read_bytes()
    changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: write(root / "cat" / "x.png", png(900)), (root / "cat" / "x.png").unlink),
        (first_cat.unlink, lambda: write(first_cat, content)),
        (lambda: write(first_cat, png(901)), lambda: write(first_cat, content)),
        (
            lambda: first_cat.rename(root / "dog" / "x.png"),
            lambda: (root / "dog" / "x.png").rename(first_cat),
        ),
        (
            lambda: first_cat.rename(root / "cat" / "z.png"),
            lambda: (root / "cat" / "z.png").rename(first_cat),
        ),
        (
            lambda: tree(root, {"bird": 3}, seed=800),
            lambda: shutil.rmtree(root / "bird"),
        ),
    ]
    for change, undo in changes:
        change()
        with pytest.raises(ConfigError, match="that the study s began with"):
            check_pictures(settings, study)
        assert study.values == first
        undo()
        check_pictures(settings, study)
    (root / "dog").rename(root / "eel")
    with pytest.raises(ConfigError, match="that the study s began with"):
        check_pictures(settings, study)
