"""MLflow's environment variables say where a run goes and what it is called."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from src.tracking.mlflow_store import Store
from tests.tracking.diary import ENVIRONMENT, client
from tests.warm_python import WarmPython

VARIABLES = {
    "MLFLOW_TRACKING_URI": "http://work:5000",
    "MLFLOW_EXPERIMENT_NAME": "ours, too",
    "MLFLOW_RUN_NAME": "the first",
    "MLFLOW_RUN_CONTEXT": '{"team": "birds", "round": 3}',
}


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an entry with overrides and these variables: its exit code, output and messages."""

    def command(entry: str, *overrides: str, **variables: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [entry, *overrides])
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = importlib.import_module(f"src.{entry}").main()
        return code, *capsys.readouterr()

    return command


@pytest.mark.parametrize("entry", ["train", "sweep"])
def test_they_fill_what_nothing_else_sets(entry: str, run: Run) -> None:
    _, shown, noted = run(entry, "--cfg", "job", **VARIABLES)
    assert noted == (
        "from MLflow's environment variables: "
        "tracking.uri=http://work:5000 tracking.experiment=ours, too\n"
    )
    tracking = yaml.safe_load(shown)["tracking"]
    assert (tracking["uri"], tracking["experiment"]) == ("http://work:5000", "ours, too")
    stated = ("tracking.uri=null", "tracking.experiment=mine")
    _, shown, noted = run(entry, "--cfg", "job", *stated, **VARIABLES)
    tracking = yaml.safe_load(shown)["tracking"]
    assert (tracking["uri"], tracking["experiment"], noted) == (None, "mine", "")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MLFLOW_TRACKING_URI", "http://me:s3cret@work:5000", "set MLFLOW_TRACKING_USERNAME"),
        ("MLFLOW_TRACKING_URI", "./mlruns", "it must be the address of a database or server"),
        ("MLFLOW_EXPERIMENT_NAME", "x" * 501, "it must be a name of 1 to 500 characters"),
        ("MLFLOW_RUN_NAME", "http://me:s3cret@work:5000", "it holds a password or token"),
        ("MLFLOW_RUN_CONTEXT", "team=birds", "it must be tags as JSON"),
        ("MLFLOW_RUN_CONTEXT", '["birds"]', "it must be tags as JSON"),
        ("MLFLOW_RUN_CONTEXT", '{"of": "http://me:s3cret@work"}', "it holds a password or token"),
    ],
)
def test_what_no_setting_may_hold_is_refused(
    variable: str, value: str, said: str, run: Run
) -> None:
    code, shown, message = run("train", **{variable: value})
    assert code == 2 and shown == ""
    assert message.startswith(f"error: {variable}: ") and said in message
    assert "s3cret" not in message and message.count("\n") == 1


@pytest.mark.slow
def test_a_training_goes_where_they_say(
    warm_python: WarmPython, empty_database: Path, tmp_path: Path
) -> None:
    uri, output_dir = f"sqlite:///{tmp_path}/elsewhere.db", f"output_dir={tmp_path / 'outputs'}"
    overrides = [
        "model=mlp",
        "trainer.max_epochs=1",
        "trainer.progress=false",
        "tracking.figures=false",
        output_dir,
    ]
    shutil.copy(empty_database, tmp_path / "elsewhere.db")
    variables = ENVIRONMENT | VARIABLES | {"MLFLOW_TRACKING_URI": uri}
    done = warm_python.run("src.train", overrides, variables)
    assert done.returncode == 0, done.stderr
    assert "the run is called the first" in done.stderr
    # To where the run says, should its mirror have been too slow.
    warm_python.run("src.tracking.replay", [output_dir], ENVIRONMENT)
    assert not (tmp_path / "outputs" / "mlflow.db").exists()
    mlflow = client(Store(uri))
    ours = mlflow.get_experiment_by_name("ours, too")
    (found,) = mlflow.search_runs([ours.experiment_id])
    assert (found.info.run_name, found.info.status) == ("the first", "FINISHED")
    assert (found.data.tags["team"], found.data.tags["round"]) == ("birds", "3")
