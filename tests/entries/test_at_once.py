"""Eight trainings that start in the same moment on one cache, one folder and one database."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.entries.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
COUNT = 8


def test_each_of_them_finishes_as_if_it_were_alone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    pictures = _pictures(tmp_path / "pictures")
    outputs = tmp_path / "outputs"
    words = ["data=folder", f"data.root={pictures}", "model=mlp", "model.hidden=[16]"]
    words += ["trainer.max_epochs=1", "runtime=float32", "runtime.threads=1", "data.image_size=16"]
    words += ["tracking.log_model=false", "tracking.figures=false", f"output_dir={outputs}"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "src.train", *words],
            cwd=ROOT,
            env=environment | {"BAKEOFF_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(COUNT)
    ]
    for process in processes:
        _, error = process.communicate(timeout=1000)
        assert process.returncode == 0 and "Traceback" not in error, error
        # MLflow may take longer than a run waits for it, on cores that eight of them share.
        warned = [line for line in error.splitlines() if line.startswith("warning: ")]
        assert all("has not confirmed it yet" in line for line in warned), error
    sent = subprocess.run(
        [sys.executable, "-m", "src.tracking.replay", f"output_dir={outputs}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert sent.returncode == 0, sent.stdout + sent.stderr
    summaries = [json.loads(file.read_text()) for file in outputs.glob("runs/*/summary.json")]
    assert len(summaries) == COUNT and {s["status"] for s in summaries} == {"FINISHED"}
    for measured in ("val/accuracy", "val/loss", "test/accuracy"):
        assert len({summary["metrics"][measured] for summary in summaries}) == 1
    # Every look at the test part is counted, and no line is torn.
    looks = (outputs / "test_measurements.jsonl").read_text().splitlines()
    assert len({json.loads(line)["run_id"] for line in looks}) == len(looks) == COUNT
    assert sorted(s["test_measurements"] for s in summaries)[-1] == COUNT
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        statuses = database.execute("select status from runs").fetchall()
        names = database.execute("select distinct name from experiments").fetchall()
    assert statuses == [("FINISHED",)] * COUNT and len(names) == 2  # and MLflow's own empty one
    assert not list((tmp_path / "cache").rglob("*.unfinished"))


def _pictures(folder: Path) -> Path:
    draws = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 190)):
        (folder / label).mkdir(parents=True)
        for number in range(24):
            pixels = draws.normal(level, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder
