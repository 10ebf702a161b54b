"""What a person reads of a model before using it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from src.metrics.registry import RANKING
from src.records.run import Predictions
from src.reporting.model_card import CardFacts, model_card
from tests.records import summaries

NAMES = ("cat", "a|b", "dog")
SUMMARY = replace(
    summaries.SUMMARY,
    name="mlp-pets",
    model="mlp",
    data="my_pets",
    seed=3,
    metrics={
        "test/accuracy": 0.75,
        "test/accuracy_low": 0.409,
        "test/accuracy_high": 0.929,
        "test/calibration_error": 0.1,
        "test/auc": 0.8,
        "test/auc_low": 0.55,
        "test/auc_high": 0.93,
        "cost/latency_ms": 1.25,
    },
    command="python -m src.train model=mlp",
)


def predictions() -> Predictions:
    """Eight pictures, six of them right."""
    targets = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    said = np.array([0, 0, 0, 1, 1, 1, 2, 0])
    probs = np.full((8, 3), 0.05, np.float32)
    probs[np.arange(8), said] = 0.9
    return Predictions(np.arange(8), None, targets, probs, NAMES)


def facts(**changes: object) -> CardFacts:
    known: dict[str, object] = {
        "summary": SUMMARY,
        "chosen": None,
        "reasons": ("mlp comes first of 2 candidates.",),
        "class_names": NAMES,
        "source": "/pictures/of pets",
        "picture": (16, 24, 3),
        "parts": {"train": 100, "val": 20, "test": 8},
        "split_seed": 5,
        "epochs": 12,
        "predictions": {"test": predictions()},
        "validation": {"val/accuracy": 0.8, "val/accuracy_low": 0.6, "val/accuracy_high": 0.9},
        "test_measurements": 2,
        "provenance": {"git": {"commit": "c0ffee", "dirty": True}, "packages": {"torch": "2.13"}},
        "commands": {"train it again": SUMMARY.command},
        "registered": "bakeoff-my_pets",
    }
    return CardFacts(**(known | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", sorted(set(RANKING) - {"miou"})
)  # which cards about pixels begin with
def test_every_metric_that_models_are_ranked_by_has_a_row(name: str) -> None:
    metrics = SUMMARY.metrics | {f"test/{name}": 0.1234}
    card = model_card(facts(summary=replace(SUMMARY, metrics=metrics)))
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert any("12.3 %" in row or "0.123" in row for row in rows)


def test_all_that_is_known_stands_on_it() -> None:
    card = model_card(facts())
    for said in (
        "# Model card: mlp on my\\_pets",
        "75.0 % (95 % interval 40.9 to 92.9)",
        "| AUC |  | 0.800 (95 % interval 0.550 to 0.930) |",
        "0.750 (0.",  # of the class cat, in the table of classes
        "80.0 % (95 % interval 60.0 to 90.0)",
        "measured 2 times on this split",
        "100 training, 20 validation, 8 test",
        "16x24x3",
        "`models:/bakeoff-my_pets@champion`",
        "12 epochs, seed 3",
        "commit `c0ffee`, with changes",
        "- mlp comes first of 2 candidates.",
        "latency of one picture | 1.25 ms",
        "    python -m src.train model=mlp",
        "arXiv:1810.03993",
    ):
        assert said in card, said
    # Three of four cats were found, and the fourth was taken for the second class.
    (cat,) = (line for line in card.splitlines() if line.startswith("| cat |"))
    assert "| 4 | 75.0 % (30.1 % to 95.4 %)" in cat and "a\\|b (1)" in cat
    # 0.9 was claimed of all eight, of which six were right.
    assert "| 80 to 100 % | 8 | 90.0 % | 75.0 % |" in card


def test_intervals_are_described_as_they_were_computed() -> None:
    alone = model_card(facts())
    assert "95 % Wilson intervals over pictures" in alone and "cross-validation" not in alone
    folded = model_card(facts(validation={"val/accuracy": 0.8, "val/accuracy_sd": 0.1}))
    assert "folds of a cross-validation (corrected resampled t)" in folded
    joined = replace(predictions(), groups=np.arange(8) // 2)
    grouped = model_card(facts(predictions={"test": joined}))
    assert "those that go together count as one group" in grouped and "Wilson" not in grouped


def test_names_and_paths_of_any_kind_stay_within_their_marks_of_code() -> None:
    odd = facts(
        source="/pictures/it`s",
        summary=replace(SUMMARY, name="a`run"),
        chosen=replace(SUMMARY, name="b`run"),
        commands={"train": "python -m src.train 'data.root=/two\nlines'"},
    )
    card = model_card(odd)
    for said in ("``/pictures/it`s``", "Run: ``a`run``", "Refit of ``b`run``"):
        assert said in card, said
    assert "    python -m src.train 'data.root=/two\n    lines'\n" in card


def test_the_sections_are_the_papers_in_their_order() -> None:
    lines = [line[3:] for line in model_card(facts()).splitlines() if line.startswith("## ")]
    assert lines == [
        "Model details",
        "Intended use",
        "Factors",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
        "How to reproduce",
    ]


def test_a_refit_says_whose_figure_the_validation_one_is() -> None:
    card = model_card(facts(chosen=replace(SUMMARY, name="mlp-chosen")))
    assert "Refit of `mlp-chosen`" in card and "validation (of the chosen run)" in card
    assert "because it was trained on the validation pictures" in card
    assert "Refit" not in model_card(facts())


def test_without_a_test_part_it_says_so() -> None:
    bare = replace(SUMMARY, metrics={"val/accuracy": 0.8})
    card = model_card(
        facts(summary=bare, parts={"train": 5, "val": 3}, predictions={}, test_measurements=0)
    )
    assert "There is no test part" in card and "been measured" not in card


@pytest.mark.parametrize(("classes", "shown"), [(50, 50), (60, 50)])
def test_of_many_classes_the_worst_are_shown(classes: int, shown: int) -> None:
    targets = np.repeat(np.arange(classes), 2)
    probs = np.full((2 * classes, classes), 0.1 / classes, np.float32)
    probs[np.arange(2 * classes), targets] = 0.9
    probs[0] = np.roll(probs[0], 1)
    names = tuple(f"class {k:02}" for k in range(classes))
    said = Predictions(np.arange(2 * classes), None, targets, probs, names)
    card = model_card(facts(predictions={"test": said}, class_names=names))
    rows = [line for line in card.splitlines() if re.match(r"\| class \d\d ", line)]
    assert len(rows) == shown and any(row.startswith("| class 00 ") for row in rows)
    assert ("the 50 of 60" in card) == (classes > 50)


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        (None, "from a probability of one half on."),
        (np.full(3, 0.4), "from its threshold on, which was chosen on the validation part."),
    ],
)
def test_what_is_said_of_sets_of_labels_holds(thresholds: object, said: str) -> None:
    one = predictions()
    sets = replace(one, kind="multi", targets=np.eye(3, dtype=np.uint8)[one.targets])
    sets = replace(sets, thresholds=thresholds)
    scored = replace(SUMMARY, metrics=SUMMARY.metrics | {"test/brier": 0.25})
    card = model_card(facts(predictions={"test": sets}, summary=scored))
    assert said in card and "Brier score (0 to 1)" in card
    assert "Brier score (0 to 2)" in model_card(facts(summary=scored))


@pytest.mark.parametrize(
    ("kind", "thresholds", "said", "kappa"),
    [
        ("single", None, "whose most probable class is the right one", False),
        ("single", np.full(3, 1 / 3), "the largest multiple of its mean", False),
        ("ordinal", np.full(3, 1 / 3), "the largest multiple of its mean", True),
        ("ordinal", np.array([0.5, 1.5]), "in which the mean of the classes lies", True),
        ("ordinal", np.array([0.5]), "the median class", True),
    ],
)
def test_what_is_said_of_answers_holds(
    kind: str, thresholds: object, said: str, kappa: bool
) -> None:
    one = replace(predictions(), kind=kind, thresholds=thresholds)
    card = model_card(facts(predictions={"test": one}))
    assert said in card and ("Kappa is" in card) == kappa
