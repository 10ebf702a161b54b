from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from src.metrics.classification import top_k_accuracy
from src.metrics.probabilistic import log_loss, reliability_bins
from src.records.pixel_answers import pixel_answers
from src.records.run import Predictions
from src.statistics.candidates import Candidate, MeasuredRun, candidates_of


def predictions(seed: int = 0, count: int = 40) -> Predictions:
    generator = np.random.default_rng(seed)
    return Predictions(
        sample_ids=np.arange(100, 100 + count),
        paths=None,
        targets=np.arange(count) % 3,
        probs=generator.dirichlet(np.ones(3), count).astype(np.float32),
        class_names=("a", "b", "c"),
    )


def run(found: Predictions | None = None, **changes: Any) -> MeasuredRun:
    known: dict[str, Any] = {
        "run_id": "0123456789",
        "configuration": "cnn",
        "name": "cnn",
        "seed": 1,
        "part": "val",
        "split_fingerprint": "f",
    }
    return MeasuredRun.of(found or predictions(), **(known | changes))


def test_measures_as_the_metrics_do() -> None:
    found = predictions()
    measured = run(found, cost=3.0)
    assert measured.right.mean() == pytest.approx(top_k_accuracy(found.probs, found.targets, 1))
    assert measured.losses.mean() == pytest.approx(log_loss(found.probs, found.targets))
    bins = reliability_bins(found.probs, found.targets)
    assert measured.calibration_error == bins.calibration_error
    assert measured.cost == 3.0


def test_the_order_of_pictures_does_not_matter() -> None:
    found, order = predictions(), np.random.default_rng(1).permutation(40)
    shuffled = replace(
        found,
        sample_ids=found.sample_ids[order],
        targets=found.targets[order],
        probs=found.probs[order],
    )
    one, other = run(found), run(shuffled, run_id="other", seed=2)
    np.testing.assert_array_equal(one.right, other.right)
    np.testing.assert_array_equal(one.losses, other.losses)
    assert candidates_of([one, other])[0].right.shape == (2, 40)


def test_groups_repeats_and_averages_them() -> None:
    runs = [
        run(predictions(0), run_id="r0", cost=1.0),
        run(predictions(1), run_id="r1", configuration="vit", name="vit"),
        run(predictions(2), run_id="r2", seed=2, cost=3.0),
        run(predictions(3), run_id="r3", seed=3),
    ]
    cnn, vit = candidates_of(runs)
    assert (cnn.name, vit.name) == ("cnn", "vit")
    assert cnn.run_ids == ("r0", "r2", "r3") and cnn.right.shape == (3, 40)
    assert cnn.cost == 2.0 and vit.cost is None
    assert cnn.log_loss == pytest.approx(np.mean([runs[i].losses for i in (0, 2, 3)]), rel=1e-5)


def test_a_training_done_twice_counts_once() -> None:
    first, again = run(predictions(0), run_id="r0"), run(predictions(1), run_id="r1")
    (only,) = candidates_of([first, again])
    assert only.run_ids == ("r1",)
    np.testing.assert_array_equal(only.right, again.right[None])


def test_configurations_of_one_name_are_told_apart() -> None:
    runs = [run(run_id="aaaaaaaaaa"), run(run_id="bbbbbbbbbb", configuration="other")]
    assert [one.name for one in candidates_of(runs)] == ["cnn (aaaaaaaa)", "cnn (bbbbbbbb)"]


def other_ids() -> Predictions:
    return replace(predictions(), sample_ids=np.arange(40))


def other_targets() -> Predictions:
    return replace(predictions(), targets=(np.arange(40) + 1) % 3)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run(run_id="z", part="test"), "the part test, the other on val"),
        (run(run_id="z", split_fingerprint="g"), "different splits"),
        (run(predictions(count=39), run_id="z"), "39 pictures, the other on 40"),
        (run(other_ids(), run_id="z"), "different pictures"),
        (run(other_targets(), run_id="z"), "different labels"),
    ],
)
def test_refuses_what_cannot_be_compared(other: MeasuredRun, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        candidates_of([run(), other])
    assert "run z" in str(raised.value) and "run 0123456789" in str(raised.value)


def test_refuses_nothing_and_twice() -> None:
    with pytest.raises(ValueError, match="no runs"):
        candidates_of([])
    with pytest.raises(ValueError, match="twice"):
        run(replace(predictions(), sample_ids=np.zeros(40, np.int64)))
    with pytest.raises(ValueError, match="it must be bool"):
        Candidate(name="c", run_ids=("r",), right=np.ones((1, 3)), log_losses=np.ones(1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="log_losses has shape"):
        Candidate(name="c", run_ids=("r",), right=np.ones((1, 3), bool), log_losses=np.ones(3))


def test_answers_about_pixels_compare_in_one_size_alone() -> None:
    def of_pixels(side: int, wrong: int) -> MeasuredRun:
        """Ten pictures of `side` pixels a side, an eighth of them of the second class."""
        second = side * side // 8
        matrix = np.array([[side * side - second - wrong, wrong], [0, second]])
        answers = pixel_answers(np.stack([matrix] * 10), np.full(10, 0.5), [None] * 10)
        held = np.ones((10, 2), np.uint8)
        names = ("background", "crack")
        found = Predictions(np.arange(10), None, held, answers, names, kind="dense")
        return run(found, configuration=f"{side}-{wrong}")

    assert len(candidates_of([of_pixels(32, 5), of_pixels(32, 9)])) == 2
    with pytest.raises(ValueError, match="different labels, or pixels, of the same pictures"):
        candidates_of([of_pixels(32, 5), of_pixels(64, 5)])
