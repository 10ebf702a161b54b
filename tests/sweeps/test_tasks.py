"""The jobs of a sweep, as the overrides of their runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.config.sweep import read_sweep_settings
from src.records.trials import TrialRecord
from src.sweeps.families import load_families
from src.sweeps.tasks import Prepared, SweepJobs


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
    study: Any = SimpleNamespace(facts=lambda number: {})
    jobs = SweepJobs(settings, study, families, [], prepared, "0" * 32)
    trial = TrialRecord(number=0, family="embedding", state="running", values=values)
    found = compose_settings(RunSettings, jobs.trial(trial).overrides)
    assert ("model.auto.seconds=20.0" in jobs.trial(trial).overrides) is limited
    assert found.model.auto.seconds == (20.0 if limited else 60.0)
