"""The base of networks that lead the maps of an encoder of timm back to the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .pretrained import reason_of
from .weights import PUBLISHED, unknown_network
from .zoo import Statistics, TimmNet

__all__ = ["EncoderDecoder"]


class EncoderDecoder(nn.Module):
    """A network of segmentation-models-pytorch over an encoder of timm.

    Args:
        image_size: of no effect: pictures of any size are taken.
        encoder: timm's name of a network with maps at strides 2 or 4 to 32.
        pretrained: published weights of the encoder, as of `TimmNet`; the decoder starts at random.
        decoder: name of the library's network.
        stride: pixels between two places of the coarsest map that is used.
        options: further arguments of the library's network.

    Attributes:
        input_statistics: per channel mean and std that the weights expect; None from scratch.

    Raises:
        ValueError: an unknown encoder, one that cannot be an encoder or has no such weights.
    """

    head_prefixes = ("network.decoder.", "network.segmentation_head.")

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        encoder: str,
        pretrained: bool | str | None,
        decoder: str,
        stride: int,
        **options: Any,
    ) -> None:
        import segmentation_models_pytorch as smp
        import timm

        super().__init__()
        self._stride, self._encoder = stride, encoder
        if not timm.is_model(encoder):
            known = timm.list_models()
            raise ValueError(unknown_network("timm", encoder, known, pretrained))
        described = timm.get_pretrained_cfg(encoder)
        if described is not None and described.fixed_input_size:
            raise ValueError(
                f"{encoder} takes pictures of one size alone: model.encoder must be a network for "
                "any size, such as a convolutional one"
            )
        self.input_statistics: Statistics | None = None
        whole: TimmNet | None = None
        if pretrained in PUBLISHED:
            whole = TimmNet(
                in_channels,
                num_classes,
                image_size,
                name=encoder,
                pretrained=pretrained,
                input_size=None,
                stem="keep",
                drop_rate=0.0,
            )
            self.input_statistics = whole.input_statistics
        try:
            self.network: nn.Module = smp.create_model(
                decoder,
                f"tu-{encoder}",  # the library's prefix of timm's names
                encoder_weights=None,
                in_channels=in_channels,
                classes=num_classes,
                **options,
            )
        except Exception as error:  # libraries refuse arguments with any kind of error
            raise ValueError(
                f"{encoder} cannot be the encoder of this network ({reason_of(error)}): "
                "model.encoder must be one with maps at strides 4, 8, 16 and 32, as "
                "tf_efficientnet_lite0, resnet18 or convnext_tiny"
            ) from error
        if whole is not None:
            _copy_weights(whole.backbone, self.network.get_submodule("encoder.model"), encoder)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) of any size to logits (B, K, H, W).

        Borders are repeated up to a multiple of the stride, and cut off again.
        """
        height, width = images.shape[2:]
        right, below = -width % self._stride, -height % self._stride
        if right or below:
            images = F.pad(images, (0, right, 0, below), mode="replicate")
        logits: Tensor = self.network(images)
        return logits[..., :height, :width]

    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """Return the function from a parameter's name to its depth, as timm's networks have one.

        An encoder has the depths of the classifier that it is made of; the rest comes after it.

        Args:
            coarse: whether a level is a stage of the encoder, or a block.
        """
        depths = _encoder_depths(self._encoder, coarse)

        def depth(name: str) -> float:
            within = name.removeprefix("network.encoder.model.")
            return depths.get(_plain(within), math.inf) if within != name else math.inf

        return depth


@cache
def _encoder_depths(name: str, coarse: bool) -> dict[str, int]:
    """Return the depth of each parameter of a classifier, by its plain name; {} if not declared."""
    import timm
    from timm.models import group_parameters

    with torch.random.fork_rng(devices=[]):
        whole = timm.create_model(name)
    if not hasattr(whole, "group_matcher"):
        return {}
    matcher: Any = whole.group_matcher
    found = group_parameters(whole, matcher(coarse=coarse), reverse=True)
    return {_plain(name): depth for name, depth in found.items()}


def _plain(name: str) -> str:
    """Return the name of a tensor as it is both in a classifier and in an encoder.

    timm flattens the names of modules there, `stages.0` to `stages_0`, or puts the network into a
    member `model`.
    """
    return name.removeprefix("model.").replace(".", "_")


def _copy_weights(whole: nn.Module, encoder: nn.Module, name: str) -> None:
    """Copy the tensors of a classifier into its part that gives maps."""
    known = {_plain(name): tensor for name, tensor in whole.state_dict().items()}
    own = encoder.state_dict()
    found = {n: known[_plain(n)] for n in own if _plain(n) in known}
    missing = [n for n, t in own.items() if n not in found or found[n].shape != t.shape]
    if missing:
        raise ValueError(
            f"the published weights of {name} have none for {missing[0]} of its encoder: set "
            "model.pretrained=null, or choose another model.encoder"
        )
    encoder.load_state_dict(found)
