from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from src.storage.digests import checked_line
from src.tracking.addresses import default_uri
from src.tracking.events import spool_path
from src.tracking.mirror_state import MirrorState, is_mirrored
from src.tracking.mlflow_store import Rejected, Store
from src.tracking.spool import Spool
from tests.tracking.diary import Diary, client, history, run_of


def test_a_run_arrives_as_it_was_written(store: Store, output_dir: Path) -> None:
    diary = Diary(output_dir / "runs" / "größe 图片 'a' \"b\" 100%")
    (diary.run_dir / "figures").mkdir()
    (diary.run_dir / "figures" / "a b#.txt").write_text("picture")
    with diary.open(tags={"bakeoff.family": "cnn"}, start_time_ms=1000) as spool:
        spool.params({"optimizer.lr": "0.1", "model.widths": "[32, 64]"})
        spool.dataset(name="digits", digest="abc", source="sklearn", profile={"train": 1})
        for step in (1, 2):
            spool.metrics({"val/accuracy": step / 3, "lr": 1e-300}, step, timestamp_ms=step)
        spool.metrics({"bad": math.nan, "up": math.inf, "down": -math.inf}, 1, timestamp_ms=5)
        spool.tags({"bakeoff.state": "complete"})
        spool.artifact(diary.run_dir / "figures" / "a b#.txt", "figures")
        spool.artifact(diary.run_dir / "figures" / "a b#.txt", "single/deep")
        spool.end("FAILED", "no memory", end_time_ms=9000)
    follower = diary.send(store)
    assert follower.finished and follower.status == "FAILED" and diary.warnings == []
    got = run_of(store, diary.run_id)
    assert got.info.run_name == diary.run_dir.name
    assert (got.info.status, got.info.start_time, got.info.end_time) == ("FAILED", 1000, 9000)
    assert got.data.params == {"optimizer.lr": "0.1", "model.widths": "[32, 64]"}
    assert got.data.tags["bakeoff.family"] == "cnn"
    assert got.data.tags["bakeoff.state"] == "complete"
    assert got.data.tags["bakeoff.reason"] == "no memory"
    assert got.data.tags["bakeoff.run_dir"] == str(diary.run_dir)
    points = history(store, got.info.run_id)
    assert points["val/accuracy"] == [(1, 1, 1 / 3), (2, 2, 2 / 3)]
    assert points["lr"] == [(1, 1, 1e-300), (2, 2, 1e-300)]
    assert math.isnan(points["bad"][0][2])
    assert points["up"][0][2] > 1e308 and points["down"][0][2] < -1e308
    (dataset,) = got.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", "abc")
    assert [(t.key, t.value) for t in dataset.tags] == [("mlflow.data.context", "training")]
    artifacts = Path(output_dir, "mlartifacts", got.info.run_id, "artifacts")
    files = {str(p.relative_to(artifacts)) for p in artifacts.rglob("*") if p.is_file()}
    assert files == {"figures/a b#.txt", "single/deep/a b#.txt"}


def test_a_run_that_was_sent_may_end_otherwise(store: Store, diary: Diary) -> None:
    """As a killed trial of a sweep does, which is pruned for its time."""
    with diary.open() as spool:
        spool.tags({"bakeoff.state": "interrupted"})
        spool.end("KILLED", "stopped by SIGTERM")
    diary.send(store)
    with Spool(diary.run_dir) as spool:
        spool.tags({"bakeoff.state": "pruned"})
        spool.end("FINISHED", "the time was over")
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert got.info.status == "FINISHED" and got.data.tags["bakeoff.state"] == "pruned"
    assert got.data.tags["bakeoff.reason"] == "the time was over"


def test_what_exceeds_a_batch_arrives_whole(store: Store, diary: Diary) -> None:
    params = {f"group.key{i:03}": str(i) for i in range(250)}
    with diary.open() as spool:
        spool.params({**params, "long": "x" * 10_000, "uni": "图" * 7000})
        spool.tags({f"tag{i:03}": "t" * 9000 for i in range(130)})
        for step in range(60):
            spool.metrics({f"m{i:02}": i / (step + 1) for i in range(50)}, step)
        spool.end("FINISHED")
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert {k: v for k, v in got.data.params.items() if k.startswith("group")} == params
    assert got.data.params["long"] == "x" * 5999 + "…"
    assert got.data.params["uni"] == "图" * 5999 + "…"
    assert sum(len(v) == 8000 for k, v in got.data.tags.items() if k.startswith("tag")) == 130
    points = history(store, got.info.run_id)
    assert {k: len(v) for k, v in points.items()} == {f"m{i:02}": 60 for i in range(50)}
    assert diary.warnings == []


def test_sending_twice_changes_nothing(store: Store, diary: Diary) -> None:
    (diary.run_dir / "a.txt").write_text("x")
    with diary.open() as spool:
        spool.params({"a": "1"})
        spool.dataset(name="d", digest="x", source="s", profile={})
        for step in range(20):
            spool.metrics({"loss": 1 / (step + 1), "nan": math.nan, "inf": math.inf}, step)
        spool.artifact(diary.run_dir / "a.txt")
        spool.end("FINISHED")
    diary.send(store)
    first = run_of(store, diary.run_id)
    before = repr(history(store, first.info.run_id))
    # All memory of what was sent is lost: everything goes again.
    (diary.run_dir / "tracking" / "mirror.json").unlink()
    assert not is_mirrored(diary.run_dir, None)
    diary.send(store)
    again = run_of(store, diary.run_id)
    assert is_mirrored(diary.run_dir, None)
    assert repr(history(store, again.info.run_id)) == before
    assert repr(again.to_dictionary()) == repr(first.to_dictionary())  # NaN is not itself


class Dying(Exception):
    """Stands for a kill: nothing after it is done."""


@pytest.mark.parametrize("survived", range(7))
def test_a_kill_between_any_two_calls_leaves_no_gap_and_no_duplicate(
    store: Store, diary: Diary, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (diary.run_dir / "a.txt").write_text("x")
    with diary.open() as spool:
        spool.metrics({"loss": 1.0}, 1)
        spool.dataset(name="d", digest="x", source="s", profile={})
        spool.metrics({"loss": 2.0}, 2)
        spool.artifact(diary.run_dir / "a.txt")
        spool.metrics({"loss": 3.0}, 3)
        spool.end("FINISHED")
    calls = 0

    def dying(name: str) -> Any:
        real = getattr(store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            result = real(*args, **kwargs)  # it reached MLflow, but nobody lived to note it
            calls += 1
            if calls == survived + 1:
                raise Dying
            return result

        return call

    with monkeypatch.context() as patch:
        for name in ("create_run", "log", "log_dataset", "log_artifact", "finish"):
            patch.setattr(store, name, dying(name))
        # A killed process does not note the offset either.
        patch.setattr(MirrorState, "write", lambda *_: None)
        with pytest.raises(Dying):
            diary.send(store)
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert got.info.status == "FINISHED"
    steps = [(step, value) for step, _, value in history(store, got.info.run_id)["loss"]]
    assert steps == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert len(got.inputs.dataset_inputs) == 1


def test_sending_goes_on_while_the_run_does(store: Store, diary: Diary) -> None:
    with diary.open() as spool:
        follower = diary.follower(store)
        for step in range(5):
            spool.metrics({"loss": float(step)}, step)
            assert follower.step(store)
            assert not follower.step(store)
            assert len(history(store, str(follower.mlflow_run_id))["loss"]) == step + 1
            assert not follower.finished
        spool.end("FINISHED")
        assert follower.step(store) and follower.finished
    follower.release()


def test_a_resumed_run_is_the_same_run(store: Store, diary: Diary) -> None:
    with diary.open() as spool:
        spool.params({"trainer.max_epochs": "5"})
        spool.metrics({"loss": 1.0}, 1)
        spool.end("KILLED", "stopped by SIGTERM")
    diary.send(store)
    assert run_of(store, diary.run_id).data.tags["bakeoff.reason"] == "stopped by SIGTERM"
    with diary.open() as spool:
        follower = diary.follower(store)
        follower.step(store)
        assert run_of(store, diary.run_id).info.status == "RUNNING"
        assert "bakeoff.reason" not in run_of(store, diary.run_id).data.tags
        spool.params({"trainer.max_epochs": "9"})
        for step in (1, 2):
            spool.metrics({"loss": 1 / step}, step)
        spool.end("FINISHED")
        follower.release()
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert got.info.status == "FINISHED"
    assert got.data.params == {"trainer.max_epochs": "5"}
    assert got.data.tags["bakeoff.changed.trainer.max_epochs"] == "9"
    steps = [step for step, *_ in history(store, got.info.run_id)["loss"]]
    assert steps == [1, 2] and diary.warnings == []


def test_one_refused_entry_does_not_keep_the_others_out(store: Store, diary: Diary) -> None:
    with diary.open() as spool:
        spool.params({"good": "1", "bad key!": "2", "../up": "3", "fine": "4"})
        spool.metrics({"ok": 1.0, "no(good)": 2.0}, 1)
        spool.end("FINISHED")
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert got.data.params == {"good": "1", "fine": "4"} and got.data.metrics == {"ok": 1.0}
    assert got.info.status == "FINISHED"
    assert len(diary.warnings) == 3 and all("MLflow refuses the" in w for w in diary.warnings)


def test_artifacts_that_are_gone_or_lie_outside_are_left_out(store: Store, diary: Diary) -> None:
    (diary.run_dir / "gone.txt").write_text("x")
    with diary.open() as spool:
        spool.artifact(diary.run_dir / "gone.txt")
        spool.end("FINISHED")
    (diary.run_dir / "gone.txt").unlink()
    (diary.run_dir.parent / "secret.txt").write_text("secret")
    lines = spool_path(diary.run_dir).read_bytes().splitlines(keepends=True)
    outside = {"event": "artifact", "path": "../secret.txt", "folder": ""}
    lines.insert(1, checked_line(outside))
    spool_path(diary.run_dir).write_bytes(b"".join(lines))
    follower = diary.send(store)
    assert follower.finished
    assert [w.partition(", and")[0] for w in diary.warnings] == [
        "the artifact '../secret.txt' is not inside the run folder",
        "the artifact 'gone.txt' is not there any more",
    ]
    assert not client(store).list_artifacts(str(follower.mlflow_run_id))


def test_a_run_deleted_in_mlflow_is_left_alone(store: Store, diary: Diary) -> None:
    with diary.open() as spool:
        spool.metrics({"loss": 1.0}, 1)
        follower = diary.follower(store)
        follower.step(store)
        client(store).delete_run(str(follower.mlflow_run_id))
        spool.end("FINISHED")
        follower.step(store)
        follower.release()
    assert follower.given_up is not None and "deleted" in follower.given_up
    assert store.stage(str(follower.mlflow_run_id)) == "deleted"


def test_nothing_is_added_to_a_finished_run_deleted_in_mlflow(store: Store, diary: Diary) -> None:
    run = str(diary.ended().send(store).mlflow_run_id)
    client(store).delete_run(run)
    (diary.run_dir / "a.txt").write_text("x")
    with diary.open(amends="FINISHED") as spool:
        spool.artifact(diary.run_dir / "a.txt")
        spool.end("FINISHED")
    given_up = diary.send(store).given_up
    assert given_up is not None and "deleted" in given_up
    assert client(store).list_artifacts(run) == []


def test_a_lost_database_is_filled_again(
    store: Store, diary: Diary, tmp_path: Path, empty_database: Path
) -> None:
    with diary.open() as spool:
        spool.metrics({"loss": 1.0}, 1)
        follower = diary.follower(store)
        follower.step(store)
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        shutil.copy(empty_database, fresh / "mlflow.db")
        other = Store(default_uri(fresh))
        spool.metrics({"loss": 2.0}, 2)
        spool.end("FINISHED")
        while follower.step(other):
            continue
        follower.release()
    found = other.find(diary.run_id)
    assert found is not None and found == follower.mlflow_run_id
    assert [s for s, *_ in history(other, found)["loss"]] == [1, 2]


def test_a_deleted_experiment_is_named(store: Store, diary: Diary) -> None:
    experiment = client(store).create_experiment("gone")
    client(store).delete_experiment(experiment)
    with diary.open(experiment="gone") as spool:
        spool.end("FINISHED")
    follower = diary.send(store)
    assert follower.given_up is not None and "'gone' was deleted in MLflow" in follower.given_up


def test_children_find_their_parent_even_when_it_comes_later(
    store: Store, output_dir: Path
) -> None:
    parent = Diary(output_dir / "sweep")
    trials = (Diary(output_dir / "sweep" / "trials" / name) for name in ("0", "1", "2"))
    whole, early, late = trials
    with parent.open() as sweep:
        with whole.open(parent_run_id=parent.run_id) as trial:
            trial.end("FINISHED")
        whole.send(store)  # by another process, all of it
        assert "mlflow.parentRunId" not in run_of(store, whole.run_id).data.tags
        with early.open(parent_run_id=parent.run_id) as trial:
            first = early.follower(store)
            first.step(store)  # before its parent is there
            parent.send(store)
            trial.end("FINISHED")
            first.step(store)
            first.release()
        with late.open(parent_run_id=parent.run_id) as trial:
            trial.end("KILLED")
        late.send(store)
        sweep.end("FINISHED")
    for child in (whole, early, late):
        assert run_of(store, child.run_id).data.tags["mlflow.parentRunId"] == store.find(
            parent.run_id
        )


def test_only_one_process_sends_a_run(store: Store, diary: Diary) -> None:
    diary.open().close()
    first = diary.follower(store)
    second = type(first)(diary.run_dir, store.uri, None, diary.warnings.append)
    assert not second.take()
    first.step(store)
    first.release()
    assert second.take() and second.mlflow_run_id == first.mlflow_run_id
    second.release()


def test_a_damaged_spool_is_given_up_with_a_word(store: Store, diary: Diary) -> None:
    diary.open().close()
    with spool_path(diary.run_dir).open("ab") as file:
        file.write(checked_line({"event": "metrics", "values": {"loss": "one"}, "step": 1}))
    follower = diary.send(store)
    assert follower.given_up is not None and "damaged" in follower.given_up


def test_the_state_of_another_place_counts_for_nothing(tmp_path: Path) -> None:
    state = MirrorState(None, "id", 100, "FINISHED", [{"path": "a"}])
    (tmp_path / "tracking").mkdir()
    state.write(tmp_path)
    assert MirrorState.read(tmp_path, None) == state
    assert MirrorState.read(tmp_path, "http://x") == MirrorState("http://x")
    for rubbish in ("", "{", "[]", "null", '{"target": null}'):
        (tmp_path / "tracking" / "mirror.json").write_text(rubbish)
        assert MirrorState.read(tmp_path, None) == MirrorState(None)


def test_an_unknown_run_is_rejected_not_waited_for(store: Store) -> None:
    with pytest.raises(Rejected):
        store.finish("f" * 32, "FINISHED", 1)
    assert store.stage("f" * 32) is None and store.find("f" * 32) is None
