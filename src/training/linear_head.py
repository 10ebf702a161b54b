"""A classifier head fitted to the features of a frozen network, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .freezing import head_prefixes
from .inference import evaluating
from .links import outputs_of, probabilities
from .losses import Corn
from .weight_averages import WeightAverage

if TYPE_CHECKING:  # Lightning takes seconds to import
    from .task import ClassificationTask

__all__ = ["FittedHead", "final_linear", "fit_linear_head", "put_head"]

# Strengths of the penalty, from a head that hardly differs from a constant to one that separates
# any features: each a factor of about 3 below the one before.
_PENALTIES = tuple(10.0 ** (-step / 2) for step in range(11))
_ITERATIONS = 300
_SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True)
class FittedHead:
    """A linear classifier, weight (K, D) and bias (K,) float32, and its scores on held-out folds.

    With CORN K is the number of its questions, one less than that of the classes.

    Attributes:
        penalty: of the squared weights of standardised features, beside the mean cross-entropy.
        held_out_accuracy: of the held-out pictures, in [0, 1].
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    held_out_accuracy: float

    def __call__(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D)."""
        return features @ self.weight.T + self.bias


def final_linear(network: nn.Module, pictures: Tensor) -> nn.Linear | None:
    """Return the layer that is the whole head, from a row of features per picture to logits.

    None for any other head. The network runs in eval mode on `pictures` (B, C, H, W), normalised
    and on its device; its mode is kept.
    """
    heads = [prefix.rstrip(".") for prefix in head_prefixes(network)]
    layer = network.get_submodule(heads[0]) if len(heads) == 1 else None
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        return None
    seen: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda _, given, found: seen.append((given[0], found)))
    with hook, torch.no_grad(), evaluating(network):
        logits = network(pictures)
    alone = len(seen) == 1 and seen[0][0].ndim == 2
    return layer if alone and torch.equal(seen[0][1], logits) else None


def fit_linear_head(
    features: Tensor,
    targets: Tensor,
    *,
    num_classes: int,
    folds: Sequence[tuple[Tensor, Tensor]],
    class_weights: Tensor | None = None,
    corn: bool = False,
) -> FittedHead:
    """Fit a logistic regression, its penalty chosen on held-out folds.

    It is multinomial, or of label sets one for each label, or with `corn` one for each question
    whether the class is above another, as `Corn` asks them.

    The penalty falls until the held-out cross-entropy rises again; then all pictures are fitted
    with the best. L-BFGS on a convex loss from zero: nothing is random.

    Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution"
    (ICLR 2022), on why a training should begin with such a head.

    Args:
        features: (N, D) float.
        targets: (N,) int64 in [0, num_classes), or (N, num_classes) 0 and 1; classes may be
            missing.
        num_classes: K.
        folds: (rows to fit, rows held out), at least one.
        class_weights: (K,) of the classes in the loss; None for equal ones.
        corn: whether the classes are ordered and the head is one for `Corn`.
    """
    objective = _Objective(class_weights, corn)
    outputs = outputs_of("corn" if corn else "softmax", num_classes)
    mean = features.mean(dim=0)
    deviation = features.std(dim=0, correction=0)
    # A constant feature carries no information, and must not be scaled up where it varies later.
    scale = torch.where(deviation > _SMALLEST_DEVIATION, 1 / deviation, torch.zeros_like(deviation))
    rows = (features - mean) * scale

    heads = [_Head(rows.shape[1], outputs) for _ in folds]
    best: tuple[float, float, float] | None = None
    for penalty in _PENALTIES:
        logits = []
        for head, (fitted, held_out) in zip(heads, folds, strict=True):
            head.fit(rows[fitted], targets[fitted], penalty, objective)
            logits.append(head(rows[held_out]))
        scores, labels = torch.cat(logits), torch.cat([targets[held] for _, held in folds])
        loss = float(objective.loss(scores, labels))
        if best is not None and loss > best[0]:
            break
        best = loss, penalty, float(objective.right(scores, labels).float().mean())
    assert best is not None
    _, penalty, accuracy = best
    whole = _Head(rows.shape[1], outputs)
    whole.fit(rows, targets, penalty, objective)
    weight = whole.weight * scale
    return FittedHead(weight, whole.bias - weight @ mean, penalty, accuracy)


def put_head(task: ClassificationTask, layer: nn.Linear, head: FittedHead) -> None:
    """Copy a head into the network of a task and into the average of its weights."""
    with torch.no_grad():
        layer.weight.copy_(head.weight)
        layer.bias.copy_(head.bias)
    if task.average is not None:
        task.average = WeightAverage(task.network, task.average.decay)


@dataclass(frozen=True)
class _Objective:
    """The loss of a head, and which answers are right: of one class, a label set, or with `corn`
    ordered classes.
    """

    class_weights: Tensor | None
    corn: bool

    def loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss; cross-entropy of label sets is summed over the labels."""
        if self.corn:
            return Corn(class_weights=self.class_weights)(scores, targets)
        if targets.ndim == 1:
            return nn.functional.cross_entropy(scores, targets, self.class_weights)
        losses = nn.functional.binary_cross_entropy_with_logits(
            scores, targets.to(scores.dtype), self.class_weights, reduction="none"
        )
        return losses.sum(dim=1).mean()

    def right(self, scores: Tensor, targets: Tensor) -> Tensor:
        """Return whether each class, or each label of a set, is right."""
        if targets.ndim == 2:
            return (scores > 0) == (targets > 0)
        answers = probabilities(scores, "corn") if self.corn else scores
        return answers.argmax(1) == targets


class _Head:
    """Weights of a linear classifier; each fit starts from the last."""

    def __init__(self, width: int, classes: int) -> None:
        self.weight = torch.zeros(classes, width)
        self.bias = torch.zeros(classes)

    def __call__(self, rows: Tensor) -> Tensor:
        return rows @ self.weight.T + self.bias

    def fit(self, rows: Tensor, targets: Tensor, penalty: float, objective: _Objective) -> None:
        """Minimise the mean loss + penalty / 2 * |weights|^2."""
        parameters = [self.weight.requires_grad_(), self.bias.requires_grad_()]
        search = torch.optim.LBFGS(
            parameters,
            max_iter=_ITERATIONS,
            tolerance_grad=1e-5,
            tolerance_change=1e-7,
            line_search_fn="strong_wolfe",
        )

        def loss() -> float:
            search.zero_grad()
            value = objective.loss(self(rows), targets)
            value = value + penalty / 2 * self.weight.square().sum()
            value.backward()
            return float(value.detach())

        with torch.enable_grad():
            search.step(loss)
        self.weight, self.bias = self.weight.detach(), self.bias.detach()
