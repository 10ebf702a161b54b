from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.records.trials import COMPLETE, FAILED, TrialRecord
from src.reporting.charts import curves_figure, pareto_figure
from src.reporting.scales import family_colors
from src.reporting.sweep_figures import (
    best_so_far,
    curves_of,
    draw_sweep_figures,
    equal_terms_figure,
    history_figure,
    importance_figure,
    trade_offs_of,
)
from tests.reporting.figures import texts
from tests.reporting.races import race

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("trials", "families", "metric", "lost"),
    [
        (0, 2, "val/accuracy", 0.1),
        (1, 1, "val/accuracy", 0.0),
        (1, 1, "val/loss", 1.0),
        (12, 12, "val/loss", 1.0),
        (13, 3, "cost/latency_ms", 0.3),
        (200, 4, "val/accuracy", 0.1),
    ],
)
def test_a_race_of_any_size_is_drawn(
    tmp_path: Path, trials: int, families: int, metric: str, lost: float
) -> None:
    whole = race(trials, families, metric=metric, lost=lost)
    paths = list(draw_sweep_figures(tmp_path, whole))
    names = {path.stem for path in paths}
    assert {"history", "equal_terms", "importance"} <= names
    assert ("learning_curves" in names) == bool(trials)
    assert ("pareto" in names) == (len(whole.ranked()) > 1)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    for path in paths:
        with Image.open(path) as picture:
            assert len(picture.convert("L").getcolors() or ()) > 2


def test_the_history_shows_every_trial_once() -> None:
    whole = race(60, 4)
    figure = history_figure(whole)
    (axes,) = figure.axes
    first = whole.ranked()[0]
    assert axes.get_title("left") == f"Best {100 * (first.value or 0):.1f} %: cnn-24"
    assert {"cnn", "pruned", "failed", "best so far"} <= set(texts(figure))
    low, high = axes.get_ylim()
    shown = {tuple(p) for c in axes.collections for p in np.round(c.get_offsets(), 6).tolist()}
    judged = [t for t in whole.trials if t.state != FAILED]
    assert shown == {(t.number, round(min(max(t.value or 0, low), high), 6)) for t in judged}
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    failed = [t.number for t in whole.trials if t.state == FAILED]
    assert crosses.get_xdata().tolist() == failed
    assert set(crosses.get_ydata().tolist()) == {low}


def test_failed_trials_lie_on_the_worse_edge_and_outliers_are_counted() -> None:
    whole = race(40, 2, metric="val/loss")
    lost = TrialRecord(99, "cnn", COMPLETE, {}, objectives=(1e6,), curve=((1, 1e6),))
    (axes,) = history_figure(dataclasses.replace(whole, trials=(*whole.trials, lost))).axes
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    assert set(crosses.get_ydata().tolist()) == {axes.get_ylim()[1]}
    assert axes.get_ylim()[1] < 2
    assert "(1 worse than shown)" in axes.get_title("left")


def test_the_best_so_far_only_improves() -> None:
    values = [None, 0.5, 0.3, None, 0.9]
    assert best_so_far(values, True).tolist()[1:] == [0.5, 0.5, 0.5, 0.9]
    assert best_so_far(values, False).tolist()[1:] == [0.5, 0.3, 0.3, 0.3]
    assert math.isnan(best_so_far(values, True)[0])


def test_families_are_compared_where_the_smallest_ends() -> None:
    whole = race(31, 4, lost=0)
    figure = equal_terms_figure(whole)
    left, right = figure.axes
    assert left.get_title("left").startswith("After 7 trials each: ")
    lines = [line.get_xdata() for line in left.lines]
    assert [7, 7] in [list(xs) for xs in lines]
    assert set(whole.families) <= set(texts(figure))
    seconds = [t.seconds or 0 for t in whole.trials if t.family == "gru"]
    ends = [line.get_xdata()[-1] for line in right.lines]
    assert any(math.isclose(end, sum(seconds)) for end in ends)


def test_nothing_complete_is_said() -> None:
    none = race(6, 2, lost=1.0)
    assert "fashion: nothing complete yet" in texts(history_figure(none))
    assert "No trial is complete yet" in texts(equal_terms_figure(none))
    assert trade_offs_of(none) == [] and curves_of(race(0)) == []


def test_curves_of_each_family_with_the_best_thick() -> None:
    whole = race(24, 3)
    figure = curves_figure(curves_of(whole), whole.metrics[0], family_colors(whole.families))
    titles = [axes.get_title("left") for axes in figure.axes if axes.get_visible()]
    assert [title.partition(":")[0] for title in titles] == list(whole.families)
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() > 2]
    best = next(t for t in whole.ranked() if t.family == "cnn")
    assert [tuple(point) for point in thick[0].get_xydata().tolist()] == list(best.curve)
    drawn = sum(len(c.get_segments()) for c in figure.axes[0].collections)
    assert drawn == sum(t.family == "cnn" for t in whole.trials)
    texts(figure)


def test_importances_are_shown_largest_first() -> None:
    shares = {f"key{i}": i / 55 for i in range(11)}
    whole = dataclasses.replace(race(3), importances={"cnn": shares, "mlp": {}})
    (axes,) = importance_figure(whole).axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == sorted(shares.values(), reverse=True)[:8]


def test_the_front_joins_what_nobody_beats() -> None:
    costs = {0: (0.90, 1e4), 1: (0.95, 1e6), 2: (0.80, 1e5), 3: (0.99, 1e8)}
    trials = tuple(
        TrialRecord(n, "cnn", COMPLETE, {}, objectives=(value,), figures={"cost/parameters": cost})
        for n, (value, cost) in costs.items()
    )
    whole = dataclasses.replace(race(0, 1), trials=trials)
    assert [one.key for one in trade_offs_of(whole)] == ["cost/parameters"]
    (axes,) = pareto_figure(trade_offs_of(whole), "val/accuracy", {"cnn": "#2f6bea"}).axes
    assert axes.lines[0].get_xydata().tolist() == [[1e4, 0.90], [1e6, 0.95], [1e8, 0.99]]
    assert axes.get_xscale() == "log"
    assert axes.get_title("left") == "3 on the front"


def test_several_metrics_have_their_front_too() -> None:
    pairs = ((0.9, 5.0), (0.8, 1.0), (0.7, 3.0), (0.6, math.inf))
    trials = tuple(
        TrialRecord(n, "cnn", COMPLETE, {}, objectives=pair) for n, pair in enumerate(pairs)
    )
    whole = dataclasses.replace(
        race(0, 1), trials=trials, metrics=("val/accuracy", "cost/latency_ms"),
        directions=("maximize", "minimize"),
    )  # fmt: skip
    (axes,) = pareto_figure(trade_offs_of(whole), "val/accuracy", {"cnn": "#2f6bea"}).axes
    assert axes.lines[0].get_xydata().tolist() == [[1.0, 0.8], [5.0, 0.9]]


def test_names_that_no_font_or_formula_should_take_are_harmless(tmp_path: Path) -> None:
    whole = race(20, 1)
    strange = "a/b $x$ 图"
    trials = tuple(dataclasses.replace(t, family=strange) for t in whole.trials)
    whole = dataclasses.replace(
        whole, trials=trials, families=(strange,), importances={strange: {"lr": 1.0}}
    )
    assert len(list(draw_sweep_figures(tmp_path, whole))) == 5
