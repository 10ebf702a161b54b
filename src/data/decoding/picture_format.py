"""The format of the arrays that pictures are decoded to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .depth import SIXTEEN_BITS, ValueRange

__all__ = ["PictureFormat"]

_FITS = ("squeeze", "crop", "pad", "windows")


@dataclass(frozen=True)
class PictureFormat:
    """The format of the arrays that a model takes.

    Attributes:
        image_size: (H, W) in pixels; with the fit "windows" those of a window.
        channels: 1 for luminance (ITU-R 601), 3 for RGB, or the number of `bands`.
        fit: what becomes of other proportions: "squeeze" resizes the whole picture and distorts;
            "crop" keeps the proportions and cuts off what sticks out, alike on both sides; "pad"
            keeps them and adds grey bars; "windows" keeps them, multiplies their size by `scale`,
            and adds grey below and on the right of pictures that are smaller than a window.
        value_range: black and white of pixels of more than 8 bits; None for a model that has seen
            8 bits, or files that state both: what may be dark, or may have fewer bits than its
            file, is refused.
        dtype: "uint8", or "float32" for pixels of more than 8 bits; both are from 0 to 255.
        bands: the bands of a file that become the channels, counted from 1; None for grey or RGB.
        band_count: how many bands a file must have, where `bands` are given.
        scale: of pictures that are taken in windows, in (0, 1].

    Raises:
        ValueError: there are no such channels, or is no such fit.
    """

    image_size: tuple[int, int]
    channels: int
    fit: str = "squeeze"
    value_range: ValueRange | None = None
    dtype: Literal["uint8", "float32"] = "uint8"
    bands: tuple[int, ...] | None = None
    band_count: int = 0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.bands is None and self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}: it must be 1 or 3")
        if self.bands is not None and self.channels != len(self.bands):
            raise ValueError(f"channels is {self.channels}, and there are {len(self.bands)} bands")
        if self.fit not in _FITS:
            raise ValueError(f"fit is {self.fit!r}: it must be one of {', '.join(_FITS)}")

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> PictureFormat:
        """Return the format that a model's metadata states.

        `fit` may be missing, and `value_range`: what was 16 bits was then scaled as a whole. So
        may `dtype` and `bands`, of models that take 8 bits in grey or colour.
        """
        height, width = metadata["image_size"]
        values = metadata.get("value_range", SIXTEEN_BITS)
        return cls(
            image_size=(height, width),
            channels=metadata["channels"],
            fit=metadata.get("fit", "squeeze"),
            value_range=None if values is None else (float(values[0]), float(values[1])),
            dtype=metadata.get("dtype", "uint8"),
            bands=tuple(metadata["bands"]) if metadata.get("bands") else None,
            band_count=metadata.get("band_count", 0),
            scale=metadata.get("scale", 1.0),
        )

    @property
    def ordinary(self) -> bool:
        """Whether the arrays are grey or colour in 8 bits, as published networks know pictures."""
        return self.dtype == "uint8" and self.bands is None

    @property
    def windowed(self) -> bool:
        """Whether pictures keep their proportions, and are taken window by window."""
        return self.fit == "windows"

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (H, W) that a picture of this size gets, without what is added to it."""
        if not self.windowed:
            return self.image_size
        height, width = (max(1, round(side * self.scale)) for side in size)
        return height, width

    def array_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (H, W) of the array of a picture of this size."""
        height, width = self.scaled_size(size)
        return max(height, self.image_size[0]), max(width, self.image_size[1])

    def plain(self) -> dict[str, Any]:
        """Return what `of` reads, as plain containers."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    def identity(self) -> dict[str, Any]:
        """Return the values that determine the pixels, as part of a cache entry's key.

        Those that leave them as they were before there was such a value are left out. No range and
        that of 16 bits are two things: without one, a file's own counts, or pixels are refused.
        """
        plain = self.plain()
        if self.value_range is None and self.dtype == "uint8":
            del plain["value_range"]
        if self.dtype == "uint8":
            del plain["dtype"]
        if self.bands is None:
            del plain["bands"], plain["band_count"]
        if not self.windowed:
            del plain["scale"]
        return plain
