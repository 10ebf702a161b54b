"""Pictures that show the same thing almost pixel by pixel: copies saved anew, shots of one burst.

Candidates come from perceptual hashes, and two pictures are called near only when their pixels
agree as well, and agree better than those of strangers in the same data set do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
# Random orders that neighbours are compared in, as many as this number of pairs allows.
_MOST_ORDERS, _COMPARED = 99, 100_000
# Rows of fewer pictures say too little by themselves on how alike their pictures are by chance.
_SHORT = 4

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
    as in random orders of the same pictures on average, and more often than in any of these orders:
    in small sets a few pairs are alike by chance (a permutation test, at 1 % with up to a thousand
    pairs).

    Args:
        images: (N, H, W) uint8, grey.
        names: N file names or paths; the last number in the name counts.
        series: N keys; pictures of different keys are never neighbours.
    """
    rows = _numbered(names, series)
    likeness = _correlation(images, rows.neighbours())
    alike = likeness >= _BURST
    rng = np.random.default_rng(0)
    orders = max(1, min(_COMPARED // max(len(alike), 1), _MOST_ORDERS))
    by_chance = 0
    for _ in range(orders):
        shuffled = _correlation(images, rows.shuffled(rng).neighbours()) >= _BURST
        if shuffled.sum() >= alike.sum():
            return NearPairs()
        by_chance += int(shuffled.sum())
    if alike.sum() < _BURST_RATIO * by_chance / orders:
        return NearPairs()
    pairs = np.sort(rows.neighbours()[alike], axis=1)
    order = np.lexsort(pairs.T[::-1])
    return NearPairs(pairs[order], likeness[alike][order])


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


@dataclass(frozen=True, eq=False)
class _Rows:
    """Pictures by number: (N,) indices `pictures`, and (N,) `rows` within which they change places.

    `follows` are the places of those whose number is that of the place before, or one more.
    """

    pictures: Int64Array
    follows: Int64Array
    rows: Int64Array

    def neighbours(self) -> Int64Array:
        """Return (P, 2) pairs of pictures with successive numbers."""
        return np.stack([self.pictures[self.follows - 1], self.pictures[self.follows]], axis=1)

    def shuffled(self, rng: np.random.Generator) -> _Rows:
        """Return the same numbers with the pictures of each row in a random order."""
        order = np.lexsort([rng.random(len(self.rows)), self.rows])
        return replace(self, pictures=self.pictures[order])


def _numbered(names: Sequence[str], series: Sequence[str]) -> _Rows:
    """Return pictures by their numbers: a row for what stands before, and behind, the number.

    Short rows, such as the shots of one subject each, change places with those of their series.
    """
    numbered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for index, (name, one) in enumerate(zip(names, series, strict=True)):
        stem = os.path.splitext(name.rpartition("/")[2])[0]
        if match := re.fullmatch(r"(.*?)([0-9]{1,18})([^0-9]*)", stem):
            before, number, after = match.groups()
            numbered.setdefault((one, f"{before}#{after}"), []).append((int(number), index))
    pictures: list[int] = []
    follows: list[int] = []
    rows: list[int] = []
    places: dict[tuple[str, str], int] = {}
    short = {key for key, row in numbered.items() if len(row) < _SHORT}
    # By series, those of short rows first, so that what changes places stands together.
    for key in sorted(numbered, key=lambda key: (key[0], key not in short, key[1])):
        row = sorted(numbered[key])
        at = len(pictures)
        follows += [at + k for k in range(1, len(row)) if row[k][0] - row[k - 1][0] <= 1]
        pictures += [index for _, index in row]
        rows += [places.setdefault((key[0], "") if key in short else key, len(places))] * len(row)
    return _Rows(
        np.array(pictures, np.int64), np.array(follows, np.int64), np.array(rows, np.int64)
    )
