"""The metadata of a card, as the hub's own client reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from src.records.run import RunSummary
from src.reporting.hub_card import front_matter, usage
from src.reporting.model_card import model_card
from src.targets import kind_of
from tests.reporting.test_model_card import SUMMARY, facts


def card_of(summary: RunSummary) -> ModelCard:
    head = front_matter(summary, library="timm", license="mit")
    return ModelCard(head + model_card(facts(summary=summary)))


def test_the_hub_reads_licence_library_task_and_figures() -> None:
    summary = replace(SUMMARY, metrics=SUMMARY.metrics | {"test/macro_f1": 0.7, "val/accuracy": 1})
    card = card_of(summary)
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        *("mit", "timm", "image-classification"),
    )
    found = {result.metric_type: result for result in data.eval_results or ()}
    figures = {kind: one.metric_value for kind, one in found.items()}
    assert figures == {"accuracy": 0.75, "f1": 0.7, "roc_auc": 0.8}
    assert {one.dataset_split for one in found.values()} == {"test"}
    assert data.metrics == ["accuracy", "f1", "roc_auc"] and data.datasets is None
    assert card.text.startswith("# Model card: mlp on my\\_pets")


@pytest.mark.parametrize(
    ("metrics", "part"), [({"val/accuracy": 0.5}, "validation"), ({"cost/latency_ms": 1.0}, None)]
)
def test_without_a_test_part_it_has_what_is_known(
    metrics: dict[str, float], part: str | None
) -> None:
    data = card_of(replace(SUMMARY, metrics=metrics)).data
    assert [one.dataset_split for one in data.eval_results or ()] == ([part] if part else [])


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        (
            {"map": 0.5, "accuracy": 0.25, "macro_f1": 0.3, "micro_f1": 0.4, "log_loss": 0.6},
            {"mean average precision", "exact match", "macro F1", "micro F1"},
        ),
        (
            {"kappa": 0.5, "mae": 0.25, "accuracy": 0.3},
            {"quadratic kappa", "mean absolute error", "accuracy"},
        ),
        ({"miou": 0.5, "dice": 0.6}, {"mean IoU"}),
    ],
)
def test_every_kind_of_targets_has_its_own_figures(
    figures: dict[str, float], named: set[str]
) -> None:
    metrics = {f"test/{key}": value for key, value in figures.items()}
    data = card_of(replace(SUMMARY, metrics=metrics)).data
    assert {result.metric_name for result in data.eval_results or ()} == named
    assert len(set(data.metrics or ())) == len(data.metrics or ())


def test_a_published_data_set_has_its_name_on_the_hub() -> None:
    data = card_of(replace(SUMMARY, data="cifar10")).data
    assert data.datasets == ["uoft-cs/cifar10"]
    assert {one.dataset_type for one in data.eval_results or ()} == {"uoft-cs/cifar10"}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("answer", ["most_probable", "mae", "kappa", "balanced_accuracy", "cost"])
def test_the_lines_with_timm_answer_as_the_model_does(answer: str, classes: int) -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(classes), 50).astype(np.float32)
    kind, targets = kind_of("ordinal"), rng.integers(0, classes, 50)
    least = kind.thresholds(probs, targets, answer)
    if answer == "cost":
        least = rng.random(classes**2)
    thresholds = None if least is None else least.tolist()
    lines = usage("local-dir:here", "timm", "code", thresholds=thresholds, classes=classes)
    (line,) = (one for one in lines if one.startswith("answer = "))
    assert ("import torch" in lines) == (answer != "most_probable")
    found = []
    for row in probs:
        names = {"probs": torch.from_numpy(row), "torch": torch}
        exec(line, names)
        found.append(names["answer"])
    assert found == kind.decide(probs, least).tolist()
