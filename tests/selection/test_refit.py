"""A chosen run once more, on the validation pictures as well."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings, read_run_settings
from src.config.overrides import by_key
from src.config.schema import RunSettings, stored_settings
from src.data.splitting.splits import Split
from src.machine.interruption import Stopped
from src.metrics.multilabel import best_thresholds
from src.records.run import Predictions, RunSummary
from src.runs.candidates.candidate import read_thresholds
from src.runs.candidates.choose import load_trained
from src.runs.experiment import run_experiment
from src.runs.fold_records import mean_of
from src.runs.folder import RunFolder
from src.selection.refit import _keep_thresholds, earlier_refit, refit, refit_settings

pytestmark = pytest.mark.usefixtures("own_cache", "blank_figures")

MLP = ["model=mlp", "model.hidden=[32]", "runtime=float32", "trainer.progress=false"]
HANDCRAFTED = ["model=handcrafted", "model.classifier=knn", "model.features=[raw]"]


def trained(output_dir: Path, *overrides: str) -> RunFolder:
    overrides = (
        *overrides,
        "tracking=none",
        "tracking.figures=false",
        "evaluate_test=false",
        f"output_dir={output_dir}",
    )
    command = shlex.join(["python", "-m", "src.train", *overrides])
    summary = run_experiment(read_run_settings(overrides), command=command)
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


def settings_of(folder: RunFolder) -> RunSettings:
    return stored_settings(yaml.safe_load(folder.config.read_text()))


def refitted(chosen: RunFolder) -> RunFolder:
    return refit(chosen, settings_of(chosen), RunSummary.read(chosen.summary))


def test_it_learns_from_both_parts_as_long_as_the_chosen_one(tmp_path: Path) -> None:
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=2")
    folder = refitted(chosen)
    before, after = Split.read(chosen.split), Split.read(folder.split)
    assert len(after.train) == len(before.train) + len(before.val) and not len(after.val)
    assert after.test_fingerprint == before.test_fingerprint
    summary = RunSummary.read(folder.summary)
    assert summary.status == "FINISHED"
    assert not any(key.startswith(("val/", "test/")) for key in summary.metrics)
    assert not (tmp_path / "test_measurements.jsonl").exists()
    model = load_trained(folder.chosen_checkpoint())
    assert model.metadata["epochs"] == 2
    assert (folder.path / "model" / "digest.txt").is_file()
    # The same command, typed, is the same training.
    overrides = shlex.split(summary.command)
    assert overrides[:3] == ["python", "-m", "src.train"]
    assert len(by_key(overrides[3:])) == len(overrides[3:]), "each setting is there once"
    typed = to_plain(compose_settings(RunSettings, overrides[3:]))
    stored = to_plain(settings_of(folder))
    assert typed == stored | {"resume": None}
    # A second time nothing is trained.
    checkpoint = folder.chosen_checkpoint().stat().st_mtime_ns
    assert refitted(chosen) == folder
    assert folder.chosen_checkpoint().stat().st_mtime_ns == checkpoint


def test_it_is_the_training_that_the_union_would_give(tmp_path: Path) -> None:
    """Against a split whose validation part is put into the training part by hand."""
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=1")
    folder = refitted(chosen)
    by_hand = trained(tmp_path, *MLP, "trainer.max_epochs=1", "data.train_on_val=true")
    weights = [
        torch.load(one.chosen_checkpoint(), weights_only=True)["state_dict"]
        for one in (folder, by_hand)
    ]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_it_learns_from_the_pictures_too_that_a_limit_kept_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=1", "data.train_limit=200")
    folder = refitted(chosen)
    before, after = Split.read(chosen.split), Split.read(folder.split)
    assert len(before.train) == 200 and len(after.test) == len(before.test)
    assert len(after.train) == len(after.parts) - len(after.test)
    assert f"all {len(after.train):,} pictures, instead of the 200" in capsys.readouterr().out


def test_the_schedule_stays_and_the_refit_ends_where_the_chosen_weights_are_from(
    tmp_path: Path,
) -> None:
    overrides = ("trainer.max_epochs=20", "trainer.early_stopping=1", "trainer.final_weights=best")
    chosen = trained(tmp_path, *MLP, *overrides, "optimizer.lr=0.01")
    best = load_trained(chosen.chosen_checkpoint()).metadata["epochs"]
    assert best < 20
    folder = refitted(chosen)
    assert load_trained(folder.chosen_checkpoint()).metadata["epochs"] == best
    rates = [_rates(one)[:best] for one in (chosen, folder)]
    # Not exactly: an epoch of more pictures has more steps.
    np.testing.assert_allclose(rates[0], rates[1], rtol=0.05)


def test_a_killed_refit_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=3")

    def stop(*arguments: object, **options: object) -> None:
        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            raise Stopped("here")

        run_experiment(*arguments, on_epoch, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("src.selection.retrain.run_experiment", stop)
        with pytest.raises(Stopped):
            refitted(chosen)
    begun = earlier_refit(chosen)
    assert begun is not None
    assert RunSummary.read(begun.summary).status == "KILLED"
    assert refitted(chosen) == begun
    assert RunSummary.read(begun.summary).status == "FINISHED"
    assert load_trained(begun.chosen_checkpoint()).metadata["epochs"] == 3
    epochs = (begun.path / "tracking" / "spool.jsonl").read_text().count('"train/loss"')
    assert epochs == 3


def test_what_knows_no_epochs_is_fitted_to_both_parts(tmp_path: Path) -> None:
    chosen = trained(tmp_path, *HANDCRAFTED)
    folder = refitted(chosen)
    summary, split = RunSummary.read(folder.summary), Split.read(folder.split)
    assert summary.status == "FINISHED" and not len(split.val)
    model = load_trained(folder.chosen_checkpoint()).classifier.model  # type: ignore[attr-defined]
    assert model.pipeline.steps[-1][1].n_samples_fit_ == len(split.train)
    assert (folder.path / "model" / "digest.txt").is_file()


def test_a_cross_validation_becomes_one_model_of_all_its_pictures(tmp_path: Path) -> None:
    overrides = ("cv.folds=3", "data.val_fraction=0.3", "trainer.early_stopping=1")
    chosen = trained(tmp_path, *MLP, *overrides, "trainer.max_epochs=2")
    folder = refitted(chosen)
    split = Split.read(folder.split)
    assert split.fingerprint == Split.read(chosen.split).with_val_training().fingerprint
    settings = settings_of(folder)
    assert settings.cv.folds is None and settings.data.train_on_val
    assert load_trained(folder.chosen_checkpoint()).metadata["epochs"] == 2
    with pytest.raises(ConfigError, match=r"train_on_val holds nothing out, but cv\.folds does"):
        compose_settings(RunSettings, ["cv.folds=3", "data.train_on_val=true"])


@pytest.mark.parametrize("rows", ["targets", "content_hashes"])
def test_other_pictures_than_the_chosen_ones_are_refused(tmp_path: Path, rows: str) -> None:
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=1")
    split = Split.read(chosen.split)
    replace(split, **{rows: np.roll(getattr(split, rows), 1)}).write(chosen.split)
    with pytest.raises(ConfigError, match="have changed since"):
        refitted(chosen)


def test_weights_that_are_gone_are_named_before_a_refit_begins(tmp_path: Path) -> None:
    earlier = trained(tmp_path / "earlier", *MLP, "trainer.max_epochs=1")
    weights = earlier.checkpoints / "last.ckpt"
    # A fitted head would take longer than all else.
    start = (f"model.pretrained={weights}", "model.head_start=random")
    chosen = trained(tmp_path, *MLP, "trainer.max_epochs=1", *start)
    aside = weights.rename(tmp_path / "aside")
    before = sorted(chosen.path.parent.iterdir())
    with pytest.raises(ConfigError, match=r"trained from the weights in .*last\.ckpt, .* are gone"):
        refitted(chosen)
    assert sorted(chosen.path.parent.iterdir()) == before
    aside.rename(weights)
    refit_run = refitted(chosen)
    weights.unlink()
    assert refitted(chosen).path == refit_run.path  # which needs none any more


def test_nothing_is_left_to_choose_by() -> None:
    overrides = ["trainer.max_epochs=30", "trainer.early_stopping=3", "trainer.final_weights=best"]
    settings = compose_settings(RunSettings, [*overrides, "trainer.max_time=1h", "tracking=none"])
    wanted = refit_settings(settings, 12)
    trainer = wanted.trainer
    assert (trainer.max_epochs, trainer.stop_after) == (30, 12)
    assert (trainer.early_stopping, trainer.final_weights) == (None, "last")
    assert trainer.max_time is None and wanted.data.train_on_val and not wanted.evaluate_test
    assert refit_settings(settings, 30).trainer.stop_after is None
    timed = compose_settings(RunSettings, [overrides[0], "trainer.max_time=1h", "tracking=none"])
    trainer = refit_settings(timed, 12).trainer
    assert (trainer.max_epochs, trainer.stop_after) == (12, None), (
        "its schedule was through by then"
    )
    with pytest.raises(ConfigError, match=r"set trainer\.early_stopping=null"):
        compose_settings(RunSettings, [*overrides[1:2], "data.train_on_val=true"])
    with pytest.raises(ConfigError, match=r"set trainer\.final_weights=last"):
        compose_settings(RunSettings, [*overrides[2:], "data.train_on_val=true"])


def _rates(folder: RunFolder) -> list[float]:
    events = map(json.loads, (folder.path / "tracking" / "spool.jsonl").read_text().splitlines())
    found = {
        event["step"]: event["values"]["train/lr"]
        for event in events
        if event["event"] == "metrics" and "train/lr" in event["values"]
    }
    return [found[step] for step in sorted(found)]


@pytest.mark.parametrize("answer", ["kappa", "mae", "cost"])
def test_its_command_makes_a_model_with_the_same_answers(answer: str, tmp_path: Path) -> None:
    """A training without a validation part has no thresholds but those that none chooses."""
    costs = (np.arange(10)[:, None] > np.arange(10)) * 2.0
    costs += np.arange(10)[:, None] < np.arange(10)
    (tmp_path / "costs.csv").write_text(
        "\n".join(
            [
                f",{','.join('0123456789')}",
                *(f"{k},{','.join(map(str, costs[k]))}" for k in range(10)),
            ]
        )
    )
    grades = ["data=digits", "data.target=ordinal", "data.limit=40", *HANDCRAFTED]
    if answer == "cost":
        grades.append(f"costs={tmp_path / 'costs.csv'}")
    chosen = trained(tmp_path, *grades, f"data.answer={answer}")
    folder = refitted(chosen)
    module, *overrides = shlex.split(RunSummary.read(folder.summary).command)[2:]
    if answer == "kappa":
        assert module == "src.select" and overrides == [f"run={chosen.path}", "refit=true"]
        return
    summary = run_experiment(read_run_settings(overrides))
    assert module == "src.train" and summary is not None
    again = RunFolder.open(Path(summary.run_dir))
    for run in (folder, again):
        assert load_trained(run.chosen_checkpoint()).metadata["thresholds"] == (
            costs.ravel().tolist() if answer == "cost" else [0.5]
        )


def test_the_thresholds_are_chosen_by_the_answers_of_one_model(tmp_path: Path) -> None:
    """A picture's label is sure in one repeat of two: the mean is less sure than any model."""
    chosen, again = (RunFolder.create(tmp_path, "mlp", "labels") for _ in range(2))
    targets = np.repeat(np.array([[1], [0]], np.uint8), 10, axis=0)
    whole = Predictions(
        np.arange(20), None, targets, np.zeros((20, 1), np.float32), ("a",), kind="multi"
    )
    repeats = []
    for repeat in range(2):
        probs = np.where(targets > 0, 0.9, 0.1).astype(np.float32)
        probs[repeat::2] = 0.1
        repeats.append(replace(whole, probs=probs))
        repeats[-1].write(chosen.predictions / f"val-repeat{repeat + 1}.parquet")
    mean_of(repeats).write(chosen.predictions / "val.parquet")
    settings = compose_settings(RunSettings, ["data.target=multi", "data.threshold=macro_f1"])
    _keep_thresholds(chosen, again, settings)
    one, mean = (
        best_thresholds(of.probs, targets, "macro_f1") for of in (repeats[0], mean_of(repeats))
    )
    assert one != pytest.approx(mean)
    assert read_thresholds(again.checkpoints) == pytest.approx(one)
