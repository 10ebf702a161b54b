"""scikit-learn's contestant: a logistic regression on features of one of timm's frozen networks.

python -m benchmarks.rivals.fit_heads REQUEST.json ANSWER.json

The networks are tried from the largest to the smallest, each at the size that it was made for and
with the transforms that timm names, as far as the CPU seconds reach; where they do not reach for
the smallest one, it gets smaller pictures. StandardScaler and LogisticRegression are fitted to the
training part for each C; the network and the C are chosen by the validation part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from benchmarks.rivals.protocol import Answer, Request, cpu_seconds_used

__all__ = ["Contestant", "main"]

Floats = NDArray[np.float32]

# Of pictures, if not that of the network.
_SMALLER_SIDES = (160, 128)
# From the usual best for standardised features outwards, for the time may end.
_STRENGTHS = (1e-2, 1e-3, 1e-1, 1e-4, 1.0, 1e-5, 10.0)
_BATCH = 32
_WARM_UP, _SAMPLE = 8, 32
# Of the CPU seconds, kept for fitting.
_FITTING = 0.15


@dataclass(frozen=True)
class _Fitted:
    """A classifier on features of a network, and its accuracy in [0, 1] on the validation part."""

    validation: float
    network: _Network
    head: Pipeline
    strength: float


class _Network:
    """A frozen network with the transform of its pictures.

    Args:
        name: of timm.
        file: with its weights.
        side: of its pictures in pixels; None for that which it was made for.
    """

    def __init__(self, name: str, file: str, side: int | None) -> None:
        self.name = name
        self._network = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"file": file}, num_classes=0
        ).eval()
        wanted = {} if side is None else {"input_size": (3, side, side)}
        config = resolve_data_config(wanted, model=self._network)
        self.side = int(config["input_size"][-1])
        self._transform: Any = create_transform(**config)

    def features(self, files: Sequence[Path]) -> Floats:
        """Return features (N, D) of picture files."""
        rows = []
        with torch.inference_mode():
            for at in range(0, len(files), _BATCH):
                batch = torch.stack([self._pixels(file) for file in files[at : at + _BATCH]])
                rows.append(self._network(batch).numpy())
        return np.concatenate(rows)

    def _pixels(self, file: Path) -> torch.Tensor:
        with Image.open(file) as image:
            return self._transform(image.convert("RGB"))

    def seconds_a_picture(self, files: Sequence[Path]) -> float:
        """Return CPU seconds a picture, of a few of them after others to warm up."""
        self.features(files[-_WARM_UP:])
        began = cpu_seconds_used()
        self.features(files[:_SAMPLE])
        return (cpu_seconds_used() - began) / len(files[:_SAMPLE])


class Contestant:
    """Tries the networks of a request.

    Args:
        request: to answer.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._train, self._val = (_listed(request.known / part) for part in ("train", "val"))
        self._uncharged = 0.0  # CPU seconds of timing

    def answer(self) -> Answer:
        """Fit as much as the CPU seconds allow, choose by the validation part, and label."""
        fitted = [head for network in self._networks() for head in self._heads(network)]
        if not fitted:
            sys.exit(f"{self._request.cpu_seconds:.0f} CPU seconds are too few for any network")
        # Of equal ones the first: of the larger network, and of the more usual strength.
        best = max(fitted, key=lambda one: one.validation)
        used = self._request.cpu_seconds - self._left()
        files = sorted(self._request.test.iterdir())
        guesses = best.head.predict(best.network.features(files))
        labels = dict(zip((file.name for file in files), map(str, guesses), strict=True))
        tried = len({one.network.name for one in fitted})
        chosen = (
            f"{best.network.name}, {best.network.side} pixels, C={best.strength:g}, of {tried} "
            f"network{'s' * (tried > 1)} and {len(fitted)} heads"
        )
        return Answer(labels, best.validation, used, chosen)

    def _left(self) -> float:
        return self._request.cpu_seconds - cpu_seconds_used() + self._uncharged

    def _networks(self) -> Iterator[_Network]:
        """Yield those whose features fit into the CPU seconds left when their turn comes."""
        weights = self._request.weights
        names = list(weights)
        whole = [(name, None) for name in reversed(names)]
        smaller = [(names[0], side) for side in _SMALLER_SIDES]
        found = False
        for name, side in (*whole, *smaller):
            if side is not None and found:
                return
            network = _Network(name, weights[name], side)
            if self._fits(network):
                found = True
                yield network

    def _fits(self, network: _Network) -> bool:
        began = cpu_seconds_used()
        rate = network.seconds_a_picture(self._train[0])
        self._uncharged += cpu_seconds_used() - began
        pictures = len(self._train[0]) + len(self._val[0])
        return rate * pictures <= (1 - _FITTING) * self._left()

    def _heads(self, network: _Network) -> Iterator[_Fitted]:
        """Yield a classifier for each C as long as there is time for one more, and one anyhow."""
        train, val = (network.features(files) for files, _ in (self._train, self._val))
        longest = 0.0
        for strength in _STRENGTHS:
            if longest > self._left():
                return
            began = cpu_seconds_used()
            head = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
            head.fit(train, self._train[1])
            yield _Fitted(float(head.score(val, self._val[1])), network, head, strength)
            longest = max(longest, cpu_seconds_used() - began)


def _listed(part: Path) -> tuple[list[Path], list[str]]:
    """Return the picture files of a folder of class folders, and their classes."""
    files = sorted(part.glob("*/*"))
    return files, [file.parent.name for file in files]


def main(request: Path, answer: Path) -> None:
    """Answer a request."""
    asked = Request.read(request)
    torch.set_num_threads(asked.threads)
    with threadpool_limits(asked.threads):
        Contestant(asked).answer().write(answer)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
