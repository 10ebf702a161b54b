"""From a picture file of any supported format to an array (C, H, W).

Training and prediction both decode here, so they cannot differ.
"""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ...machine.disk import OF_THE_PROCESS
from ...records.pictures import Pixels, shown
from .depth import (
    SIXTEEN_BITS,
    PixelError,
    ScaleBy,
    ValueRange,
    black_and_white,
    has_no_sign,
    is_deep,
    pixel_bounds,
    scaled,
)
from .rasters import RASTER_ENDINGS, MissingPackage, Raster, bands_of_array, open_raster, turned

__all__ = [
    "MAX_FILE_BYTES",
    "PICTURE_ENDINGS",
    "NotReadHere",
    "PictureError",
    "PictureFormat",
    "count_pages",
    "decode_picture",
    "file_errors",
    "read_bounds",
    "read_header",
    "thumbnail",
]

PICTURE_ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif")) | {
    *(".bmp", ".dib", ".webp", ".avif", ".jp2", ".j2k", ".tif", ".tiff", ".heic", ".heif", ".hif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
    *RASTER_ENDINGS,
}
# Pillow reads the several pictures of an MPO file as JPEG; what it has other programs read for it
# (EPS, for instance) is not read.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "AVIF", "JPEG2000", "TIFF", "PPM")
# The brands in the first box of HEIF files, whose patents keep them out of Pillow: the package
# pillow-heif reads them, where it is installed.
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
MAX_PIXELS = 100_000_000
# Decoders of these take 16 and 25 bytes a pixel, and those of others 4 to 8: a gigabyte each.
_FEWER_PIXELS = {"WEBP": 64_000_000, "JPEG2000": 40_000_000}
# The largest pixels that a file may have are of 4 colours of 16 bits, and few are not compressed.
MAX_FILE_BYTES = 500_000_000
# Of larger ones no more than one is decoded at a time: each takes up to a gigabyte meanwhile, and
# there may be as many threads as cores.
_LARGE_PIXELS = 25_000_000
_LARGE_BYTES = 4 * _LARGE_PIXELS
# The pixels of an array or of many bands are in memory as a whole.
_MAX_BYTES = 8 * MAX_PIXELS
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
# ITU-R 601, as Pillow and this project have it.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_Box = tuple[float, float, float, float]  # left, upper, right, lower
# How Pillow words a decoder's IMAGING_CODEC_MEMORY.
_NO_MEMORY_IN_DECODER = "out of memory when reading image file"


@dataclass(frozen=True)
class PictureFormat:
    """The format of the arrays that a model takes.

    Attributes:
        image_size: (H, W) in pixels.
        channels: 1 for luminance (ITU-R 601), 3 for RGB, or the number of `bands`.
        fit: what becomes of other proportions: "squeeze" resizes the whole picture and distorts;
            "crop" keeps the proportions and cuts off what sticks out, alike on both sides; "pad"
            keeps them and adds grey bars.
        value_range: black and white of pixels of more than 8 bits; None for a model that has seen
            8 bits, or files that state both: what may be dark, or may have fewer bits than its
            file, is refused.
        dtype: "uint8", or "float32" for pixels of more than 8 bits; both are from 0 to 255.
        bands: the bands of a file that become the channels, counted from 1; None for grey or RGB.
        band_count: how many bands a file must have, where `bands` are given.

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

    def __post_init__(self) -> None:
        if self.bands is None and self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}: it must be 1 or 3")
        if self.bands is not None and self.channels != len(self.bands):
            raise ValueError(f"channels is {self.channels}, and there are {len(self.bands)} bands")
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}: it must be one of {', '.join(FITS)}")

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> PictureFormat:
        """Return the format that a model's metadata states.

        `fit` may be missing, and `value_range`: what was 16 bits was then scaled as a whole. So
        may `dtype` and `bands`, of models that take 8 bits in grey or colour.
        """
        height, width = metadata["image_size"]
        values = metadata.get("value_range", SIXTEEN_BITS)
        return cls(
            (height, width),
            metadata["channels"],
            metadata.get("fit", "squeeze"),
            None if values is None else (float(values[0]), float(values[1])),
            metadata.get("dtype", "uint8"),
            tuple(metadata["bands"]) if metadata.get("bands") else None,
            metadata.get("band_count", 0),
        )

    @property
    def ordinary(self) -> bool:
        """Whether the arrays are grey or colour in 8 bits, as published networks know pictures."""
        return self.dtype == "uint8" and self.bands is None

    def plain(self) -> dict[str, Any]:
        """Return what `of` reads, as plain containers."""
        return {
            "image_size": list(self.image_size),
            "channels": self.channels,
            "fit": self.fit,
            "value_range": None if self.value_range is None else list(self.value_range),
            "dtype": self.dtype,
            "bands": None if self.bands is None else list(self.bands),
            "band_count": self.band_count,
        }

    def identity(self) -> dict[str, Any]:
        """Return the values that determine the pixels, as part of a cache entry's key.

        Those that leave them as they were before there was such a value are left out.
        """
        plain = self.plain()
        if self.value_range in (None, SIXTEEN_BITS):
            del plain["value_range"]
        if self.dtype == "uint8":
            del plain["dtype"]
        if self.bands is None:
            del plain["bands"], plain["band_count"]
        return plain


class PictureError(ValueError):
    """A picture cannot be decoded; the message says why, to be read after the picture's name."""


class NotReadHere(PictureError):
    """A picture's format is not read on this machine, for the lack of an optional package."""


class Header(NamedTuple):
    """The header of a picture file, read without decoding it."""

    height: int  # pixels, after the turn of the EXIF orientation
    width: int
    bands: int  # 1 of a grey picture, 3 of one in colour; transparency is none
    deep: bool  # pixels have more than 8 bits
    windowed: bool = False  # the file states what of these is black and white
    names: tuple[str, ...] = ()  # of the bands, where the file has them
    group: str = ""  # what pictures of one patient share; empty where nothing is known


def decode_picture(
    data: bytes | Path | Image.Image | NDArray[Any],
    form: PictureFormat,
    *,
    page: int = 0,
    display: bool = False,
) -> Pixels:
    """Return a picture as an array (channels, *image_size) of the format's dtype, from 0 to 255.

    Resizing is bicubic with antialiasing; a picture that already has the size keeps its pixels.
    Pictures are turned as EXIF says; what is transparent becomes white; pixels of more than 8 bits
    are scaled as the format says; colour profiles are ignored.

    Args:
        data: the bytes of a file, its path, an open picture, or an array as of `bands_of_array`.
        form: the format of the array.
        page: which picture of a file of several, from 0.
        display: show what there is: black and white of the file or of this picture alone, as
            `chosen_range` chooses them, and the first three of many bands.

    Raises:
        PictureError: it is no picture, damaged, cut short, too large, or has other bands than the
            format.
        MemoryError, OSError: memory or open files run short, which is no fault of the picture.
    """
    scale: ScaleBy = "own" if display else form.value_range
    with _decoder_errors():
        if isinstance(data, Image.Image):
            return _converted(data, form, scale)
        if isinstance(data, np.ndarray):
            return _of_array(data, form, scale)
        with _opened(data) as stream:
            image = _identified(stream, page)
            if isinstance(image, Raster):
                if image.nbytes <= _LARGE_BYTES:
                    return _of_raster(image, form, scale)
                with _LARGE_TURN:
                    return _of_raster(image, form, scale)
            if image.width * image.height > _LARGE_PIXELS:
                with _LARGE_TURN:
                    return _converted(image, form, scale)
            # Lets libjpeg decode at 1/2, 1/4 or 1/8; twice the size leaves antialiasing its work.
            # Which side will be the height is not known before the turn.
            longer = 2 * max(form.image_size)
            scaled_down = image.draft(None, (longer, longer))
            return _converted(image, form, scale, box=scaled_down[1] if scaled_down else None)


def thumbnail(path: Path | str, longest: int = 180, *, page: int = 0) -> NDArray[np.uint8]:
    """Return a picture file as (3, H, W) uint8, its longer side at most `longest` pixels.

    `page` is which picture of a file of several, from 0.

    Raises:
        PictureError: as `decode_picture`.
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        header = read_header(file, page)
    scale = min(1.0, longest / max(header.height, header.width))
    size = (max(1, round(header.height * scale)), max(1, round(header.width * scale)))
    return shown(decode_picture(Path(path), PictureFormat(size, 3), page=page, display=True))


def read_header(stream: BinaryIO, page: int = 0) -> Header:
    """Return size and pixel format of a picture in a file opened at its start.

    Raises:
        PictureError: it is no picture, or larger than 100 megapixels.
    """
    with _decoder_errors():
        image = _identified(stream, page)
        if isinstance(image, Raster):
            return Header(
                *(image.height, image.width, image.bands, image.deep),
                *(image.window is not None, image.names, image.group),
            )
        width, height = image.size
        # Pillow turns the size of a TIFF already when it opens it.
        if image.format != "TIFF" and _TURNS.get(_orientation(image)) in _ON_THEIR_SIDE:
            width, height = height, width
        return Header(height, width, 1 if image.mode in _GREY_MODES else 3, is_deep(image))


def count_pages(stream: BinaryIO) -> int:
    """Return how many pictures an open file has, each of which `page` may name.

    Raises:
        PictureError: it is no picture, or larger than 100 megapixels.
    """
    with _decoder_errors():
        image = _identified(stream)
        stream.seek(0)
        if stream.read(2) in (b"II", b"MM"):
            from tifffile import TiffFile

            stream.seek(0)
            pages: Any = TiffFile(stream).pages
            # Smaller versions and masks come after the pictures that they belong to.
            others = (n for n, page in enumerate(pages) if page.is_reduced or page.is_mask)
            return max(1, next(others, len(pages)))
        paged = not isinstance(image, Raster) and image.format in ("GIF", "WEBP", "PNG")
        return int(getattr(image, "n_frames", 1)) if paged else 1


def read_bounds(stream: BinaryIO, page: int = 0) -> ValueRange:
    """Return the smallest and largest pixel of a picture of more than 8 bits, in an open file.

    Raises:
        PictureError: it cannot be decoded.
    """
    with _decoder_errors():
        image = _identified(stream, page)
        if isinstance(image, Raster):
            return pixel_bounds(image.read())
        return pixel_bounds(_deep_values(image))


def _deep_values(image: Image.Image) -> NDArray[Any]:
    """Return the pixels (H, W) of a grey picture of more than 8 bits."""
    image.load()
    values = np.asarray(image)
    if image.mode == "I" and values.min() < 0 and has_no_sign(image):
        raise PixelError("has pixels of more than 31 bits; save it with 8 or 16 bits")
    return values


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


def _identified(stream: BinaryIO, page: int = 0) -> Image.Image | Raster:
    """Return a picture in `stream`, its header read and its size within bounds."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size == 0:
        raise PictureError("is empty (0 bytes)")
    if size > MAX_FILE_BYTES:
        raise PictureError(
            f"has {size / 1e6:,.0f} MB; the limit of a picture is {MAX_FILE_BYTES / 1e6:.0f} MB"
        )
    try:
        if (raster := open_raster(stream, page)) is not None:
            _check_pixels(raster.width * raster.height)
            if raster.nbytes > _MAX_BYTES:
                raise PictureError(
                    f"takes {raster.nbytes / 1e6:,.0f} MB in memory ({raster.bands} bands); the "
                    f"limit is {_MAX_BYTES / 1e6:.0f} MB"
                )
            return raster
        _check_pixels(_webp_pixels(stream), "WEBP")  # of which opening takes memory for all pixels
        image: Image.Image = Image.open(stream, formats=_FORMATS)
    except UnidentifiedImageError:
        stream.seek(0)
        start = stream.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in _HEIC_BRANDS:
            raise
        image = _opened_heic(stream)
    _check_pixels(image.width * image.height, image.format)
    if page:
        image.seek(page)
        _check_pixels(image.width * image.height, image.format)
    return image


def _check_pixels(pixels: int, kind: str | None = None) -> None:
    limit = _FEWER_PIXELS.get(kind or "", MAX_PIXELS)
    if pixels > limit:
        of_kind = f" of {kind}" if kind in _FEWER_PIXELS else ""
        raise PictureError(
            f"has {pixels / 1e6:.0f} megapixels; the limit{of_kind} is {limit / 1e6:.0f}"
        )


def _webp_pixels(stream: BinaryIO) -> int:
    """Return the pixels that the header of a WebP file states; 0 for other files."""
    start = stream.read(30)
    stream.seek(0)
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return 0
    if start[12:16] == b"VP8X":
        sides = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
    elif start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        sides = ((bits >> at & 0x3FFF) + 1 for at in (0, 14))
    else:
        sides = (int.from_bytes(start[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return math.prod(sides)


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
) -> Pixels:
    """Return the picture inside `box`, by default all, as an array."""
    if is_deep(image):
        values = _deep_values(image)
        turn = 1 if image.format == "TIFF" else _orientation(image)
        return _of_array(turned(values[:, :, None], turn), form, scale)
    image.load()
    # Asked after loading: Pillow turns a TIFF by itself.
    turn_by = _TURNS.get(_orientation(image))
    bands = 1 if image.mode in _GREY_MODES else 3
    _check_bands(bands, form)
    mode = "L" if (form.channels if form.bands is None else form.band_count) == 1 else "RGB"
    image = _on_white(image, mode) if image.has_transparency_data else image.convert(mode)
    height, width = form.image_size
    size = (height, width) if turn_by in _ON_THEIR_SIDE else (width, height)
    if image.size != size:
        image = _resized(image, size, form.fit, box or (0, 0, *image.size))
    if turn_by is not None:
        image = image.transpose(turn_by)
    pixels = np.array(image, np.uint8)
    pixels = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
    if form.bands is not None:
        pixels = pixels[[band - 1 for band in form.bands]]
    return np.ascontiguousarray(pixels, form.dtype)


def _of_array(values: NDArray[Any], form: PictureFormat, scale: ScaleBy) -> Pixels:
    """Return the picture of an array; four bands of 8 bits are RGB with opacity among others."""
    values = bands_of_array(values)
    if values.dtype == np.uint8 and values.shape[2] == 4 and form.bands is None:
        return _converted(Image.fromarray(np.ascontiguousarray(values)), form, scale)
    height, width, bands = values.shape
    return _of_raster(Raster(height, width, bands, values.dtype, lambda: values), form, scale)


def _of_raster(raster: Raster, form: PictureFormat, scale: ScaleBy) -> Pixels:
    """Return the bands of a picture that the format wants, each scaled and then resized."""
    if scale != "own":
        _check_bands(raster.bands, form)
    values = raster.read()
    used = None
    if raster.deep:
        bounds = pixel_bounds(values)
        real = values.dtype.kind == "f"
        used = black_and_white(bounds, scale, raster.window, real=real)
    wanted = [band - 1 for band in form.bands or ()]
    if form.bands is None:
        wanted = [0, 1, 2] if raster.bands >= 3 else [0] * form.channels
    size = form.image_size[1], form.image_size[0]
    planes = []
    for band in dict.fromkeys(wanted):
        plane = np.ascontiguousarray(values[:, :, band])
        if used is not None:
            plane = scaled(plane, used)
        if raster.inverted:
            plane = 255 - plane
        image = Image.fromarray(plane)
        if image.size != size:
            image = _resized(image, size, form.fit, (0, 0, *image.size))
        planes.append(np.asarray(image))
    pixels = np.stack([planes[list(dict.fromkeys(wanted)).index(band)] for band in wanted])
    if form.bands is None and form.channels == 1 and len(pixels) == 3:
        if pixels.dtype == np.uint8:  # in the whole numbers of Pillow
            pixels = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0).copy()).convert("L"))[
                None
            ]
        else:
            pixels = np.tensordot(_LUMINANCE, pixels, 1)[None]
    if pixels.dtype != np.uint8:  # resizing may go beyond both
        pixels = np.clip(pixels, 0, 255)
        pixels = np.floor(pixels + 0.5) if form.dtype == "uint8" else pixels
    return np.ascontiguousarray(pixels, form.dtype)


def _check_bands(bands: int, form: PictureFormat) -> None:
    """Refuse a picture of another number of bands than the format's."""
    if form.bands is not None and bands != form.band_count:
        raise PictureError(f"has {_counted(bands)}, where pictures of {form.band_count} are taken")
    if form.bands is None and bands not in (1, 3):
        raise PictureError(f"has {_counted(bands)}, where pictures of 1 or 3 are taken")


def _counted(bands: int) -> str:
    return "1 band" if bands == 1 else f"{bands} bands"


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
        grey = (_PADDING_GREY,) * 3 if image.mode == "RGB" else _PADDING_GREY
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
        if isinstance(error, MissingPackage):
            raise NotReadHere(str(error)) from None
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
