"""Families without epochs in a race: words for everyone reach them where they are about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from src.search.jobs import Job
from src.sweeps.families import default_values, load_families, overrides_of
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import Prepare, Prepared, Train, plain_task

BASE = ["data=digits", "trainer.max_epochs=9", "optimizer.lr=0.01", "runtime.threads=1"]


class Heard:
    """Takes down what a job says."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.reports: list[tuple[int, Mapping[str, float]]] = []

    def note(self, **facts: Any) -> None:
        self.facts |= facts

    def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
        self.reports.append((step, metrics))
        return None


@pytest.mark.parametrize("name", ["handcrafted", "embedding"])
def test_what_is_about_networks_is_not_said_to_others(name: str) -> None:
    families = load_families([name, "mlp"], BASE)
    words = [overrides_of(family, BASE, {}) for family in families]
    assert words[0] == [f"model={name}", "data=digits", "runtime.threads=1"]
    assert words[1] == ["model=mlp", *BASE]


@pytest.mark.parametrize("name", ["handcrafted", "embedding"])
def test_the_default_lies_within_the_space(name: str) -> None:
    (family,) = load_families([name], BASE)
    usual = {"handcrafted": "rbf_svm", "embedding": "auto"}
    assert default_values(family, BASE)["model.classifier"] == usual[name]
    (narrow,) = load_families([name], [*BASE, "model.classifier=knn"])
    assert {p.key for p in narrow.parameters} & {"model.rbf_svm.gamma"} == set()


def test_a_trial_is_a_run_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    (family,) = load_families(["handcrafted"], BASE)
    words = overrides_of(family, BASE, {"model.rbf_svm.gamma": 0.7})
    places = [
        f"output_dir={tmp_path}",
        "tracking.enabled=false",
        "evaluate_test=false",
        "trainer.progress=false",
    ]
    runner, heard = TrialRunner(), Heard()
    ending = runner(Job(plain_task(Prepare(places)), overrides=words), heard)
    assert ending.state == "complete", ending.reason
    known = Prepared(**ending.result)
    # About what describing all pictures takes, estimated from a few of them.
    assert 0 < known.seconds_per_epoch < 60
    assert known.overrides == [] and known.epochs == 1 and not known.published
    name = "race-000-handcrafted"
    train = Train(places, name, {}, "0" * 32, "val/accuracy", "maximize")
    ending = runner(Job(plain_task(train), overrides=words), heard)
    assert ending.state == "complete", ending.reason
    ((epoch, metrics),) = heard.reports
    assert epoch == 1 and metrics["val/accuracy"] > 0.97
    assert ending.metrics["val/accuracy"] == metrics["val/accuracy"]
    assert (Path(heard.facts["run_dir"]) / "predictions" / "val.parquet").is_file()
