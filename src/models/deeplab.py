"""DeepLabV3+, with a class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence

from .encoder_decoder import EncoderDecoder

__all__ = ["DeepLab"]


class DeepLab(EncoderDecoder):
    """DeepLabV3+: dilated convolutions of several rates, joined with a fine map of the encoder.

    Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
    Segmentation", ECCV 2018 (arXiv:1802.02611).

    Args:
        output_stride: pixels between two places of the encoder's last map, 8 or 16.
        rates: three dilations; 6, 12 and 18 in the paper at a stride of 16, twice that at 8.
        decoder_channels: of the decoder's convolutions.
        dropout: probability after the dilated convolutions, in [0, 1).
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
        output_stride: int,
        rates: Sequence[int],
        decoder_channels: int,
        dropout: float,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            image_size,
            encoder=encoder,
            pretrained=pretrained,
            decoder="DeepLabV3Plus",
            stride=output_stride,
            encoder_output_stride=output_stride,
            decoder_atrous_rates=tuple(rates),
            decoder_channels=decoder_channels,
            decoder_aspp_dropout=dropout,
        )
