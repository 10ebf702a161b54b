from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from src.config.checks import ConfigError, from_plain
from src.config.tracking import ReplaySettings
from src.tracking.addresses import default_uri
from src.tracking.events import spool_path
from src.tracking.mlflow_store import Store
from src.tracking.replay import main, replay
from tests.tracking.diary import Diary, client, history, python, run_of

_ADDING = """
import sys, time
from pathlib import Path
from src.config.tracking import TrackingSettings
from src.tracking.tracker import Tracker
run_dir, run_id, ended = sys.argv[1:]
tracker = Tracker.start(
    Path(run_dir), TrackingSettings(system_metrics_seconds=None),
    output_dir=Path(run_dir).parents[1], run_id=run_id, run_name="first", parent_run_id="f" * 32,
    amends=ended or None,
)
tracker.metrics({"test/accuracy": 0.5}, 0)
print("added", flush=True)
time.sleep(600)
"""


def settings(output_dir: Path, uri: str | None = None) -> ReplaySettings:
    return from_plain(ReplaySettings, {"output_dir": str(output_dir), "tracking": {"uri": uri}})


def test_every_run_gets_a_line_and_the_second_time_nothing_is_sent(
    output_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    done, lost = Diary(output_dir / "runs" / "done").ended(), Diary(output_dir / "runs" / "lost")
    lost.open().close()
    alive = Diary(output_dir / "runs" / "alive")
    private = Diary(output_dir / "runs" / "private").ended(mirrored=False)
    with alive.open():
        assert replay(settings(output_dir))
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines == {
        "done": f"sent, MLflow run {store.find(done.run_id)}, FINISHED",
        "lost": f"sent, MLflow run {store.find(lost.run_id)}, KILLED",
        "alive": "still running",
        "private": "not meant for MLflow; name a tracking.uri to send it",
    }
    assert store.find(private.run_id) is None and store.find(alive.run_id) is None
    assert replay(settings(output_dir))
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["done"] == f"is there already, MLflow run {store.find(done.run_id)}, FINISHED"


def killed_while_adding(diary: Diary, ended: str) -> None:
    """A process that opens the record of a run that has `ended`, and is killed before its end."""
    overrides = [str(diary.run_dir), diary.run_id, ended]
    process = python("-c", _ADDING, *overrides, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "added\n"
    process.kill()
    process.wait()


@pytest.mark.parametrize(("status", "reason"), [("FINISHED", None), ("FAILED", "no memory")])
def test_a_kill_while_something_is_added_leaves_a_run_as_it_had_ended(
    output_dir: Path, store: Store, diary: Diary, status: str, reason: str | None
) -> None:
    with diary.open(start_time_ms=1000) as spool:
        spool.end(status, reason, end_time_ms=9000)
    assert replay(settings(output_dir))
    for _ in range(2):  # the second one has the end that was recorded for the first to go by
        killed_while_adding(diary, status)
        assert replay(settings(output_dir))
        got = run_of(store, diary.run_id)
        assert (got.info.status, got.info.end_time) == (status, 9000)
        assert got.data.tags.get("bakeoff.reason") == reason
        assert got.data.metrics == {"test/accuracy": 0.5}
    killed_while_adding(diary, "")  # it went on: that is another run from here on
    assert replay(settings(output_dir))
    got = run_of(store, diary.run_id)
    assert got.info.status == "KILLED" and got.info.end_time > 9000


def test_a_run_shows_its_end_while_something_is_added(store: Store, diary: Diary) -> None:
    diary.ended().send(store)
    with diary.open(amends="FINISHED") as spool:
        diary.send(store)
        assert run_of(store, diary.run_id).info.status == "FINISHED"
        spool.end("FINISHED")
    # As a kill between a summary and the end of the record leaves it: the summary is right.
    with diary.open() as spool:
        spool.end("KILLED", "no result")
    diary.send(store)
    with diary.open(amends="FINISHED") as spool:
        spool.end("FINISHED")
    diary.send(store)
    got = run_of(store, diary.run_id)
    assert got.info.status == "FINISHED" and "bakeoff.reason" not in got.data.tags


def test_a_replaced_database_is_filled_from_the_folders(
    output_dir: Path, store: Store, empty_database: Path, tmp_path: Path
) -> None:
    diary = Diary(output_dir / "runs" / "a").ended()
    assert replay(settings(output_dir))
    # The folder moves, and its database is a new one: only the spools are left.
    moved = tmp_path / "moved"
    output_dir.rename(moved)
    shutil.copy(empty_database, moved / "mlflow.db")
    assert replay(settings(moved))
    again = Store(default_uri(moved))
    found = again.find(diary.run_id)
    assert found is not None and history(again, found)["loss"][0][::2] == (0, 0.0)


def test_runs_can_be_sent_to_another_place(
    output_dir: Path, empty_database: Path, tmp_path: Path
) -> None:
    parent = Diary(output_dir / "z-parent").ended(start_time_ms=1)
    child = Diary(output_dir / "a-child").ended(start_time_ms=2, parent_run_id=parent.run_id)
    private = Diary(output_dir / "private").ended(mirrored=False, start_time_ms=3)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(empty_database, other / "runs.db")
    uri = f"sqlite:///{other}/runs.db"
    assert replay(settings(output_dir, uri))
    store = Store(uri)
    ids = [store.find(diary.run_id) for diary in (parent, child, private)]
    assert None not in ids
    assert client(store).get_run(str(ids[1])).data.tags["mlflow.parentRunId"] == ids[0]
    assert store.search("bakeoff", "attributes.run_name = 'a-child'") == [child.run_dir]


def test_what_cannot_be_sent_is_said_once_a_run(
    output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        Diary(output_dir / name).ended(target="http://127.0.0.1:9")
    Diary(output_dir / "c").ended(target="http://me:***@127.0.0.1:9")
    assert main_with(output_dir) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a: not sent: http://127.0.0.1:9: no connection",
        "b: not sent: http://127.0.0.1:9: no connection",
        "c: not sent: it was meant for an address with a password; set tracking.uri without it, "
        "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (for PostgreSQL: "
        "PGPASSWORD) in the environment",
    ]


def test_a_run_whose_beginning_is_damaged_is_not_passed_over(
    output_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diary = Diary(output_dir / "runs" / "a").ended()
    path = spool_path(diary.run_dir)
    path.write_bytes(path.read_bytes().replace(b"bakeoff", b"bakeofg", 1))
    assert main_with(output_dir) == 1
    assert f"a: not sent: the beginning of {path} is damaged" in capsys.readouterr().out
    path.write_bytes(b"")  # it was killed before it began
    assert main_with(output_dir) == 0


def test_a_parent_is_sent_first_though_the_clock_was_set_back_after_it_began(
    output_dir: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = output_dir / "runs"
    Diary(runs / "a").ended(
        run_id="c" * 32, run_name="fold", parent_run_id="b" * 32, start_time_ms=1000
    )
    Diary(runs / "b").ended(
        run_id="b" * 32, run_name="cv", parent_run_id="a" * 32, start_time_ms=2000
    )
    Diary(runs / "c").ended(run_id="a" * 32, run_name="sweep", start_time_ms=3000)
    assert replay(settings(output_dir))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["sweep", "cv", "fold"]


def main_with(output_dir: Path, *overrides: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["replay", f"output_dir={output_dir}", *overrides])
        return main()


def test_wrong_input_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_with(tmp_path) == 2
    assert main_with(tmp_path, "tracking.url=x") == 2
    assert "did you mean tracking.uri?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no tracked run"):
        replay(settings(tmp_path))
