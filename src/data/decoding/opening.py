"""From the settings of a data set to its pictures: listed, checked, and decoded once.

The decoded pictures are an entry of the cache that is mapped into memory. It is named after the
content of the pictures and the format that they are decoded to, so it is found from wherever the
pictures lie.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...config.checks import ConfigError, own_fields
from ...config.data import DataSettings, FolderSettings
from ...machine.imports import import_object
from ...machine.parallel import available_cores, in_order
from ...records.pictures import Pixels
from ...storage.cache import Entry, cache_folder, cached, check_again, key_of, shortage
from ...targets import kind_of
from ..quality.audit import Survey, survey
from ..sources.label_sets import ordered
from ..sources.listing import existing_root, without
from ..sources.remote import fetched, is_address
from ..sources.source import Problem, Source
from ..sources.table import named_paths
from .decode import decode_picture
from .format_choice import chosen_format
from .large_pictures import array_sizes
from .picture_files import NotReadHere, PictureError, pages_of
from .picture_format import PictureFormat
from .picture_store import PageReader, PictureStore, any_read, pixels_identity, store_of
from .stored_masks import FILE, check_sizes, decoded_masks, large_pictures

__all__ = ["check_root", "list_pictures", "open_pictures"]

_log = logging.getLogger(__name__)

# Part of every key: to be raised when the same file would decode to other pixels.
_VERSION = 3
_BLOCK_BYTES = 4 << 20
_PROGRESS_SECONDS = 10.0
_NAMED = 20
_NAMED_ALIKE = 3  # pictures of one fault


class _ContentChanged(ConfigError):
    """A file was changed after the audit; another audit helps, unless the changes go on."""


def list_pictures(data: DataSettings) -> Source:
    """Return the labelled pictures of a data set; nothing is decoded.

    Raises:
        ConfigError: they are not there, or not what they should be.
    """
    if data.root is None or not is_address(data.root):
        root = None if data.root is None else Path(data.root.removeprefix("file://")).absolute()
        return _listed(data, root)
    columns = data.columns if isinstance(data, FolderSettings) else None
    address = data.root

    def named(table: Path) -> list[str]:
        with _said_of(address, table):
            return named_paths(table, columns, target=data.target)

    root = fetched(
        address,
        cache_folder(data.cache_dir).absolute(),
        named=named,
        look_again=data.check_content,
    )
    with _said_of(address, root):
        return _listed(data, root)


@contextmanager
def _said_of(address: str, here: Path) -> Iterator[None]:
    """Have messages name the address instead of the place that it was fetched to."""
    try:
        yield
    except ConfigError as error:
        text = str(error).replace(str(here), address)
        raise ConfigError(text.replace(str(here.parent), address.rpartition("/")[0])) from error


def _listed(data: DataSettings, root: Path | None) -> Source:
    load = import_object(data._target_)
    cache = cache_folder(data.cache_dir).absolute()
    if data.check_content and root is not None and root.is_file():
        from ..sources.archive import forget_archive

        forget_archive(root, cache / "archives")
    own = own_fields(data, DataSettings)
    if isinstance(data, FolderSettings):
        own["target"] = data.target
    source: Source = load(root, cache, data.download, **own)
    if not hasattr(source, "class_names"):
        raise ConfigError(f"data: {data._target_} returned {type(source).__name__}, no Source.")
    wanted = "single" if data.target == "ordinal" else data.target
    if source.kind != wanted:
        raise ConfigError(
            f"data.target is {data.target}, but the pictures of {source.name} have "
            f"{kind_of(source.kind).described}: say data.target={source.kind}, or name pictures of "
            "your own, data=folder data.root=PATH."
        )
    if data.target == "ordinal":
        source = ordered(source, data.order)
    source = _present(source, data)
    frames = data.frames if isinstance(data, FolderSettings) else None
    return _with_pages(source, data, frames) if data.pages == "all" or frames else source


def _with_pages(source: Source, data: DataSettings, frames: int | None) -> Source:
    """Return the source with the pages of its files; what is no picture is left to the audit."""
    if source.sample_paths is None:
        return source

    def pages(index: int) -> range:
        try:
            with source.open(index) as stream:
                return pages_of(stream, all_pages=data.pages == "all", frames=frames)
        except (PictureError, OSError):
            return range(1)

    workers = data.num_workers or available_cores()
    return source.with_pages(list(in_order(pages, range(len(source)), workers)))


def _present(source: Source, data: DataSettings) -> Source:
    """Return the source without the samples that are missing, where these are to be skipped."""
    missing = source.missing
    if not missing:
        return source
    if data.on_bad_image == "error" or len(missing) == len(source):
        named = "; ".join(list(missing.values())[:_NAMED])
        more = f"; and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        advice = "Correct them, or say data.on_bad_image=skip to leave them out."
        raise ConfigError(
            f"{data.root} names {len(missing)} of {len(source)} pictures that are no files "
            f"(relative paths start at {source.root}): {named}{more}."
            + (f" {advice}" if len(missing) < len(source) else "")
        )
    problems = [
        Problem(
            source.sample_name(i),
            f"is no file ({where.partition(':')[0]}); left out",
            "pictures are no files, and were left out",
        )
        for i, where in missing.items()
    ]
    usable = without(source, dict.fromkeys(missing, "is no file"))
    return replace(usable, problems=(*usable.problems, *problems))


def check_root(data: DataSettings) -> None:
    """Check that `data.root` holds what it should, without decoding and without torch.

    Of a person's own pictures all are listed; of another set the root must be there.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(data, FolderSettings):
        list_pictures(data)
    elif data.root is not None:
        existing_root(Path(data.root))


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
    """
    opened = partial(_opened, source, settings, native_side, form)
    try:
        return opened(check_content=settings.check_content)
    except (OSError, MemoryError) as error:
        if (short := shortage(error, f"the pictures of {source.name} were read")) is not None:
            raise short from error
        raise
    except _ContentChanged as error:
        # What was found earlier is not true any more, though `stat` shows no change.
        _log.info("%s Looking at all pictures again.", error)
        return opened(check_content=True)


def _opened(
    source: Source,
    settings: DataSettings,
    native_side: int | None,
    form: PictureFormat | None,
    *,
    check_content: bool,
) -> PictureStore:
    cache_dir = cache_folder(settings.cache_dir).absolute()
    workers = settings.num_workers or available_cores()
    found = survey(
        source, findings_dir=cache_dir / "findings", workers=workers, check_content=check_content
    )
    if check_content:
        check_again()
    _refuse_bad(source, found, settings, " Decoding the others may show more.")
    if source.masks is not None:
        check_sizes(source, source.masks, found)
    form = form or chosen_format(source, found, settings, native_side)
    ready = source.arrays is not None and source.arrays.dtype == form.dtype == "uint8"
    whole = form.bands in (None, tuple(range(1, form.channels + 1)))
    shape = (form.channels, *form.image_size)
    if source.arrays is not None and ready and whole and source.arrays.shape[1:] == shape:
        # Already the array that is wanted, and no faster to be had from the disk.
        flat = np.flatnonzero(np.ptp(source.arrays.reshape(len(source), -1), axis=1) == 0)
        images = source.arrays.view()
        images.flags.writeable = False
        return store_of(source, found, images, form, flat.tolist(), from_cache=False)
    stored = _all_bytes(found, form) <= int(settings.cache_limit_gb * 1e9)
    entry = _decoded(source, found, form, stored, cache_dir / "pictures", workers)
    found = replace(found, reasons=found.reasons | dict(entry.values["reasons"]))
    _refuse_bad(source, found, settings)
    mapped = None
    if stored and not form.windowed:
        shape = tuple(entry.values["shape"])
        mapped = np.memmap(entry.folder / FILE, form.dtype, mode="r", shape=shape)
    store = store_of(source, found, mapped, form, entry.values["flat"], from_cache=not entry.built)
    usable = store.source
    if usable is None or usable.masks is None:
        return store
    if form.windowed:
        file = entry.folder / FILE if stored else None
        return replace(store, large=large_pictures(store, usable, file, cache_dir, workers))
    if stored:
        folder = decoded_masks(usable, usable.masks, form, cache_dir, workers).folder
        shape = (len(store), *form.image_size)
        return replace(store, masks=np.memmap(folder / FILE, np.uint8, mode="r", shape=shape))
    return store


def _all_bytes(found: Survey, form: PictureFormat) -> int:
    """Return the bytes of all pictures that can be used, decoded."""
    sizes = np.delete(found.sizes, sorted(found.reasons), axis=0)
    return int(array_sizes(form, sizes).prod(axis=1).sum()) * _pixel_bytes(form)


def _pixel_bytes(form: PictureFormat) -> int:
    return form.channels * np.dtype(form.dtype).itemsize


def _decoded(
    source: Source, found: Survey, form: PictureFormat, stored: bool, folder: Path, workers: int
) -> Entry:
    """Return the decoded pictures of a source; several processes decode them once.

    Its values are the shape of the array, index -> why a picture cannot be used, the indices of
    those of a single colour, and some that need a package which is missing: once that comes, all
    are decoded anew. Unless pixels are `stored`, all are decoded once to find these.
    """
    kept = np.setdiff1d(np.arange(len(source)), sorted(found.reasons))
    identity = pixels_identity(form, found.sizes[kept], found.bounds_to_scale(kept))

    def usable(entry: Entry) -> bool:
        # Earlier versions did not say which pictures need a package.
        missing = entry.values.get("not_read_here", [] if not entry.values["reasons"] else None)
        whole = entry.values["stored"] or not stored
        return whole and missing is not None and not any_read(source, missing, form, found.hashes)

    return cached(
        folder / key_of([_VERSION, identity, len(source)], found.hashes.tobytes()),
        lambda unfinished: _decode_all(source, found, form, stored, unfinished, workers),
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
    source: Source, found: Survey, form: PictureFormat, stored: bool, target: Path, workers: int
) -> dict[str, Any]:
    """Decode block by block into `target`. Written, not mapped: a full disk is then an error."""
    indices = [index for index in range(len(source)) if index not in found.reasons]
    row_shape = (form.channels, *form.image_size)
    largest = int(array_sizes(form, found.sizes[indices]).prod(axis=1).max())
    per_block = max(1, min(256, _BLOCK_BYTES // (largest * _pixel_bytes(form))))
    needed = _all_bytes(found, form)
    blocks = [indices[at : at + per_block] for at in range(0, len(indices), per_block)]
    room = shutil.disk_usage(target).free
    if stored and needed > room:
        raise ConfigError(
            f"the decoded pictures take {needed / 1e9:.1f} GB, and "
            f"{target.parent} has {room / 1e9:.1f} GB free: make room, name another folder with "
            "data.cache_dir, or lower data.cache_limit_gb to have them decoded whenever they are "
            "read."
        )
    doing, size = "decoding" if stored else "checking", "x".join(map(str, form.image_size))
    _log.info("%s %d pictures at %s once, with %d threads", doing, len(indices), size, workers)
    reasons: list[tuple[int, str]] = []
    flat: list[int] = []
    not_read_here: dict[str, int] = {}
    count = 0
    logged = time.monotonic()
    decode = partial(_decode_block, PageReader(source), source, found, form)
    with (target / FILE).open("wb") as stream:
        for block in in_order(decode, blocks, workers):
            reasons += block.reasons
            flat += block.flat
            not_read_here |= block.not_read_here
            count += len(block.images)
            if stored:
                for image in block.images:
                    stream.write(image.data)
            if time.monotonic() - logged > _PROGRESS_SECONDS:
                logged = time.monotonic()
                _log.info("%d of %d pictures", count + len(reasons), len(indices))
    values = {"stored": stored, "shape": [count, *row_shape], "reasons": reasons, "flat": flat}
    return values | {"not_read_here": [*not_read_here.values()]}


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


def _refuse_bad(source: Source, found: Survey, settings: DataSettings, more: str = "") -> None:
    """Refuse pictures that cannot be used, unless they are to be skipped and others are left."""
    reasons = found.reasons
    if not reasons or (settings.on_bad_image == "skip" and len(reasons) < len(source)):
        return
    alike: dict[str, list[str]] = {}
    for index in sorted(reasons):
        alike.setdefault(reasons[index], []).append(source.sample_name(index))
    named: list[str] = []
    for reason, names in alike.items():
        if len(names) > _NAMED_ALIKE:
            first = ", ".join(names[:_NAMED_ALIKE])
            named.append(f"{first} and {len(names) - _NAMED_ALIKE} more: each {reason}")
        else:
            named += [f"{name} {reason}" for name in names]
    others = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    named = named[:_NAMED]
    advice = (
        f"Repair or remove them, or say data.on_bad_image=skip to leave them out.{more}"
        if len(reasons) < len(source)
        else "There is no picture left to work with."
    )
    raise ConfigError(
        f"{len(reasons)} of {len(source)} pictures cannot be used: "
        f"{'; '.join(named)}{others}. {advice}"
    )
