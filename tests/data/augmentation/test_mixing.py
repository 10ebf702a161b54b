"""Pictures of a batch mixed with each other, and what their targets say of it."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from tests.data.augmentation.test_augment import batch_of, doing


def test_mixing_is_a_function_of_seed_epoch_and_step() -> None:
    augment = doing(mix_probability=1, mixup_alpha=1)
    images, targets, ids = batch_of(16)
    first, probs = augment(images, targets, ids, seed=0, epoch=0, step=0)
    again, same = augment(images, targets, ids, seed=0, epoch=0, step=0)
    other, _ = augment(images, targets, ids, seed=0, epoch=0, step=1)
    assert torch.equal(first, again) and torch.equal(probs, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("alphas", "kind"), [((0.5, 0), "mixup"), ((0, 0.5), "cutmix")])
def test_mixed_targets_tell_what_is_in_the_picture(alphas: tuple[float, float], kind: str) -> None:
    """Each picture is plain and names its class: what is seen must be what the target says."""
    classes = 8
    targets = torch.arange(classes)
    images = (30 * targets).to(torch.uint8)[:, None, None, None].expand(classes, 1, 20, 20)
    augment = doing(
        mix_probability=1, mixup_alpha=alphas[0], cutmix_alpha=alphas[1], num_classes=classes
    )
    shares = []
    for step in range(200):
        out, probs = augment(images.clone(), targets, targets, seed=0, epoch=0, step=step)
        seen = out.double().mean(dim=(1, 2, 3))
        torch.testing.assert_close(
            seen, probs.double() @ (30 * targets).double(), atol=0.01, rtol=0
        )
        torch.testing.assert_close(probs.sum(1), torch.ones(classes))
        assert ((probs > 0).sum(1) <= 2).all()
        shares.append(float(probs[0, 0]))
    if kind == "mixup":
        assert out.dtype == torch.float32
        assert stats.kstest(shares, stats.beta(0.5, 0.5).cdf).pvalue > 1e-4
    else:
        # Boxes are cut at the edges, so more than half of the picture stays on average.
        assert out.dtype == torch.uint8
        assert 0.5 < sum(shares) / 200 < 0.8


def test_the_share_of_batches_that_are_mixed_and_how() -> None:
    images, targets, ids = batch_of(4, 1, 8)
    augment = doing(mix_probability=0.6, mixup_alpha=1, cutmix_alpha=1)
    counts = {"as they were": 0, "mixup": 0, "cutmix": 0}
    for step in range(1000):
        out, probs = augment(images, targets, ids, seed=0, epoch=0, step=step)
        assert probs.shape == (4, 10) and probs.dtype == torch.float32
        if out.dtype == torch.float32:
            counts["mixup"] += 1
        else:
            # A box may be empty or the whole picture; then the targets still tell.
            counts["as they were" if torch.equal(out, images) else "cutmix"] += 1
    assert 330 < counts["as they were"] < 480
    assert 240 < counts["mixup"] < 360
    assert 220 < counts["cutmix"] < 350


def test_mixing_needs_classes_and_two_pictures() -> None:
    images, targets, ids = batch_of(1)
    augment = doing(mix_probability=1, cutmix_alpha=1)
    out, probs = augment(images, targets, ids, seed=0, epoch=0, step=0)
    assert torch.equal(out, images) and torch.equal(probs, torch.eye(10)[:1])
    with pytest.raises(ValueError, match="num_classes is 0"):
        doing(mix_probability=1, mixup_alpha=1, num_classes=0)
