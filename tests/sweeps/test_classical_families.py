"""Families without epochs in a race: words for everyone reach them where they are about them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from src.sweeps.families import default_values, load_families, words_of
from src.sweeps.run_job import TrialRunner

BASE = ["data=digits", "trainer.max_epochs=9", "optimizer.lr=0.01", "runtime.threads=1"]


class Heard:
    """Takes down what a job says."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.reports: list[tuple[int, Mapping[str, float]]] = []

    def note(self, **facts: Any) -> None:
        self.facts |= facts

    def report(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        self.reports.append((epoch, metrics))
        return None


@pytest.mark.parametrize("name", ["handcrafted", "embedding"])
def test_what_is_about_networks_is_not_said_to_others(name: str) -> None:
    families = load_families([name, "mlp"], BASE)
    words = [words_of(family, BASE, {}) for family in families]
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
    words = words_of(family, BASE, {"model.rbf_svm.gamma": 0.7})
    places = [
        f"output_dir={tmp_path}",
        "tracking.enabled=false",
        "evaluate_test=false",
        "trainer.progress=false",
    ]
    runner, heard = TrialRunner(), Heard()
    known = runner({"do": "prepare", "words": words, "places": places}, heard)
    assert known.state == "complete", known.reason
    # About what describing all pictures takes, told from a few of them.
    assert 0 < known.result["seconds_per_epoch"] < 60
    assert known.result["words"] == [] and known.result["epochs"] == 1
    assert not known.result["published"]
    job = {
        "do": "train",
        "words": words,
        "places": places,
        "command": "as told",
        "name": "race-000-handcrafted",
        "tags": {},
        "parent_run_id": None,
        "metric": "val/accuracy",
        "direction": "maximize",
    }
    ending = runner(job, heard)
    assert ending.state == "complete", ending.reason
    ((epoch, metrics),) = heard.reports
    assert epoch == 1 and metrics["val/accuracy"] > 0.97
    assert ending.result["metrics"]["val/accuracy"] == metrics["val/accuracy"]
    assert (Path(heard.facts["run_dir"]) / "predictions" / "val.parquet").is_file()
