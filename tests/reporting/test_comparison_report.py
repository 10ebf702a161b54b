from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence

import numpy as np
import pytest

from src.api import Verdict
from src.metrics.registry import RANKING
from src.metrics.summary import metric_name
from src.records.comparison import Comparison, Interval, Pair
from src.reporting.comparison_report import (
    closing_remarks,
    comparison_csv,
    comparison_plain,
    comparison_table,
    format_comparison,
)
from src.reporting.comparison_verdict import (
    baseline_sentence,
    constant_sentence,
    pair_sentence,
    verdict_sentences,
)
from src.reporting.formatting import mean_text
from src.statistics.candidates import Candidate, Scale
from src.statistics.verdict import judge
from tests.reporting.comparisons import comparison
from tests.statistics.fields import candidate, field_of_costs, random_field


def test_a_terminal_shows_the_best_with_every_figure_and_counts_the_others() -> None:
    whole = comparison(20)
    said = format_comparison(whole, 200)
    first = whole.verdict.winner
    assert f"{100 * first.accuracy:.1f} %" in said and str(first.interval) in said
    assert "and 5 more, in leaderboard.csv" in said
    assert verdict_sentences(whole)[0] in said and whole.remarks[0] in said
    assert "The test part of this split has been measured 2 times." in said
    headers = said.splitlines()[1].split()
    assert " ".join(headers) == (
        "rank candidate accuracy 95 % interval tied best runs ms trained settings"
    )


def test_a_terminal_shows_the_choice_though_many_come_before_it() -> None:
    whole = comparison(300, band=0.1)
    rank = whole.choice.standing.rank
    said = format_comparison(whole, 200)
    lines = said.partition("\n\n")[0].splitlines()[2:]
    assert rank > 15
    assert [line.split()[0] for line in lines[:-1]] == [str(n) for n in (*range(1, 16), rank)]
    assert lines[-1].strip() == "and 284 more, in leaderboard.csv"


@pytest.mark.parametrize("measure", RANKING)
def test_the_figure_that_ranks_is_in_the_table_once_whatever_it_is(measure: str) -> None:
    whole = comparison(6)
    verdict = dataclasses.replace(whole.verdict, measure=measure)
    shown = dataclasses.replace(whole, verdict=verdict)
    for brief in (True, False):
        table = comparison_table(shown, brief=brief)
        assert table.headers.count(metric_name(measure)) == 1
        figures = [mean_text(measure, s.figure, s.spread) for s in verdict.standings]
        assert [row[2] for row in table.rows] == figures


def test_settings_are_a_column_where_a_candidate_has_some() -> None:
    whole = comparison(2)
    bare = tuple(dataclasses.replace(one, settings="") for one in whole.entrants)
    assert comparison_table(whole).headers[-1] == "settings"
    none = comparison_table(dataclasses.replace(whole, entrants=bare))
    assert none.headers[-1] == "params" and len(none.rows[0]) == len(none.headers)


def test_a_sentence_on_ranks_begins_as_one() -> None:
    said = verdict_sentences(comparison(6, prefix="a name of many letters, " * 3))
    few = [one for one in said if "too few trainings" in one]
    assert len(few) == 1 and few[0].startswith("Candidates 1")


def test_json_and_csv_hold_every_candidate_with_what_is_known_of_it() -> None:
    whole = comparison(8)
    plain = json.loads(json.dumps(comparison_plain(whole), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(comparison_csv(whole))))
    assert [row["candidate"] for row in rows] == [one["candidate"] for one in plain["candidates"]]
    for one, found, row in zip(whole.entrants, plain["candidates"], rows, strict=True):
        standing = one.standing
        assert found["accuracy"] == standing.accuracy == float(row["accuracy"])
        assert found["spread"] == standing.spread
        assert (found["low"], found["high"]) == (standing.interval.low, standing.interval.high)
        assert found["log_loss"] == standing.log_loss
        assert found["calibration_error"] == standing.calibration_error
        assert found["latency_ms"] == standing.cost
        assert found["training_seconds"] == one.training_seconds
        assert found["parameters"] == one.parameters
        assert row["latency_ms"] == ("" if standing.cost is None else str(standing.cost))
        assert found["run_ids"] == row["run_ids"].split() == list(standing.run_ids)
    assert plain["tied"] == [one.name for one in whole.verdict.tied]
    assert any(row["latency_ms"] == "" for row in rows)


def test_a_table_is_as_long_as_it_is_asked_to_be() -> None:
    whole = comparison(5)
    assert [len(comparison_table(whole, most).rows) for most in (2, 9, None)] == [2, 5, 5]
    assert "the val part of pictures, 400 pictures" in comparison_table(whole).title


@pytest.mark.parametrize("times", [0, 1])
def test_how_often_the_test_part_was_measured_is_always_said(times: int) -> None:
    said = closing_remarks(dataclasses.replace(comparison(2), test_measurements=times))[-1]
    assert said == f"The test part of this split has {'been' if times else 'not been'} measured" + (
        " once." if times else "."
    )


def sentences(field: Sequence[Candidate], folds: int | None = None) -> tuple[str, ...]:
    verdict = judge(field, band=0.005)
    return verdict_sentences(Comparison(verdict, (), None, (), "val", "pictures", 1, 0, folds))


def test_single_trainings_are_about_models_and_not_about_configurations() -> None:
    said = " ".join(sentences(random_field([0.80, 0.81, 0.79], [1, 1, 1])))
    assert "about the trained models" in said and "statistically tied with" in said
    assert "Power: a true difference of 1.0 points" in said


def test_a_certain_winner() -> None:
    said = sentences(random_field([0.95, 0.7, 0.6], [2, 2, 2], 1000))
    assert said[0].startswith("c0 comes first of 3 candidates:")
    assert "mean of 2 trainings" in said[0]
    assert said[2].startswith("It is significantly better than every other candidate")
    assert len(said) == 3


def test_the_cheapest_of_the_tied_and_of_the_practically_equivalent() -> None:
    field = field_of_costs()
    expected = (
        "third is at least 1.5 times as fast, but 3.0 points behind; of those that are practically "
        "equivalent to the winner (0.5 points and one standard error behind at most), second is."
    )
    assert expected in sentences(field)
    near = sentences(field[:2])
    faster = "second is at least 1.5 times as fast and practically equivalent: 0.5 points behind."
    assert faster in near


def test_two_candidates_have_a_difference() -> None:
    field = random_field([0.7, 0.9], [2, 3], 800)
    difference = judge(field).difference
    assert difference is not None
    ahead = 100 * (field[1].right.mean() - field[0].right.mean())
    bounds = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f} points"
    sentence = f"It is {ahead:.1f} points ahead (95 % interval of the difference {bounds})."
    assert sentence in sentences(field) and sentence in sentences(field, folds=5)
    level = sentences([field[0], candidate("copy", field[0].right)])
    assert any(one.startswith("It is 0.0 points ahead (") for one in level)


def test_a_higher_probability_of_being_the_best_than_the_winners_is_explained() -> None:
    """Two that answer alike share the chance of being the best, which the third has for itself.

    Of the last 120 of 400 pictures they have 42, 41 and 41 right, the first two 32 in common.
    """
    right = np.ones((3, 400), np.bool_)
    right[:, 280:] = False
    right[0, 280:322] = right[1, 290:331] = right[2, 335:376] = True
    twins = [candidate(f"c{number}", one[None]) for number, one in enumerate(right)]
    first, second, other = judge(twins).standings
    assert (first.name, other.name) == ("c0", "c2") and first.best < other.best
    assert first.loss < min(second.loss, other.loss)
    (said,) = (one for one in sentences(twins) if "has a higher probability" in one)
    assert said.startswith(
        f"c2 has a higher probability of being the best ({100 * other.best:.0f} %)"
    )
    assert "but ranks lower by its figure" in said
    assert not any("higher probability" in one for one in sentences(twins[1:]))
    assert not any(
        "higher probability" in one for one in sentences(random_field([0.9, 0.8], [3, 3]))
    )


def test_a_higher_probability_with_the_same_figure_is_no_lower_rank_by_it() -> None:
    """Of three with 41 of the last 120 right each, the first two have 31 in common."""
    right = np.ones((3, 400), np.bool_)
    right[:, 280:] = False
    right[0, 280:321] = right[1, 290:331] = right[2, 335:376] = True
    twins = [candidate(f"c{number}", one[None]) for number, one in enumerate(right)]
    (said,) = (one for one in sentences(twins) if "higher probability" in one)
    assert said.startswith("c2 has") and "with the same figure, and so the same expected" in said


def test_long_lists_are_of_ranks_which_are_joined_where_they_follow_each_other() -> None:
    said = " ".join(sentences(random_field([0.8] * 12, [1] * 12, 300)))
    assert "Corrected for selection" in said
    assert "It is statistically tied with candidates 2 to 12: with 95 % confidence" in said
    field = random_field([0.9] * 9, [2, 1, 1, 1, 2, 1, 2, 1, 1], 300)
    once = [one.rank for one in judge(field).standings if len(one.run_ids) == 1]
    assert once == [2, 3, 5, 7, 8, 9], "drawn so that there are all kinds of gaps"
    assert sentences(field)[-1].startswith("Trained once: candidates 2, 3, 5 and 7 to 9;")
    long = [dataclasses.replace(one, name=one.name * 13) for one in field[:3]]
    assert "statistically tied with candidates 2 and 3:" in " ".join(sentences(long))


def test_the_long_name_of_a_single_run_is_repeated_in_no_sentence() -> None:
    field = random_field([0.8, 0.81], [1, 1], 300)
    names = [f"embedding-clothing-20261129-10455{n}-fafeaa" for n in range(2)]
    pair = Pair(*names, first_alone=30, second_alone=10)
    verdict = judge([dataclasses.replace(one, name=name) for one, name in zip(field, names)])
    whole = Comparison(verdict, (), pair, (), "val", "pictures", 2, 0, None)
    first, *others = verdict_sentences(whole)
    assert verdict.winner.name in first
    assert not [one for one in others if any(name in one for name in names)]
    assert any("tied with candidate 2:" in one for one in others)


@pytest.mark.parametrize("measure", ["accuracy", "kappa", "hamming_loss", "log_loss"])
@pytest.mark.parametrize(("points", "said"), [(-1.0, True), (0.0, False), (1.0, False)])
def test_luck_is_only_what_a_correction_takes_away(points: float, said: bool, measure: str) -> None:
    verdict = judge(random_field([0.8] * 3, [1] * 3, 300))
    verdict = dataclasses.replace(verdict, measure=measure)  # the same figures of another measure
    points = -points if measure in ("hamming_loss", "log_loss") else points
    changed = dataclasses.replace(verdict, corrected=verdict.winner.figure + points / 100)
    whole = Comparison(changed, (), None, (), "val", "pictures", 1, 0, None)
    text = " ".join(verdict_sentences(whole))
    assert ("Corrected for selection" in text) is said
    alone = dataclasses.replace(changed, standings=(changed.winner,))
    text = " ".join(verdict_sentences(dataclasses.replace(whole, verdict=alone)))
    assert "Corrected" not in text


@pytest.mark.parametrize(
    ("measure", "differs"), [("accuracy", False), ("auc", True), ("kappa", True), ("cost", False)]
)
def test_where_pooled_folds_are_not_their_mean_that_is_said(measure: str, differs: bool) -> None:
    verdict = dataclasses.replace(judge(random_field([0.8], [1], 300)), measure=measure)
    for folds in (None, 5):
        whole = Comparison(verdict, (), None, (), "val", "pictures", 1, 0, folds)
        said = verdict_sentences(whole)[0]
        assert ("another figure" in said) == (differs and folds is not None)


def test_a_caution_about_the_choice_does_not_come_between_sentences_on_the_winner() -> None:
    found = comparison(4)
    verdict = dataclasses.replace(found.verdict, baseline=0.99, choice=found.verdict.standings[1])
    said = verdict_sentences(dataclasses.replace(found, verdict=verdict))
    (caution,) = (at for at, one in enumerate(said) if "the constant baseline" in one)
    of_winner = [at for at, one in enumerate(said) if one.startswith(("It is ", "Its "))]
    assert of_winner and max(of_winner) < caution


@pytest.mark.parametrize("measure", ["accuracy", "log_loss"])
def test_what_is_worse_than_a_constant_answer_is_called_so(measure: str) -> None:
    verdict = judge(random_field([0.8] * 2, [1] * 2, 300))
    verdict = dataclasses.replace(verdict, measure=measure)  # the same figures of another measure
    interval = verdict.choice.interval
    better = interval.high + 0.01 if verdict.higher_is_better else interval.low - 0.01
    for baseline, held in (
        (better, "significantly worse than"),
        (verdict.choice.figure, "not significantly better than"),
    ):
        sentence = baseline_sentence(dataclasses.replace(verdict, baseline=baseline))
        assert f"{verdict.choice.name} is {held} the constant baseline" in sentence


@pytest.mark.parametrize(
    ("measure", "figure", "baseline", "said"),
    [
        ("accuracy", 0.8, 0.71, "has accuracy 71.0 %."),
        ("accuracy", 0.8, 0.39, ""),
        ("log_loss", 0.4, 0.79, "has log-loss 0.7900."),
        ("log_loss", 0.4, 0.81, ""),
    ],
)
def test_a_constant_answer_that_is_nearly_as_good_stands_beside_the_choice(
    measure: str, figure: float, baseline: float, said: str
) -> None:
    verdict = judge(random_field([0.8] * 2, [1] * 2, 3000))
    near = Interval(figure - 0.01, figure + 0.01)
    choice = dataclasses.replace(verdict.choice, figure=figure, interval=near)
    verdict = dataclasses.replace(verdict, measure=measure, choice=choice, baseline=baseline)
    assert verdict.beats_baseline
    sentence = constant_sentence(verdict)
    assert sentence.endswith(said) and bool(sentence) == bool(said)
    whole = Comparison(verdict, (), None, (), "val", "pictures", 1, 0, None)
    assert ("constant baseline" in " ".join(verdict_sentences(whole))) == bool(said)
    assert constant_sentence(dataclasses.replace(verdict, baseline=figure)) == "", "the caution"


def test_unstable_trainings_call_for_repeats_and_single_ones_borrow() -> None:
    steady = sentences(random_field([0.9, 0.8], [3, 3]))
    shaken = sentences(random_field([0.9, 0.89], [3, 3], 3000, seed_effect=0.4))
    assert not any("More seeds" in sentence for sentence in steady)
    assert any("More seeds on the same pictures" in sentence for sentence in shaken)
    assert sentences(random_field([0.9, 0.8], [3, 1]))[-1].startswith("Trained once: c1;")
    assert "is the only candidate" in sentences(random_field([0.8], [1]))[0]


def test_two_networks_differ_on_pictures() -> None:
    said = pair_sentence(Pair("cnn", "vit", 30, 10))
    assert "30 are right only with cnn and 10 only with vit" in said and "seed" not in said
    assert "only in the seed" in pair_sentence(Pair("cnn (seed 0)", "cnn (seed 1)", 3, 4, True))


def test_what_collapsed_is_named_with_what_follows() -> None:
    field = random_field([0.88] * 2, [4, 4], 600)
    right = field[1].right.copy()
    right[2] = np.arange(600) % 10 == 0
    verdict = judge([field[0], candidate("c1", right)], scale=Scale(constant=0.1))
    said = " ".join(
        verdict_sentences(Comparison(verdict, (), None, (), "val", "pictures", 1, 0, None))
    )
    assert "1 of 8 trainings collapsed to an accuracy of 10.0 % (c1)" in said
    assert verdict.collapses is not None and str(verdict.collapses.share) in said


def test_figures_that_are_no_shares_are_shown_as_they_are() -> None:
    field = [
        candidate(one.name, one.right, scores=-np.where(one.right, 0.2, 1.5).astype(np.float32))
        for one in random_field([0.8, 0.81, 0.79], [1, 1, 1])
    ]
    verdict = judge(field, scale=Scale("log_loss"))
    entrants = tuple(
        dataclasses.replace(one, standing=standing)
        for one, standing in zip(comparison(3).entrants, verdict.standings)
    )
    whole = Comparison(verdict, entrants, None, (), "val", "pictures", 1, 0, None)
    said = format_comparison(whole, 200)
    assert f"log-loss {verdict.winner.figure:.4g} on" in said
    assert "points" not in said and "accuracy" not in said
    assert comparison_plain(whole)["metric"] == "log_loss"


def test_pixels_have_no_accuracy_of_pictures() -> None:
    whole = comparison(2)
    of_pixels = dataclasses.replace(whole, pixels=True)
    for plain, known in ((whole, True), (of_pixels, False)):
        (first, *_) = comparison_plain(plain)["candidates"]
        assert (first["accuracy"] is not None) == known and first["figure"] is not None
        row = next(csv.DictReader(comparison_csv(plain).splitlines()))
        assert bool(row["accuracy"]) == known and row["figure"]
        board = Verdict(plain).leaderboard()
        assert board["accuracy"].notna().all() == known and board["figure"].notna().all()


def test_what_the_figures_do_not_promise_is_said_on_the_terminal_and_in_the_record() -> None:
    found = comparison(4)
    first, second = (one.name for one in found.verdict.standings[:2])
    assert not any("too few trainings" in one for one in verdict_sentences(found))
    verdict = dataclasses.replace(
        found.verdict, unsteady=(first, second), corrected=found.verdict.winner.figure - 0.01
    )
    shaken = dataclasses.replace(found, verdict=verdict)
    said = " ".join(verdict_sentences(shaken))
    assert f"{first} and {second} have too few trainings to estimate" in said
    assert "the corrected figure is too optimistic" in said
    assert comparison_plain(shaken)["unsteady"] == [first, second]
    for measure, sets, lone, words in (
        ("map", True, 1, "1 label has a single picture, "),
        ("macro_f1", True, 1, "1 label has a single picture, "),
        ("auc", True, 1, "1 label has a single picture with it or without it, "),
        ("macro_f1", False, 2, "2 classes have a single picture each, "),
    ):
        changes = {"measure": measure, "sets": sets, "lone": lone}
        rare = dataclasses.replace(found, verdict=dataclasses.replace(found.verdict, **changes))
        said = " ".join(verdict_sentences(rare))
        assert words in said and "the 95 % confidence is not guaranteed" in said
    grouped = dataclasses.replace(
        found, verdict=dataclasses.replace(found.verdict, sets=True, lone=1, groups=20)
    )
    assert "1 label has a single group of pictures, " in " ".join(verdict_sentences(grouped))
