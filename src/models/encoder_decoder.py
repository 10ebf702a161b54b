"""What networks have in common that lead the maps of an encoder of timm back to the picture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .pretrained import reason_of
from .weights import unknown_network
from .zoo import Statistics, TimmNet

__all__ = ["EncoderDecoder"]

# Which published weights an encoder starts from; a file's are put into it from outside.
_PUBLISHED = (True, "hub", "package")


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
        self._stride = stride
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
        if pretrained in _PUBLISHED:
            whole = TimmNet(
                *(in_channels, num_classes, image_size),
                name=encoder,
                pretrained=pretrained,
                input_size=None,
                stem="keep",
                drop_rate=0.0,
            )
            self.input_statistics = whole.input_statistics
        try:
            self.network: nn.Module = smp.create_model(
                *(decoder, f"tu-{encoder}"),  # the library's prefix of timm's names
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


def _copy_weights(whole: nn.Module, encoder: nn.Module, name: str) -> None:
    """Copy the tensors of a classifier into its part that gives maps.

    timm flattens the names of modules there, `stages.0` to `stages_0`, or puts the network into a
    member `model`.
    """
    known = {name.replace(".", "_"): tensor for name, tensor in whole.state_dict().items()}
    own = encoder.state_dict()
    found = {n: known.get(n.removeprefix("model.").replace(".", "_")) for n in own}
    missing = [n for n, t in found.items() if t is None or t.shape != own[n].shape]
    if missing:
        raise ValueError(
            f"the published weights of {name} have none for {missing[0]} of its encoder: say "
            "model.pretrained=null, or choose another model.encoder"
        )
    with torch.no_grad():
        for n, tensor in own.items():
            tensor.copy_(found[n])
