"""The pictures of a source as one verified array, decoded once and shared by every process."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from src.config.checks import ConfigError
from src.data.audit import Survey, copies, survey
from src.data.decode import PictureError, looks_grey
from src.data.decoded import Wanted, decoded, picture
from src.data.parallel import available_cores
from src.data.source import Problem, Source

__all__ = ["PictureStore", "cache_folder", "open_pictures"]

_NAMED = 20
# Pictures of one size are taken as they are up to this side; others become squares.
_OWN_SIZE_AT_MOST = 96
_SQUARE_AT_MOST = 64
_SMALLEST = 8
_GREY_SAMPLE = 64


@dataclass(frozen=True, eq=False)
class PictureStore:
    """N usable pictures and all that is known of them.

    A store can be pickled; the array is then mapped anew where it arrives, not sent.

    Attributes:
        name: the data set's name.
        images: (N, C, H, W) uint8, read-only; None if too large, then there is only `read`.
        targets: (N,) int64 in [0, K).
        class_names: K names.
        content_hashes: (N,) bytes, 32 hexadecimal digits: hash of the file's bytes or of the array
            row, the same for every image size.
        sample_paths: N posix paths as people know them; None for sets that come as arrays.
        given_parts: (N,) of "train" | "val" | "test"; None where the set brings no parts.
        groups: N names; None where there are none.
        original_sizes: (N, 2) int64, height and width in pixels before any resizing.
        image_size: (H, W) in pixels.
        channels: 1 or 3.
        problems: what is wrong with the data, picture by picture; those left out included.
        fingerprint: 32 hexadecimal digits: hash of the pictures with their labels, whatever their
            order, names and place.
        from_cache: whether the array was found decoded.
        source: where the pictures come from, reduced to these; not pickled with an array.
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
    image_size: tuple[int, int]
    channels: int
    problems: tuple[Problem, ...]
    fingerprint: str
    from_cache: bool
    source: Source | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Picture `index` as (C, H, W) uint8, from the array or decoded now.

        Raises:
            PictureError: its file has been damaged or removed since it was checked.
        """
        if self.images is not None:
            image: npt.NDArray[np.uint8] = self.images[index]
            return image
        if self.source is None:
            raise ValueError(f"{self.name} has neither an array nor a source to read from")
        try:
            return picture(self.source, index, self.image_size, self.channels)
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
    """Where a mapped array lies."""

    file: str
    shape: tuple[int, ...]

    def open(self) -> npt.NDArray[np.uint8]:
        return np.memmap(self.file, np.uint8, mode="r", shape=self.shape)


def open_pictures(
    source: Source,
    *,
    image_size: int | Sequence[int] | None,
    channels: int | None,
    cache_dir: Path,
    cache_limit_bytes: int,
    on_bad_image: str,
    workers: int | None = None,
) -> PictureStore:
    """Check, decode and label the pictures of a source, now or from what is in the cache.

    Args:
        source: what to open.
        image_size: (H, W) or the side of a square, in pixels. None: the size that all pictures
            have, if they agree and no side is above 96; otherwise a square of their median shorter
            side, between 8 and 64.
        channels: 1 or 3. None: 1 if a sample of the pictures shows no colour, else 3.
        cache_dir: the project's cache folder; see `cache_folder`.
        cache_limit_bytes: largest array to be kept on disk; a larger one is decoded by `read`.
        on_bad_image: "error" or "skip" for pictures that cannot be used.
        workers: threads; None for one a core.

    Raises:
        ConfigError: pictures cannot be used (and are not to be skipped), fewer than two classes
            are left, or the cache cannot be written.
    """
    workers = workers or available_cores()
    found = survey(source, findings_dir=cache_dir / "findings", workers=workers)
    if len(found.reasons) == len(source):
        raise _bad_pictures(source, found.reasons)
    size = _chosen_size(found, image_size)
    channels = channels or _chosen_channels(source, found)
    if source.arrays is not None and source.arrays.shape[1:] == (channels, *size):
        # Already the array that is wanted, and no faster to be had from the disk.
        flat = np.flatnonzero(np.ptp(source.arrays.reshape(len(source), -1), axis=1) == 0)
        images = source.arrays.view()
        images.flags.writeable = False
        return _store(source, found, images, size, channels, flat.tolist(), from_cache=False)
    usable = len(source) - len(found.reasons)
    stored = usable * channels * size[0] * size[1] <= cache_limit_bytes
    outcome = decoded(
        source,
        found,
        Wanted(size, channels, stored),
        folder=cache_dir / "pictures",
        workers=workers,
    )
    found = replace(found, reasons=found.reasons | outcome.reasons)
    if found.reasons and (on_bad_image == "error" or len(found.reasons) == len(source)):
        raise _bad_pictures(source, found.reasons)
    return _store(
        source,
        found,
        outcome.images if stored else None,
        size,
        channels,
        outcome.flat,
        from_cache=outcome.from_cache,
    )


def cache_folder(cache_dir: str | None) -> Path:
    """The folder of everything that can be made anew: the one given, else $BAKEOFF_CACHE, else
    bakeoff in the user's cache folder."""
    if given := cache_dir or os.environ.get("BAKEOFF_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "bakeoff"


def _store(
    source: Source,
    found: Survey,
    images: npt.NDArray[np.uint8] | None,
    image_size: tuple[int, int],
    channels: int,
    flat: Sequence[int],
    *,
    from_cache: bool,
) -> PictureStore:
    """The store of the pictures that nothing is wrong with."""
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
        image_size=image_size,
        channels=channels,
        problems=tuple(problems),
        fingerprint=_fingerprint(hashes, usable.targets, usable.class_names),
        from_cache=from_cache,
        source=usable,
    )


def _only(source: Source, kept: npt.NDArray[np.int64]) -> Source:
    """The source reduced to some of its pictures, and to the classes that these have."""
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


def _chosen_size(found: Survey, wanted: int | Sequence[int] | None) -> tuple[int, int]:
    if isinstance(wanted, int):
        return wanted, wanted
    if wanted is not None:
        height, width = wanted
        return height, width
    sizes = np.delete(found.sizes, sorted(found.reasons), axis=0)
    if (sizes == sizes[0]).all() and _SMALLEST <= sizes.min() <= sizes.max() <= _OWN_SIZE_AT_MOST:
        return int(sizes[0, 0]), int(sizes[0, 1])
    side = int(np.clip(np.median(sizes.min(axis=1)), _SMALLEST, _SQUARE_AT_MOST))
    return side, side


def _chosen_channels(source: Source, found: Survey) -> int:
    """1 if no picture of an even sample shows a colour. Most sets are decided by the first."""
    coloured = [i for i in np.flatnonzero(~found.grey).tolist() if i not in found.reasons]
    step = max(1, len(coloured) // _GREY_SAMPLE)
    for index in coloured[::step]:
        try:
            if not looks_grey(picture(source, index, (_SQUARE_AT_MOST, _SQUARE_AT_MOST), 3)):
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
