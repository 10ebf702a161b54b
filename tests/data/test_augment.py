from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from src.config.augment import AugmentSettings
from src.config.checks import ConfigError, from_plain, to_plain
from src.data.augment import Augment
from src.data.randomness import _stream_keys
from src.data.transforms import normalize

PRESETS = Path("conf/augment")
EVERYTHING = {
    "flip": True,
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


@pytest.mark.parametrize("operation", [*EVERYTHING, "everything"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_does_not_see_its_batch(operation: str, channels: int) -> None:
    """One at a time, in a batch, in another order: bit for bit the same."""
    wanted = EVERYTHING
    if operation != "everything":
        needs = {"rotate_degrees": "warp_probability", "zoom": "warp_probability"}
        needs |= dict.fromkeys(["brightness", "contrast", "saturation"], "color_probability")
        names = [operation, needs.get(operation, operation)]
        wanted = {name: EVERYTHING[name] for name in names}
    augment = Augment(**wanted)
    batch = batch_of(64, channels)
    together = augmented(augment, batch)
    shuffled = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augmented(augment, tuple(x[shuffled] for x in batch)), together[shuffled])
    for i in (0, 5, 63):
        alone = augmented(augment, tuple(x[i : i + 1] for x in batch), step=9)
        assert torch.equal(alone[0], together[i])


def test_on_a_gpu_it_neither_mixes_devices_nor_waits() -> None:
    """Tensors without data, said to lie on a GPU: an operation that needs their values raises."""
    _stream_keys.cache_clear()
    mixing = {"mix_probability": 1.0, "mixup_alpha": 1.0, "cutmix_alpha": 1.0, "num_classes": 10}
    with FakeTensorMode():
        images = torch.empty(8, 3, 16, 16, dtype=torch.uint8, device="cuda")
        ids = torch.empty(8, dtype=torch.int64, device="cuda")
        for padding, step in itertools.product(("zero", "reflect"), range(6)):
            augment = Augment(**EVERYTHING, **mixing, padding=padding)
            out, probs = augment(images, ids, ids, seed=0, epoch=0, step=step)
            normalized = normalize(out, [0.5] * 3, [0.5] * 3)
            assert {out.device.type, probs.device.type, normalized.device.type} == {"cuda"}
    # Nothing without data may be left for the tests that follow.
    _stream_keys.cache_clear()


def test_seed_and_epoch_change_everything_and_repetition_nothing() -> None:
    augment, batch = Augment(**EVERYTHING), batch_of(32)
    first = augmented(augment, batch)
    assert torch.equal(augmented(augment, batch), first)
    for other in (augmented(augment, batch, seed=4), augmented(augment, batch, epoch=4)):
        assert all(not torch.equal(a, b) for a, b in zip(other, first, strict=True))


def test_the_batch_itself_is_left_alone() -> None:
    batch = batch_of(16)
    before = batch[0].clone()
    augment = Augment(
        **EVERYTHING, mix_probability=1, mixup_alpha=1, cutmix_alpha=1, num_classes=10
    )
    for step in range(4):
        augmented(augment, batch, step=step)
    assert torch.equal(batch[0], before)


def test_nothing_asked_for_is_nothing_done() -> None:
    images, targets, ids = batch_of(8)
    out, same_targets = Augment(flip=False)(images, targets, ids, seed=0, epoch=0, step=0)
    assert torch.equal(out, images)
    assert torch.equal(same_targets, targets)


@pytest.mark.parametrize(
    ("flip", "flip_ok", "flips"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_who_decides_about_flips(flip: bool | None, flip_ok: bool, flips: bool) -> None:
    batch = batch_of(2000, 1, 4)
    out = augmented(Augment(flip=flip, flip_ok=flip_ok), batch)
    mirrored = (out == batch[0].flip(3)).flatten(1).all(1)
    untouched = (out == batch[0]).flatten(1).all(1)
    assert (mirrored | untouched).all()
    if flips:
        assert stats.binomtest(int(mirrored.sum()), 2000).pvalue > 1e-4
    else:
        assert untouched.all()


@pytest.mark.parametrize(
    ("side", "fraction", "largest"), [(12, 0.084, 1), (28, 0.084, 2), (20, 0.19, 3)]
)
def test_all_shifts_are_as_likely(side: int, fraction: float, largest: int) -> None:
    # A single bright pixel says where its picture went.
    images = torch.zeros(6000, 1, side, side, dtype=torch.uint8)
    images[:, :, side // 2, side // 2] = 255
    ids = torch.arange(6000)
    out = augmented(Augment(translate=fraction), (images, ids % 2, ids))
    _, _, y, x = (out == 255).nonzero().unbind(1)
    width = 2 * largest + 1
    places = (y - side // 2 + largest) * width + (x - side // 2 + largest)
    counts = torch.bincount(places, minlength=width**2)
    assert len(y) == 6000 and len(counts) == width**2
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_a_shift_of_less_than_a_pixel_is_none() -> None:
    batch = batch_of(64, 1, 8)
    assert torch.equal(augmented(Augment(translate=0.084), batch), batch[0])


def test_the_fraction_of_a_side_is_not_lost_to_rounding() -> None:
    # 0.29 * 100 is 28.999999999999996.
    images = torch.full((3000, 1, 100, 1), 255, dtype=torch.uint8)
    ids = torch.arange(3000)
    out = augmented(Augment(translate=0.29), (images, ids % 2, ids))
    assert (out == 0).sum(dim=2).max() == 29


def test_erased_areas_stay_within_their_bounds() -> None:
    images = torch.zeros(4000, 1, 64, 64, dtype=torch.uint8)
    images[:, :, ::2] = 200  # the mean, 100, is nowhere in the picture
    ids = torch.arange(4000)
    augment = Augment(erase_probability=0.3, erase_area=(0.1, 0.2))
    painted = (augmented(augment, (images, ids % 2, ids)) == 100).float().mean(dim=(1, 2, 3))
    touched = painted > 0
    assert stats.binomtest(int(touched.sum()), 4000, 0.3).pvalue > 1e-4
    assert painted[touched].min() > 0.09 and painted[touched].max() < 0.21
    assert abs(float(painted[touched].mean()) - 0.15) < 0.003


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_share_of_pictures_that_change(share: float) -> None:
    batch = batch_of(3000, 3, 4)
    augment = Augment(color_probability=share, brightness=0.5)
    changed = (augmented(augment, batch) != batch[0]).flatten(1).any(1)
    assert stats.binomtest(int(changed.sum()), 3000, share).pvalue > 1e-4


def test_brightness_is_drawn_from_its_range() -> None:
    images = torch.full((4000, 1, 2, 2), 100, dtype=torch.uint8)
    ids = torch.arange(4000)
    out = augmented(Augment(color_probability=1, brightness=0.3), (images, ids % 2, ids))
    factors = out[:, 0, 0, 0].numpy() / 100
    assert stats.kstest(factors, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-4


def test_mixing_is_a_function_of_seed_epoch_and_step() -> None:
    augment = Augment(mix_probability=1, mixup_alpha=1, num_classes=10)
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
    augment = Augment(
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
    augment = Augment(mix_probability=0.6, mixup_alpha=1, cutmix_alpha=1, num_classes=10)
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


def test_a_lonely_picture_is_not_mixed() -> None:
    images, targets, ids = batch_of(1)
    augment = Augment(mix_probability=1, cutmix_alpha=1, num_classes=10)
    out, probs = augment(images, targets, ids, seed=0, epoch=0, step=0)
    assert torch.equal(out, images)
    assert torch.equal(probs, torch.eye(10)[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"translate": 0.6}, "translate is 0.6"),
        ({"erase_probability": -0.1}, "erase_probability is -0.1"),
        ({"zoom": float("nan")}, "zoom is nan"),
        ({"padding": "edge"}, "padding is 'edge'"),
        ({"erase_area": (0.5, 0.2)}, "erase_area"),
        ({"mix_probability": 1, "mixup_alpha": 1}, "num_classes is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.yaml")))
@pytest.mark.parametrize("shape", [(1, 8), (3, 32)])
def test_presets_are_valid_and_run(name: str, shape: tuple[int, int]) -> None:
    augment = Augment(**to_plain(preset(name)), flip_ok=True, num_classes=10)
    images, targets, ids = batch_of(8, *shape)
    out, mixed = augment(images, targets, ids, seed=0, epoch=0, step=0)
    assert out.shape == images.shape
    assert out.min() >= 0 and out.max() <= 255
    assert mixed.shape == ((8, 10) if augment.soft_targets else (8,))
    assert torch.equal(out, images) == (name == "none")


def test_light_leaves_digits_unflipped_and_targets_hard() -> None:
    light = preset("light")
    assert light.flip is None
    augment = Augment(**to_plain(light), flip_ok=False)
    assert not augment.flip and not augment.soft_targets
    assert augmented(augment, batch_of(4, 1, 8)).dtype == torch.uint8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("translate", 0.51),
        ("padding", "edge"),
        ("mix_probability", 1.5),
        ("erase_area", [0.3, 0.1]),
        ("erase_area", [0.0, 0.1]),
        ("erase_area", [0.1]),
        ("rotate_degrees", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(preset("none"), **{name: value})
