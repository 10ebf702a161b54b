"""From listed pictures to decoded ones: checked, and decoded once.

The decoded pictures are an entry of the cache that is mapped into memory. It is named after the
content of the pictures and the format that they are decoded to, so it is found from wherever the
pictures lie.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...config.checks import ConfigError, input_of
from ...config.data import DataSettings
from ...machine.arrays import AnyArray
from ...machine.disk import free_bytes, size_text
from ...machine.failures import DiskRefuses
from ...machine.parallel import in_order
from ...machine.status import with_progress
from ...machine.text import visible
from ...records.pictures import Pixels
from ...storage.cache import Entry, cache_folder, check_again, key_of, opened, shortage
from ...storage.growing import GrowingFile
from ..quality.audit import Survey, survey
from ..sources.source import Source
from ..splitting.splits import refuse_overlap
from .decode import decode_picture
from .format_choice import chosen_format
from .large_pictures import array_sizes
from .picture_files import NotReadHere, PictureError
from .picture_format import PictureFormat
from .picture_store import PageReader, PictureStore, any_read, pixels_identity, store_of
from .stored_masks import FILE, check_sizes, decoded_masks, windowed_store

__all__ = ["BadPictures", "open_pictures", "refuse_undecoded", "surveyed"]

_log = logging.getLogger(__name__)

# Part of every key: to be raised when the same file would decode to other pixels.
_VERSION = 4
_BLOCK_BYTES = 4 << 20
_MOST_NAMED = 20
# Added to a message about pictures of which none was decoded yet.
_UNDECODED = " Decoding the others may show more."
_NAMED_ALIKE = 3  # most pictures that are named for one fault


class BadPictures(ConfigError):
    """Pictures cannot be used, whatever learns from them; the message names them."""


class _ContentChanged(ConfigError):
    """A file was changed after the audit; another audit helps, unless the changes go on."""


def open_pictures(
    source: Source,
    settings: DataSettings,
    *,
    native_side: int | None = None,
    form: PictureFormat | None = None,
) -> PictureStore:
    """Check, decode and label the pictures of a source, now or from what is in the cache.

    Args:
        source: what to open.
        settings: the format, as far as they state it, and all else.
        native_side: as of `chosen_size`.
        form: the format; None for that of `chosen_format`.

    Raises:
        ConfigError: pictures cannot be used (and are not to be skipped), fewer than two classes
            are left, pictures differ in their number of bands, or lack one that is asked for, or
            the cache cannot be written.
        DiskRefuses: the disk of the cache has no room for the decoded pictures.
    """
    opened = partial(_opened, source, settings, native_side, form)
    try:
        return opened(check_content=settings.check_content)
    except (OSError, MemoryError) as error:
        if (short := shortage(error, "the pictures were read")) is not None:
            raise short from error
        raise
    except _ContentChanged as error:
        # The stored findings are outdated, though `stat` shows no change.
        _log.info("%s Looking at all pictures again.", error)
        return opened(check_content=True)


def surveyed(source: Source, settings: DataSettings, check_content: bool = False) -> Survey:
    """Return `survey` of a source, with the cache and the workers of its settings."""
    return survey(
        source,
        findings_dir=cache_folder(settings.cache_dir).absolute() / "findings",
        workers=settings.worker_count,
        check_content=check_content,
    )


def _opened(
    source: Source,
    settings: DataSettings,
    native_side: int | None,
    form: PictureFormat | None,
    *,
    check_content: bool,
) -> PictureStore:
    cache_dir, workers = cache_folder(settings.cache_dir).absolute(), settings.worker_count
    found = surveyed(source, settings, check_content)
    if check_content:
        check_again()
    refuse_undecoded(source, found, settings)
    if source.masks is not None:
        check_sizes(source, source.masks, found)
    form = form or chosen_format(source, found, settings, native_side)
    if (images := _ready_array(source, form)) is not None:
        flat = np.flatnonzero(np.ptp(images.reshape(len(source), -1), axis=1) == 0)
        return store_of(source, found, images, form, flat.tolist(), from_cache=False)
    stored = _all_bytes(found, form) <= settings.cache_limit_bytes
    entry, mapped = _decoded(
        source, found, form, stored=stored, folder=cache_dir / "pictures", workers=workers
    )
    found = replace(found, reasons=found.reasons | dict(entry.values["reasons"]))
    _refuse_bad(source, found, settings)
    store = store_of(source, found, mapped, form, entry.values["flat"], from_cache=not entry.built)
    usable = store.source
    if usable is None or usable.masks is None:
        return store
    if form.windowed:
        file = entry.folder / FILE if stored else None
        return windowed_store(store, usable, file, cache_dir, workers)
    if stored:
        shape = (len(store), *form.image_size)
        read = partial(_mapped, dtype="uint8", shape=shape)
        masks = decoded_masks(
            usable, usable.masks, form, cache_dir=cache_dir, workers=workers, read=read
        )
        return replace(store, masks=masks)
    return store


def _mapped(folder: Path, *, dtype: str, shape: tuple[int, ...]) -> AnyArray:
    return np.memmap(folder / FILE, dtype, mode="r", shape=shape)


def _ready_array(source: Source, form: PictureFormat) -> Pixels | None:
    """Return the array of a source, read-only, where it is the one that would be decoded."""
    arrays, shape = source.arrays, (form.channels, *form.image_size)
    if arrays is None or arrays.shape[1:] != shape or not arrays.dtype == form.dtype == "uint8":
        return None
    if form.bands not in (None, tuple(range(1, form.channels + 1))):
        return None
    images = arrays.view()
    images.flags.writeable = False
    return images


def _all_bytes(found: Survey, form: PictureFormat) -> int:
    """Return the bytes of all pictures that can be used, decoded."""
    sizes = np.delete(found.sizes, sorted(found.reasons), axis=0)
    return int(array_sizes(form, sizes).prod(axis=1).sum()) * _pixel_bytes(form)


def _pixel_bytes(form: PictureFormat) -> int:
    return form.channels * np.dtype(form.dtype).itemsize


def _decoded(
    source: Source, found: Survey, form: PictureFormat, *, stored: bool, folder: Path, workers: int
) -> tuple[Entry, Pixels | None]:
    """Return the decoded pictures of a source, mapped where they are stored in one size.

    Several processes decode them once. The values of the entry are the shape of the array, index ->
    why a picture cannot be used, the indices of those of a single colour, and some that need a
    package which is missing: once that comes, all are decoded anew. Unless pixels are `stored`, all
    are decoded once to find these.
    """
    kept = np.setdiff1d(np.arange(len(source)), sorted(found.reasons))
    sizes, bounds = found.sizes[kept], found.bounds_to_scale(kept)
    identity = pixels_identity(form, sizes, bounds, files=source.arrays is None)

    def usable(entry: Entry) -> bool:
        missing = entry.values["not_read_here"]
        whole = entry.values["stored"] or not stored
        return whole and not any_read(source, missing, form, found.hashes)

    def read(entry: Entry) -> tuple[Entry, Pixels | None]:
        shape = tuple(entry.values["shape"])
        if not stored or form.windowed or not shape[0]:
            return entry, None
        return entry, _mapped(entry.folder, dtype=form.dtype, shape=shape)

    return opened(
        folder / key_of([_VERSION, identity, len(source)], found.hashes.tobytes()),
        lambda unfinished: _decode_all(
            source, found, form, stored=stored, target=unfinished, workers=workers
        ),
        read,
        what="the decoded pictures",
        usable=usable,
    )


class _Block(NamedTuple):
    """Some pictures decoded one after another; indices are those of the source."""

    images: list[Pixels]  # (C, H, W) each
    reasons: list[tuple[int, str]]
    flat: list[int]
    not_read_here: dict[str, int]  # for the lack of which package -> one that needs it


def _decode_all(
    source: Source, found: Survey, form: PictureFormat, *, stored: bool, target: Path, workers: int
) -> dict[str, Any]:
    """Decode block by block into `target`, after the blocks that are there.

    Written, not mapped: a full disk is then an error.
    """
    indices = [index for index in range(len(source)) if index not in found.reasons]
    largest = int(array_sizes(form, found.sizes[indices]).prod(axis=1).max())
    per_block = max(1, min(256, _BLOCK_BYTES // (largest * _pixel_bytes(form))))
    kept = GrowingFile(target / FILE, key_of([stored, per_block, indices]))
    not_read_here = [index for block in kept.blocks for index in block["not_read_here"].values()]
    if any_read(source, not_read_here, form, found.hashes):
        kept.clear()
    needed, room = _all_bytes(found, form) - kept.size, free_bytes(target)
    if stored and needed > room:
        raise DiskRefuses(
            f"the decoded pictures take {size_text(needed)}, and "
            f"{target.parent} has {size_text(room)} free: make room, name another folder with "
            "data.cache_dir, or lower data.cache_limit_gb to have them decoded whenever they are "
            "read"
        )
    left = indices[per_block * len(kept.blocks) :]
    doing, size = "decoding" if stored else "checking", "x".join(map(str, form.image_size))
    fitted = "" if form.fit == "squeeze" else f" ({form.fit})"
    threads = "s" * (workers > 1)
    pictures = f"{len(left):,} pictures at {size}{fitted}"
    before = f" ({len(indices) - len(left):,} were before)" if kept.blocks else ""
    _log.info("%s %s once, with %d thread%s%s", doing, pictures, workers, threads, before)
    decode = partial(_decode_block, PageReader(source), source, found, form)
    blocks = [left[at : at + per_block] for at in range(0, len(left), per_block)]
    decoded = in_order(decode, blocks, workers, parts=len)
    for block in with_progress(decoded, len(left), "pictures decoded", _seen):
        content = b"".join(image.data for image in block.images) if stored else b""
        values = block._asdict() | {"images": len(block.images)}
        kept.add(content, values)
    kept.close()
    lacking: dict[str, int] = {}
    for values in kept.blocks:
        lacking |= values["not_read_here"]
    return {
        "stored": stored,
        "shape": [sum(values["images"] for values in kept.blocks), form.channels, *form.image_size],
        "reasons": [reason for values in kept.blocks for reason in values["reasons"]],
        "flat": [index for values in kept.blocks for index in values["flat"]],
        "not_read_here": [*lacking.values()],
    }


def _seen(block: _Block) -> int:
    return len(block.images) + len(block.reasons)


def _decode_block(
    reader: PageReader, source: Source, found: Survey, form: PictureFormat, indices: list[int]
) -> _Block:
    block = _Block([], [], [], {})
    for index in indices:
        try:
            data = reader.content(index, bytes(found.hashes[index]))
        except PictureError as error:
            # Pixels of anything else than what the key names, or a reason that holds for a moment
            # only, would stay in the cache under that key.
            raise _ContentChanged(
                f"{source.sample_name(index)} {error}: let whatever writes it end, and run again."
            ) from error
        try:
            image = decode_picture(data, form, page=source.page(index))
        except PictureError as error:
            reader.forget()  # what has failed once is not gone on with
            block.reasons.append((index, str(error)))
            if isinstance(error, NotReadHere):
                block.not_read_here[str(error)] = index
            continue
        if image.min() == image.max():
            block.flat.append(index)
        block.images.append(image)
    return block


def refuse_undecoded(source: Source, found: Survey, settings: DataSettings) -> None:
    """Refuse pictures that cannot be used, and given parts that share some.

    Raises:
        BadPictures: as of unreadable ones, as far as that shows before they are decoded.
        ConfigError: a picture, or a group, is in several given parts, and none is to be dropped.
    """
    _refuse_bad(source, found, settings, _UNDECODED)
    if source.given_parts is None or settings.on_duplicates != "error":
        return
    kept = np.setdiff1d(np.arange(len(source)), sorted(found.reasons))
    usable, parts = source.only(kept), source.given_parts[kept].tolist()
    with input_of("data"):
        refuse_overlap(
            usable.targets, found.hashes[kept], parts, usable.groups, usable.sample_paths
        )


def _refuse_bad(source: Source, found: Survey, settings: DataSettings, more: str = "") -> None:
    """Refuse pictures that cannot be used, unless they are to be skipped and others are left.

    Raises:
        BadPictures: with the first of them, the reason of each, and what to do.
    """
    reasons = found.reasons
    if not reasons or (settings.on_bad_image == "skip" and len(reasons) < len(source)):
        return
    alike: dict[str, list[str]] = {}
    for index in sorted(reasons):
        alike.setdefault(reasons[index], []).append(source.sample_name(index))
    named: list[str] = []
    for reason, names in alike.items():
        if len(names) > _NAMED_ALIKE:
            first = ", ".join(map(visible, names[:_NAMED_ALIKE]))
            named.append(f"{first} and {len(names) - _NAMED_ALIKE} more: each {reason}")
        else:
            named += [f"{visible(name)} {reason}" for name in names]
    others = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    named = named[:_MOST_NAMED]
    advice = (
        f"Repair or remove them, or set data.on_bad_image=skip to leave them out.{more}"
        if len(reasons) < len(source)
        else "There is no picture left to work with."
    )
    raise BadPictures(
        f"{len(reasons)} of {len(source)} pictures cannot be used: "
        f"{'; '.join(named)}{others}. {advice}"
    )
