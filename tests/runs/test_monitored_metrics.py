"""What a training is judged by after each epoch: as its summary has it, on every path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config import metrics
from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.config.metrics import direction_of, monitored_metrics
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.data.splitting.splits import PARTS
from src.records.run import Predictions
from src.runs.build import build_task
from src.runs.candidates.candidate import measure_part
from src.runs.experiment import run_experiment
from src.statistics.candidates import Measure
from src.statistics.intervals import measure_interval
from src.targets import fixed_thresholds
from src.training.inference import predict
from src.training.task import ClassificationTask
from tests.runs.test_target_kinds import open_data
from tests.runs.test_target_kinds import settings_of as small_settings

pytestmark = pytest.mark.usefixtures("blank_figures")

COSTS = np.array([[0, 1, 2, 9], [1, 0, 1, 2], [2.5, 1, 0, 1], [3, 2, 1, 0]])
COST = "data.answer=cost"
SMALL = (
    *("data=digits", "model=mlp", "model.hidden=[32]", "trainer.max_epochs=3", "trainer.tta=none"),
    *("runtime=float32", "data.limit=300", "tracking=none", "evaluate_test=false"),
    *("tracking.figures=false", "trainer.progress=false"),
)
MONITORED = [
    (kind, key, answer)
    for kind, answers in {
        "single": ("data.answer=most_probable", "data.answer=balanced_accuracy", COST),
        "multi": ("data.threshold=macro_f1", "data.threshold=micro_f1", "data.threshold=half"),
        "ordinal": ("data.answer=most_probable", "data.answer=kappa", "data.answer=mae", COST),
    }.items()
    for key in monitored_metrics(kind)
    if key != "val/loss"
    for answer in answers
]


def write_costs(file: Path, names: Sequence[str], costs: np.ndarray) -> Path:
    rows = [["", *names], *([name, *map(str, row)] for name, row in zip(names, costs, strict=True))]
    file.write_text("\n".join(map(",".join, rows)) + "\n")
    return file


def watching(kind: str, key: str, *overrides: str) -> RunSettings:
    """Small settings of a network that watches a metric, resolved as far as these tests need."""
    costs = ["costs=costs.csv"] if key == "val/cost" or COST in overrides else []
    return small_settings(kind, "model=mlp", f"trainer.monitor={key}", *costs, *overrides)


@pytest.fixture(scope="module")
def pictures() -> dict[str, PictureData]:
    return {kind: open_data(kind) for kind in ("single", "multi", "ordinal")}


def trained(settings: RunSettings, data: PictureData) -> ClassificationTask:
    """A task whose answers are better than chance, and far from certain."""
    task = build_task(settings, data)
    torch.manual_seed(0)
    for parameter in task.evaluated.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return task.eval()


def validated(task: ClassificationTask, data: PictureData) -> dict[str, float]:
    with torch.inference_mode():
        for number, batch in enumerate(data.batches("val")):
            task.validation_step(batch, number)
    return task.totals["val"].read()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize(("kind", "key", "answer"), MONITORED)
def test_a_monitored_metric_is_that_of_the_summary_to_the_last_digit(
    kind: str, key: str, answer: str, grouped: bool, pictures: dict[str, PictureData]
) -> None:
    data = pictures[kind]
    data.groups = np.arange(len(data.pictures.targets)) // 2 if grouped else None
    data.costs = COSTS if key == "val/cost" or answer == COST else None
    settings = watching(kind, key, answer)
    task = trained(settings, data)
    found = validated(task, data)
    answers = predict(task, data.batches("val"), device=torch.device("cpu"))
    chosen_for = settings.data.chosen_for
    some = fixed_thresholds(settings.data.best_for, data.costs)
    if chosen_for is not None:  # which count for nothing: each picture is judged by those of others
        some = np.full(4, 0.25)
    expected = measure_part(data, "val", answers, some, chosen_for).metrics
    name = key.removeprefix("val/")
    assert found[name] == expected[key]
    others = found.keys() - {name, "loss"}
    assert {one: found[one] for one in others} == {o: expected[f"val/{o}"] for o in others}


def test_the_default_keeps_no_answers(pictures: dict[str, PictureData]) -> None:
    data = pictures["single"]
    for key in ("val/accuracy", "val/loss"):
        task = build_task(watching("single", key), data)
        assert validated(task, data).keys() == {"loss", "accuracy"}
        assert not hasattr(task.totals["val"], "_answers")


def test_there_is_no_auc_of_pictures_of_one_class(pictures: dict[str, PictureData]) -> None:
    data = pictures["single"]
    parts = np.where(data.pictures.targets == 0, PARTS.index("val"), data.split.parts)
    parts[(data.pictures.targets > 0) & (parts == PARTS.index("val"))] = PARTS.index("train")
    split = replace(data.split, parts=parts.astype(np.int8))
    lone = PictureData(data.pictures, split, batch_size=16, seed=0, workers=1)
    with pytest.raises(ConfigError, match=r"trainer\.monitor is val/auc.*no AUC"):
        build_task(watching("single", "val/auc"), lone)


PATHS = {
    "resident": [],
    "streaming": ["data.cache_limit_gb=0", "data.num_workers=1"],
    "averaged weights": ["trainer.ema_decay=0.5"],
    "a fold": ["cv.folds=3", "cv.fold=2"],
    "answers by thresholds": ["data.answer=balanced_accuracy"],
}


@pytest.mark.parametrize("key", ["auc", "val/cost"])
@pytest.mark.parametrize("path", PATHS)
def test_a_run_keeps_the_epoch_that_is_best_by_it(path: str, key: str, tmp_path: Path) -> None:
    digits = tuple(map(str, range(10)))
    costs = write_costs(tmp_path / "costs.csv", digits, 1 + np.arange(100).reshape(10, 10) % 7)
    curve: list[float] = []
    whole = f"val/{key.removeprefix('val/')}"
    settings = read_run_settings(
        [*SMALL, f"output_dir={tmp_path}", f"trainer.monitor={key}", f"costs={costs}", *PATHS[path]]
    )
    summary = run_experiment(settings, lambda _, metrics: curve.append(metrics[whole]))
    assert summary is not None and len(curve) == 3
    assert summary.metrics[whole] == curve[-1]
    best = torch.load(Path(summary.run_dir) / "checkpoints" / "best.ckpt", weights_only=True)
    best_of = max if direction_of(whole) == "maximize" else min
    assert best["callbacks"]["EpochKeeper"]["best_value"] == best_of(curve)
    assert best["epoch"] == curve.index(best_of(curve))


def test_a_fit_in_one_go_reports_what_its_summary_has(tmp_path: Path) -> None:
    reported: list[dict[str, float]] = []
    overrides = ["model=handcrafted", "model.features=[raw]", "data.answer=balanced_accuracy"]
    places = [f"output_dir={tmp_path}", "tracking=none", "tracking.figures=false"]
    settings = read_run_settings([*overrides, "model.classifier=nearest_mean", *places])
    summary = run_experiment(settings, lambda _, metrics: reported.append(metrics))
    assert summary is not None and len(reported) == 1
    measured = {key: value for key, value in summary.metrics.items() if key.startswith("val/")}
    assert reported[0] == measured
    assert measured["val/loss"] == measured["val/log_loss"]
    kept = Predictions.read(Path(summary.run_dir) / "predictions" / "val.parquet")
    auc = measure_interval(kept, Measure("auc"))
    ends = [measured[f"val/{name}"] for name in ("auc_low", "auc", "auc_high")]
    assert ends == [auc.low, measured["val/auc"], auc.high] and ends == sorted(ends)


def test_a_plugins_metric_is_monitored(
    pictures: dict[str, PictureData], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def surest(probs: np.ndarray, targets: np.ndarray) -> float:
        calls.append(len(targets))
        return float(probs.max(axis=1).mean())

    for known in ("METRICS", "_PLUGIN_METRICS"):
        monkeypatch.setattr(metrics, known, dict(getattr(metrics, known)))
    metrics.metric("surest", "maximize")(surest)
    data = pictures["single"]
    task = trained(watching("single", "surest"), data)
    task.totals = trained(watching("single", "val/surest"), data).totals
    found = validated(task, data)
    probs, targets, _ = predict(task, data.batches("val"), device=torch.device("cpu"))
    assert found["surest"] == surest(probs, targets) and calls[0] == len(targets)
    calls.clear()
    validated(trained(watching("single", "val/auc"), data), data)
    assert not calls  # it may take long


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.monitor=cost"], "trainer.monitor is cost.*set costs=FILE.csv"),
        (["costs=costs.csv", "data.target=multi"], "costs is given, but data.target is multi"),
        (["trainer.monitor=cost/latency_ms"], "it must be one of auto, accur"),
        (["trainer.monitor=val/map"], "not measured with .* one of auto, accuracy"),
        (["trainer.monitor=kapa", "data.target=ordinal"], "did you mean kappa"),
        (["costs=nowhere.csv"], "costs: nowhere.csv does not exist"),
    ],
)
def test_what_cannot_be_monitored_is_refused_in_one_sentence(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run_experiment(read_run_settings([*SMALL, f"output_dir={tmp_path}", *overrides]))
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.glob("runs/*"))
