"""Classes of pixels move as the pictures do, whatever moves these."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from src.config.compose import read_run_settings
from src.data.augmentation import transforms
from src.data.augmentation.augment import Augment

IGNORED = -100
GEOMETRY = {
    "flip": ["augment.flip=true", "augment.translate=0"],
    "half a turn": ["augment.turns=half"],
    "translate": ["augment.translate=0.25"],
    "warp": ["augment.warp_probability=1", "augment.rotate_degrees=30", "augment.zoom=0.3"],
    "crop": ["augment.crop_probability=1", "augment.crop_scale=[0.3,0.9]"],
    "all": [
        *("augment.flip=true", "augment.translate=0.1", "augment.crop_probability=0.5"),
        *("augment.warp_probability=0.5", "augment.rotate_degrees=20", "augment.policy=trivial"),
    ],
}


def augmented(words: list[str], images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    augment = Augment(read_run_settings(["augment=none", *words]).augment)
    return augment(images, targets, torch.arange(len(images)), seed=0, epoch=1, step=0)


@pytest.fixture
def regions() -> Tensor:
    """(B, H, W) two halves of a picture, divided somewhere else in each."""
    columns = torch.arange(32)[None, None] >= torch.randint(8, 24, (16, 1, 1))
    return columns.expand(16, 24, 32).long()


@pytest.mark.parametrize(
    ("change", "padding"),
    # Nothing comes in from outside a crop, nor half a turn.
    [
        (one, how)
        for one in GEOMETRY
        for how in ("zero", "reflect")
        if (one, how) not in {("crop", "reflect"), ("half a turn", "reflect")}
    ],
)
def test_classes_are_where_their_pixels_are(change: str, padding: str, regions: Tensor) -> None:
    # Where all pixels around have one value, that is the class; 0 comes in from outside.
    images = (100 + 100 * regions)[:, None].to(torch.uint8)
    words = [*GEOMETRY[change], f"augment.padding={padding}"]
    if change == "all":  # of a policy's operations those on colours are for pictures alone
        augment = Augment(read_run_settings(["augment=none", *words]).augment)
        assert augment.policy is not None
        augment.policy.recolor_ = lambda images, steps: None  # type: ignore[method-assign]
        ids = torch.arange(len(images))
        moved, targets = augment(images, regions, ids, seed=0, epoch=1, step=0)
    else:
        moved, targets = augmented(words, images, regions)
    values = moved[:, 0].float()
    assert targets.shape == regions.shape and set(targets.unique().tolist()) <= {IGNORED, 0, 1}
    for value, label in ((100.0, 0), (200.0, 1)):
        certain = (values - value).abs() < 0.5
        right = (targets[certain] == label).float().mean()
        # At an edge with zeros some mean of 200 and 0 is 100.
        assert certain.any() and (right == 1 if padding == "reflect" else right > 0.99)
    if padding == "reflect":
        assert (targets != IGNORED).all()
    elif change in ("translate", "warp"):
        assert (targets[values == 0] == IGNORED).all() and (targets == IGNORED).any()


def test_classes_turn_with_their_pixels_exactly() -> None:
    regions = torch.randint(0, 5, (40, 16, 16))
    images = regions[:, None].to(torch.uint8)
    moved, targets = augmented(["augment.turns=quarter"], images, regions)
    assert torch.equal(moved[:, 0].long(), targets)
    ways = [(targets == regions.rot90(k, (1, 2))).flatten(1).all(1).any() for k in range(4)]
    assert all(ways)


def test_colours_and_erasing_change_no_class(regions: Tensor) -> None:
    words = ["augment.color_probability=1", "augment.brightness=0.5", "augment.erase_probability=1"]
    images = torch.randint(0, 255, (16, 3, 24, 32), dtype=torch.uint8)
    moved, targets = augmented(words, images, regions)
    assert not torch.equal(moved.to(torch.uint8), images)
    torch.testing.assert_close(targets, regions)


def test_pixels_that_are_left_out_stay_so(regions: Tensor) -> None:
    regions = regions.masked_fill(regions == 1, IGNORED)
    images = torch.zeros(16, 1, 24, 32, dtype=torch.uint8)
    _, targets = augmented(GEOMETRY["crop"], images, regions)
    assert set(targets.unique().tolist()) == {IGNORED, 0}


def test_both_ways_to_crop_take_the_same_nearest_pixels() -> None:
    images = torch.randint(0, 255, (8, 1, 24, 32), dtype=torch.uint8)
    tops, lefts = torch.randint(0, 10, (2, 8))
    boxes = torch.stack([tops, lefts, torch.full((8,), 13), torch.full((8,), 17)])
    flips = torch.arange(8) % 2 == 0
    resized = transforms.crop(images, boxes, flips=flips, method="nearest")
    sampled = transforms.crop_by_sampling(images, boxes, flips=flips, method="nearest")
    assert (resized == sampled).float().mean() > 0.99  # a middle between two pixels is either's
