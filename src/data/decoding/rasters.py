"""Pictures that Pillow does not read in full: arrays, many bands, 16 bits a colour, DICOM.

Each is opened by its header alone, so that its size is known before memory is taken for it.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...machine.arrays import AnyArray, UInt8Array
from ...storage.array_files import array_header
from .depth import PixelError, ValueRange

__all__ = [
    "NPY",
    "RASTER_ENDINGS",
    "MissingPackage",
    "Raster",
    "bands_of_array",
    "is_cut_after",
    "open_raster",
    "orientation_of",
    "tiff_pages",
    "turned",
]

RASTER_ENDINGS = frozenset((".npy", ".dcm", ".dicom"))
NPY = b"\x93NUMPY"  # what an array begins with
_PNG, _DICOM = b"\x89PNG\r\n\x1a\n", b"DICM"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_DESCRIPTION, _TIFF_ORIENTATION, _GDAL_METADATA = 270, 274, 42112
_GDAL_NAME = re.compile(r'<Item name="DESCRIPTION" sample="(\d+)"[^>]*>([^<]*)</Item>')
# What a TIFF says of a sample beyond its colours that is transparency, and no band.
_ALPHA = ([1], [2])
_COLOURS = {0: 1, 1: 1, 2: 3}  # samples of white-is-zero, black-is-zero and RGB
# Of a single band: Pillow reads a sign as 128 or more, and the others not at all.
_NOT_OF_PILLOW = frozenset(map(np.dtype, ("int8", "int64", "uint64", "float16", "float64")))
# Colour types of PNG, of which Pillow reads the upper 8 of 16 bits.
_PNG_COLOUR, _PNG_GREY_ALPHA, _PNG_COLOUR_ALPHA = 2, 4, 6
_EXIF_ORIENTATION = 0x0112


class MissingPackage(PixelError):
    """A picture is not read on this machine, for the lack of an optional package."""


@dataclass(frozen=True)
class Raster:
    """A picture that is opened, and not yet read.

    Attributes:
        height, width, bands: of the array, after the turn that the file asks for.
        dtype: of the pixels.
        read: returns the pixels, (height, width, bands).
        names: of the bands, where the file has them.
        window: black and white as the file states them; None where it does not.
        inverted: whether the least value is white.
        group: what the pictures of one patient share; empty where nothing is known.
    """

    height: int
    width: int
    bands: int
    dtype: np.dtype[Any]
    read: Callable[[], AnyArray]
    names: tuple[str, ...] = ()
    window: ValueRange | None = None
    inverted: bool = False
    group: str = ""

    @classmethod
    def of(cls, values: AnyArray, *, inverted: bool = False) -> Raster:
        """Return the picture of pixels (height, width, bands) that are in memory already."""
        height, width, bands = values.shape
        return cls(height, width, bands, values.dtype, lambda: values, inverted=inverted)

    @property
    def deep(self) -> bool:
        """Whether pixels have more than 8 bits."""
        return self.dtype != np.uint8

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels in memory."""
        return self.height * self.width * self.bands * self.dtype.itemsize


def tiff_pages(stream: BinaryIO) -> Any:
    """Return the pages of a TIFF file, for `open_raster`; None of another, or without tifffile."""
    stream.seek(0)
    if not stream.read(4).startswith(_TIFF):
        return None
    try:
        from tifffile import TiffFile
    except ImportError:  # where a model of 8 bits is served, which has no use for it
        return None
    # What is wrong with a page is said of the picture that it is.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    stream.seek(0)
    return TiffFile(stream).pages


def is_cut_after(pages: Any) -> bool:
    """Return whether the last of the pages of a TIFF file names a further one, which is not there.

    Args:
        pages: as of `tiff_pages`.
    """
    last = pages[len(pages) - 1]
    file, form = last.parent.filehandle, last.parent.tiff
    file.seek(last.offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(last.offset + form.tagnosize + tags * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    return int(following) >= file.size


def open_raster(stream: BinaryIO, page: int = 0, pages: Any = None) -> Raster | None:
    """Return the picture in a file opened at its start; None where Pillow reads all of it.

    Args:
        stream: of the file.
        page: that of a TIFF file, from 0.
        pages: as of `tiff_pages`, where they are known already.

    Raises:
        PixelError: the file holds no picture, or none of a kind that is read.
        MissingPackage: an optional package is needed.
    """
    start = stream.read(132)
    stream.seek(0)
    if start.startswith(NPY):
        return _npy(stream)
    if start.startswith(_PNG):
        return _png(stream, start)
    if start.startswith(_TIFF):
        pages = tiff_pages(stream) if pages is None else pages
        if pages is not None and page and page >= len(pages):
            raise PixelError("is cut short")
        return None if pages is None else _tiff(pages[page])
    return _dicom(stream) if start[128:] == _DICOM else None


def bands_of_array(values: AnyArray, expected: int = 0) -> AnyArray:
    """Return an array (H, W), (H, W, C) or (C, H, W) as (H, W, C).

    The bands come first where that side is shorter than the last one, unless the last one is as
    long as `expected` and the first one is not. Booleans become 0 and 255.

    Raises:
        PixelError: it has another number of dimensions, is empty, or holds no numbers.
    """
    *_, bands, first = _sides(values.shape)
    if values.dtype.kind not in "buif":
        raise PixelError(f"is an array of {values.dtype}, and not of whole or real numbers")
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if first and not values.shape[2] == expected != bands:
        return values.transpose(1, 2, 0)
    return values if values.ndim == 3 else values[:, :, None]


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int, bool]:
    """Return height, width, number of bands, and whether the bands come first."""
    named = "x".join(map(str, shape)) or "a single number"
    if len(shape) not in (2, 3):
        raise PixelError(f"is an array of {named}: HxW or HxWxC is needed")
    if 0 in shape:
        raise PixelError(f"is an empty array of {named}")
    if len(shape) == 2:
        return shape[0], shape[1], 1, False
    if shape[0] < shape[2]:
        return shape[1], shape[2], shape[0], True
    return shape[0], shape[1], shape[2], False


def _npy(stream: BinaryIO) -> Raster:
    shape, dtype = array_header(stream)
    if dtype.hasobject:
        raise PixelError("holds Python objects, which are not read: save an array of numbers")
    height, width, bands, _ = _sides(shape)
    if dtype.kind not in "buif":
        raise PixelError(f"is an array of {dtype}, and not of whole or real numbers")

    def values() -> AnyArray:
        stream.seek(0)
        found: AnyArray = np.load(stream, allow_pickle=False)
        return bands_of_array(found)

    return Raster(height, width, bands, np.dtype(np.uint8) if dtype.kind == "b" else dtype, values)


def _png(stream: BinaryIO, start: bytes) -> Raster | None:
    """Return a PNG of 16 bits of which Pillow reads 8; None for any other."""
    width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
    if bits != 16 or kind not in (_PNG_COLOUR, _PNG_GREY_ALPHA, _PNG_COLOUR_ALPHA):
        return None
    stream.seek(0)
    # Without such a block, Pillow would decode the picture to look for one at its end.
    turn = orientation_of(Image.open(stream, formats=("PNG",))) if b"eXIf" in stream.read() else 1

    def values() -> AnyArray:
        found: AnyArray
        if kind == _PNG_GREY_ALPHA:
            found = _png_grey_alpha(stream)
        else:
            upper, lower = (_png_bytes(stream, order) for order in ("B", "L"))
            found = (upper.astype(np.uint16) << 8) | lower
        return turned(found if kind == _PNG_COLOUR else _on_white(found), turn)

    if turn >= 5:
        height, width = width, height
    bands = 1 if kind == _PNG_GREY_ALPHA else 3
    return Raster(height, width, bands, np.dtype(np.uint16), values)


def _png_grey_alpha(stream: BinaryIO) -> NDArray[np.uint16]:
    """Return grey and opacity (H, W, 2) of 16 bits, read as four bytes: RGB and opacity of 8."""
    stream.seek(0)
    data = bytearray(stream.read())
    data[24:26] = 8, _PNG_COLOUR_ALPHA
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    return np.ascontiguousarray(image).view(">u2").astype(np.uint16)


def _png_bytes(stream: BinaryIO, order: str) -> UInt8Array:
    """Return the first or the second byte of each colour ("B" or "L", the order of the bytes).

    Pillow keeps the upper byte of two; taken in the other order, the lower one.
    """
    stream.seek(0)
    image = Image.open(stream, formats=("PNG",))
    image.tile = [tile._replace(args=f"{image.mode};16{order}") for tile in image.tile]
    return np.asarray(image)


def _on_white(values: AnyArray, white: int = 65535) -> NDArray[np.uint16]:
    """Return colours (H, W, C) of (H, W, C + 1), the last one being their opacity."""
    share = values[:, :, -1:].astype(np.float32) / 65535
    mixed = values[:, :, :-1] * share + white * (1 - share)
    return np.rint(mixed).astype(np.uint16)


def _tiff(page: Any) -> Raster | None:
    """Return a page that has bands, more than 8 bits a colour, or numbers that Pillow misreads."""
    from tifffile import COMPRESSION

    # In a damaged file they may be pairs, and a pair times a height takes all memory.
    samples, photometric = int(page.samplesperpixel), int(page.photometric)
    colours = _COLOURS.get(photometric)
    if colours is None or (samples == 1 and page.dtype not in _NOT_OF_PILLOW):
        return None
    alpha = samples == colours + 1 and [*map(int, page.extrasamples)] in _ALPHA
    if page.dtype == np.uint8 and (samples == colours or alpha):
        return None
    if page.dtype is None or page.dtype.kind not in "uif":
        raise PixelError("has pixels that are no numbers of 8, 16, 32 or 64 bits")
    if page.axes not in ("YX", "YXS", "SYX"):
        raise PixelError(f"has the axes {page.axes}, and only rows, columns and bands are read")
    turn = int(page.tags.valueof(_TIFF_ORIENTATION, default=1))
    height, width = int(page.imagelength), int(page.imagewidth)
    bands = colours if alpha else samples
    inverted = photometric == 0 and bands == 1

    def values() -> AnyArray:
        try:
            found: AnyArray = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise MissingPackage(
                    f"is compressed by {COMPRESSION(page.compression).name}, which needs the "
                    "package imagecodecs (make install EXTRAS=tiff, or pip install imagecodecs)"
                ) from None
            raise
        found = found.transpose(1, 2, 0) if page.axes == "SYX" else np.atleast_3d(found)
        if alpha and found.dtype == np.uint16:
            found = _on_white(found, 0 if inverted else 65535)
        return turned(found[:, :, :bands], turn)

    if turn >= 5:
        height, width = width, height
    names = _tiff_names(page, bands)
    return Raster(height, width, bands, page.dtype, values, names, inverted=inverted)


def _tiff_names(page: Any, bands: int) -> tuple[str, ...]:
    """Return the names of the bands in GDAL's metadata or in the description; () for none."""
    items = dict(_GDAL_NAME.findall(str(page.tags.valueof(_GDAL_METADATA, default=""))))
    if len(items) == bands:
        return tuple(items[number].strip() for number in sorted(items, key=int))
    text = str(page.tags.valueof(_TIFF_DESCRIPTION, default=""))
    try:
        stated = json.loads(text)
        listed = stated.get("bands") if isinstance(stated, dict) else stated
    except ValueError:
        listed = re.split(r"[,;\n]", text)
    if isinstance(listed, list) and len(listed) == bands:
        names = tuple(str(name).strip() for name in listed)
        return names if all(names) and len(set(names)) == bands else ()
    return ()


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (none) to 8; 1 where the EXIF block is damaged."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def turned(values: AnyArray, orientation: int) -> AnyArray:
    """Return pixels (H, W, ...) as an orientation of EXIF or TIFF, 1 (none) to 8, wants them.

    Pillow's `exif_transpose` also rewrites the metadata, and fails where they are damaged.
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _dicom(stream: BinaryIO) -> Raster:
    try:
        import pydicom
        from pydicom.pixels import apply_rescale, get_decoder
    except ImportError:
        raise MissingPackage(
            "is DICOM, which needs the package pydicom (make install EXTRAS=dicom, or pip install "
            "pydicom)"
        ) from None
    header = pydicom.dcmread(stream, stop_before_pixels=True)
    kind = str(header.get("PhotometricInterpretation", ""))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise PixelError(
            f"is DICOM of the kind {kind or 'without pixels'}; MONOCHROME1 and 2 are read"
        )
    syntax = header.file_meta.get("TransferSyntaxUID")
    if (
        syntax is not None
        and syntax.is_compressed
        and not (codec := get_decoder(syntax)).is_available
    ):
        needed = " or ".join(one.partition(" requires ")[2] for one in codec.missing_dependencies)
        raise MissingPackage(f"is DICOM in {syntax.name}, which needs {needed} (pip install)")
    frames = int(header.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise PixelError(f"is DICOM of {frames} frames; save each as a file of its own")

    def values() -> AnyArray:
        stream.seek(0)
        whole = pydicom.dcmread(stream)
        found: AnyArray = apply_rescale(whole.pixel_array, whole)
        return found.astype(np.float32)[:, :, None]

    return Raster(
        int(header.Rows),
        int(header.Columns),
        1,
        np.dtype(np.float32),
        values,
        window=_window(header),
        inverted=kind == "MONOCHROME1",
        group=str(header.get("PatientID", "") or ""),
    )


def _window(header: Any) -> ValueRange | None:
    """Return the first window of a DICOM file, as the values that become black and white.

    DICOM PS3.3, C.11.2.1.2: linear, from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2.
    """
    centre, width = (_first(header.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    exact = str(header.get("VOILUTFunction", "") or "LINEAR") == "LINEAR_EXACT"
    middle, reach = (centre, width / 2) if exact else (centre - 0.5, (width - 1) / 2)
    return (middle - reach, middle + reach) if reach > 0 else None


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(
            value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value
        )
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None
