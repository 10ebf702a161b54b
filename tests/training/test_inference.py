"""Test-time augmentation against views made by hand and networks that cannot tell them apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import v2

from src.training import inference
from src.training.inference import VIEWS, averaged_logits, in_pieces, views


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 9, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 12, 4)).eval()


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Moved by pixels, borders repeated: clamped indices."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height) - down).clamp(0, height - 1)
    columns = (torch.arange(width) - right).clamp(0, width - 1)
    return images[..., rows, :][..., columns]


@pytest.mark.parametrize(("size", "pixels"), [(8, 1), (32, 1), (64, 2), (224, 7)])
def test_the_views_are_those_described(size: int, pixels: int) -> None:
    images = torch.randn(2, 1, size, size + 5)
    flipped = v2.functional.horizontal_flip(images)
    both = [
        view
        for base in (images, flipped)
        for view in (base, shifted(base, -pixels, -pixels), shifted(base, pixels, pixels))
    ]
    expected = {
        "none": [images],
        "flip": [images, flipped],
        "shift": both[:3],
        "flip_shift": both,
    }
    assert set(expected) == set(VIEWS)
    for kind, wanted in expected.items():
        made = list(views(images, kind))
        assert len(made) == len(wanted)
        assert all(any(torch.equal(m, w) for m in made) for w in wanted), kind


@pytest.mark.parametrize("kind", VIEWS)
def test_the_softmax_is_the_mean_of_the_probabilities(
    kind: str, images: Tensor, network: nn.Module
) -> None:
    expected = torch.stack([network(v).softmax(dim=1) for v in views(images, kind)]).mean(dim=0)
    logits = averaged_logits(network, images, kind)
    torch.testing.assert_close(logits.softmax(dim=1), expected)


@pytest.mark.parametrize(("room", "sizes"), [(324, [3, 2]), (107, [1] * 5), (10**6, [5])])
def test_a_cpu_gets_as_many_pictures_as_its_caches_hold(
    monkeypatch: pytest.MonkeyPatch,
    images: Tensor,
    network: nn.Module,
    room: int,
    sizes: list[int],
) -> None:
    monkeypatch.setattr(inference, "_PIXELS_A_CORE", room)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    seen: list[int] = []

    def noted(piece: Tensor) -> Tensor:
        seen.append(len(piece))
        return network(piece)

    torch.testing.assert_close(in_pieces(noted, images), network(images))
    assert seen == sizes
    seen.clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)  # with a cache each
    in_pieces(noted, images)
    assert seen == ([4, 1] if room == 107 else [5])


def test_a_gpu_gets_all_pictures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_PIXELS_A_CORE", 1)
    seen: list[int] = []
    with FakeTensorMode():
        in_pieces(
            lambda piece: seen.append(len(piece)) or piece, torch.empty(5, 1, 2, 2, device="cuda")
        )
    assert seen == [5]


def test_no_augmentation_is_the_network_itself(images: Tensor, network: nn.Module) -> None:
    assert torch.equal(averaged_logits(network, images, "none"), network(images))


def test_half_precision_and_certain_networks_stay_finite(images: Tensor) -> None:
    certain = torch.tensor([[100.0, -100.0]], dtype=torch.bfloat16)
    logits = averaged_logits(lambda x: certain.expand(len(x), 2), images, "flip")
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, torch.tensor([[0.0, -200.0]]).expand(5, 2))


def test_an_unknown_kind_is_named(images: Tensor, network: nn.Module) -> None:
    with pytest.raises(ValueError, match="mirror"):
        averaged_logits(network, images, "mirror")
