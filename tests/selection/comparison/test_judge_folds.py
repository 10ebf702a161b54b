"""Comparisons of cross-validations, and of studies with their finalists."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, variance

import pytest

from src.config.checks import ConfigError
from src.records.comparison import Recommendation
from src.records.run import RunSummary
from src.reporting.comparison_report import format_comparison
from src.reporting.comparison_verdict import verdict_sentences
from src.runs.folder import RunFolder
from src.selection.comparison import compared
from tests.selection.comparison.runs import TARGETS, compare_settings, finished_run, write_study


def test_repeats_of_a_cross_validation_are_repeats_of_the_candidate(tmp_path: Path) -> None:
    cv: dict[str, int | None] = {"folds": 5, "repeats": 2, "fold": None}
    for seed in (0, 1):
        finished_run(tmp_path, "cnn", 10, seed=seed, cv=cv, repeats=2)
        finished_run(tmp_path, "mlp", 20, seed=seed, cv=cv, repeats=3)
    found = compared(compare_settings(tmp_path))
    repeats = {one.family: len(one.standing.run_ids) for one in found.entrants}
    assert repeats == {"cnn": 4, "mlp": 6}
    assert [len(one.run_dirs) for one in found.entrants] == [2, 2]
    assert "5-fold cross-validation, mean of 4 repeats, folds pooled" in verdict_sentences(found)[0]
    assert "over the pictures alone, as if each fold had its own" in verdict_sentences(found)[1]


def test_a_study_without_finalists_is_its_trials(tmp_path: Path) -> None:
    trial = finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 1)
    trials = [{"run_dir": str(trial.path)}, {"run_dir": None}, {"run_dir": "/gone"}]
    write_study(tmp_path, trials=trials, finalists=[], metrics=["val/loss"])
    found = compared(compare_settings(tmp_path, sweep="s"))
    assert [(one.name, len(one.run_ids)) for one in found.verdict.standings] == [("cnn-0", 1)]
    assert found.verdict.measure == "log_loss"


def test_a_study_that_went_by_costs_is_judged_by_them(tmp_path: Path) -> None:
    refits = [finished_run(tmp_path, "cnn", 10, seed=1), finished_run(tmp_path, "mlp", 4, seed=1)]
    finalists = [
        {"trial": trial, "run_dirs": {"1": str(one.path)}} for trial, one in enumerate(refits)
    ]
    costs = {"b": {"b": 0.0, "a": 1.0}, "a": {"b": 5.0, "a": 0.0}}
    study = {"trials": [], "finalists": finalists, "winner": 1}
    write_study(tmp_path, **study, metrics=["val/cost"], costs=costs)
    verdict = compared(compare_settings(tmp_path, sweep="s")).verdict
    # Of four wrong ones two are of each class.
    assert verdict.measure == "cost" and verdict.winner.run_ids == (refits[1].run_id,)
    assert verdict.winner.figure == pytest.approx((2 * 5 + 2 * 1) / 400)
    other = compared(compare_settings(tmp_path, sweep="s", metric="accuracy")).verdict
    assert other.measure == "accuracy"
    write_study(tmp_path, **study, metrics=["val/accuracy", "val/cost"], costs=costs)
    assert compared(compare_settings(tmp_path, sweep="s")).verdict.measure == "accuracy"


def test_the_field_of_a_study_is_its_finalists_without_the_trials_that_chose_them(
    tmp_path: Path,
) -> None:
    trials = [finished_run(tmp_path, "cnn", 10), finished_run(tmp_path, "mlp", 8)]
    refits = {seed: finished_run(tmp_path, "cnn", 12, seed=seed) for seed in (1, 2)}
    write_study(
        tmp_path,
        trials=[
            {"number": number, "state": "complete", "run_dir": str(one.path)}
            for number, one in enumerate(trials)
        ],
        finalists=[{"trial": 0, "run_dirs": {s: str(r.path) for s, r in refits.items()}}],
        metrics=["val/accuracy"],
        winner=0,
    )
    found = compared(compare_settings(tmp_path, sweep="s"))
    (only,) = found.verdict.standings
    assert only.name == "cnn-0" and set(only.run_ids) == {one.run_id for one in refits.values()}
    assert only.figure == pytest.approx(1 - 12 / len(TARGETS))
    assert found.verdict.screened == 1 and found.remarks == ()
    # Two trials were looked at: an interval for one alone would be shorter.
    alone = compared(compare_settings(tmp_path, runs=list(only.run_ids))).verdict.winner
    assert only.interval.low < alone.interval.low and alone.interval.high < only.interval.high


def test_finalists_with_further_seeds_are_judged_by_their_look(tmp_path: Path) -> None:
    runs = {
        model: [finished_run(tmp_path, model, wrong, seed=seed) for seed in (1, 2)]
        for model, wrong in (("cnn", 12), ("mlp", 12), ("vit", 14))
    }

    def verdict_of(**looks: object) -> tuple[Recommendation, tuple[str, ...]]:
        finalists = [
            {
                "trial": trial,
                "run_dirs": {str(seed): str(run.path) for seed, run in enumerate(found)},
                "left_out": model == "vit" and bool(looks),
            }
            for trial, (model, found) in enumerate(runs.items())
        ]
        record = {"trials": [], "finalists": finalists, "metrics": ["val/accuracy"], "winner": 0}
        write_study(tmp_path, **record, **looks)
        found = compared(compare_settings(tmp_path, sweep="s"))
        return found.verdict, found.remarks

    first, _ = verdict_of()
    third, remarks = verdict_of(looks=3, extra_trainings=4)
    assert (first.look, third.look) == (1, 3) and len(first.tied) == 3
    assert [one.name for one in third.tied] == ["cnn-0", "mlp-0"]
    for one, narrower in zip(third.standings, first.standings):
        assert one.interval.low < narrower.interval.low
    # By another metric nobody was left out, and no look is for nothing.
    by_loss = compared(compare_settings(tmp_path, sweep="s", metric="log_loss")).verdict
    assert by_loss.look == 3 and len(by_loss.tied) == 3
    assert third.decided_by_seeds is not None
    asked = [remark for remark in remarks if "study=s extra_trainings=8" in remark]
    assert len(asked) == (third.decided_by_seeds >= 0.05)


def test_another_winner_of_the_study_is_named(tmp_path: Path) -> None:
    """As of a study by a version that did not know the log-loss of equal finalists."""
    refits = {
        name: finished_run(tmp_path, name, 12, seed=1, sure=sure)
        for name, sure in (("cnn", 0.7), ("mlp", 0.8), ("vit", 0.6))
    }
    better = finished_run(tmp_path, "fcn", 4, seed=1)
    finalists = [
        {"trial": number, "run_dirs": {"1": str(run.path)}}
        for number, run in enumerate([*refits.values(), better])
    ]
    write_study(tmp_path, trials=[], finalists=finalists[:3], metrics=["val/accuracy"], winner=2)
    level = compared(compare_settings(tmp_path, sweep="s"))
    assert [one.name for one in level.verdict.standings] == ["mlp-0", "cnn-0", "vit-0"]
    record = tmp_path / "sweeps" / "s" / "sweep.json"
    plain = json.loads(record.read_text()) | {"finalists": finalists}
    record.write_text(json.dumps(plain))
    found = compared(compare_settings(tmp_path, sweep="s"))
    assert found.verdict.winner.name == "fcn-0"
    for one in (level, found):
        assert any(
            "study s, by the mean of its own metric, was vit" in remark for remark in one.remarks
        )


def test_a_fold_is_no_run_of_its_own_and_a_cross_validation_is_one(tmp_path: Path) -> None:
    """Four wholes and twelve folds: more of the folds share their pictures than of the wholes."""
    for seed in (1, 2):
        for model, wrong in (("cnn", 10), ("mlp", 100)):
            finished_run(tmp_path, model, wrong, seed=seed, cv={"folds": 2, "fold": None})
            for _ in range(3):
                finished_run(tmp_path, model, 1, seed=9, shift=500, cv={"folds": 2, "fold": 1})
    found = compared(compare_settings(tmp_path))
    assert (found.runs, found.remarks, found.folds) == (4, (), 2)
    assert [len(one.run_dirs) for one in found.entrants] == [2, 2]
    assert "cross-validated" in format_comparison(found)


def test_another_division_into_folds_is_left_out_and_called_so(tmp_path: Path) -> None:
    for model, folds in (("cnn", 2), ("mlp", 2), ("gru", 3)):
        cv: dict[str, int | None] = {"folds": folds, "fold": None}
        run = finished_run(tmp_path, model, 10, cv=cv, split=f"into {folds}")
        with_folds(run, [0.9] * folds)
    found = compared(compare_settings(tmp_path))
    assert found.runs == 2
    assert found.remarks == ("One run on other pictures or in other folds left out.",)


def with_folds(folder: RunFolder, accuracies: list[float] | None) -> None:
    folds = None if accuracies is None else {"val/accuracy": accuracies}
    replace(RunSummary.read(folder.summary), folds=folds).write(folder.summary)


def test_two_cross_validations_are_tested_over_their_folds(tmp_path: Path) -> None:
    """Against Nadeau and Bengio's formula, written out."""
    ours, theirs = [0.95, 0.93, 0.96, 0.94], [0.91, 0.92, 0.9, 0.93]
    for model, wrong, values in (("cnn", 10, ours), ("mlp", 30, theirs)):
        folder = finished_run(tmp_path, model, wrong, cv={"folds": 4, "fold": None})
        with_folds(folder, values)
    found = compared(compare_settings(tmp_path))
    differences = [one - other for one, other in zip(ours, theirs)]
    error = (variance(differences) * (1 / 4 + 1 / 3)) ** 0.5
    half = 3.182446 * error  # Student's quantile with three degrees of freedom
    difference = found.verdict.difference
    assert found.pair is None and difference is not None
    assert difference.low == pytest.approx(mean(differences) - half, rel=1e-5)
    assert difference.high == pytest.approx(mean(differences) + half, rel=1e-5)
    assert len(found.verdict.tied) == 2
    # They are those of the summary, which is sealed, and not of the table beside it.
    first = RunFolder.open(Path(found.entrants[0].run_dirs[0]))
    (first.path / "folds.csv").write_text("fold,val/accuracy\n1,0.1\n2,0.1\n3,0.1\n4,0.1\n")
    assert compared(compare_settings(tmp_path)).verdict.difference == difference
    with_folds(first, None)
    with pytest.raises(ConfigError, match=r"summary\.json does not hold"):
        compared(compare_settings(tmp_path))


def test_the_interval_over_folds_has_its_sign_also_where_two_candidates_share_a_name(
    tmp_path: Path,
) -> None:
    """As trial 0 of two studies does; the better one comes first."""
    for wrong, lr in ((4, 0.1), (40, 0.2)):
        folder = finished_run(tmp_path, "cnn", wrong, lr=lr, cv={"folds": 4, "fold": None})
        right = 1 - wrong / len(TARGETS)
        with_folds(folder, [right + 0.001 * fold for fold in range(4)])
    verdict = compared(compare_settings(tmp_path)).verdict
    names = [one.name for one in verdict.standings]
    assert all(name.startswith("cnn-0 (") for name in names)
    assert verdict.difference is not None and verdict.difference.low > 0
    assert [one.name for one in verdict.tied] == names[:1]
