"""Losses and links of label sets and of ordered classes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.training.links import mean_logits, outputs_of, probabilities
from src.training.losses import Asymmetric, BinaryCrossEntropy, BinaryFocal, Corn

CLASSES = 5


def batch(size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(size, CLASSES, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(size, CLASSES, generator=generator) < 0.4).long()


def test_binary_cross_entropy_is_that_of_torch() -> None:
    logits, sets = batch()
    expected = F.binary_cross_entropy_with_logits(logits, sets.double())
    torch.testing.assert_close(BinaryCrossEntropy(label_smoothing=0.0)(logits, sets), expected)
    smooth = F.binary_cross_entropy_with_logits(logits, 0.9 * sets.double() + 0.05)
    torch.testing.assert_close(BinaryCrossEntropy(label_smoothing=0.1)(logits, sets), smooth)


def test_equal_weights_are_no_weights_and_a_doubled_one_counts_twice() -> None:
    logits, sets = batch()
    weights = torch.ones(CLASSES, dtype=torch.float64)
    plain = BinaryCrossEntropy(label_smoothing=0.0)(logits, sets)
    weighted = BinaryCrossEntropy(label_smoothing=0.0, class_weights=weights)
    torch.testing.assert_close(weighted(logits, sets), plain)
    weights[0] = 2
    twice = [*range(CLASSES), 0]
    torch.testing.assert_close(
        BinaryCrossEntropy(label_smoothing=0.0, class_weights=weights)(logits, sets),
        F.binary_cross_entropy_with_logits(logits[:, twice], sets[:, twice].double()),
    )


def test_focal_and_asymmetric_loss_without_exponents_are_binary_cross_entropy() -> None:
    logits, sets = batch()
    expected = BinaryCrossEntropy(label_smoothing=0.0)(logits, sets)
    focal = BinaryFocal(gamma=0.0, label_smoothing=0.0)
    torch.testing.assert_close(focal(logits, sets), expected)
    asymmetric = Asymmetric(gamma_positive=0.0, gamma_negative=0.0, margin=0.0)
    torch.testing.assert_close(asymmetric(logits, sets), expected)


def test_focal_loss_is_that_of_torchvision() -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, sets = batch()
    expected = sigmoid_focal_loss(logits, sets.double(), alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(BinaryFocal(gamma=2.0, label_smoothing=0.0)(logits, sets), expected)


def test_asymmetric_loss_is_the_formula_of_the_paper() -> None:
    logits, sets = batch()
    probs, there = logits.sigmoid(), sets.double()
    lowered = (probs - 0.05).clamp(min=0)
    expected = -(
        there * (1 - probs) ** 1 * probs.log() + (1 - there) * lowered**4 * (1 - lowered).log()
    ).mean()
    found = Asymmetric(gamma_positive=1.0, gamma_negative=4.0, margin=0.05)(logits, sets)
    torch.testing.assert_close(found, expected)


def test_an_easy_absent_label_costs_nothing_and_has_a_finite_slope() -> None:
    logits = torch.full((1, 1), -4.0, requires_grad=True)
    loss = Asymmetric(gamma_positive=0.0, gamma_negative=4.0, margin=0.05)
    value = loss(logits, torch.zeros(1, 1))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-30)
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_corn_is_the_mean_over_the_questions_that_each_picture_is_asked() -> None:
    logits, _ = batch()
    logits, targets = logits[:, :-1], torch.arange(len(logits)) % CLASSES
    total, count = 0.0, 0
    for k in range(CLASSES - 1):
        asked = targets >= k
        total += F.binary_cross_entropy_with_logits(
            logits[asked, k], (targets[asked] > k).double(), reduction="sum"
        )
        count += int(asked.sum())
    torch.testing.assert_close(Corn()(logits, targets), total / count)
    hot = F.one_hot(targets, CLASSES).double()
    torch.testing.assert_close(Corn()(logits, hot), total / count)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "corn"])
def test_mean_logits_have_the_mean_of_the_views_probabilities(link: str) -> None:
    outputs = outputs_of(link, CLASSES)
    views = torch.randn(3, 8, outputs, generator=torch.Generator().manual_seed(1)).double()
    expected = torch.stack([probabilities(view, link) for view in views]).mean(dim=0)
    found = probabilities(mean_logits(views, link).double(), link)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    if link != "sigmoid":
        torch.testing.assert_close(found.sum(dim=1), torch.ones(8, dtype=torch.float64))


def test_corn_answers_never_fall_with_the_class_that_is_asked_about() -> None:
    logits = 5 * torch.randn(50, CLASSES - 1, generator=torch.Generator().manual_seed(2))
    probs = probabilities(logits, "corn")
    assert (probs >= 0).all()
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(50))
