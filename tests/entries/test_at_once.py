"""Eight trainings that start in the same moment on one cache, one folder and one database."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.entries.commands import rows
from tests.entries.conftest import Begin, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
COUNT = 8


def test_each_of_them_finishes_as_if_it_were_alone(begin: Begin, run: Run, tmp_path: Path) -> None:
    outputs, cache = tmp_path / "outputs", tmp_path / "cache"
    overrides = ["data=folder", f"data.root={_pictures(tmp_path / 'pictures')}", "model=mlp"]
    overrides += [
        "model.hidden=[16]",
        "trainer.max_epochs=1",
        "runtime=float32",
        "runtime.threads=1",
    ]
    overrides += ["data.image_size=16", "tracking.log_model=false", "tracking.figures=false"]
    overrides.append(f"output_dir={outputs}")
    for process in [begin("src.train", *overrides, BAKEOFF_CACHE=str(cache)) for _ in range(COUNT)]:
        _, error = process.communicate()
        assert process.returncode == 0 and "Traceback" not in error, error
        # MLflow may take longer than a run waits for it, on cores that eight of them share.
        warned = [line for line in error.splitlines() if line.startswith("warning: ")]
        assert all("has not confirmed it yet" in line for line in warned), error
    sent = run("src.tracking.replay", f"output_dir={outputs}")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    summaries = [json.loads(file.read_text()) for file in outputs.glob("runs/*/summary.json")]
    assert len(summaries) == COUNT and {s["status"] for s in summaries} == {"FINISHED"}
    for measured in ("val/accuracy", "val/loss", "test/accuracy"):
        assert len({summary["metrics"][measured] for summary in summaries}) == 1
    # Every look at the test part is counted, and no line is torn.
    looks = (outputs / "test_measurements.jsonl").read_text().splitlines()
    assert len({json.loads(line)["run_id"] for line in looks}) == len(looks) == COUNT
    assert sorted(s["test_measurements"] for s in summaries)[-1] == COUNT
    assert rows(outputs, "select status from runs") == ["FINISHED"] * COUNT
    assert rows(outputs, "select step from metrics where key = 'train/loss'") == [1] * COUNT
    assert len(rows(outputs, "select distinct name from experiments")) == 2  # and an empty one
    assert not list(cache.rglob("*.unfinished"))


def _pictures(folder: Path) -> Path:
    draws = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 190)):
        (folder / label).mkdir(parents=True)
        for number in range(24):
            pixels = draws.normal(level, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder
