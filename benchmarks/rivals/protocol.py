"""What a contestant is asked and what it answers, and how its CPU seconds are counted.

Standard library only: fastai's environment has nothing of the project.
"""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Answer", "Rates", "Request", "cpu_seconds_used", "epochs_that_fit"]


@dataclass(frozen=True)
class Request:
    """What a contestant gets.

    Attributes:
        known: folder with `train` and `val`, each with one folder of pictures a class.
        test: folder of the pictures to label, whose names say nothing about them.
        weights: of networks of timm, a safetensors file each, by name; cheapest network first.
        cpu_seconds: that it may use up to the first label of a test picture.
        seed: of all its draws.
        threads: of its computations.
    """

    known: Path
    test: Path
    weights: Mapping[str, str]
    cpu_seconds: float
    seed: int
    threads: int

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        plain = asdict(self) | {"known": str(self.known), "test": str(self.test)}
        path.write_text(json.dumps(plain), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read what `write` wrote."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        return cls(**plain | {"known": Path(plain["known"]), "test": Path(plain["test"])})


@dataclass(frozen=True)
class Answer:
    """What a contestant says.

    Attributes:
        labels: the class of each picture of the test part, by file name.
        validation: accuracy in [0, 1] on the validation part.
        cpu_seconds: used before it labelled the test part, of all its processes.
        chosen: in overrides: which model it came to, and how it was trained.
    """

    labels: Mapping[str, str]
    validation: float
    cpu_seconds: float
    chosen: str

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Answer:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Rates:
    """CPU seconds a picture: of a step of the head alone, of all layers, and of validation."""

    head: float
    all_layers: float
    validation: float


def cpu_seconds_used() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    parts = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, parts))


def epochs_that_fit(seconds: float, rates: Rates, train: int, val: int, *, tuned: bool) -> int:
    """Return how many epochs, each with its validation, end within CPU seconds.

    Args:
        seconds: CPU seconds that are left.
        rates: measured.
        train, val: pictures of the two parts.
        tuned: whether epochs of all layers follow one epoch of the head, as in fastai's
            `fine_tune`, of which only the former are counted; else all epochs are of the head.

    Returns:
        0 where not even one fits.
    """
    head = train * rates.head + val * rates.validation
    if not tuned:
        return max(0, math.floor(seconds / head))
    epoch = train * rates.all_layers + val * rates.validation
    return max(0, math.floor((seconds - head) / epoch))
