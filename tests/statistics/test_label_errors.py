from __future__ import annotations

import numpy as np
import pytest

from src.records.run import Predictions
from src.statistics.label_errors import doubtful_labels


@pytest.mark.parametrize("paths", [None, tuple(f"p{i}.png" for i in range(8))])
def test_doubtful_labels_are_named(paths: tuple[str, ...] | None) -> None:
    probs = np.tile(np.float32([[0.9, 0.1]]), (8, 1))
    probs[4:] = [0.1, 0.9]
    probs[6] = [0.97, 0.03]  # labelled 1
    targets = np.repeat([0, 1], 4)
    predictions = Predictions(np.arange(8) + 100, paths, targets, probs, ("cat", "dog"))
    (suspect,) = doubtful_labels({"val": predictions})
    assert (suspect.part, suspect.index, suspect.kind) == ("val", 106, "label")
    assert (suspect.label, suspect.suggested) == ("dog", "cat")
    assert suspect.path == (None if paths is None else "p6.png")
    assert suspect.score == pytest.approx(0.94, abs=1e-6)


def test_doubtful_labels_of_several_parts_are_ranked_together() -> None:
    probs = np.float32([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 9)
    parts = {}
    for part, sure in (("val", 0.91), ("test", 0.99)):
        own = probs.copy()
        own[17] = [sure, 1 - sure]
        parts[part] = Predictions(np.arange(18), None, np.repeat([0, 1], 9), own, ("a", "b"))
    assert [s.part for s in doubtful_labels(parts)] == ["test", "val"]
