from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.runs.build import build_data
from src.runs.earlier_runs import refuse_judged_by_weights
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder


def settings(output_dir: Path, *overrides: str) -> RunSettings:
    small = ["model=mlp", "model.hidden=[8]", "runtime=float32", "trainer.max_epochs=1"]
    quiet = ["tracking=none", "tracking.figures=false", "evaluate_test=false"]
    return read_run_settings([*small, *quiet, f"output_dir={output_dir}", *overrides])


def test_weights_that_know_the_judged_pictures_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    summary = run_experiment(settings(tmp_path, "data.split_seed=1"))
    assert summary is not None
    folder = RunFolder.open(Path(summary.run_dir))
    weights = folder.chosen_checkpoint()
    begun = f"model.pretrained={weights}"
    with pytest.raises(ConfigError, match=r"^model\.pretrained: .* split both alike"):
        run_experiment(settings(tmp_path, begun))
    assert len(list((tmp_path / "runs").iterdir())) == 1, "a refused run left something behind"
    for fewer in ([], ["data.train_limit=300"]):
        alike = settings(tmp_path, begun, "data.split_seed=1", *fewer)
        refuse_judged_by_weights(alike, build_data(alike))
    shutil.copy(weights, tmp_path / "weights.ckpt")  # of which nobody knows what they have seen
    elsewhere = settings(tmp_path, f"model.pretrained={tmp_path / 'weights.ckpt'}")
    refuse_judged_by_weights(elsewhere, build_data(elsewhere))
    described = read_run_settings(["model=embedding", begun, f"output_dir={tmp_path}"])
    with pytest.raises(ConfigError, match="split both alike"):
        refuse_judged_by_weights(described, build_data(settings(tmp_path)))
