"""From a verdict to a champion, in this process; with a real MLflow in tests/entries."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import PushSettings, SelectSettings
from src.records.certainty import Certainty
from src.records.champions import Champion, champions_folder
from src.records.run import Predictions, RunSummary
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder
from src.runs.seal import changed_since
from src.selection import select as selecting
from src.selection.choice import choose
from src.selection.publish import publish
from src.serving.bundle import open_predictor
from src.serving.bundle_files import CERTAINTY
from tests.runs.unsealed import copied, unseal

pytestmark = pytest.mark.usefixtures("blank_figures")

RUNS = (
    [
        *("model=mlp", "model.hidden=[32]", "runtime=float32"),
        *("trainer.max_epochs=1", "trainer.progress=false"),
    ],
    ["model=handcrafted", "model.classifier=knn", "model.features=[raw]"],
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An output folder with a network of one epoch and the nearest neighbours, which do better."""
    output_dir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(output_dir / "cache"))
        patch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
        for overrides in RUNS:
            further = ["tracking=none", "tracking.figures=false", "evaluate_test=false"]
            run_experiment(read_run_settings([*overrides, *further, f"output_dir={output_dir}"]))
            patch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
        yield output_dir


@pytest.fixture
def output_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "outputs", ignore=_cache))


def run_of(output_dir: Path, model: str) -> RunFolder:
    (path,) = (output_dir / "runs").glob(f"{model}-*")
    return RunFolder.open(path)


def settings(output_dir: Path, *overrides: str) -> SelectSettings:
    return compose_settings(SelectSettings, [*overrides, f"output_dir={output_dir}"])


def select(asked: SelectSettings) -> Champion:
    """As the command does."""
    return selecting.select(choose(asked), asked)


def looks(output_dir: Path) -> int:
    """How often a test part was measured."""
    file = output_dir / "test_measurements.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


def test_the_verdicts_choice_is_measured_once_and_described(
    output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    champion = select(settings(output_dir))
    folder = run_of(output_dir, "handcrafted")
    assert champion == Champion("digits", folder.name, folder.run_id, tuple("0123456789"))
    assert RunFolder.find("champion", output_dir) == folder
    assert looks(output_dir) == 1
    summary = RunSummary.read(folder.summary)
    assert summary.metrics["test/accuracy"] > 0.95 and summary.test_measurements == 1
    said = capsys.readouterr().out
    assert f"chosen: {folder.name}" in said and "measured once on this split" in said
    assert "handcrafted" in said and "not registered: tracking is off" in said
    place = shlex.join([f"output_dir={output_dir}"])
    label = f"run=champion:digits images=FOLDER out=labels.csv {place}"
    assert said.splitlines()[-1] == f"next: python -m src.predict {label}"
    card = folder.model_card.read_text()
    assert f"{100 * summary.metrics['test/accuracy']:.1f} %" in card
    assert "Why this one" in card and "arXiv:1810.03993" in card
    assert (folder.figures / "test_confusion_matrix.png").is_file()
    diary = (folder.path / "tracking" / "spool.jsonl").read_text()
    assert diary.count('"event":"registration"') == 1 and '"test/accuracy"' in diary

    # Once more: the figure is known, and nobody looks again.
    select(settings(output_dir))
    said = capsys.readouterr().out
    assert looks(output_dir) == 1 and "not measured again" in said
    assert "measured once on this split" in said


def test_the_test_part_is_measured_by_the_costs_that_chose(
    output_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names, file = "0123456789", tmp_path / "costs.csv"
    costs = {a: {b: float(abs(int(a) - int(b))) + (a > b) for b in names} for a in names}
    lines = [",".join([a, *(str(cost) for cost in row.values())]) for a, row in costs.items()]
    file.write_text("\n".join([f",{','.join(names)}", *lines]))
    overrides = ["metric=cost", f"costs={file}"]
    select(settings(output_dir, *overrides))
    folder = run_of(output_dir, "handcrafted")
    tested = Predictions.read(folder.predictions / "test.parquet")
    pairs = zip(tested.targets, tested.probs.argmax(axis=1), strict=True)
    mean = sum(costs[str(t)][str(p)] for t, p in pairs) / len(tested.targets)
    found = RunSummary.read(folder.summary).metrics
    assert mean > 0 and found["test/cost"] == pytest.approx(mean)
    assert 0 <= found["test/cost_low"] < mean < found["test/cost_high"]
    said = capsys.readouterr().out
    assert f"mean cost {mean:.4g}  (95 % interval" in said and "; accuracy 9" in said
    assert "mean cost" in folder.model_card.read_text()
    diary = (folder.path / "tracking" / "spool.jsonl").read_text()
    assert '"test/cost"' in diary
    # By other costs without another look.
    doubled = [",".join([a, *(str(2 * cost) for cost in row.values())]) for a, row in costs.items()]
    file.write_text("\n".join([f",{','.join(names)}", *doubled]))
    select(settings(output_dir, *overrides))
    dearer = RunSummary.read(folder.summary).metrics["test/cost"]
    assert dearer == pytest.approx(2 * mean) and looks(output_dir) == 1


def test_the_figure_of_the_metric_that_chose_comes_first(
    output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    champion = select(settings(output_dir, "metric=auc"))
    found = RunSummary.read(RunFolder.find(champion.run, output_dir).summary).metrics
    auc, low, high = (found[f"test/auc{end}"] for end in ("", "_low", "_high"))
    assert 0.9 < low <= auc <= high
    said = f"test part: AUC {auc:.3f}  (95 % interval {low:.3f} to {high:.3f}); accuracy 9"
    assert said in capsys.readouterr().out


def test_a_figure_that_a_kill_kept_out_of_the_summary_has_the_interval_of_its_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    rng, lines = np.random.default_rng(0), ["path,label,group"]
    for number in range(160):
        pixels = rng.integers(0, 200, (8, 8)) + 20 * (number // 4 % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{number // 4 % 2},{number // 4}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    overrides = ["model=handcrafted", "model.features=[raw]", "model.classifier=nearest_mean"]
    overrides += ["data=folder", f"data.root={tmp_path / 'labels.csv'}", "data.test_fraction=0.3"]
    overrides += ["evaluate_test=false", "tracking=none", "tracking.figures=false"]
    output_dir = tmp_path / "out"
    assert run_experiment(read_run_settings([*overrides, f"output_dir={output_dir}"])) is not None
    (folder,) = (RunFolder.open(path) for path in (output_dir / "runs").iterdir())
    before = RunSummary.read(folder.summary)
    select(settings(output_dir, "tracking.enabled=false"))
    measured = RunSummary.read(folder.summary).metrics
    unseal(folder.path)
    replace(before, sealed=False).write(folder.summary)
    select(settings(output_dir, "tracking.enabled=false"))
    again = RunSummary.read(folder.summary).metrics
    for name in ("test/accuracy", "test/accuracy_low", "test/accuracy_high"):
        assert again[name] == measured[name], name
    assert looks(output_dir) == 1


def test_a_figure_that_a_kill_kept_out_of_the_summary_comes_from_the_predictions(
    output_dir: Path,
) -> None:
    folder = run_of(output_dir, "mlp")
    before = RunSummary.read(folder.summary)
    select(settings(output_dir, f"run={folder.run_id}"))
    measured = RunSummary.read(folder.summary)
    unseal(folder.path)
    replace(before, sealed=False).write(folder.summary)
    select(settings(output_dir, f"run={folder.run_id}"))
    again = RunSummary.read(folder.summary)
    tested = {k: v for k, v in measured.metrics.items() if k.startswith("test/")}
    assert tested and tested.items() <= again.metrics.items() and looks(output_dir) == 1


def test_a_refit_is_the_champion_and_names_where_it_comes_from(
    output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = run_of(output_dir, "handcrafted")
    # A look at the same test part by a run of the same split counts.
    select(settings(output_dir, "run=" + run_of(output_dir, "mlp").run_id))
    mirrored = run_of(output_dir, "mlp").path / "tracking" / "mirror.json"
    mirrored.write_text('{"versions": {"bakeoff-digits": "1"}}')
    champion = select(settings(output_dir, f"run={chosen.name}", "refit=true"))
    assert champion.run not in (chosen.name, run_of(output_dir, "mlp").name)
    folder = RunFolder.find("champion:digits", output_dir)
    assert folder.name == champion.run and looks(output_dir) == 2
    said = capsys.readouterr().out
    assert "measured 2 times on this split" in said
    assert f"in the place of {run_of(output_dir, 'mlp').name}" in said
    assert f"in MLflow, champion is still {run_of(output_dir, 'mlp').name}" in said
    assert (
        f'"bakeoff.refit_of":"{chosen.run_id}"'
        in (folder.path / "tracking" / "spool.jsonl").read_text()
    )
    card = folder.model_card.read_text()
    assert f"Refit of `{chosen.name}`" in card and "measured 2 times" in card
    assert "validation (of the chosen run)" in card
    predictions = Predictions.read(folder.predictions / "test.parquet")
    other = Predictions.read(run_of(output_dir, "mlp").predictions / "test.parquet")
    assert predictions.sample_ids.tolist() == other.sample_ids.tolist()
    # A refit has nothing left to learn from.
    assert select(settings(output_dir, "run=champion", "refit=true")) == champion
    assert "trained on the validation part already" in capsys.readouterr().out
    assert looks(output_dir) == 2


def test_the_cheapest_of_the_tied_or_the_first(output_dir: Path) -> None:
    """Two that answer alike are tied; the second, which is less sure, costs less."""
    folder = run_of(output_dir, "handcrafted")
    copy = copied(folder, "z")
    answers = Predictions.read(copy.predictions / "val.parquet")
    less_sure = (answers.probs + np.float32(1 / len(answers.class_names))) / 2
    replace(answers, probs=less_sure).write(copy.predictions / "val.parquet")
    unseal(folder.path)
    text = copy.config.read_text()
    assert "neighbours: 5" in text
    copy.config.write_text(text.replace("neighbours: 5", "neighbours: 7"))
    summary = RunSummary.read(folder.summary)
    for one, latency in ((folder, 5.0), (copy, 1.0)):
        metrics = summary.metrics | {"cost/latency_ms": latency}
        replace(summary, metrics=metrics, run_dir=str(one.path)).write(one.summary)
    assert choose(settings(output_dir)).folder == copy
    assert choose(settings(output_dir, "choose=cheapest")).folder == copy
    assert choose(settings(output_dir, "choose=winner")).folder == folder


def test_of_repeats_the_lowest_seed_is_taken(output_dir: Path) -> None:
    folder = run_of(output_dir, "handcrafted")
    for seed in (7, 3):
        copy = copied(folder, f"z{seed}")
        replace(RunSummary.read(copy.summary), seed=seed, run_dir=str(copy.path)).write(
            copy.summary
        )
    assert choose(settings(output_dir)).folder == folder
    shutil.rmtree(folder.path)
    assert choose(settings(output_dir)).summary.seed == 3


def test_a_run_that_cannot_be_used_is_named(output_dir: Path) -> None:
    folder = run_of(output_dir, "mlp")
    unseal(folder.path)
    summary = RunSummary.read(folder.summary)
    replace(summary, status="KILLED", reason="the power went").write(folder.summary)
    with pytest.raises(ConfigError, match=r"did not finish \(the power went\)"):
        select(settings(output_dir, f"run={folder.run_id}"))
    summary.write(folder.summary)
    shutil.rmtree(folder.checkpoints)
    with pytest.raises(ConfigError, match="has no trained model to take"):
        select(settings(output_dir, f"run={folder.run_id}"))
    with pytest.raises(ConfigError, match="there is no run 'nobody'"):
        select(settings(output_dir, "run=nobody"))
    assert looks(output_dir) == 0 and not list(champions_folder(output_dir).glob("*.json"))


@pytest.mark.parametrize("refit", ["true", "false"])
def test_a_fold_is_no_champion(output_dir: Path, refit: str) -> None:
    folder = run_of(output_dir, "mlp")
    unseal(folder.path)
    plain = yaml.safe_load(folder.config.read_text())
    plain["cv"] = {"folds": 5, "repeats": 1, "fold": 2}
    folder.config.write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigError, match="is a fold of a cross-validation"):
        select(settings(output_dir, f"run={folder.run_id}", f"refit={refit}"))
    assert looks(output_dir) == 0 and not list(champions_folder(output_dir).glob("*.json"))


def test_two_do_not_choose_at_once(output_dir: Path) -> None:
    lock = champions_folder(output_dir) / "lock"
    lock.parent.mkdir()
    with (
        FileLock(lock),
        pytest.raises(ConfigError, match=r"is being chosen in .* by another process"),
    ):
        select(settings(output_dir, "run=" + run_of(output_dir, "mlp").run_id))


def test_a_run_without_a_bundle_gets_one(output_dir: Path) -> None:
    folder = run_of(output_dir, "mlp")
    shutil.rmtree(folder.path / "model")  # as of a trial, which logs no model
    select(settings(output_dir, f"run={folder.run_id}"))
    assert open_predictor(folder.path / "model").class_names == tuple("0123456789")


def test_promises_allow_for_the_looks_since_they_were_made(output_dir: Path) -> None:
    folder, other = run_of(output_dir, "mlp"), run_of(output_dir, "handcrafted")
    select(settings(output_dir, f"run={folder.run_id}"))
    before = Certainty.read(folder.path / "model" / CERTAINTY)
    select(settings(output_dir, f"run={other.run_id}"))
    select(settings(output_dir, f"run={folder.run_id}"))
    after = open_predictor(folder.path / "model").certainty
    assert before is not None and after is not None
    assert (before.candidates, after.candidates) == (1, looks(output_dir)) and looks(output_dir) > 1
    np.testing.assert_array_equal(before.label_probs, after.label_probs)
    assert changed_since(folder.path, ["model/*"]) is None


def test_a_damaged_bundle_is_written_anew(output_dir: Path) -> None:
    folder = run_of(output_dir, "mlp")
    select(settings(output_dir, f"run={folder.run_id}"))
    weights = folder.path / "model" / "network.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    with pytest.raises(ValueError, match="is damaged"):
        open_predictor(weights.parent)
    overrides = [f"run={folder.name}", f"to={output_dir / 'pushed'}", f"output_dir={output_dir}"]
    pushed = compose_settings(PushSettings, overrides)
    with pytest.raises(ConfigError, match=r"run: .* is damaged"):
        publish(folder, pushed)
    assert not (output_dir / "pushed").exists()
    select(settings(output_dir, f"run={folder.run_id}"))
    assert weights.read_bytes() == whole and open_predictor(weights.parent).certainty is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["part=test"], "part is 'test'"),
        (["run=champion", "sweep=y"], "run names one run and sweep several"),
        (["choose=best"], "it must be one of one_se, cheapest, winner"),
    ],
)
def test_overrides_that_contradict_each_other(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(Path("nowhere"), *overrides)


def test_the_record_stands_before_mlflow_is_told(
    output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, the command is given again and completes it."""
    folder = run_of(output_dir, "mlp")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(selecting, "_register", killed)
        with pytest.raises(KeyboardInterrupt):
            select(settings(output_dir, f"run={folder.run_id}"))
    assert RunFolder.find("champion", output_dir) == folder
    assert "registration" not in (folder.path / "tracking" / "spool.jsonl").read_text()
    select(settings(output_dir, f"run={folder.run_id}"))
    assert '"event":"registration"' in (folder.path / "tracking" / "spool.jsonl").read_text()
    assert looks(output_dir) == 1


def _cache(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "cache"]
