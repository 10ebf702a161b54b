"""Folders of runs that nobody trained, with everything in them that readers of runs look at."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from src.config.checks import to_plain
from src.config.compose import read_run_settings
from src.config.tracking import TrackingSettings
from src.data.quality.audit import content_hash
from src.data.sources.source import Source
from src.data.splitting.splits import make_split
from src.metrics.summary import metric_key, scalar_metrics
from src.records.run import Predictions, RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import seal
from src.tracking.tracker import Tracker

__all__ = ["FAMILIES", "write_runs"]

# By family: how good its best settings are, in standard deviations, and its cost per picture in ms.
FAMILIES = {"cnn": (1.75, 1.1), "vit": (1.55, 2.4), "fcn": (1.6, 0.7), "mlp": (1.35, 0.08)}
_EPOCHS = 10
_SHARPNESS = 3.0


def write_runs(
    output_dir: Path, source: Source, count: int, repeated: int = 50, seed: int = 0
) -> Iterator[RunFolder]:
    """Write `count` run folders on the validation part of `source`.

    Args:
        output_dir: where to.
        source: N pictures, with or without parts of their own.
        count: of runs.
        repeated: configurations that are there with three seeds; all others are there once.
        seed: of everything that is drawn.
    """
    generator = np.random.default_rng(seed)
    split = _Split(source, output_dir)
    difficulty = generator.standard_normal(len(split.val))
    by_family = {name: generator.standard_normal(len(split.val)) for name in FAMILIES}
    composed = {name: to_plain(read_run_settings([f"model={name}"])) for name in FAMILIES}
    names = list(FAMILIES)
    written = 0
    for number in itertools.count():
        family = names[number % len(names)]
        skill, latency_ms = FAMILIES[family]
        plain = copy.deepcopy(composed[family])
        plain["data"] |= {"name": source.name, "_target_": f"src.data.sources.{source.name}.load"}
        learning_rate = float(10 ** generator.uniform(-3.5, -1))
        plain["optimizer"]["lr"] = float(f"{learning_rate:.6g}")
        plain["optimizer"]["weight_decay"] = float(f"{generator.uniform(0, 0.1):.6g}")
        plain["loss"]["label_smoothing"] = float(generator.choice([0.0, 0.05, 0.1]))
        own = 0.5 * generator.standard_normal(len(split.val))
        hard = 0.8 * difficulty + 0.45 * by_family[family] + own
        quality = skill - 0.15 * (np.log10(learning_rate) + 2) ** 2
        for repeat in range(3 if number < repeated else 1):
            if written == count:
                return
            luck = 0.35 * generator.standard_normal(len(split.val)) + 0.01 * generator.normal()
            plain["seed"] = repeat
            margin = quality + luck - hard
            yield _write(output_dir, plain, source, split, margin, latency_ms, generator)
            written += 1


class _Split:
    """Which pictures are validated on, and the manifest, written once and linked by every run."""

    def __init__(self, source: Source, folder: Path) -> None:
        rows = source.arrays if source.arrays is not None else source.targets[:, None]
        hashes = np.array([content_hash(np.ascontiguousarray(row)) for row in rows])
        given = None if source.given_parts is None else source.given_parts.tolist()
        split = make_split(
            source.targets, hashes, seed=0, val_fraction=0.1, test_fraction=0.1,
            given_parts=given, groups=None, on_duplicates="drop", names=source.sample_paths,
        )  # fmt: skip
        self.val, self.fingerprint = split.val, split.fingerprint
        self.manifest = folder / "split.csv"
        folder.mkdir(parents=True, exist_ok=True)
        split.write(self.manifest)


def _write(
    output_dir: Path,
    plain: Mapping[str, Any],
    source: Source,
    split: _Split,
    margin: NDArray[np.float64],
    latency_ms: float,
    generator: np.random.Generator,
) -> RunFolder:
    model = plain["model"]["name"]
    folder = RunFolder.create(output_dir, model, source.name)
    folder.config.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    os.link(split.manifest, folder.split)
    targets = source.targets[split.val]
    probs = _probabilities(margin, targets, len(source.class_names), generator)
    paths = source.sample_paths
    Predictions(
        split.val,
        None if paths is None else tuple(paths[i] for i in split.val.tolist()),
        targets,
        probs,
        source.class_names,
    ).write(folder.predictions / "val.parquet")
    scores = scalar_metrics(probs, targets, source.class_names)
    metrics = {metric_key("val", name): value for name, value in scores.items()}
    metrics |= {"cost/latency_ms": latency_ms * generator.uniform(0.8, 1.3)}
    metrics |= {"cost/training_seconds": 60 * generator.uniform(0.5, 2) * latency_ms}
    metrics |= {"cost/parameters": 1e5 * latency_ms}
    tracker = Tracker.start(
        folder.path, TrackingSettings(enabled=False, system_metrics_seconds=None),
        output_dir=output_dir, run_id=folder.run_id, run_name=folder.name,
    )  # fmt: skip
    tracker.params(plain)
    for epoch in range(1, _EPOCHS + 1):
        share = 1 - np.exp(-epoch / 2)
        curve = {"val/accuracy": share * metrics["val/accuracy"], "val/loss": 2 - share}
        tracker.metrics(curve, step=epoch)
    tracker.metrics({k: v for k, v in metrics.items() if k not in curve}, step=0, final=True)
    tracker.finish("FINISHED")
    RunSummary(
        run_id=folder.run_id,
        status="FINISHED",
        name=folder.name,
        model=model,
        data=source.name,
        seed=plain["seed"],
        split_fingerprint=split.fingerprint,
        metrics=metrics,
        num_parameters=int(metrics["cost/parameters"]),
        duration_seconds=metrics["cost/training_seconds"] + 5,
        run_dir=str(folder.path),
        command=f"python -m src.train model={model} seed={plain['seed']}",
    ).write(folder.summary)
    seal(folder.path, run_id=folder.run_id, name=folder.name)
    return folder


def _probabilities(
    margin: NDArray[np.float64],
    targets: NDArray[np.int64],
    classes: int,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """(N, K): right where the margin is above 0, and the surer the larger it is."""
    logits = generator.standard_normal((len(targets), classes)).astype(np.float32)
    rows = np.arange(len(targets))
    logits[rows, targets] = -np.inf
    logits[rows, targets] = logits.max(axis=1) + _SHARPNESS * margin
    logits -= logits.max(axis=1, keepdims=True)
    likelihood: NDArray[np.float32] = np.exp(logits)
    return (likelihood / likelihood.sum(axis=1, keepdims=True)).astype(np.float32)
