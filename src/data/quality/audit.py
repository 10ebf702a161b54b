"""The audit of a data set: content hash, size and format of each picture, and its faults.

Results are stored on disk by path and by what `stat` says of the file (size, times and inode), so
that opening the same files once more costs one `stat` each.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from src.data.decoding.decode import (
    MAX_FILE_BYTES,
    PictureError,
    read_bounds,
    read_header,
)
from src.data.quality.findings import HASH_DTYPE, Finding, Findings
from src.data.sources.source import Problem, Source
from src.machine.disk import OF_THE_PROCESS
from src.machine.parallel import in_order
from src.storage.cache import cache_errors, locked
from src.storage.digests import NEVER, file_state, was_settled

__all__ = ["Survey", "content_hash", "copies", "duplicate_groups", "survey"]

_HASH_BYTES = HASH_DTYPE.itemsize // 2
_FILES_AT_A_TIME = 64


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of N pictures before they are decoded.

    Attributes:
        hashes: (N,) bytes, 32 hexadecimal digits each: blake2b of the file's bytes, or of the
            array row. Empty where a file could not be read.
        sizes: (N, 2) int64, height and width in pixels as people see them; 0 where unknown.
        grey: (N,) bool, whether the pixel format has no colour.
        bounds: (N, 2) float64, smallest and largest pixel where those have more than 8 bits; NaN
            elsewhere.
        deep_colour: (N,) bool, whether there are 16 bits a colour, of which 8 are read.
        reasons: index -> why this picture cannot be used.
    """

    hashes: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int64]
    grey: npt.NDArray[np.bool_]
    bounds: npt.NDArray[np.float64]
    deep_colour: npt.NDArray[np.bool_]
    reasons: dict[int, str]


def content_hash(data: bytes | npt.NDArray[np.uint8]) -> bytes:
    """32 hexadecimal digits, as bytes: the blake2b hash of a file's content or an array row."""
    buffer = data if isinstance(data, bytes) else data.data
    return hashlib.blake2b(buffer, digest_size=_HASH_BYTES).hexdigest().encode()


def survey(
    source: Source, *, findings_dir: Path, workers: int, check_content: bool = False
) -> Survey:
    """Look at every picture of `source` that is not known from an earlier time.

    Args:
        source: N pictures, as files or arrays.
        findings_dir: folder of what was found earlier; one file a root.
        workers: threads that read files.
        check_content: look at all of them again, whatever is known.

    Raises:
        ConfigError: the findings cannot be written, or memory or files run short.
    """
    if source.arrays is not None:
        return _survey_arrays(source.arrays)
    if source.root is None or source.sample_paths is None:
        raise ValueError(f"{source.name} has neither arrays nor files")
    files = [source.file(index) for index in range(len(source))]
    root = os.fsencode(source.root.absolute())
    path = findings_dir / f"{content_hash(root).decode()}.npz"
    what = f"the findings about the pictures in {source.root}"

    def known() -> tuple[Findings, Findings]:
        """What is stored, and what of it holds for these files."""
        stored = Findings.load(path) or Findings()
        findings = _refreshed(stored, source.sample_paths or (), files)
        if check_content:
            findings.forget()
        return stored, findings

    _, findings = known()
    if findings.unknown().size:
        with cache_errors(what, findings_dir), locked(path, what):
            # Another process may have looked at them while this one waited.
            stored, findings = known()
            _look(findings, files, workers)
            findings.joined(stored).save(path)
    rows = findings.rows
    return Survey(
        hashes=rows["hash"].copy(),
        sizes=np.stack([rows["height"], rows["width"]], axis=1).astype(np.int64),
        grey=rows["grey"].copy(),
        bounds=np.stack([rows["low"], rows["high"]], axis=1),
        deep_colour=rows["deep_colour"].copy(),
        reasons={
            int(i): findings.reasons[rows["reason"][i]] for i in np.flatnonzero(rows["reason"])
        },
    )


def duplicate_groups(hashes: npt.NDArray[np.bytes_]) -> list[npt.NDArray[np.int64]]:
    """The indices of each set of two or more equal hashes, ascending; sets by first index."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    lengths = np.diff(np.append(starts, len(order)))
    groups = [
        order[start : start + length]
        for start, length in zip(starts, lengths, strict=True)
        if length > 1
    ]
    return sorted(groups, key=lambda group: int(group[0]))


def copies(
    hashes: npt.NDArray[np.bytes_],
    targets: npt.NDArray[np.int64],
    names: Sequence[str],
    class_names: Sequence[str],
) -> tuple[Problem, ...]:
    """A problem for each picture whose content appeared before, above all under another label.

    Args:
        hashes: (N,) content hashes.
        targets: (N,) indices into `class_names`.
        names: what people know the N pictures by.
    """
    problems = []
    for first, *others in duplicate_groups(hashes):
        for index in others:
            reason = f"is an exact copy of {names[first]}"
            if targets[index] != targets[first]:
                labels = class_names[targets[index]], class_names[targets[first]]
                reason += f", but is labelled {labels[0]}, not {labels[1]}"
            problems.append(Problem(names[index], reason))
    return tuple(problems)


def _survey_arrays(arrays: npt.NDArray[np.uint8]) -> Survey:
    count, channels, height, width = arrays.shape
    return Survey(
        hashes=np.array([content_hash(row) for row in np.ascontiguousarray(arrays)], HASH_DTYPE),
        sizes=np.tile(np.array([height, width], np.int64), (count, 1)),
        grey=np.full(count, channels == 1),
        bounds=np.full((count, 2), np.nan),
        deep_colour=np.zeros(count, np.bool_),
        reasons={},
    )


def _refreshed(findings: Findings, paths: tuple[str, ...], files: list[str]) -> Findings:
    """What is known about these files, as they are now on disk."""
    missing = (NEVER, NEVER, NEVER, NEVER)
    state = []
    for file in files:
        try:
            state.append(file_state(os.stat(file)))
        except OSError:
            state.append(missing)
    return findings.of(paths, np.array(state, np.int64))


def _look(findings: Findings, files: list[str], workers: int) -> None:
    """Fill in the rows about which nothing is known."""
    unknown = findings.unknown()
    batches = [
        unknown[at : at + _FILES_AT_A_TIME] for at in range(0, len(unknown), _FILES_AT_A_TIME)
    ]

    def look(batch: npt.NDArray[np.int64]) -> list[Finding]:
        rows = findings.rows
        return [
            _look_at(files[i], (int(rows["mtime_ns"][i]), int(rows["ctime_ns"][i]))) for i in batch
        ]

    for batch, seen in zip(batches, in_order(look, batches, workers), strict=True):
        for index, one in zip(batch, seen, strict=True):
            findings.fill(int(index), one)


def _look_at(file: str, times_ns: tuple[int, int]) -> Finding:
    # Not settled: whatever is found is true now, but may not be found again by time of change.
    settled = was_settled(*times_ns)
    try:
        with open(file, "rb") as stream:
            if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                read_header(stream)  # which says so
            digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=_HASH_BYTES))
            found = digest.hexdigest().encode()
            stream.seek(0)
            try:
                header = read_header(stream)
                low = high = np.nan
                if header.deep or header.deep_colour:
                    stream.seek(0)
                    low, high = read_bounds(stream)
            except PictureError as error:
                return Finding(settled, found, reason=str(error))
    except PictureError as error:
        return Finding(settled, reason=str(error))
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        return Finding(False, reason=f"cannot be opened: {error.strerror}")
    size = header.height, header.width
    return Finding(settled, found, *size, header.grey, low, high, header.deep_colour)
