from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from src.records.ties import place
from src.records.trials import Finalist, TrialRecord

# The best first, where a higher figure is better: figure, log-loss, latency, name.
ORDER = [
    (0.9, 0.5, 9.0, "z-1"),
    (0.8, 0.1, 9.0, "z-1"),
    (0.8, 0.2, 1.0, "z-1"),
    (0.8, 0.2, 2.0, "cnn-2"),
    (0.8, 0.2, 2.0, "cnn-10"),
    (0.8, 0.2, 2.0, "mlp-1"),
    (0.8, 0.2, None, "a-1"),
    (0.8, None, 1.0, "a-1"),
    (0.8, math.nan, 2.0, "a-1"),
    (None, 0.1, 1.0, "a-1"),
]


@pytest.mark.parametrize("maximize", [True, False])
def test_the_figure_then_the_log_loss_then_the_latency_then_the_name(maximize: bool) -> None:
    shuffled = random.Random(0).sample(ORDER, len(ORDER))

    def key(one: tuple[float | None, float | None, float | None, str]) -> object:
        figure = one[0] if maximize or one[0] is None else -one[0]
        return place(figure, maximize=maximize, log_loss=one[1], latency=one[2], name=one[3])

    assert sorted(shuffled, key=key) == ORDER  # type: ignore[arg-type]


def test_trials_and_finalists_are_ranked_by_it() -> None:
    figures = {"val/log_loss": 0.2, "cost/latency_ms": 3.0}
    trial = TrialRecord(7, "cnn", "complete", {}, objectives=(0.8,), figures=figures)
    better = replace(trial, number=9, figures=figures | {"val/log_loss": 0.1})
    assert better.place("maximize") < trial.place("maximize")
    whole = Finalist(7, {1: 0.7, 2: 0.9}, figures={1: figures, 2: figures})
    assert whole.place("maximize", "cnn-7") == trial.place("maximize")
    # 0.7 + 0.9 is not 0.8 + 0.8 in the last digit.
    assert Finalist(7, {1: 0.8, 2: 0.8, 3: 0.8}).place("maximize", "cnn-7")[0] == -0.8
    partly = Finalist(7, {1: 0.7, 2: 0.9}, figures={1: figures})
    assert partly.place("maximize", "cnn-7")[1] == math.inf
    of_one = Finalist(7, {1: 0.7, 2: None}, figures={1: figures, 2: {}})
    assert of_one.place("maximize", "cnn-7")[1] == 0.2
