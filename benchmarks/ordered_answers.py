"""Ordered classes answered for kappa, against the most probable class and two other rules.

A network is trained, and its validation part is answered by its most probable class, by
`data.answer=kappa`, where other pictures choose each one's borders, as in the figures of a run, by
`data.answer=mae`, the median class, which has the least mean error where probabilities are right,
and by the rounded mean of the classes. Nothing is measured on test parts.

RetinaMNIST has a small network, the solar cells one with published weights, both with CORN and with
cross-entropy. BAKEOFF_PHOTOS names the folder with the pictures; BAKEOFF_TASKS=retinamnist,
BAKEOFF_LOSSES=corn,cross_entropy and BAKEOFF_SEEDS=0,1,2 choose what is measured.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Row
from benchmarks.target_kinds import ORDERED, SMALL, TUNED, words_of
from src.config.compose import read_run_settings
from src.metrics.ordered import expected_classes, mean_absolute_error, quadratic_kappa
from src.records.run import Predictions
from src.runs.candidates.candidate import cross_fitted
from src.runs.experiment import run_experiment

__all__ = ["measure"]

_NETWORKS = {"retinamnist": SMALL, "elpv_grades": TUNED}
_USUAL, _KAPPA = "the most probable class", "data.answer=kappa"


def measure() -> list[Row]:
    """Kappa, mean error and accuracy of four answers by the same networks."""
    tasks, losses, seeds = (
        os.environ.get(f"BAKEOFF_{name}", usual).split(",")
        for name, usual in (
            ("TASKS", ",".join(ORDERED)),
            ("LOSSES", "corn,cross_entropy"),
            ("SEEDS", "0,1,2"),
        )
    )
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in tasks:
            base, ordinal = words_of(name, Path(place))
            overrides = [*base, *ordinal, *_NETWORKS[name], "evaluate_test=false"]
            for loss in losses:
                said = [_validation([*overrides, f"loss={loss}", f"seed={seed}"]) for seed in seeds]
                rows += _rows(f"{name}, loss={loss}", said)
    return rows


def _validation(overrides: list[str]) -> Predictions:
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None
    return Predictions.read(os.path.join(summary.run_dir, "predictions", "val.parquet"))


def _rows(what: str, said: list[Predictions]) -> list[Row]:
    answers = [_answers(one) for one in said]
    found = {
        name: [_figures(one[name], of) for one, of in zip(answers, said, strict=True)]
        for name in answers[0]
    }
    ours, theirs = (np.mean([one["kappa"] for one in found[name]]) for name in (_KAPPA, _USUAL))
    return [
        Row(f"{what}, {name}", _shown(each), "better kappa", bool(ours > theirs))
        if name == _KAPPA
        else Row(f"{what}, {name}", _shown(each), "told", True)
        for name, each in found.items()
    ]


def _answers(said: Predictions) -> dict[str, NDArray[Any]]:
    return {
        _USUAL: said.decided,
        _KAPPA: cross_fitted(said, "kappa")[0].decided,
        "data.answer=mae": cross_fitted(said, "mae")[0].decided,
        "the rounded mean of the classes": np.rint(expected_classes(said.probs)).astype(np.int64),
    }


def _figures(preds: NDArray[Any], said: Predictions) -> dict[str, float]:
    return {
        "kappa": quadratic_kappa(preds, said.targets, len(said.class_names)),
        "mean error": mean_absolute_error(preds, said.targets),
        "accuracy": float((preds == said.targets).mean()),
    }


def _shown(found: list[dict[str, float]]) -> str:
    return "; ".join(
        f"{name} {', '.join(f'{one[name]:.3f}' for one in found)}" for name in found[0]
    )
