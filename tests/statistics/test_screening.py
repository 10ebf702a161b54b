from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from src.statistics.candidates import Candidate
from src.statistics.screening import Screening
from src.statistics.verdict import judge
from tests.statistics.fields import candidate


def search(seed: int, trials: int = 60) -> tuple[list[Candidate], Screening]:
    """Equal configurations, right for 80 % of 300 pictures: trials, and refits of the best three.

    Half of what each has right it has right in all of its trainings.
    """
    generator = np.random.default_rng(seed)
    difficulty = generator.standard_normal((trials, 300))

    def answers(index: int, repeats: int) -> np.ndarray:
        own = difficulty[index] + generator.standard_normal((repeats, 300))
        return own / np.sqrt(2) > -0.8416

    tried = [candidate(f"t{i}", answers(i, 1)) for i in range(trials)]
    best = sorted(range(trials), key=lambda i: -float(tried[i].right.mean()))[:3]
    field = [candidate(f"c{i}", answers(i, 3)) for i in best]
    return field, Screening(tried, {f"c{i}": i for i in best})


def test_what_the_best_of_many_trials_are_too_good_by_is_taken_off() -> None:
    measured, blind, corrected, held = [], [], [], []
    for seed in range(40):
        field, screening = search(seed)
        verdict = judge(field, screening=screening, draws=300)
        measured.append(verdict.winner.figure - 0.8)
        blind.append(judge(field, draws=300).corrected - 0.8)
        corrected.append(verdict.corrected - 0.8)
        held.append(0.8 in verdict.winner.interval)
        assert verdict.screened == 57 and verdict.corrected in verdict.winner.interval
    assert np.mean(measured) > 0.02 and np.mean(blind) > 0.01
    assert abs(np.mean(corrected)) < 0.005
    assert np.mean(held) > 0.9


def test_the_training_that_chose_does_not_make_seeds_seem_to_do_more() -> None:
    """Beside refits it would, and the correction would take 1.8 points too much."""
    errors, trials = [], 24
    for seed in range(60):
        generator = np.random.default_rng(seed)
        true = 0.9 - 0.25 * np.abs(generator.standard_normal(trials))
        skill = true[:, None] + 0.09 * generator.standard_normal((trials, 2))
        own = generator.standard_normal((trials, 1, 600))
        own = own + generator.standard_normal((trials, 2, 600))
        right = own / np.sqrt(2) + skill[..., None] > 0
        tried = [candidate(f"t{i}", right[i, :1]) for i in range(trials)]
        best = sorted(range(trials), key=lambda i: -float(tried[i].right.mean()))[:3]
        field = [candidate(f"c{i}", right[i, 1:]) for i in best]
        screening = Screening(tried, {f"c{i}": i for i in best})
        verdict = judge(field, screening=screening, draws=100)
        known = norm.cdf(skill[int(verdict.winner.name[1:]), 1])
        errors.append(verdict.corrected - float(known))
    assert np.mean(errors) == pytest.approx(0, abs=0.006)


def test_a_candidate_that_is_its_own_trial_is_counted_once() -> None:
    field, screening = search(0)
    trial = screening.trials[screening.place[field[0].name]]
    itself = candidate(field[0].name, trial.right)
    own = Screening([*screening.trials[:-1], itself], {itself.name: len(screening.trials) - 1})
    assert own.with_trial(itself) is itself
    assert len(screening.with_trial(field[0]).right) == 4
    stranger = candidate("x", trial.right)
    assert screening.with_trial(stranger) is stranger


def test_a_trial_that_is_no_finalist_has_no_standing() -> None:
    field, screening = search(1)
    verdict = judge(field, screening=screening, draws=100)
    assert {one.name for one in verdict.standings} == {one.name for one in field}
    plain = judge(field, draws=100)
    assert [one.name for one in verdict.standings] == [one.name for one in plain.standings]
    assert verdict.winner.figure == pytest.approx(plain.winner.figure)
