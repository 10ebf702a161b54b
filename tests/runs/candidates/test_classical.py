"""Classifiers on features in an experiment: the same records, and settings that have no effect."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.schema import RunSettings, stored_settings
from src.data.splitting.splits import Split
from src.features.classifier import FeatureClassifier
from src.features.descriptors.colour import Colour
from src.machine.failures import RunFailed
from src.records.run import Predictions, RunSummary
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import revisit
from src.runs.folder import RunFolder
from src.runs.settings import read_resumed_settings

FAST = ["model=handcrafted", "tracking=none", "tracking.figures=false"]


def fit(output_dir: Path, *overrides: str, on_epoch=None) -> RunSummary:
    settings = read_run_settings([*FAST, f"output_dir={output_dir}", *overrides])
    summary = run_experiment(settings, on_epoch)
    assert summary is not None
    return summary


def test_the_record_is_that_of_any_run(tmp_path: Path) -> None:
    reports: list[tuple[int, dict[str, float]]] = []
    summary = fit(tmp_path, on_epoch=lambda *report: reports.append(report))
    folder = Path(summary.run_dir)
    assert summary.status == "FINISHED" and summary.model == "handcrafted"
    assert summary.metrics["test/accuracy"] > 0.98
    assert summary.metrics["val/calibration_error"] < 0.03
    assert Path(summary.checkpoint) == folder / "checkpoints" / "model.skops"
    for key in ("parameters", "latency_ms", "throughput", "training_seconds", "checkpoint_mb"):
        assert summary.metrics[f"cost/{key}"] > 0, key
    assert summary.num_parameters == summary.metrics["cost/parameters"]
    ((epoch, told),) = reports
    assert epoch == 0 and told["val/accuracy"] == summary.metrics["val/accuracy"]
    assert told["val/loss"] == pytest.approx(summary.metrics["val/log_loss"])
    for part in ("val", "test"):
        stored = Predictions.read(folder / "predictions" / f"{part}.parquet")
        right = (stored.probs.argmax(axis=1) == stored.targets).mean()
        assert right == pytest.approx(summary.metrics[f"{part}/accuracy"])
    assert (folder / "suspects.csv").is_file() and (folder / "split.csv").is_file()
    kept = yaml.safe_load((folder / "config.yaml").read_text())
    assert kept["model"]["rbf_svm"] and "knn" not in kept["model"]
    assert not {"optimizer", "loss", "trainer"} & kept.keys() and "batch_size" not in kept["data"]
    assert stored_settings(kept).effective() == kept, "what is left out is of no account"
    spool = (folder / "tracking" / "spool.jsonl").read_text().splitlines()
    (params,) = (event["values"] for event in map(json.loads, spool) if event["event"] == "params")
    assert params["model.rbf_svm.strength"] and not any(
        key.startswith(("optimizer.", "trainer.max", "model.knn.")) for key in params
    )


def test_the_same_command_gives_the_same_predictions(tmp_path: Path) -> None:
    overrides = ["model.features=[raw]", "evaluate_test=false"]
    first, second, other = (
        fit(tmp_path, *overrides, seed) for seed in ("seed=0", "seed=0", "seed=1")
    )
    probs = [
        Predictions.read(Path(s.run_dir) / "predictions" / "val.parquet").probs
        for s in (first, second, other)
    ]
    np.testing.assert_array_equal(probs[0], probs[1])
    assert (probs[0] != probs[2]).any() and first.split_fingerprint == other.split_fingerprint


def test_names_and_the_order_of_the_listing_change_no_answer(tmp_path: Path) -> None:
    """A table in another order, and classes whose new names stand in another order."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 160, (96, 24, 24)) + 6 * (np.arange(96) % 3)[:, None, None]
    renamed = {"a": "z", "b": "y", "c": "x"}
    for name in (*renamed, *renamed.values()):
        (tmp_path / ("old" if name in renamed else "new") / name).mkdir(parents=True)
    lines = ["path,label"]
    for number, values in enumerate(pixels.astype(np.uint8)):
        name = "abc"[number % 3]
        for place in (Path("old", name), Path("new", renamed[name])):
            Image.fromarray(values).save(tmp_path / place / f"{number * 7 % 96}.png")
        lines.append(f"old/{name}/{number * 7 % 96}.png,{name}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    # Fewer components than a projection at random, which follows the rows, would get right.
    overrides = ["model.features=[raw]", "model.keep=20", "model.classifier=logistic"]
    probs, splits = {}, {}
    for root in ("old", "table.csv", "new"):
        data = ["data=folder", f"data.root={tmp_path / root}", "evaluate_test=false"]
        summary = fit(tmp_path / "out", *data, *overrides)
        stored = Predictions.read(Path(summary.run_dir) / "predictions" / "val.parquet")
        own = [Path(path).name for path in stored.paths or ()]
        probs[root], splits[root] = stored.probs[np.argsort(own)], summary.split_fingerprint
    assert splits["old"] == splits["table.csv"]
    np.testing.assert_array_equal(probs["old"], probs["table.csv"])
    np.testing.assert_allclose(probs["old"], probs["new"][:, ::-1], atol=1e-4)


def test_features_that_were_kept_count_as_training_and_not_as_time_of_the_run(
    tmp_path: Path,
) -> None:
    overrides = ["model.features=[hog]", "evaluate_test=false", f"data.cache_dir={tmp_path}/cache"]
    first, second = (fit(tmp_path, *overrides).metrics for _ in range(2))
    described = first["cost/features_seconds"]
    assert described > 0 and second["cost/features_seconds"] == described
    assert first["cost/features_here_seconds"] == described
    assert second["cost/features_here_seconds"] == 0
    for metrics in (first, second):
        assert metrics["cost/training_seconds"] > described


def test_mirrored_pictures_teach_where_the_data_set_allows_it(tmp_path: Path) -> None:
    overrides = ["evaluate_test=false", "model.classifier=knn", "model.features=[raw]"]
    kept = [
        FeatureClassifier.load(Path(str(fit(tmp_path, *overrides, *more).checkpoint)))
        .model.pipeline.steps[-1][1]
        .n_samples_fit_
        for more in ([], ["data.mirror_ok=true"], ["data.mirror_ok=true", "model.mirror=false"])
    ]
    assert kept == [1169, 2 * 1169, 1169]


@pytest.mark.parametrize("classifier", ["auto", "random_forest"])
def test_features_that_are_no_numbers_are_named_with_their_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classifier: str
) -> None:
    original = Colour.__call__

    def damaged(self: Colour, picture: np.ndarray) -> np.ndarray:
        found = original(self, picture)
        found[0] = np.nan if found[0] > 0.7 else found[0]
        return found

    monkeypatch.setattr(Colour, "__call__", damaged)
    overrides = ["model.features=[hog,colour]", f"model.classifier={classifier}", "data.limit=200"]
    with pytest.raises(RunFailed, match=r"training pictures \(number \d+ first\).*colour gives"):
        fit(tmp_path, *overrides, f"data.cache_dir={tmp_path}")
    (file,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(file.read_text())["status"] == "FAILED"


def test_a_fit_that_was_stopped_begins_again_in_its_folder(tmp_path: Path) -> None:
    def stop(epoch: int, metrics: dict[str, float]) -> None:
        raise KeyError("enough")

    overrides = ["model.features=[raw]", "evaluate_test=false"]
    with pytest.raises(KeyError, match="enough"):
        fit(tmp_path, *overrides, on_epoch=stop)
    (folder,) = (tmp_path / "runs").iterdir()
    assert RunSummary.read(folder / "summary.json").status == "FAILED"
    resumed = run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert resumed is not None and resumed.status == "FINISHED"
    assert Path(resumed.run_dir) == folder
    assert resumed.metrics["val/accuracy"] == fit(tmp_path, *overrides).metrics["val/accuracy"]


@pytest.mark.slow
def test_a_chosen_classifier_is_named_and_fits_again_by_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["model.features=[raw]", "evaluate_test=false"]
    summary = fit(tmp_path, "model.classifier=auto", "model.auto.seconds=200", *overrides)
    chosen = FeatureClassifier.load(Path(str(summary.checkpoint))).metadata["classifier"]
    assert chosen["summary"] in capsys.readouterr().out
    assert summary.metrics["val/accuracy"] > 0.95
    explicit = []
    for key, value in chosen["settings"].items():
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        explicit += [f"model.{key}{'' if k is None else f'.{k}'}={v}" for k, v in inner]
    again = fit(tmp_path, *explicit, *overrides)
    probs = [
        Predictions.read(Path(one.run_dir) / "predictions" / "val.parquet").probs
        for one in (summary, again)
    ]
    np.testing.assert_allclose(*probs, atol=0.05)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["optimizer=sgd"], "optimizer"),
        (["optimizer.lr=0.1"], "optimizer.lr"),
        (["scheduler=cosine"], "scheduler"),
        (["augment.flip=true"], "augment.flip"),
        (["loss=focal"], "loss"),
        (["recipe=thorough"], "recipe"),
        (["trainer.max_epochs=3"], "trainer.max_epochs"),
        (["trainer.devices=2"], "trainer.devices"),
        (["runtime.precision=bfloat16"], "runtime.precision"),
        (["data.batch_size=7"], "data.batch_size"),
        (["find_lr=true"], "find_lr"),
        (["model.lbp.radius=2"], "model.lbp.radius"),
        (["model.classifier=knn", "model.rbf_svm.gamma=2"], "model.rbf_svm.gamma"),
        (["model.selection=none", "model.keep=5"], "model.keep"),
        (["model.auto.seconds=5"], "model.auto.seconds"),
        (["model.classifier=auto", "model.normalise=rows"], "model.normalise"),
        (["model.classifier=auto", "model.ridge.strength=2"], "model.ridge.strength"),
        (["model=embedding", "model.run=x", "model.input_size=32"], "model.input_size"),
    ],
)
def test_what_would_change_nothing_is_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: it changes nothing with"):
        read_run_settings(["model=handcrafted", *overrides])


def test_what_changes_something_is_taken() -> None:
    for overrides in (
        ["runtime.threads=1", "seed=3", "evaluate_test=false", "data=fashion_mnist"],
        ["model.features=[hog,lbp]", "model.lbp.radius=2", "model.selection=pca", "model.keep=5"],
        ["model.classifier=auto", "model.auto.seconds=5", "model.calibration_folds=3"],
        ["model.classifier=ridge", "model.ridge.strength=3", "model.normalise=rows"],
        ["model=embedding", "model.run=x", "trainer.accelerator=cpu"],
        ["model=cnn", "optimizer=sgd", "recipe=quick", "trainer.max_epochs=3"],
    ):
        read_run_settings(["model=handcrafted", *overrides])


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["model.features=[sift]"], "some of hog, lbp"),
        (["model.features=[]"], "at least one"),
        (["model.features=[hog,hog]"], "each once"),
        (["model.classifier=tree"], "rbf_svm"),
        (["model.hog.cells=[]"], "at least one"),
        (["model=embedding", "model.pretrained=false"], "an untrained network"),
    ],
)
def test_wrong_settings_are_explained(overrides: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        compose_settings(RunSettings, ["model=handcrafted", *overrides])


def network(tmp_path: Path, *overrides: str) -> RunSummary:
    small = ["model=cnn", "model.widths=[8,16]", "runtime=float32", "trainer.max_epochs=3"]
    quiet = ["tracking=none", "tracking.figures=false", "trainer.progress=false"]
    settings = [*small, *quiet, "evaluate_test=false", f"output_dir={tmp_path}", *overrides]
    found = run_experiment(read_run_settings(settings))
    assert found is not None
    return found


def test_an_own_network_describes_pictures_for_a_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = network(tmp_path)
    overrides = ["model=embedding", f"model.run={trained.run_id}", "model.classifier=logistic"]
    summary = fit(tmp_path, *overrides, "evaluate_test=false")
    assert summary.metrics["val/accuracy"] > trained.metrics["val/accuracy"] + 0.1
    settings = yaml.safe_load((Path(summary.run_dir) / "config.yaml").read_text())
    assert settings["model"]["run"] == trained.run_id
    known = len(Split.read(RunFolder.open(Path(trained.run_dir)).split).train)
    assert f"was trained on {known:,} of these {known:,} training" in capsys.readouterr().out
    folder = RunFolder.open(Path(summary.run_dir))
    again = revisit(folder, folder.chosen_checkpoint())
    probs, targets, _ = again.trained.predict(again.data, "val")
    assert (probs.argmax(axis=1) == targets).mean() == pytest.approx(
        summary.metrics["val/accuracy"]
    )


def test_a_network_that_has_seen_the_other_parts_is_refused(tmp_path: Path) -> None:
    trained = network(tmp_path, "data.split_seed=1", "trainer.max_epochs=1")
    with pytest.raises(ConfigError, match="validated or tested on here: split both alike"):
        fit(tmp_path, "model=embedding", f"model.run={trained.run_id}")
    with pytest.raises(ConfigError, match=r"set data\.image_size=\[8,8\] data\.channels=1"):
        fit(tmp_path, "model=embedding", f"model.run={trained.run_id}", "data.image_size=16")
    with pytest.raises(ConfigError, match=r"model\.run: there is no run 'nothing'"):
        fit(tmp_path, "model=embedding", "model.run=nothing")
    assert len(list((tmp_path / "runs").iterdir())) == 1, "a refused run left something behind"


@pytest.mark.parametrize("overrides", [["model.classifier=logistic"], ["model.auto.seconds=20"]])
def test_a_group_is_held_out_as_a_whole_within_the_training_part(
    tmp_path: Path, overrides: list[str]
) -> None:
    """Of labels that say nothing but whose picture it is, nothing is known about others' pictures.

    Folds that divide a group would take knowing its pictures again for knowing the label.
    """
    rng, lines = np.random.default_rng(0), ["path,label,group"]
    for person in range(48):
        own = rng.integers(0, 200, (8, 8))
        for shot in range(6):
            pixels = (own + rng.integers(0, 30, (8, 8))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{person}_{shot}.png")
            lines.append(f"{person}_{shot}.png,{person % 2},{person}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = ["data=folder", f"data.root={tmp_path / 'labels.csv'}", "data.val_fraction=0.25"]
    auto = [] if "classifier" in overrides[0] else ["model.classifier=auto"]
    summary = fit(tmp_path / "out", *data, "model.features=[raw]", *auto, *overrides)
    assert summary.metrics["val/log_loss"] < np.log(2) + 0.15
    if auto:
        trained = FeatureClassifier.load(Path(summary.checkpoint))
        assert trained.metadata["classifier"]["out_of_fold_accuracy"] < 0.75
