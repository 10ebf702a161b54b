"""The choice of a head is searched for once for the same features, and only then taken again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from src.config.compose import compose_settings
from src.config.features import ClassicalSettings
from src.config.schema import RunSettings
from src.features.grid import HeadGroup, Normalisation
from src.features.heads import ChosenHead, Examples
from src.runs.candidates import classical

BLOCKS = Normalisation("blocks", False)
FEATURES = np.random.default_rng(0).standard_normal((120, 6)).astype(np.float32)
TARGETS = (FEATURES[:, 0] > 0).astype(np.int64)


@pytest.fixture(autouse=True)
def searches(monkeypatch: pytest.MonkeyPatch) -> list[ChosenHead]:
    """The searches that were made, each among a few heads."""
    made: list[ChosenHead] = []
    search = classical.choose_head

    def counted(*args, **kwargs) -> ChosenHead:
        made.append(search(*args, **kwargs))
        return made[-1]

    few = [HeadGroup.of("ridge", BLOCKS, [{"strength": s} for s in (0.1, 1.0)])]
    monkeypatch.setattr(classical, "choose_head", counted)
    monkeypatch.setattr(classical, "head_groups", lambda *_: few)
    return made


def choice(tmp_path: Path, features=FEATURES, targets=TARGETS, seed=0, overrides=()) -> ChosenHead:
    model = compose_settings(RunSettings, ["model=embedding", *overrides]).model
    assert isinstance(model, ClassicalSettings)
    examples = Examples(features, targets, np.arange(len(features)), [6])
    return classical.kept_choice(model, examples, seed=seed, cache_dir=str(tmp_path))


def test_the_same_features_are_searched_once(tmp_path: Path, searches: list[ChosenHead]) -> None:
    first, second = choice(tmp_path), choice(tmp_path)
    assert len(searches) == 1
    assert second.record() == first.record()
    np.testing.assert_array_equal(second.calibration.shift, first.calibration.shift)


@pytest.mark.parametrize(
    "other",
    [
        {"features": FEATURES + np.float32(1e-6)},
        {"targets": 1 - TARGETS},
        {"seed": 1},
        {"overrides": ["model.calibration_folds=3"]},
    ],
)
def test_what_differs_is_searched_again(tmp_path: Path, searches: list[ChosenHead], other) -> None:
    choice(tmp_path)
    choice(tmp_path, **other)
    assert len(searches) == 2


@pytest.mark.parametrize("name", ["SEARCH_VERSION", "scipy", "sklearn"])
def test_what_another_program_would_find_is_searched_again(
    tmp_path: Path, searches: list[ChosenHead], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    choice(tmp_path)
    other = -1 if name == "SEARCH_VERSION" else SimpleNamespace(__version__="0")
    monkeypatch.setattr(classical, name, other)
    choice(tmp_path)
    assert len(searches) == 2


def test_a_search_cut_short_is_repeated_with_more_time(
    tmp_path: Path, searches: list[ChosenHead], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.features.heads.time", SimpleNamespace(perf_counter=lambda: 0.0))
    overrides = ["model.auto.seconds=1e-9"]
    assert not choice(tmp_path, overrides=overrides).complete
    assert not choice(tmp_path, overrides=["model.auto.seconds=1.1e-9"]).complete
    assert len(searches) == 1, "as much time finds as much"
    assert choice(tmp_path).complete
    assert choice(tmp_path, overrides=overrides).complete, (
        "what is kept is better than what is left out"
    )
    assert len(searches) == 2


def test_what_the_clock_cut_short_is_not_kept(tmp_path: Path, searches: list[ChosenHead]) -> None:
    for _ in range(2):
        assert choice(tmp_path, overrides=["model.auto.seconds=1e-9"]).late
    assert len(searches) == 2


def test_a_busy_moment_does_not_replace_what_was_found_in_a_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewed study gives the search more time, and the clock cuts it short earlier."""
    found = replace(choice(tmp_path / "other"), tried=5, folds=3, complete=False)
    fewer, more = replace(found, tried=2, late=True), replace(found, tried=9, late=True)
    results = iter([found, fewer, more])
    monkeypatch.setattr(classical, "choose_head", lambda *_, **__: next(results))
    tried = [
        choice(tmp_path, overrides=[f"model.auto.seconds={seconds}"]).tried for seconds in (1, 9, 9)
    ]
    assert tried == [5, 5, 9]
    assert list(results) == []


def test_a_damaged_record_is_searched_for_again(tmp_path: Path, searches: list[ChosenHead]) -> None:
    choice(tmp_path)
    (record,) = tmp_path.rglob("heads-*.json")
    record.write_text(record.read_text().replace('"head"', '"hood"'))
    assert choice(tmp_path).record()["settings"] == searches[0].record()["settings"]
    assert len(searches) == 2
