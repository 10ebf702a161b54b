"""Files that could not be sent at once, and what becomes of them meanwhile, on a real MLflow."""

from __future__ import annotations

import errno
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.tracking._tracking_service import utils

from src.config.checks import from_plain
from src.config.tracking import ReplaySettings
from src.tracking.addresses import default_uri
from src.tracking.mirror import Mirror
from src.tracking.mirror_state import is_mirrored
from src.tracking.mlflow_store import Rejected, ServerAway, Store
from src.tracking.replay import replay
from tests.tracking.diary import Diary, client, history, run_of


@pytest.fixture
def kept(store: Store, diary: Diary, output_dir: Path) -> Diary:
    """A run that is in MLflow but for its files, whose place could not be written; now it can."""
    place = output_dir / "mlartifacts"
    place.write_text("a file where the folder should be")
    with diary.open() as spool:
        for name in ("a.txt", "b.txt"):
            (diary.run_dir / name).write_text(name)
            spool.artifact(diary.run_dir / name, "texts")
        spool.metrics({"loss": 1.0}, 1)
        spool.end("FINISHED")
    with pytest.raises(ServerAway):
        diary.send(store)
    got = run_of(store, diary.run_id)
    assert got.info.status == "FINISHED" and got.data.metrics == {"loss": 1.0}
    assert not is_mirrored(diary.run_dir, None)
    place.unlink()
    return diary


def texts(store: Store, diary: Diary) -> list[str]:
    """Names of the files that MLflow has of the run."""
    found = client(store).list_artifacts(str(store.find(diary.run_id)), "texts")
    return [Path(artifact.path).name for artifact in found]


def test_a_broken_artifact_store_delays_artifacts_alone(store: Store, kept: Diary) -> None:
    assert kept.send(store).finished and is_mirrored(kept.run_dir, None)
    assert texts(store, kept) == ["a.txt", "b.txt"]


def test_a_file_that_is_kept_and_then_refused_keeps_no_other_out(
    store: Store, kept: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = store.log_artifact

    def picky(run_id: str, file: Path, folder: str) -> None:
        if file.name == "a.txt":
            raise Rejected("no such file, please")
        send(run_id, file, folder)

    monkeypatch.setattr(store, "log_artifact", picky)
    assert kept.send(store).finished and "refuses the artifact" in kept.warnings[-1]
    assert texts(store, kept) == ["b.txt"]


def test_a_file_that_is_kept_and_then_gone_keeps_no_other_out(store: Store, kept: Diary) -> None:
    (kept.run_dir / "a.txt").unlink()
    assert kept.send(store).finished
    assert kept.warnings[-1] == "the artifact 'a.txt' is not there any more, and is left out"
    assert texts(store, kept) == ["b.txt"]


def with_a_file_that_is_never_taken(run_dir: Path) -> Diary:
    """A run with a file that is called as a folder of its files: MLflow cannot keep both."""
    diary = Diary(run_dir)
    with diary.open() as spool:
        for name, folder in (("x.txt", "figures/a"), ("y/a", "figures"), ("z.txt", "")):
            (run_dir / name).parent.mkdir(exist_ok=True)
            (run_dir / name).write_text(name)
            spool.artifact(run_dir / name, folder)
        spool.end("FINISHED")
    return diary


def test_a_file_that_is_never_taken_keeps_no_other_run_out(
    store: Store, output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stuck = with_a_file_that_is_never_taken(output_dir / "runs" / "a")
    other = Diary(output_dir / "runs" / "b").ended()
    plain = {"output_dir": str(output_dir), "tracking": {"uri": None}}
    settings = from_plain(ReplaySettings, plain)
    for sent in ("sent", "is there already"):
        assert not replay(settings)
        told, line = capsys.readouterr().out.splitlines()[-2:]
        assert told.startswith("a: sent, but not all of its files: the artifact 'y/a': ")
        assert line.startswith(f"b: {sent}, MLflow run {store.find(other.run_id)}")
    run = str(store.find(stuck.run_id))
    assert {one.path for one in client(store).list_artifacts(run)} == {"figures", "z.txt"}
    shutil.rmtree(output_dir / "mlartifacts" / run / "artifacts" / "figures")
    assert replay(settings)


def test_the_mirror_goes_on_with_the_next_run(store: Store, output_dir: Path) -> None:
    stuck = [with_a_file_that_is_never_taken(output_dir / "runs" / name) for name in "ac"]
    other = [Diary(output_dir / "runs" / name).ended() for name in "bd"]
    reports: list[dict[str, Any]] = []
    mirror = Mirror(reports.append, lambda: 0.0)  # no time passes, and nothing is tried twice
    mirror._servers[store.uri] = SimpleNamespace(store=store, delay=0.0, next_try=0.0)  # type: ignore[assignment]
    for diary in (stuck[1], other[1]):
        follow = {"command": "follow", "run_dir": str(diary.run_dir), "target": None}
        mirror.command({**follow, "uri": store.uri})
    mirror.command(
        {"command": "replay", "output_dir": str(output_dir), "uri": store.uri, "target": None}
    )
    for _ in range(60):
        mirror.work()
    done = {report["run_dir"] for report in reports if report["report"] == "done"}
    assert done == {str(diary.run_dir) for diary in other}
    away = [report["run_dir"] for report in reports if report["report"] == "away"]
    assert sorted(away) == [str(diary.run_dir) for diary in stuck]
    mirror._forget(stuck[1].run_dir)
    assert mirror.idle


def test_a_file_that_cannot_be_read_is_left_out_with_a_word(
    store: Store, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    with diary.open() as spool:
        for name in ("a.txt", "b.txt"):
            (diary.run_dir / name).write_text(name)
            spool.artifact(diary.run_dir / name, "texts")
        spool.end("FINISHED")
    opened = Path.open

    def refuse(path: Path, *overrides: Any, **options: Any) -> Any:
        if path.name == "a.txt":  # root is refused nothing
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *overrides, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert diary.send(store).finished
    assert diary.warnings == [
        "the artifact 'a.txt' cannot be read (Permission denied), and is left out"
    ]
    assert texts(store, diary) == ["b.txt"]


@pytest.mark.parametrize("process", ["the same", "another"])
def test_a_kept_file_of_a_run_deleted_meanwhile_is_sent_once_that_is_restored(
    store: Store, kept: Diary, output_dir: Path, process: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if process == "another":  # MLflow remembers where the files of a run go
        monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())
    run = str(store.find(kept.run_id))
    client(store).delete_run(run)
    follower = kept.send(store)
    assert follower.given_up == "the run was deleted in MLflow and is left alone there"
    assert not follower.finished and not is_mirrored(kept.run_dir, None)
    assert not (output_dir / "mlartifacts").exists()
    client(store).restore_run(run)
    assert kept.send(store).finished and texts(store, kept) == ["a.txt", "b.txt"]


def test_with_a_kept_file_a_run_whose_database_was_replaced_meanwhile_goes_all_again(
    kept: Diary, output_dir: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, output_dir / "mlflow.db")
    fresh = Store(default_uri(output_dir))
    assert kept.send(fresh).finished and texts(fresh, kept) == ["a.txt", "b.txt"]
    got = run_of(fresh, kept.run_id)
    assert got.info.status == "FINISHED"
    assert [value for *_, value in history(fresh, got.info.run_id)["loss"]] == [1.0]
