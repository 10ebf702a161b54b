"""Trainings on fewer pictures, and what more of them would bring."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import ScalingSettings
from src.data.splitting.splits import Split
from src.records.data_scaling import DataScalingRecord
from src.records.run import Predictions, RunSummary
from src.reporting.data_scaling_report import format_scaling
from src.runs import experiment
from src.runs.folder import RunFolder
from src.runs.seal import changed_since
from src.selection import data_scaling
from src.selection.data_scaling import expected_seconds, measure_scaling
from src.selection.refit import refit
from src.selection.scaling_plan import ScalingPlan, plan_scaling
from tests.selection.test_combined_kinds import MODELS, pictures
from tests.selection.test_refit import HANDCRAFTED, MLP, settings_of, trained

pytestmark = pytest.mark.usefixtures("own_cache", "blank_figures")


def settings(run: RunFolder, *overrides: str) -> ScalingSettings:
    given = [f"run={run.name}", f"output_dir={run.output_dir}", *overrides]
    return compose_settings(ScalingSettings, given)


def scaled(run: RunFolder, *overrides: str) -> DataScalingRecord:
    asked = settings(run, *overrides)
    record, picture = measure_scaling(plan_scaling(asked), asked)
    assert picture.is_file()
    print(format_scaling(record, 100))
    return record


def runs(output_dir: Path) -> set[str]:
    return {path.name for path in (output_dir / "runs").iterdir() if path.is_dir()}


def test_fractions_are_trained_once_and_judged_on_the_same_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = trained(tmp_path, *HANDCRAFTED)
    record = scaled(chosen, "goal=0.999")
    whole = Split.read(chosen.split)
    counts = [round(one * len(whole.train)) for one in (0.125, 0.25, 0.5, 1)]
    assert [one.pictures for one in record.measured] == counts
    assert record.measured[-1].run == chosen.name and record.held_out == len(whole.val)
    assert record.epochs is None
    before = whole.train[:0]
    for one in record.measured:
        folder = RunFolder.open(tmp_path / "runs" / one.run)
        split = Split.read(folder.split)
        assert len(split.train) == one.pictures and np.isin(before, split.train).all()
        np.testing.assert_array_equal(split.val, whole.val)
        before = split.train
        predictions = Predictions.read(folder.predictions / "val.parquet")
        right = float((predictions.decided == predictions.targets).mean())
        assert one.figure == pytest.approx(right) and one.low < right < one.high
        assert not any(key.startswith("test/") for key in RunSummary.read(folder.summary).metrics)
    assert not (tmp_path / "test_measurements.jsonl").exists()
    now = record.measured[-1].figure
    for one, factor in zip(record.forecasts, (2, 4), strict=True):
        assert one.pictures == round(factor * counts[-1])
        assert now - 0.02 <= one.figure <= 1 and 0 <= one.gain_low <= one.gain <= one.gain_high
    shown = capsys.readouterr().out
    assert f"Twice as many training pictures ({2 * counts[-1]:,}) would raise the accuracy" in shown
    assert "99.9 % would take" in shown and "scaling: training on" in shown
    assert "open the UI" not in shown.partition("scaling: training on")[2], (
        "the table stands for the results of the trainings"
    )
    # They are kept with the run, whose seal holds, and trained no second time.
    kept = json.loads((chosen.path / "data_scaling.json").read_text())
    assert set(kept["runs"]) == {str(count) for count in counts[:-1]}
    assert kept["measured"][0]["run"] == record.measured[0].run
    assert (chosen.figures / "data_scaling.png").is_file()
    assert changed_since(chosen.path, ["data_scaling.json", "figures/data_scaling.png"]) is None
    there = runs(tmp_path)
    again = scaled(chosen, "factors=[3]", "metric=log_loss")
    assert runs(tmp_path) == there and "scaling: training" not in capsys.readouterr().out
    assert again.metric == "log_loss" and again.forecasts[0].pictures == 3 * counts[-1]
    assert again.forecasts[0].figure <= again.measured[-1].figure + 0.02
    # The command of such a run is that of a training.
    command = RunSummary.read(RunFolder.open(tmp_path / "runs" / record.measured[0].run).summary)
    assert command.command.startswith("python -m src.train")
    assert f"data.train_limit={counts[0]}" in command.command


def test_a_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=1")
    usual = experiment.run_experiment

    def killed(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("src.selection.retrain.run_experiment", killed)
    with pytest.raises(KeyboardInterrupt):
        scaled(chosen, "fractions=[0.5]")
    (begun,) = runs(tmp_path) - {chosen.name}
    monkeypatch.setattr("src.selection.retrain.run_experiment", usual)
    record = scaled(chosen, "fractions=[0.5]")
    assert record.measured[0].run == begun and runs(tmp_path) == {chosen.name, begun}
    assert record.epochs == 1
    # As many steps as on all pictures.
    assert settings_of(RunFolder.open(tmp_path / "runs" / begun)).trainer.epochs == 2
    # The forecast that there is stays until another one is whole.
    file = chosen.path / "data_scaling.json"
    kept = json.loads(file.read_text())
    monkeypatch.setattr("src.selection.retrain.run_experiment", killed)
    with pytest.raises(KeyboardInterrupt):
        scaled(chosen, "fractions=[0.25,0.5]")
    begun_again = json.loads(file.read_text())
    assert len(begun_again.pop("runs")) == 2 and kept.pop("runs") == {
        str(record.measured[0].pictures): begun
    }
    assert begun_again == kept and kept["forecasts"]
    monkeypatch.setattr("src.selection.retrain.run_experiment", usual)
    # One that was deleted is trained anew.
    (tmp_path / "runs" / begun).rename(tmp_path / "gone")
    record = scaled(chosen, "fractions=[0.5]")
    assert record.measured[0].run not in (begun, chosen.name)


def test_of_a_refit_it_is_the_original(tmp_path: Path) -> None:
    chosen = trained(tmp_path, *HANDCRAFTED)
    again = refit(chosen, settings_of(chosen), RunSummary.read(chosen.summary))
    assert plan_scaling(settings(again)).chosen.folder == chosen
    (chosen.path / "refit.json").unlink()
    with pytest.raises(ConfigError, match="trained on the validation part as well"):
        plan_scaling(settings(again))


def test_folds_hold_out_all_pictures_whatever_trains(tmp_path: Path) -> None:
    chosen = trained(tmp_path, *HANDCRAFTED, "cv.folds=3")
    record = scaled(chosen, "fractions=[0.25,0.5]")
    split = Split.read(chosen.split)
    count = len(split.train) + len(split.val)
    assert record.held_out == count and record.part == "out-of-fold"
    assert [one.pictures for one in record.measured] == [
        *(round(one * (count - count // 3)) for one in (0.25, 0.5)),
        count - count // 3,
    ]
    few, *_, all_ = [
        Predictions.read(tmp_path / "runs" / one.run / "predictions" / "val.parquet")
        for one in record.measured
    ]
    np.testing.assert_array_equal(np.sort(few.sample_ids), np.sort(all_.sample_ids))
    assert record.measured[0].figure < record.measured[-1].figure


WRONG = {
    "fractions=[0.001]": "0.001 of 1,.* training pictures is 1, and it must be 20",
    "metric=map": "metric is map, .* must be one of accuracy",
    "goal=1": "goal is 1: of accuracy it must be below 1",
    "goal=95": "goal is 95: of accuracy it must be below 1; 95 % is 0.95",
    "goal=0 metric=log_loss": "goal is 0: of log_loss it must be above 0",
    "fractions=[1.5]": "fractions .* above 0 and below 1",
    "fractions=[]": "fractions .* at least one",
    "fractions=[0.5,0.5]": "fractions .* each once",
    "factors=[0.5]": "factors",
}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    chosen = trained(tmp_path, *HANDCRAFTED)
    for overrides, why in WRONG.items():
        with pytest.raises(ConfigError, match=why):
            plan_scaling(settings(chosen, *overrides.split()))


def test_changed_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = trained(tmp_path, *HANDCRAFTED)
    usual = data_scaling.build_data

    def other(asked):
        return usual(replace(asked, data=replace(asked.data, split_seed=7)))

    monkeypatch.setattr(data_scaling, "build_data", other)
    with pytest.raises(ConfigError, match="have changed since"):
        scaled(chosen)


@pytest.mark.parametrize("kind", ["multi", "dense"])
def test_each_kind_of_targets_has_its_metric(tmp_path: Path, kind: str) -> None:
    overrides = [
        *("data=folder", f"data.root={pictures(tmp_path / 'pictures', kind)}"),
        *(f"data.target={kind}", "data.val_fraction=0.3", *MODELS[kind]),
        *(["data.ignore=99"] if kind == "dense" else []),
    ]
    chosen = trained(tmp_path, *overrides)
    record = scaled(chosen, "fractions=[0.5]")
    metric = {"multi": "map", "dense": "miou"}[kind]
    now = record.measured[-1]
    assert record.sets == (kind == "multi")
    assert record.metric == metric and now.low <= now.figure <= now.high < 1
    assert now.figure == pytest.approx(RunSummary.read(chosen.summary).metrics[f"val/{metric}"])
    # The forecast starts from what was measured.
    for one in record.forecasts:
        assert one.figure == pytest.approx(now.figure + one.gain, abs=0.02)


def test_answers_that_are_all_right_promise_no_perfect_ones(tmp_path: Path) -> None:
    """Of 200 easy pictures a fifth is held out."""
    root = tmp_path / "easy"
    rng = np.random.default_rng(0)
    for label, grey in enumerate((40, 200)):
        (root / str(label)).mkdir(parents=True)
        for number in range(100):
            pixels = rng.integers(grey - 20, grey + 20, (8, 8), np.uint8)
            Image.fromarray(pixels).save(root / str(label) / f"{number}.png")
    chosen = trained(tmp_path, *HANDCRAFTED, "data=folder", f"data.root={root}")
    record = scaled(chosen, "fractions=[0.25,0.5]", "goal=0.99")
    assert {one.figure for one in record.measured} == {1.0}
    assert all(one.low < one.figure < 1 for one in record.forecasts)
    assert record.needed is not None and record.needed_low == record.measured[-1].pictures


@pytest.mark.parametrize(
    ("epochs", "fraction", "wanted"), [(1, 0.125, 8), (1, 0.25, 4), (3, 0.25, 8), (20, 0.125, 20)]
)
def test_few_epochs_become_more_on_fewer_pictures(
    epochs: int, fraction: float, wanted: int
) -> None:
    asked = read_run_settings(["model=mlp", f"trainer.max_epochs={epochs}"])
    changed = data_scaling._settings(asked, round(fraction * 1000), 1000)
    assert changed.trainer.epochs == wanted and changed.data.train_limit == fraction * 1000


@pytest.mark.parametrize(
    ("overrides", "cost", "wanted"),
    [
        (["trainer.max_epochs=20"], {"training": 8.0}, 2 * 12 + 0.75 * 8),
        # As many steps on fewer pictures.
        (["trainer.max_epochs=1"], {"training": 8.0}, 2 * 12 + 2 * 8),
        (["trainer.max_epochs=20", "cv.folds=2"], {"training": 8.0}, 2 * 4 + 0.75 * 2 * 8),
        (["trainer.max_epochs=20"], {"training": 25.0}, 0.75 * 25),  # it went on after a kill
        (["trainer.max_epochs=20"], {}, math.nan),
        # Features are kept: neither those of an earlier run nor those of this one count.
        (["model=handcrafted"], {"training": 98.0, "features": 90.0}, 2 * 12 + 0.75 * 8),
        (
            ["model=handcrafted"],
            {"training": 13.0, "features": 5.0, "features_here": 5.0},
            2 * 7 + 0.75 * 8,
        ),
        (
            ["model=handcrafted", "cv.folds=2"],  # of which the first computed them
            {"training": 10.0, "features": 6.0, "features_here": 3.0},
            2 * 6 + 0.75 * 8,
        ),
    ],
)
def test_the_time_is_that_of_whole_runs(
    overrides: list[str], cost: dict[str, float], wanted: float
) -> None:
    chosen: Any = SimpleNamespace(
        settings=read_run_settings(["model=mlp", *overrides]),
        summary=SimpleNamespace(
            metrics={f"cost/{name}_seconds": value for name, value in cost.items()},
            duration_seconds=20.0,
        ),
    )
    plan = ScalingPlan(chosen, 1000, (250, 500), "accuracy")
    assert expected_seconds(plan, plan.fewer) == pytest.approx(wanted, nan_ok=True)


def test_a_network_that_has_learnt_from_all_pictures_is_no_forecast_of_more(tmp_path: Path) -> None:
    network = trained(tmp_path, *MLP, "trainer.max_epochs=1")
    described = ["model=embedding", "model.classifier=nearest_mean"]
    chosen = trained(tmp_path, *described, f"model.run={network.name}")
    with pytest.raises(ConfigError, match=rf"forecast with run={network.name}\.$"):
        plan_scaling(settings(chosen))


def test_a_run_of_the_least_cost_is_forecast_by_its_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = 1 - np.eye(10)
    costs[8] *= 20
    file, names = tmp_path / "costs.csv", "0123456789"
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(names, costs.tolist())]
    file.write_text("\n".join([f",{','.join(names)}", *rows]) + "\n")
    chosen = trained(tmp_path, *HANDCRAFTED, "data.answer=cost", f"costs={file}")
    record = scaled(chosen, "fractions=[0.25,0.5]")
    assert record.metric == "cost"
    for one in record.measured:
        folder = RunFolder.open(tmp_path / "runs" / one.run)
        assert one.figure == pytest.approx(RunSummary.read(folder.summary).metrics["val/cost"])
        assert one.low < one.figure < one.high
    now = record.measured[-1].figure
    assert all(0 <= one.figure <= 1.1 * now for one in record.forecasts)
    assert "would lower the mean cost" in capsys.readouterr().out
    assert plan_scaling(settings(chosen, "metric=accuracy")).metric == "accuracy"
    other = trained(tmp_path, *HANDCRAFTED)
    with pytest.raises(ConfigError, match=r"^metric is cost, and .* with data.answer=cost"):
        plan_scaling(settings(other, "metric=cost"))
