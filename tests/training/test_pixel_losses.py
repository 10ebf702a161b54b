"""Losses of a class for every pixel against other libraries, plain loops and exact reductions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchmetrics.functional.segmentation import dice_score

from src.targets import kind_of
from src.targets.labels import IGNORED
from src.training.losses import CrossEntropy, CrossEntropyDice, Dice, Focal
from src.training.pixels import CollectedPixels
from src.training.totals import ValidationMetrics

K = 4
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
LOSSES = [
    partial(CrossEntropy, label_smoothing=0.0),
    partial(CrossEntropy, label_smoothing=0.2),
    partial(Focal, gamma=1.5, label_smoothing=0.1),
    Dice,
    partial(CrossEntropyDice, dice_weight=0.7, label_smoothing=0.1),
]
POINTWISE = LOSSES[:3]


@pytest.fixture
def logits() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(3, K, 5, 6, generator=generator, dtype=torch.float64)


@pytest.fixture
def targets() -> Tensor:
    """All classes, some pixels ignored."""
    found = torch.randint(0, K, (3, 5, 6), generator=torch.Generator().manual_seed(1))
    found[0, :2, :3] = found[2, 4, 4:] = IGNORED
    assert set(found.flatten().tolist()) == {IGNORED, *range(K)}
    return found


@pytest.mark.parametrize("make", POINTWISE)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_pixels_count_as_pictures_would(
    logits: Tensor, targets: Tensor, make: Callable[..., nn.Module], weights: Tensor | None
) -> None:
    loss, counts = make(class_weights=weights), targets != IGNORED
    rows, labels = logits.permute(0, 2, 3, 1)[counts], targets[counts]
    torch.testing.assert_close(loss(logits, targets), loss(rows, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_that_of_torch(
    logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None
) -> None:
    ours = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    reference = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(ours(logits, targets), reference(logits, targets))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_is_the_mean_over_the_pixels_that_count(
    logits: Tensor, targets: Tensor, weights: Tensor | None
) -> None:
    probs, total, count = logits.softmax(1), 0.0, 0.0
    for n, i, j in (targets != IGNORED).nonzero().tolist():
        k = int(targets[n, i, j])
        p, weight = float(probs[n, k, i, j]), 1.0 if weights is None else float(weights[k])
        total -= weight * (1 - p) ** 3 * float(torch.tensor(p, dtype=torch.float64).log())
        count += weight
    loss = Focal(gamma=3.0, label_smoothing=0.0, class_weights=weights)(logits, targets)
    assert float(loss) == pytest.approx(total / count)


def test_dice_is_that_of_segmentation_models_pytorch(logits: Tensor, targets: Tensor) -> None:
    reference = smp.losses.DiceLoss("multiclass", ignore_index=IGNORED)
    torch.testing.assert_close(Dice()(logits, targets), reference(logits, targets))


def test_dice_of_certain_answers_is_that_of_torchmetrics(logits: Tensor, targets: Tensor) -> None:
    targets = targets.clamp_min(0)
    reference = dice_score(
        nn.functional.one_hot(logits.argmax(1), K).movedim(-1, 1),
        nn.functional.one_hot(targets, K).movedim(-1, 1),
        num_classes=K,
        average="none",
        aggregation_level="global",
    ).flatten()
    certain = nn.functional.one_hot(logits.argmax(1), K).movedim(-1, 1) * 1e4
    assert float(Dice()(certain.double(), targets)) == pytest.approx(1 - float(reference.mean()))
    weighted = float((reference * WEIGHTS).sum() / WEIGHTS.sum())
    loss = Dice(class_weights=WEIGHTS)(certain.double(), targets)
    assert float(loss) == pytest.approx(1 - weighted)


def test_dice_leaves_out_classes_without_a_pixel(logits: Tensor, targets: Tensor) -> None:
    targets = targets.where(targets != 2, torch.tensor(0))
    reference = smp.losses.DiceLoss("multiclass", classes=[0, 1, 3], ignore_index=IGNORED)
    torch.testing.assert_close(Dice()(logits, targets), reference(logits, targets))


def test_the_sum_is_the_sum(logits: Tensor, targets: Tensor) -> None:
    both = CrossEntropyDice(dice_weight=0.7, label_smoothing=0.1, class_weights=WEIGHTS)
    entropy = CrossEntropy(label_smoothing=0.1, class_weights=WEIGHTS)
    expected = entropy(logits, targets) + 0.7 * Dice(class_weights=WEIGHTS)(logits, targets)
    torch.testing.assert_close(both(logits, targets), expected)


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignored_pixels_have_no_part_in_loss_and_gradient(
    logits: Tensor, targets: Tensor, make: Callable[..., nn.Module], weights: Tensor | None
) -> None:
    loss, ignored = make(class_weights=weights), (targets == IGNORED)[:, None]
    values = []
    for given in (logits, logits.where(~ignored, torch.tensor(50.0, dtype=torch.float64))):
        leaf = given.clone().requires_grad_()
        value = loss(leaf, targets)
        value.backward()
        assert leaf.grad is not None
        assert not leaf.grad.masked_select(ignored).any()
        assert leaf.grad.masked_select(~ignored).all()
        values.append(float(value.detach()))
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("make", LOSSES)
def test_a_batch_in_which_no_pixel_counts_changes_nothing(
    logits: Tensor, targets: Tensor, make: Callable[..., nn.Module]
) -> None:
    leaf = logits.requires_grad_()
    value = make(class_weights=None)(leaf, torch.full_like(targets, IGNORED))
    value.backward()
    assert float(value.detach()) == 0 and leaf.grad is not None and not leaf.grad.any()


@pytest.mark.parametrize("make", LOSSES)
def test_half_precision_is_computed_in_float32(
    logits: Tensor, targets: Tensor, make: Callable[..., nn.Module]
) -> None:
    half = logits.bfloat16()
    expected = make(class_weights=None)(half.float(), targets)
    torch.testing.assert_close(make(class_weights=None)(half, targets), expected)


def metrics_of(logits: Tensor) -> ValidationMetrics:
    return ValidationMetrics(kind_of("dense"), list("abcdefgh"[: logits.shape[1]]), "val/miou")


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_loss_of_an_epoch_does_not_depend_on_its_batches(
    logits: Tensor, targets: Tensor, batch: int
) -> None:
    """Pictures differ in the pixels that count, and batches with them."""
    targets[0, 1:] = IGNORED
    targets[2] = IGNORED
    totals = CollectedPixels(metrics_of(logits))
    loss = CrossEntropy(label_smoothing=0.0)
    for start in range(0, len(logits), batch):
        part = slice(start, start + batch)
        totals.add(loss(logits[part], targets[part]), logits[part], targets[part])
    expected = nn.CrossEntropyLoss(ignore_index=IGNORED)(logits, targets)
    assert totals.read()["loss"] == pytest.approx(float(expected))


def test_the_loss_of_an_epoch_without_a_pixel_that_counts_is_0(
    logits: Tensor, targets: Tensor
) -> None:
    totals = CollectedPixels(metrics_of(logits))
    none = torch.full_like(targets, IGNORED)
    totals.add(CrossEntropy(label_smoothing=0.0)(logits, none), logits, none)
    assert totals.read()["loss"] == 0


@pytest.mark.parametrize("make", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_no_loss_asks_a_gpu_which_pixels_count(
    make: Callable[..., nn.Module], weighted: bool
) -> None:
    with FakeTensorMode(), torch.device("cuda"):  # which raises where a value is asked for
        weights = torch.ones(K) if weighted else None
        targets = torch.empty(3, 5, 6, dtype=torch.int64)
        loss = make(class_weights=weights)(torch.empty(3, K, 5, 6), targets)
    assert loss.device.type == "cuda" and loss.ndim == 0
