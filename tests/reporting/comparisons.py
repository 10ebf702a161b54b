"""Comparisons of made-up candidates, judged for real, with everything that a report shows."""

from __future__ import annotations

import numpy as np

from src.metrics.classification import confusion_matrix, per_class_recall
from src.metrics.probabilistic import reliability_bins
from src.records.comparison import Comparison, Entrant
from src.records.report_data import Agreement, Answer, Disagreement, Leader, ReportData
from src.statistics.candidates import Candidate
from src.statistics.verdict import judge

__all__ = ["comparison", "report_data"]


def comparison(
    count: int,
    families: int = 3,
    *,
    prefix: str = "",
    pictures: int = 400,
    band: float = 0.0,
) -> Comparison:
    """`count` candidates of so many families; every other one has three repeats."""
    generator = np.random.default_rng(count)
    hard = generator.standard_normal(pictures)
    candidates = []
    for number in range(count):
        repeats = 3 if number % 2 else 1
        noise = 0.5 * generator.standard_normal((repeats, pictures))
        candidates.append(
            Candidate(
                name=f"{prefix}candidate {number}",
                run_ids=tuple(f"{number:04d}{seed}" for seed in range(repeats)),
                right=1.5 - 0.1 * number / count - hard + noise > 0,
                log_losses=np.full(repeats, generator.exponential(0.3, pictures).mean()),
                calibration_errors=np.full(repeats, 0.02),
                costs=None if number == 3 else np.full(repeats, 0.1 + number),
            )
        )
    verdict = judge(candidates, draws=200, band=band)
    entrants = tuple(
        Entrant(
            standing=one,
            family=f"{prefix}family {int(one.run_ids[0][:4]) % families}",
            settings=f"{prefix}lr=0.{one.rank} width={16 * one.rank}",
            size=None if one.cost is None else (28, 28 + one.rank),
            start=None if one.cost is None else "from scratch",
            weights=None,
            parameters=None if one.cost is None else 1000 * one.rank,
            training_seconds=None if one.cost is None else 60.0 + one.rank,
            run_dirs=tuple(f"/runs/{prefix}{run}" for run in one.run_ids),
            command=f"python -m src.train {prefix}",
        )
        for one in verdict.standings
    )
    return Comparison(
        verdict=verdict,
        entrants=entrants,
        pair=None,
        remarks=(f"{prefix}One run on other pictures left out.",),
        part="val",
        data=f"{prefix}pictures",
        runs=sum(len(one.run_dirs) for one in entrants),
        test_measurements=2,
    )


def report_data(
    count: int,
    classes: int = 5,
    *,
    prefix: str = "",
    leaders: int = 3,
    curves: bool = True,
    band: float = 0.0,
) -> ReportData:
    """A whole report of such a comparison."""
    compared = comparison(count, prefix=prefix, band=band)
    generator = np.random.default_rng(classes)
    names = tuple(f"{prefix}class {k}" for k in range(classes))
    chosen = compared.entrants[:leaders]
    found = []
    for one in chosen:
        targets = generator.integers(0, classes, 300)
        logits = generator.standard_normal((300, classes))
        logits[np.arange(300), targets] += 2
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        matrix, bins = confusion_matrix(probs, targets), reliability_bins(probs, targets)
        filled = bins.counts > 0
        found.append(
            Leader(
                one.standing.rank,
                one.standing.name,
                one.family,
                matrix,
                per_class_recall(matrix),
                bins.calibration_error,
                bins.confidence[filled],
                bins.accuracy[filled],
                bins.counts[filled] / 300,
            )
        )
    answers = tuple(Answer(names[place % classes], 0.9, place == 0) for place in range(len(chosen)))
    pictures = (
        generator.integers(0, 256, (3, 20, 30), np.uint8),
        generator.integers(0, 256, (1, 8, 8), np.uint8),
        None,
    )
    disagreements = tuple(
        Disagreement(i, f"{prefix}picture {i}", names[0], answers, picture)
        for i, picture in enumerate(pictures)
    )
    lines = {
        one.standing.rank: tuple((epoch, 1 - 0.5**epoch) for epoch in range(1, 8))
        for one in compared.entrants[:9]
    }
    return ReportData(
        comparison=compared,
        class_names=names,
        leaders=tuple(found),
        agreement=Agreement(0.9, 0.99) if len(chosen) > 1 else None,
        disagreements=disagreements if len(chosen) > 1 else (),
        no_pictures=f"{prefix}gone",
        curves=lines if curves else {},
        importances={f"{prefix}family 0": {f"{prefix}optimizer.lr": 0.75, "width": 0.25}},
        importance_of="val/accuracy",
    )
