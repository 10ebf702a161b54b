"""Answers of variants beside those of the original, against counting and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    cohen_kappa_score,
    jaccard_score,
    log_loss,
)

from src.serving.exported import linked
from src.serving.variant_figures import variant_figures
from src.training.sliding_windows import sliding_windows

SIDE = (5, 6)


def metadata_of(target: str, **more: Any) -> dict[str, Any]:
    settings = {"data": {"target": target}}
    return {"settings": settings, "class_names": list("abcd"), "image_size": list(SIDE)} | more


def noisy(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of an original, and of a variant that often decides as it does."""
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, shape).astype(np.float32)
    return reference, reference + rng.normal(0, 0.3, shape).astype(np.float32)


def numbered(outputs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A model that answers a picture by the number in its first pixel."""
    return lambda images: outputs[images[:, 0, 0, 0]]


def pictures(count: int, *size: int) -> np.ndarray:
    images = np.zeros((count, 1, *size), np.uint8)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    return images


@pytest.mark.parametrize("target", ["single", "multi"])
def test_labels_and_their_sets_are_counted_one_by_one(target: str) -> None:
    reference, logits = noisy(50, 4)
    least = [0.3, 0.5, 0.6, 0.8]
    more = {"link": "sigmoid", "thresholds": least} if target == "multi" else {}
    rng = np.random.default_rng(1)
    decided = [1 / (1 + np.exp(-one)) >= least for one in (reference, logits)]
    targets = rng.integers(0, 2, (50, 4))
    if target == "single":
        decided = [one.argmax(axis=1) for one in (reference, logits)]
        targets = rng.integers(0, 4, 50)
    figures = variant_figures(metadata_of(target, **more), "accuracy")
    models = {"original": numbered(reference), "variant": numbered(logits)}
    for some in np.split(np.arange(50), [20]):
        figures.add(models, pictures(50, *SIDE)[some], targets[some])
    found = figures.of("variant")
    assert found.largest_difference == pytest.approx(np.abs(reference - logits).max())
    assert found.equal == accuracy_score(decided[0], decided[1]) and 0.3 < found.equal < 1
    assert found.accuracy == found.figure == accuracy_score(targets, decided[1])
    assert figures.of("original")[:2] == (0.0, 1.0)


@pytest.mark.parametrize(
    ("target", "metric", "link"),
    [
        ("single", "log_loss", "softmax"),
        ("ordinal", "kappa", "softmax"),
        ("ordinal", "kappa", "corn"),
        ("multi", "map", "sigmoid"),
    ],
)
def test_a_figure_is_by_the_metric_that_judges_the_run(target: str, metric: str, link: str) -> None:
    logits = noisy(60, 3 if link == "corn" else 4)[1]
    targets = np.random.default_rng(1).integers(0, 4, 60)
    above = np.hstack([np.ones((60, 1)), (1 / (1 + np.exp(-logits))).cumprod(axis=1)])
    probs = above - np.hstack([above[:, 1:], np.zeros((60, 1))])
    if link == "softmax":
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if target == "multi":
        targets = np.random.default_rng(1).integers(0, 2, (60, 4))
    expected = {
        "log_loss": lambda: log_loss(targets, probs),
        "kappa": lambda: cohen_kappa_score(targets, probs.argmax(axis=1), weights="quadratic"),
        "map": lambda: average_precision_score(targets, logits, average="macro"),
    }
    figures = variant_figures(metadata_of(target, link=link), metric)
    for some in np.split(np.arange(60), [25]):
        figures.add({"it": numbered(logits)}, pictures(60, *SIDE)[some], targets[some])
    assert figures.of("it").figure == pytest.approx(expected[metric](), rel=1e-5)


def test_probabilities_that_vanish_have_no_sign() -> None:
    logits = np.array([[30, 30, -200], [-200, 0, 0]], np.float32)
    assert not np.signbit(linked(logits, "corn")).any()


def test_pixels_that_are_left_out_do_not_count() -> None:
    reference, logits = noisy(9, 4, *SIDE)
    masks = np.random.default_rng(1).choice([0, 1, 2, 3, 255], (9, *SIDE)).astype(np.uint8)
    masks[4] = 255
    figures = variant_figures(metadata_of("dense"), "miou")
    models = {"original": numbered(reference), "variant": numbered(logits)}
    for some in np.split(np.arange(9), [4, 5]):
        figures.add(models, pictures(9, *SIDE)[some], masks[some])
    counting = masks != 255
    own, other = (one.argmax(axis=1)[counting] for one in (reference, logits))
    found = figures.of("variant")
    assert found.largest_difference == pytest.approx(np.abs(reference - logits).max())
    assert found.equal == accuracy_score(own, other) and 0.3 < found.equal < 1
    assert found.accuracy == accuracy_score(masks[counting], other)
    assert found.figure == pytest.approx(jaccard_score(masks[counting], other, average="macro"))
    assert figures.of("original")[:2] == (0.0, 1.0)


def test_large_pictures_are_decided_window_by_window() -> None:
    import torch

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, 1, 13, 17)).astype(np.uint8)
    at, classes = np.indices(SIDE).sum(axis=0), np.arange(4)[:, None, None]

    def original(windows: np.ndarray) -> np.ndarray:  # of the place within the window as well
        values = windows[:, :1].astype(np.float32) / 64 + 0.3 * at
        return np.cos(values * (classes + 1)).astype(np.float32)

    def probabilities(windows: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(original(windows.numpy())).softmax(dim=1)

    expected = sliding_windows(probabilities, torch.from_numpy(images), window=SIDE).argmax(dim=1)
    figures = variant_figures(metadata_of("dense", fit="windows"), "miou")
    figures.add({"original": original}, images, expected.numpy().astype(np.uint8))
    found = figures.of("original")
    assert len(expected.unique()) > 1 and found == (0.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("target", ["single", "dense"])
def test_what_is_no_number_is_another_answer(target: str) -> None:
    reference, _ = noisy(10, 4, *(SIDE if target == "dense" else ()))
    logits = reference.copy()
    logits[3, 2] = np.nan
    targets = reference.argmax(axis=1)
    figures = variant_figures(metadata_of(target), "miou" if target == "dense" else "accuracy")
    models = {"original": numbered(reference), "variant": numbered(logits)}
    figures.add(models, pictures(10, *SIDE), targets)
    assert figures.of("variant")[:2] == (np.inf, 0.9)
    if target == "single":
        assert figures.of("variant").figure is None and figures.of("original").figure == 1.0


def test_answers_of_the_least_cost_are_judged_by_it() -> None:
    reference, logits = noisy(60, 4)
    rng = np.random.default_rng(2)
    costs, targets = rng.random((4, 4)) * (1 - np.eye(4)), rng.integers(0, 4, 60)
    figures = variant_figures(metadata_of("single", thresholds=costs.ravel().tolist()), "cost")
    models = {"original": numbered(reference), "variant": numbered(logits)}
    figures.add(models, pictures(60, *SIDE), targets)
    for name, one in (("original", reference), ("variant", logits)):
        preds = (linked(one, "softmax") @ costs).argmin(axis=1)
        assert figures.of(name).figure == pytest.approx(costs[targets, preds].mean())
