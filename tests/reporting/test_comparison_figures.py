from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from src.reporting.comparison_figures import (
    curves_of,
    draw_comparison_figures,
    ranking_figure,
    recall_figure,
    reliability_figure,
    trade_offs_of,
)
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


def test_a_reliability_dot_is_as_large_as_its_share() -> None:
    leaders = report_data(3).leaders
    for axes, leader in zip(reliability_figure(leaders).axes, leaders, strict=True):
        sizes = axes.collections[0].get_sizes()
        assert (sizes - 12) / 260 == pytest.approx(leader.shares)


def test_the_winners_weakest_class_comes_first() -> None:
    found = report_data(3, classes=60)
    (axes,) = recall_figure(found.leaders, found.class_names).axes
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
        assert curves.value == by_rank[rank].standing.accuracy
