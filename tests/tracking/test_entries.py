from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.tracking.entries import Entry, batches
from src.tracking.mlflow_store import Store
from tests.tracking.diary import Diary, history, run_of

MINUTE_MS = 60_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["metric", "param", "tag"]),
            st.text(max_size=5),
            st.sampled_from(["x", "é" * 6000, "y" * 100]),
            st.just(0),
            st.just(0),
        ),
        max_size=400,
    )
)
def test_batches_hold_everything_in_order_within_the_limits(entries: list[Entry]) -> None:
    cut = list(batches(entries))
    assert [entry for batch in cut for entry in batch] == entries
    for batch in cut:
        kinds = [entry[0] for entry in batch]
        assert kinds.count("param") <= 100 and kinds.count("tag") <= 100 and len(batch) <= 1000
        assert len(json.dumps(batch)) < 1_000_000


def metrics_sent(store: Store, diary: Diary) -> list[str]:
    """The keys in the order in which MLflow's pages have them."""
    return list(run_of(store, diary.run_id).data.metrics)


def test_an_epoch_is_a_section_of_charts_before_those_of_single_values(
    store: Store, diary: Diary
) -> None:
    with diary.open() as spool:
        for epoch in (1, 2):
            values = {"val/accuracy": epoch / 4, "val/loss": 1.0, "train/lr": 0.1}
            spool.metrics(values | {"train/images_per_second": 9.0}, epoch, timestamp_ms=epoch)
        spool.metrics({"val/accuracy": 0.6}, 2, final=True)
        spool.metrics({"cost/flops": 1.0, "test/accuracy": 0.5}, 0, final=True)
        spool.end("FINISHED")
    diary.send(store)
    points = history(store, run_of(store, diary.run_id).info.run_id)
    assert points["by epoch/accuracy val"] == [(1, 1, 0.25), (2, 2, 0.5)]
    # As MLflow's pages sort sections.
    assert sorted(points)[:3] == [
        f"by epoch/{key}" for key in ("accuracy val", "loss val", "lr train")
    ]
    sections = {key.rpartition("/")[0] for key in points}
    assert sections == {"by epoch", "cost", "test", "train", "val"}
    assert len(points["val/accuracy"]) == 3


@pytest.mark.parametrize("other", [False, True])
def test_mlflow_has_metrics_of_the_model_before_those_of_the_machine(
    store: Store, diary: Diary, other: bool
) -> None:
    """Its comparison of runs opens on the first metric that it was sent."""
    (diary.run_dir / "a.txt").write_text("x")
    with diary.open() as spool:
        follower = diary.follower(store)
        for number in range(3):
            spool.metrics({"system/cpu": 1.0}, number, timestamp_ms=number)
            follower.step(store)
        assert not follower.step(store) and metrics_sent(store, diary) == []
        if other:
            spool.artifact(diary.run_dir / "a.txt")
        spool.metrics({"val/accuracy": 0.5}, 1)
        assert follower.step(store) and not follower.step(store)
        assert metrics_sent(store, diary) == ["val/accuracy", "system/cpu"]
        assert len(history(store, str(follower.mlflow_run_id))["system/cpu"]) == 3
        spool.metrics({"system/cpu": 1.0}, 3)
        assert follower.step(store)  # nothing is waited for any more
        spool.end("FINISHED")
        assert follower.step(store) and follower.finished
        follower.release()
    assert len(history(store, str(follower.mlflow_run_id))["system/cpu"]) == 4


def test_metrics_of_the_machine_wait_for_minutes_at_most(store: Store, diary: Diary) -> None:
    with diary.open() as spool:
        follower = diary.follower(store)
        for minute in (0, 5):
            spool.metrics({"system/cpu": 1.0}, minute, timestamp_ms=minute * MINUTE_MS)
        follower.step(store)
        assert metrics_sent(store, diary) == []
        spool.metrics({"system/cpu": 1.0}, 6, timestamp_ms=6 * MINUTE_MS)
        assert follower.step(store) and metrics_sent(store, diary) == ["system/cpu"]
        follower.release()


def test_a_run_killed_before_its_first_epoch_keeps_the_metrics_of_the_machine(
    store: Store, diary: Diary
) -> None:
    with diary.open() as spool:
        spool.metrics({"system/memory": 1.0}, 0)
    assert not diary.send(store).finished
    follower = diary.follower(store)
    assert follower.close_lost()
    while follower.step(store):
        continue
    follower.release()
    got = run_of(store, diary.run_id)
    assert follower.finished and got.data.metrics == {"system/memory": 1.0}
