from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.pruners import BasePruner, SuccessiveHalvingPruner

from src.search.pruning import _Hyperband
from src.search.space import FAMILY
from src.search.study import SweepStudy
from tests.search.studies import NUMBERS, family, plan
from tests.search.studies import pruner as make

EPOCHS = 9
curves = st.lists(st.floats(0, 1), min_size=EPOCHS, max_size=EPOCHS)


def trials(
    pruner: BasePruner,
    families: list[str],
    known: list[list[float]],
    direction: Literal["maximize", "minimize"] = "maximize",
) -> Iterator[int]:
    """The epochs that each trial gets, one trial after another."""
    chance = optuna.samplers.RandomSampler()
    study = optuna.create_study(direction=direction, pruner=pruner, sampler=chance)
    for name in families:  # whose trials have no family until they begin
        study.enqueue_trial({FAMILY: name})
    for curve in known:
        trial = study.ask()
        trial.suggest_categorical(FAMILY, ["cnn", "gru"])
        epoch = 0
        for epoch, value in enumerate(curve, 1):
            trial.report(value, epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
        yield epoch


@settings(max_examples=25)
@given(st.lists(curves, min_size=1, max_size=12), st.booleans())
def test_successive_halving_is_optunas_but_for_the_best_two(
    known: list[list[float]], lower_is_better: bool
) -> None:
    direction: Literal["maximize", "minimize"] = "minimize" if lower_is_better else "maximize"
    ends = list(trials(make("asha"), ["cnn"] * len(known), known, direction))
    for number, end in enumerate(ends):
        if end == EPOCHS:
            continue
        assert end in (1, 3), "rungs are at 1, 3 and 9 epochs"
        # Those before it that had come as far, at that epoch.
        others = [known[n][end - 1] for n in range(number) if ends[n] >= end]
        own = known[number][end - 1]
        better = sum(other < own if lower_is_better else other > own for other in others)
        assert better >= max(2, (len(others) + 1) // 3)


def test_the_best_two_of_a_small_family_see_their_end() -> None:
    falling = [[1.0 - n / 10] * EPOCHS for n in range(4)]
    theirs = SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    assert list(trials(theirs, ["cnn"] * 4, falling)) == [EPOCHS, 1, 1, 1]
    assert list(trials(make("asha"), ["cnn"] * 4, falling)) == [EPOCHS, EPOCHS, 1, 1]
    lost = [*falling[:1], [math.nan] * EPOCHS]
    assert list(trials(make("asha"), ["cnn"] * 2, lost)) == [EPOCHS, 1]


@pytest.mark.parametrize("name", ["asha", "median", "hyperband"])
def test_a_slow_starter_is_judged_by_its_own_kind(name: str) -> None:
    fast, slow = [0.9 + e / 1000 for e in range(EPOCHS)], [0.1 + e / 1000 for e in range(EPOCHS)]
    families = ["cnn"] * 8 + ["gru"] * 8
    known = [fast] * 8 + [slow] * 8
    within = list(trials(make(name), families, known))
    across = list(trials(make(name, across_families=True), families, known))
    assert within[8:] == [EPOCHS] * 8, "nobody of its kind was better"
    assert Counter(across[8:])[EPOCHS] < 8, "this test cannot fail"


def test_folds_are_paired_with_those_of_the_best_trial() -> None:
    """Folds differ among each other by far more than the trials do."""
    folds = [0.55, 0.9, 0.5, 0.7, 0.6, 0.8, 0.75, 0.65, 0.85]
    worse, better = ([value + shift for value in folds] for shift in (-0.01, 0.01))
    steps = trials(
        make("wilcoxon", across_families=True), ["cnn"] * 4, [folds, worse, better, folds]
    )
    # Of four folds, all worse, 1/16 is the first share of chance below a tenth.
    assert list(steps) == [EPOCHS, 4, EPOCHS, 4]
    patient = make("wilcoxon", across_families=True, min_epochs=7)
    assert list(trials(patient, ["cnn"] * 2, [folds, worse])) == [EPOCHS, 7]


def test_within_its_family_a_fold_is_paired_with_the_best_of_that_family() -> None:
    best, worse, worst = ([v] * EPOCHS for v in (0.9, 0.7, 0.5))
    families, known = ["cnn", "gru", "gru"], [best, worse, worst]
    across = trials(make("wilcoxon", across_families=True), families, known)
    assert list(across) == [EPOCHS, 4, 4]
    assert list(trials(make("wilcoxon"), families, known)) == [EPOCHS, EPOCHS, 4]


@settings(max_examples=25)
@given(
    st.sampled_from(["asha", "median"]),  # Hyperband's brackets go by the trial's number
    st.lists(curves, min_size=2, max_size=8),
    st.lists(curves, min_size=2, max_size=8),
)
def test_a_family_prunes_the_same_whoever_races_beside_it(
    name: str, cnn: list[list[float]], gru: list[list[float]]
) -> None:
    alone = list(trials(make(name), ["cnn"] * len(cnn), cnn))
    beside = list(trials(make(name), ["gru"] * len(gru) + ["cnn"] * len(cnn), gru + cnn))
    assert beside[len(gru) :] == alone


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_nobody_is_stopped_before_the_least_number_of_epochs(name: str) -> None:
    falling = [[1.0 - n / 10] * EPOCHS for n in range(9)]
    ends = list(trials(make(name, min_epochs=4), ["cnn"] * 9, falling))
    assert min(ends) >= 4 and min(ends) < EPOCHS


@pytest.mark.parametrize("name", ["asha", "median", "hyperband"])
@pytest.mark.parametrize(("epochs", "ninth"), [(27, 3), (30, 4), (100, 12)])
def test_nobody_is_stopped_while_schedules_warm_up(name: str, epochs: int, ninth: int) -> None:
    falling = [[1.0 - n / 100] * epochs for n in range(20)]
    pruner = make(name, min_epochs=2, max_epochs=epochs)
    ends = list(trials(pruner, ["cnn"] * 20, falling))
    assert min(ends) == ninth


def test_no_pruner_stops_nobody() -> None:
    falling = [[1.0 - n / 10] * EPOCHS for n in range(9)]
    assert set(trials(make("none"), ["cnn"] * 9, falling)) == {EPOCHS}


def paper_shares(epochs: int, factor: int) -> list[int]:
    """Algorithm 1 of Li et al. (2018): configurations a bracket, the first to prune first.

    With R = epochs, eta = factor: s_max = floor(log_eta R), B = (s_max + 1) R, and bracket s begins
    n = ceil(B / R * eta^s / (s + 1)) configurations with r = R eta^-s epochs each.
    """
    most = 0
    while factor ** (most + 1) <= epochs:
        most += 1
    budget = (most + 1) * epochs
    return [math.ceil(budget / epochs * factor**s / (s + 1)) for s in range(most, -1, -1)]


@pytest.mark.parametrize(("epochs", "factor"), [(81, 3), (27, 3), (9, 3), (30, 3), (64, 4), (5, 2)])
def test_hyperbands_brackets_have_the_shares_of_the_paper(epochs: int, factor: int) -> None:
    shares = paper_shares(epochs, factor)
    if (epochs, factor) == (81, 3):
        assert shares == [81, 34, 15, 8, 5]  # the paper's table 1
    pruner = _Hyperband(1, epochs, factor)
    count = 20_000
    drawn = Counter(pruner.bracket(number) for number in range(count))
    assert sorted(drawn) == list(range(len(shares)))
    for bracket, share in enumerate(shares):
        expected = share / sum(shares)
        spread = math.sqrt(expected * (1 - expected) / count)
        assert abs(drawn[bracket] / count - expected) < 5 * spread + 1e-9, bracket


def test_a_bracket_of_hyperband_begins_to_prune_where_it_should() -> None:
    pruner = _Hyperband(1, 27, 3)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    ends: dict[int, int] = {}
    for number in range(60):
        trial = study.ask()
        for epoch in range(1, 28):
            trial.report(1.0 - number / 100, epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                first = ends.get(pruner.bracket(number), 27)
                ends[pruner.bracket(number)] = min(first, epoch)
                break
        else:
            study.tell(trial, 1.0)
    assert ends[0] == 1 and ends[1] == 3 and ends[2] == 9
    assert ends.get(3, 27) == 27


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_that_begins_anew_is_judged_by_its_new_curve_alone(
    tmp_path: Path, name: str
) -> None:
    judge = make(name, reduction_factor=2)
    with SweepStudy(tmp_path, plan(family(NUMBERS), pruner=judge)) as study:
        for _ in range(6):  # by the middle of which others are judged
            other = study.ask()
            assert other is not None
            for step in range(1, 10):
                study.report(other.number, step, 0.5 + 0.01 * other.number)
                study.should_prune(other.number)
            study.complete(other.number, [0.5])
        trial = study.ask()
        assert trial is not None
        for step in (1, 2, 3):  # of all the best
            assert study.report(trial.number, step, 0.9)
            assert not study.should_prune(trial.number)
        study.begin_anew(trial.number)
        assert study.trial(trial.number).curve == ()
        assert study.report(trial.number, 1, 0.1) and not study.report(trial.number, 1, 0.2)
        assert study.trial(trial.number).curve == ((1, 0.1),)
        assert study.report(trial.number, 2, 0.1)
        assert study.should_prune(trial.number), "it is the worst"
        study.pruned(trial.number, "it loses")
        assert study.trials()[-1].curve == ((1, 0.1), (2, 0.1))
    with SweepStudy(tmp_path, plan(family(NUMBERS), pruner=judge)) as again:
        assert again.trials()[-1].epochs == 2, "the third was another training's"
