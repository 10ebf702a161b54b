"""The bundle of several models that answer as one: their bundles, and one copy of the code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_bundle, write_ensemble_bundle
from src.serving.ensemble_predictor import ensemble_predictor
from src.serving.predictor import Predictor
from tests.serving.bundles import network_and_metadata
from tests.serving.stranger import a_stranger_asks

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 24), np.uint8)
WEIGHTS = [0.25, 0.75]


def bundle(folder: Path, way: str = "greedy") -> str:
    members: list[Any] = []
    for seed in (0, 1):
        network, metadata = network_and_metadata(seed=seed)
        members.append(
            partial(write_bundle, network=network, metadata=metadata, example=PICTURES[0])
        )
    ensemble = {"way": way, "members": [{"weight": weight} for weight in WEIGHTS]}
    kept = ("class_names", "image_size", "channels")
    stated = {key: metadata[key] for key in kept} | {"ensemble": ensemble}
    return write_ensemble_bundle(folder, members, stated, PICTURES[0])


def expected(folder: Path, way: str) -> np.ndarray:
    first, second = (
        open_predictor(folder / "members" / str(i)).probabilities(PICTURES).astype(np.float64)
        for i in (0, 1)
    )
    if way == "greedy":
        return 0.25 * first + 0.75 * second
    powered = first**0.25 * second**0.75
    return powered / powered.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("way", ["greedy", "stacking"])
def test_it_answers_as_the_mixture_of_its_members(tmp_path: Path, way: str) -> None:
    digest = bundle(tmp_path / "model", way)
    opened = open_predictor(tmp_path / "model")
    said = opened.probabilities(PICTURES)
    np.testing.assert_allclose(said, expected(tmp_path / "model", way), atol=1e-6)
    assert (tmp_path / "model" / "digest.txt").read_text().strip() == digest
    assert digest != bundle(tmp_path / "other", "greedy" if way == "stacking" else "stacking")


@pytest.mark.slow
def test_it_needs_no_checkout_and_holds_nothing_pickled(tmp_path: Path) -> None:
    bundle(tmp_path / "model", "stacking")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".png", ".py", ".safetensors", ".txt"}
    assert len([path for path in files if path.name == "predictor.py"]) == 1
    (needed,) = [path for path in files if path.name == "requirements.txt"]
    packages = [line.partition("==")[0] for line in needed.read_text().split()]
    assert packages == ["torch", "numpy", "pillow", "safetensors"]
    said, heavy = a_stranger_asks(tmp_path / "model", PICTURES)
    assert heavy == {"torch"}
    np.testing.assert_allclose(said, expected(tmp_path / "model", "stacking"), atol=1e-6)


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    bundle(tmp_path)
    (tmp_path / "passport.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no ensemble that can be loaded"):
        open_predictor(tmp_path)


def test_each_member_gets_pictures_in_its_own_format() -> None:
    """One of them takes squeezed pictures of 8x8 pixels, two the middle at 12x12."""
    seen: list[tuple[int, ...]] = []

    def member(share: float) -> Any:
        def classify(images: np.ndarray) -> np.ndarray:
            seen.append(images.shape)
            return np.tile(np.float32([share, 1 - share]), (len(images), 1))

        return classify

    small = Predictor(member(0.0), _metadata((8, 8)))
    large = [Predictor(member(s), _metadata((12, 12), fit="crop")) for s in (0.5, 1.0)]
    both = ensemble_predictor(
        [small, *large], "greedy", [0.5, 0.25, 0.25], _metadata((8, 8)), batch_size=4
    )
    assert len(both.formats) == 2, "a format that two of them share is decoded once"
    pictures = [picture.transpose(1, 2, 0) for picture in PICTURES]
    np.testing.assert_allclose(both.answer(pictures)[:, 0], 0.375, atol=1e-6)
    assert set(seen) == {(4, 3, 8, 8), (1, 3, 8, 8), (4, 3, 12, 12), (1, 3, 12, 12)}


def _metadata(size: tuple[int, int], fit: str = "squeeze") -> dict[str, Any]:
    return {"class_names": ["a", "b"], "image_size": size, "channels": 3, "fit": fit}
