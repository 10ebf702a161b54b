"""The format that suits a set of pictures: its size, channels or bands, and black and white."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...config.checks import ConfigError
from ...config.data import DataSettings
from ...machine.arrays import Int64Array
from ...machine.text import counted
from ..quality.audit import Survey
from ..sources.source import Source
from .depth import ValueRange, chosen_range
from .picture_files import PictureError, read_header
from .picture_format import PictureFormat
from .picture_store import picture

__all__ = ["chosen_format", "chosen_size"]

# The size for a model that has none of its own: 128x128 pixels, or as many in other proportions. A
# network from scratch takes time in proportion to them, and gains little from more.
_LARGEST_AREA = 128 * 128
_LEAST_SIDE = 8
_GREY_SIDE = 64
_GREY_SAMPLE = 64
# Differences between red, green and blue that the compression of a grey photo leaves.
_GREY_TOLERANCE = 8


def chosen_format(
    source: Source, found: Survey, settings: DataSettings, native_side: int | None
) -> PictureFormat:
    """Return the format that settings state and, where they state nothing, what suits the pictures.

    That is grey if a sample of them shows no colour, all bands where they have others than colours,
    float32 where some have more than 8 bits, and the range of values that `chosen_range` makes of
    the train part where parts are given, else of all.

    Args:
        source: of N pictures.
        found: its audit, with a usable picture.
        settings: the format, as far as they state it.
        native_side: as of `chosen_size`.

    Raises:
        ConfigError: pictures differ in their number of bands, or lack one that is asked for.
    """
    sizes = np.delete(found.sizes, sorted(found.reasons), axis=0)
    values: ValueRange | None
    if settings.value_range is None:
        values = _found_range(source, found)
    else:
        values = settings.value_range[0], settings.value_range[1]
    bands, count = _chosen_bands(source, found, settings)
    channels = settings.channels or 0
    if bands is not None:
        channels = len(bands)
    return PictureFormat(
        image_size=chosen_size(sizes, settings.image_size, native_side),
        channels=channels or _chosen_channels(source, found, values),
        fit=settings.fit,
        value_range=values,
        dtype="uint8" if np.isnan(found.bounds).all() else "float32",
        bands=bands,
        band_count=count,
        scale=settings.scale,
    )


def chosen_size(
    sizes: Int64Array, wanted: int | Sequence[int] | None, native_side: int | None
) -> tuple[int, int]:
    """Return the (H, W) that pictures are decoded to.

    Args:
        sizes: (N, 2) height and width in pixels of the usable ones, N at least 1.
        wanted: (H, W) or the side of a square; None for a size that suits model and pictures.
        native_side: side in pixels of the square that the model was made for. Pictures that are
            smaller keep their own size where they agree in it, and the model magnifies them. None
            for a model that takes any size: the pictures' own where they agree, else a square of
            their median shorter side, in both cases of 128x128 pixels at most.
    """
    if isinstance(wanted, int):
        return wanted, wanted
    if wanted is not None:
        height, width = wanted
        return height, width
    height, width = (int(side) for side in sizes[0])
    alike = bool((sizes == sizes[0]).all()) and min(height, width) >= _LEAST_SIDE
    shorter = max(_LEAST_SIDE, int(np.median(sizes.min(axis=1))))
    if native_side is not None:
        own = alike and max(height, width) <= native_side
        return (height, width) if own else (min(shorter, native_side),) * 2
    if not alike:
        return (min(shorter, math.isqrt(_LARGEST_AREA)),) * 2
    scale = min(1.0, math.sqrt(_LARGEST_AREA / (height * width)))
    return max(_LEAST_SIDE, round(height * scale)), max(_LEAST_SIDE, round(width * scale))


def _found_range(source: Source, found: Survey) -> ValueRange | None:
    """Black and white of more than 8 bits, of what may train as far as that is known."""
    training = np.ones(len(source), np.bool_)
    if source.given_parts is not None:
        training = source.given_parts == "train"
    training[sorted(found.reasons)] = False
    bounds = found.bounds_to_scale(np.flatnonzero(training))
    return None if bounds is None else chosen_range(bounds)


def _chosen_bands(
    source: Source, found: Survey, settings: DataSettings
) -> tuple[tuple[int, ...] | None, int]:
    """Return the bands of a file that are read, and how many it has; None for grey or colour."""
    kinds = {
        int(bands): source.sample_name(int(np.flatnonzero(found.bands == bands)[0]))
        for bands in np.unique(found.bands[found.bands > 0])
    }
    if settings.bands is None and set(kinds) <= {1, 3}:
        return None, 0
    if settings.channels is not None:
        raise ConfigError(
            f"data.channels is {settings.channels}, for pictures in grey or colour; of other bands "
            "data.bands says which are read: leave data.channels out."
        )
    if len(kinds) > 1:
        (one, first), (other, second) = sorted(kinds.items())[:2]
        raise ConfigError(
            f"{second} has {other} bands and {first} has {one}: all pictures of a "
            "set must have the same bands; take out or convert those of the other kind."
        )
    (count,) = kinds
    if settings.bands is None:
        return tuple(range(1, count + 1)), count
    names = settings.band_names or _names_in_file(source, found)
    if settings.band_names is not None and len(settings.band_names) != count:
        raise ConfigError(
            f"data.band_names has {len(settings.band_names)} names, and {kinds[count]} has "
            f"{count} bands."
        )
    return tuple(_number(band, names, count, kinds[count]) for band in settings.bands), count


def _names_in_file(source: Source, found: Survey) -> Sequence[str]:
    """Return the names of the bands that the first usable file states."""
    if source.arrays is not None:
        return ()
    first = next(index for index in range(len(source)) if index not in found.reasons)
    with source.open(first) as stream:
        return read_header(stream).names


def _number(band: int | str, names: Sequence[str], count: int, file: str) -> int:
    """Return the place of a band, from 1."""
    if isinstance(band, str):
        known = {name.casefold(): place for place, name in enumerate(names, start=1)}
        if band.casefold() in known:
            return known[band.casefold()]
        have = ", ".join(names) or "none; data.band_names=[NAME,NAME,...] names them"
        raise ConfigError(f"data.bands: there is no band {band!r} in {file}: its names are {have}.")
    if band > count:
        raise ConfigError(f"data.bands: {file} has {counted(count, 'band')}, and no band {band}.")
    return band


def _chosen_channels(source: Source, found: Survey, values: ValueRange | None) -> int:
    """1 if no picture of an even sample shows a colour. Most sets are decided by the first."""
    small = PictureFormat((_GREY_SIDE, _GREY_SIDE), 3, value_range=values)
    coloured = [i for i in np.flatnonzero(found.bands == 3).tolist() if i not in found.reasons]
    step = max(1, len(coloured) // _GREY_SAMPLE)
    for index in coloured[::step]:
        try:
            image = picture(source, index, small)
        except PictureError:
            continue
        if (image.max(axis=0) - image.min(axis=0)).max() > _GREY_TOLERANCE:
            return 3
    return 1
