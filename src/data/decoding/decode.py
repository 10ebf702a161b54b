"""From a picture file of any supported format to a uint8 array (C, H, W).

Training and prediction both decode here, so they cannot differ.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...machine.disk import OF_THE_PROCESS
from .depth import (
    SIXTEEN_BITS,
    PixelError,
    ScaleBy,
    ValueRange,
    has_deep_colour,
    is_deep,
    pixel_bounds,
    scaled_to_8_bits,
)

__all__ = [
    "MAX_FILE_BYTES",
    "PICTURE_ENDINGS",
    "NotReadHere",
    "PictureError",
    "PictureFormat",
    "decode_picture",
    "file_errors",
    "read_bounds",
    "read_header",
    "thumbnail",
]

PICTURE_ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif")) | {
    *(".bmp", ".dib", ".webp", ".avif", ".jp2", ".j2k", ".tif", ".tiff", ".heic", ".heif", ".hif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
# Pillow reads the several pictures of an MPO file as JPEG; what it has other programs read for it
# (EPS, for instance) is not read.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "AVIF", "JPEG2000", "TIFF", "PPM")
# The brands in the first box of HEIF files, whose patents keep them out of Pillow: the package
# pillow-heif reads them, where it is installed.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MAX_PIXELS = 100_000_000
# The largest pixels that a file may have are of 4 colours of 16 bits, and few are not compressed.
MAX_FILE_BYTES = 500_000_000
# Of larger ones no more than one is decoded at a time: each takes up to a gigabyte meanwhile, and
# there may be as many threads as cores.
_LARGE_PIXELS = 25_000_000
_LARGE_TURN = threading.Lock()
_BAND_PIXELS = 4_000_000
FITS = ("squeeze", "crop", "pad")
# What `pad` puts around a picture: close to 0 after normalisation, whatever the data.
_PADDING_GREY = 128
# Pillow warns about large pictures, for which the limit above stands, and about damaged metadata,
# which is not used; neither time does it say which file it means.
warnings.filterwarnings("ignore", module=r"PIL\.")

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_EXIF_ORIENTATION = 0x0112
# What undoes each orientation; Pillow's exif_transpose also rewrites the metadata, and fails where
# they are damaged.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]
_Box = tuple[float, float, float, float]  # left, upper, right, lower
# How Pillow words a decoder's IMAGING_CODEC_MEMORY.
_NO_MEMORY_IN_DECODER = "out of memory when reading image file"


@dataclass(frozen=True)
class PictureFormat:
    """The format of the arrays that a model takes.

    Attributes:
        image_size: (H, W) in pixels.
        channels: 1 for luminance (ITU-R 601), 3 for RGB.
        fit: what becomes of other proportions: "squeeze" resizes the whole picture and distorts;
            "crop" keeps the proportions and cuts off what sticks out, alike on both sides; "pad"
            keeps them and adds grey bars.
        value_range: black and white of pixels of more than 8 bits; None for a model that has seen
            8 bits only: what may be dark, or may have fewer bits than its file, is refused.

    Raises:
        ValueError: there are no such channels, or is no such fit.
    """

    image_size: tuple[int, int]
    channels: int
    fit: str = "squeeze"
    value_range: ValueRange | None = None

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}: it must be 1 or 3")
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}: it must be one of {', '.join(FITS)}")

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> PictureFormat:
        """Return the format that a model's metadata states.

        `fit` may be missing, and `value_range`: what was 16 bits was then scaled as a whole.
        """
        height, width = metadata["image_size"]
        values = metadata.get("value_range", SIXTEEN_BITS)
        return cls(
            (height, width),
            metadata["channels"],
            metadata.get("fit", "squeeze"),
            None if values is None else (float(values[0]), float(values[1])),
        )

    def plain(self) -> dict[str, Any]:
        """Return what `of` reads, as plain containers."""
        return {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "fit": self.fit,
            "value_range": None if self.value_range is None else list(self.value_range),
        }

    def identity(self) -> dict[str, Any]:
        """Return the values that determine the pixels, as part of a cache entry's key.

        Without a range of values that leaves them as they were before there was one.
        """
        plain = self.plain()
        if self.value_range in (None, SIXTEEN_BITS):
            del plain["value_range"]
        return plain


class PictureError(ValueError):
    """A picture cannot be decoded; the message says why, to be read after the picture's name."""


class NotReadHere(PictureError):
    """A picture's format is not read on this machine, for the lack of an optional package."""


class Header(NamedTuple):
    """The header of a picture file, read without decoding it."""

    height: int  # pixels, after the turn of the EXIF orientation
    width: int
    grey: bool  # its pixel format has no colour
    deep: bool  # it is grey of more than 8 bits, of which all are read
    deep_colour: bool  # it has 16 bits a colour, of which the upper 8 are read


def decode_picture(
    data: bytes | Path | Image.Image, form: PictureFormat, *, own_range: bool = False
) -> NDArray[np.uint8]:
    """Return a picture as an array (channels, *image_size), uint8.

    Resizing is bicubic with antialiasing; a picture that already has the size keeps its pixels.
    Pictures are turned as EXIF says; what is transparent becomes white; grey of more than 8 bits is
    scaled to 8; of several frames the first counts; colour profiles are ignored.

    Args:
        data: the bytes of a file, its path, or an open picture.
        form: the format of the array.
        own_range: take black and white from the picture alone, as `chosen_range` does.

    Raises:
        PictureError: it is no picture, damaged, cut short or larger than 100 megapixels.
        MemoryError, OSError: memory or open files run short, which is no fault of the picture.
    """
    scale: ScaleBy = "own" if own_range else form.value_range
    with _decoder_errors():
        if isinstance(data, Image.Image):
            return _converted(data, form, scale)
        with _opened(data) as stream:
            image = _identified(stream)
            if image.width * image.height > _LARGE_PIXELS:
                with _LARGE_TURN:
                    return _converted(image, form, scale)
            # Lets libjpeg decode at 1/2, 1/4 or 1/8; twice the size leaves antialiasing its work.
            # Which side will be the height is not known before the turn.
            longer = 2 * max(form.image_size)
            scaled = image.draft(None, (longer, longer))
            return _converted(image, form, scale, box=scaled[1] if scaled else None)


def thumbnail(path: Path | str, longest: int = 180) -> NDArray[np.uint8]:
    """Return a picture file as (3, H, W) uint8, its longer side at most `longest` pixels.

    Raises:
        PictureError: as `decode_picture`.
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        header = read_header(file)
    scale = min(1.0, longest / max(header.height, header.width))
    size = (max(1, round(header.height * scale)), max(1, round(header.width * scale)))
    return decode_picture(Path(path), PictureFormat(size, 3), own_range=True)


def read_header(stream: BinaryIO) -> Header:
    """Return size and pixel format of the picture in a file opened at its start.

    Raises:
        PictureError: it is no picture, or larger than 100 megapixels.
    """
    with _decoder_errors():
        image = _identified(stream)
        deep_colour = has_deep_colour(image)  # before anything is decoded, which EXIF may ask for
        width, height = image.size
        # Pillow turns the size of a TIFF already when it opens it.
        if image.format != "TIFF" and _TURNS.get(_orientation(image)) in _ON_THEIR_SIDE:
            width, height = height, width
        return Header(height, width, image.mode in _GREY_MODES, is_deep(image), deep_colour)


def read_bounds(stream: BinaryIO) -> ValueRange:
    """Return the smallest and largest pixel of a picture of more than 8 bits, in an open file.

    Of a colour picture of 16 bits, what the upper 8 stand for.

    Raises:
        PictureError: it cannot be decoded.
    """
    with _decoder_errors():
        image = _identified(stream)
        image.load()
        if is_deep(image):
            return pixel_bounds(image)
        values = np.asarray(image)
        return 257.0 * float(values.min()), 257.0 * float(values.max())


def _opened(data: bytes | Path) -> BinaryIO:
    if isinstance(data, bytes):
        return io.BytesIO(data)
    with file_errors():
        return data.open("rb")


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn the error of a file that cannot be read into a `PictureError`.

    Raises:
        OSError: memory or open files run short, which is no fault of the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        raise PictureError(f"cannot be opened: {error.strerror}") from error


def _identified(stream: BinaryIO) -> Image.Image:
    """Return the picture in `stream`, its header read and its size within bounds."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise PictureError("is empty (0 bytes)")
    if size > MAX_FILE_BYTES:
        raise PictureError(
            f"has {size / 1e6:,.0f} MB; the limit of a picture is {MAX_FILE_BYTES / 1e6:.0f} MB"
        )
    try:
        image: Image.Image = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        start = stream.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in _HEIC_BRANDS:
            raise
        image = _opened_heic(stream)
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise PictureError(
            f"has {pixels / 1e6:.0f} megapixels; the limit is {MAX_PIXELS / 1e6:.0f}"
        )
    return image


def _opened_heic(stream: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise NotReadHere(
            "is HEIC, which needs the package pillow-heif (make install EXTRAS=heic, or pip "
            "install pillow-heif)"
        ) from None
    register_heif_opener()
    stream.seek(0)
    return Image.open(stream, formats=("HEIF",))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (none) to 8; 1 where the EXIF block is damaged."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _converted(
    image: Image.Image, form: PictureFormat, scale: ScaleBy, box: _Box | None = None
) -> NDArray[np.uint8]:
    """Return the picture inside `box`, by default all, as an array."""
    image.load()
    # Asked after loading: Pillow turns a TIFF by itself.
    turn = _TURNS.get(_orientation(image))
    if is_deep(image):
        image = scaled_to_8_bits(image, scale)
    mode = "L" if form.channels == 1 else "RGB"
    image = _on_white(image, mode) if image.has_transparency_data else image.convert(mode)
    height, width = form.image_size
    size = (height, width) if turn in _ON_THEIR_SIDE else (width, height)
    if image.size != size:
        image = _resized(image, size, form.fit, box or (0, 0, *image.size))
    if turn is not None:
        image = image.transpose(turn)
    pixels = np.array(image, np.uint8)
    return pixels[None] if form.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _on_white(image: Image.Image, mode: str) -> Image.Image:
    """Return the picture in this mode, with white where it is transparent."""
    width, height = image.size
    whole = Image.new(mode, image.size)
    # In bands, for a large picture would need four copies of itself.
    lines = max(1, _BAND_PIXELS // width)
    for top in range(0, height, lines):
        band = image.crop((0, top, width, min(top + lines, height))).convert("RGBA")
        white = Image.new("RGBA", band.size, "white")
        whole.paste(Image.alpha_composite(white, band).convert(mode), (0, top))
    return whole


def _resized(image: Image.Image, size: tuple[int, int], fit: str, box: _Box) -> Image.Image:
    """Return the part inside `box` resized to `size` (W, H)."""
    left, upper, right, lower = box
    across, down = size[0] / (right - left), size[1] / (lower - upper)
    if fit == "crop":
        scale = max(across, down)
        cut = ((right - left) - size[0] / scale) / 2, ((lower - upper) - size[1] / scale) / 2
        box = (left + cut[0], upper + cut[1], right - cut[0], lower - cut[1])
    elif fit == "pad" and across != down:
        scale = min(across, down)
        inner = (
            max(1, min(size[0], round((right - left) * scale))),
            max(1, min(size[1], round((lower - upper) * scale))),
        )
        grey = _PADDING_GREY if image.mode == "L" else (_PADDING_GREY,) * 3
        padded = Image.new(image.mode, size, grey)
        corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
        padded.paste(image.resize(inner, Image.Resampling.BICUBIC, box), corner)
        return padded
    return image.resize(size, Image.Resampling.BICUBIC, box)


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """Turn a library's error into the `PictureError` that it means, unless it is no picture's."""
    try:
        yield
    except (PictureError, MemoryError):
        raise
    # Pillow's plugins raise OSError, SyntaxError, struct.error and more for damaged files.
    except Exception as error:
        if isinstance(error, OSError) and str(error) == _NO_MEMORY_IN_DECODER:
            raise MemoryError(str(error)) from error
        if isinstance(error, OSError) and error.errno in OF_THE_PROCESS:
            raise
        raise PictureError(_fault(error)) from error


def _fault(error: Exception) -> str:
    if isinstance(error, PixelError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "is no picture, or of a kind that is not read"
    if isinstance(error, Image.DecompressionBombError):
        return f"is larger than {MAX_PIXELS / 1e6:.0f} megapixels"
    # The message may quote what stands in the file.
    words = " ".join(str(error).split()) or type(error).__name__
    detail = "".join(letter if letter.isprintable() else "?" for letter in words)
    if "truncated" in detail.lower() or "not enough" in detail:
        return "is cut short"
    return f"is damaged ({detail})"
