"""A run that goes on: refused before anything is written, or shown where nothing is left to do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import SelectSettings
from src.config.schema import stored_settings
from src.data.decoding.picture_store import PictureLost
from src.machine.interruption import Stopped
from src.machine.yaml_text import read_yaml
from src.records.champions import Champion
from src.records.run import Predictions, RunSummary
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import revisit
from src.runs.folder import RunFolder, refuse_unfinished
from src.runs.resume import reopen_record
from src.runs.seal import amending, break_seal, changed_since, seal
from src.runs.settings import read_resumed_settings
from src.selection.choice import choose
from src.selection.select import select
from src.tracking.events import read_events, spool_path
from src.tracking.spool import Spool
from src.tracking.tracker import Tracker
from tests.data.pictures import png, tree, write
from tests.runs.unsealed import unseal

pytestmark = pytest.mark.usefixtures("blank_figures")

SMALL = [
    *("model=mlp", "model.hidden=[32]", "runtime=float32", "trainer.max_epochs=2"),
    "data.batch_size=16",
    *("tracking=none", "tracking.figures=false", "tracking.log_model=false"),
    "trainer.progress=false",
]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures, and a finished run on them."""
    root = tree(tmp_path_factory.mktemp("data") / "pets", {"cat": 20, "dog": 20})
    output_dir = tmp_path_factory.mktemp("out")
    overrides = [*SMALL, "data=folder", f"data.root={root}", f"output_dir={output_dir}"]
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None and summary.status == "FINISHED"
    return root, Path(summary.run_dir)


@pytest.fixture
def place(trained: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same in a folder of its own: the pictures, and the run."""
    root, run_dir = trained
    shutil.copytree(root, tmp_path / "pets")
    shutil.copytree(run_dir.parent.parent, tmp_path / "out")
    folder = tmp_path / "out" / "runs" / run_dir.name
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(root), str(tmp_path / "pets")))
    amended = json.loads((folder / "run.json").read_text())
    seal(folder, run_id=amended["run_id"], name=amended["name"])
    return tmp_path / "pets", folder


def contents(output_dir: Path) -> dict[str, bytes]:
    """Every file of an output folder; locks, which say who writes at the moment, are no record."""
    files = (path for path in output_dir.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(output_dir)): path.read_bytes() for path in files}


def end_as(folder: Path, status: str) -> None:
    """Let the run have ended like this; only finished ones are sealed."""
    if status != "FINISHED":
        break_seal(folder)
        text = (folder / "summary.json").read_text()
        (folder / "summary.json").write_text(text.replace("FINISHED", status))


def grown(root: Path) -> None:
    for number in range(10):
        write(root / "cat" / f"new{number}.png", png(900 + number))


def other_order(root: Path) -> None:
    first, *_, last = sorted((root / "cat").iterdir())
    aside = first.with_name("aside.png")
    first.rename(aside)
    last.rename(first)
    aside.rename(last)


@pytest.mark.parametrize("status", ["FINISHED", "KILLED"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (grown, "40 then, 50 now"),
        (lambda root: tree(root, {"bird": 20}, seed=700), "40 then, 60 now"),
        (lambda root: next((root / "dog").iterdir()).unlink(), "40 then, 39 now"),
        (lambda root: write(next((root / "dog").iterdir()), png(999)), "other contents"),
        (lambda root: min((root / "cat").iterdir()).rename(root / "dog/x.png"), "other contents"),
        (other_order, "in another order"),
        (lambda root: (root / "dog").rename(root / "eel"), "called cat, dog when it began"),
    ],
)
def test_other_pictures_are_refused_before_anything_is_written(
    place: tuple[Path, Path], change: Callable[[Path], None], said: str, status: str
) -> None:
    root, folder = place
    end_as(folder, status)
    change(root)
    before = contents(folder.parent.parent)
    for overrides in ([], ["trainer.max_epochs=4"]):
        with pytest.raises(ConfigError, match=said):
            run_experiment(read_resumed_settings([f"resume={folder}", *overrides]))
    assert contents(folder.parent.parent) == before


@pytest.mark.parametrize("folds", [0, 2])
def test_classes_of_other_names_are_refused_where_the_run_has_answered_nothing_yet(
    place: tuple[Path, Path], folds: int
) -> None:
    root, folder = place
    if folds:

        def stop(fold: int, metrics: dict[str, float]) -> None:
            raise Stopped("after the first fold")

        overrides = [*SMALL, "data=folder", f"data.root={root}", f"output_dir={folder.parents[1]}"]
        with pytest.raises(Stopped):
            run_experiment(read_run_settings([*overrides, f"cv.folds={folds}"]), stop)
        (folder,) = [file.parent for file in folder.parent.glob("*/folds.json")]
    else:
        end_as(folder, "KILLED")
        shutil.rmtree(folder / "predictions")
    (root / "dog").rename(root / "eel")
    before = contents(folder.parents[1])
    with pytest.raises(ConfigError, match="were called cat, dog when it began, and are called cat"):
        run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert contents(folder.parents[1]) == before


@pytest.mark.parametrize("overrides", [[], ["trainer.max_epochs=2"], ["trainer.max_epochs=1"]])
def test_a_finished_run_is_shown_and_measures_nothing(
    place: tuple[Path, Path], overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = place
    before = contents(folder.parent.parent)
    assert before["test_measurements.jsonl"].count(b"\n") == 1
    shown = run_experiment(read_resumed_settings([f"resume={folder}", *overrides]))
    assert shown == replace(RunSummary.read(folder / "summary.json"), run_dir=str(folder))
    assert "nothing left to do" in capsys.readouterr().out
    assert contents(folder.parent.parent) == before


def test_a_run_goes_on_from_another_folder_with_pictures_at_a_relative_root(
    place: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie beside its outputs; what the run records of them stays."""
    root, folder = place
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(root), "pets"))
    named = json.loads((folder / "run.json").read_text())
    seal(folder, run_id=named["run_id"], name=named["name"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = contents(folder.parent.parent)
    assert run_experiment(read_resumed_settings([f"resume={folder}"])) is not None
    assert contents(folder.parent.parent) == before, "a finished run has nothing left to do"
    longer = run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=3"]))
    assert longer is not None and longer.status == "FINISHED"
    assert read_yaml(config.read_text())["data"]["root"] == "pets"
    root.rename(tmp_path / "gone")
    before = contents(folder.parent.parent)
    with pytest.raises(ConfigError, match=r"^resume: .* was trained on pets, which is not there"):
        run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"]))
    assert contents(folder.parent.parent) == before


def test_a_run_stays_in_its_output_folder(place: tuple[Path, Path], tmp_path: Path) -> None:
    _, folder = place
    with pytest.raises(ConfigError, match=f"output_dir is .*, but {folder.name} lies in "):
        read_resumed_settings([f"resume={folder}", f"output_dir={tmp_path / 'else'}"])
    same = read_resumed_settings([f"resume={folder}", f"output_dir={folder.parent.parent}"])
    assert same == read_resumed_settings([f"resume={folder}"])


def test_a_finished_run_that_is_asked_for_more_goes_on(place: tuple[Path, Path]) -> None:
    _, folder = place
    longer = run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=3"]))
    assert longer is not None and longer.status == "FINISHED"
    assert longer.test_measurements == 2, "other weights, and another look at the test part"
    stored = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["epoch"] == 2


def told(folder: Path, metric: str) -> Any:
    """The last value of a metric that a run's record has for MLflow."""
    events = [event for event, _ in read_events(spool_path(folder), 0)]
    values = [event["values"] for event in events if event["event"] == "metrics"]
    return [one[metric] for one in values if metric in one][-1]


def test_what_was_made_of_a_runs_weights_goes_with_them(
    place: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = place
    output_dir = folder.parent.parent
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("evaluate_test: true", "evaluate_test: false"))
    seal(folder)
    asked = compose_settings(SelectSettings, [f"run={folder}", f"output_dir={output_dir}"])
    select(choose(asked), asked)
    for name in ("exports/export.json", "refit.json", "predictions/train.parquet"):
        write(folder / name, b"of the weights before")
    made = ["model", "exports", "refit.json", "model_card.md", "predictions/train.parquet"]
    assert all((folder / name).exists() for name in made)
    assert Champion.read(output_dir, "pets") is not None
    before = Predictions.read(folder / "predictions" / "test.parquet").probs
    assert 0 <= float(told(folder, "test/accuracy")) <= 1

    run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=5"]))
    said = capsys.readouterr().out
    assert "exports, refit.json, model_card.md" in said and "champion of pets: none" in said
    assert not any((folder / name).exists() for name in made)
    assert not (folder / "predictions" / "test.parquet").exists()
    assert Champion.read(output_dir, "pets") is None
    # What MLflow shows of the test part would be of the weights before.
    assert told(folder, "test/accuracy") == told(folder, "test/log_loss") == "nan"
    assert 0 <= float(told(folder, "val/accuracy")) <= 1

    select(choose(asked), asked)
    again = revisit(RunFolder.open(folder), folder / "checkpoints" / "last.ckpt")
    probs, _, _ = again.trained.predict(again.data, "test")
    found = Predictions.read(folder / "predictions" / "test.parquet").probs
    np.testing.assert_allclose(found, probs, atol=1e-6)
    assert not np.allclose(found, before, atol=1e-3)
    assert RunSummary.read(folder / "summary.json").test_measurements == 2
    assert 0 <= float(told(folder, "test/accuracy")) <= 1
    assert again.trained.metadata["epochs"] == 5 and (folder / "model" / "digest.txt").is_file()


def test_fewer_epochs_than_were_trained_are_refused(place: tuple[Path, Path]) -> None:
    _, folder = place
    end_as(folder, "KILLED")
    before = contents(folder.parent.parent)
    with pytest.raises(ConfigError, match=r"max_epochs is 1, .* in epoch 2 .*: set 2 or more"):
        run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=1"]))
    assert contents(folder.parent.parent) == before
    ended = run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=2"]))
    assert ended is not None and ended.status == "FINISHED"


def test_a_run_that_another_process_begins_to_write_meanwhile_is_left_alone(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was free when it was looked at, and is not when this process begins to write."""
    _, folder = place
    before = contents(folder.parent.parent)
    monkeypatch.setattr("src.runs.resume.is_being_written", lambda _: False)
    monkeypatch.setattr(Spool.__init__, "__defaults__", (0.1,))
    with Spool(folder), pytest.raises(ConfigError, match="being written by another process"):
        run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"]))
    assert contents(folder.parent.parent) == before


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_that_another_command_finishes_meanwhile_is_left_as_it_is(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """It was free when it was looked at, and is so again when this process begins to write."""
    _, folder = place
    if not finished:
        end_as(folder, "KILLED")
    original = Tracker.start
    settings = read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"])
    before: list[dict[str, bytes]] = []

    def start(*arguments: Any, **further: Any) -> Tracker:
        monkeypatch.setattr(Tracker, "start", original)
        run_experiment(settings)
        before.append(contents(folder))
        return original(*arguments, **further)

    monkeypatch.setattr(Tracker, "start", start)
    with pytest.raises(ConfigError, match="has just gone on with"):
        run_experiment(settings)
    assert [contents(folder)] == before
    again = run_experiment(settings)
    assert again is not None and again.status == "FINISHED" and [contents(folder)] == before


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None]) -> None:
    """Let another command act on the next run's folder while that waits for MLflow."""
    original = Tracker.finish

    def finish(tracker: Tracker, *arguments: Any, **further: Any) -> str:
        monkeypatch.setattr(Tracker, "finish", original)
        original(tracker, *arguments, **further)
        act(tracker.run_dir)
        return "f" * 32

    monkeypatch.setattr(Tracker, "finish", finish)


def test_what_is_measured_while_mlflow_is_waited_for_stays_in_the_summary(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = place

    def measure(run_dir: Path) -> None:
        summary = RunSummary.read(run_dir / "summary.json")
        with amending(run_dir, updated=["summary.json"]):
            added = summary.metrics | {"train/accuracy": 0.75}
            replace(summary, metrics=added).write(run_dir / "summary.json")

    meanwhile(monkeypatch, measure)
    run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=3"]))
    summary = RunSummary.read(folder / "summary.json")
    assert summary.metrics["train/accuracy"] == 0.75
    assert (summary.run_id, summary.sealed) == ("f" * 32, True)
    assert changed_since(folder) is None


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_that_goes_on_while_mlflow_is_waited_for_has_its_last_end(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    _, folder = place
    ends: list[RunSummary | None] = []

    def go_on(run_dir: Path) -> None:
        settings = read_resumed_settings([f"resume={run_dir}", "trainer.max_epochs=5"])
        ends.append(run_experiment(settings))

    def stop(epoch: int, metrics: dict[str, float]) -> None:
        if stopped and epoch == 2:
            raise Stopped("stopped")

    meanwhile(monkeypatch, go_on)
    with pytest.raises(Stopped) if stopped else nullcontext():
        settings = read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"])
        run_experiment(settings, stop)
    assert [RunSummary.read(folder / "summary.json")] == ends
    assert ends[0] is not None and ends[0].status == "FINISHED"
    assert changed_since(folder) is None


def test_a_run_that_goes_on_and_is_killed_while_mlflow_is_waited_for_is_not_finished(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = place
    meanwhile(monkeypatch, lambda run_dir: reopen_record(RunFolder.open(run_dir)) and None)
    run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"]))
    assert RunSummary.read(folder / "summary.json").status == "KILLED"
    longer = run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"]))
    assert longer is not None and longer.status == "FINISHED"


def test_a_finished_run_that_is_killed_while_it_goes_on_is_not_finished(
    place: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = place

    monkeypatch.setattr(Tracker, "start", vanish_after(Tracker.start, monkeypatch))
    with pytest.raises(SystemExit):
        run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=3"]))
    summary = RunSummary.read(folder / "summary.json")
    assert summary.status == "KILLED" and "went on" in str(summary.reason)
    monkeypatch.undo()
    longer = run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=3"]))
    assert longer is not None and longer.status == "FINISHED"


def vanish_after(
    original: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Begin the record, and end so that nothing more can be written."""

    def write(*_: Any) -> None:
        raise OSError

    def start(*arguments: Any, **further: Any) -> None:
        tracker = original(*arguments, **further)
        tracker.close()
        monkeypatch.setattr(RunSummary, "write", write)
        raise SystemExit(9)

    return start


def other_network(file: Path) -> None:
    stored = torch.load(file, weights_only=True)
    weights = stored["state_dict"]
    name = next(key for key, value in weights.items() if value.ndim == 2)
    weights[name] = torch.zeros(3, 5)
    torch.save(stored, file)


def further_layer(file: Path) -> None:
    stored = torch.load(file, weights_only=True)
    stored["state_dict"]["network.further.weight"] = torch.zeros(2)
    torch.save(stored, file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: file.write_bytes(b"no checkpoint at all"),
        lambda file: file.write_bytes(b"hello\n" * 100),  # to a pickle, h and e are instructions
        lambda file: torch.save({"something": 1}, file),
        other_network,
        further_layer,
    ],
)
@pytest.mark.parametrize("status", ["FINISHED", "KILLED"])
def test_a_checkpoint_that_does_not_fit_is_refused_and_the_run_keeps_its_state(
    place: tuple[Path, Path], damage: Callable[[Path], None], status: str
) -> None:
    _, folder = place
    unseal(folder)
    end_as(folder, status)
    damage(folder / "checkpoints" / "last.ckpt")
    before = contents(folder.parent.parent)
    with pytest.raises(ConfigError, match=r"last\.ckpt"):
        run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"]))
    assert contents(folder.parent.parent) == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), r"there is no checkpoint .*best\.ckpt"),
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), r"best\.ckpt cannot be read"),
        (other_network, r"best\.ckpt is not of the network"),
    ],
)
def test_the_best_weights_are_there_before_a_run_goes_on_that_ends_with_them(
    place: tuple[Path, Path], damage: Callable[[Path], None], said: str
) -> None:
    _, folder = place
    unseal(folder)
    end_as(folder, "KILLED")
    damage(folder / "checkpoints" / "best.ckpt")
    overrides = [f"resume={folder}", "trainer.max_epochs=3"]
    last = read_resumed_settings(overrides)
    best = replace(last, trainer=replace(last.trainer, final_weights="best"))
    before = contents(folder.parent.parent)
    with pytest.raises(ConfigError, match=said):
        run_experiment(best)
    assert contents(folder.parent.parent) == before
    summary = run_experiment(last)  # which needs none
    assert summary is not None and summary.status == "FINISHED"


def test_fewer_epochs_than_the_best_weights_had_are_refused(place: tuple[Path, Path]) -> None:
    _, folder = place
    unseal(folder)
    end_as(folder, "KILLED")
    file = folder / "checkpoints" / "best.ckpt"
    best = torch.load(file, weights_only=True)  # killed in epoch 8, and last written after the 2nd
    torch.save(best | {"epoch": 7}, file)
    settings = read_resumed_settings([f"resume={folder}", "trainer.max_epochs=7"])
    settings = replace(settings, trainer=replace(settings.trainer, final_weights="best"))
    with pytest.raises(ConfigError, match=r"max_epochs is 7, .* set 8 or more"):
        run_experiment(settings)


@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("overrides", [[], ["trainer.max_epochs=4"]])
def test_a_run_that_was_changed_after_its_end_is_refused(
    place: tuple[Path, Path], name: str, overrides: list[str]
) -> None:
    _, folder = place
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    before = contents(folder.parent.parent)
    with pytest.raises(ConfigError, match=f"sealed: {name}"):
        run_experiment(read_resumed_settings([f"resume={folder}", *overrides]))
    assert contents(folder.parent.parent) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is gone: put a copy"), (b"", "holds no settings"), (b"[]", "no set")],
)
def test_settings_that_are_lost_are_told(
    place: tuple[Path, Path], content: bytes | None, said: str
) -> None:
    _, folder = place
    (folder / "config.yaml").unlink()
    if content is not None:
        (folder / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        read_resumed_settings([f"resume={folder}"])
    if content is not None:
        with pytest.raises(ConfigError, match="the settings of this run are damaged"):
            stored_settings(read_yaml((folder / "config.yaml").read_text()))


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_finished_run_without_its_summary_is_not_called_unfinished(
    place: tuple[Path, Path], content: bytes | None
) -> None:
    _, folder = place
    (folder / "summary.json").unlink()
    if content is not None:
        (folder / "summary.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"sealed: summary\.json .*: put the original back"):
        refuse_unfinished(RunFolder.open(folder))


def test_a_run_that_another_process_writes_is_left_alone(place: tuple[Path, Path]) -> None:
    _, folder = place
    before = contents(folder.parent.parent)
    who = rf"another process \({os.getpid()}\): wait" if sys.platform == "linux" else "another"
    with Spool(folder), pytest.raises(ConfigError, match=f"being written by {who}"):
        run_experiment(read_resumed_settings([f"resume={folder}", "trainer.max_epochs=4"]))
    assert contents(folder.parent.parent) == before


@pytest.mark.parametrize("begun", [True, False])
def test_weights_that_a_run_started_from_are_needed_until_its_first_checkpoint(
    place: tuple[Path, Path], tmp_path: Path, begun: bool
) -> None:
    root, earlier = place
    file = tmp_path / "weights.ckpt"
    shutil.copy(earlier / "checkpoints" / "last.ckpt", file)
    overrides = [*SMALL, "data=folder", f"data.root={root}", f"output_dir={tmp_path / 'new'}"]
    with pytest.raises(Stopped):
        run_experiment(
            read_run_settings([*overrides, f"model.pretrained={file}"]),
            stop_after_the_first_epoch,
        )
    (folder,) = (tmp_path / "new" / "runs").iterdir()
    if not begun:
        for checkpoint in (folder / "checkpoints").iterdir():
            checkpoint.unlink()
    whole = tmp_path / "whole" / "runs" / folder.name
    shutil.copytree(folder, whole)
    (config := whole / "config.yaml").write_text(
        config.read_text().replace(str(tmp_path / "new"), str(tmp_path / "whole"))
    )
    expected = run_experiment(read_resumed_settings([f"resume={whole}"]))
    file.unlink()
    if begun:
        found = run_experiment(read_resumed_settings([f"resume={folder}"]))
        assert found is not None and expected is not None and found.status == "FINISHED"
        assert found.metrics["val/loss"] == expected.metrics["val/loss"]
        return
    before = contents(tmp_path / "new")
    with pytest.raises(ConfigError, match=rf"{folder.name} starts from .*weights\.ckpt, .* gone"):
        run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert contents(tmp_path / "new") == before


def stop_after_the_first_epoch(epoch: int, metrics: dict[str, float]) -> None:
    raise Stopped("after the first epoch")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_is_lost_meanwhile_is_named_and_the_run_goes_on_with_it(
    place: tuple[Path, Path], tmp_path: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pictures that are too many for the cache are read in every epoch."""
    root, _ = place
    lost, aside = root / "cat" / "003.png", tmp_path / "aside.png"

    def lose(epoch: int, metrics: dict[str, float]) -> None:
        lost.rename(aside)

    overrides = [*SMALL, "data=folder", f"data.root={root}", f"output_dir={tmp_path / 'new'}"]
    overrides += ["data.cache_limit_gb=0", f"data.num_workers={workers}", "trainer.max_epochs=3"]
    with pytest.raises(PictureLost, match=r"^cat/003\.png cannot be opened: .*; ") as caught:
        run_experiment(read_run_settings(overrides), lose)
    assert "\n" not in str(caught.value)
    (folder,) = (tmp_path / "new" / "runs").iterdir()
    summary = RunSummary.read(folder / "summary.json")
    assert (summary.status, summary.reason) == ("FAILED", str(caught.value))
    assert f"resume={folder}" in capsys.readouterr().err
    aside.rename(lost)
    ended = run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert ended is not None and ended.status == "FINISHED"
