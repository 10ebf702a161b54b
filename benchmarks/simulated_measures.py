"""Do intervals hold by every measure that candidates can be ranked by?

Five equal candidates answer the same pictures, each kind of targets by a law of its own; the true
figure is the one on 200,000 pictures of that law. Everything goes the way that the predictions of
finished runs go: through `MeasuredRun.of`, `candidates_of` and `judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, softmax

from benchmarks.simulated_fields import generator_of
from benchmarks.table import Row
from src.records.pixel_answers import pixel_answers
from src.records.run import Predictions
from src.statistics.candidates import Measure, MeasuredRun, candidates_of
from src.statistics.evidence import Evidence
from src.statistics.intervals import difference_interval
from src.statistics.verdict import judge

__all__ = ["by_measures"]

_CANDIDATES, _PICTURES, _MANY = 5, 600, 200_000
_COVER, _LEFT_OUT = 93.6, 6.4

# Targets, and the answers of so many candidates, to so many pictures.
Answers = tuple[NDArray[np.integer], list[NDArray[np.generic]]]
Law = Callable[[np.random.Generator, int, int], Answers]

_FREQUENCIES = (0.5, 0.25, 0.15, 0.07, 0.03)
_COSTS = np.array([[0, 1, 1, 1, 1]] * 4 + [[20, 20, 20, 20, 0]], np.float64)
np.fill_diagonal(_COSTS, 0)


def _noises(
    generator: np.random.Generator, candidates: int, *shape: int
) -> Iterator[NDArray[np.float64]]:
    """Yield standard normal numbers for each candidate, that share three fifths of the variance."""
    common = np.sqrt(0.6) * generator.standard_normal(shape)
    for _ in range(candidates):
        yield common + np.sqrt(0.4) * generator.standard_normal(shape)


def _one_class(generator: np.random.Generator, pictures: int, candidates: int) -> Answers:
    targets = generator.choice(len(_FREQUENCIES), pictures, p=_FREQUENCIES)
    signal = 2.2 * np.eye(len(_FREQUENCIES))[targets]
    noises = _noises(generator, candidates, *signal.shape)
    return targets, [softmax(signal + one, axis=1).astype(np.float32) for one in noises]


def _ordered(generator: np.random.Generator, pictures: int, candidates: int) -> Answers:
    targets = generator.choice(4, pictures, p=(0.5, 0.25, 0.15, 0.1))
    noises = _noises(generator, candidates, pictures)
    places = ((targets + 0.6 * one)[:, None] - np.arange(4) for one in noises)
    return targets, [softmax(-2 * one**2, axis=1).astype(np.float32) for one in places]


def _labels(generator: np.random.Generator, pictures: int, candidates: int) -> Answers:
    targets = (generator.random((pictures, 8)) < np.geomspace(0.3, 0.04, 8)).astype(np.uint8)
    noises = _noises(generator, candidates, *targets.shape)
    return targets, [expit(2.5 * targets - 1.5 + one).astype(np.float32) for one in noises]


def _pixels(generator: np.random.Generator, pictures: int, candidates: int) -> Answers:
    """Pictures of 64 pixels, each of the background and of some of three classes."""
    held = np.ones((pictures, 4), np.uint8)
    held[:, 1:] = generator.random((pictures, 3)) < (0.6, 0.3, 0.1)
    pixels = generator.multinomial(64, held / held.sum(axis=1, keepdims=True))
    answers: list[NDArray[np.generic]] = []
    for noise in _noises(generator, candidates, pictures, 4):
        found = ndtr(1 + 0.6 * noise)
        hits = generator.binomial(pixels, found)
        matrices = hits[:, :, None] * np.eye(4, dtype=np.int64)
        for target in range(4):  # what is missed is taken for the next class
            matrices[:, target, (target + 1) % 4] += (pixels - hits)[:, target]
        losses = -(pixels * np.log(found)).sum(axis=1) / 64
        answers.append(pixel_answers(matrices, losses, [None] * pictures))
    return (pixels > 0).astype(np.uint8), answers


@dataclass(frozen=True, eq=False)
class _Judged:
    """A kind of targets, the law of its answers, and a measure of it."""

    kind: str
    law: Law
    measure: Measure

    def runs(self, generator: np.random.Generator, pictures: int, count: int) -> list[MeasuredRun]:
        """Return so many candidates, measured on the same pictures."""
        targets, answers = self.law(generator, pictures, count)
        classes = targets.shape[1] if targets.ndim > 1 else answers[0].shape[1]
        return [
            MeasuredRun.of(
                Predictions(
                    sample_ids=np.arange(pictures),
                    paths=None,
                    targets=targets,
                    probs=probs,
                    class_names=tuple(map(str, range(classes))),
                    kind=self.kind,
                ),
                run_id=f"c{index}",
                configuration=f"c{index}",
                name=f"c{index}",
                seed=0,
                part="val",
                split_fingerprint=None,
                measure=self.measure,
            )
            for index, probs in enumerate(answers)
        ]


_JUDGED = (
    *(
        _Judged("single", _one_class, Measure(name))
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "auc", "log_loss")
    ),
    _Judged("single", _one_class, Measure("cost", _COSTS)),
    *(_Judged("ordinal", _ordered, Measure(name)) for name in ("kappa", "mae")),
    *(
        _Judged("multi", _labels, Measure(name))
        for name in ("map", "auc", "macro_f1", "micro_f1", "hamming_loss")
    ),
    *(_Judged("dense", _pixels, Measure(name)) for name in ("miou", "dice", "pixel_accuracy")),
)


def by_measures(fields: int) -> Iterator[Row]:
    """Yield how often intervals hold, and the truly best is left out, by each measure."""
    for judged in _JUDGED:
        name = f"{judged.kind} {judged.measure.name}"
        many = judged.runs(generator_of(f"{name}, many", 0), _MANY, 1)[0]
        truth = float((many.right if many.scores is None else many.scores).mean(dtype=np.float64))
        found = np.array([_held(judged, truth, seed, name) for seed in range(fields)])
        *shares, left_out = (100 * found.mean(axis=0)).tolist()
        yield Row(
            f"95 % intervals that hold by {judged.measure.name} of kind {judged.kind}: winner, "
            f"lines, a difference; five equal candidates, {fields:,} fields",
            ", ".join(f"{share:.1f}" for share in shares) + " %",
            f"at least {_COVER} %",
            min(shares) >= _COVER,
        )
        yield Row(
            f"the truly best left out by {judged.measure.name} of kind {judged.kind}",
            f"{left_out:.1f} %",
            f"at most {_LEFT_OUT} %",
            left_out <= _LEFT_OUT,
        )


def _held(judged: _Judged, truth: float, seed: int, name: str) -> tuple[bool, float, bool, bool]:
    """Return whether the winner's interval, the share of lines, and that of a difference hold.

    And whether the last one is left out, of equals as good a best as any.
    """
    runs = judged.runs(generator_of(name, seed), _PICTURES, _CANDIDATES)
    candidates, scale = candidates_of(runs), runs[0].scale
    verdict = judge(candidates, scale=scale, seed=seed)
    figure = truth if verdict.higher_is_better else -truth
    seen = Evidence.of(candidates, lowest=scale.lowest)
    return (
        figure in verdict.winner.interval,
        float(np.mean([figure in one.interval for one in verdict.standings])),
        0 in difference_interval(seen, 0, 1),
        "c4" not in {one.name for one in verdict.tied},
    )
