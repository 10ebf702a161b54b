"""Picture files: which are read, what their headers say, and why one is refused.

A file is opened by its header, within limits of memory; `decode` reads its pixels.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, cast

from PIL import Image, UnidentifiedImageError

from ...machine.disk import OF_THE_PROCESS
from .depth import PixelError, ValueRange, deep_values, is_deep, pixel_bounds
from .rasters import (
    RASTER_ENDINGS,
    MissingPackage,
    Raster,
    is_cut_after,
    open_raster,
    orientation_of,
    tiff_pages,
)
from .videos import Video, container_of

__all__ = [
    "MAX_FILE_BYTES",
    "NO_PICTURE",
    "ON_THEIR_SIDE",
    "PICTURE_ENDINGS",
    "Header",
    "NotReadHere",
    "PictureError",
    "PictureFile",
    "bands_of",
    "check_size",
    "decoder_errors",
    "file_errors",
    "open_picture",
    "opened_by_pillow",
    "pages_of",
    "read_bounds",
    "read_header",
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
# Bytes by which videos and HEIC are known.
_START = 12
_MAX_PIXELS = 100_000_000
# Decoders of these take 16 and 25 bytes a pixel, and those of others 4 to 8: a gigabyte each.
_FEWER_PIXELS = {"WEBP": 64_000_000, "JPEG2000": 40_000_000}
# The longest side that a JPEG can have. To make a side of millions of pixels smaller, Pillow first
# writes down which of them each pixel of the result is made of: 50 bytes and more each.
_MAX_SIDE = 65_535
# The largest pixels that a file may have are of 4 colours of 16 bits, and few are not compressed.
MAX_FILE_BYTES = 500_000_000
# The pixels of an array or of many bands are in memory as a whole.
_MAX_BYTES = 8 * _MAX_PIXELS
# How often a picture's file is read from until its header is known. Pillow reads some headers byte
# by byte: of a comment of 37 MB for seconds, while nothing else in the process runs.
_HEADER_READS = 50_000
# Why a file is refused in which nothing is recognised.
NO_PICTURE = "is no picture, or of a kind that is not read"
# Pillow warns about large pictures, for which the limit above stands, and about damaged metadata,
# which is not used; neither time does it say which file it means.
warnings.filterwarnings("ignore", module=r"PIL\.")

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
# Orientations that make the height of what is stored the width of what is seen.
ON_THEIR_SIDE = (5, 6, 7, 8)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
# How a pointer of Git LFS begins.
_LFS = b"version https://git-lfs.github.com/"
# How Pillow words a decoder's IMAGING_CODEC_MEMORY.
_NO_MEMORY_IN_DECODER = "out of memory when reading image file"


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


def read_header(file: BinaryIO | PictureFile, page: int = 0) -> Header:
    """Return size and pixel format of a picture in an open file.

    Raises:
        PictureError: it is no picture, or larger than 100 megapixels.
    """
    with decoder_errors():
        file = file if isinstance(file, PictureFile) else PictureFile(file)
        if file.video is not None:
            page = file.video.last  # all frames are of one size
        image = file.open(page)
        if isinstance(image, Raster):
            return Header(
                image.height,
                image.width,
                image.bands,
                image.deep,
                windowed=image.window is not None,
                names=image.names,
                group=image.group,
            )
        width, height = image.size
        # Pillow turns the size of a TIFF already when it opens it.
        if image.format != "TIFF" and orientation_of(image) in ON_THEIR_SIDE:
            width, height = height, width
        return Header(height, width, bands_of(image), is_deep(image))


def pages_of(stream: BinaryIO, *, all_pages: bool, frames: int | None) -> range:
    """Return which pages of a file that is opened at its start are pictures of their own.

    Args:
        stream: of the file.
        all_pages: whether they are all, of other files than videos; else the first.
        frames: of a video, every so manyth frame is one; None for the first alone.

    Raises:
        PictureError: it is no picture, or larger than 100 megapixels.
    """
    with decoder_errors():
        file = PictureFile(stream)
        if file.video is not None:
            return range(0, len(file.video), frames) if frames else range(1)
        return range(_count_pages(file) if all_pages else 1)


def _count_pages(file: PictureFile) -> int:
    """Return how many pictures a file has, each of which `page` may name.

    Of one that was cut after a page, the first that is lost is counted too, so that it is named.
    """
    image, pages = file.open(), file.tiff_pages
    if pages is not None:
        # Smaller versions and masks come after the pictures that they belong to.
        others = (n for n, page in enumerate(pages) if page.is_reduced or page.is_mask)
        first = next(others, None)
        return len(pages) + is_cut_after(pages) if first is None else max(1, first)
    paged = not isinstance(image, Raster) and image.format in ("GIF", "WEBP", "PNG")
    return int(getattr(image, "n_frames", 1)) if paged else 1


def read_bounds(file: BinaryIO | PictureFile, page: int = 0) -> ValueRange:
    """Return the smallest and largest pixel of a picture of more than 8 bits, in an open file.

    Raises:
        PictureError: it cannot be decoded.
    """
    with decoder_errors():
        image = open_picture(file, page)
        if isinstance(image, Raster):
            return pixel_bounds(image.read())
        return pixel_bounds(deep_values(image))


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


class PictureFile:
    """A file of one picture or several, open for them to be opened one after another.

    What is found on the way to a page is kept for the next: pages are best asked for in order.

    Attributes:
        tiff_pages: as of `tiff_pages`, once a page was opened.

    Raises:
        PictureError: the file is empty, too large, or a pointer of Git LFS.
    """

    def __init__(self, stream: BinaryIO) -> None:
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            raise PictureError("is empty (0 bytes)")
        stream.seek(0)
        if stream.read(len(_LFS)) == _LFS:
            raise PictureError(
                "is a pointer of Git LFS and not the picture (git lfs pull fetches it)"
            )
        if size > MAX_FILE_BYTES:
            raise PictureError(
                f"has {size / 1e6:,.0f} MB; the limit of a picture is {MAX_FILE_BYTES / 1e6:.0f} MB"
            )
        self.stream = stream
        self._image: Image.Image | None = None
        self.tiff_pages: Any = None
        self._video: Video | None = None

    @property
    def video(self) -> Video | None:
        """The video that the file is; None of another file."""
        if self._video is None:
            self.stream.seek(0)
            if container := container_of(self.stream.read(_START)):
                self._video = Video(self.stream, container)
        return self._video

    def open(self, page: int = 0) -> Image.Image | Raster:
        """Return a picture, its header read and its size within bounds.

        `page` is which picture of a file of several, or frame of a video, from 0.

        Raises:
            PictureError: it is too large; and what Pillow, `open_raster` and others raise, which
                `decoder_errors` turns into one.
        """
        if self._image is None:
            if self.video is not None:
                return self.video.frame(page, max_pixels=_MAX_PIXELS)
            if self.tiff_pages is None:
                self.tiff_pages = tiff_pages(self.stream)
        if (raster := self._raster(page)) is not None:
            return raster
        if self._image is None:
            image = opened_by_pillow(self.stream)
            check_size(image.width, image.height, image.format)
            self._image = image
        image = self._image
        if image.tell() != page:
            image.seek(page)
            check_size(image.width, image.height, image.format)
        return image

    def _raster(self, page: int) -> Raster | None:
        if self._image is not None and self.tiff_pages is None:
            return None  # as was found before
        self.stream.seek(0)
        raster = open_raster(self.stream, page, self.tiff_pages)
        if raster is not None:
            check_size(raster.width, raster.height)
            if raster.nbytes > _MAX_BYTES:
                raise PictureError(
                    f"takes {raster.nbytes / 1e6:,.0f} MB in memory ({raster.bands} bands); the "
                    f"limit is {_MAX_BYTES / 1e6:.0f} MB"
                )
        return raster


def open_picture(file: BinaryIO | PictureFile, page: int = 0) -> Image.Image | Raster:
    """Return a picture in an open file, as `PictureFile.open` does."""
    return (file if isinstance(file, PictureFile) else PictureFile(file)).open(page)


class _Counted:
    """A stream that refuses to be read from more than `left` times."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.left: float = _HEADER_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise PictureError(
                "has too much before its pixels (comments, or other data that is not used)"
            )
        return self._stream.read(-1 if size is None else size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def opened_by_pillow(stream: BinaryIO) -> Image.Image:
    """Return what Pillow opens, its header read; it raises what Pillow does, and PictureError."""
    counted = _Counted(stream)
    image = _header_read(cast(BinaryIO, counted))
    counted.left = math.inf  # its pixels, and further pictures, are as many as they are
    return image


def _header_read(stream: BinaryIO) -> Image.Image:
    stream.seek(0)
    start = stream.read(_START)
    stream.seek(0)
    check_size(*_webp_size(stream), "WEBP")  # of which opening takes memory for all pixels
    try:
        return Image.open(stream, formats=_FORMATS)
    except ValueError:  # Pillow refuses texts and profiles of a megabyte and more
        if (bare := _png_without_texts(stream)) is None:
            raise
        return Image.open(bare, formats=("PNG",))
    except UnidentifiedImageError:
        if start[4:8] != b"ftyp" or start[8:] not in _HEIC_BRANDS:
            raise
        return _opened_heic(stream)


def _webp_size(stream: BinaryIO) -> tuple[int, int]:
    """Return the width and height that the header of a WebP file states; 0, 0 for other files."""
    start = stream.read(30)
    stream.seek(0)
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return 0, 0
    if start[12:16] == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
    elif start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        width, height = ((bits >> at & 0x3FFF) + 1 for at in (0, 14))
    else:
        width, height = (int.from_bytes(start[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return width, height


def _png_without_texts(stream: BinaryIO) -> BinaryIO | None:
    """Return a PNG file without its texts and its colour profile; None for another file.

    Nothing of them is used, and Pillow opens no file in which they take a megabyte or more.
    """
    stream.seek(0)
    if stream.read(len(_PNG)) != _PNG:
        return None
    kept = io.BytesIO()
    kept.write(_PNG)
    while len(head := stream.read(8)) == 8:
        rest = int.from_bytes(head[:4], "big") + 4  # and a checksum
        if head[4:] in _PNG_TEXTS:
            stream.seek(rest, os.SEEK_CUR)
        else:
            kept.write(head + stream.read(rest))
    return kept


def check_size(width: int, height: int, kind: str | None = None) -> None:
    """Raise a PictureError for a picture of too many pixels, or with too long a side.

    Args:
        width, height: in pixels.
        kind: of the file, as Pillow names it; some have a limit of their own.
    """
    pixels = width * height
    limit = _FEWER_PIXELS.get(kind or "", _MAX_PIXELS)
    if pixels > limit:
        of_kind = f" of {kind}" if kind in _FEWER_PIXELS else ""
        raise PictureError(
            f"has {pixels / 1e6:.0f} megapixels; the limit{of_kind} is {limit / 1e6:.0f}"
        )
    if max(width, height) > _MAX_SIDE:
        raise PictureError(
            f"has {height:,}x{width:,} pixels (height x width); the limit of a side is "
            f"{_MAX_SIDE:,}: cut it into pieces"
        )


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


def bands_of(image: Image.Image) -> int:
    """Return 1 of an open grey picture and 3 of one in colour; transparency is no band."""
    return 1 if image.mode in _GREY_MODES else 3


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Turn a library's error into the `PictureError` that it means, unless it is no picture's.

    Raises:
        MemoryError, OSError: memory or open files run short.
    """
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
        return NO_PICTURE
    if isinstance(error, Image.DecompressionBombError):
        return f"is larger than {_MAX_PIXELS / 1e6:.0f} megapixels"
    # The message may quote what stands in the file.
    words = " ".join(str(error).split()) or type(error).__name__
    detail = "".join(letter if letter.isprintable() else "?" for letter in words)
    if "truncated" in detail.lower() or "not enough" in detail:
        return "is cut short"
    return f"is damaged ({detail})"
