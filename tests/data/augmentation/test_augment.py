from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from src.config.augment import AugmentSettings
from src.config.checks import ConfigError, from_plain
from src.data.augmentation import transforms
from src.data.augmentation.augment import Augment
from src.data.augmentation.transforms import normalize
from tests.fake_tensors import forget_constants

PRESETS = Path("conf/augment")
EVERYTHING: dict[str, Any] = {
    "flip": True,
    "turns": "half",
    "translate": 0.2,
    "warp_probability": 0.7,
    "rotate_degrees": 30.0,
    "zoom": 0.3,
    "color_probability": 0.7,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "erase_probability": 0.7,
}
# Crops and policies, alone and with all the rest.
PHOTO: dict[str, dict[str, Any]] = {
    "crop": {"crop_probability": 0.7},
    "trivial": {"policy": "trivial"},
    "rand": {"policy": "rand", "policy_operations": 3, "policy_magnitude": 20.0},
    "crop and trivial": {"crop_probability": 1.0, "policy": "trivial"},
    "all": EVERYTHING | {"crop_probability": 0.7, "policy": "rand"},
}


def batch_of(n: int, channels: int = 3, side: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(
        0, 256, (n, channels, side, side), dtype=torch.uint8, generator=generator
    )
    return images, torch.arange(n) % 10, torch.arange(n) * 7 + 3


def augmented(augment: Augment, batch: tuple[Tensor, ...], **coordinates: int) -> Tensor:
    return augment(*batch, **{"seed": 1, "epoch": 2, "step": 3, **coordinates})[0]


def preset(name: str) -> AugmentSettings:
    return from_plain(AugmentSettings, yaml.safe_load((PRESETS / f"{name}.yaml").read_text()))


def doing(*, num_classes: int = 10, flip_ok: bool = False, **settings: Any) -> Augment:
    return Augment(AugmentSettings(**settings), num_classes=num_classes, flip_ok=flip_ok)


@pytest.mark.parametrize("operation", [*EVERYTHING, "everything", *PHOTO])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_does_not_see_its_batch(operation: str, channels: int) -> None:
    """One at a time, in a batch, in another order: bit for bit the same."""
    wanted = PHOTO.get(operation, EVERYTHING)
    if operation in EVERYTHING:
        needs = {"rotate_degrees": "warp_probability", "zoom": "warp_probability"}
        needs |= dict.fromkeys(["brightness", "contrast", "saturation"], "color_probability")
        names = [operation, needs.get(operation, operation)]
        wanted = {name: EVERYTHING[name] for name in names}
    augment = doing(**wanted)
    batch = batch_of(64, channels)
    together = augmented(augment, batch)
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augmented(augment, tuple(x[shuffled] for x in batch)), together[shuffled])
    for i in (0, 5, 63):
        alone = augmented(augment, tuple(x[i : i + 1] for x in batch), step=9)
        assert torch.equal(alone[0], together[i])


def test_on_a_gpu_it_neither_mixes_devices_nor_waits() -> None:
    """Tensors without data, said to lie on a GPU: an operation that needs their values raises."""
    forget_constants()
    mixing = {"mix_probability": 1.0, "mixup_alpha": 1.0, "cutmix_alpha": 1.0}
    with FakeTensorMode():
        images = torch.empty(8, 3, 16, 16, dtype=torch.uint8, device="cuda")
        ids = torch.empty(8, dtype=torch.int64, device="cuda")
        # The step decides how pictures are mixed, whatever else is done to them.
        ways = [("reflect", EVERYTHING), *(("zero", way) for way in [EVERYTHING, *PHOTO.values()])]
        for step, (padding, way) in enumerate(ways):
            augment = doing(**way, **mixing, padding=padding)
            out, probs = augment(images, ids, ids, seed=0, epoch=0, step=step)
            normalized = normalize(out, [0.5] * 3, [0.5] * 3)
            assert {out.device.type, probs.device.type, normalized.device.type} == {"cuda"}
    # Nothing without data may be left for the tests that follow.
    forget_constants()


@pytest.mark.parametrize("way", list(PHOTO))
@pytest.mark.parametrize("channels", [1, 3])
def test_other_devices_compute_the_same(
    way: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look at the draws, as on a GPU: the whole batch for every operation."""
    batch = batch_of(64, channels, 24)
    augment = doing(**PHOTO[way])
    here = augmented(augment, batch)
    monkeypatch.setattr(transforms, "_host_knows", lambda images: False)
    there = augmented(augment, batch)
    differences = (here.float() - there.float()).abs()
    if "crop_probability" not in PHOTO[way]:
        assert torch.equal(here, there)
    # Crops differ by a rounding, of which an operation on the tones may make more.
    assert differences.mean() < 0.3
    assert way != "crop" or differences.max() <= 1


@pytest.mark.parametrize("wanted", [EVERYTHING, PHOTO["all"], PHOTO["crop and trivial"]])
def test_seed_and_epoch_change_everything_and_repetition_nothing(wanted: dict[str, Any]) -> None:
    augment, batch = doing(**wanted), batch_of(32)
    first = augmented(augment, batch)
    assert torch.equal(augmented(augment, batch), first)
    for other in (augmented(augment, batch, seed=4), augmented(augment, batch, epoch=4)):
        assert all(not torch.equal(a, b) for a, b in zip(other, first, strict=True))


@pytest.mark.parametrize("wanted", [EVERYTHING, *PHOTO.values()])
def test_the_batch_itself_is_left_alone(wanted: dict[str, Any]) -> None:
    batch = batch_of(16)
    before = batch[0].clone()
    augment = doing(**wanted, mix_probability=1, mixup_alpha=1, cutmix_alpha=1)
    for step in range(4):
        augmented(augment, batch, step=step)
    assert torch.equal(batch[0], before)


@pytest.mark.parametrize(
    ("flip", "flip_ok", "flips"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_who_decides_about_flips(flip: bool | None, flip_ok: bool, flips: bool) -> None:
    batch = batch_of(2000, 1, 4)
    out = augmented(doing(flip=flip, flip_ok=flip_ok), batch)
    mirrored = (out == batch[0].flip(3)).flatten(1).all(1)
    untouched = (out == batch[0]).flatten(1).all(1)
    assert (mirrored | untouched).all()
    if flips:
        assert stats.binomtest(int(mirrored.sum()), 2000).pvalue > 1e-4
    else:
        assert untouched.all()


@pytest.mark.parametrize(("turns", "angles"), [("none", [0]), ("half", [0, 2]), ("quarter", None)])
def test_pictures_without_up_and_down_are_turned_by_right_angles(
    turns: str, angles: list[int] | None
) -> None:
    batch = batch_of(2000, 1, 4)
    out = augmented(doing(turns=turns), batch)
    found = [(out == batch[0].rot90(k, (2, 3))).flatten(1).all(1) for k in range(4)]
    counts = [int(one.sum()) for one in found]
    wanted = angles or [0, 1, 2, 3]
    assert sum(counts) == 2000 and all(bool(n) == (k in wanted) for k, n in enumerate(counts))
    assert stats.chisquare([counts[k] for k in wanted]).pvalue > 1e-4 or turns == "none"
    # With mirroring, each of the eight ways to lay a square.
    both = augmented(doing(turns=turns, flip=True), batch)
    mirrored = [(both == out.flip(3)).flatten(1).all(1), (both == out).flatten(1).all(1)]
    assert all(one.any() for one in mirrored) and (mirrored[0] | mirrored[1]).all()


def test_alternate_flips_mirror_every_picture_in_one_of_two_epochs() -> None:
    batch = batch_of(2000, 1, 4)
    augment = doing(flip=True, alternate_flip=True)
    epochs = [augmented(augment, batch, epoch=epoch) for epoch in range(4)]
    mirrored = [(out == batch[0].flip(3)).flatten(1).all(1) for out in epochs]
    assert stats.binomtest(int(mirrored[0].sum()), 2000).pvalue > 1e-4
    assert torch.equal(mirrored[1], ~mirrored[0])
    assert torch.equal(mirrored[2], mirrored[0]) and torch.equal(mirrored[3], mirrored[1])
    # A picture that is mirrored at random is mirrored in the same epoch 0.
    assert torch.equal(epochs[0], augmented(doing(flip=True), batch, epoch=0))


@pytest.mark.parametrize(
    ("side", "fraction", "largest"), [(12, 0.084, 1), (28, 0.084, 2), (20, 0.19, 3)]
)
def test_all_shifts_are_as_likely(side: int, fraction: float, largest: int) -> None:
    # A single bright pixel says where its picture went.
    images = torch.zeros(6000, 1, side, side, dtype=torch.uint8)
    images[:, :, side // 2, side // 2] = 255
    ids = torch.arange(6000)
    out = augmented(doing(translate=fraction), (images, ids % 2, ids))
    _, _, y, x = (out == 255).nonzero().unbind(1)
    width = 2 * largest + 1
    places = (y - side // 2 + largest) * width + (x - side // 2 + largest)
    counts = torch.bincount(places, minlength=width**2)
    assert len(y) == 6000 and len(counts) == width**2
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_shifts_are_of_whole_pixels_and_none_is_lost_to_rounding() -> None:
    batch = batch_of(64, 1, 8)
    assert torch.equal(augmented(doing(translate=0.084), batch), batch[0])
    # 0.29 * 100 is 28.999999999999996.
    images = torch.full((3000, 1, 100, 1), 255, dtype=torch.uint8)
    ids = torch.arange(3000)
    out = augmented(doing(translate=0.29), (images, ids % 2, ids))
    assert (out == 0).sum(dim=2).max() == 29


def positions(n: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (n, 2, height, width) whose pixels say where they are: row and column."""
    rows = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    columns = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    images = torch.stack([rows, columns]).expand(n, 2, height, width).contiguous()
    return images, torch.arange(n) % 2, torch.arange(n)


def boxes_of(cropped: Tensor) -> tuple[Tensor, ...]:
    """Top, left, height and width of boxes of `positions`: the corners show their own places."""
    top, left = cropped[:, :, 0, 0].double().unbind(1)
    bottom, right = cropped[:, :, -1, -1].double().unbind(1)
    return top, left, bottom - top + 1, right - left + 1


@pytest.mark.parametrize(("height", "width"), [(120, 160), (200, 90), (8, 250), (250, 8)])
def test_crops_keep_their_area_and_proportion(height: int, width: int) -> None:
    augment = doing(crop_probability=1, crop_scale=(0.25, 0.81), crop_ratio=(0.5, 1.5))
    top, left, box_height, box_width = boxes_of(augmented(augment, positions(3000, height, width)))
    share_y, share_x = box_height / height, box_width / width
    # Boxes are of whole pixels.
    within = 0.5 / height + 0.5 / width + 0.25 / (height * width)
    area = share_y * share_x
    assert area.min() >= 0.25 - within and area.max() <= 0.81 + within
    lowest, highest = (
        (share_x + k * 0.51 / width) / (share_y - k * 0.51 / height) for k in (1, -1)
    )
    assert (lowest >= 0.5).all() and (highest <= 1.5).all()
    if min(height, width) > 50:
        assert stats.kstest(area.numpy(), stats.uniform(0.25, 0.56).cdf).pvalue > 1e-4
        # Boxes that fit whatever their ratio: its logarithm is uniform.
        small = area < 0.45
        ratios = (share_x / share_y)[small].log().numpy()
        law = stats.uniform(math.log(0.5), math.log(3))
        assert stats.kstest(ratios, law.cdf).pvalue > 1e-4
    for start, size, side in ((top, box_height, height), (left, box_width, width)):
        assert (start >= 0).all() and (start + size <= side).all()
        free = side - size
        # Every place is as likely: the middle of its share of 0 to 1 is uniform.
        places = ((start + 0.5) / (free + 1))[free > 20].numpy()
        if len(places) > 500:
            assert stats.kstest(places, stats.uniform().cdf).pvalue > 1e-4


def test_the_whole_picture_is_a_crop_that_changes_nothing() -> None:
    for shape in ((1, 8), (3, 33)):
        batch = batch_of(200, *shape)
        whole = doing(crop_probability=1, crop_scale=(1, 1), crop_ratio=(0.2, 5))
        assert torch.equal(augmented(whole, batch), batch[0])
        # Nor where no ratio of the range fits: the area has the last word.
        wide = doing(crop_probability=1, crop_scale=(1, 1), crop_ratio=(2, 5), flip=True)
        assert torch.equal(augmented(wide, batch), augmented(doing(flip=True), batch))


def test_a_crop_and_a_turn_are_those_of_their_own_in_one_interpolation() -> None:
    """The same draws one after the other: a smooth picture shows no second interpolation."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 128), indexing="ij")
    smooth = 128 + 60 * torch.sin(3 * x + 1) * torch.cos(2 * y) + 40 * (x - y)
    images = smooth.to(torch.uint8).expand(30, 1, 96, 128).contiguous()
    ids = torch.arange(30)
    crop = {"crop_probability": 1.0, "flip": True}
    turn = {"warp_probability": 1.0, "rotate_degrees": 40.0, "zoom": 0.3}
    once = augmented(doing(**crop, **turn, padding="reflect"), (images, ids, ids))
    cropped = augmented(doing(**crop), (images, ids, ids))
    twice = augmented(doing(**turn, padding="reflect"), (cropped, ids, ids))
    # Apart from the corners, into which one brings the picture and the other the crop's mirror.
    middle = (slice(None), slice(None), slice(36, 60), slice(48, 80))
    assert (once.float() - twice)[middle].abs().max() < 3
    assert (once.float() - cropped)[middle].abs().max() > 8


def test_what_a_turned_crop_shows_beside_itself_is_the_picture() -> None:
    images = torch.full((50, 1, 40, 40), 200, dtype=torch.uint8)
    ids = torch.arange(50)
    turn = {"warp_probability": 1.0, "rotate_degrees": 45.0}
    black = (augmented(doing(**turn), (images, ids, ids)) < 100).flatten(1).any(1)
    assert black.float().mean() > 0.8
    small = {"crop_probability": 1.0, "crop_scale": (0.1, 0.1), "crop_ratio": (1.0, 1.0)}
    shown = augmented(doing(**turn, **small), (images, ids, ids))
    assert (shown < 100).flatten(1).any(1).float().mean() < 0.5


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_a_policy_mirrors_nothing(policy: str) -> None:
    """Only `flip` mirrors pictures, as `data.mirror_ok` allows."""
    images = positions(2000, 20, 20)[0].repeat(1, 2, 1, 1)[:, 1:] * 10  # brighter to the right
    ids = torch.arange(2000)
    out = augmented(doing(policy=policy, flip=None), (images, ids, ids)).float()
    mirrored = augmented(doing(policy=policy, flip=True), (images, ids, ids)).float()

    def falling(pictures: Tensor) -> float:
        columns = pictures[:, 0].mean(1)
        return float((columns[:, 10:].mean(1) < columns[:, :10].mean(1) - 20).float().mean())

    # A large turn or an inverted scale may look like it, but not as often.
    assert falling(out) < 0.15
    assert falling(mirrored) > 0.35


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 8, 500), (1, 500, 8), (3, 230, 410)])
@pytest.mark.parametrize("way", list(PHOTO))
def test_pictures_of_any_shape(shape: tuple[int, int, int], way: str) -> None:
    """The largest is too large for several to be changed at a time: each alone is the same."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (12, *shape), dtype=torch.uint8, generator=generator)
    batch = (images, torch.arange(12), torch.arange(12))
    augment = doing(**PHOTO[way])
    out = augmented(augment, batch)
    assert out.shape == images.shape and out.min() >= 0 and out.max() <= 255
    for i in (0, 7):
        alone = augmented(augment, tuple(x[i : i + 1] for x in batch))
        assert torch.equal(alone[0], out[i])


def test_erased_areas_stay_within_their_bounds() -> None:
    images = torch.zeros(4000, 1, 64, 64, dtype=torch.uint8)
    images[:, :, ::2] = 200  # the mean, 100, is nowhere in the picture
    ids = torch.arange(4000)
    augment = doing(erase_probability=0.3, erase_area=(0.1, 0.2))
    painted = (augmented(augment, (images, ids % 2, ids)) == 100).float().mean(dim=(1, 2, 3))
    touched = painted > 0
    assert stats.binomtest(int(touched.sum()), 4000, 0.3).pvalue > 1e-4
    assert painted[touched].min() > 0.09 and painted[touched].max() < 0.21
    assert abs(float(painted[touched].mean()) - 0.15) < 0.003


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("kind", ["color", "crop"])
def test_the_share_of_pictures_that_change(kind: str, share: float) -> None:
    batch = batch_of(3000, 1, 8)
    augment = doing(**{f"{kind}_probability": share, "brightness": 0.5, "crop_scale": [0.2, 0.5]})
    changed = (augmented(augment, batch) != batch[0]).flatten(1).any(1)
    assert stats.binomtest(int(changed.sum()), 3000, share).pvalue > 1e-4


def test_brightness_is_drawn_from_its_range() -> None:
    images = torch.full((4000, 1, 2, 2), 100, dtype=torch.uint8)
    ids = torch.arange(4000)
    out = augmented(doing(color_probability=1, brightness=0.3), (images, ids % 2, ids))
    factors = out[:, 0, 0, 0].numpy() / 100
    assert stats.kstest(factors, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
@pytest.mark.parametrize("shape", [(1, 8), (3, 32)])
def test_presets_are_valid_and_run(name: str, shape: tuple[int, int]) -> None:
    augment = Augment(preset(name), flip_ok=True, num_classes=10)
    images, targets, ids = batch_of(8, *shape)
    out, mixed = augment(images, targets, ids, seed=0, epoch=0, step=0)
    assert out.shape == images.shape
    assert out.min() >= 0 and out.max() <= 255
    assert mixed.shape == ((8, 10) if augment.soft_targets else (8,))
    assert torch.equal(out, images) == (name == "none")
    assert augment.soft_targets == (name == "strong") and augment.flip == (name != "none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("translate", 0.51),
        ("zoom", float("nan")),
        ("erase_probability", -0.1),
        ("padding", "edge"),
        ("mix_probability", 1.5),
        ("erase_area", [0.3, 0.1]),
        ("erase_area", [0.0, 0.1]),
        ("erase_area", [0.1]),
        ("rotate_degrees", -1.0),
        ("crop_probability", 1.5),
        ("crop_scale", [0.0, 1.0]),
        ("crop_scale", [0.5, 0.4]),
        ("crop_scale", [0.5, 1.1]),
        ("crop_ratio", [0.0, 1.0]),
        ("policy", "auto"),
        ("policy_operations", 0),
        ("policy_operations", 6),
        ("policy_magnitude", 30.5),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        from_plain(AugmentSettings, {name: value})


@pytest.mark.parametrize("wanted", [EVERYTHING, *PHOTO.values()], ids=["everything", *PHOTO])
def test_floats_stay_floats_of_any_number_of_bands(wanted: dict[str, Any]) -> None:
    augment = Augment(AugmentSettings(**wanted), flip_ok=True, num_classes=10)
    images, targets, ids = batch_of(24, channels=5)
    changed = augmented(augment, (images.float() / 3 + 0.2, targets, ids))
    assert changed.dtype == torch.float32 and changed.shape == images.shape
    assert changed.min() >= 0 and changed.max() <= 255
    assert not torch.equal(changed, changed.round())


def test_floats_are_cropped_and_turned_as_8_bits_are() -> None:
    wanted = {"crop_probability": 0.7, "warp_probability": 0.5, "rotate_degrees": 30.0}
    augment = Augment(AugmentSettings(**wanted), flip_ok=True, num_classes=10)
    images, targets, ids = batch_of(24)
    whole = augmented(augment, (images, targets, ids))
    floats = augmented(augment, (images.float(), targets, ids))
    assert (whole.float() - floats).abs().max() <= 1
