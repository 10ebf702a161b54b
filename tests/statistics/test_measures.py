from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from src.statistics.measures import Measure


def predictions(count: int = 400, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.choice(classes, count, p=[0.55, 0.25, 0.15, 0.05])
    logits = 1.5 * generator.standard_normal((count, classes))
    logits[np.arange(count), targets] += 1.5
    probs = np.exp(logits)
    return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32), targets


def figure(measure: Measure, probs: np.ndarray, targets: np.ndarray) -> float:
    return float(measure.scores(probs, probs.argmax(axis=1), targets).mean(dtype=np.float64))


def test_their_means_are_the_figures_of_scikit_learn() -> None:
    probs, targets = predictions()
    preds = probs.argmax(axis=1)
    assert figure(Measure(), probs, targets) == pytest.approx((preds == targets).mean())
    expected = {
        "balanced_accuracy": balanced_accuracy_score(targets, preds),
        "macro_f1": f1_score(targets, preds, average="macro"),
        "log_loss": -log_loss(targets, probs.astype(np.float64)),
    }
    for name, value in expected.items():
        assert figure(Measure(name), probs, targets) == pytest.approx(value, abs=1e-5)
    costs = np.array([[0, 1, 2, 3], [5, 0, 1, 1], [1, 1, 0, 1], [9, 9, 9, 0]], float)
    mean = -np.mean([costs[t, p] for t, p in zip(targets, preds)])
    assert figure(Measure("cost", costs), probs, targets) == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("name", ["balanced_accuracy", "macro_f1"])
def test_the_variance_of_their_mean_is_that_of_the_bootstrap(name: str) -> None:
    probs, targets = predictions(1500)
    scores = Measure(name).scores(probs, probs.argmax(axis=1), targets)
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        chosen = generator.integers(len(targets), size=len(targets))
        drawn.append(figure(Measure(name), probs[chosen], targets[chosen]))
    assert scores.std() / np.sqrt(len(targets)) == pytest.approx(np.std(drawn), rel=0.1)


def test_a_class_that_nobody_has_or_predicts_does_not_count() -> None:
    probs = np.eye(3, dtype=np.float32)[[0, 0, 1, 1]]
    targets = np.array([0, 0, 1, 0])
    for name in ("balanced_accuracy", "macro_f1"):
        scores = Measure(name).scores(probs, probs.argmax(axis=1), targets)
        assert np.isfinite(scores).all()
        assert scores.mean() == pytest.approx(
            figure(Measure(name), probs[:, :2], targets), abs=1e-6
        )


def test_refuses() -> None:
    with pytest.raises(ValueError, match="it must be of accuracy"):
        Measure("top1")
    with pytest.raises(ValueError, match="goes with the measure cost"):
        Measure("cost")
    probs, targets = predictions()
    with pytest.raises(ValueError, match="3 x 3, and there are 4 classes"):
        Measure("cost", np.zeros((3, 3))).scores(probs, targets, targets)
