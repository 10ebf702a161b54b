"""From trained runs to a champion that labels and serves: what a person types."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.entries.commands import free_port, kill, mlflow_server, rows, summary_of, wait_until
from tests.entries.conftest import Begin, Outputs, Run, Train
from tests.serving.served import ask, served, text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
_ALIASES = "select name, alias, version from registered_model_aliases"
_CHAMPION = [("bakeoff-digits", "champion", 1)]


@pytest.fixture(scope="module")
def trained(train: Train, outputs: Outputs) -> Path:
    """The folder of a run that is soon trained again."""
    overrides = ["model=mlp", "runtime=float32", "data.batch_size=32", "trainer.max_epochs=10"]
    return train(outputs("to select"), *overrides, "tracking.figures=false")


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """The folder of the same run in an output folder that may be changed."""
    output_dir = Path(shutil.copytree(trained.parents[1], tmp_path / "outputs"))
    return output_dir / "runs" / trained.name


@pytest.mark.parametrize("overrides", [["src.select"], ["src.evaluate", "split=val"]], ids=str)
def test_killed_while_it_adds_to_a_run_that_is_finished_in_mlflow_as_before(
    overrides: list[str], begin: Begin, run: Run, copied: Path
) -> None:
    output_dir, spool = copied.parents[1], copied / "tracking" / "spool.jsonl"
    runs = "select run_uuid, status, end_time from runs"
    before = rows(output_dir, runs)
    log = copied / "tracking" / "mirror.log"
    log.unlink(missing_ok=True)
    os.mkfifo(log)  # which it opens once the record is open, and waits for a reader
    process = begin(*overrides, f"run={copied}", f"output_dir={output_dir}")
    wait_until(lambda: spool.read_text().count('"event":"start"') == 2, process)
    kill(process)
    log.unlink()
    sent = run("src.tracking.replay", f"output_dir={output_dir}")
    assert sent.returncode == 0 and ", FINISHED" in sent.stdout, sent.stdout + sent.stderr
    assert rows(output_dir, runs) == before
    reasons = rows(output_dir, "select value from tags where key = 'bakeoff.reason'")
    assert reasons == [] and summary_of(copied)["status"] == "FINISHED"


def looks(output_dir: Path) -> int:
    return len((output_dir / "test_measurements.jsonl").read_text().splitlines())


def test_a_champion_labels_and_serves(
    run: Run, copied: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    output_dir = copied.parents[1]
    result = run("src.select", f"run={copied.name}", "refit=true", f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    assert "registered: models:/bakeoff-digits@champion, version 1" in result.stdout
    # The chosen run was measured when it was trained, its refit now.
    assert "measured 2 times on this split" in result.stdout and looks(output_dir) == 2
    versions = rows(output_dir, "select name, version, run_id from model_versions")
    (refit,) = (p for p in (output_dir / "runs").iterdir() if p != copied)
    assert versions == [("bakeoff-digits", 1, summary_of(refit)["run_id"])]
    assert rows(output_dir, _ALIASES) == _CHAMPION

    example = refit / "model" / "example.png"
    labels = tmp_path / "labels.csv"
    overrides = ["run=champion", f"images={example}", f"out={labels}", f"output_dir={output_dir}"]
    assert run("src.predict", *overrides).returncode == 0
    _, row = labels.read_text().splitlines()
    path = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    model, uri = "models:/bakeoff-digits@champion", f"sqlite:///{output_dir}/mlflow.db"
    with served(model, uri, environment | {"PATH": path}, tmp_path) as address:
        _, answers = ask(address, {"dataframe_records": [{"image": text(example.read_bytes())}]})
    assert answers[0]["label"] == row.split(",")[1]

    again = run("src.select", f"run={copied.name}", "refit=true", f"output_dir={output_dir}")
    assert again.returncode == 0 and "exists already" in again.stdout
    assert "version 1" in again.stdout and looks(output_dir) == 2
    assert rows(output_dir, "select name, version, run_id from model_versions") == versions
    assert rows(output_dir, _ALIASES) == _CHAMPION


@pytest.mark.parametrize("moment", ["refit", "measured", "recorded"])
def test_killed_on_the_way_it_is_given_again(
    run: Run, begin: Begin, copied: Path, moment: str
) -> None:
    """With SIGKILL: in the refit, after the test part was measured, and before MLflow knows."""
    output_dir = copied.parents[1]
    overrides = [f"run={copied.name}", "refit=true", f"output_dir={output_dir}"]

    def in_refit(file: str) -> bool:
        return any((path / file).is_file() for path in copied.parent.iterdir() if path != copied)

    moments: dict[str, Callable[[], bool]] = {
        "refit": lambda: in_refit("checkpoints/last.ckpt"),
        "measured": lambda: in_refit("predictions/test.parquet"),
        "recorded": (output_dir / "champions" / "digits.json").is_file,
    }
    process = begin("src.select", *overrides)
    wait_until(moments[moment], process)
    kill(process)
    before = looks(output_dir)

    result = run("src.select", *overrides)
    assert result.returncode == 0, result.stderr
    assert looks(output_dir) == (before if moment != "refit" else before + 1) == 2
    assert rows(output_dir, "select count(*) from model_versions") == [1]
    assert rows(output_dir, _ALIASES) == _CHAMPION
    assert len(list((output_dir / "runs").iterdir())) == 2


def test_a_server_that_is_away_is_told_by_the_same_command_later(
    run: Run, copied: Path, empty_database: Path, tmp_path: Path
) -> None:
    output_dir, server_dir, port = copied.parents[1], tmp_path / "server", free_port()
    overrides = [f"run={copied.name}", f"output_dir={output_dir}"]
    overrides.append(f"tracking.uri=http://127.0.0.1:{port}")
    away = run("src.select", *overrides)
    assert away.returncode == 0, away.stderr
    assert "warning: " in away.stderr and "not registered yet" in away.stdout
    assert (output_dir / "champions" / "digits.json").is_file()
    with mlflow_server(server_dir, port, empty_database):
        there = run("src.select", *overrides)
    assert there.returncode == 0, there.stderr
    assert "registered: models:/bakeoff-digits@champion, version 1" in there.stdout
    assert looks(output_dir) == 1
    assert rows(server_dir, "select count(*) from model_versions") == [1]
    assert rows(server_dir, _ALIASES) == _CHAMPION
