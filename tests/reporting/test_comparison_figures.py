from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from src.records.comparison import Comparison
from src.reporting.comparison_figures import (
    curves_of,
    draw_comparison_figures,
    ranking_figure,
    recall_figure,
    reliability_figure,
    trade_offs_of,
)
from src.reporting.style import save
from tests.reporting.comparisons import comparison, report_data


def test_every_picture_that_there_is_something_to_draw_of(tmp_path: Path) -> None:
    drawn = [path.stem for path in draw_comparison_figures(tmp_path, report_data(12))]
    confusion = ["confusion_1", "confusion_2", "confusion_3"]
    assert drawn == [
        *("leaderboard", "trade_offs", "learning_curves", "reliability", *confusion),
        "classes",
    ]
    for name in drawn:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 200


def test_a_single_candidate_without_curves_is_drawn(tmp_path: Path) -> None:
    alone = report_data(1, classes=2, leaders=1, curves=False, prefix="$^[")
    drawn = [path.stem for path in draw_comparison_figures(tmp_path, alone)]
    assert drawn == ["leaderboard", "reliability", "confusion_1", "classes"]


def test_those_tied_with_the_best_are_filled() -> None:
    whole = comparison(12)
    (axes,) = ranking_figure(whole).axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    filled = [dot.get_markerfacecolor() != "white" for dot in dots]
    assert filled == [one.standing.tied for one in whole.entrants]
    assert any(filled)
    shown = [dot.get_xdata()[0] for dot in dots]
    assert shown == pytest.approx([100 * one.standing.accuracy for one in whole.entrants])


def test_the_choice_is_drawn_though_many_come_before_it() -> None:
    whole = comparison(300, band=0.1)
    rank = whole.choice.standing.rank
    (axes,) = ranking_figure(whole).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert rank > 30 and len(names) == 31 and names[-1].startswith(f"{rank}. ")
    assert "the best 30 of 300 candidates" in axes.get_title(loc="left")


def test_a_reliability_dot_is_as_large_as_its_share() -> None:
    leaders = report_data(3).leaders
    for axes, leader in zip(reliability_figure(leaders).axes, leaders, strict=True):
        sizes = axes.collections[0].get_sizes()
        assert (sizes - 12) / 260 == pytest.approx(leader.shares)


def test_the_winners_weakest_class_comes_first() -> None:
    found = report_data(3, classes=60)
    (axes,) = recall_figure(found.leaders, found.class_names, "Recall").axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    recall = found.leaders[0].recall
    assert labels[0] == found.class_names[int(recall.argmin())] and len(labels) == 40


def test_trade_offs_hold_the_candidates_whose_cost_is_known() -> None:
    entrants = comparison(6).entrants
    parameters, latency = trade_offs_of(comparison(6))
    assert (parameters.key, latency.key) == ("cost/parameters", "cost/latency_ms")
    known = [one for one in entrants if one.standing.cost is not None]
    assert 1 < len(known) < len(entrants)
    assert latency.points == [(c.standing.cost, c.standing.accuracy, c.family) for c in known]
    assert trade_offs_of(comparison(1)) == []


def test_curves_are_grouped_by_family_with_that_of_its_best() -> None:
    data = report_data(12)
    by_rank = {one.standing.rank: one for one in data.comparison.entrants}
    found = {one.family: one for one in curves_of(data)}
    assert sum(len(one.complete) for one in found.values()) == len(data.curves)
    for family, curves in found.items():
        rank = min(rank for rank in data.curves if by_rank[rank].family == family)
        assert curves.best == data.curves[rank]
        assert curves.value == data.curves[rank][-1][1]


def by(measure: str, compared: Comparison) -> Comparison:
    """The same candidates with the same figures, which are said to be of another measure."""
    return replace(compared, verdict=replace(compared.verdict, measure=measure))


@pytest.mark.parametrize(("measure", "best"), [("accuracy", max), ("log_loss", min)])
def test_the_front_is_of_the_best(
    measure: str, best: object, tmp_path: Path, drawn_by: Callable[[str], list[Figure]]
) -> None:
    data = report_data(6)
    data = replace(data, comparison=by(measure, data.comparison))
    drawn = drawn_by("pareto_figure")
    list(itertools.islice(draw_comparison_figures(tmp_path, data), 2))
    for axes, one in zip(drawn[0].axes, trade_offs_of(data.comparison), strict=True):
        front = axes.lines[0].get_ydata()
        assert best(quality for _, quality, _ in one.points) in front  # type: ignore[operator]
        slope = np.diff(front)
        assert (slope > 0).all() if best is max else (slope < 0).all()


def test_curves_are_of_the_validation_part_and_state_where_they_end(
    tmp_path: Path, drawn_by: Callable[[str], list[Figure]]
) -> None:
    data = report_data(6)
    pixels = replace(
        data,
        comparison=replace(data.comparison, part="test"),
        curve="miou",
        of_classes="iou",
        curves={1: ((1, 0.3), (2, 0.55), (3, 0.61))},
    )
    drawn = drawn_by("curves_figure")
    list(itertools.islice(draw_comparison_figures(tmp_path, pixels), 3))
    (axes,) = drawn[0].axes
    assert axes.get_ylabel() == "validation mean IoU" and axes.get_title(loc="left").endswith(
        ": 61.0 %"
    )


@pytest.mark.parametrize(
    ("measure", "scale"), [("accuracy", 100), ("hamming_loss", 100), ("kappa", 1), ("mae", 1)]
)
def test_figures_are_drawn_in_the_units_in_which_they_are_written(measure: str, scale: int) -> None:
    whole = by(measure, comparison(4))
    (axes,) = ranking_figure(whole).axes
    shown = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert shown == pytest.approx([scale * one.standing.figure for one in whole.entrants])
    assert axes.get_xlabel().startswith("percent, ") == (scale == 100)


@pytest.mark.parametrize("name", ["cost_$5_$", "a$_b$", "us$ und ca$"])
def test_dollars_in_the_name_of_data_are_no_formula(name: str, tmp_path: Path) -> None:
    save(ranking_figure(replace(comparison(4), data=name)), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size
