"""The audit of a data set: content hash, size and format of each picture, and its faults.

Results are stored by path and by what `stat` says of the file (size, times and inode).
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ...machine.arrays import AnyArray, BoolArray, BytesArray, Float64Array, Int64Array
from ...machine.disk import OF_THE_PROCESS
from ...machine.parallel import in_order
from ...machine.status import with_progress
from ...storage.cache import cache_errors, locked
from ...storage.digests import FILE_STATE, NEVER, file_state, was_settled
from ...targets.labels import label_text
from ..decoding.depth import PixelError, pixel_bounds
from ..decoding.picture_files import (
    MAX_FILE_BYTES,
    NO_PICTURE,
    NotReadHere,
    PictureError,
    PictureFile,
    read_bounds,
    read_header,
)
from ..sources.source import Problem, Source
from ..sources.unread_kinds import unread_kind
from .findings import HASH_DTYPE, Findings

__all__ = ["Survey", "content_hash", "copies", "page_hash", "survey"]

_HASH_BYTES = HASH_DTYPE.itemsize // 2
_FILES_AT_A_TIME = 64
_SAVED_EVERY_SECONDS = 60.0
# Valid now, but a later change might go unnoticed, so that the file is read again next time.
_UNSETTLED = {"mtime_ns": NEVER}


@dataclass(frozen=True, eq=False)
class Survey:
    """The audit of N pictures before they are decoded."""

    # (N,) 32 hexadecimal digits: blake2b of the file's bytes or the array row; empty if unreadable.
    hashes: BytesArray
    sizes: Int64Array  # (N, 2) height and width after the EXIF turn; 0 where unknown
    bands: Int64Array  # (N,) 1 of a grey picture, 3 of one in colour; 0 where unknown
    bounds: Float64Array  # (N, 2) smallest and largest pixel of more than 8 bits, or NaN
    windowed: BoolArray  # (N,) whether the file states what of these is black and white
    # (N,) digest of what the pictures of one patient share; empty where the file has no such name.
    groups: BytesArray
    reasons: dict[int, str]  # index -> why this picture cannot be used

    def bounds_to_scale(self, kept: Int64Array) -> Float64Array | None:
        """Return the least and largest pixels, (len(kept), 2), of some of the pictures.

        None where no black and white is to be chosen: all have 8 bits, or state it in their file.
        """
        bounds = self.bounds[kept]
        known = np.isnan(bounds[:, 0]) | self.windowed[kept]
        return None if known.all() else bounds


def content_hash(data: bytes | AnyArray, page: int = 0) -> bytes:
    """Return the blake2b hash of a file's content or of an array row: 32 hex digits, as bytes.

    Of a page after the first, the hash of its number and that of the file.
    """
    buffer = data if isinstance(data, bytes) else data.data
    return page_hash(hashlib.blake2b(buffer, digest_size=_HASH_BYTES).hexdigest().encode(), page)


def page_hash(digest: bytes, page: int) -> bytes:
    """Return the `content_hash` of a page in a file whose own is `digest`."""
    return content_hash(b"%s page %d" % (digest, page)) if page else digest


def survey(
    source: Source, *, findings_dir: Path, workers: int, check_content: bool = False
) -> Survey:
    """Return the audit of a source; files that are known from an earlier time are not read.

    Args:
        source: N pictures, as files or arrays.
        findings_dir: folder of the findings; one file a root.
        workers: threads that read files.
        check_content: read all files, also those that are known.

    Raises:
        ConfigError: the findings cannot be written, or memory or files run short.
    """
    if source.arrays is not None:
        return _survey_arrays(source.arrays)
    if source.root is None or source.sample_paths is None:
        raise ValueError(f"{source.name} has neither arrays nor files")
    paths = source.sample_paths
    root = os.fsencode(source.root.absolute())
    path = findings_dir / f"{content_hash(root).decode()}.npz"
    what = f"the findings about the pictures in {source.root}"

    def known() -> tuple[Findings, Findings]:
        """Return what is stored, and the part of it that holds for these files."""
        stored = Findings.load(path) or Findings()
        return stored, stored.of(paths, _states(source), forget=check_content)

    _, findings = known()
    if not findings.rows["known"].all():
        with cache_errors(what, findings_dir), locked(path, what):
            # Another process may have read them while this one waited.
            stored, findings = known()
            due = time.monotonic() + _SAVED_EVERY_SECONDS
            for _ in _read_unknown(findings, source, workers):
                if time.monotonic() > due:  # what a process has read that is killed later
                    findings.joined(stored).save(path)
                    due = time.monotonic() + _SAVED_EVERY_SECONDS
            findings.joined(stored).save(path)
    rows = findings.rows
    return Survey(
        hashes=rows["hash"].copy(),
        sizes=np.stack([rows["height"], rows["width"]], axis=1).astype(np.int64),
        bands=rows["bands"].astype(np.int64),
        bounds=np.stack([rows["low"], rows["high"]], axis=1),
        windowed=rows["windowed"].copy(),
        groups=rows["group"].copy(),
        reasons={
            int(i): findings.reasons[rows["reason"][i]] for i in np.flatnonzero(rows["reason"])
        },
    )


def copies(
    hashes: BytesArray,
    targets: AnyArray,
    names: Sequence[str],
    class_names: Sequence[str],
) -> tuple[Problem, ...]:
    """Return a problem for each picture whose content appeared before, with its labels.

    `hashes` are (N,), `targets` as of `Source`; `names` are of pictures.
    """
    problems = []
    first: dict[bytes, int] = {}
    for index, content in enumerate(hashes.tolist()):
        before = first.setdefault(content, index)
        if before == index:
            continue
        reason, kind = f"is an exact copy of {names[before]}", "pictures are exact copies of others"
        own, other = (label_text(targets[one], class_names) for one in (index, before))
        if own != other:
            reason += f", but is labelled {own or 'nothing'}, not {other or 'nothing'}"
            kind += " with another label"
        problems.append(Problem(names[index], reason, kind))
    return tuple(problems)


def _survey_arrays(arrays: AnyArray) -> Survey:
    count, bands, height, width = arrays.shape
    bounds, reasons = np.full((count, 2), np.nan), {}
    for index, row in enumerate(arrays if arrays.dtype != np.uint8 else ()):
        try:
            bounds[index] = pixel_bounds(row)
        except PixelError as error:
            reasons[index] = str(error)
    return Survey(
        hashes=np.array([content_hash(row) for row in np.ascontiguousarray(arrays)], HASH_DTYPE),
        sizes=np.tile(np.array([height, width], np.int64), (count, 1)),
        bands=np.full(count, bands),
        bounds=bounds,
        windowed=np.zeros(count, np.bool_),
        groups=np.zeros(count, HASH_DTYPE),
        reasons=reasons,
    )


def _states(source: Source) -> Int64Array:
    """Return (N, 4) the present state of each file, of one that is missing what no file has."""
    states = np.full((len(source), len(FILE_STATE)), NEVER, np.int64)
    before = ""
    for row in range(len(source)):
        if (file := source.file(row)) == before:  # pictures of one shard, or pages
            states[row] = states[row - 1]
            continue
        before = file
        with suppress(OSError):
            states[row] = file_state(os.stat(file))
    return states


def _read_unknown(findings: Findings, source: Source, workers: int) -> Iterator[None]:
    """Read the files of unknown rows, and fill these in; yield after some of them."""
    batches: list[list[int]] = [[]]
    for _, pages in groupby(np.flatnonzero(~findings.rows["known"]).tolist(), source.place):
        if len(batches[-1]) >= _FILES_AT_A_TIME:
            batches.append([])
        batches[-1] += pages

    def read(batch: list[int]) -> list[tuple[dict[str, Any], str]]:
        files = [[*pages] for _, pages in groupby(batch, source.place)]
        return [one for pages in files for one in _look_at(source, pages, findings.rows[pages[0]])]

    looked = zip(batches, in_order(read, batches, workers, parts=len), strict=True)
    count = sum(map(len, batches))
    for batch, seen in with_progress(looked, count, "pictures read", lambda one: len(one[0])):
        for index, one in zip(batch, seen, strict=True):
            findings.fill(index, *one)
        yield


def _look_at(source: Source, pages: list[int], row: Any) -> list[tuple[dict[str, Any], str]]:
    """Return what `_look_at_page` does of each picture in a file that is read and hashed once."""
    seen = []
    with ExitStack() as closing:
        file: _Hashed | None = None
        for index in pages:
            try:
                if file is None:
                    closing.enter_context(stream := source.open(index))
                    file = _Hashed(stream)
            except (OSError, PictureError) as error:
                seen.append(_fault_of(error, {}))
                continue
            found, reason = _look_at_page(file, source.page(index))
            if reason == NO_PICTURE:
                reason = unread_kind(source.sample_name(index)) or reason
            seen.append((found, reason))
    if not was_settled(int(row["mtime_ns"]), int(row["ctime_ns"])):
        seen = [(found | _UNSETTLED, reason) for found, reason in seen]
    return [({"low": np.nan, "high": np.nan} | found, reason) for found, reason in seen]


class _Hashed:
    """An open file with the hash of its content."""

    def __init__(self, stream: io.BufferedReader | io.BytesIO) -> None:
        if stream.seek(0, os.SEEK_END) > MAX_FILE_BYTES:
            PictureFile(stream)  # which says so
        stream.seek(0)
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=_HASH_BYTES))
        self.digest, self.stream = digest.hexdigest().encode(), stream
        self.pictures: PictureFile | None = None  # what the next page is opened from


def _look_at_page(file: _Hashed, page: int) -> tuple[dict[str, Any], str]:
    """Return what is found in a picture, by column, and why it cannot be used; "" if it can."""
    found: dict[str, Any] = {"hash": page_hash(file.digest, page)}
    # What has failed once is not gone on with.
    pictures, file.pictures = file.pictures, None
    try:
        pictures = pictures or PictureFile(file.stream)
        header = read_header(pictures, page)
        if header.deep:
            found["low"], found["high"] = read_bounds(pictures, page)
    except (OSError, PictureError) as error:
        return _fault_of(error, found)
    file.pictures = pictures
    # A digest, since names of patients must not leave the file.
    found["group"] = content_hash(header.group.encode()) if header.group else b""
    shown = ("height", "width", "bands", "windowed")
    return found | {name: getattr(header, name) for name in shown}, ""


def _fault_of(error: OSError | PictureError, found: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what was found of a picture that cannot be used, and why."""
    if isinstance(error, NotReadHere):
        # The missing package may come, and what is decoded then is another set.
        return found | _UNSETTLED | {"hash": b""}, str(error)
    if isinstance(error, PictureError):
        return found, str(error)
    if error.errno in OF_THE_PROCESS:
        raise error
    return found | _UNSETTLED | {"hash": b""}, f"cannot be opened: {error.strerror}"
