"""Which trials end in the time that is left, by what was measured and what others took."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from src.records.trials import COMPLETE, PRUNED, TrialRecord
from src.search.space import Family, Kind
from src.sweeps.families import kinds_of, load_families, name_of_kind, trial_variants
from src.sweeps.forecast import SAFETY_FACTOR, TimeForecast
from src.sweeps.prepared import Prepared

FAMILIES = {one.name: one for one in load_families(["embedding", "handcrafted", "cnn"], [], None)}
CUT = ("model.networks=[a]",)
SLOW, FAST, WHOLE = (
    {"model.classifier": "rbf_svm", "model.selection": "none"},
    {"model.classifier": "rbf_svm", "model.selection": "pca"},
    {"model.classifier": "logistic", "model.selection": "none"},
)
AUTO = {"model.classifier": "auto"}


def trial(values: Any, seconds: float, family: str = "embedding", **changes: Any) -> TrialRecord:
    found = TrialRecord(0, family, COMPLETE, values, overrides=CUT, seconds=seconds)
    return replace(found, **changes)


def forecast(**prepared: Prepared) -> TimeForecast:
    return TimeForecast(FAMILIES, prepared)


def of_embedding(**costs: float) -> TimeForecast:
    named = {"slow": SLOW, "fast": FAST, "whole": WHOLE}
    fits = {name_of_kind(named[name]): seconds / SAFETY_FACTOR for name, seconds in costs.items()}
    return forecast(embedding=Prepared(CUT, 1, 0.0, True, search_seconds=30.0, fit_seconds=fits))


def test_kinds_are_the_classifiers_on_all_features_and_on_few_and_other_families_have_one() -> None:
    kinds = [kind.values for kind in kinds_of(FAMILIES["embedding"])]
    assert len(kinds) == 9 and AUTO in kinds and SLOW in kinds and FAST in kinds
    assert kinds_of(FAMILIES["cnn"]) == [Kind("cnn")]
    sizes = trial_variants(FAMILIES["cnn"])
    assert len(sizes) == 15 and all(one.keys() == {"model.widths", "model.blocks"} for one in sizes)
    features = trial_variants(FAMILIES["handcrafted"])
    assert len(features) == 6 + 6 + 6 * 3 + 3 + 3 and trial_variants(FAMILIES["embedding"]) == [{}]
    assert {"model.features": ["hog", "raw"], "model.hog.cells": [4]} in features
    (given,) = load_families(["embedding"], ["model.classifier=logistic"], ["model.scaling"])
    assert kinds_of(given) == [Kind("embedding")]


def test_a_slow_classifier_keeps_no_other_of_its_family_from_the_time_that_is_left() -> None:
    known = of_embedding(slow=90.0, fast=20.0, whole=3.0)
    took = [trial(AUTO, 35.0)]  # of which 5 s are for all else
    assert known.needed(Kind("embedding", SLOW), took) == pytest.approx(95)
    assert known.needed(Kind("embedding", WHOLE), took) == pytest.approx(8)
    kinds = known.affordable(30.0, took)
    assert Kind("embedding", FAST) in kinds and Kind("embedding", WHOLE) in kinds
    assert Kind("embedding", SLOW) not in kinds and Kind("embedding") not in kinds
    assert known.affordable(100.0, took) == known.affordable(None, took) == [Kind("embedding")]
    # One that took long says nothing of the others.
    assert Kind("embedding", WHOLE) in known.affordable(30.0, [*took, trial(SLOW, 120.0)])


def test_what_trials_of_a_kind_took_is_nearer_than_what_was_measured() -> None:
    known, kind = of_embedding(slow=90.0), Kind("embedding", SLOW)
    took = [trial(SLOW, seconds) for seconds in (500.0, 20.0, 24.0, 300.0)]
    assert known.needed(kind, took) == 24, "the median of the last three"
    # What was stopped for lack of time takes more than that.
    assert known.needed(kind, [*took, trial(SLOW, 60.0, state=PRUNED)]) == 60
    assert known.needed(kind, [trial(SLOW, 10.0, state=PRUNED)]) == pytest.approx(90)
    # Other networks have described other numbers of pictures in other numbers.
    other = replace(took[1], overrides=("model.networks=[b]",))
    assert known.needed(kind, [other]) == pytest.approx(90)


def test_what_was_stopped_shows_what_a_trial_takes_beside_its_fit() -> None:
    """Two of five folds took 10 s, of which the fits, of 3 s in all, are the least."""
    known = of_embedding(slow=9.0, whole=3.0)
    stopped = trial(WHOLE, 25.0, state=PRUNED)
    assert known.needed(Kind("embedding", SLOW), [stopped]) == pytest.approx(9 + 25 - 3)
    answered = [stopped, trial(WHOLE, 5.0)]
    assert known.needed(Kind("embedding", SLOW), answered) == pytest.approx(9 + 5 - 3)


def test_what_is_searched_does_not_part_trials_from_what_was_measured() -> None:
    """The default configuration begins with a value that other trials replace."""
    (tuned,) = load_families(["efficientnet_lite0"], [], ["data.fit"])
    shared = ("model.input_size=160", "trainer.max_epochs=1")
    measured = Prepared(("data.fit=crop", *shared), 1, 60.0, True)
    known, kind = TimeForecast({tuned.name: tuned}, {tuned.name: measured}), Kind(tuned.name)
    other = trial({"data.fit": "pad"}, 100.0, tuned.name, overrides=("data.fit=pad", *shared))
    assert known.needed(kind, [other]) == pytest.approx(100)
    larger = replace(other, overrides=("data.fit=crop", "model.input_size=224"))
    assert known.needed(kind, [larger]) == pytest.approx(SAFETY_FACTOR * 60)


def test_a_search_counts_once_there_is_an_answer_and_again_on_other_features() -> None:
    found = Prepared(CUT, 1, 10.0, search_seconds=30.0)
    known = forecast(embedding=found, handcrafted=found)
    frozen, crafted = Kind("embedding", AUTO), Kind("handcrafted", AUTO)
    assert known.needed(frozen, []) == 10, "an answer that may come late is better than none"
    assert known.needed(frozen, [trial({}, 1.0, "cnn")]) == 10 * SAFETY_FACTOR + 30
    # A choice among classifiers is kept for the same features, and each hand-crafted trial may
    # have others.
    took = [trial(AUTO, 50.0), trial({**AUTO, "model.features": ["hog"]}, 50.0, "handcrafted")]
    assert known.needed(frozen, took) == 20 and known.needed(crafted, took) == 50
    assert known.needed(frozen, [trial(AUTO, 3.0)]) == 10, "no less than was measured"


def test_hand_crafted_features_that_would_not_end_are_not_proposed_and_smaller_ones_are() -> None:
    scattering, pixels = {"model.features": ["scattering"]}, {"model.features": ["hog", "raw"]}
    wide, narrow = ({**scattering, "model.scattering.orientations": n} for n in (8, 3))
    few = {**pixels, "model.hog.cells": [4]}
    longer = {name_of_kind(wide): 4.0, name_of_kind(narrow): 0.5, name_of_kind(few): 0.2}
    fits = {
        name_of_kind({**WHOLE, **features}): seconds / SAFETY_FACTOR
        for features, seconds in ((wide, 100.0), (narrow, 10.0), (few, 3.0))
    }
    own = Prepared([], 1, 10.0, fit_seconds=fits, longer=longer)
    known, kind = forecast(handcrafted=own), Kind("handcrafted", WHOLE)
    assert [known.needed(kind, [], one) for one in (wide, narrow, few)] == [140, 15, 5]

    def fitting(seconds: float, *took: TrialRecord) -> list[Any]:
        kinds = known.affordable(seconds, took)
        return [one for k in kinds if k.values == WHOLE for one in k.among or ["all"]]

    assert fitting(4.0) == [] and fitting(5.0) == [few]
    assert narrow in fitting(20.0) and wide not in fitting(139.0) and fitting(140.0) == []
    # A trial that took twice as long as was measured says as much of other features.
    took = trial({**WHOLE, **narrow}, 30.0, "handcrafted", overrides=())
    assert [known.needed(kind, [took], one) for one in (wide, few)] == [280, 10]
    assert fitting(9.0, took) == [] and few in fitting(10.0, took)


def test_families_without_classifiers_go_by_what_was_measured_and_what_their_trials_took() -> None:
    known = forecast(cnn=Prepared([], 12, 1.0), embedding=Prepared([], 1, 0.0, affordable=False))
    assert known.affordable(12.0, []) == [Kind("cnn")] and known.affordable(11.0, []) == []
    # What was measured alone may take longer beside others, once there is any answer.
    others = [trial(AUTO, 1.0)]
    assert known.affordable(17.0, others) == [] and known.affordable(18.0, others) == [Kind("cnn")]
    took = [trial({}, 40.0, "cnn")]
    assert known.affordable(39.0, took) == [] and known.affordable(40.0, took) == [Kind("cnn")]
    assert known.affordable(11.0, [trial({}, 1.0, "cnn")]) == []


def test_what_begins_beside_the_first_trials_lets_one_of_them_end() -> None:
    """Nobody has answered; a picture is described with all cores, which two trials would share."""
    overrides = {"model.features": ["scattering"], "model.scattering.orientations": 8}
    first = trial({**WHOLE, **overrides}, 0.0, "handcrafted", overrides=())
    crafted = Prepared([], 1, 10.0, all_cores=True)
    known = forecast(handcrafted=crafted, cnn=Prepared([], 12, 1.0))
    both, one = [Kind("handcrafted"), Kind("cnn")], [Kind("cnn")]
    assert known.affordable(12.0, []) == both
    # Each takes half as long again at most: 15 s and 15 s, or 15 s and 18 s.
    assert known.affordable(29.0, [], [first]) == []
    assert known.affordable(30.0, [], [first]) == both[:1] and known.affordable(33.0, [], [first])
    assert known.affordable(33.0, [], [first]) == both
    # A network has the threads of its slot alone, whatever runs in the others.
    net = trial({}, 0.0, "cnn")
    assert known.affordable(12.0, [], [net]) == one and known.affordable(33.0, [], [net]) == both
    # What an earlier start left running may be of a family that has no part in this race.
    assert known.affordable(12.0, [], [trial({}, 0.0)]) == both


def test_two_that_describe_with_all_cores_must_both_end_also_once_there_is_an_answer() -> None:
    """Such a trial reports at its end alone: one that is cut short has given nothing."""
    overrides = {"model.features": ["scattering"], "model.scattering.orientations": 8}
    crafted = Prepared([], 1, 10.0, all_cores=True)
    known = forecast(handcrafted=crafted, cnn=Prepared([], 12, 1.0))
    took = [
        trial({**WHOLE, **overrides}, 20.0, "handcrafted", overrides=()),
        trial({}, 12.0, "cnn"),
    ]
    kind = Kind("handcrafted", WHOLE)
    assert known.needed(kind, took, overrides) == 20

    def begin(seconds: float, *beside: TrialRecord) -> list[str]:
        kinds = known.affordable(seconds, took, beside)
        same = [one for one in kinds if one.family == "cnn" or one.values in ({}, WHOLE)]
        return sorted({one.family for one in same})

    running = trial({**WHOLE, **overrides}, 0.0, "handcrafted", overrides=())
    assert begin(20.0) == ["cnn", "handcrafted"] and begin(19.0) == ["cnn"]
    # Both take 20 s and have the same cores, of which the first has had 15 s.
    assert begin(39.0, running) == ["cnn"] and begin(40.0, running) == ["cnn", "handcrafted"]
    later = replace(running, seconds=15.0)
    assert begin(24.0, later) == ["cnn"] and begin(25.0, later) == ["cnn", "handcrafted"]
    overdue = replace(running, seconds=90.0)
    assert begin(20.0, overdue) == ["cnn", "handcrafted"]
    # A network has the threads of its slot alone.
    assert begin(20.0, trial({}, 0.0, "cnn")) == ["cnn", "handcrafted"]
    known = replace(known, one_machine=False)
    assert begin(20.0, running) == ["cnn", "handcrafted"]


def test_only_the_families_that_race_are_forecast() -> None:
    prepared = {"cnn": Prepared([], 1, 1.0), "embedding": Prepared([], 1, 1.0)}
    raced: dict[str, Family] = {"cnn": FAMILIES["cnn"]}
    assert TimeForecast(raced, prepared).affordable(None, []) == [Kind("cnn")]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_families_that_24_further_trials_made_nothing_better_of_are_saturated(
    direction: str,
) -> None:
    sign = 1 if direction == "maximize" else -1
    known = forecast(embedding=Prepared(CUT, 1, 0.0, True), cnn=Prepared([], 3, 1.0))

    def trials(*values: float, family: str = "embedding", cut: Any = CUT) -> list[TrialRecord]:
        ended = [trial(AUTO, 5.0, family, overrides=cut) for _ in values]
        return [replace(t, objectives=(sign * v,)) for t, v in zip(ended, values, strict=True)]

    first = trials(0.8, 0.9)
    assert known.saturated([*first, *trials(*[0.9] * 24)], direction) == ["embedding"]
    assert not known.saturated([*first, *trials(*[0.9] * 23)], direction)
    assert not known.saturated([*first, *trials(*[0.8] * 23, 0.91)], direction)
    assert not known.saturated(trials(*[0.9] * 24), direction)
    assert not known.saturated([*first, *trials(*[0.9] * 24, family="cnn")], direction)
    networks = trials(0.8, 0.9, *[0.9] * 24, family="cnn")
    assert known.saturated(networks, direction) == ["cnn"]
    assert known.saturated([*networks, *first, *trials(*[0.9] * 24)], direction) == [
        *("cnn", "embedding")
    ]
    other = ("model.networks=[b]",)
    assert not known.saturated(trials(*[0.9] * 30, cut=other), direction), "on other features"
    # Those that the pruner has stopped were no better either, and are none to be compared with.
    curve = ((1, sign * 0.95),)
    pruned = [
        replace(one, state=PRUNED, objectives=None, curve=curve) for one in trials(*[0.9] * 30)
    ]
    assert known.saturated([*first, *trials(*[0.9] * 20), *pruned[:4]], direction)
    assert not known.saturated([*first, *trials(*[0.9] * 20), *pruned[:3]], direction)
    assert not known.saturated(pruned, direction)


def test_families_that_are_too_far_behind_are_named_by_their_figures() -> None:
    """Behind by more than twice from median to best, and by the intervals of both, of 5 points."""
    known = forecast(embedding=Prepared(CUT, 1, 0.0, True), handcrafted=Prepared([], 1, 1.0))

    def trials(
        *values: float, family: str = "handcrafted", half: float = 0.03
    ) -> list[TrialRecord]:
        return [
            replace(
                trial(AUTO, 5.0, family),
                objectives=(value,),
                figures={"val/accuracy_low": value - half, "val/accuracy_high": value + half},
            )
            for value in values
        ]

    def behind(*judged: TrialRecord, known: TimeForecast = known) -> list[str]:
        return [*known.behind(judged, "maximize", "val/accuracy")]

    lead = trials(0.9, 0.5, family="embedding", half=0.04)
    assert behind(*lead, *trials(0.8, 0.78, 0.7, 0.78)) == ["handcrafted"]
    assert known.behind([*lead, *trials(0.8, 0.78, 0.7, 0.78)], "maximize", "val/accuracy") == {
        "handcrafted": "its best of 4 trials, 80.0 %, is too far behind 90.0 %"
    }
    assert not behind(*lead, *trials(0.8, 0.78, 0.7)), "three say little"
    # Beyond twice the intervals two are enough, as far as they are from each other.
    assert behind(*lead, *trials(0.79, 0.79)) and not behind(*lead, *trials(0.81, 0.81))
    assert behind(*lead, *trials(0.75, 0.71)) and not behind(*lead, *trials(0.75, 0.69))
    assert not behind(*lead, *trials(0.1)), "its own configuration may be a bad one"
    assert not behind(*lead, *trials(0.8, 0.77, 0.7, 0.77)), "it may gain as much again, and more"
    assert behind(*lead, *trials(0.8, 0.78, 0.1, 0.78)), "what is worse is nothing to gain"
    assert not behind(*trials(0.9, family="embedding", half=0.08), *trials(0.8, 0.78, 0.7, 0.78))
    assert not behind(*trials(0.9, 0.5, 0.5, 0.5, 0.5, family="embedding"), *trials(0.8))
    without = [replace(one, figures={}) for one in (*lead, *trials(0.8, 0.78, 0.7, 0.78))]
    assert not behind(*without), "a metric without intervals has no errors to judge it by"
    pruned = [replace(one, objectives=None, state=PRUNED) for one in trials(*[0.1] * 9)]
    assert not behind(*lead, *trials(0.8), *pruned) and not behind(*pruned)
    again = forecast(**{**known.prepared, "handcrafted": Prepared(["data.train_limit=9"], 1, 1.0)})
    assert not behind(*lead, *trials(0.8, 0.78, 0.7, 0.78), known=again), "on other pictures"
    costs = [replace(one, objectives=(1 - one.objectives[0],)) for one in (*lead, *trials(0.8))]
    assert not known.behind(costs, "minimize", "val/cost")
