"""An ensemble of a network and a classifier on features, typed, tracked, and served over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.runs.folder import RunFolder
from src.tracking.addresses import default_uri
from src.tracking.mlflow_store import Store
from tests.conftest import Outputs
from tests.entries.commands import complaints
from tests.serving.conftest import Typed
from tests.serving.served import ask, predicted, same, served, text
from tests.tracking.diary import client

pytestmark = pytest.mark.slow


def test_it_is_typed_and_answers_over_http_as_predict_does(
    typed: Typed, pictures: Path, environment: dict[str, str], outputs: Outputs, tmp_path: Path
) -> None:
    output_dir = outputs("runs of mine")
    runs, place = output_dir / "runs", f"output_dir={output_dir}"
    for overrides in (
        ["model=mlp", "runtime=float32", "trainer.max_epochs=1"],
        ["model=handcrafted", "model.features=[raw]", "model.classifier=knn"],
    ):
        done = typed(
            "src.train", *overrides, "evaluate_test=false", "tracking.figures=false", place
        )
        assert done.returncode == 0, done.stderr
    members = sorted(path.name for path in runs.iterdir())

    alone = typed("src.compare", "ensemble=true", f"runs=[{members[0]}]", place)
    assert alone.returncode == 2 and alone.stderr.startswith("error: ensemble: at least two runs")
    assert len(complaints(alone.stderr)) == 1

    done = typed("src.compare", "ensemble=true", f"runs=[{','.join(members)}]", place)
    assert done.returncode == 0, done.stderr
    assert "McNemar's exact test" in done.stdout and "weight  accuracy" in done.stdout
    (made,) = [path for path in runs.iterdir() if path.name not in members]

    store = Store(default_uri(output_dir))
    run_id = json.loads((made / "run.json").read_text())["run_id"]
    run = store.find(run_id)
    assert run is not None and RunFolder.find(run, output_dir).path == made
    tracked = client(store).get_run(run).data
    assert tracked.params["model.way"] == "best" and tracked.tags["bakeoff.family"] == "ensemble"
    assert 0 <= tracked.metrics["val/best_member_p_value"] <= 1
    assert tracked.metrics["cost/latency_ms"] > 0

    expected = predicted(typed, made, pictures)
    files = sorted(pictures.iterdir())
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    rows = [[text(file.read_bytes())] for file in files]
    with served(f"runs:/{run}/model", store.uri, environment, folder) as address:
        body = {"dataframe_split": {"columns": ["image"], "data": rows}}
        status, answers = ask(address, body)
        assert status == 200, answers
        for file, answer in zip(files, answers, strict=True):
            same(answer, expected[file.name])
        status, said = ask(address, {"inputs": [{"image": text(b"no picture")}]})
        assert status == 400 and "row 0" in said
