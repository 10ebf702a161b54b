"""The jobs of a sweep, as the overrides of their runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.config.sweep import read_sweep_settings
from src.records.trials import TrialRecord
from src.runs.fold_records import FoldBook
from src.runs.folder import RunFolder
from src.sweeps.families import load_families
from src.sweeps.prepared import Prepared
from src.sweeps.tasks import SweepJobs


class Facts:
    """The facts of trials, as a study keeps them."""

    def __init__(self) -> None:
        self.kept: dict[int, dict[str, Any]] = {}

    def facts(self, number: int) -> dict[str, Any]:
        return dict(self.kept.get(number, {}))

    def note(self, number: int, **facts: Any) -> None:
        self.kept.setdefault(number, {}).update(facts)


@pytest.mark.parametrize(
    ("values", "limited"),
    [
        ({"model.classifier": "auto"}, True),
        ({"model.classifier": "logistic", "model.logistic.strength": 3.0}, False),
    ],
)
def test_the_limit_of_a_search_for_a_classifier_goes_to_trials_that_search(
    values: dict[str, Any], limited: bool
) -> None:
    """A setting that changes nothing would be refused."""
    settings = read_sweep_settings(["study=s", "output_dir=out"], "default")
    families = {one.name: one for one in load_families(["embedding"], [], None)}
    prepared = {"embedding": Prepared(["model.auto.seconds=20.0"], 1, 0.0)}
    study: Any = Facts()
    jobs = SweepJobs(settings, study, families, [], prepared, "0" * 32)
    trial = TrialRecord(number=0, family="embedding", state="running", values=values)
    found = compose_settings(RunSettings, jobs.trial(trial).overrides)
    assert ("model.auto.seconds=20.0" in jobs.trial(trial).overrides) is limited
    assert found.model.auto.seconds == (20.0 if limited else 60.0)


def test_a_finalist_has_the_threads_of_its_slot_where_its_trial_had_those_of_all() -> None:
    settings = read_sweep_settings(["study=s", "output_dir=out"], "default")
    families = {one.name: one for one in load_families(["cnn"], [], ["model.dropout"])}
    prepared = {"cnn": Prepared(["runtime.threads=8", "data.batch_size=64"], 5, 1.0)}
    study: Any = Facts()
    jobs = SweepJobs(settings, study, families, ["runtime.threads=2"], prepared, "0" * 32)
    trial = TrialRecord(number=0, family="cnn", state="running", values={"model.dropout": 0.1})

    def threads(overrides: Sequence[str]) -> list[str]:
        return [override for override in overrides if override.startswith("runtime.threads=")]

    assert threads(jobs.trial(trial).overrides) == ["runtime.threads=8"]
    assert threads(jobs.finalist(trial, 1, (), None).overrides) == ["runtime.threads=2"]


def test_a_trial_keeps_the_preparation_that_it_began_with() -> None:
    settings = read_sweep_settings(["study=s", "output_dir=out"], "default")
    families = {one.name: one for one in load_families(["cnn"], [], ["model.dropout"])}
    prepared = {"cnn": Prepared(["data.image_size=64", "trainer.max_epochs=5"], 5, 1.0)}
    study: Any = Facts()
    jobs = SweepJobs(settings, study, families, [], prepared, "0" * 32)
    first, second = (
        TrialRecord(number=number, family="cnn", state="running", values={"model.dropout": 0.1})
        for number in range(2)
    )
    before = jobs.trial(first)
    prepared["cnn"] = Prepared(["data.image_size=128"], 12, 4.0)
    assert before.epochs == 5 and before.step_seconds == 1.0
    assert jobs.trial(first) == replace(before, step_seconds=None), "that of another size"
    assert "data.image_size=64" in jobs.finalist(first, 1, (), None).overrides
    after = jobs.trial(second)
    assert after.epochs == 12 and "data.image_size=128" in after.overrides
    assert not any(override.startswith("trainer.max_epochs=") for override in after.overrides)


def test_a_job_brings_the_folder_of_the_run_that_it_goes_on_with_and_those_of_its_folds(
    tmp_path: Path,
) -> None:
    settings = read_sweep_settings(["study=s", f"output_dir={tmp_path}"], "default")
    families = {one.name: one for one in load_families(["mlp"], [], ["optimizer.lr"])}
    study: Any = Facts()
    jobs = SweepJobs(settings, study, families, [], {"mlp": Prepared([], 3, 1.0)}, "0" * 32)
    whole, fold = (RunFolder.create(tmp_path, "mlp", "digits") for _ in range(2))
    trial = TrialRecord(number=0, family="mlp", state="running", values={"optimizer.lr": 0.1})
    assert jobs.trial(trial).folders == []
    trial = replace(trial, run_dir=str(whole.path))
    assert jobs.trial(trial).folders == [str(whole.path)]
    FoldBook.open(whole, ["python"]).add(1, fold)
    both = [str(whole.path), str(fold.path)]
    assert jobs.trial(trial).folders == jobs.finalist(trial, 1, (), str(whole.path)).folders == both
    assert jobs.test(trial, 1, str(fold.path)).folders == [str(fold.path)]
    shutil.rmtree(whole.path)  # it went with its machine
    assert jobs.trial(trial).folders == []
