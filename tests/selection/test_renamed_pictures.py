"""Runs on the same pictures that are numbered otherwise, as where files were renamed in between."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import (
    CompareSettings,
    EvaluateSettings,
    ScalingSettings,
    SelectSettings,
)
from src.records.run import RunSummary
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import measure_again
from src.runs.folder import RunFolder
from src.selection.choice import choose
from src.selection.combined_run import ensemble_of
from src.selection.comparison import compared
from src.selection.data_scaling import measure_scaling
from src.selection.refit import refit
from src.selection.scaling_plan import plan_scaling

_OVERRIDES = [
    *("data=folder", "data.image_size=8", "model=mlp", "model.hidden=[8]", "data.batch_size=16"),
    *("trainer.max_epochs=2", "runtime=float32", "trainer.progress=false", "evaluate_test=false"),
    *("tracking=none", "tracking.figures=false", "tracking.log_model=false"),
]


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Class folders with given parts, so that renaming moves nothing between parts."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for number in range(24):
            path = tmp_path / "pictures" / part / "ab"[number % 2] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 200, (8, 8)) + 40 * (number % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "pictures"


def rename(pictures: Path) -> None:
    """Turn the order of the validation pictures of a class round; doing it twice undoes it."""
    files = sorted((pictures / "val" / "a").iterdir())
    for file in files:
        file.rename(file.with_suffix(".aside"))
    for file, name in zip(files, reversed(files), strict=True):
        file.with_suffix(".aside").rename(name)


def train(pictures: Path, *overrides: str) -> RunFolder:
    place = [f"data.root={pictures}", f"output_dir={pictures.with_name('outputs')}"]
    summary = run_experiment(read_run_settings([*_OVERRIDES, *place, *overrides]))
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


def asked(folder: RunFolder, *overrides: str) -> CompareSettings:
    place = [f"output_dir={folder.output_dir}", "tracking.enabled=false"]
    return compose_settings(CompareSettings, [*place, *overrides])


def test_answers_of_other_orders_are_never_paired(pictures: Path) -> None:
    before = [train(pictures), train(pictures, "seed=1", "model.hidden=[16]")]
    rename(pictures)
    after = train(pictures, "seed=2")
    first, last = (RunSummary.read(one.summary) for one in (before[0], after))
    assert first.split_fingerprint == last.split_fingerprint, "no picture moved"
    names = ",".join(one.name for one in (before[0], after))
    with pytest.raises(ConfigError, match="in different orders"):
        compared(asked(after, f"runs=[{names}]"))
    found = compared(asked(after))  # of all runs, those of one order
    assert {one.run_dirs for one in found.entrants} == {(str(one.path),) for one in before}
    assert any("left out" in remark for remark in found.remarks)
    with pytest.raises(ConfigError, match="in another order"):
        ensemble_of([before[0], after], asked(after, "ensemble=stacking", f"runs=[{names}]"))


def test_the_same_pictures_under_other_numbers_are_not_called_other_pictures(
    pictures: Path,
) -> None:
    drop = "data.on_duplicates=drop"
    before = [train(pictures, drop), train(pictures, drop, "seed=1", "model.hidden=[16]")]
    # Is left out, and moves the numbers of all pictures behind it.
    shutil.copy(pictures / "val" / "a" / "00.png", pictures / "train" / "a" / "000.png")
    after = train(pictures, drop, "seed=2")
    first, last = (RunSummary.read(one.summary) for one in (before[0], after))
    assert first.split_fingerprint == last.split_fingerprint, "no picture moved"
    with pytest.raises(ConfigError, match="the same pictures in different orders, as after files"):
        compared(asked(after, f"runs=[{before[0].name},{after.name}]"))
    remarks = compared(asked(after)).remarks
    assert any("One run left out that had the same pictures" in one for one in remarks)
    assert not any("on other pictures" in one for one in remarks)


def _gone(pictures: Path) -> None:
    (pictures / "train" / "a" / "00.png").unlink()


def _relabelled(pictures: Path) -> None:
    (pictures / "train" / "a" / "00.png").rename(pictures / "train" / "b" / "zz.png")


def _in_another_part(pictures: Path) -> None:
    (pictures / "train" / "a" / "00.png").rename(pictures / "test" / "a" / "zz.png")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_gone, r"\(1 picture of {} not in {}\)"),
        (_relabelled, r"\(the same ones with other labels, "),
        (_in_another_part, r"\(the same ones in other parts, "),
    ],
)
def test_of_runs_on_other_pictures_it_is_said_what_differs(
    pictures: Path, change: Callable[[Path], None], what: str
) -> None:
    before = train(pictures)
    change(pictures)
    after = train(pictures, "seed=1", "model.hidden=[16]")
    said = what.format(before.name, after.name)
    with pytest.raises(ConfigError, match=f"different pictures {said}.*: name runs of one split"):
        compared(asked(after, f"runs=[{before.name},{after.name}]"))
    assert "One run on other pictures left out." in compared(asked(after)).remarks


def test_the_same_order_under_other_names_is_compared(pictures: Path) -> None:
    before = train(pictures)
    for file in sorted((pictures / "val" / "a").iterdir()):
        file.rename(file.with_name(f"new-{file.name}"))
    after = train(pictures, "seed=1", "model.hidden=[16]")
    assert before.split.read_bytes() != after.split.read_bytes()
    assert compared(asked(after, f"runs=[{before.name},{after.name}]")).runs == 2


def test_a_run_is_used_with_its_pictures_in_their_order_alone(pictures: Path) -> None:
    folder = train(pictures)
    place = [f"run={folder.path}", f"output_dir={folder.output_dir}"]
    measuring = compose_settings(EvaluateSettings, [*place, "split=val"])
    choosing = compose_settings(SelectSettings, [*place, "refit=true", "tracking.enabled=false"])
    answers = (folder.predictions / "val.parquet").read_bytes()
    rename(pictures)
    with pytest.raises(ConfigError, match="in another order"):
        measure_again(folder, folder.chosen_checkpoint(), measuring)
    scaling = compose_settings(ScalingSettings, [*place, "fractions=[0.5]"])
    with pytest.raises(ConfigError, match="or their order, have changed"):
        measure_scaling(plan_scaling(scaling), scaling)
    chosen = choose(choosing)
    with pytest.raises(ConfigError, match="or their order, have changed"):
        refit(chosen.folder, chosen.settings, chosen.summary)
    assert (folder.predictions / "val.parquet").read_bytes() == answers
    rename(pictures)
    measure_again(folder, folder.chosen_checkpoint(), measuring)
    assert (folder.predictions / "val.parquet").read_bytes() == answers
