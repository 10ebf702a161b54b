"""The fitted head against scikit-learn's logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from src.training.linear_head import FittedHead, final_linear, fit_linear_head
from src.training.links import probabilities

CLASSES = 4


def clouds(count: int = 240, width: int = 12, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Features of overlapping classes, on scales far apart, and one that never changes."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=generator)
    rows = centres[targets] + 1.5 * torch.randn(count, width, generator=generator)
    rows = 3.0 + rows * torch.logspace(-2, 2, width)
    rows[:, 5] = 7.0
    return rows, targets


def thirds(count: int) -> list[tuple[Tensor, Tensor]]:
    rows = torch.arange(count)
    return [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)]


def fitted(classes: int = CLASSES, weights: Tensor | None = None) -> FittedHead:
    rows, targets = clouds()
    return fit_linear_head(
        rows, targets, num_classes=classes, folds=thirds(len(rows)), class_weights=weights
    )


def reference(
    penalty: float, rows: Tensor, targets: Tensor, weight: dict[int, float] | None = None
):
    """scikit-learn's of the same penalty: it sums where the head's loss takes means."""
    scaled = StandardScaler().fit(rows.double().numpy())
    total = len(rows) if weight is None else sum(weight[int(t)] for t in targets)
    model = LogisticRegression(
        C=1 / (penalty * total), class_weight=weight, tol=1e-9, max_iter=10_000
    ).fit(scaled.transform(rows.double().numpy()), targets.numpy())
    return lambda x: model.predict_proba(scaled.transform(x.double().numpy()))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_head_is_the_logistic_regression_of_its_penalty(weighted: bool) -> None:
    rows, targets = clouds()
    weights = [1.0, 4.0, 0.5, 2.0] if weighted else None
    head = fitted(weights=None if weights is None else torch.tensor(weights))
    right = reference(
        head.penalty, rows, targets, None if weights is None else dict(enumerate(weights))
    )
    probs = torch.softmax(head(rows), dim=1).numpy()
    np.testing.assert_allclose(probs, right(rows), atol=2e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_head_of_ordered_classes_is_a_logistic_regression_a_question(weighted: bool) -> None:
    rows, targets = clouds()
    weights = torch.tensor([1.0, 4.0, 0.5, 2.0]) if weighted else torch.ones(CLASSES)
    head = fit_linear_head(
        rows,
        targets,
        num_classes=CLASSES,
        folds=thirds(len(rows)),
        class_weights=weights if weighted else None,
        corn=True,
    )
    assert head.weight.shape == (CLASSES - 1, rows.shape[1])
    scaled = torch.from_numpy(StandardScaler().fit_transform(rows.double().numpy()))
    pairs = sum(float(weights[targets[targets >= k]].sum()) for k in range(CLASSES - 1))
    conditional = []
    for k in range(CLASSES - 1):
        asked = targets >= k
        model = LogisticRegression(C=1 / (head.penalty * pairs), tol=1e-9, max_iter=10_000).fit(
            scaled[asked], targets[asked] > k, sample_weight=weights[targets[asked]].numpy()
        )
        conditional.append(model.predict_proba(scaled)[:, 1])
    np.testing.assert_allclose(head(rows).sigmoid(), np.stack(conditional, 1), atol=2e-3)
    answers = probabilities(head(rows), "corn").argmax(1)
    assert (answers == targets).float().mean() > head.held_out_accuracy > 1.2 / CLASSES


def test_the_penalty_is_the_one_that_held_out_pictures_prefer() -> None:
    rows, targets = clouds()
    head = fitted()

    def held_out(penalty: float) -> float:
        losses = []
        for train, held in thirds(len(rows)):
            probs = reference(penalty, rows[train], targets[train])(rows[held])
            losses.append(-np.log(probs[np.arange(len(held)), targets[held].numpy()]))
        return float(np.concatenate(losses).mean())

    neighbours = [held_out(head.penalty * factor) for factor in (0.1, 10.0)]
    assert held_out(head.penalty) < min(neighbours)


def test_a_class_that_is_missing_is_never_the_answer() -> None:
    rows, _ = clouds()
    head = fitted(classes=CLASSES + 1)
    assert head.weight.shape == (CLASSES + 1, rows.shape[1])
    assert not (head(rows).argmax(dim=1) == CLASSES).any()


def test_what_never_changed_is_not_listened_to_and_fitting_makes_no_draw() -> None:
    first = fitted()
    torch.manual_seed(99)
    again = fitted()
    assert torch.equal(first.weight, again.weight) and torch.equal(first.bias, again.bias)
    assert not first.weight[:, 5].any()


class Net(nn.Module):
    head_prefixes = ("head.",)

    def __init__(self, head: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 6, 3)
        self.head = head
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        found = self.body(images)
        logits = self.head(found if isinstance(self.head, nn.Conv2d) else found.mean(dim=(2, 3)))
        return logits if self.after is None else self.after(logits)


@pytest.mark.parametrize(
    ("network", "linear"),
    [
        (Net(nn.Linear(6, 3)), True),
        (Net(nn.Linear(6, 3, bias=False)), False),
        (Net(nn.Linear(6, 3), nn.Tanh()), False),
        (Net(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 3))), False),
        (Net(nn.Conv2d(6, 3, 1)), False),
    ],
)
def test_only_a_linear_layer_that_gives_the_logits_is_a_head_to_fit(
    network: Net, linear: bool
) -> None:
    network.body.eval()
    found = final_linear(network, torch.zeros(2, 1, 8, 8))
    assert network.training and not network.body.training, "every module is left in its mode"
    assert (found is network.head) == linear and (found is None) != linear
