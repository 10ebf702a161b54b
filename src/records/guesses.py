"""A small sample of any number of labelled pictures, for inspection."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Guess", "GuessSample"]


@dataclass(frozen=True, order=True)
class Guess:
    """A predicted label of a picture; sorts by probability, ascending.

    Attributes:
        probability: of the label, in [0, 1].
        path: of the picture.
        label: the class's name.
    """

    probability: float
    path: str
    label: str


class GuessSample:
    """The least certain guesses, where mistakes are, and a random sample of the others.

    Holds a bounded number of guesses. The sample is drawn by the hash of each path, so that equal
    pictures give equal samples.

    Args:
        class_names: all that a label may be.
        limit: how many of each.

    Attributes:
        count: number of guesses added.
    """

    def __init__(self, class_names: Sequence[str], limit: int = 30) -> None:
        self.class_names = tuple(class_names)
        self.count = 0
        self._limit = limit
        # Heaps, at whose front is what has to go next.
        self._unsure: list[tuple[float, Guess]] = []
        # Twice as many, since the least certain ones may be among them.
        self._drawn: list[tuple[int, Guess]] = []

    def add(self, guess: Guess) -> None:
        """Add a guess."""
        self.count += 1
        _keep_largest(self._unsure, (-guess.probability, guess), self._limit)
        path = guess.path.encode("utf-8", "surrogateescape")
        rank = int.from_bytes(hashlib.blake2b(path, digest_size=8).digest())
        _keep_largest(self._drawn, (rank, guess), 2 * self._limit)

    @property
    def least_certain(self) -> list[Guess]:
        """At most `limit`, least certain first."""
        return sorted(guess for _, guess in self._unsure)

    def few(self, limit: int = 24) -> list[Guess]:
        """At most `limit`: the least certain ones as half of them, then some of all the others."""
        unsure, others = self.least_certain, self.others
        half = max(limit // 2, limit - len(others))
        places = min(limit - min(half, len(unsure)), len(others))
        spread = [others[len(others) * place // places] for place in range(places)]
        return unsure[:half] + spread

    @property
    def others(self) -> list[Guess]:
        """At most `limit` of the rest, least certain first."""
        unsure = set(self.least_certain)
        rest = [guess for _, guess in sorted(self._drawn, reverse=True) if guess not in unsure]
        return sorted(rest[: self._limit])


def _keep_largest(heap: list[Any], item: Any, limit: int) -> None:
    if len(heap) < limit:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)
