"""The page of a comparison that goes by a table of costs."""

from __future__ import annotations

import dataclasses

import numpy as np

from src.reporting.comparison_page import comparison_page
from src.statistics.candidates import Scale
from src.statistics.verdict import judge
from tests.reporting.comparisons import report_data
from tests.statistics.fields import candidate


def test_where_costs_decide_the_page_shows_costs() -> None:
    """The first makes nearly as many mistakes as the others, and cheaper ones."""
    shown, costs = report_data(3), np.zeros((3, 1, 400), np.float32)
    for index, dear in enumerate((2.0, 5.0, 5.0)):
        costs[index, 0, 100 * index : 100 * index + 40 + index] = dear
    names = [one.standing.name for one in shown.comparison.entrants]
    field = [candidate(name, own == 0, scores=-own) for name, own in zip(names, costs, strict=True)]
    verdict = judge(field, scale=Scale("cost", ends=(0.0, 5.0)), gap=0.1)
    assert [one.name for one in verdict.standings] == names and len(verdict.tied) == 1
    entrants = tuple(
        dataclasses.replace(one, standing=standing)
        for one, standing in zip(shown.comparison.entrants, verdict.standings, strict=True)
    )
    comparison = dataclasses.replace(shown.comparison, verdict=verdict, entrants=entrants)
    page = comparison_page(dataclasses.replace(shown, comparison=comparison))
    low, high = verdict.winner.interval.low, verdict.winner.interval.high
    assert 0 < low < 0.2 < high
    head, _, rest = page.partition("</header>")
    assert f"<h1>Use {names[0]}</h1>" in head and "Mean cost 0.2000 (" in head
    assert f"{low:.4g} to {high:.4g}" in rest and "mean cost" in rest
    assert "90.0 %" not in head, "no share of right answers stands for a cost"
