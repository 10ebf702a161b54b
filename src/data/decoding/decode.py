"""From a picture file of any supported format to an array (C, H, W).

Training and prediction both decode here, so they cannot differ.
"""

from __future__ import annotations

import io
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...machine.arrays import AnyArray, UInt8Array
from ...machine.text import counted
from ...records.pictures import Pixels, shown
from .depth import (
    ScaleBy,
    black_and_white,
    deep_values,
    has_white_as_zero,
    is_deep,
    pixel_bounds,
    scaled,
)
from .jpeg import Jpeg, read_jpeg
from .picture_files import (
    ON_THEIR_SIDE,
    PictureError,
    PictureFile,
    bands_of,
    decoder_errors,
    file_errors,
    open_picture,
    read_header,
)
from .picture_format import PictureFormat
from .rasters import Raster, bands_of_array, orientation_of, turned
from .resizing import fitted

__all__ = [
    "LARGE_PIXELS",
    "PADDING_GREY",
    "decode_picture",
    "opened_file",
    "padded",
    "shown_size",
    "thumbnail",
]

# Of larger pictures no more than one is decoded at a time: each takes up to a gigabyte meanwhile,
# and there may be as many threads as cores.
LARGE_PIXELS = 25_000_000
_LARGE_BYTES = 4 * LARGE_PIXELS
_LARGE_TURN = threading.Lock()
_BAND_PIXELS = 4_000_000
# What `pad` puts around a picture: close to 0 after normalisation, whatever the data.
PADDING_GREY = 128
# ITU-R 601, as Pillow and this project have it.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
# A photo is decoded at a fraction of its size if that is still so many times the one wanted, which
# leaves antialiasing its work.
_LEAST_SCALE = 2


def decode_picture(
    data: bytes | Path | PictureFile | Image.Image | Raster | AnyArray,
    form: PictureFormat,
    *,
    page: int = 0,
    display: bool = False,
) -> Pixels:
    """Return a picture as an array (channels, *image_size) of the format's dtype, from 0 to 255.

    With the fit "windows" its size is `PictureFormat.array_size`.

    Resizing is bicubic with antialiasing; a picture that already has the size keeps its pixels.
    Pictures are turned as EXIF says; what is transparent becomes white; pixels of more than 8 bits
    are scaled as the format says; colour profiles are ignored.

    Args:
        data: the bytes of a file, its path, the open file of several pictures, an open picture, a
            picture whose bands are known, or an array as of `bands_of_array`.
        form: the format of the array.
        page: which picture of a file of several, from 0.
        display: show what there is: black and white of the file or of this picture alone, as
            `chosen_range` chooses them, and the first three of many bands.

    Raises:
        PictureError: it is no picture, damaged, cut short, too large, or has other bands than the
            format.
        MemoryError, OSError: memory or open files run short, which is no fault of the picture.
    """
    if form.windowed:
        size = shown_size(data, page)
        own = replace(form, image_size=form.scaled_size(size), fit="squeeze")
        picture = decode_picture(data, own, page=page, display=display)
        return padded(picture, form.array_size(size), PADDING_GREY)
    scale: ScaleBy = "own" if display else form.value_range
    with decoder_errors():
        if isinstance(data, Image.Image):
            return _converted(data, form, scale)
        if isinstance(data, np.ndarray):
            return _of_array(bands_of_array(data, form.band_count), form, scale)
        if isinstance(data, Raster):
            return _of_array(data.read(), form, scale)
        if isinstance(data, PictureFile):
            return _of_file(data.open(page), form, scale)
        with opened_file(data) as stream:
            if page == 0 and (jpeg := _read_jpeg(stream, form)) is not None:
                pixels = _fitted(jpeg.pixels, form, jpeg.orientation)
                return _arranged(pixels, form, jpeg.orientation)
            return _of_file(open_picture(stream, page), form, scale)


def thumbnail(data: bytes | Path | str, longest: int = 180, *, page: int = 0) -> UInt8Array:
    """Return a picture file, or its bytes, as (3, H, W) uint8, its longer side at most `longest`.

    `page` is which picture of a file of several, from 0.

    Raises:
        PictureError, MemoryError, OSError: as `decode_picture`.
    """
    data = data if isinstance(data, bytes) else Path(data)
    height, width = shown_size(data, page)
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return shown(decode_picture(data, PictureFormat(size, 3), page=page, display=True))


def shown_size(
    data: bytes | Path | PictureFile | Image.Image | Raster | AnyArray, page: int = 0
) -> tuple[int, int]:
    """Return height and width of a picture as it is shown; arguments as of `decode_picture`.

    Raises:
        PictureError: it is no picture, or too large.
    """
    if isinstance(data, np.ndarray):
        return data.shape[0], data.shape[1]
    if isinstance(data, Raster):
        return data.height, data.width
    if isinstance(data, Image.Image):
        turned_over = orientation_of(data) in ON_THEIR_SIDE
        return (data.width, data.height) if turned_over else (data.height, data.width)
    if isinstance(data, PictureFile):
        header = read_header(data, page)
    else:
        with opened_file(data) as stream:
            header = read_header(stream, page)
    return header.height, header.width


def padded(array: AnyArray, size: tuple[int, int], fill: int) -> AnyArray:
    """Return an array (..., H, W) with values added below and on the right, up to `size`."""
    below, right = (wanted - own for wanted, own in zip(size, array.shape[-2:], strict=True))
    if not (below or right):
        return array
    around = [(0, 0)] * (array.ndim - 2) + [(0, below), (0, right)]
    return np.pad(array, around, constant_values=fill)


def opened_file(data: bytes | Path) -> BinaryIO:
    """Return the bytes of a file, or a file by its path, open for reading.

    Raises:
        PictureError, OSError: as `file_errors`.
    """
    if isinstance(data, bytes):
        return io.BytesIO(data)
    with file_errors():
        return data.open("rb")


def _of_file(image: Image.Image | Raster, form: PictureFormat, scale: ScaleBy) -> Pixels:
    """Return a picture whose pixels are still in its file, a large one when its turn comes."""
    if isinstance(image, Raster):
        with _LARGE_TURN if image.nbytes > _LARGE_BYTES else nullcontext():
            return _of_raster(image, form, scale)
    # Lets libjpeg decode at 1/2, 1/4 or 1/8.
    longer = _LEAST_SCALE * max(form.image_size)
    whole = image.width * image.height
    scaled_down = image.draft(None, (longer, longer))
    box = scaled_down[1] if scaled_down else None
    # Of a progressive JPEG libjpeg keeps the coefficients of all pixels whatever it decodes.
    in_memory = whole if image.info.get("progressive") else image.width * image.height
    with _LARGE_TURN if in_memory > LARGE_PIXELS else nullcontext():
        return _converted(image, form, scale, box and (box[3], box[2]))


def _read_jpeg(stream: BinaryIO, form: PictureFormat) -> Jpeg | None:
    """Return the pixels of a JPEG file that is to be decoded in its own size and colours."""
    if form.bands is not None:
        return None
    shortest = 2 * _LEAST_SCALE * max(form.image_size)
    jpeg = read_jpeg(stream, shortest=shortest, most_pixels=LARGE_PIXELS)
    if jpeg is None or jpeg.pixels.shape[2] > form.channels:  # Pillow makes grey of colour
        return None
    return jpeg


def _converted(
    image: Image.Image,
    form: PictureFormat,
    scale: ScaleBy,
    extent: tuple[float, float] | None = None,
) -> Pixels:
    """Return the picture, or what `extent` (height, width) of it takes, as an array."""
    if is_deep(image):
        values = deep_values(image)
        turn = 1 if image.format == "TIFF" else orientation_of(image)
        values = turned(values[:, :, None], turn)
        return _of_raster(Raster.of(values, inverted=has_white_as_zero(image)), form, scale)
    image.load()
    # Asked after loading: Pillow turns a TIFF by itself.
    orientation = orientation_of(image)
    _check_bands(bands_of(image), form)
    mode = "L" if (form.channels if form.bands is None else form.band_count) == 1 else "RGB"
    if image.mode == "LAB":  # of which Pillow makes no grey
        image = image.convert("RGB")
    if image.has_transparency_data:
        image = _on_white(image, mode)
    elif image.mode != mode:  # or it would be copied
        image = image.convert(mode)
    pixels = _fitted(image, form, orientation, extent)
    if form.bands is not None:
        pixels = pixels[:, :, [band - 1 for band in form.bands]]
    return _arranged(pixels, form, orientation)


def _fitted(
    picture: Image.Image | AnyArray,
    form: PictureFormat,
    orientation: int = 1,
    extent: tuple[float, float] | None = None,
) -> AnyArray:
    """Return a picture (H, W, C) in the format's size, before it is turned."""
    height, width = form.image_size
    size = (width, height) if orientation in ON_THEIR_SIDE else (height, width)
    whole_numbers = isinstance(picture, Image.Image) or picture.dtype == np.uint8
    resize = None if whole_numbers else _resized_numbers
    return fitted(picture, size, form.fit, extent, resize=resize, fill=PADDING_GREY)


def _resized_numbers(
    plane: AnyArray, size: tuple[int, int], extent: tuple[float, float] | None
) -> AnyArray:
    """Return what `resized_pixels` does, of a whole plane (H, W, 1) of float32."""
    image = Image.fromarray(np.ascontiguousarray(plane[:, :, 0]))
    return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))[:, :, None]


def _arranged(pixels: UInt8Array, form: PictureFormat, orientation: int) -> Pixels:
    """Return pixels (H, W, C) turned upright, with the channels first."""
    pixels = turned(pixels, orientation).transpose(2, 0, 1)
    if len(pixels) < form.channels:
        pixels = np.repeat(pixels, form.channels, axis=0)
    return np.ascontiguousarray(pixels, form.dtype)


def _of_array(values: AnyArray, form: PictureFormat, scale: ScaleBy) -> Pixels:
    """Return the picture of an array (H, W, C); four bands of 8 bits may be RGB with opacity."""
    if values.dtype == np.uint8 and values.shape[2] == 4 and form.bands is None:
        return _converted(Image.fromarray(np.ascontiguousarray(values)), form, scale)
    return _of_raster(Raster.of(values), form, scale)


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
    planes = {}
    for band in dict.fromkeys(wanted):
        plane = np.ascontiguousarray(values[:, :, [band]])
        if used is not None:
            plane = scaled(plane, used)
        if raster.inverted:
            plane = 255 - plane
        planes[band] = _fitted(plane, form)[:, :, 0]
    pixels = np.stack([planes[band] for band in wanted])
    if form.bands is None and form.channels == 1 and len(pixels) == 3:
        if pixels.dtype == np.uint8:  # in the whole numbers of Pillow
            grey = Image.fromarray(pixels.transpose(1, 2, 0).copy()).convert("L")
            pixels = np.asarray(grey)[None]
        else:
            pixels = np.tensordot(_LUMINANCE, pixels, 1)[None]
    if pixels.dtype != np.uint8:  # resizing may go beyond both
        pixels = np.clip(pixels, 0, 255)
        pixels = np.floor(pixels + 0.5) if form.dtype == "uint8" else pixels
    return np.ascontiguousarray(pixels, form.dtype)


def _check_bands(bands: int, form: PictureFormat) -> None:
    """Refuse a picture of another number of bands than the format's."""
    if form.bands is not None and bands != form.band_count:
        raise PictureError(
            f"has {counted(bands, 'band')}, where pictures of {form.band_count} are taken"
        )
    if form.bands is None and bands not in (1, 3):
        raise PictureError(f"has {counted(bands, 'band')}, where pictures of 1 or 3 are taken")


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
