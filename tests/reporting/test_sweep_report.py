from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import json
import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from src.records.standings import leaderboard
from src.records.trials import (
    COMPLETE,
    FAILED,
    PRUNED,
    Finalist,
    NetworkRecord,
    SweepRecord,
    TrialRecord,
)
from src.reporting.sweep_figures import history_figure
from src.reporting.sweep_report import (
    format_result,
    headline,
    leaderboard_csv,
    networks_csv,
    sweep_page,
    verdict,
)
from src.reporting.sweep_tables import (
    families_table,
    finalists_table,
    leaderboard_table,
    networks_table,
)
from tests.reporting.figures import texts
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
from tests.reporting.races import race

__all__ = ["browser", "visit"]  # fixtures

COMMAND = "python -m src.train model=cnn 'data.root=my  pics' optimizer.lr=0.003"


def trial(number: int, family: str, state: str, *values: float, **more: Any) -> TrialRecord:
    curve = tuple(enumerate(values, 1))
    objectives = values[-1:] if state == COMPLETE else None
    settings = {"optimizer.lr": 0.003, "model.width": 32}
    return TrialRecord(
        number, family, state, settings, curve=curve, objectives=objectives, seconds=4.0, **more
    )


RECORD = SweepRecord(
    study="digits",
    metrics=("val/accuracy",),
    directions=("maximize",),
    families=("cnn", "mlp"),
    trials=(
        trial(0, "cnn", COMPLETE, 0.5, 0.97, is_default=True),
        trial(1, "mlp", PRUNED, 0.4, reason="behind"),
        trial(2, "mlp", FAILED, reason="out of\nmemory"),
        trial(3, "cnn", COMPLETE, 0.5, 0.98),
    ),
    commands={3: COMMAND},
    finalists=(Finalist(3, {0: 0.98, 1: 0.96, 2: None}),),
    winner=3,
    test={"test/accuracy": 0.9751, "test/accuracy_low": 0.95, "test/accuracy_high": 0.9871},
    test_measurements=2,
    seconds=16.2,
)


def test_ranked_networks_stand_beside_what_the_trials_with_those_taken_reached() -> None:
    networks = (
        NetworkRecord("a + b", True, accuracy=0.91, family="cnn"),
        NetworkRecord("a", False, 224, 0.9, 0.02, 0.31, 40.4, family="cnn"),
        NetworkRecord("c", False, images_per_second=2.0, family="cnn"),
    )
    record = dataclasses.replace(RECORD, networks=networks)
    assert networks_table(record).rows == (
        ("a + b", "", "", "91.0 %", "", "98.0 %"),
        ("a", "224", "40", "90.0 % ± 2.0", "0.310", ""),
        ("c", "", "2", "", "", ""),
    )
    rows = list(csv.DictReader(networks_csv(record).splitlines()))
    assert (rows[0]["trial"], rows[0]["val/accuracy"], rows[1]["trial"]) == ("3", "0.98", "")
    assert "90.0 % ± 2.0" in sweep_page(record)
    assert networks_table(record).title not in sweep_page(RECORD)
    assert "accuracy on a sample" in networks_table(record).headers
    sets = [dataclasses.replace(one, measure="map") for one in networks]
    of_sets = networks_table(dataclasses.replace(RECORD, networks=tuple(sets)))
    assert "mAP on a sample" in of_sets.headers and of_sets.rows == networks_table(record).rows


def test_means_of_folds_are_called_so_where_they_rank() -> None:
    """A comparison computes a kappa from all pictures together, which is another number."""
    folded = dataclasses.replace(RECORD, metrics=("val/kappa",), steps="folds")
    for table in (leaderboard_table(folded), families_table(folded), finalists_table(folded)):
        assert "validation quadratic kappa (mean of folds)" in table.title
    assert "mean of folds" not in format_result(RECORD)


def test_the_whole_result() -> None:
    assert format_result(RECORD).splitlines() == [
        "digits: 4 trials (2 complete, 1 pruned, 1 failed), 2 families, 16 s",
        "",
        "Leaderboard: trials by validation accuracy, highest first",
        "  rank  candidate  accuracy  state              epochs   time  settings",
        "     1  cnn-3        98.0 %  complete                2  4.0 s  lr=0.003 width=32",
        "     2  cnn-0        97.0 %  complete, default       2  4.0 s  lr=0.003 width=32",
        "        mlp-1        40.0 %  pruned                  1  4.0 s  lr=0.003 width=32",
        "        mlp-2                failed                  0  4.0 s  out of memory",
        "",
        "Families by validation accuracy: best of all, of equally many trials, and in equal time",
        "  family              best  candidate  best of 2 trials     best in 8.0 s  trials   time",
        "  cnn               98.0 %  cnn-3                98.0 %            98.0 %       2  8.0 s",
        "  mlp     pruned at 40.0 %  mlp-1      pruned at 40.0 %  pruned at 40.0 %       2  8.0 s",
        "",
        "Finalists by validation accuracy, trained again over seeds: mean ± standard deviation",
        "  candidate  trial   mean          by seed",
        "  cnn-3      98.0 %  97.0 % ± 1.4  0: 98.0 %, 1: 96.0 %, 2: failed",
        "",
        "winner              cnn-3",
        "test accuracy       97.5 %  (95 % interval 95.0 to 98.7)",
        "test part measured  2 times on this split",
    ]
    assert COMMAND not in format_result(RECORD) and verdict(RECORD)["train it again"] == COMMAND


def test_a_trial_that_was_stopped_for_lack_of_time_is_not_called_pruned() -> None:
    late = "stopped after 1 epoch: the other 3 would take 6.2 s, and 3.9 s are left"
    stopped = trial(4, "gru", PRUNED, 0.9, reason=late)
    record = dataclasses.replace(
        RECORD, families=(*RECORD.families, "gru"), trials=(*RECORD.trials, stopped)
    )
    assert "5 trials (2 complete, 1 pruned, 1 stopped, 1 failed)" in headline(record)
    shown = format_result(record)
    assert re.search(r"gru-4 +90\.0 % +stopped ", shown)
    assert re.search(r"gru +stopped at 90\.0 %", shown)
    assert "pruned or stopped" in texts(history_figure(record))


def test_what_there_is_not_has_no_line() -> None:
    empty = dataclasses.replace(RECORD, trials=(), finalists=(), winner=None, test={}, seconds=0.0)
    assert format_result(empty) == "digits: 0 trials, 2 families, 0.0 s"
    alone = dataclasses.replace(RECORD, trials=RECORD.trials[:1], finalists=(), seconds=0.0)
    assert headline(alone).startswith("digits: 1 trial (1 complete), 1 of 2 families, 0.0 s")
    assert families_table(alone).rows and families_table(alone).title not in format_result(alone)


def test_a_long_race_shows_its_ten_best() -> None:
    lines = format_result(race(1000, 12), width=90).splitlines()
    assert (
        lines[2] == "Leaderboard: the best 10 of 1000 trials by validation accuracy, highest first"
    )
    assert [int(line.split()[0]) for line in lines[4:14]] == list(range(1, 11))
    assert all(len(line) <= 90 for line in lines[3:14])


def test_several_metrics_have_a_column_each_and_a_front() -> None:
    pairs = ((0.9, 5.0), (0.8, 1.0), (0.7, 3.0))
    trials = tuple(
        TrialRecord(n, "cnn", COMPLETE, {}, objectives=pair) for n, pair in enumerate(pairs)
    )
    several = dataclasses.replace(
        RECORD, metrics=("val/accuracy", "cost/latency_ms"),
        directions=("maximize", "minimize"), trials=trials,
    )  # fmt: skip
    assert leaderboard_table(several).headers[2:4] == ("accuracy", "latency")
    rows = [row[2:5] for row in leaderboard_table(several).rows]
    assert rows == [
        ("90.0 %", "5 ms", "complete, in front"),
        ("80.0 %", "1 ms", "complete, in front"),
        ("70.0 %", "3 ms", "complete"),
    ]


@pytest.mark.parametrize("trials", [0, 1, 30])
def test_the_table_for_programs_has_every_trial(trials: int) -> None:
    whole = race(trials, 3)
    rows = list(csv.DictReader(leaderboard_csv(whole).splitlines()))
    assert [int(row["trial"]) for row in rows] == [t.number for t in leaderboard(whole)]
    for row in rows:
        of = whole.trials[int(row["trial"])]
        assert row["val/accuracy"] == ("" if of.objectives is None else str(of.objectives[0]))
        assert (row["rank"] != "") == (of.state == COMPLETE)
        assert row["optimizer.momentum"] == "" or row["optimizer"] == "sgd"
        assert row["command"] == whole.commands[of.number]
        assert (row["reason"] == "") == (of.state == COMPLETE)


def evil() -> SweepRecord:
    whole = race(30, 2)
    trials = tuple(
        dataclasses.replace(
            t,
            family=EVIL,
            reason=EVIL if t.state == FAILED else t.reason,
            values=t.values | {EVIL: EVIL, "nan": math.nan},
        )
        for t in whole.trials
    )
    return dataclasses.replace(
        whole, study=EVIL, families=(EVIL,), trials=trials,
        commands={t.number: EVIL for t in trials},
    )  # fmt: skip


@pytest.mark.parametrize("record", [race(0), race(1, 1), race(40, 12), evil()])
def test_nothing_is_loaded_from_anywhere(record: SweepRecord) -> None:
    page = sweep_page(record)
    found = Tags(page)
    assert not {"src", "href", "style", "onclick", "onerror", "action"} & set(found.attributes)
    assert not {"link", "img", "iframe", "base", "object"} & set(found.tags)
    assert set(re.findall(r"https?://[^\"' ]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in page and "@import" not in page


def test_the_policy_allows_this_style_and_this_script_alone() -> None:
    found = Tags(sweep_page(race(5)))
    (policy,) = (text for text in found.attributes["content"] if "default-src" in text)
    (style,) = (text for tag, text in found.inside if tag == "style")
    script = [text for tag, text in found.inside if tag == "script" and "use strict" in text]
    for kind, text in (("style", style), ("script", script[0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_whatever_the_texts_hold_stays_text() -> None:
    page = sweep_page(evil())
    assert EVIL not in page
    found = Tags(page)
    assert found.tags.count("script") == 2
    data = json.loads(found.inside[-2][1])
    assert {trial["family"] for trial in data["trials"]} == {EVIL}


def test_the_leaderboard_is_there_without_the_script() -> None:
    whole = race(40, 3)
    numbers = re.findall(r'<tr data-trial="(\d+)">', sweep_page(whole))
    assert [int(number) for number in numbers] == [t.number for t in leaderboard(whole)]


def test_a_thousand_trials_make_a_page_of_two_megabytes_at_most() -> None:
    assert len(sweep_page(race(1000, 12))) < 2e6


@pytest.mark.slow
@in_a_browser
def test_a_click_on_a_header_sorts(visit: Visit) -> None:
    whole = race(40, 3)
    page = visit(sweep_page(whole))
    opened(page)
    page.get_by_role("button", name="time").click()
    column = page.locator("#leaderboard tbody tr")
    shown = [int(row.get_attribute("data-trial") or "") for row in column.all()]
    by_time = sorted(whole.trials, key=lambda t: t.seconds or 0.0)
    assert shown == [t.number for t in by_time]
    page.get_by_role("button", name="rank").click()
    page.get_by_role("button", name="rank").click()
    shown = [int(row.get_attribute("data-trial") or "") for row in column.all()]
    ranked = [t.number for t in whole.ranked()]
    assert shown[: len(ranked)] == ranked[::-1]  # trials without a rank stay last


def test_the_page_of_a_running_race_asks_for_nothing_yet() -> None:
    whole = dataclasses.replace(
        RECORD, next_step="python -m src.compare sweep=digits", short=("too little time", "again")
    )
    running = sweep_page(whole, as_of=datetime(2026, 11, 30, 12, 5, 9))
    for text in ("src.compare", "too little time"):
        assert text in sweep_page(whole) and text not in running
    assert "The race is running" in running and "The race is running" not in sweep_page(whole)
    stopped = sweep_page(dataclasses.replace(whole, winner=None, finalists=()), stopped=True)
    assert "The race was stopped before its end" in stopped and "src.compare" in stopped
    assert not any("The race was stopped" in page for page in (running, sweep_page(whole)))


@pytest.mark.slow
@in_a_browser
def test_the_page_of_a_running_race_loads_itself_again_while_nothing_is_open(
    visit: Visit, tmp_path: Path
) -> None:
    early, late, written = race(4), race(30), datetime(2026, 11, 30, 12, 5, 9)
    page = visit(sweep_page(early, as_of=written, next_within=20))
    assert "There is no sign of the race since" in page.inner_text("header")
    page.clock.install(time=written)
    page.reload()
    assert "This page is of 2026-11-30 12:05:09" in page.inner_text("header")
    file = tmp_path / "page.html"
    file.write_text(sweep_page(late, as_of=datetime(2026, 11, 30, 12, 6)), encoding="utf-8")
    page.locator("summary").first.click()
    page.clock.run_for(50_000)
    assert "4 trials" in page.inner_text("header"), "a part is open"
    assert "The race is running" in page.inner_text("header")
    page.clock.run_for(20_000)
    assert "There is no sign of the race since" in page.inner_text("header")
    page.locator("summary").first.click()
    page.clock.run_for(11_000)
    page.get_by_text("30 trials").wait_for()
    page.get_by_text("The race is running").wait_for()
    file.write_text(sweep_page(late), encoding="utf-8")
    page.clock.run_for(11_000)
    page.get_by_text("The race is running").wait_for(state="detached")
    page.evaluate("mark = 2")
    page.clock.run_for(60_000)
    assert page.evaluate("mark") == 2, "that of a race that has ended does not"


@pytest.mark.slow
@in_a_browser
def test_a_drag_along_an_axis_keeps_the_trials_that_cross_it(visit: Visit) -> None:
    whole = race(60, 2)
    page = visit(sweep_page(whole))
    opened(page)
    own = [t for t in whole.trials if t.family == "cnn" and t.state != FAILED]
    assert page.locator("#space .line").count() == len(own)
    zone = page.locator(".zone").nth(3)  # the optimizers: sgd, muon, adamw from the left
    zone.scroll_into_view_if_needed()
    box = zone.bounding_box()
    assert box is not None
    right, y = box["x"] + box["width"], box["y"] + box["height"] / 2
    page.mouse.move(right - 1, y)
    page.mouse.down()
    page.mouse.move(right - 80, y)
    page.mouse.up()
    kept = page.locator("#space .line:not(.out)")
    numbers = {int(line.get_attribute("data-trial") or "") for line in kept.all()}
    assert numbers == {t.number for t in own if t.values["optimizer"] == "adamw"}
    assert page.locator("#kept").inner_text() == f"{len(numbers)} of {len(own)} trials"
    page.locator("#clear").click()
    assert kept.count() == len(own)
    page.locator("#tabs button", has_text="mlp").click()
    mlp = [t for t in whole.trials if t.family == "mlp" and t.state != FAILED]
    assert page.locator("#space .line").count() == len(mlp)


@pytest.mark.slow
@in_a_browser
def test_the_pointer_names_a_trial_and_a_click_tells_all_of_it(visit: Visit) -> None:
    whole = race(30, 3)
    page = visit(sweep_page(whole))
    opened(page)
    best = whole.ranked()[0]
    page.locator(f"#history [data-trial='{best.number}']").hover()
    assert page.locator("#tip").inner_text().startswith(f"{best.name}: ")
    page.locator(f"#history [data-trial='{best.number}']").click()
    assert whole.commands[best.number] in page.locator("#card").inner_text()
    assert page.locator(f".line.chosen[data-trial='{best.number}']").count() == 1
    drawn = page.locator("#history circle, #history path:not(.best-so-far)")
    assert drawn.count() == len(whole.trials)


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "record",
    [race(0), race(1, 1), race(5, 1, lost=1.0), race(60, 12), evil()],
    ids=["none", "one", "all lost", "sixty", "evil"],
)
def test_every_width_and_scheme_can_be_read(visit: Visit, record: SweepRecord, scheme: str) -> None:
    page = visit(sweep_page(record), scheme=scheme)
    opened(page)
    for width in WIDTHS:
        assert faults(page, width) == []
        for title in page.locator("#space .title").all()[:1]:  # the result, above the settings
            assert title.text_content() is not None and title.is_visible()
            box = title.bounding_box()
            assert box is not None and 0 <= box["x"] < box["x"] + box["width"] <= width
    assert on_paper(page) == []
    drawn = sum(one.value is not None and one.state != FAILED for one in record.trials) > 1
    assert page.locator("#history svg").count() == drawn


def test_the_end_shows_what_the_targets_are_judged_by() -> None:
    of_pixels = {"test/miou": 0.52, "test/miou_low": 0.4, "test/miou_high": 0.6}
    of_pixels |= {"test/dice": 0.61, "test/pixel_accuracy": 0.9}
    record = dataclasses.replace(RECORD, metrics=("val/miou",), test=of_pixels)
    said = "mean IoU 52.0 %  (95 % interval 40.0 to 60.0), Dice 61.0 %, pixel accuracy 90.0 %"
    assert verdict(record)["test"] == said and "test accuracy" not in verdict(record)
    page = sweep_page(record)
    assert said in page and "<dt>Test</dt>" in page and "Test accuracy" not in page
    assert "Validation mean IoU 98.0 %, in its trial" in sweep_page(
        dataclasses.replace(record, finalists=(), winner=None)
    )
    assert "val/miou" not in page and "val/miou" not in format_result(record)
    assert "Finalists by validation mean IoU" in format_result(record)


def test_the_end_shows_the_metric_of_the_study_on_the_test_part() -> None:
    test = {"test/balanced_accuracy": 0.526, "test/accuracy": 0.632}
    record = dataclasses.replace(RECORD, metrics=("val/balanced_accuracy",), test=test)
    shown = [line for line in format_result(record).splitlines() if line.startswith("test ")]
    assert [line.split("  ")[0] for line in shown] == [
        *("test balanced accuracy", "test accuracy", "test part measured")
    ]
    assert shown[0].endswith(" 52.6 %") and shown[1].endswith(" 63.2 %")
    assert "<dt>Test balanced accuracy</dt><dd>52.6 %</dd>" in sweep_page(record)
    test |= {"test/auc": 0.712, "test/auc_low": 0.6, "test/auc_high": 0.81}
    by_auc = dataclasses.replace(record, metrics=("val/auc",), test=test)
    assert [*verdict(by_auc)][1:3] == ["test AUC", "test accuracy"]
    assert verdict(by_auc)["test AUC"] == "0.712  (95 % interval 0.600 to 0.810)"
    assert "<dt>Test AUC</dt>" in sweep_page(by_auc)
    unknown = dataclasses.replace(record, metrics=("val/loss",))
    assert not any("loss" in name for name in verdict(unknown))


def test_what_sets_of_labels_have_all_right_is_no_accuracy() -> None:
    of_sets = {"test/map": 0.822, "test/macro_f1": 0.774, "test/accuracy": 0.211}
    record = dataclasses.replace(RECORD, metrics=("val/map",), test=of_sets)
    shown = verdict(record)
    assert shown["test"] == "mean average precision 82.2 %, macro F1 77.4 %"
    assert shown["test exact match"] == "21.1 %" and "test accuracy" not in shown
    by_f1 = dataclasses.replace(record, metrics=("val/macro_f1",))
    assert verdict(by_f1) == shown, "macro F1 is shown once"
    page = sweep_page(record)
    assert "<dt>Test exact match</dt><dd>21.1 %, measured 2 times on this split</dd>" in page
    assert "accuracy" not in page.partition("</header>")[0].partition("<header")[2]
    by_all_right = dataclasses.replace(record, metrics=("val/accuracy",))
    assert leaderboard_table(by_all_right).headers[2] == "exact match"


def test_a_family_without_a_result_says_why() -> None:
    trials = (
        trial(0, "cnn", COMPLETE, 0.97),
        trial(1, "mlp", PRUNED, reason="the time was over"),
        trial(2, "gru", FAILED, reason="out of\nmemory"),
    )
    record = dataclasses.replace(RECORD, families=("cnn", "mlp", "gru", "fcn"), trials=trials)
    rows = {row[0]: row[1:] for row in families_table(record).rows}
    assert rows["mlp"] == ("stopped: the time was over", "", "", "", "1", "4.0 s")
    assert rows["gru"] == ("failed", "", "", "", "1", "4.0 s")
    assert rows["fcn"] == ("no trial", "", "", "", "", "")


def test_the_reason_for_a_family_that_was_left_out_stands_beneath_the_table() -> None:
    left_out = {"vit": "too <b>large\nfor the memory.", "gru": ""}
    families = ("cnn", "mlp", "gru", "vit")
    record = dataclasses.replace(RECORD, families=families, left_out=left_out)
    rows = {row[0]: row[1] for row in families_table(record).rows}
    assert (rows["vit"], rows["gru"]) == ("left out", "left out")
    reasons = [line for line in format_result(record).splitlines() if ": left out: " in line]
    assert reasons == ["vit: left out: too <b>large for the memory"]
    page = sweep_page(record)
    assert page.count(" was left out: ") == 1
    assert "vit was left out: too &lt;b&gt;large for the memory.</p>" in page
    assert "left out" not in sweep_page(RECORD) and "left out" not in format_result(RECORD)


def test_epochs_that_nobody_counted_are_left_open() -> None:
    """The log-loss of a network is known at its end alone."""
    ended = dataclasses.replace(trial(0, "cnn", COMPLETE, 0.97), curve=())
    stopped = trial(1, "mlp", PRUNED)
    record = dataclasses.replace(RECORD, trials=(ended, stopped), finalists=(), winner=None)
    assert [row[4] for row in leaderboard_table(record).rows] == ["", "0"]
    rows = list(csv.DictReader(leaderboard_csv(record).splitlines()))
    assert [row["epochs"] for row in rows] == ["", "0"]


def test_why_a_family_got_no_further_trial_stands_beneath_the_table() -> None:
    record = dataclasses.replace(RECORD, closed={"mlp": "its best is <b>too far behind."})
    lines = format_result(record).splitlines()
    assert "mlp: no further trial: its best is <b>too far behind" in lines
    assert "mlp got no further trial: its best is &lt;b&gt;too far behind.</p>" in sweep_page(
        record
    )
    assert "further trial" not in sweep_page(RECORD) + format_result(RECORD)


def test_what_a_family_was_given_for_lack_of_time_stands_beneath_the_table() -> None:
    record = dataclasses.replace(RECORD, reduced={"mlp": "", "cnn": "trainer.max_epochs=3"})
    assert "cnn: for lack of time trainer.max_epochs=3" in format_result(record).splitlines()
    page = sweep_page(record)
    assert "cnn was given, for lack of time: <code>trainer.max_epochs=3</code>" in page
    assert "lack of time" not in sweep_page(RECORD) + format_result(RECORD)
    assert page.count("lack of time") == 1


def test_the_headline_says_which_trainings_its_figure_is_of() -> None:
    head = sweep_page(RECORD).partition("</header>")[0]
    assert "Validation accuracy 97.0 % ± 1.4, mean of 2 seeds; 98.0 % in its trial" in head
    alone = dataclasses.replace(RECORD, finalists=(), winner=None)
    assert (
        "Validation accuracy 98.0 %, in its trial<" in sweep_page(alone).partition("</header>")[0]
    )
    once = dataclasses.replace(RECORD, finalists=(Finalist(3, {1: 0.96}, {1: "runs/b"}),))
    head = sweep_page(once).partition("</header>")[0]
    assert "Validation accuracy 96.0 %, trained again once; 98.0 % in its trial" in head
    # Without time for another training the trial itself is the finalist.
    trials = (*RECORD.trials[:3], dataclasses.replace(RECORD.trials[3], run_dir="runs/a"))
    itself = (Finalist(3, {0: 0.98}, {0: "runs/a"}),)
    itself = dataclasses.replace(RECORD, trials=trials, finalists=itself)
    assert (
        "Validation accuracy 98.0 %, in its trial<" in sweep_page(itself).partition("</header>")[0]
    )
    assert not finalists_table(itself).rows and "Finalists" not in format_result(itself)


def test_costs_are_named_as_those_of_the_trial() -> None:
    """A comparison has means over the trainings of the finalist."""
    costs = {"cost/latency_ms": 0.66, "cost/parameters": 1200.0}
    known = dataclasses.replace(RECORD.trials[3], figures=costs, seconds=None)
    record = dataclasses.replace(RECORD, trials=(*RECORD.trials[:3], known))
    assert "<dd>In its trial 0.66 ms a picture, 1.2 K parameters</dd>" in sweep_page(record)


def test_training_time_is_not_that_of_the_whole_trial() -> None:
    known = dataclasses.replace(RECORD.trials[3], figures={"cost/training_seconds": 2.3})
    record = dataclasses.replace(RECORD, trials=(*RECORD.trials[:3], known))
    assert "<dd>In its trial trained in 2.3 s; the whole trial took 4.0 s</dd>" in sweep_page(
        record
    )
    assert "trained in" not in sweep_page(RECORD)


def test_a_lone_value_is_written_on_its_axis_as_elsewhere() -> None:
    trials = tuple(trial(number, "cnn", COMPLETE, 0.94512) for number in range(2))
    page = sweep_page(dataclasses.replace(RECORD, trials=trials, finalists=(), winner=None))
    assert "94.5 %" in page and "94.51" not in page


@pytest.mark.slow
@in_a_browser
def test_the_chart_and_its_legend_show_what_there_is(visit: Visit) -> None:
    lost = trial(4, "gru", PRUNED, reason="the time was over")
    record = dataclasses.replace(
        RECORD, families=("cnn", "mlp", "gru", "fcn"), trials=(*RECORD.trials, lost)
    )
    page = visit(sweep_page(record))
    legend = page.locator("#legend > span").all_inner_texts()
    assert legend == ["cnn", "mlp", "▽ pruned", "\u00d7 failed", "― best so far"]
    assert "1 without a value is not drawn." in page.locator("main").inner_text()
    complete = dataclasses.replace(RECORD, trials=(RECORD.trials[0], RECORD.trials[3]))
    legend = visit(sweep_page(complete)).locator("#legend > span").all_inner_texts()
    assert legend == ["cnn", "― best so far"]
    one = dataclasses.replace(record, trials=(RECORD.trials[3], RECORD.trials[2], lost))
    assert visit(sweep_page(one)).locator("#history").count() == 0


@pytest.mark.parametrize(("metric", "side"), [("val/accuracy", "higher"), ("val/loss", "lower")])
def test_the_best_trials_are_where_the_page_says(metric: str, side: str) -> None:
    assert f"{side} is better." in sweep_page(race(9, metric=metric))


def test_the_end_shows_what_the_winners_mistakes_cost_where_costs_decide() -> None:
    cost = {"test/cost": 0.3104, "test/cost_low": 0.2, "test/cost_high": 0.45}
    record = dataclasses.replace(RECORD, metrics=("val/cost",), test={**RECORD.test, **cost})
    said = "0.3104  (95 % interval 0.2000 to 0.4500)"
    assert verdict(record)["test cost"] == said
    assert f"test cost           {said}" in format_result(record)
    page = sweep_page(record)
    assert said in page and "Test cost" in page and "Test accuracy" in page
    assert "Test cost" not in sweep_page(RECORD)


def test_the_pictures_of_a_race_are_named_with_their_numbers() -> None:
    parts = {"train": 1169, "val": 269, "test": 0}
    record = dataclasses.replace(RECORD, data="digits", parts=parts)
    said = "digits: 1,169 train, 269 val pictures"
    assert said in format_result(record).splitlines()[0] and said in sweep_page(record)


def test_what_a_constant_answer_has_stands_beside_the_winner() -> None:
    record = dataclasses.replace(RECORD, constant="The same for everything has 71.0 %.")
    assert "baseline            The same" in format_result(record)
    assert record.constant in sweep_page(record)
    assert "Baseline" not in sweep_page(RECORD)


def test_a_family_that_was_alone_is_said_with_what_lets_another_one_in() -> None:
    alone = dataclasses.replace(RECORD, trials=RECORD.trials[1:], winner=3, caution="")
    page = sweep_page(dataclasses.replace(alone, short=("only cnn was tried", "sweep study=s")))
    assert "only cnn was tried" in page and "sweep study=s" in page
    assert "cnn-3 is the only candidate" in page
    assert "Short of time" not in sweep_page(RECORD)
