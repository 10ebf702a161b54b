"""What is said of a budget that leaves one family only, held against what longer ones let in."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from src.records.trials import COMPLETE, PRUNED, RUNNING, TrialRecord
from src.sweeps import short_budget
from src.sweeps.clock import Clock
from src.sweeps.prepared import Prepared
from src.sweeps.short_budget import (
    count_training_pictures,
    describe_single_family,
    estimate_finetuning_epoch,
    explain_no_family,
    families_without_time,
    least_epochs,
    network_to_tune,
    next_affordable_family,
    report_rough_result,
    report_single_family,
    warn_single_family,
)
from tests.sweeps.stand_in import Clock as ByHand
from tests.sweeps.test_prepare import family, jobs_of

CRAFTED = family("handcrafted", "model=handcrafted")
TUNED = family("net", "model=efficientnet_lite0", "recipe=finetune")


def described(speed: float, *, cut: bool) -> Prepared:
    """Return a frozen network's family as in `jobs_of`: of a thousand training pictures."""
    network = {"name": "n", "taken": True, "side": 224, "images_per_second": speed}
    ready = Prepared([], 1, 0.0, published=True, networks=[network], parts={"train": 1_000})
    return replace(ready, limit=1.0 if cut else None)


def test_what_the_sweep_leaves_out_is_not_counted() -> None:
    """Of 3,000 training pictures: by a stated limit, and by one for lack of time."""
    stated = replace(described(100.0, cut=False), parts={"train": 1_000, "dropped": 2_000})
    short = replace(stated, overrides=["data.train_limit=1000"])
    assert count_training_pictures([]) == 0
    assert count_training_pictures([stated]) == 1_000
    assert count_training_pictures([stated, short]) == 3_000
    each = [estimate_finetuning_epoch(TUNED, [one], slots=2, side=224) for one in (stated, short)]
    assert each[1] == pytest.approx(3 * each[0])


def ranked(name: str, accuracy: float | None, speed: float) -> dict[str, Any]:
    error = None if accuracy is None else 0.015
    record = {"name": name, "taken": False, "side": 160, "images_per_second": speed}
    return record | {"accuracy": accuracy, "error": error}


def test_the_network_to_tune_is_the_fastest_of_the_best_that_there_is_time_for() -> None:
    """An epoch of a thousand pictures takes 3,000 s / speed, and four are wanted, or else two."""
    both = {"name": "a + b", "taken": True, "accuracy": 0.97, "error": 0.015}
    networks = [ranked("small", 0.80, 600), ranked("good", 0.89, 300), ranked("alike", 0.90, 100)]
    networks += [ranked("large", 0.95, 30), ranked("slow", None, 1), both]
    frozen = replace(described(100.0, cut=False), networks=networks)
    found = {
        seconds: network_to_tune(TUNED, [frozen], 1, seconds)
        for seconds in (inf, 400, 399, 120, 40, 39, 20, 10, 9)
    }
    assert found == {
        inf: ("large", False),
        400: ("large", False),
        399: ("good", True),
        120: ("good", True),
        40: ("good", True),
        39: ("small", True),
        20: ("small", True),
        10: ("small", True),
        9: (None, True),
    }
    assert network_to_tune(TUNED, [Prepared([], 1, 0.0)], 1, inf) == (None, False)


def test_a_network_is_judged_by_few_epochs_if_its_weights_are_published() -> None:
    frozen = described(100.0, cut=False)
    assert least_epochs(family("cnn"), [frozen]) == 3
    assert least_epochs(TUNED, []) == least_epochs(TUNED, [Prepared([], 3, 1.0)]) == 1
    assert least_epochs(TUNED, [frozen]) == 2, "one epoch is no better than frozen networks"
    assert least_epochs(TUNED, [frozen.left_out("too slow")]) == 1


def after(spent: float, budget: float) -> Clock:
    time = ByHand()
    clock = Clock(budget, finals=False, earlier=0, note=lambda _: None, now=time)
    time.now += spent
    return clock


@pytest.mark.parametrize("speed", [2.0, 5.0])
def test_the_minutes_that_are_named_let_hand_crafted_features_in(speed: float) -> None:
    """Describing took its share, 65 % of 200 s, and takes it of every longer budget as well."""
    assert jobs_of(130, CRAFTED, 200, speed=speed) == []
    known = {"embedding": described(speed, cut=True)}
    late = families_without_time({"embedding": family("embedding"), "handcrafted": CRAFTED}, known)
    found = next_affordable_family(late, known, after(130, 200), 2, ())
    assert found is not None and found[0] == "handcrafted"
    seconds = 60 * found[1]
    assert seconds > 200 and jobs_of(0.65 * seconds, CRAFTED, seconds, speed=speed)
    assert not jobs_of(0.4 * seconds, CRAFTED, 0.6 * seconds, speed=speed), "no more than it takes"


def test_the_minutes_that_are_named_let_a_tuned_network_in() -> None:
    """All pictures were described in 60 s, and two epochs take 31, half of what must be left."""
    assert jobs_of(60, TUNED, 80, speed=200.0) == []
    known = {"embedding": described(200.0, cut=False)}
    late = {"net": TUNED}
    found = next_affordable_family(late, known, after(60, 80), 2, ())
    assert found == ("net", 3)
    assert jobs_of(60, TUNED, 180, speed=200.0) and not jobs_of(60, TUNED, 120, speed=200.0)
    # Where describing takes 65 % of any budget, trials wait after it, and the network is measured.
    known = {"embedding": described(200.0, cut=True)}
    assert next_affordable_family(late, known, after(52, 80), 2, ()) == ("net", 5)
    assert jobs_of(0.65 * 300, TUNED, 300, speed=200.0)
    assert not jobs_of(0.65 * 150, TUNED, 150, speed=200.0)
    others = {"cnn": family("cnn")}
    assert next_affordable_family(others, known, after(52, 80), 2, ()) is None


def test_a_network_that_was_measured_is_told_by_that() -> None:
    """An epoch takes 30 s, three are the least, and they may take half of what is left."""
    slow = Prepared([], 12, 30.0, affordable=False, limit=100.0)
    known = {"embedding": described(100.0, cut=False), "cnn": slow}
    huge = Prepared([], 1, 0.0, affordable=False, notes=["left out: not enough memory"])
    late = families_without_time(
        {name: family(name) for name in ("cnn", "fcn")}, {**known, "fcn": huge}
    )
    assert list(late) == ["cnn"], "time is not what the other one lacks"
    assert next_affordable_family(late, known, after(20, 120), 2, ()) == ("cnn", 5)
    endless = Clock(None, finals=True, earlier=0, note=print)
    assert next_affordable_family(late, known, endless, 2, ()) is None


def test_photos_are_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_budget, "available_cores", lambda: 2)
    monkeypatch.setattr(short_budget, "slowdown", lambda: 1.0)
    said = warn_single_family(2_146, 2, True, ())
    assert said.startswith("budget.minutes=2 may fit only one family")
    assert said.endswith("takes about 4 minutes on idle cores")
    assert warn_single_family(2_146, 5, True, ()) == "" == warn_single_family(210, 3, True, ())
    monkeypatch.setattr(short_budget, "slowdown", lambda: 4.0)
    busy = warn_single_family(2_146, 5, True, ())
    assert busy.endswith("may not fit at the load of now, and does on idle cores"), busy
    assert warn_single_family(2_146, 2, True, ()) == said, "a load of a moment is no plan"
    assert "minutes=2 " in warn_single_family(2_146, 2, True, ["data.train_limit=2146"]), (
        "no share of them"
    )


def test_the_end_names_the_command_that_shows_a_second_family() -> None:
    def trial(name: str, state: str) -> TrialRecord:
        return TrialRecord(0, name, state, {})

    mine = [trial("embedding", COMPLETE), trial("cnn", RUNNING)]
    both, second = ("embedding", "cnn"), ("cnn", 4)
    assert report_single_family(mine, both, second, "sweep study=s") == (
        "only embedding was tried; at the speed measured here, cnn takes about 4 minutes in all",
        "sweep study=s budget.minutes=4",
    )
    several = report_single_family([*mine, trial("cnn", PRUNED)], both, second, "again")
    assert several == report_single_family(mine, both, None, "again") == ("", "")
    assert report_single_family(mine, ["embedding"], second, "again") == ("", "")
    assert describe_single_family("embedding", 2, second) == (
        "only embedding should fit into budget.minutes=2; cnn takes about budget.minutes=4"
    )
    assert "other families take more" in describe_single_family("embedding", 2, None)


def test_the_result_of_the_minimal_trial_alone_is_called_rough() -> None:
    trials = [TrialRecord(0, "cnn", PRUNED, {}), TrialRecord(1, "mlp", COMPLETE, {})]
    sentence, remedy = report_rough_result(trials, (1.0, 3.0, "cnn"), "sweep study=s")
    assert sentence.startswith("a rough result: ") and "mlp-1, would" in sentence
    assert sentence.endswith("budget.minutes=1; cnn may fit into 3")
    assert remedy == "sweep study=s budget.minutes=3"
    assert report_rough_result(trials, (1.0, 2.0, ""), "s")[0].endswith("; more may fit into 2")
    later = [*trials, TrialRecord(2, "cnn", COMPLETE, {})]
    for given in ((later, (1.0, 3.0, "cnn"), "s"), (trials, None, "s"), (trials, (1, 2, ""), None)):
        assert report_rough_result(*given) == ("", "")


def test_where_no_family_fits_the_reason_is_said_with_the_remedy() -> None:
    late = Prepared([], 1, 0.0, affordable=False, notes=["left out: opening would take 90 s"])
    families = {"cnn": family("cnn", "model=cnn"), "net": TUNED}
    assert explain_no_family({"cnn": replace(late, limit=30.0)}, families, 4.0, True) == (
        "budget.minutes=4 is too short for any of cnn, net (cnn: left out: opening would take "
        "90 s): repeat the command with budget.minutes=8 or choose faster families"
    )
    assert "(" not in explain_no_family({}, families, 1.5, True)
    # Three of ten epochs take 90 s, half as long again to be sure, and may be half of the time:
    # 170 s are missing in what the finals leave of the budget, 70 %, or all of it.
    slow = replace(late, epochs=10, seconds_per_epoch=30.0, limit=100.0)
    slower = replace(slow, seconds_per_epoch=400.0)
    for finals, minutes in ((True, 9), (False, 7)):
        why = explain_no_family({"cnn": slow, "net": slower}, families, 4.0, finals)
        assert f"budget.minutes={minutes}, in which cnn may fit at this load" in why


@pytest.mark.parametrize(
    ("overrides", "least"),
    [
        # None of them is in a list: what begins without weights needs more epochs to be judged.
        (("model=whitened",), 3),
        (("model=timm", "model.name=resnet18"), 3),
        (("model=timm", "model.name=resnet18", "model.pretrained=true"), 1),
        (("model=cnn", "model.pretrained=before.pt"), 1),
        (("model=embedding",), 1),
    ],
)
def test_a_network_without_weights_needs_more_epochs(
    overrides: tuple[str, ...], least: int
) -> None:
    assert least_epochs(family("any", *overrides), []) == least
