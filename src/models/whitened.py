"""A convolutional network for trainings of seconds, whose first layer whitens the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["WhitenedCNN"]

_SIDE = 2  # of the patches that are whitened
# Added to the variances of patches, so that directions of hardly any are not blown up to noise.
_LEAST_VARIANCE = 5e-4
_PICTURES = 500  # of as many pixels as CIFAR-10's, half a million patches
_LOGIT_SCALE = 1 / 9


class WhitenedCNN(nn.Module):
    """The network of Jordan ("94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024).

    A convolution of 2x2 pixels whose fixed kernels make the patches of the training pictures
    uncorrelated, after Page ("How to train your ResNet", 2018), then a block for each width: two
    convolutions with batch normalisation that learns no scale, of which the first is pooled by
    two. Kernels start as the identity as far as there are channels (Zagoruyko and Komodakis,
    "DiracNets", 2017). Unlike there, the first layer's bias is trained throughout.

    Args:
        image_size: sets where maps are pooled; other sizes are accepted later.
        widths: channels of each block.

    Raises:
        ValueError: the pictures have a side of a single pixel.
    """

    head_prefixes = ("head.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        widths: Sequence[int],
    ) -> None:
        super().__init__()
        if min(image_size) < _SIDE:
            raise ValueError(
                f"it takes pictures of {_SIDE}x{_SIDE} pixels at least, and these have "
                f"{image_size[0]}x{image_size[1]}: choose another model, or data.image_size"
            )
        self.whiten = _Whitening(in_channels)
        channels, side = self.whiten.channels, min(image_size) - 1
        blocks: list[nn.Module] = []
        for width in widths:
            blocks.append(_block(channels, width, pooled=side > 1))
            channels, side = width, max(1, side // 2)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, num_classes, bias=False)

    def start_from(self, images: Tensor) -> None:
        """Set the fixed kernels by training pictures (N, C, H, W) float, normalised."""
        self.whiten.fit(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of pictures (B, C, H, W), normalised."""
        features = self.blocks(F.gelu(self.whiten(images))).amax((2, 3))
        return self.head(features) * _LOGIT_SCALE


class _Whitening(nn.Module):
    """Each eigenvector of the patches' covariance, of unit variance, and its negative."""

    kernels: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        size = in_channels * _SIDE**2
        self.channels = 2 * size
        # A buffer, for it is never trained; until pictures are seen, patches as they are.
        self.register_buffer("kernels", self._both(torch.eye(size), in_channels))
        self.bias = nn.Parameter(torch.zeros(self.channels))

    def fit(self, images: Tensor) -> None:
        """Set the kernels, computed on the CPU so that they are the same on every device."""
        seen = images[:_PICTURES].detach().to("cpu", torch.float32)
        patches = F.unfold(seen, _SIDE)  # (N, C * 4, places)
        products = (patches @ patches.mT).double().sum(0)
        values, vectors = torch.linalg.eigh(products / (len(patches) * patches.shape[2]))
        kernels = vectors / (values + _LEAST_VARIANCE).sqrt()
        self.kernels.copy_(self._both(kernels.T, images.shape[1]))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.kernels, self.bias)

    @staticmethod
    def _both(rows: Tensor, in_channels: int) -> Tensor:
        return torch.cat([rows, -rows]).view(-1, in_channels, _SIDE, _SIDE)


def _block(width_in: int, width: int, *, pooled: bool) -> nn.Module:
    return nn.Sequential(
        _convolution(width_in, width),
        nn.MaxPool2d(2) if pooled else nn.Identity(),
        _norm(width),
        nn.GELU(),
        _convolution(width, width),
        _norm(width),
        nn.GELU(),
    )


def _convolution(width_in: int, width: int) -> nn.Conv2d:
    layer = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:width_in])
    return layer


def _norm(width: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(width, momentum=0.4)  # few steps: the last ones count
    layer.weight.requires_grad_(False)
    return layer
