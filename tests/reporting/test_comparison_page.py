from __future__ import annotations

import dataclasses
import json
import re

import pytest

from src.records.comparison import ReportData
from src.reporting.comparison_page import comparison_page
from src.reporting.comparison_report import closing_remarks
from src.reporting.comparison_verdict import verdict_sentences
from tests.reporting.comparisons import report_data
from tests.reporting.pages import EVIL, Tags, Visit, browser, in_a_browser, visit

__all__ = ["browser", "visit"]  # fixtures


def evil() -> ReportData:
    return report_data(12, prefix=EVIL)


@pytest.mark.parametrize("shown", [report_data(1, leaders=1), report_data(40, 12), evil()])
def test_nothing_is_loaded_from_anywhere(shown: ReportData) -> None:
    page = comparison_page(shown)
    found = Tags(page)
    assert not {"href", "style", "onclick", "onerror", "action"} & set(found.attributes)
    assert not {"link", "iframe", "base", "object"} & set(found.tags)
    sources = found.attributes.get("src", [])
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert len(sources) == sum(one.picture is not None for one in shown.disagreements)
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in page and "@import" not in page
    (policy,) = (text for text in found.attributes["content"] if "default-src" in text)
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "img-src data:;" in policy


def test_whatever_the_texts_hold_stays_text() -> None:
    page = comparison_page(evil())
    assert EVIL not in page
    found = Tags(page)
    assert found.tags.count("script") == 2
    data = json.loads(found.inside[-2][1])
    assert {one["family"] for one in data["candidates"]} == {f"{EVIL}family {k}" for k in range(3)}


def test_what_there_is_without_the_script() -> None:
    shown = report_data(12)
    page = comparison_page(shown)
    ranks = re.findall(r'<tr data-trial="(\d+)">', page)
    assert [int(rank) for rank in ranks] == list(range(1, 13))
    for sentence in (*verdict_sentences(shown.comparison), *closing_remarks(shown.comparison)):
        assert sentence in page
    assert "The pictures cannot be shown: gone." in page and "optimizer.lr" in page
    assert page.count("<figure>") == 3


def test_the_front_is_what_nothing_beats_in_both() -> None:
    shown = report_data(20)
    data = json.loads(Tags(comparison_page(shown)).inside[-2][1])
    known = [c for c in data["candidates"] if c["cost"] is not None]
    beaten = {
        one["rank"]
        for one in known
        for other in known
        if other["cost"] <= one["cost"]
        and other["figure"] >= one["figure"]
        and (other["cost"], other["figure"]) != (one["cost"], one["figure"])
    }
    assert set(data["front"]) == {one["rank"] for one in known} - beaten


def test_a_thousand_candidates_make_a_page_of_two_megabytes_at_most() -> None:
    assert len(comparison_page(report_data(1000))) < 2e6


@pytest.mark.slow
@in_a_browser
def test_a_press_on_a_header_sorts_and_on_a_rank_tells_all(visit: Visit) -> None:
    shown = report_data(15)
    page = visit(comparison_page(shown))
    page.get_by_role("button", name="log-loss").click()
    rows = page.locator("#leaderboard tbody tr")
    found = [int(row.get_attribute("data-trial") or "") for row in rows.all()]
    entrants = shown.comparison.entrants
    by_loss = sorted(entrants, key=lambda one: one.standing.log_loss)
    assert found == [one.standing.rank for one in by_loss]
    page.get_by_role("button", name="ms ↕", exact=True).click()  # what nobody measured stays last
    assert rows.last.locator("td").nth(7).inner_text() == ""
    rows.first.get_by_role("button").click()
    card = page.locator("#card").inner_text()
    cheapest = min(entrants, key=lambda one: one.standing.cost or 1e9)
    assert cheapest.standing.name in card and cheapest.run_dirs[0] in card
    behind = cheapest.standing.behind
    ends = f"{100 * behind.low:+.1f} to {100 * behind.high:+.1f} points"
    assert f"ahead of the best of the others\n{ends}" in card
    drawn = page.locator(f"#plane circle[data-trial='{cheapest.standing.rank}']")
    assert "chosen" in (drawn.get_attribute("class") or "")


@pytest.mark.slow
@in_a_browser
def test_the_pointer_names_a_candidate(visit: Visit) -> None:
    shown = report_data(15)
    page = visit(comparison_page(shown))
    page.locator("#plane circle[data-trial='1']").hover()
    winner = shown.comparison.verdict.winner
    told = page.locator("#tip").inner_text()
    assert told.startswith(f"1. {winner.name}") and f"{100 * winner.accuracy:.2f} %" in told
    assert page.locator("#ranking circle").count() == 15
    known = sum(one.standing.cost is not None for one in shown.comparison.entrants)
    assert page.locator("#plane circle").count() == known
    tied = sum(one.standing.tied for one in shown.comparison.entrants)
    assert page.locator("#ranking circle:not(.open)").count() == tied
    assert page.locator("#curves > svg").count() == 3
    assert page.locator("#reliability > svg").count() == 3
    assert page.locator("#confusion rect").count() == 3 * 25


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(
    "shown",
    [
        report_data(1, leaders=1, curves=False),
        report_data(2, 2, leaders=2),
        report_data(60, 30),
        report_data(5, 120),
        evil(),
    ],
)
def test_a_narrow_dark_screen_is_enough(visit: Visit, shown: ReportData) -> None:
    page = visit(comparison_page(shown), 390, "dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(20, 24, 28)"
    assert page.locator("#ranking svg").count() == 1
    page.set_viewport_size({"width": 844, "height": 390})
    page.wait_for_function("document.querySelector('#ranking svg').clientWidth > 700")


@pytest.mark.slow
@in_a_browser
def test_without_any_known_latency_there_is_no_plane(visit: Visit) -> None:
    shown = report_data(4)
    entrants = tuple(
        dataclasses.replace(one, standing=dataclasses.replace(one.standing, cost=None))
        for one in shown.comparison.entrants
    )
    comparison = dataclasses.replace(shown.comparison, entrants=entrants)
    page = visit(comparison_page(dataclasses.replace(shown, comparison=comparison)))
    assert page.locator("#plane").count() == 0 and page.locator("#ranking svg").count() == 1


@pytest.mark.slow
@in_a_browser
def test_no_table_scrolls_sideways_on_a_common_screen(visit: Visit) -> None:
    shown = report_data(12)
    entrants = tuple(
        dataclasses.replace(
            one,
            size=(260, 260),
            parameters=86_600_000,
            training_seconds=7530.0,
            standing=dataclasses.replace(
                one.standing,
                name="handcrafted features=[hog, lbp, colour] classifier=gradient_boosting #3fa1",
                spread=0.0123,
            ),
        )
        for one in shown.comparison.entrants
    )
    comparison = dataclasses.replace(shown.comparison, entrants=entrants)
    page = visit(comparison_page(dataclasses.replace(shown, comparison=comparison)), 1300)
    for place in page.locator(".scroll").all():
        assert place.evaluate("one => one.scrollWidth - one.clientWidth") == 0
