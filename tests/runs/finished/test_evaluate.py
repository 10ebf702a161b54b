from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from src.api import load
from src.compare import compare
from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import (
    CompareSettings,
    EvaluateSettings,
    ExportSettings,
    PredictSettings,
    PushSettings,
    SelectSettings,
)
from src.data.splitting.splits import Split, make_split
from src.evaluate import evaluate
from src.export import export
from src.machine.interruption import Interrupted
from src.machine.package import command
from src.predict import predict
from src.records.run import RunSummary
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import Revisited, measure, measure_again
from src.runs.folder import RunFolder
from src.runs.seal import break_seal
from src.runs.settings import read_resumed_settings
from src.selection.choice import choose
from src.selection.comparison import compared
from src.selection.comparison.report import gather, read_pictures
from src.selection.publish import publish
from src.selection.select import select

pytestmark = pytest.mark.usefixtures("blank_figures")

SMALL = [
    *("data=digits", "data.limit=120", "model=mlp", "runtime=float32", "trainer.progress=false"),
    *("tracking=none", "tracking.figures=false", "tracking.log_model=false"),
]


def test_a_run_that_has_not_finished_is_neither_measured_nor_used(tmp_path: Path) -> None:
    """What was measured of its weights in between would be taken for that of the last ones."""
    said: list[str] = []

    def use(folder: RunFolder) -> None:
        place = [f"run={folder.path}", f"output_dir={tmp_path}"]
        asked = compose_settings(EvaluateSettings, [*place, "split=test"])
        exporting = compose_settings(ExportSettings, place)
        pictures = [*place, f"images={tmp_path}"]
        labelling = compose_settings(PredictSettings, pictures)
        pushing = compose_settings(PushSettings, [*place, f"to={tmp_path}/x"])
        for used in (
            lambda: evaluate(asked, ()),
            lambda: measure_again(folder, folder.chosen_checkpoint(), asked),
            lambda: export(exporting, ()),
            lambda: predict(labelling, ()),
            lambda: publish(folder, pushing),
            lambda: load(str(folder.path)),
        ):
            with pytest.raises(ConfigError) as raised:
                used()
            said.append(str(raised.value))

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        if epoch == 1:
            use(RunFolder.open(next((tmp_path / "runs").iterdir())))

    overrides = [*SMALL, "trainer.max_epochs=3", "evaluate_test=false", f"output_dir={tmp_path}"]
    summary = run_experiment(read_run_settings(overrides), on_epoch)
    assert summary is not None and summary.status == "FINISHED"
    assert len(said) == 6 and all("is still being trained: wait" in text for text in said)
    folder = RunFolder.open(Path(summary.run_dir))
    assert not any(key.startswith("test/") for key in RunSummary.read(folder.summary).metrics)
    assert not (tmp_path / "test_measurements.jsonl").exists()

    said.clear()
    break_seal(folder.path)
    replace(summary, status="KILLED", reason="the power went").write(folder.summary)
    use(folder)
    assert all("did not finish (the power went): " in text for text in said)
    assert all(f"resume={folder.path} goes on with it" in text for text in said)


@pytest.mark.parametrize("limit", [[], ["data.limit=null"]])
def test_a_run_keeps_its_parts_where_they_would_be_made_otherwise(
    limit: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another version, which takes other pictures for near-duplicates."""
    overrides = [*SMALL, *limit, "trainer.max_epochs=2", f"output_dir={tmp_path}"]

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        raise Interrupted(signal.SIGINT)

    with pytest.raises(Interrupted):
        run_experiment(read_run_settings(overrides), stop)
    (place,) = (tmp_path / "runs").iterdir()
    folder, known = RunFolder.open(place), (place / "split.csv").read_bytes()

    def made_otherwise(*arguments: Any, seed: int, **others: Any) -> Split:
        return make_split(*arguments, seed=seed + 1, **others)

    monkeypatch.setattr("src.data.loading.picture_data.make_split", made_otherwise)
    summary = run_experiment(read_resumed_settings([f"resume={place}"]))
    assert summary is not None and summary.status == "FINISHED"
    assert (place / "split.csv").read_bytes() == known
    asked = compose_settings(EvaluateSettings, [f"run={place}", f"output_dir={tmp_path}"])
    metrics, _ = measure_again(folder, folder.chosen_checkpoint(), asked)
    assert metrics["val/accuracy"] == summary.metrics["val/accuracy"]
    overrides = [f"run={place}", "refit=true", f"output_dir={tmp_path}"]
    choosing = compose_settings(SelectSettings, overrides)
    champion = select(choose(choosing), choosing)
    refitted = Split.read(RunFolder.find(champion.run, tmp_path).split)
    assert refitted.fingerprint == Split.read(folder.split).with_val_training().fingerprint


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_model_that_answers_no_numbers_is_not_measured(number: float, tmp_path: Path) -> None:
    probs = np.full((3, 2), 0.5, np.float32)
    probs[1, 0] = number
    answers = (probs, np.zeros(3, np.int64), np.arange(3))
    trained = SimpleNamespace(predict=lambda data, part: answers)
    data = SimpleNamespace(split=SimpleNamespace(val=np.arange(3)))
    folder = RunFolder.create(tmp_path, "mlp", "digits")
    again = Revisited(folder, cast(Any, None), cast(Any, data), cast(Any, trained))
    with pytest.raises(ConfigError, match=r"^run: .* answers with what is no number"):
        measure(again, "val")
    assert not folder.predictions.exists() and not folder.summary.exists()


def test_pictures_at_a_relative_root_are_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside the folder of outputs, wherever both were moved to."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    project, rng = tmp_path / "project", np.random.default_rng(0)
    lines = ["path,label,camera"]
    for number in range(60):
        pixels = rng.integers(0, 100, (8, 8), np.uint8) + 100 * (number % 2)
        (project / "photos").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(project / "photos" / f"{number}.png")
        lines.append(f"{number}.png,{['dark', 'light'][number % 2]},{number % 3}")
    (project / "photos" / "all.csv").write_text("\n".join(lines))
    monkeypatch.chdir(project)
    overrides = [
        "data=folder",
        "data.root=photos/all.csv",
        "model=handcrafted",
        "evaluate_test=false",
    ]
    overrides += ["model.features=[lbp]", "model.classifier=nearest_mean", *SMALL[-3:]]
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None
    moved = tmp_path / "moved"
    monkeypatch.chdir(tmp_path)
    project.rename(moved)
    place = [f"output_dir={moved / 'outputs'}", "tracking.enabled=false"]
    folder = RunFolder.open(moved / "outputs" / "runs" / summary.name)
    asked = compose_settings(EvaluateSettings, [f"run={folder.path}"])
    found, _ = measure_again(folder, folder.chosen_checkpoint(), asked)
    assert found["val/accuracy"] == summary.metrics["val/accuracy"]
    choosing = compose_settings(SelectSettings, [*place, "refit=true"])
    champion = select(choose(choosing), choosing)
    assert champion.run != folder.name
    by_camera = compose_settings(CompareSettings, [*place, "subgroup=camera"])
    assert {one.shown for one in gather(compared(by_camera), by_camera).leaders[0].subgroups} == {
        *"012"
    }
    compare(by_camera, [*place, "subgroup=camera"])  # which is about its page, not the choice
    assert capsys.readouterr().out.splitlines()[-1] == f"next: {command('select', *place)}"
    with pytest.raises(ConfigError, match=r"^subgroup=camra is no column .*did you mean camera"):
        compare(replace(by_camera, subgroup="camra"), [*place, "subgroup=camra"])
    assert not capsys.readouterr().out  # a verdict, before anything was refused
    assert read_pictures(folder.path, [0])
    # What lies at the root from here comes first, and other pictures are not taken for these.
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "all.csv").write_text("path,label\na.png,dark\n")
    with pytest.raises(ConfigError):
        measure_again(folder, folder.chosen_checkpoint(), asked)
