from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.tracking.events import last_start, read_events, read_history, spool_path, tracked_runs
from src.tracking.spool import Spool
from tests.tracking.diary import python, wait_until


def events(run_dir: Path, offset: int = 0) -> list[dict[str, Any]]:
    found = []
    while some := read_events(spool_path(run_dir), offset):
        found += [event for event, _ in some]
        offset = some[-1][1]
    return found


def start(spool: Spool, run_id: str = "a" * 32) -> None:
    spool.begin(
        run_id=run_id, run_name="r", experiment="e", mirrored=True, target=None, tags={"k": "v"}
    )


def points(run_dir: Path) -> list[tuple[str, int, float]]:
    return [
        (key, event["step"], float(value))
        for event in events(run_dir)
        if event["event"] == "metrics"
        for key, value in event["values"].items()
    ]


def writing(run_dir: Path, code: str) -> subprocess.Popen[str]:
    """A process that does something with the open `spool` of a run folder."""
    opened = (
        "import os, sys, time\nfrom pathlib import Path\nfrom src.tracking.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
    )
    return python("-c", opened + code, str(run_dir), stdout=subprocess.PIPE)


def test_each_event_is_one_line_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with Spool(tmp_path) as spool:
        start(spool)
        spool.params({"optimizer.lr": "0.1"})
        spool.tags({"ünï": "图片"})
        spool.metrics({"val/accuracy": 0.5}, step=1, timestamp_ms=7)
        spool.artifact(tmp_path / "a.txt", "texts")
        spool.dataset(name="digits", digest="d" * 64, source="/x", profile={"n": 5})
        spool.model(tmp_path / "model", "abc")
        spool.register(tmp_path / "a.txt", name="n", alias="a", data="d", digest="x")
        spool.end("FAILED", "it broke", end_time_ms=9)
    lines = spool_path(tmp_path).read_bytes().splitlines()
    assert all(b'"check":"' in line for line in lines)
    read = [{k: v for k, v in json.loads(line).items() if k != "check"} for line in lines]
    assert read == events(tmp_path)
    assert [event["event"] for event in events(tmp_path)] == [
        "start", "params", "tags", "metrics", "artifact", "dataset", "model", "registration",
        "finish",
    ]  # fmt: skip
    assert events(tmp_path)[3:5] == [
        {"event": "metrics", "values": {"val/accuracy": 0.5}, "step": 1, "timestamp_ms": 7},
        {"event": "artifact", "path": "a.txt", "folder": "texts"},
    ]
    assert len(events(tmp_path)[5]["digest"]) == 36
    about = {"name": "n", "alias": "a", "data": "d", "digest": "x", "run_id": "a" * 32}
    assert events(tmp_path)[6:8] == [
        {"event": "model", "path": "model", "digest": "abc", "name": "model"},
        {"event": "registration", "path": "a.txt", **about},
    ]


@settings(max_examples=50, deadline=None)
@given(value=st.floats(), key=st.text(min_size=1), step=st.integers(0, 2**40))
def test_any_metric_comes_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, value: float, key: str, step: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    with Spool(run_dir) as spool:
        spool.metrics({key: value}, step)
    ((got_key, got_step, got),) = points(run_dir)
    assert (got_key, got_step) == (key, step)
    assert got == value or (math.isnan(got) and math.isnan(value))
    assert b"NaN," not in spool_path(run_dir).read_bytes()  # no JSON


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_torn_last_line_is_cut_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    with Spool(run_dir) as spool:
        start(spool)
        for step in range(10):
            spool.metrics({"loss": step / 7}, step, timestamp_ms=step)
    whole = spool_path(run_dir).read_bytes()
    torn = whole[: len(whole) - cut]
    spool_path(run_dir).write_bytes(torn)
    with Spool(run_dir) as spool:
        for step in range(10):
            spool.metrics({"loss": step / 7}, step, timestamp_ms=step)
    assert spool_path(run_dir).read_bytes() == whole
    assert torn[: torn.rfind(b"\n") + 1] in whole


def test_a_line_destroyed_by_a_power_cut_is_passed_over(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        start(spool)
    with spool_path(tmp_path).open("ab") as file:
        file.write(b"\0" * 50 + b"\n[1]\n")
    with Spool(tmp_path) as spool:
        spool.end("FINISHED")
    assert [event.get("event") for event in events(tmp_path)] == ["start", None, None, "finish"]


def test_a_resumed_run_writes_no_metric_twice(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        start(spool)
        for step in (1, 2, 3):
            spool.metrics({"loss": 1 / step, "acc": step}, step)
    with Spool(tmp_path) as spool:
        start(spool)
        for step in (2, 3, 4):
            spool.metrics({"loss": 1 / step, "acc": step, "late": 0.0}, step)
    keys = [(key, step) for key, step, _ in points(tmp_path)]
    assert len(keys) == len(set(keys))
    assert {("loss", s) for s in (1, 2, 3, 4)} | {("late", s) for s in (2, 3, 4)} <= set(keys)


def test_final_metrics_count_beside_the_ones_of_the_same_step(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.metrics({"same": 0.5, "other": 0.5}, step=3)
        spool.metrics({"same": 0.5, "other": 0.6}, step=3, final=True)
    with Spool(tmp_path) as spool:
        spool.metrics({"same": 0.5, "other": 0.6}, step=3, final=True)
    assert points(tmp_path) == [("same", 3, 0.5), ("other", 3, 0.5), ("other", 3, 0.6)]


def test_a_changed_parameter_becomes_a_tag(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.params({"trainer.max_epochs": "5", "seed": "1"})
    with Spool(tmp_path) as spool:
        spool.params({"trainer.max_epochs": "9", "seed": "1", "new": "x"})
    assert [(e["event"], e["values"]) for e in events(tmp_path)] == [
        ("params", {"trainer.max_epochs": "5", "seed": "1"}),
        ("params", {"new": "x"}),
        ("tags", {"bakeoff.changed.trainer.max_epochs": "9"}),
    ]


def test_bad_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "secret")
    with Spool(tmp_path / "run") as spool:
        start(spool)
        with pytest.raises(ValueError, match="DONE"):
            spool.end("DONE")
        with pytest.raises(ValueError, match="one by one"):
            spool.artifact(tmp_path / "run" / "tracking")
        for folder in ("..", "a/../b", "/a", "a//b", "a/", "."):
            with pytest.raises(ValueError, match="no folder of artifacts"):
                spool.artifact(spool_path(tmp_path / "run"), folder)
        about = {"name": "n", "alias": "a", "data": "d", "digest": "x"}
        for outside in ("secret", "run/../secret", "run/link"):
            for record in (
                spool.artifact,
                lambda path: spool.model(path, "abc"),
                lambda path: spool.register(path, **about),
            ):
                with pytest.raises(ValueError, match="does not lie in the run folder"):
                    record(tmp_path / outside)
        with pytest.raises(ValueError, match=r"holds the run a+, not b+"):
            start(spool, "b" * 32)


def test_a_second_writer_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    writer = writing(
        tmp_path,
        "for step in range(10**9):\n    spool.metrics({'loss': 1.0}, step)\n"
        "    if step == 100: print('ready', flush=True)\n",
    )
    assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    with pytest.raises(ValueError, match="written by another process"):
        Spool(tmp_path, wait_seconds=0.1)
    writer.kill()
    writer.wait()
    with Spool(tmp_path) as spool:
        spool.metrics({"loss": 1.0}, step=10**9)
    steps = [step for _, step, _ in points(tmp_path)]
    assert steps == [*range(len(steps) - 1), 10**9]


def test_a_child_of_the_writer_does_not_keep_the_spool(tmp_path: Path) -> None:
    """DataLoader workers are forked, and may outlive a trainer that was killed."""
    fork = "child = os.fork()\nif child: print(child, flush=True)\ntime.sleep(60)\n"
    writer = writing(tmp_path, fork)
    assert writer.stdout is not None
    child = int(writer.stdout.readline())
    try:
        writer.kill()
        writer.wait()
        Spool(tmp_path, wait_seconds=1).close()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_full_disk_costs_no_exception_and_no_event_once_there_is_room(tmp_path: Path) -> None:
    """The file size limit makes the kernel write a part of a line, then refuse, as a full disk."""
    code = """
import resource, signal, sys
from pathlib import Path
from src.tracking.events import spool_path
from src.tracking.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run_dir = Path(sys.argv[1])
spool = Spool(run_dir)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
troubled = []
for step in range(50):
    spool.metrics({"loss": step / 7}, step)
    troubled.append(spool.error is not None)
    content = spool_path(run_dir).read_bytes()
    assert len(content) <= 1000 and content.endswith(b"\\n"), "half a line was left"
assert not troubled[0] and troubled[-1]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
spool.metrics({"loss": 1.0}, 50)
assert spool.error is None
spool.close()
"""
    process = python("-c", code, str(tmp_path), stderr=subprocess.PIPE)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert [step for _, step, _ in points(tmp_path)] == list(range(51))


def test_threads_share_a_spool(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:

        def write(name: str) -> None:
            for step in range(200):
                spool.metrics({name: float(step)}, step)

        threads = [threading.Thread(target=write, args=(f"t{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(points(tmp_path)) == [
        (f"t{i}", s, float(s)) for i in range(4) for s in range(200)
    ]


def test_runs_are_found_wherever_they_lie_but_not_among_artifacts(tmp_path: Path) -> None:
    wanted = [tmp_path / "runs/a", tmp_path / "sweep", tmp_path / "sweep/trials/0001"]
    wanted += [tmp_path / "sweeps/cache", tmp_path / "sweeps/model"]  # as users may call them
    others = [tmp_path / name for name in ("mlartifacts/x", ".hidden/y", "runs/a/model/b")]
    for run_dir in [*wanted, *others]:
        with Spool(run_dir) as spool:
            start(spool)
    (tmp_path / "runs" / "empty").mkdir()
    assert list(tracked_runs(tmp_path)) == wanted
    assert list(tracked_runs(tmp_path / "nowhere")) == []


def test_the_folder_of_all_runs_may_be_a_link_and_no_link_leads_astray(tmp_path: Path) -> None:
    output, disk = tmp_path / "outputs", tmp_path / "disk"
    with Spool(disk / "a") as spool:
        start(spool)
    output.mkdir()
    (output / "runs").symlink_to(disk, target_is_directory=True)
    (output / "latest").symlink_to(disk / "a", target_is_directory=True)
    (disk / "a" / "up").symlink_to(output, target_is_directory=True)
    (output / "sweeps").symlink_to(output, target_is_directory=True)
    assert [*tracked_runs(output)] == [output / "runs" / "a"]


def test_the_last_start_tells_where_a_run_goes(tmp_path: Path) -> None:
    assert last_start(tmp_path) == {}
    with Spool(tmp_path) as spool:
        start(spool)
        spool.metrics({"x": 1.0}, 1)
        spool.begin(
            run_id="a" * 32, run_name="r", experiment="e", mirrored=True, target="http://x", tags={}
        )
        spool.end("KILLED")
    assert last_start(tmp_path)["target"] == "http://x"


def test_reading_while_another_writes_never_shows_a_part(tmp_path: Path) -> None:
    writer = writing(
        tmp_path,
        "for step in range(3000):\n"
        "    spool.metrics({f'metric{i}': i / 3 for i in range(30)}, step)\n",
    )
    offset, steps = 0, []
    wait_until(spool_path(tmp_path).exists)
    running = True
    while running or read_events(spool_path(tmp_path), offset):
        running = writer.poll() is None
        for event, end in read_events(spool_path(tmp_path), offset):
            steps.append(event["step"])
            assert len(event["values"]) == 30
            offset = end
    assert steps == list(range(3000))


def test_a_run_never_ends_before_it_began_whatever_the_clock_is_set_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path) as spool:  # it is killed, and goes on after the clock was set back
        start(spool)
    monkeypatch.setattr("src.tracking.spool._BEGAN", time.time_ns() - 86_400 * 10**9)
    with Spool(tmp_path) as spool:
        start(spool)
        spool.end("FINISHED")
    first, again, last = events(tmp_path)
    assert again["start_time_ms"] < first["start_time_ms"] <= last["end_time_ms"]


@pytest.mark.parametrize("ended", [False, True])
def test_a_run_that_goes_on_after_the_clock_was_set_back_lasts_as_long_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    with Spool(tmp_path) as spool:
        start(spool)
        spool.metrics({"val/accuracy": 0.5}, 1, timestamp_ms=int(1000 * time.time()) + 60_000)
        if ended:
            spool.end("KILLED", end_time_ms=int(1000 * time.time()) + 90_000)
    monkeypatch.setattr("src.tracking.spool._BEGAN", time.time_ns() - 86_400 * 10**9)
    with Spool(tmp_path) as spool:
        start(spool)
        spool.end("FINISHED")
    first, *_, last = events(tmp_path)
    took_ms = last["end_time_ms"] - first["start_time_ms"]
    assert took_ms == pytest.approx(90_000 if ended else 60_000, abs=10_000)


def test_a_flipped_byte_takes_its_line_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Spool(tmp_path) as spool:
        start(spool)
        spool.metrics({"val/accuracy": 0.9125}, step=1)
        spool.end("FINISHED")
    whole = events(tmp_path)
    path = spool_path(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"0.9125", b"0.9135"))
    for _ in range(2):
        assert events(tmp_path) == [whole[0], {}, whole[2]]
    assert caplog.text.count("is damaged") == 1 and "src.verify run=" in caplog.text


def test_the_last_value_of_each_step_in_order(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.metrics({"val/accuracy": 0.5, "val/loss": 1.0}, step=2)
        spool.metrics({"val/accuracy": 0.25}, step=1)
        spool.metrics({"val/accuracy": math.inf}, step=3)
        spool.metrics({"val/accuracy": 0.75}, step=2, final=True)
    found = read_history(tmp_path, ("val/accuracy", "val/loss", "val/none"))
    assert found["val/accuracy"] == ((1, 0.25), (2, 0.75), (3, math.inf))
    assert found["val/loss"] == ((2, 1.0),) and found["val/none"] == ()
    with spool_path(tmp_path).open("a") as file:
        file.write('nonsense\n{"event": "metrics", "values": {"val/loss": 2.0}, "st')
    assert read_history(tmp_path, ("val/loss",)) == {"val/loss": ((2, 1.0),)}
    assert read_history(tmp_path / "nobody", ("a",)) == {"a": ()}
