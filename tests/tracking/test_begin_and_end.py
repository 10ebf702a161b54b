"""How a run begins and ends in MLflow where its process died, was resumed, or has odd paths."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from src.tracking.events import read_events, spool_path
from src.tracking.mlflow_store import Store
from tests.records.summaries import SUMMARY
from tests.tracking.diary import Diary, run_of


def test_a_run_without_a_last_word_gets_one(store: Store, diary: Diary) -> None:
    spool = diary.open(start_time_ms=1000)
    spool.metrics({"loss": 1.0}, 1, timestamp_ms=5000)
    follower = diary.follower(store)
    assert not follower.close_lost()  # it lives
    spool.close()
    os.utime(spool_path(diary.run_dir), (0, 0))  # as a copy of the folder may have it
    assert follower.close_lost() and follower.close_lost()
    follower.step(store)
    follower.release()
    got = run_of(store, diary.run_id)
    assert (
        got.info.status == "KILLED" and "ended without a result" in got.data.tags["bakeoff.reason"]
    )
    assert got.info.end_time == 5000
    assert [e["event"] for e, _ in read_events(spool_path(diary.run_dir))].count("finish") == 1


@pytest.mark.parametrize("lost", ["never written", "damaged"])
def test_a_run_whose_summary_says_that_it_finished_is_not_killed(
    store: Store, diary: Diary, lost: str
) -> None:
    with diary.open(start_time_ms=1000) as spool:
        spool.metrics({"loss": 1.0}, 1, timestamp_ms=2000)
        if lost == "damaged":
            spool.end("FINISHED", end_time_ms=3500)
    if lost == "damaged":
        path = spool_path(diary.run_dir)
        path.write_bytes(path.read_bytes().replace(b"FINISHED", b"FINISHEE"))
    summary = replace(SUMMARY, duration_seconds=2.5)
    summary.write(diary.run_dir / "summary.json")
    follower = diary.follower(store)
    assert follower.close_lost()
    follower.release()
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert (got.info.status, got.info.end_time) == ("FINISHED", 3500)
    assert "bakeoff.reason" not in got.data.tags
    # Of a run that goes on and is killed then, the summary does not say that.
    replace(summary, status="KILLED", reason="it went on").write(diary.run_dir / "summary.json")
    diary.open(start_time_ms=9000).close()
    follower = diary.follower(store)
    assert follower.close_lost()
    follower.release()
    diary.send(store)
    assert run_of(store, diary.run_id).info.status == "KILLED"
    assert run_of(store, diary.run_id).info.end_time == 9000


def test_what_a_resumed_run_was_begun_with_is_shown_beside_the_first(
    store: Store, diary: Diary
) -> None:
    note = {"mlflow.note.content": "begun"}
    diary.ended(tags={"bakeoff.command": "one", "bakeoff.git.dirty": "false", **note})
    diary.send(store)
    again = {"bakeoff.command": "two", "bakeoff.git.dirty": "false", "commit": "c"}
    for _ in range(2):
        diary.ended(tags={**again, "mlflow.note.content": "goes on"})
        diary.send(store)
    diary.ended(amends="FINISHED")  # evaluate has none
    diary.send(store)
    tags = run_of(store, diary.run_id).data.tags
    assert {key: tags.get(key) for key in tags if "bakeoff.c" in key or "dirty" in key} == {
        "bakeoff.command": "one",
        "bakeoff.changed.bakeoff.command": "two",
        "bakeoff.git.dirty": "false",
    }
    assert tags["commit"] == "c" and tags["mlflow.note.content"] == "begun"


def test_what_is_no_utf_8_arrives_as_an_escape(store: Store, diary: Diary) -> None:
    name = os.fsdecode(b"/pictures\xff")
    with diary.open(run_name=name, tags={"bakeoff.command": name}) as spool:
        spool.params({"data.root": name, "seed": "1"})
        spool.tags({"bakeoff.state": name})
        spool.dataset(name=name, digest="abc", source=name, profile={"root": name})
        spool.end("FAILED", name)
    assert diary.send(store).finished
    got = run_of(store, diary.run_id)
    shown = r"/pictures\xff"
    assert got.data.params == {"data.root": shown, "seed": "1"} and got.info.run_name == shown
    for key in ("bakeoff.command", "bakeoff.state", "bakeoff.reason"):
        assert got.data.tags[key] == shown
    assert got.inputs.dataset_inputs[0].dataset.name == shown
