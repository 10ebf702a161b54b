"""The examination of decoded pictures: near-duplicates, bursts and pictures of poor quality."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config.checks import ConfigError
from ...machine.arrays import AnyArray, Int64Array, UInt8Array
from ...machine.failures import DiskRefuses
from ...machine.parallel import in_order
from ...machine.status import with_progress
from ...records.pictures import Suspect
from ...storage.array_files import load_arrays
from ...storage.cache import key_of, opened
from ...storage.growing import GrowingFile
from ...targets.labels import label_codes, label_text
from ..decoding.picture_files import PictureError
from ..decoding.picture_format import PictureFormat
from ..decoding.picture_store import PageReader, PictureStore
from ..sources.source import Source
from ..splitting.splits import PARTS, Split
from .near_duplicates import NearPairs, burst_pairs, near_pairs
from .picture_statistics import MEASURES, faults, grey, quality_measures

__all__ = ["ODD_LABEL", "Examination", "examine", "list_suspects"]

_log = logging.getLogger(__name__)

# Part of every key: to be raised when the same pictures would be judged otherwise.
_VERSION = 3
# Files are compared at this size, or at their own if they share a small one, whatever the network
# sees: the split must not depend on data.image_size.
_PRINT_SIZE = (32, 32)
_OWN_SIZE = (8, 64)
_BLOCK_PICTURES = 256
_FILE, _PRINTS = "found.npz", "prints.bin"
_NEAR, _BURST = "near-duplicate", "burst"
ODD_LABEL = "odd label"  # the kind of suspects that most nearly equal pictures contradict
# Of two nearly equal pictures with two labels nobody knows which one is wrong.
_FEWEST_ALIKE = 2
# Of the score of an odd label: more than half of them have one other label then. In the size that
# pictures are compared in, a fine crack is no difference, and the right label of one seems odd.
_LEAST_ODD = 0.5

Columns = dict[str, AnyArray]


@dataclass(frozen=True, eq=False)
class Examination:
    """The results of examining the pictures of a store."""

    near: NearPairs  # nearly equal
    bursts: NearPairs  # of one subject, one taken after the other
    measures: NDArray[np.void]  # (N,) of `MEASURES`

    @property
    def belong_together(self) -> Int64Array:
        """(P, 2) all pairs that must stay in one part."""
        return np.concatenate([self.near.pairs, self.bursts.pairs])


def examine(pictures: PictureStore, *, cache_dir: Path, workers: int) -> Examination:
    """Return the examination of all pictures, made now or when the same ones were examined earlier.

    Args:
        pictures: a store that has its source.
        cache_dir: the project's cache folder.
        workers: threads that decode.

    Raises:
        ConfigError: what is found cannot be written.
    """
    source = pictures.source
    if source is None:
        raise ValueError(f"{pictures.name} has come without its source")
    folder, names = cache_dir / "examined", pictures.sample_paths

    def compare(place: Path) -> Columns:
        prints = _prints(pictures, source, place, workers)
        near = near_pairs(prints)
        bursts = NearPairs() if names is None else _bursts(prints, names, pictures)
        found: Columns = {"near": near.pairs, "near_likeness": near.likeness}
        return found | {"bursts": bursts.pairs, "burst_likeness": bursts.likeness}

    def look(place: Path) -> Columns:
        seen = pictures.array
        if seen is None:  # too many to be decoded once more in their full size
            seen = _prints(pictures, source, place, workers)[:, None]
        blocks = [seen[at : at + _BLOCK_PICTURES] for at in range(0, len(seen), _BLOCK_PICTURES)]
        return {"measures": np.concatenate([*in_order(quality_measures, blocks, workers)])}

    form, hashes = pictures.identity(), pictures.content_hashes.tobytes()
    given, small = pictures.given_parts is not None, pictures.identity(_print_format(pictures))
    key = key_of([_VERSION, names, pictures.targets.tolist(), given, small], hashes)
    pairs = _stored(folder / f"near-{key}", compare, pictures)
    key = key_of([_VERSION, form, pictures.array is None], hashes)
    measures = _stored(folder / f"quality-{key}", look, pictures)["measures"].astype(MEASURES)
    return Examination(
        NearPairs(pairs["near"].astype(np.int64), pairs["near_likeness"].astype(np.float32)),
        NearPairs(pairs["bursts"].astype(np.int64), pairs["burst_likeness"].astype(np.float32)),
        measures,
    )


def list_suspects(pictures: PictureStore, split: Split, found: Examination) -> list[Suspect]:
    """Return the pictures that should be looked at before training, the worst of each kind first.

    Near pairs are suspicious where they stand in different parts or under different labels, unless
    the label of one of the two is odd.
    """
    suspects: list[Suspect] = []

    def suspect(
        index: int,
        kind: str,
        score: float,
        *,
        like: int | None = None,
        rather: int | None = None,
    ) -> Suspect:
        names, classes = pictures.sample_paths, pictures.class_names
        label = label_text(pictures.targets[index], classes)
        labelled = like if rather is None else rather
        other = "" if labelled is None else label_text(pictures.targets[labelled], classes)
        return Suspect(
            part=PARTS[split.parts[index]],
            index=index,
            path=None if names is None else names[index],
            label=label,
            kind=kind,
            score=float(score),
            suggested="" if other == label else other,
            like="" if like is None else f"picture {like}" if names is None else names[like],
        )

    used = split.parts != PARTS.index("dropped")
    sizes = pictures.original_sizes
    for kind, indices, scores in faults(found.measures, sizes, pictures.image_size):
        suspects += [
            suspect(int(i), kind, s) for i, s in zip(indices, scores, strict=True) if used[i]
        ]
    odd = _odd_labels(found.near, pictures, split)
    suspects += [suspect(one, ODD_LABEL, score, rather=other) for one, other, score in odd]
    named: set[int] = set()
    for kind, near in ((_NEAR, found.near), (_BURST, found.bursts)):
        for one, other, likeness in _torn(near, pictures, split, {one for one, _, _ in odd}):
            if one not in named:
                named.add(one)
                suspects.append(suspect(one, kind, min(likeness, 1.0), like=other))
    return suspects


def _odd_labels(
    near: NearPairs, pictures: PictureStore, split: Split
) -> list[tuple[int, int, float]]:
    """Return (picture, one with the label that it should have, score) by score.

    The score, in (0.5, 1], is the share of the pictures nearly equal to it with one other label
    minus the share with its own.
    """
    pairs = np.concatenate([near.pairs, near.pairs[:, ::-1]])
    pairs = pairs[(split.parts[pairs] != PARTS.index("dropped")).all(axis=1)]
    _, examples, codes = np.unique(
        label_codes(pictures.targets), return_index=True, return_inverse=True
    )
    votes, counts = np.unique(pairs[:, 0] * len(examples) + codes[pairs[:, 1]], return_counts=True)
    voted, labels = np.divmod(votes, len(examples))
    alike, own = np.bincount(pairs[:, 0], minlength=len(codes)), np.zeros(len(codes), np.int64)
    is_own = labels == codes[voted]
    own[voted[is_own]] = counts[is_own]
    scores = (counts - own[voted]) / np.maximum(alike[voted], 1)
    odd = ~is_own & (scores > _LEAST_ODD) & (alike[voted] >= _FEWEST_ALIKE)
    voted, labels, scores = voted[odd], labels[odd], scores[odd]
    worst = np.argsort(-scores, kind="stable")
    columns = voted[worst], examples[labels[worst]], scores[worst]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _torn(
    near: NearPairs, pictures: PictureStore, split: Split, odd: Collection[int]
) -> Iterator[tuple[int, int, float]]:
    """Yield (picture, the one like it, likeness) of pairs in two parts or classes, by likeness.

    The picture of the later part comes first, because it is its score that cannot be trusted. Pairs
    within a part with a picture of an odd label say nothing more.
    """
    dropped = PARTS.index("dropped")
    codes = label_codes(pictures.targets)
    for pair in np.argsort(-near.likeness, kind="stable"):
        one, other = near.pairs[pair].tolist()
        parts = split.parts[one], split.parts[other]
        same = parts[0] == parts[1] and codes[one] == codes[other]
        # Exact copies are problems of the picture store.
        copies = pictures.content_hashes[one] == pictures.content_hashes[other]
        known = parts[0] == parts[1] and (one in odd or other in odd)
        if same or known or copies or dropped in parts:
            continue
        if parts[0] < parts[1]:
            one, other = other, one
        yield one, other, float(near.likeness[pair])


def _bursts(prints: UInt8Array, names: Sequence[str], pictures: PictureStore) -> NearPairs:
    """Return bursts within a folder and, where parts are given, those that were divided."""
    found = burst_pairs(prints, names, [name.rpartition("/")[0] for name in names])
    if pictures.given_parts is None:
        return found
    labels = [label_text(target, pictures.class_names) for target in pictures.targets]
    across = burst_pairs(prints, names, labels)
    pairs = np.concatenate([found.pairs, across.pairs])
    likeness = np.concatenate([found.likeness, across.likeness])
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    return NearPairs(pairs, likeness[first])


def _print_format(pictures: PictureStore) -> PictureFormat:
    """Return the small format that files are compared in, whatever the network sees."""
    sizes, size = pictures.original_sizes, _PRINT_SIZE
    least, most = _OWN_SIZE
    if (sizes == sizes[0]).all() and least <= sizes.min() <= sizes.max() <= most:
        size = int(sizes[0, 0]), int(sizes[0, 1])
    return replace(pictures.format, image_size=size, fit="squeeze", dtype="uint8")


def _prints(pictures: PictureStore, source: Source, place: Path, workers: int) -> UInt8Array:
    """Return (N, H, W) uint8: small grey versions of all pictures; arrays in their own size."""
    form = _print_format(pictures)
    size = form.image_size
    # How pictures of other proportions are resized does not matter where none is.
    as_stored = replace(pictures.format, fit=form.fit) if size != _PRINT_SIZE else pictures.format
    ready = source.arrays
    if ready is not None and ready.dtype != np.uint8:
        ready = None  # they are to be scaled
    elif ready is None and as_stored == form:
        ready = pictures.array
    if ready is None:
        threads = f"{workers} thread{'s' * (workers > 1)}"
        _log.info("comparing %s pictures once, with %s", f"{len(source):,}", threads)

    reader = PageReader(source)

    def block(start: int) -> UInt8Array:
        stop = min(start + _BLOCK_PICTURES, len(source))
        if ready is not None:
            return grey(ready[start:stop])
        prints = np.zeros((stop - start, *size), np.uint8)
        for row, index in enumerate(range(start, stop)):
            try:
                expected = bytes(pictures.content_hashes[index])
                prints[row] = grey(reader.picture(index, form, expected)[None])[0]
            except PictureError as error:  # or it would be stored as black
                raise ConfigError(f"{source.sample_name(index)} {error}: run again.") from error
        return prints

    if source.arrays is not None:
        return np.concatenate([block(start) for start in range(0, len(source), _BLOCK_PICTURES)])
    # Written, not mapped: a full disk is then an error.
    file = place / _PRINTS
    kept = GrowingFile(file, _PRINTS)
    left = range(len(kept.blocks) * _BLOCK_PICTURES, len(source), _BLOCK_PICTURES)
    blocks = in_order(block, left, workers)
    for prints in with_progress(blocks, len(source) - left.start, "pictures compared", len):
        kept.add(prints.tobytes(), {})
    return np.memmap(file, np.uint8, mode="r", shape=(len(source), *size))


def _stored(folder: Path, find: Callable[[Path], Columns], pictures: PictureStore) -> Columns:
    """Return what `find` finds, now or at an earlier time."""

    def build(unfinished: Path) -> dict[str, Any]:
        found = find(unfinished)
        if (file := unfinished / _PRINTS).exists():
            GrowingFile(file, _PRINTS).close()
            file.unlink()
        np.savez(unfinished / _FILE, allow_pickle=False, **found)
        return {}

    try:
        what = f"the comparisons of the pictures of {pictures.name}"
        return opened(folder, build, lambda entry: load_arrays(entry.folder / _FILE), what=what)
    except (ConfigError, DiskRefuses):
        # Arrays are used without a cache otherwise, and so they are examined without one.
        if pictures.source is None or pictures.source.arrays is None:
            raise
        return find(folder)
