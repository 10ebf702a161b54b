"""Runs that answer together: chosen from what they said, kept, asked again, and served."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.compare import compare
from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import (
    CompareSettings,
    EvaluateSettings,
    PredictSettings,
    SelectSettings,
)
from src.data.sources.digits import load
from src.data.sources.picture_paths import find_pictures
from src.data.splitting.splits import Split
from src.machine.interruption import Interrupted
from src.records.run import Predictions, RunSummary
from src.reporting.comparison_verdict import verdict_sentences
from src.runs.candidates.choose import load_trained
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import measure_again
from src.runs.finished.predict import label_pictures
from src.runs.folder import RunFolder
from src.selection.choice import choose
from src.selection.combined_run import ensemble_of, with_ensemble
from src.selection.comparison import compared
from src.serving.bundle import open_predictor
from src.tracking.addresses import default_uri
from src.tracking.mlflow_store import Store
from tests.selection.changed_runs import changed, cross_validation, moved, of_plugin, val, with_loss

pytestmark = pytest.mark.usefixtures("blank_figures")

QUIET = ["tracking=none", "tracking.figures=false", "tracking.log_model=false"]
SHORT = ["recipe=quick", "trainer.max_epochs=2", "runtime=float32", "trainer.progress=false"]
MLP = ["model=mlp", "model.batch_norm=false", "model.hidden=[64]", *SHORT]
MEANS = ["model=handcrafted", "model.features=[lbp]", "model.classifier=nearest_mean"]


def train(output_dir: Path, *overrides: str) -> RunFolder:
    overrides = (*overrides, *QUIET, "evaluate_test=false", f"output_dir={output_dir}")
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, ...]:
    """Two networks and a classifier on features, of one split."""
    output_dir = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(output_dir / "cache"))
        patch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
        return (
            # Long enough that each of the three has something to say.
            train(output_dir, *MLP, "trainer.max_epochs=12"),
            train(output_dir, *MLP, "trainer.max_epochs=12", "seed=1"),
            train(output_dir, *MEANS),
        )


@pytest.fixture(autouse=True)
def own_cache(runs: tuple[RunFolder, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(runs[0].output_dir / "cache"))
    monkeypatch.delenv("BAKEOFF_RUN_FOLDER", raising=False)


def asked(output_dir: Path, *overrides: str) -> CompareSettings:
    overrides = (f"output_dir={output_dir}", *overrides)
    return compose_settings(CompareSettings, overrides)


def combined(runs: tuple[RunFolder, ...], *overrides: str) -> RunFolder:
    summary = ensemble_of(runs, asked(runs[0].output_dir, *overrides))
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


@pytest.fixture(scope="module")
def ensemble(runs: tuple[RunFolder, ...], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(runs[0].output_dir / "cache"))
        settings = read_run_settings(
            [
                *("model=ensemble", f"model.runs=[{','.join(one.name for one in runs)}]"),
                *("model.way=greedy", "tracking=none", f"output_dir={runs[0].output_dir}"),
            ]
        )
        summary = run_experiment(settings)
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


@pytest.mark.parametrize("way", ["true", "greedy"])
def test_one_that_was_stopped_goes_on(
    runs: tuple[RunFolder, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def stopped(*_: object) -> None:
        raise Interrupted(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("src.runs.candidates.ensemble.EnsembleCandidate.fit", stopped)
        with pytest.raises(Interrupted):
            ensemble_of(runs, asked(tmp_path, f"ensemble={way}", "tracking.enabled=false"))
    (begun,) = (tmp_path / "runs").iterdir()
    assert RunSummary.read(begun / "summary.json").status == "KILLED"
    other = ensemble_of(runs, asked(tmp_path, "ensemble=stacking", "tracking.enabled=false"))
    assert other is not None and other.name != begun.name, "it combines them otherwise"
    summary = ensemble_of(runs, asked(tmp_path, f"ensemble={way}", "tracking.enabled=false"))
    assert summary is not None and summary.status == "FINISHED" and summary.name == begun.name
    again = ensemble_of(runs, asked(tmp_path, f"ensemble={way}", "tracking.enabled=false"))
    assert again is not None and again.name not in (begun.name, other.name), "as it was finished"


def test_runs_of_the_least_cost_answer_together_and_are_judged_by_it(tmp_path: Path) -> None:
    costs = 1 - np.eye(10)
    costs[8] *= 20
    file, names = tmp_path / "costs.csv", "0123456789"
    rows = [f"{name},{','.join(map(str, row))}" for name, row in zip(names, costs.tolist())]
    file.write_text("\n".join([f",{','.join(names)}", *rows]) + "\n")
    answer = ("data.answer=cost", f"costs={file}")
    pair = [train(tmp_path, *MLP, f"seed={seed}", *answer) for seed in (0, 1)]
    here = ("tracking.enabled=false", "ensemble=stacking")
    made = ensemble_of(pair, asked(tmp_path, "metric=cost", f"costs={file}", *here))
    assert made is not None
    stored = val(RunFolder.open(Path(made.run_dir)))
    expected = (stored.probs @ costs).argmin(axis=1)
    assert stored.preds is not None and (expected != stored.probs.argmax(axis=1)).any()
    np.testing.assert_array_equal(stored.preds, expected)
    assert made.metrics["val/cost"] == pytest.approx(costs[stored.targets, expected].mean())
    assert made.metrics["val/best_member_cost"] in [
        pytest.approx(RunSummary.read(one.summary).metrics["val/cost"], rel=1e-6) for one in pair
    ]
    # By their own table, where another metric ranks.
    made = ensemble_of(pair, asked(tmp_path, "metric=balanced_accuracy", *here))
    assert made is not None and "val/best_member_balanced_accuracy" in made.metrics


@pytest.mark.slow
def test_its_record_is_that_of_any_run(runs: tuple[RunFolder, ...], ensemble: RunFolder) -> None:
    summary = RunSummary.read(ensemble.summary)
    assert (summary.status, summary.model, summary.data) == ("FINISHED", "ensemble", "digits")
    members = [RunSummary.read(one.summary) for one in runs]
    assert summary.split_fingerprint == members[0].split_fingerprint
    assert summary.num_parameters == sum(one.num_parameters or 0 for one in members)
    costs = [one.metrics["cost/training_seconds"] for one in members]
    assert summary.metrics["cost/training_seconds"] > sum(costs)
    size = sum(one.metrics["cost/checkpoint_mb"] for one in members)
    assert summary.metrics["cost/checkpoint_mb"] == pytest.approx(size)
    assert summary.metrics["cost/latency_ms"] > 0
    stored = val(ensemble)
    right = (stored.probs.argmax(axis=1) == stored.targets).mean()
    assert summary.metrics["val/accuracy"] == pytest.approx(right)
    assert 0 <= summary.metrics["val/best_member_p_value"] <= 1
    best = max(one.metrics["val/accuracy"] for one in members)
    assert summary.metrics["val/best_member_accuracy"] == pytest.approx(best, abs=0.02)
    assert (ensemble.figures / "val_confusion_matrix.png").is_file()


def test_it_answers_with_the_weighted_mean_of_its_members(
    runs: tuple[RunFolder, ...], ensemble: RunFolder
) -> None:
    metadata = load_trained(ensemble.chosen_checkpoint()).metadata
    weights = {one["run"]: one["weight"] for one in metadata["ensemble"]["members"]}
    assert set(weights) == {one.name for one in runs} and sum(weights.values()) == pytest.approx(1)
    predictor = load_trained(ensemble.chosen_checkpoint()).predictor(64)
    pictures = load(None, ensemble.path, False).arrays[val(runs[0]).sample_ids]
    said = predictor.probabilities(pictures)
    expected = sum(weights[one.name] * val(one).probs.astype(np.float64) for one in runs)
    np.testing.assert_allclose(said, expected, atol=1e-5)
    served = open_predictor(ensemble.path / "model")
    np.testing.assert_allclose(served.probabilities(pictures), said, atol=1e-6)
    # Kept for the validation part: answers that the labels there have had no say in.
    held_out = val(ensemble).probs
    assert 0 < np.abs(held_out - said).max() < 0.5


def test_it_is_evaluated_and_labels_pictures(
    runs: tuple[RunFolder, ...], ensemble: RunFolder, tmp_path: Path
) -> None:
    checkpoint, before = ensemble.chosen_checkpoint(), val(ensemble).probs
    overrides = [f"run={ensemble.path}"]
    for part in ("val", "test"):
        settings = compose_settings(EvaluateSettings, [*overrides, f"split={part}"])
        metrics, _ = measure_again(ensemble, checkpoint, settings)
        assert metrics[f"{part}/accuracy"] > 0.9
    np.testing.assert_array_equal(val(ensemble).probs, before)
    source = load(None, tmp_path, False)
    Image.fromarray(source.arrays[3, 0]).resize((40, 30)).save(tmp_path / "three.png")
    out = tmp_path / "labels.csv"
    overrides += [f"images={tmp_path}", f"out={out}", "top_k=2"]
    predicting = compose_settings(PredictSettings, overrides)
    said = label_pictures(checkpoint, find_pictures(str(tmp_path / "three.png")), predicting)
    assert said.startswith("1 picture labelled")
    _, row = csv.reader(out.read_text().splitlines())
    assert float(row[2]) > float(row[4]) > 0


def test_it_lives_without_its_members_and_is_compared_like_any_run(
    runs: tuple[RunFolder, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs[0].output_dir / "runs", tmp_path / "runs")
    copies = tuple(RunFolder.open(tmp_path / "runs" / one.name) for one in runs)
    pruned, foreign = copies[1], of_plugin(copies[1])
    shutil.rmtree(pruned.checkpoints)
    made = combined((copies[0], copies[2], pruned, foreign), "ensemble=stacking")
    said = capsys.readouterr().out
    assert (
        "2 runs left out of it" in said and "plugins=..." in said and "McNemar's exact test" in said
    )
    assert "One picture takes its members" in said
    shutil.rmtree(copies[0].path)
    assert load_trained(made.chosen_checkpoint()).predictor(8).class_names == tuple("0123456789")
    names = [one.name for one in compared(asked(tmp_path)).verdict.standings]
    assert "ensemble" in " ".join(names)
    with pytest.raises(ConfigError, match="is an ensemble itself"):
        combined((copies[2], made), "ensemble=true", f"runs=[{copies[2].name},{made.name}]")
    (made.checkpoints / "members").rename(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"the member .* is gone"):
        load_trained(made.chosen_checkpoint())


def test_the_command_that_makes_it_judges_it_with_its_members(
    runs: tuple[RunFolder, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def tracked(*arguments: Any) -> Any:
        """Its summary has the id that MLflow gave it."""
        return replace(ensemble_of(*arguments), run_id="of MLflow")

    monkeypatch.setattr("src.selection.combined_run.ensemble_of", tracked)
    # Its members are cheaper, and which of them is near enough is luck.
    monkeypatch.setattr(
        "src.statistics.verdict._near",
        lambda standings, *_: [one for one in standings if "ensemble" in one.name] or standings[:1],
    )
    shutil.copytree(runs[0].output_dir / "runs", tmp_path / "runs")
    chosen = f"runs=[{','.join(one.name for one in runs)}]"
    compare(asked(tmp_path, chosen, "ensemble=greedy", "tracking.enabled=false"), [])
    said = capsys.readouterr().out
    assert "comes first of 3 candidates" in said  # two of them repeats with two seeds
    assert "The ensemble predicts each picture with members that were chosen without it" in said
    (page,) = (tmp_path / "compare").glob("*/report.html")
    plain = json.loads((page.parent / "leaderboard.json").read_text())
    (made,) = (one for one in plain["candidates"] if one["family"] == "ensemble")
    stored = val(RunFolder.open(Path(made["run_dirs"][0])))
    right = (stored.probs.argmax(axis=1) == stored.targets).mean()
    assert made["accuracy"] == pytest.approx(right) and plain["runs"] == 4
    name = Path(made["run_dirs"][0]).name
    assert name in page.read_text()
    assert plain["choice"] == made["candidate"] and f"select run={name}" in said


def test_cross_validations_are_combined_out_of_fold(
    runs: tuple[RunFolder, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    pair, single = cross_validation(runs[:2], "two"), cross_validation(runs[2:], "one")
    overrides = ["ensemble=greedy", "runs=[two,one]"]
    made = combined((pair, single), *overrides)
    split = Split.read(made.split)
    assert len(val(made).targets) == len(split.train) + len(split.val)
    together = compared(asked(pair.output_dir, f"runs=[{made.name},two,one]"))
    assert together.runs == 3 and together.folds == 2
    assert "2-fold cross-validation" in verdict_sentences(together)[0]
    assert compared(asked(pair.output_dir, f"runs=[{made.name},two]")).pair is None
    # The next step trains a model of all pictures where the choice has none, and only there.
    capsys.readouterr()
    for chosen, refits in (("two", True), (made.name, False)):
        beside = [] if refits else ["one"]
        overrides = [f"runs=[{','.join([chosen, *beside])}]", "tracking.enabled=false"]
        compare(asked(pair.output_dir, *overrides), overrides)
        said = capsys.readouterr().out
        assert said.rstrip().endswith("refit=true") == refits, said
    members = load_trained(made.chosen_checkpoint()).metadata["ensemble"]["members"]
    weights = {Path(one["file"]).stem: one["weight"] for one in members}
    assert set(weights) == {one.name for one in runs} and sum(weights.values()) == pytest.approx(1)
    assert weights[runs[0].name] == weights[runs[1].name]
    with pytest.raises(ConfigError, match="not measured on the same pictures as two"):
        combined((pair, runs[2]), "ensemble=true", f"runs=[two,{runs[2].name}]")


def test_a_soup_says_that_cross_validations_have_no_weights_of_their_own(
    runs: tuple[RunFolder, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folds = cross_validation(runs[:2], "folds")
    with pytest.raises(ConfigError, match="at least two runs are needed"):
        combined((folds, runs[2]), "ensemble=soup")
    said = capsys.readouterr().out
    assert "One cross-validation left out of it: a soup is of the weights of single" in said
    assert "One run left out of it: it needs models that are kept" in said


def test_runs_that_mlflow_knows_of_another_folder_are_combined_and_chosen(
    runs: tuple[RunFolder, ...], tmp_path: Path, empty_database: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copytree(runs[0].output_dir / "runs", theirs / "runs")
    damaged = ours / "runs" / "old" / "run.json"  # none of them, and no reason to stop
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    shutil.copy(empty_database, ours)
    for one in (runs[0], runs[2]):
        tags = {"bakeoff.run_dir": str(theirs / "runs" / one.name)}
        Store(default_uri(ours)).create_run(
            experiment="mine", name=one.name, start_time_ms=1, tags=tags
        )
    overrides = ["experiment=mine", f"output_dir={ours}"]
    choosing = compose_settings(SelectSettings, overrides)
    assert choose(choosing).folder.output_dir == theirs
    settings = asked(ours, "experiment=mine", "ensemble=stacking")
    comparison, made = with_ensemble(compared(settings), settings)
    assert made is not None and Path(made.run_dir).parent == ours / "runs"
    members = load_trained(RunFolder.open(Path(made.run_dir)).chosen_checkpoint())
    assert {one["run"] for one in members.metadata["ensemble"]["members"]} <= {
        one.name for one in runs
    }
    assert comparison.runs == 3


@pytest.mark.parametrize("first", [0, 1])
def test_a_run_that_learnt_from_fewer_pictures_answers_with_the_others(
    runs: tuple[RunFolder, ...], first: int
) -> None:
    few = train(runs[0].output_dir, *MEANS, "data.train_limit=300")
    pair = (runs[0], few) if first == 0 else (few, runs[0])
    made = combined(pair, "ensemble=stacking", f"runs=[{pair[0].name},{pair[1].name}]")
    np.testing.assert_array_equal(val(made).sample_ids, val(few).sample_ids)
    assert RunSummary.read(made.summary).split_fingerprint == (
        RunSummary.read(runs[0].summary).split_fingerprint
    )
    # Who learnt from what is judged here is refused as before.
    other = train(runs[0].output_dir, *MEANS, "data.split_seed=1", "data.train_limit=300")
    with pytest.raises(ConfigError, match=r"on other pictures|on the same pictures"):
        combined((runs[0], other), "ensemble=greedy", f"runs=[{runs[0].name},{other.name}]")


def test_a_single_run_is_no_ensemble(
    runs: tuple[RunFolder, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    poor = train(runs[0].output_dir, *MLP, "trainer.max_epochs=1", "optimizer.lr=1e-6")
    overrides = ["ensemble=greedy", f"runs=[{runs[2].name},{poor.name}]"]
    settings = asked(runs[0].output_dir, *overrides)
    assert ensemble_of([runs[2], poor], settings) is None
    assert f"than {runs[2].name} alone, so nothing is gained" in capsys.readouterr().out


def test_features_of_what_is_no_network_are_refused(
    runs: tuple[RunFolder, ...], ensemble: RunFolder
) -> None:
    for folder in (runs[2], ensemble):
        overrides = ["model=embedding", f"model.run={folder.path}", "model.classifier=logistic"]
        with pytest.raises(ConfigError, match=rf"^model\.run: {folder.name} is no single network"):
            train(runs[0].output_dir, "data=digits", *overrides)


def test_a_soup_is_one_network_with_the_mean_of_the_weights(
    runs: tuple[RunFolder, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    original = runs[0]
    pair = tuple(changed(original, name, moved(by)) for name, by in (("up", 0.7), ("down", -0.7)))
    before = {one.name: (val(one).probs.argmax(axis=1) == val(one).targets).mean() for one in pair}
    # Outputs that answer other questions, as CORN's do, have no mean with these.
    corn = changed(original, "corn", with_loss("src.training.losses.Corn"))
    soup = combined((corn, *pair), "ensemble=soup")
    said = capsys.readouterr().out
    assert "mean of the weights of 2 of 2" in said and "One run left out" in said
    summary = RunSummary.read(soup.summary)
    assert summary.model == "soup" and summary.metrics["val/accuracy"] > max(before.values())
    mean = load_trained(soup.chosen_checkpoint())
    trained = load_trained(original.chosen_checkpoint())
    pictures = load(None, soup.path, False).arrays[:50]
    np.testing.assert_allclose(
        mean.predictor(64).probabilities(pictures),
        trained.predictor(64).probabilities(pictures),
        atol=1e-4,
    )
    assert mean.num_parameters == trained.num_parameters
    np.testing.assert_array_equal(val(soup).targets, val(original).targets)


def test_networks_that_started_apart_do_not_average(
    runs: tuple[RunFolder, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    count = len(list(runs[0].path.parent.iterdir()))
    settings = asked(runs[0].output_dir, "ensemble=soup")
    # The classifier is no network and is left out; the two networks have nothing in common.
    assert ensemble_of(runs, settings) is None
    assert "usually do not average" in capsys.readouterr().out
    assert len(list(runs[0].path.parent.iterdir())) == count, "a refused run left something behind"


def test_members_that_take_pictures_of_other_sizes_answer_together(
    runs: tuple[RunFolder, ...],
) -> None:
    larger = train(runs[0].output_dir, *MEANS, "data.image_size=16")
    overrides = f"runs=[{runs[0].name},{larger.name}]"
    both = combined((runs[0], larger), "ensemble=greedy", overrides)
    trained = load_trained(both.chosen_checkpoint())
    weights = {one["run"]: one["weight"] for one in trained.metadata["ensemble"]["members"]}
    expected = sum(
        share * val(one).probs.astype(np.float64)
        for one in (runs[0], larger)
        if (share := weights.get(one.name))
    )
    pictures = load(None, both.path, False).arrays[val(runs[0]).sample_ids]
    said = trained.predictor(64).answer([picture[0] for picture in pictures])
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_runs_that_cannot_answer_together_are_refused(runs: tuple[RunFolder, ...]) -> None:
    output_dir, first = runs[0].output_dir, runs[0].name

    def refused(message: str, *others: RunFolder, way: str = "true") -> None:
        count = len(list(runs[0].path.parent.iterdir()))
        overrides = [f"ensemble={way}", f"runs=[{','.join([first, *(o.name for o in others)])}]"]
        with pytest.raises(ConfigError, match=message):
            combined((runs[0], *others), *overrides)
        assert len(list(runs[0].path.parent.iterdir())) == count

    refused("at least two runs are needed that can be combined, and there is 1")
    refused("at least two runs are needed that can be combined, and there is 1", runs[0])
    refused("is no network, and only weights have a mean", runs[2], way="soup")
    refused(
        "was trained and validated on other pictures",
        train(output_dir, *MEANS, "data.split_seed=1"),
    )
    wide = train(output_dir, *MLP, "model.hidden=[32]")
    refused("networks of different architectures", wide, way="soup")

    def renamed(copy: RunFolder) -> None:
        stated = val(copy)
        names = tuple("abcdefghij")
        Predictions(stated.sample_ids, None, stated.targets, stated.probs, names).write(
            copy.predictions / "val.parquet"
        )

    def grouped(copy: RunFolder) -> None:
        stated = val(copy)
        groups = np.arange(len(stated.targets)) % 4
        replace(stated, groups=groups).write(copy.predictions / "val.parquet")

    few = tuple(changed(run, f"grouped{i}", grouped) for i, run in enumerate(runs[:2]))
    with pytest.raises(ConfigError, match="of 4 groups, too few to choose by"):
        combined(few, "ensemble=true", f"runs=[{','.join(one.name for one in few)}]")
    refused("has learnt other classes", changed(runs[1], "renamed", renamed))
    with pytest.raises(ConfigError, match="part is test"):
        combined(runs, "ensemble=true", "part=test")
    with pytest.raises(ConfigError, match=r"ensemble is 'yes'.*stacking"):
        asked(output_dir, "ensemble=yes")
