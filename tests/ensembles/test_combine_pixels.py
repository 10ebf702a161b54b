"""Combinations of predictions of pixels: fitted to some of them, measured on all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from src.ensembles.combine import Mixture, WeightFit, combine_pixels, dealt
from src.ensembles.mixing import Method, combined_probabilities, mixed_pixels
from src.metrics.class_maps import iou_sums, mean_ratio
from src.records.pixel_answers import pixel_answers

MEMBERS, PICTURES, CLASSES, SIDE = 4, 40, 3, 12
NAMES = [f"m{i}" for i in range(MEMBERS)]
FIT = WeightFit(8)


def library(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (M, N, K, H, W) of members that err apart, and classes (N, H, W)."""
    rng = np.random.default_rng(seed)
    masks = rng.choice(CLASSES, (PICTURES, SIDE, SIDE), p=[0.7, 0.2, 0.1])
    logits = rng.normal(0, 1, (MEMBERS, PICTURES, CLASSES, SIDE, SIDE))
    logits += 1.2 * np.eye(CLASSES)[masks].transpose(0, 3, 1, 2)
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return probs.astype(np.float32), masks


def answered(probs: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Answers (N,) of maps (N, K, H, W), counted pixel by pixel."""
    preds = probs.argmax(axis=1)
    matrices = np.zeros((len(masks), CLASSES, CLASSES), np.int64)
    for picture, (truth, said) in enumerate(zip(masks, preds, strict=True)):
        np.add.at(matrices[picture], (truth.ravel(), said.ravel()), 1)
    true = np.take_along_axis(probs, masks[:, None], axis=1)[:, 0]
    losses = -np.log(true).mean(axis=(1, 2))
    return pixel_answers(matrices, losses, [said.tobytes() for said in preds])


def combined(probs: np.ndarray, masks: np.ndarray, fit: WeightFit = FIT, **options):
    places = np.repeat(np.arange(PICTURES), SIDE * SIDE)
    held = np.stack([(masks == k).any(axis=(1, 2)) for k in range(CLASSES)], axis=1)
    asked: list[tuple[Sequence[Mixture], np.ndarray]] = []

    def mixed(mixtures: Sequence[Mixture], number: np.ndarray) -> np.ndarray:
        asked.append((mixtures, number))
        maps = [
            mixed_pixels(mixtures[one][0], probs[:, [row]], mixtures[one][1])[0]
            for row, one in enumerate(number)
        ]
        return answered(np.stack(maps), masks)

    found = combine_pixels(
        NAMES,
        probs.transpose(0, 1, 3, 4, 2).reshape(MEMBERS, -1, CLASSES),
        labels=masks.reshape(-1).astype(np.int64),
        pictures=places,
        answers=[answered(one, masks) for one in probs],
        targets=held.astype(np.uint8),
        mixed=mixed,
        fit=fit,
        **options,
    )
    (once,) = asked
    return found, once


@pytest.mark.parametrize("method", ["greedy", "stacking"])
def test_maps_are_mixed_as_rows_are(method: Method) -> None:
    probs, _ = library()
    weights = np.array([0.5, 0.2, 0.3, 0.1])
    rows = probs.transpose(0, 1, 3, 4, 2).reshape(MEMBERS, -1, CLASSES)
    expected = combined_probabilities(method, rows, weights)
    found = mixed_pixels(method, iter(probs), weights).transpose(0, 2, 3, 1).reshape(-1, CLASSES)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_members_that_err_apart_are_better_together() -> None:
    probs, masks = library()
    found, (mixtures, number) = combined(probs, masks, WeightFit(8, ["greedy"]))
    assert (found.measure, found.way) == ("miou", "greedy")
    assert found.figure > found.best_figure + 0.05 and found.p_value < 0.01
    assert found.figure == pytest.approx(mean_ratio(iou_sums(found.probs["matrix"])), abs=1e-6)
    assert found.log_loss == pytest.approx(found.probs["log_loss"].mean())
    best = max(range(MEMBERS), key=lambda m: _miou(probs[m], masks))
    assert found.best == NAMES[best]
    assert len(mixtures) == 5
    for fold, held in enumerate(dealt(PICTURES, 5, 0)):
        np.testing.assert_array_equal(number == fold, held)


def _miou(probs: np.ndarray, masks: np.ndarray) -> float:
    return mean_ratio(iou_sums(answered(probs, masks)["matrix"]))


def test_a_picture_has_no_say_in_its_own_answer() -> None:
    """Other classes for all pixels of one picture change nothing about how it is answered."""
    probs, masks = library(1)
    turned = masks.copy()
    turned[17] = (turned[17] + 1) % CLASSES
    groups = np.arange(PICTURES) // 2
    one, (first, number) = combined(probs, masks, groups=groups)
    other, (second, _) = combined(probs, turned, groups=groups)
    assert number[16] == number[17], "pictures of a group are held out together"
    own = number[17]
    np.testing.assert_array_equal(first[own][1], second[own][1])
    assert any((a[1] != b[1]).any() for a, b in zip(first, second, strict=True))
    for picture in (16, 17):
        assert one.probs["map"][picture] == other.probs["map"][picture]
