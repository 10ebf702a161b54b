"""The pictures of a source as one verified array, decoded once and shared by every process."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from src.config.checks import ConfigError
from src.data.decoding.decode import PictureError, PictureFormat, looks_grey
from src.data.decoding.decoded import ContentChanged, decoded, picture
from src.data.decoding.depth import ValueRange, chosen_range, unused_depth
from src.data.quality.audit import Survey, copies, survey
from src.data.sources.source import Problem, Source
from src.machine.parallel import available_cores
from src.storage.cache import check_again, shortage

__all__ = ["PictureOptions", "PictureStore", "chosen_size", "open_pictures"]

_log = logging.getLogger(__name__)

_NAMED = 20
# The size for a model that has none of its own: 128x128 pixels, or as many in other proportions. A
# network from scratch takes time in proportion to them, and gains little from more.
_LARGEST_AREA = 128 * 128
_SMALLEST = 8
_GREY_SIDE = 64
_GREY_SAMPLE = 64


@dataclass(frozen=True, eq=False)
class PictureStore:
    """The N usable pictures of a source, decoded, with their labels.

    A store can be pickled; the array is then mapped anew where it arrives, not sent.

    Attributes:
        name: the data set's name.
        images: (N, C, H, W) uint8, read-only; None if too large, then there is only `read`.
        targets: (N,) int64 in [0, K).
        class_names: K names.
        content_hashes: (N,) bytes, 32 hexadecimal digits: hash of the file's bytes or of the array
            row, the same for every image size.
        sample_paths: N posix paths, as the source lists them; None for sets that come as arrays.
        given_parts: (N,) of "train" | "val" | "test"; None where the set brings no parts.
        groups: N names; None where there are none.
        original_sizes: (N, 2) int64, height and width in pixels before any resizing.
        format: that they are decoded to; `image_size` and `channels` are its own.
        problems: faults of single pictures, those of pictures that were left out included.
        fingerprint: 32 hexadecimal digits: hash of the pictures with their labels, whatever their
            order, names and place.
        from_cache: whether the array was found decoded.
        source: where the pictures come from, reduced to these; not pickled with an array.
        pixel_bounds: (N, 2) smallest and largest pixel where those have more than 8 bits, NaN
            elsewhere; None where all have 8 bits.
    """

    name: str
    images: npt.NDArray[np.uint8] | None
    targets: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    content_hashes: npt.NDArray[np.bytes_]
    sample_paths: tuple[str, ...] | None
    given_parts: npt.NDArray[np.str_] | None
    groups: tuple[str, ...] | None
    original_sizes: npt.NDArray[np.int64]
    format: PictureFormat
    problems: tuple[Problem, ...]
    fingerprint: str
    from_cache: bool
    source: Source | None = None
    pixel_bounds: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.format.image_size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.format.channels

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Picture `index` as (C, H, W) uint8, from the array or decoded now.

        Raises:
            PictureError: its file has been changed or removed since it was checked.
        """
        if self.images is not None:
            image: npt.NDArray[np.uint8] = self.images[index]
            return image
        if self.source is None:
            raise ValueError(f"{self.name} has neither an array nor a source to read from")
        try:
            return picture(self.source, index, self.format, bytes(self.content_hashes[index]))
        except PictureError as error:
            raise PictureError(f"{self.source.sample_name(index)} {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self.images is not None:
            state["source"] = None  # what is read from is sent, and nothing else
        if isinstance(self.images, np.memmap):
            state["images"] = _Mapping(str(self.images.filename), self.images.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["images"], _Mapping):
            state["images"] = state["images"].open()
        self.__dict__.update(state)


@dataclass(frozen=True)
class _Mapping:
    """The file and the shape of a memory-mapped array."""

    file: str
    shape: tuple[int, ...]

    def open(self) -> npt.NDArray[np.uint8]:
        return np.memmap(self.file, np.uint8, mode="r", shape=self.shape)


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How the pictures of a source are opened.

    Attributes:
        image_size: (H, W) or the side of a square, in pixels. None: a size that suits the model
            and the pictures, see `native_side`.
        channels: 1 or 3. None: 1 if a sample of the pictures shows no colour, else 3.
        fit: how other proportions are treated; see `decode_picture`.
        value_range: black and white of more than 8 bits. "found": what `chosen_range` makes of
            the train part where parts are given, else of all.
        native_side: side in pixels of the square that the model was made for. Pictures that are
            smaller keep their own size where they agree in it, and the model magnifies them. None
            for a model that takes any size: the pictures' own where they agree, else a square of
            their median shorter side, in both cases of 128x128 pixels at most.
        cache_dir: the project's cache folder; see `cache_folder`.
        cache_limit_bytes: largest array that is stored on disk; a larger one is decoded by `read`.
        on_bad_image: "error" or "skip" for pictures that cannot be used.
        workers: threads.
    """

    image_size: int | Sequence[int] | None
    channels: int | None
    fit: str = "squeeze"
    value_range: ValueRange | Literal["found"] | None = "found"
    native_side: int | None = None
    cache_dir: Path
    cache_limit_bytes: int
    on_bad_image: str
    workers: int = field(default_factory=available_cores)


def open_pictures(
    source: Source, options: PictureOptions, *, check_content: bool = False
) -> PictureStore:
    """Check, decode and label the pictures of a source, now or from what is in the cache.

    Args:
        source: what to open.
        options: how.
        check_content: read every file and what was decoded earlier, however untouched they seem.

    Raises:
        ConfigError: pictures cannot be used (and are not to be skipped), fewer than two classes
            are left, or the cache cannot be written.
    """
    try:
        return _opened(source, options, check_content)
    except (OSError, MemoryError) as error:
        if (short := shortage(error, f"the pictures of {source.name} were read")) is not None:
            raise short from error
        raise
    except ContentChanged as error:
        # What was found earlier is not true any more, though `stat` shows no change.
        _log.info("%s Looking at all pictures again.", error)
        return _opened(source, options, check_content=True)


def _opened(source: Source, options: PictureOptions, check_content: bool) -> PictureStore:
    found = survey(
        source,
        findings_dir=options.cache_dir / "findings",
        workers=options.workers,
        check_content=check_content,
    )
    if check_content:
        check_again()
    if len(found.reasons) == len(source):
        raise _bad_pictures(source, found.reasons)
    usable_sizes = np.delete(found.sizes, sorted(found.reasons), axis=0)
    size = chosen_size(usable_sizes, options.image_size, options.native_side)
    values = options.value_range
    if values == "found":
        values = _found_range(source, found)
    channels = options.channels or _chosen_channels(source, found, values)
    form = PictureFormat(size, channels, options.fit, values)
    if source.arrays is not None and source.arrays.shape[1:] == (form.channels, *size):
        # Already the array that is wanted, and no faster to be had from the disk.
        flat = np.flatnonzero(np.ptp(source.arrays.reshape(len(source), -1), axis=1) == 0)
        images = source.arrays.view()
        images.flags.writeable = False
        return _store(source, found, images, form, flat.tolist(), from_cache=False)
    usable = len(source) - len(found.reasons)
    stored = usable * form.channels * size[0] * size[1] <= options.cache_limit_bytes
    outcome = decoded(
        source,
        found,
        form,
        stored=stored,
        folder=options.cache_dir / "pictures",
        workers=options.workers,
    )
    found = replace(found, reasons=found.reasons | outcome.reasons)
    if found.reasons and (options.on_bad_image == "error" or len(found.reasons) == len(source)):
        raise _bad_pictures(source, found.reasons)
    return _store(
        source,
        found,
        outcome.images if stored else None,
        form,
        outcome.flat,
        from_cache=outcome.from_cache,
    )


def _store(
    source: Source,
    found: Survey,
    images: npt.NDArray[np.uint8] | None,
    form: PictureFormat,
    flat: Sequence[int],
    *,
    from_cache: bool,
) -> PictureStore:
    """Return the store of the pictures that can be used."""
    bad = found.reasons
    problems = [*source.problems]
    problems += [Problem(source.sample_name(i), f"{bad[i]}; left out") for i in sorted(bad)]
    problems += [Problem(source.sample_name(i), "is of a single colour") for i in flat]
    kept = np.array([i for i in range(len(source)) if i not in bad], np.int64)
    usable = _only(source, kept)
    for label in sorted(set(source.class_names) - set(usable.class_names)):
        problems.append(Problem(label, "is a class of which no picture is left"))
    if len(usable.class_names) < 2:
        raise ConfigError(f"{source.name}: {usable.class_names[0]} is the only class left.")
    hashes = found.hashes[kept]
    names = [source.sample_name(i) for i in kept]
    problems += copies(hashes, usable.targets, names, usable.class_names)
    return PictureStore(
        name=source.name,
        images=images,
        targets=usable.targets,
        class_names=usable.class_names,
        content_hashes=hashes,
        sample_paths=usable.sample_paths,
        given_parts=usable.given_parts,
        groups=usable.groups,
        original_sizes=found.sizes[kept],
        format=form,
        problems=tuple(problems),
        fingerprint=_fingerprint(hashes, usable.targets, usable.class_names),
        from_cache=from_cache,
        source=usable,
        pixel_bounds=_grey_bounds(found, kept),
    )


def _grey_bounds(found: Survey, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.float64] | None:
    bounds = np.where(found.deep_colour[:, None], np.nan, found.bounds)[kept]
    return None if np.isnan(bounds).all() else bounds


def _only(source: Source, kept: npt.NDArray[np.int64]) -> Source:
    """Return the source reduced to some of its pictures, and to the classes that these have."""
    if len(kept) == len(source):
        return source
    present, targets = np.unique(source.targets[kept], return_inverse=True)

    def picked(column: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if column is None else tuple(column[i] for i in kept)

    return replace(
        source,
        class_names=tuple(source.class_names[label] for label in present),
        targets=targets.astype(np.int64),
        arrays=None if source.arrays is None else source.arrays[kept],
        sample_paths=picked(source.sample_paths),
        given_parts=None if source.given_parts is None else source.given_parts[kept],
        groups=picked(source.groups),
    )


def chosen_size(
    sizes: npt.NDArray[np.int64], wanted: int | Sequence[int] | None, native_side: int | None
) -> tuple[int, int]:
    """Return the (H, W) that pictures are decoded to.

    Args:
        sizes: (N, 2) height and width in pixels of the usable ones, N at least 1.
        wanted, native_side: `image_size` and `native_side` of `PictureOptions`.
    """
    if isinstance(wanted, int):
        return wanted, wanted
    if wanted is not None:
        height, width = wanted
        return height, width
    height, width = (int(side) for side in sizes[0])
    alike = bool((sizes == sizes[0]).all()) and min(height, width) >= _SMALLEST
    shorter = max(_SMALLEST, int(np.median(sizes.min(axis=1))))
    if native_side is not None:
        own = alike and max(height, width) <= native_side
        return (height, width) if own else (min(shorter, native_side),) * 2
    if not alike:
        return (min(shorter, math.isqrt(_LARGEST_AREA)),) * 2
    scale = min(1.0, math.sqrt(_LARGEST_AREA / (height * width)))
    return max(_SMALLEST, round(height * scale)), max(_SMALLEST, round(width * scale))


def _found_range(source: Source, found: Survey) -> ValueRange | None:
    """Black and white of more than 8 bits, of what may train as far as that is known."""
    training = np.ones(len(source), np.bool_)
    if source.given_parts is not None:
        training = source.given_parts == "train"
    training[sorted(found.reasons)] = False
    if unused_depth(np.where(found.deep_colour & training, found.bounds[:, 1], np.nan)):
        example = source.sample_name(int(np.flatnonzero(found.deep_colour & training)[0]))
        raise ConfigError(
            f"{source.name}: the colour pictures of 16 bits, such as {example}, use no more than "
            "14 of them, and only the upper 8 can be read: save them with 8 bits a colour."
        )
    bounds = _grey_bounds(found, np.flatnonzero(training))
    return None if bounds is None else chosen_range(bounds)


def _chosen_channels(source: Source, found: Survey, values: ValueRange | None) -> int:
    """1 if no picture of an even sample shows a colour. Most sets are decided by the first."""
    small = PictureFormat((_GREY_SIDE, _GREY_SIDE), 3, value_range=values)
    coloured = [i for i in np.flatnonzero(~found.grey).tolist() if i not in found.reasons]
    step = max(1, len(coloured) // _GREY_SAMPLE)
    for index in coloured[::step]:
        try:
            if not looks_grey(picture(source, index, small)):
                return 3
        except PictureError:
            continue
    return 1


def _fingerprint(
    hashes: npt.NDArray[np.bytes_], targets: npt.NDArray[np.int64], class_names: tuple[str, ...]
) -> str:
    order = np.lexsort((targets, hashes))
    digest = hashlib.blake2b(json.dumps(class_names).encode(), digest_size=16)
    digest.update(hashes[order].tobytes())
    digest.update(targets[order].astype("<i8").tobytes())
    return digest.hexdigest()


def _bad_pictures(source: Source, reasons: dict[int, str]) -> ConfigError:
    named = [f"{source.sample_name(i)} {reasons[i]}" for i in sorted(reasons)[:_NAMED]]
    more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    advice = (
        "Repair or remove them, or say data.on_bad_image=skip to leave them out."
        if len(reasons) < len(source)
        else "There is no picture left to work with."
    )
    return ConfigError(
        f"{len(reasons)} of {len(source)} pictures cannot be used: "
        f"{'; '.join(named)}{more}. {advice}"
    )
