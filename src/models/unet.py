"""U-Net, with a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence

from .encoder_decoder import EncoderDecoder

__all__ = ["UNet"]


class UNet(EncoderDecoder):
    """U-Net: the encoder's maps are joined one by one on the way back to the picture's size.

    Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI 2015 (arXiv:1505.04597).

    Args:
        decoder_channels: channels of each step of the decoder, coarse to fine; as many steps as
            halvings of the encoder are used, 3 to 5.
        encoder, pretrained: as of `EncoderDecoder`.

    Raises:
        ValueError: as `EncoderDecoder`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        encoder: str,
        pretrained: bool | str | None,
        decoder_channels: Sequence[int],
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            image_size,
            encoder=encoder,
            pretrained=pretrained,
            decoder="Unet",
            stride=2 ** len(decoder_channels),
            encoder_depth=len(decoder_channels),
            decoder_channels=tuple(decoder_channels),
        )
