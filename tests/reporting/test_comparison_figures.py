from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from src.reporting.comparison_figures import (
    draw_comparison_figures,
    ranking_figure,
    recall_figure,
    reliability_figure,
)
from src.reporting.report_data import as_race
from tests.reporting.comparisons import comparison, exhibits


def test_every_picture_that_there_is_something_to_draw_of(tmp_path: Path) -> None:
    drawn = [path.stem for path in draw_comparison_figures(tmp_path, exhibits(12))]
    confusion = ["confusion_1", "confusion_2", "confusion_3"]
    assert drawn == [
        *("leaderboard", "trade_offs", "learning_curves", "reliability", *confusion),
        *("classes", "disagreements", "importance"),
    ]
    for name in drawn:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 200


def test_a_single_candidate_without_curves_is_drawn(tmp_path: Path) -> None:
    alone = exhibits(1, classes=2, leaders=1, curves=False, prefix="$^[")
    drawn = [path.stem for path in draw_comparison_figures(tmp_path, alone)]
    assert drawn == ["leaderboard", "reliability", "confusion_1", "classes", "importance"]


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
    leaders = exhibits(3).leaders
    for axes, leader in zip(reliability_figure(leaders).axes, leaders, strict=True):
        counts = leader.bins.counts[leader.bins.counts > 0]
        sizes = axes.collections[0].get_sizes()
        assert (sizes - 12) / 260 == pytest.approx(counts / counts.sum())


def test_the_winners_weakest_class_comes_first() -> None:
    found = exhibits(3, classes=60)
    (axes,) = recall_figure(found.leaders, found.class_names).axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    recall = found.leaders[0].recall
    assert labels[0] == found.class_names[int(recall.argmin())] and len(labels) == 40


def test_a_comparison_is_a_race_that_is_over() -> None:
    whole = exhibits(6)
    race = as_race(whole)
    assert [t.number for t in race.ranked()] == [1, 2, 3, 4, 5, 6]
    for trial, one in zip(race.trials, whole.comparison.entrants, strict=True):
        assert trial.value == one.standing.accuracy
        assert trial.figures.get("cost/latency_ms") == one.standing.cost
