"""Pictures that show the same thing almost pixel by pixel: copies saved anew, shots of one burst.

Candidates come from perceptual hashes, and two pictures are called near only when their pixels
agree as well, and agree better than those of strangers in the same data set do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...machine.arrays import Float32Array, Int64Array, UInt8Array
from ..splitting.groups import components
from .picture_statistics import BLANK

__all__ = ["NearPairs", "burst_pairs", "low_frequencies", "near_pairs", "perceptual_hashes"]

_LOW = 8  # frequencies a side that the hash looks at
_HASH_BITS = _LOW * _LOW
# Hashes of one photo saved twice differ in few bits; those of strangers in 32 on average.
_MOST_BITS = 8
_ROTATIONS = range(0, _HASH_BITS, 4)
_WINDOW = 16
# Largest 1 - correlation of near pictures: re-encoded, resized or lightly edited photos stay below.
_LOOSEST = 0.1
_STRICTEST = _LOOSEST / 32
# Pairs may grow by this much when the tolerance doubles, or be so few that strangers do no harm.
_GROWTH = 5
_CHANCE_PAIRS = 10
_PICTURES_PER_CHANCE_PAIR = 1000
# Fraction of all pictures from which a chain of similar ones is not taken for a set of copies.
_CHAINED = 0.1
_CHAINED_AT_LEAST = 20
_CHUNK = 4096
_BURST = 0.7
_BURST_RATIO = 3

Grey = UInt8Array
S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True, eq=False)
class NearPairs:
    """P pairs of pictures, (P, 2) indices, the lower one first, sorted; none by default.

    `likeness` is (P,) the correlation of their pixels, at most 1.
    """

    pairs: Int64Array = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    likeness: Float32Array = field(default_factory=lambda: np.zeros(0, np.float32))


def near_pairs(images: Grey) -> NearPairs:
    """Return the pairs of pictures that are one photo, in any size, encoding or light.

    The tolerance depends on the data. Chance resemblances multiply when the tolerance doubles (in D
    effective dimensions by 2^(D/2)), true copies do not. So the tolerance starts where pictures
    cannot be told apart and is doubled for as long as the pairs found stay few or grow by less than
    strangers would, and do not chain a good part of the data set together; it is halved once where
    that ended it.

    Pictures of (almost) a single colour are in no pair: they are alike without being copies.

    Args:
        images: (N, H, W) uint8, grey, at least 8x8 pixels.
    """
    # Per picture 300 bytes are kept: sets of millions are compared in memory.
    count = len(images)
    low = np.empty((count, _HASH_BITS), np.float32)
    hashes = np.empty(count, np.uint64)
    spread = np.empty(count, np.float32)
    for start in range(0, count, _CHUNK):
        rows = slice(start, start + _CHUNK)
        found = low_frequencies(images[rows])
        hashes[rows] = perceptual_hashes(found)
        spread[rows] = images[rows].std(axis=(1, 2), dtype=np.float32)
        low[rows] = found.reshape(len(found), _HASH_BITS)
    pairs = _candidates(hashes)
    pairs = pairs[(spread[pairs] > BLANK).all(axis=1)]
    # The transform keeps lengths, so the distance in its low part bounds that of the pictures.
    low[:, 0] = 0
    low /= np.maximum(spread * np.sqrt(images[0].size), 1e-6)[:, None]
    gaps = [((low[p[:, 0]] - low[p[:, 1]]) ** 2).sum(axis=1) / 2 for p in _chunks(pairs)]
    pairs = pairs[np.concatenate([*gaps, np.zeros(0)]) <= _LOOSEST]
    likeness = _correlation(images, pairs)
    kept = 1 - likeness <= _tolerance(pairs, 1 - likeness, len(images))
    return NearPairs(pairs[kept], likeness[kept])


def burst_pairs(images: Grey, names: Sequence[str], series: Sequence[str]) -> NearPairs:
    """Return neighbours by number (IMG_0001, IMG_0002) that show one subject, a moment later.

    The pixels have to correlate by 0.7, and neighbours have to do so at least three times as often
    as pictures of one series that are far from each other.

    Args:
        images: (N, H, W) uint8, grey.
        names: N file names or paths; the last number in the name counts.
        series: N keys; pictures of different keys are never neighbours.
    """
    near, far = _numbered(names, series)
    likeness = _correlation(images, near)
    alike = likeness >= _BURST
    by_chance = (_correlation(images, far) >= _BURST).mean() if len(far) else 0.0
    if not alike.any() or alike.mean() < _BURST_RATIO * by_chance:
        return NearPairs()
    order = np.lexsort(near[alike].T[::-1])
    return NearPairs(near[alike][order], likeness[alike][order])


def _chunks(rows: NDArray[S]) -> Iterator[NDArray[S]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def low_frequencies(images: Grey) -> Float32Array:
    """Return the lowest 8x8 frequencies of the orthonormal cosine transform (DCT-II), float32.

    Two small matrix products: only these 64 of all frequencies are wanted.

    Args:
        images: (N, H, W) uint8, grey, at least 8x8 pixels.
    """
    waves = []
    for side in images.shape[1:]:
        places = (np.arange(side) + 0.5) * np.pi / side
        wave = np.cos(np.arange(_LOW)[:, None] * places) * np.sqrt(2 / side)
        wave[0] /= np.sqrt(2)
        waves.append(wave.astype(np.float32))
    return waves[0] @ images.astype(np.float32) @ waves[1].T


def perceptual_hashes(low: Float32Array) -> NDArray[np.uint64]:
    """Return (N,) hashes of 64 bits that hardly change when a picture is resized or saved anew.

    Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section
    3.2.1: which of the lowest frequencies (N, 8, 8) of the cosine transform lie above their median.
    Of pictures of 32x32 pixels these are the bits that ImageHash's `phash` computes, row by row.
    """
    # Orthonormal scaling halves the first row and column's weight against the plain transform,
    # whose bits other implementations publish.
    weights = np.ones(_LOW, np.float32)
    weights[0] = np.sqrt(2)
    plain = (low * weights[:, None] * weights).reshape(len(low), _HASH_BITS)
    bits = plain > np.median(plain, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _candidates(hashes: NDArray[np.uint64]) -> Int64Array:
    """Return (P, 2) pairs whose hashes differ in few bits; nearly all where hashes are sparse.

    Differing bits leave a run of equal ones somewhere. Sorted by the bits from there on, the two
    stand close together, so comparing each hash with the next few of 16 rotations finds them.
    """
    count = np.uint64(len(hashes))
    found: list[NDArray[np.uint64]] = []
    for turn in map(np.uint64, _ROTATIONS):
        turned = hashes << turn | hashes >> (np.uint64(_HASH_BITS) - turn) % np.uint64(_HASH_BITS)
        order = np.argsort(turned, kind="stable").astype(np.uint64)
        ordered = hashes[order]
        for step in range(1, min(_WINDOW, len(hashes) - 1) + 1):
            close = np.bitwise_count(ordered[step:] ^ ordered[:-step]) <= _MOST_BITS
            first, second = order[:-step][close], order[step:][close]
            found.append(np.minimum(first, second) * count + np.maximum(first, second))
    codes = np.unique(np.concatenate([*found, np.zeros(0, np.uint64)])).astype(np.int64)
    return np.stack(np.divmod(codes, max(len(hashes), 1)), axis=1)


def _correlation(images: Grey, pairs: Int64Array) -> Float32Array:
    """Return (P,) float32: the Pearson correlation of each pair's pixels; 0 of a single colour."""
    values = [np.zeros(0, np.float32)]
    for chunk in _chunks(pairs):
        # Each picture once, however many partners it has: a mapped array is read in order.
        used, places = np.unique(chunk, return_inverse=True)
        pixels = images[used].reshape(len(used), -1).astype(np.float32)
        pixels -= pixels.mean(axis=1, keepdims=True)
        pixels /= np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)
        first, second = places.reshape(-1, 2).T
        values.append(np.einsum("nd,nd->n", pixels[first], pixels[second]))
    return np.concatenate(values)


def _tolerance(pairs: Int64Array, gaps: Float32Array, count: int) -> float:
    few = _CHANCE_PAIRS + count // _PICTURES_PER_CHANCE_PAIR
    tolerance = _STRICTEST
    while tolerance < _LOOSEST:
        now, doubled = (gaps <= tolerance).sum(), (gaps <= 2 * tolerance).sum()
        joined = components(count, *pairs[gaps <= 2 * tolerance].T)
        chained = np.bincount(joined).max()  # pictures in the largest set that pairs join
        if doubled > max(_GROWTH * now, few) or chained > max(_CHAINED * count, _CHAINED_AT_LEAST):
            # Pairs of strangers, whose number the next step multiplies, begin here already.
            return tolerance / 2
        tolerance *= 2
    return _LOOSEST


def _numbered(names: Sequence[str], series: Sequence[str]) -> tuple[Int64Array, Int64Array]:
    """Return pairs of successive numbers, and pairs of the same series that stand far apart."""
    rows: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for index, (name, key) in enumerate(zip(names, series, strict=True)):
        stem = os.path.splitext(name.rpartition("/")[2])[0]
        if match := re.fullmatch(r"(.*?)([0-9]{1,18})([^0-9]*)", stem):
            before, number, after = match.groups()
            rows.setdefault((key, f"{before}#{after}"), []).append((int(number), index))
    near: list[tuple[int, int]] = []
    far: list[tuple[int, int]] = []
    for row in rows.values():
        row.sort()
        half = len(row) // 2
        for (one, i), (two, j) in pairwise(row):
            if two - one <= 1:
                near.append((min(i, j), max(i, j)))
        far += [(row[at][1], row[at + half][1]) for at in range(len(row) - half) if half > 1]
    return np.array(near, np.int64).reshape(-1, 2), np.array(far, np.int64).reshape(-1, 2)
