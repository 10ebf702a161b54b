"""Faults of runs, studies and stores: each is named, and repaired where that is possible."""

from __future__ import annotations

import errno
import os
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.storages import JournalStorage

from benchmarks.commands import environment
from benchmarks.faults import flip_bytes
from benchmarks.recorded_world import World
from src import verify
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.finished import VerifySettings
from src.data.sources.file_notes import NOTES, FileNotes
from src.data.sources.listing import list_pictures
from src.data.splitting.test_usage import count_test_measurement, past_test_measurements
from src.records.champions import Champion
from src.records.run import RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import seal
from src.search.storage import Journal
from src.storage.cache import CachedMeasurement, cached, load_measurement, store_measurement
from src.storage.digests import checked_json, zip_is_whole
from src.tracking.events import read_events, spool_path
from src.tracking.spool import Spool
from src.verification.runs import Fault
from src.verification.targets import verify_all
from tests.data.pictures import flip, opened, settings_of, tree, write
from tests.data.sources.test_archive import pack
from tests.selection.comparison.runs import finished_run


def faults_of(output_dir: Path, *overrides: str) -> list[Fault]:
    given = [f"output_dir={output_dir}", *overrides]
    _, found = verify_all(compose_settings(VerifySettings, given))
    return [*found]


def checked(output_dir: Path, *overrides: str) -> str:
    """What is said of what was looked at."""
    given = [f"output_dir={output_dir}", *overrides]
    return verify_all(compose_settings(VerifySettings, given))[0]


def sealed_run(output_dir: Path) -> RunFolder:
    folder = finished_run(output_dir, "mlp", 3)
    with Spool(folder.path) as spool:
        spool.begin(
            run_id=folder.run_id, run_name="r", experiment="e", mirrored=False, target=None, tags={}
        )
        spool.metrics({"val/accuracy": 0.5}, 1)
        spool.end("FINISHED")
    seal(folder.path, run_id=folder.run_id, name=folder.name)
    return folder


def study_of(folder: Path, trials: int = 4) -> list[tuple[int, float | None]]:
    """A study with trials of two parameters and three steps, each judged by its first one."""
    journal = Journal(folder / "study.journal")
    study = optuna.create_study(storage=JournalStorage(journal), study_name="s")
    for _ in range(trials):
        trial = study.ask()
        value = trial.suggest_float("x", 0, 1) + trial.suggest_int("y", 1, 3)
        for step in range(3):
            trial.report(value, step)
        study.tell(trial, value)
    journal.close()
    return [(trial.number, trial.value) for trial in study.trials]


def test_what_is_whole_has_no_fault(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path / "out")
    study_of(tmp_path / "out" / "sweeps" / "s")
    (tmp_path / "out" / "sweeps" / "s" / "sweep.json").write_bytes(checked_json({"trials": []}))
    count_test_measurement(tmp_path / "out", "f", folder.run_id)
    Champion("digits", folder.name, folder.run_id).write(tmp_path / "out")
    opened(tree(tmp_path / "pets", {"a": 4, "b": 4}), tmp_path / "cache", image_size=8)
    assert faults_of(tmp_path / "out") == []
    assert faults_of(tmp_path / "out", f"run={folder.name}") == []
    assert faults_of(tmp_path / "out", "study=s") == []
    with pytest.raises(ConfigError, match="is no folder of a study"):
        faults_of(tmp_path / "out", "study=other")
    with pytest.raises(ConfigError, match="there is no run"):
        faults_of(tmp_path / "out", "run=other")
    with pytest.raises(ConfigError, match="give only one"):
        faults_of(tmp_path / "out", "run=other", "study=s")
    with pytest.raises(ConfigError, match="no such folder"):
        faults_of(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "predictions/val.parquet"])
def test_a_changed_file_of_a_run_is_named(tmp_path: Path, name: str) -> None:
    folder = sealed_run(tmp_path)
    flip(folder.path / name, 40)
    for overrides in ([], ["repair=true"]):
        (fault,) = faults_of(tmp_path, f"run={folder.path}", *overrides)
        assert fault.place == folder.path / name and not fault.repaired
        assert "changed=use" in fault.remedy


def test_a_run_without_a_seal_is_read(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "mlp", 3)
    (folder.path / "config.yaml").unlink()
    assert faults_of(tmp_path) == []
    folder.summary.write_text("{")
    (fault,) = faults_of(tmp_path)
    assert fault.place == folder.summary


def test_a_seal_that_was_deleted_is_missed(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "mlp", 3)
    folder.config.unlink()
    replace(RunSummary.read(folder.summary), sealed=True).write(folder.summary)
    (fault,) = faults_of(tmp_path)
    assert fault.place == folder.path / "seal.json" and "is gone" in fault.what
    seal(folder.path, run_id=folder.run_id, name=folder.name)
    assert faults_of(tmp_path) == []


def test_a_damaged_line_of_a_diary_is_put_aside(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path)
    path = spool_path(folder.path)
    (folder.path / "tracking" / "mirror.json").write_text("{}")
    before = path.read_bytes().splitlines(keepends=True)
    flip(path, len(before[0]) + 30)
    (fault,) = faults_of(tmp_path)
    assert fault.place == path and "line 2" in fault.what and not fault.repaired
    (fault,) = faults_of(tmp_path, "repair=true")
    assert fault.repaired
    assert path.read_bytes() == before[0] + before[2]
    assert [event["event"] for event, _ in read_events(path)] == ["start", "finish"]
    assert b"2: " in path.with_name("spool.jsonl.damaged").read_bytes()
    assert not (folder.path / "tracking" / "mirror.json").exists(), "sent again from its beginning"
    assert faults_of(tmp_path) == []


@pytest.mark.parametrize("place", ["compare/x", "sweeps/y", "runs/z"])
def test_the_remark_on_a_damaged_line_names_a_command_that_repairs_it(
    tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / place
    with Spool(folder) as spool:
        spool.metrics({"m": 0.5}, 1)
        spool.end("FINISHED")
    (folder / "sweep.json").write_bytes(checked_json({"trials": []}))
    (folder / "run.json").write_text('{"run_id": "a", "name": "z"}')
    path = spool_path(folder)
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))
    assert {} in [event for event, _ in read_events(path)]
    (advised,) = re.findall(r"python -m src\.verify (.*) puts it aside", caplog.text)
    assert [fault.repaired for fault in faults_of(tmp_path)] == [False]
    assert [fault.repaired for fault in faults_of(tmp_path, *shlex.split(advised))] == [True]
    assert faults_of(tmp_path) == []


def test_a_line_that_lost_its_checksum_with_others_is_damaged(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path)
    path = spool_path(folder.path)
    first, line, last = path.read_bytes().splitlines(keepends=True)
    forged = line.replace(b'"check"', b'"cheak"').replace(b"0.5", b"0.6")
    path.write_bytes(first + forged + last)
    (fault,) = faults_of(tmp_path)
    assert "line 2 is damaged (its checksum is missing)" in fault.what
    assert next(event for event, _ in read_events(path, len(first))) == {}
    path.write_bytes(first[: first.rindex(b',"check"')] + b"}\n" + line + last)
    (fault,) = faults_of(tmp_path)
    assert "line 1 is damaged (its checksum is missing)" in fault.what


def test_a_checkpoint_without_a_digest_is_damaged(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "mlp", 3)
    (folder.path / "config.yaml").unlink()
    path = folder.checkpoints / "last.ckpt"
    path.parent.mkdir(exist_ok=True)
    torch.save({"weight": torch.zeros(9000)}, path)
    assert zip_is_whole(path) is None
    assert [fault.place for fault in faults_of(tmp_path)] == [path]


@pytest.mark.parametrize("kept", ["seal.json", "config.yaml", "folds.json"])
def test_a_run_that_lost_its_name_is_found_by_its_other_files(tmp_path: Path, kept: str) -> None:
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / kept).write_text("")
    assert checked(tmp_path).startswith("1 run ")
    for overrides in ([], [f"run={folder}"]):
        assert [fault.place for fault in faults_of(tmp_path, *overrides)] == [folder / "run.json"]


@pytest.mark.parametrize("kind", ["pictures", "masks", "shards", "archives"])
def test_stores_of_every_kind_are_checked(tmp_path: Path, kind: str) -> None:
    def build(folder: Path) -> dict[str, str]:
        (folder / "data.bin").write_bytes(bytes(1000))
        return {}

    store = tmp_path / "cache" / kind / "key"
    cached(store, build, what="the pictures")
    flip(store / "data.bin", 700)
    (fault,) = faults_of(tmp_path)
    assert fault.place == store and not fault.repaired
    earlier = tmp_path / "cache" / "examined" / "of an earlier format"
    earlier.mkdir(parents=True)
    assert all(fault.repaired for fault in faults_of(tmp_path, "repair=true"))
    assert not store.exists() and not earlier.exists()


def test_what_an_output_folder_has_of_its_own(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path)
    for _ in range(2):
        count_test_measurement(tmp_path, "f" * 64, folder.run_id)
    champion = Champion("digits", folder.name, folder.run_id).write(tmp_path)
    flip(tmp_path / "test_measurements.jsonl", 20)
    assert past_test_measurements(tmp_path, "f" * 64) == 2, "never fewer than there were"
    flip(champion, 20)
    sweep = tmp_path / "sweeps" / "s" / "sweep.json"
    sweep.parent.mkdir(parents=True)
    sweep.write_bytes(checked_json({"trials": [1, 2, 3]}).replace(b"3", b"4", 1))
    found = {fault.place for fault in faults_of(tmp_path)}
    assert found == {tmp_path / "test_measurements.jsonl", champion, sweep}


def test_a_database_that_sqlite_finds_damaged_is_named(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("CREATE TABLE runs (name TEXT PRIMARY KEY)")
        writer.executemany("INSERT INTO runs VALUES (?)", [(f"run {i}",) for i in range(99)])
        writer.commit()
        assert faults_of(tmp_path) == []
        writer.execute("BEGIN EXCLUSIVE")  # a writer is not waited for
        assert faults_of(tmp_path) == []
    table = database.read_bytes().index(b"CREATE TABLE runs")
    for place in (0, 100, table + 7):  # the mark of a database, a page's header, the schema
        flip(database, place)
        (fault,) = faults_of(tmp_path)
        assert fault.place == database and "src.tracking.replay" in fault.remedy
        flip(database, place)
    assert faults_of(tmp_path) == []


def test_a_damaged_store_is_deleted_and_made_anew(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", {"a": 4, "b": 4})
    before = np.array(opened(root, tmp_path / "cache", image_size=8).images)
    store_measurement(
        "plan", {"a": 1}, CachedMeasurement({"seconds": 1.25}, False), str(tmp_path / "cache")
    )
    (images,) = (tmp_path / "cache" / "pictures").glob("*/images.bin")
    (plan,) = (tmp_path / "cache" / "plans").glob("*.json")
    flip(images, 700)
    plan.write_bytes(plan.read_bytes().replace(b"1.25", b"1.35"))
    assert load_measurement("plan", {"a": 1}, str(tmp_path / "cache")) is None
    (tmp_path / "out").mkdir()
    for overrides, repaired in (([], False), (["repair=true"], True), ([], None)):
        found = faults_of(tmp_path / "out", *overrides)
        assert [fault.repaired for fault in found] == ([] if repaired is None else [repaired] * 2)
    again = opened(root, tmp_path / "cache", image_size=8)
    assert not again.from_cache and np.array_equal(again.images, before)


def test_what_archives_and_addresses_left_is_read(tmp_path: Path) -> None:
    archive = pack(tree(tmp_path / "pets", {"a": 4, "b": 4}), tmp_path / "pets.tar")
    list_pictures(settings_of(tmp_path / "cache", root=str(archive)))
    place = tmp_path / "cache" / "remote" / "x"
    notes = FileNotes()
    for name in ("one.png", "two.png"):
        write(place / "content" / name, b"content")
        notes.add(name, place / "content" / name)
    notes.write(place / NOTES)
    (tmp_path / "out").mkdir()
    assert faults_of(tmp_path / "out") == []
    (extracted,) = (tmp_path / "cache" / "archives").glob("*/content/b/004.png")
    for file in (extracted, place / "content" / "two.png"):
        flip(file, 5)
        found = faults_of(tmp_path / "out")
        assert len(found) == 1 and file.is_relative_to(found[0].place)
        (fault,) = faults_of(tmp_path / "out", "repair=true")
        assert fault.repaired and not file.exists()
    one = place / "content" / "one.png"
    assert one.exists()
    one.unlink()
    one.symlink_to(one)  # what cannot be read ends nothing
    for overrides in ([], ["repair=true"]):
        (fault,) = faults_of(tmp_path / "out", *overrides)
        assert "one.png cannot be read" in fault.what and not fault.repaired


def test_a_store_that_cannot_be_read_now_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))

    opened(tree(tmp_path / "pets", {"a": 4, "b": 4}), tmp_path / "cache", image_size=8)
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("src.storage.cache._checksums", refuse)
        (fault,) = faults_of(tmp_path / "out", "repair=true")
        assert "cannot be read" in fault.what and not fault.repaired
    assert faults_of(tmp_path / "out") == []


def test_exit_codes_say_whether_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*overrides: str) -> int:
        place = [f"output_dir={tmp_path / 'out'}", f"cache_dir={tmp_path / 'cache'}"]
        monkeypatch.setattr(sys, "argv", ["verify", *place, *overrides])
        return verify.main()

    folder = sealed_run(tmp_path / "out")
    assert code() == 0
    assert "checked 1 run and 0 studies" in capsys.readouterr().out
    assert code("run=nobody") == code("runs=1") == 2
    flip(folder.path / "tracking" / "spool.jsonl", 30)
    assert code() == 1 and "line 1 is damaged" in capsys.readouterr().out
    assert code("repair=true") == 0 and "put aside" in capsys.readouterr().out
    assert code() == 0
    flip(folder.summary, 30)
    capsys.readouterr()
    assert code(f"run={folder.name}", "repair=true") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"damaged  {folder.summary}: ")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_flipped_byte_gives_a_wrong_answer_silently(tmp_path: Path) -> None:
    with environment(BAKEOFF_CACHE=str(tmp_path / "cache")):
        world = World.made(tmp_path)
        tally = flip_bytes(world, 80, seed=3)
    assert tally.wrong == tally.crashed == tally.unnamed == []
    assert tally.counts["refused"] > 10 and tally.counts["said"] > 3
