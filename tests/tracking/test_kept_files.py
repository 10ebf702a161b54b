"""Files that could not be sent at once, and what becomes of them meanwhile, on a real MLflow."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from src.tracking.addresses import default_uri
from src.tracking.mirror_state import is_complete
from src.tracking.mlflow_store import Rejected, ServerAway, Store
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
    assert not is_complete(diary.run_dir, None)
    place.unlink()
    return diary


def texts(store: Store, diary: Diary) -> list[str]:
    """Names of the files that MLflow has of the run."""
    found = client(store).list_artifacts(str(store.find(diary.run_id)), "texts")
    return [Path(artifact.path).name for artifact in found]


def test_a_broken_artifact_store_delays_artifacts_alone(store: Store, kept: Diary) -> None:
    assert kept.send(store).finished and is_complete(kept.run_dir, None)
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
    assert not follower.finished and not is_complete(kept.run_dir, None)
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
