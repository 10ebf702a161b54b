"""How runs are found by the names that people read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import SelectSettings
from src.config.schema import RunSettings
from src.data.splitting.test_usage import count_test_measurement, past_test_measurements
from src.records.run import RunSummary
from src.runs.folder import RunFolder, open_folder, sweep_file
from src.selection.choice import choose
from src.selection.comparison.find_runs import find_runs
from src.storage.digests import checked_json
from src.storage.files import write_atomically
from tests.selection.comparison.runs import compare_settings


def study(
    output_dir: Path, name: str, family: str, seeds: tuple[int, ...]
) -> dict[int | None, RunFolder]:
    """A study whose trial 12 is of this family, with its runs by seed; None is the trial's own.

    The training with the highest seed failed, where there are several.
    """
    made: dict[int | None, RunFolder] = {
        seed: RunFolder.create(output_dir, family, "digits") for seed in (None, *seeds)
    }
    finalists: list[dict[str, Any]] = []
    if seeds:
        values = {
            str(seed): 0.5 if seed < max(seeds) or len(seeds) == 1 else None for seed in seeds
        }
        places = {str(seed): str(made[seed].path) for seed in reversed(seeds)}
        finalists = [{"trial": 12, "runs": values, "run_dirs": places}]
    trials = [
        {"number": 1, "family": family, "run_dir": None},
        {"number": 12, "family": family, "run_dir": str(made[None].path)},
    ]
    plain = {"study": name, "trials": trials, "finalists": finalists}
    write_atomically(sweep_file(output_dir, name), checked_json(plain))
    return made


def end(folder: RunFolder) -> None:
    """Leave the summary of a run that finished."""
    RunSummary(
        run_id=folder.run_id,
        status="FINISHED",
        name=folder.name,
        model="cnn",
        data="digits",
        seed=1,
        split_fingerprint=None,
        metrics={},
        num_parameters=None,
        duration_seconds=1.0,
        run_dir=str(folder.path),
        command="python -m src.train",
    ).write(folder.summary)


def test_a_candidate_is_its_training_with_the_lowest_seed_that_did_not_choose_it(
    tmp_path: Path,
) -> None:
    made = study(tmp_path, "s", "cnn", (2, 10, 11))
    assert RunFolder.find("cnn-12", tmp_path) == made[2]
    assert RunFolder.find_all("cnn-12", tmp_path) == [made[2], made[10]]
    assert RunFolder.find("cnn-12-seed10", tmp_path) == made[10]
    assert RunFolder.find("cnn-12:s", tmp_path) == made[2]
    for name in ("cnn-12-seed11", "cnn-12:t", "cnn-1", "cnn-13", "cnn-120", "nn-12"):
        with pytest.raises(ValueError, match="there is no run"):
            RunFolder.find(name, tmp_path)
    screened = study(tmp_path, "s", "mlp", ())
    assert RunFolder.find("mlp-12", tmp_path) == screened[None]


def test_the_names_of_several_studies_name_theirs(tmp_path: Path) -> None:
    first, second = (study(tmp_path, name, "cnn", (1,)) for name in ("first", "second"))
    with pytest.raises(ValueError, match="use one of cnn-12:first, cnn-12:second"):
        RunFolder.find("cnn-12", tmp_path)
    assert RunFolder.find("cnn-12:first", tmp_path) == first[1]
    assert RunFolder.find("cnn-12-seed1:second", tmp_path) == second[1]


def test_candidates_are_found_after_a_move_and_missed_after_a_deletion(tmp_path: Path) -> None:
    made = study(tmp_path / "old", "s", "cnn", (1,))
    (tmp_path / "old").rename(tmp_path / "new")
    found = RunFolder.find("cnn-12", tmp_path / "new")
    assert found.run_id == made[1].run_id and found.output_dir == tmp_path / "new"
    shutil.rmtree(found.path)
    with pytest.raises(ValueError, match="the runs of cnn-12 are gone"):
        RunFolder.find("cnn-12", tmp_path / "new")


def test_candidates_of_a_copy_are_those_of_the_copy(tmp_path: Path) -> None:
    """Whoever chooses in it leaves the original as it is."""
    made = study(tmp_path / "old", "s", "cnn", (1,))
    end(made[1])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    assert RunFolder.find("cnn-12", tmp_path / "old") == made[1]
    found = RunFolder.find("cnn-12", tmp_path / "new")
    assert found.run_id == made[1].run_id and found.output_dir == tmp_path / "new"
    settings = compare_settings(tmp_path / "new", runs=["cnn-12"])
    assert find_runs(settings, tmp_path / "new").folders == (found,)
    shutil.rmtree(found.path)  # what was not copied is where it was
    assert RunFolder.find("cnn-12", tmp_path / "new") == made[1]


def test_a_damaged_record_is_not_taken_for_a_study_without_such_a_candidate(
    tmp_path: Path,
) -> None:
    study(tmp_path, "s", "cnn", (1,))
    record = sweep_file(tmp_path, "s")
    record.write_text(record.read_text().replace('"number": 12', '"number": 13'))
    with pytest.raises(ValueError, match="is damaged"):
        RunFolder.find("cnn-12", tmp_path)


def test_commands_take_candidates(tmp_path: Path) -> None:
    first, second = (study(tmp_path, name, "cnn", (1, 2, 3)) for name in ("first", "second"))
    end(first[1])  # of several that may have been stopped
    end(first[None])
    settings = compare_settings(tmp_path, runs=["cnn-12:first", first[None].name])
    assert {*find_runs(settings, tmp_path).folders} == {first[1], first[2], first[None]}

    def select_settings(*overrides: str) -> SelectSettings:
        place = f"output_dir={tmp_path}"
        return compose_settings(SelectSettings, [place, *overrides])

    with pytest.raises(ConfigError, match=str(second[1].path)):  # it has no record of how it ended
        choose(select_settings("run=cnn-12", "sweep=second"))
    with pytest.raises(ConfigError, match=r"no run 'cnn-13:second'.*a sweep .cnn-1, cnn-12.,"):
        choose(select_settings("run=cnn-13", "sweep=second"))
    with pytest.raises(ConfigError, match=r"sweep is 'sceond': .* \(did you mean second\?\)"):
        find_runs(compare_settings(tmp_path, sweep="sceond"), tmp_path)
    with pytest.raises(ConfigError, match="run names one run and sweep several"):
        select_settings("run=champion", "sweep=second")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "it has no run.json"), ("{", "run.json is damaged"), ("[]", "damaged")],
)
def test_a_damaged_identity_is_told_from_one_that_is_not_there(
    content: str | None, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        RunFolder.open(tmp_path)


def test_names_of_runs_are_in_order_of_time_whatever_zone_the_clocks_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(time.tzset)
    request.addfinalizer(monkeypatch.undo)
    before = time.time()
    times = []
    for zone in ("XXX-14", "XXX+12"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        name = RunFolder.create(tmp_path, "cnn", "digits").name
        times.append(datetime.strptime(f"{name[-22:-7]}+0000", "%Y%m%d-%H%M%S%z").timestamp())
    assert int(before) <= times[0] <= times[1] <= time.time()


def test_exports_that_a_kill_left_aside_are_taken_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "cnn", "digits")
    write_atomically(folder.earlier_exports / "export.json", "old")
    with FileLock(folder.exports_lock):  # an export is about to put new ones in their place
        RunFolder.open(folder.path)
    assert not folder.exports.exists()
    assert RunFolder.find(folder.name, tmp_path) == folder
    assert (folder.exports / "export.json").read_text() == "old"
    write_atomically(folder.earlier_exports / "export.json", "older")
    RunFolder.open(folder.path)
    assert (folder.exports / "export.json").read_text() == "old"
    assert not folder.earlier_exports.exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_counts_that_are_no_file_are_told_before_a_run_begins(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "test_measurements.jsonl")
    settings = read_run_settings(["model=mlp", f"output_dir={tmp_path}"])
    asked = (
        lambda: open_folder(settings),
        lambda: past_test_measurements(tmp_path, "split"),
        lambda: count_test_measurement(tmp_path, "split", "run"),
    )
    for one in asked:
        with pytest.raises(ConfigError, match="and no file: move it away"):
            one()
    assert not (tmp_path / "runs").exists()


def test_the_chosen_checkpoint_is_read_as_it_was_written_whatever_the_locale(
    tmp_path: Path,
) -> None:
    """Windows has an encoding of its own, in which what a class is called may be no text."""
    folder = RunFolder.create(tmp_path, "mlp", "digits")
    summary = {"checkpoint": "/somewhere/best.ckpt", "metrics": {"val/recall/\u3042": 1.0}}
    text = json.dumps(summary, ensure_ascii=False)
    folder.summary.write_text(text, encoding="utf-8")
    folder.checkpoints.mkdir()
    for name in ("best.ckpt", "last.ckpt"):
        (folder.checkpoints / name).touch()
    asks = "import sys, pathlib; from src.runs.folder import RunFolder; "
    asks += "print(RunFolder.open(pathlib.Path(sys.argv[1])).chosen_checkpoint().name)"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", asks, str(folder.path)],
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "best.ckpt"


@pytest.mark.parametrize(
    ("overrides", "chosen", "suffix", "part"),
    [
        (["model=mlp"], None, "ckpt", None),
        (["model=embedding", "model.classifier=ridge"], None, "skops", None),
        (["model=embedding", "model.classifier=knn"], None, "skops", "model.classifier=knn"),
        (["model=embedding"], ["rbf_svm"], "skops", None),
        (["model=embedding"], ["knn"], "skops", "model.classifier=knn"),
        (["model=embedding"], ["ridge", "knn"], "skops", "model.classifier=knn"),
        (["model=embedding"], [], "skops", None),  # it shows once the model is loaded
        (["model=handcrafted"], ["ridge"], "skops", "hand-crafted features"),
        (["model=pixels", "data.target=dense"], None, "skops", "a classifier of pixels"),
        (["model=ensemble", "model.runs=[a,b]"], None, "json", "a combination of models"),
    ],
)
def test_what_cannot_be_exported_is_known_without_loading_the_model(
    overrides: list[str], chosen: list[str] | None, suffix: str, part: str | None, tmp_path: Path
) -> None:
    folder = RunFolder.create(tmp_path, "a", "digits")
    settings = to_plain(compose_settings(RunSettings, overrides))
    folder.config.write_text(yaml.safe_dump(settings))
    folder.checkpoints.mkdir(exist_ok=True)
    (folder.checkpoints / f"model.{suffix}").touch()
    folder.summary.write_text(json.dumps({"checkpoint": f"model.{suffix}"}))
    records = [{"settings": {"classifier": one}} for one in chosen or []]
    if records:
        metadata = {"classifier": {"problems": records} if len(records) > 1 else records[0]}
        (folder.path / "model").mkdir()
        (folder.path / "model" / "passport.json").write_text(json.dumps(metadata))
    assert folder.not_exported() == part
    with pytest.raises(ValueError, match="leave variant out" if part else "makes it"):
        folder.model_file("onnx")


def test_a_full_disk_leaves_no_folder_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("src.storage.files._flush", full)
    with pytest.raises(OSError, match="No space left"):
        RunFolder.create(tmp_path, "cnn", "pics")
    assert not list((tmp_path / "runs").iterdir())
