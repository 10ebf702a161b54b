from __future__ import annotations

import dataclasses
import html
import json
import re
from math import nan
from typing import Any

import numpy as np
import pytest

from src.machine.text import visible_lines
from src.records.comparison import Interval
from src.records.report_data import Answer, GroupScore, ReportData
from src.reporting.comparison_page import comparison_page
from src.reporting.comparison_report import (
    classes_table,
    closing_remarks,
    comparison_table,
    subgroups_table,
)
from src.reporting.comparison_verdict import verdict_sentences
from tests.reporting.comparisons import report_data
from tests.reporting.pages import (
    EVIL,
    WIDTHS,
    Tags,
    Visit,
    browser,
    faults,
    in_a_browser,
    on_paper,
    opened,
    visit,
)

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


def test_subgroups_have_a_line_each_with_all_leaders_in_the_order_of_the_winners() -> None:
    plain = report_data(5, leaders=2)
    assert "Subgroups" not in comparison_page(plain)
    low = GroupScore("a <phone>", 20, 0.5, Interval(0.3, 0.7))
    high, alone = GroupScore("scanner", 30, 0.9, Interval(0.7, 1.0)), GroupScore("x", 1, 1.0, None)
    leaders = [
        dataclasses.replace(plain.leaders[0], subgroups=(low, high, alone)),
        dataclasses.replace(plain.leaders[1], subgroups=(high, low, alone)),
    ]
    shown = dataclasses.replace(plain, leaders=tuple(leaders), subgroup="camera")
    table = subgroups_table(shown)
    assert table is not None and table.headers == ("camera", "pictures", *(o.name for o in leaders))
    assert table.rows == (
        ("a <phone>", "20", *["50.0 % (30.0 to 70.0)"] * 2),
        ("scanner", "30", *["90.0 % (70.0 to 100.0)"] * 2),
        ("x", "1", "100.0 %", "100.0 %"),
    )
    page = comparison_page(shown)
    assert "Accuracy by camera" in page and "a &lt;phone&gt;" in page


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
    assert [int(rank) for rank in ranks] == 2 * list(range(1, 13))  # the board, and every figure
    for sentence in (*verdict_sentences(shown.comparison), *closing_remarks(shown.comparison)):
        assert sentence in html.unescape(page)
    assert "The pictures cannot be shown: gone." in page and "optimizer.lr" in page
    assert page.count("<figure>") == 3


@pytest.mark.parametrize(
    ("baseline", "chosen", "headline"),
    [
        (0.99, 0, "No candidate is significantly better than a constant answer"),
        (0.99, 1, "Use candidate"),
        (0.1, 0, "Use candidate"),
    ],
)
def test_what_may_know_nothing_is_not_praised(baseline: float, chosen: int, headline: str) -> None:
    shown = report_data(12)
    verdict = shown.comparison.verdict
    verdict = dataclasses.replace(verdict, baseline=baseline, choice=verdict.standings[chosen])
    page = comparison_page(
        dataclasses.replace(
            shown, comparison=dataclasses.replace(shown.comparison, verdict=verdict)
        )
    )
    assert f"<h1>{headline}" in page
    cautious = f"<dt>Caution</dt><dd>{verdict.choice.name} is significantly worse"
    assert (cautious in re.sub(r">\s+<", "><", page)) is (baseline > 0.9)


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


def test_the_headline_is_the_choice_with_its_figure_price_and_next_step() -> None:
    shown = report_data(12)
    page = comparison_page(shown, "python -m src.select sweep=s")
    choice = shown.comparison.verdict.choice
    head = page.partition("</header>")[0]
    assert f"<h1>Use {choice.name}</h1>" in head
    assert f"{100 * choice.figure:.1f} %" in head and f"{choice.cost:.3g} ms a picture" in head
    assert "<code>python -m src.select sweep=s</code>" in head
    assert "Next step" not in comparison_page(shown)
    assert (
        f"A network of the family {shown.comparison.choice.family}, trained from scratch." in head
    )


@pytest.mark.parametrize("runs", [1, 3])
def test_costs_are_named_as_means_over_the_runs(runs: int) -> None:
    """A sweep shows those of the trial."""
    shown = report_data(4)
    ids = tuple(map(str, range(runs)))
    entrants = tuple(
        dataclasses.replace(one, standing=dataclasses.replace(one.standing, run_ids=ids))
        for one in shown.comparison.entrants
    )
    comparison = dataclasses.replace(shown.comparison, entrants=entrants)
    head = comparison_page(dataclasses.replace(shown, comparison=comparison)).partition("</header>")
    assert "trained in" in head[0] and ("(means of 3 runs)" in head[0]) == (runs > 1)
    assert "(means of 1" not in head[0]


@pytest.mark.parametrize(
    ("start", "weights", "text"),
    [
        ("frozen", "lite2 (package, mit) + lite1 (hub, mit)", "frozen features: lite2 + lite1."),
        ("frozen", "those of cnn-1", "frozen features: those of cnn-1."),
        ("fine-tuned", "/nets (old)/a.pth", "/nets (old)/a.pth, fine-tuned"),
        (None, None, ""),
    ],
)
def test_what_the_choice_is_stands_below_its_name(
    start: str | None, weights: str | None, text: str
) -> None:
    shown = report_data(4)
    entrants = tuple(
        dataclasses.replace(one, start=start, weights=weights) for one in shown.comparison.entrants
    )
    comparison = dataclasses.replace(shown.comparison, entrants=entrants)
    head = comparison_page(dataclasses.replace(shown, comparison=comparison)).partition("</header>")
    assert text in head[0] and ("What it is" in head[0]) == bool(text)


def test_a_network_for_pixels_is_more_than_its_published_encoder() -> None:
    shown = report_data(4)
    entrants = tuple(
        dataclasses.replace(one, start="fine-tuned", weights="lite0 (package, mit)", family="unet")
        for one in shown.comparison.entrants
    )
    comparison = dataclasses.replace(shown.comparison, entrants=entrants, pixels=True)
    head = comparison_page(dataclasses.replace(shown, comparison=comparison)).partition("</header>")
    assert "the family unet over lite0, a published encoder" in head[0]


def test_the_only_candidate_is_not_recommended_over_others() -> None:
    page = comparison_page(report_data(1, leaders=1))
    assert "<h1>candidate 0 is the only candidate</h1>" in page and "use this" not in page
    body = page.partition("<main>")[2]
    for of_several in ("Filled dots", "simultaneous for", ">best<", "the Pareto front"):
        assert of_several not in body
        assert of_several in comparison_page(report_data(2, leaders=1)).partition("<main>")[2]
    (data,) = (
        text for tag, text in Tags(page).inside if '"candidates"' in text and tag == "script"
    )
    about = dict(json.loads(data)["candidates"][0]["about"])
    assert "accuracy" in about and "probability of being the best" not in about
    table = comparison_table(report_data(1, leaders=1).comparison)
    assert not {"tied", "best"} & set(table.headers)
    (row,) = re.findall(r'<tr data-trial="1">(?:(?!</tr>).)*data-value.*?</tr>', page, re.S)
    assert row.count("data-value=") == len(table.headers)


def test_groups_of_copies_are_called_so() -> None:
    shown = report_data(3)

    def kicker(**changes: Any) -> str:
        verdict = dataclasses.replace(shown.comparison.verdict, pictures=20, groups=17, **changes)
        compared = dataclasses.replace(shown.comparison, verdict=verdict)
        page = comparison_page(dataclasses.replace(shown, comparison=compared))
        (text,) = re.findall('<p class="kicker">(.*)</p>', page)
        return str(text)

    assert kicker(copies=True).endswith(": 20 pictures in 17 groups (copies are kept together)")
    assert kicker().endswith(": 20 pictures in 17 groups")


def test_of_label_sets_the_accuracy_is_called_exact_match() -> None:
    shown = report_data(3)
    verdict = dataclasses.replace(shown.comparison.verdict, sets=True)
    compared = dataclasses.replace(shown.comparison, verdict=verdict)
    body = comparison_page(dataclasses.replace(shown, comparison=compared)).partition("<main>")[2]
    assert "Exact match with 95 % intervals" in body and '<p class="lead">Exact match ' in body
    assert "validation exact match after each epoch" in body
    assert "exact match" in comparison_table(compared).headers
    assert ": exact match " in verdict_sentences(compared)[0]


def test_intervals_are_drawn_to_scale() -> None:
    """Places in percent are the same linear function of low end, figure and high end everywhere."""
    shown = report_data(9).comparison.entrants
    page = comparison_page(report_data(9))
    drawn = re.findall(
        r'class="whisker" x1="([\d.]+)%" x2="([\d.]+)%".*?cx="([\d.]+)%"', page, re.S
    )
    places = np.array(drawn, dtype=float)
    figures = np.array(
        [(o.standing.interval.low, o.standing.interval.high, o.standing.figure) for o in shown]
    )
    slope, offset = np.polyfit(figures.ravel(), places.ravel(), 1)
    np.testing.assert_allclose(places, slope * figures + offset, atol=0.02)
    assert places.min() > 0 and places.max() < 100


def test_pictures_of_a_class_are_counted_once_however_many_trainings_answered_them() -> None:
    shown = report_data(4)
    leaders = tuple(
        dataclasses.replace(one, matrix=3 * one.matrix, trainings=3) for one in shown.leaders
    )
    thrice = comparison_page(dataclasses.replace(shown, leaders=leaders))
    totals = shown.leaders[0].matrix.sum(axis=1)
    table = thrice.partition('id="classes"')[2].partition("</table>")[0]
    counts = [
        int(n) for n in re.findall(r'<td class="number" data-label="pictures">(\d+)</td>', table)
    ]
    assert sorted(counts) == sorted(totals.tolist())


@pytest.mark.slow
@in_a_browser
def test_a_press_on_a_header_sorts_and_on_a_name_describes_the_candidate(visit: Visit) -> None:
    shown = report_data(15)
    page = visit(comparison_page(shown))
    opened(page)
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
    assert f"minus the best of the others\n{ends}" in card
    drawn = page.locator(f"#plane circle[data-trial='{cheapest.standing.rank}']")
    assert "chosen" in (drawn.get_attribute("class") or "")


@pytest.mark.slow
@in_a_browser
def test_the_pointer_names_a_candidate(visit: Visit) -> None:
    shown = report_data(15)
    page = visit(comparison_page(shown))
    opened(page)
    page.locator("#plane circle[data-trial='1']").hover()
    winner = shown.comparison.verdict.winner
    tip = page.locator("#tip").inner_text()
    assert tip.startswith(f"1. {winner.name}") and f"{100 * winner.accuracy:.1f} %" in tip
    assert page.locator("#board .span circle").count() == 15
    known = sum(one.standing.cost is not None for one in shown.comparison.entrants)
    assert page.locator("#plane circle").count() == known
    tied = sum(one.standing.tied for one in shown.comparison.entrants)
    assert page.locator("#board .span circle:not(.open)").count() == tied
    assert page.locator("#curves > svg").count() == 3
    assert page.locator("#reliability > svg").count() == 3
    assert page.locator("#confusion rect").count() == 3 * 25


def near_the_top() -> ReportData:
    """Figures whose ticks have more digits, and settings with long names."""
    shown = report_data(3)
    curves = {1: tuple((epoch, 0.9963 - 0.01 * 0.5**epoch) for epoch in range(1, 12))}
    shares = {"model.scattering.orientations": 0.37, "model.rbf_svm.strength": 0.32, "a.b": 0.1}
    return dataclasses.replace(shown, curves=curves, importances={"handcrafted": shares})


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "shown",
    [
        report_data(1, leaders=1, curves=False),
        report_data(60, 30),
        report_data(5, 120),
        near_the_top(),
        evil(),
    ],
    ids=["one", "sixty", "many classes", "near the top", "evil"],
)
def test_every_width_and_scheme_can_be_read(visit: Visit, shown: ReportData, scheme: str) -> None:
    text = comparison_page(shown, "python -m src.select sweep=clothes output_dir=/data/outputs")
    page = visit(text, scheme=scheme)
    opened(page)
    for width in WIDTHS:
        assert faults(page, width) == []
    assert on_paper(page) == []
    assert {" ".join(row.split()) for row in page.locator("#board button").all_inner_texts()} == {
        " ".join(visible_lines(one.standing.name).split()) for one in shown.comparison.entrants[:25]
    }


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
    assert page.locator("#plane").count() == 0 and page.locator("#board svg").count() > 0


@pytest.mark.slow
@in_a_browser
def test_texts_that_stand_for_numbers_sort_by_these(visit: Visit) -> None:
    shown = report_data(12)
    verdict = shown.comparison.verdict
    costs = [100.0, 12.5, 5e-05, 9.3, 1e-07, 2000.0, *(30.0 + rank for rank in range(6))]
    entrants = [
        dataclasses.replace(
            one,
            size=None if one.size is None else (16 * one.standing.rank,) * 2,
            standing=dataclasses.replace(one.standing, figure=cost),
        )
        for one, cost in zip(shown.comparison.entrants, costs, strict=True)
    ]
    compared = dataclasses.replace(
        shown.comparison,
        entrants=tuple(entrants),
        verdict=dataclasses.replace(verdict, measure="cost"),
    )
    page = visit(comparison_page(dataclasses.replace(shown, comparison=compared)))
    opened(page)
    headers = page.locator("#leaderboard th").all_inner_texts()
    column = next(place for place, text in enumerate(headers) if text.startswith("size"))

    def cells(place: int) -> list[str]:
        rows = page.locator("#leaderboard tbody tr").all()
        return [row.locator("td").nth(place).get_attribute("data-value") or "" for row in rows]

    for place, blank in ((column, 1), (2, 0)):
        page.locator("#leaderboard th button").nth(place).click()
        found = cells(place)
        known = [float(text) for text in found if text]
        assert known == sorted(known) and len(known) == 12 - blank
        assert found[-1] == "" or not blank


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_the_dot_of_a_family_stands_beside_a_name_of_any_length(visit: Visit, width: int) -> None:
    page = visit(
        comparison_page(report_data(3, prefix="a_name_without_a_place_to_break_" * 4)), width
    )
    opened(page)
    apart = page.evaluate(
        "[...document.querySelectorAll('svg.dot + button')].map((button) => {"
        " const dot = button.previousElementSibling.getBoundingClientRect();"
        " return dot.top - button.getBoundingClientRect().top; })"
    )
    assert len(apart) == 6 and all(0 <= one < 16 for one in apart)


def test_the_choice_is_on_the_board_though_many_come_before_it() -> None:
    shown = report_data(300, band=0.1)
    rank = shown.comparison.choice.standing.rank
    assert rank > 25
    board = comparison_page(shown).partition('id="board"')[2].partition("</table>")[0]
    ranks = [int(number) for number in re.findall(r'<tr data-trial="(\d+)">', board)]
    assert ranks == [*range(1, 26), rank]
    assert board.count("use this") == 1 and "use this" in board.rpartition("<tr data-trial")[2]
    said = f"The best 25 of 300 candidates, and the choice, which is ranked {rank}."
    assert said in comparison_page(shown)
    assert "The best 25 of 40 candidates.<" in comparison_page(report_data(40))


def test_the_reason_for_a_faster_one_is_how_far_it_is_behind() -> None:
    shown = report_data(300, band=0.1)
    winner, choice = shown.comparison.verdict.winner, shown.comparison.verdict.choice
    behind = 100 * (winner.figure - choice.figure)
    assert behind > 0
    reason = f"{winner.name} ({100 * winner.figure:.1f} %), and practically equivalent: "
    assert f"{reason}{behind:.1f} points behind." in comparison_page(shown)


@pytest.mark.parametrize("measure", ["accuracy", "log_loss", "kappa"])
def test_cells_sort_by_their_own_figures(measure: str) -> None:
    shown = report_data(6)
    verdict = dataclasses.replace(shown.comparison.verdict, measure=measure)
    compared = dataclasses.replace(shown.comparison, verdict=verdict)
    table = comparison_page(dataclasses.replace(shown, comparison=compared))
    row = table.partition('id="leaderboard"')[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert 'data-value="0.02">2.0 %</td>' in row  # the calibration error
    assert 'data-value="from scratch">from scratch</td>' in row


def test_the_table_of_many_classes_says_how_many_it_has() -> None:
    few, many = report_data(3, 80), report_data(3, 1000)
    assert classes_table(few).title.startswith("Recall of each class with")
    judged = len(many.leaders[0].weakest_first)  # those with pictures
    table = classes_table(many)
    assert judged > len(table.rows) == 100
    assert table.title.startswith(f"Recall of 100 of {judged} classes with")


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("width", [390, 1400])
def test_names_of_any_length_are_broken(visit: Visit, width: int) -> None:
    page = visit(comparison_page(report_data(3, prefix="W" * 120 + " "), "python -m src.select"))
    opened(page)
    assert faults(page, width) == []


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(
    ("curve", "name", "ticks"),
    [
        ("map", "validation mean average precision", "90 %"),
        ("kappa", "validation quadratic kappa", "0.9"),
    ],
)
def test_curves_are_named_and_in_their_units(
    visit: Visit, curve: str, name: str, ticks: str
) -> None:
    page = visit(comparison_page(dataclasses.replace(report_data(3), curve=curve)))
    opened(page)
    assert name in page.inner_text("main")
    texts = page.locator("#curves text").all_text_contents()
    assert ticks in texts and any("%" in one for one in texts) == ("%" in ticks)
    assert faults(page, 390) == []


@pytest.mark.slow
@in_a_browser
def test_what_is_far_worse_is_called_so(visit: Visit) -> None:
    """A candidate below the scale of the plane, and a family below that of the curves."""
    shown = report_data(15)
    *others, last = shown.comparison.entrants
    bad = dataclasses.replace(last, standing=dataclasses.replace(last.standing, figure=0.1))
    compared = dataclasses.replace(shown.comparison, entrants=(*others, bad))
    family = others[0].family
    curves = {
        one.standing.rank: tuple(
            (epoch, 0.1 if one.family == family else 0.9 + 0.001 * epoch) for epoch in range(1, 30)
        )
        for one in compared.entrants
    }
    page = visit(comparison_page(dataclasses.replace(shown, comparison=compared, curves=curves)))
    opened(page)
    texts = page.locator("#plane text").all_text_contents()
    assert "worse" in texts and faults(page, 1200) == []
    lowest = max(
        float(dot.get_attribute("cy") or "nan")
        for dot in page.locator("#plane circle").all()
        if dot.get_attribute("data-trial") != str(last.standing.rank)
    )
    dot = page.locator(f"#plane circle[data-trial='{last.standing.rank}']")
    assert float(dot.get_attribute("cy") or "nan") > lowest + 10
    said = page.locator("#curves > svg").all_text_contents()
    assert len(said) == 3
    assert [family in text for text in said] == ["below" in text for text in said]


def test_labels_that_are_not_taken_for_each_other_have_no_column_for_it() -> None:
    shown = report_data(3)
    classes = len(shown.class_names)
    leaders = tuple(
        dataclasses.replace(one, matrix=np.zeros((0, 0), np.int64), pictures=(9,) * classes)
        for one in shown.leaders
    )
    table = classes_table(dataclasses.replace(shown, leaders=leaders))
    assert table.headers == ("class", "pictures", *(one.name for one in leaders))
    assert classes_table(shown).headers[-1] == "winner confuses it with"


@pytest.mark.slow
@in_a_browser
def test_learning_curves_are_shares_whatever_ranks(visit: Visit) -> None:
    shown = report_data(4)
    verdict = dataclasses.replace(shown.comparison.verdict, measure="kappa")
    compared = dataclasses.replace(shown.comparison, verdict=verdict)
    page = visit(comparison_page(dataclasses.replace(shown, comparison=compared)))
    opened(page)
    assert "%" in page.locator("#curves > svg").first.text_content()  # type: ignore[operator]
    assert "%" not in page.locator("#plane > svg").text_content()  # type: ignore[operator]


@pytest.mark.slow
@in_a_browser
def test_facts_share_the_whole_width(visit: Visit) -> None:
    page = visit(comparison_page(report_data(6), "python -m src.select"), 1400)
    boxes = [one.bounding_box() or {} for one in page.locator(".facts > div").all()]
    ends = max(box["x"] + box["width"] for box in boxes)
    short = [box for box in boxes if box["y"] == boxes[1]["y"]]  # why, how sure, what it costs
    assert len(short) == 3 and abs(short[-1]["x"] + short[-1]["width"] - ends) < 2


@pytest.mark.slow
@in_a_browser
def test_a_probability_stands_behind_a_name_from_right_to_left(visit: Visit) -> None:
    shown = report_data(3)
    hebrew = tuple(
        dataclasses.replace(one, answers=tuple(replaced(a, "שלום") for a in one.answers))
        for one in shown.disagreements
    )
    page = visit(comparison_page(dataclasses.replace(shown, disagreements=hebrew)))
    opened(page)
    for line in page.locator(".gallery .right, .gallery .wrong").all():
        name, figure = line.locator("bdi").last.bounding_box(), line.locator("span").bounding_box()
        assert name is not None and figure is not None
        assert figure["y"] > name["y"] + 5 or figure["x"] >= name["x"] + name["width"]


def replaced(answer: Answer, label: str) -> Answer:
    return dataclasses.replace(answer, label=label)


def test_classes_that_the_choice_hardly_knows_are_named_at_the_top() -> None:
    shown = report_data(1, 7, leaders=1)
    (leader,) = shown.leaders
    for recall, said in (
        ([0.9, 0.5, np.nan, 0.9, 0.9, 0.9, 0.9], ""),
        (
            [0.9, 0.4, np.nan, 0.1, 0.9, 0.9, 0.9],
            "Recall below 50 %: class 3 10.0 %, class 1 40.0 %.",
        ),
        ([0.1, 0.2, 0.3, 0.31, 0.32, 0.4, 0.9], "class 4 32.0 %, and 1 more."),
    ):
        weak = dataclasses.replace(leader, recall=np.array(recall))
        head = comparison_page(dataclasses.replace(shown, leaders=(weak,))).partition("</header>")[
            0
        ]
        assert ("Weak classes" in head) == bool(said) and said in head


def test_a_page_of_class_maps_counts_pixels_and_has_no_calibration() -> None:
    shown = report_data(3)
    unknown = [
        dataclasses.replace(one, standing=dataclasses.replace(one.standing, calibration_error=nan))
        for one in shown.comparison.entrants
    ]
    compared = dataclasses.replace(shown.comparison, entrants=tuple(unknown))
    page = comparison_page(dataclasses.replace(shown, comparison=compared, of_classes="iou"))
    assert "Counts are of pixels, in all trainings of a candidate together." in page
    assert "IoU and confusion" in page
    assert ">none</td>" not in page
    page = comparison_page(shown)
    assert "Counts are of pictures, in all trainings of a candidate together." in page
    assert "recall and confusion" in page


def test_a_page_says_what_a_hand_crafted_candidate_is_and_which_figures_classes_have() -> None:
    shown = report_data(2)
    entrants = tuple(
        dataclasses.replace(one, start="hand-crafted") for one in shown.comparison.entrants
    )
    counts = tuple(sum(row) for row in shown.leaders[0].matrix)
    leaders = tuple(
        dataclasses.replace(one, matrix=np.empty((0, 0), np.int64), pictures=counts)
        for one in shown.leaders
    )
    for pixels, text in ((False, "A classifier on"), (True, "A classifier of single pixels on")):
        compared = dataclasses.replace(shown.comparison, entrants=entrants, pixels=pixels)
        page = comparison_page(dataclasses.replace(shown, comparison=compared, leaders=leaders))
        assert f"{text} hand-crafted features." in page
        assert ">recall<" in page and "recall and confusion" not in page
