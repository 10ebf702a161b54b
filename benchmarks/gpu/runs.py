"""Promises of a run, on a GPU: equal repeats, resuming, exports, and metrics of the device."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.commands import python, trained_in
from benchmarks.table import Row
from src.machine.subprocesses import ROOT
from src.records.run import Predictions
from src.runs.folder import RunFolder
from src.serving.bundle_files import model_file
from src.serving.exported import open_logits
from src.training.checkpoints import read_checkpoint

__all__ = ["determinism", "exports", "resume", "system_metrics"]

_SMALL = ("data=digits", "model=cnn", "runtime=bfloat16", "evaluate_test=false")
_QUIET = ("tracking=none", "tracking.figures=false", "tracking.log_model=false")
_LEAST_EQUAL = 0.99
# ONNX needs the extra `export`.
_VARIANTS = (*(("onnx",) if importlib.util.find_spec("onnxruntime") else ()), "pt2")


def determinism(
    device: torch.device, folder: Path, *, overrides: Sequence[str] = _SMALL, epochs: int = 5
) -> Iterator[Row]:
    """Two runs of one command: their weights and predictions, bit for bit.

    Args:
        device: of the trainings.
        folder: for the runs.
        overrides: overrides of the runs.
        epochs: of each.
    """
    given = [*overrides, *_QUIET, f"trainer.max_epochs={epochs}", _accelerator(device)]
    first, second = (_trained(folder / name, given) for name in ("first", "second"))
    different = _different(first, second)
    yield Row(
        f"two runs of {epochs} epochs with trainer.deterministic: tensors that differ",
        f"{len(different)}" + "".join(f"; {name}" for name in different[:3]),
        "none",
        not different,
    )


def resume(
    device: torch.device, folder: Path, *, overrides: Sequence[str] = _SMALL, epochs: int = 12
) -> Iterator[Row]:
    """A run that is killed after its second epoch and resumed, against an undisturbed one.

    Args:
        device: of the trainings.
        folder: for the runs.
        overrides: overrides of the runs.
        epochs: of each.
    """
    given = [*overrides, *_QUIET, f"trainer.max_epochs={epochs}", _accelerator(device)]
    undisturbed = _trained(folder / "undisturbed", given)
    killed = folder / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", *given, f"output_dir={killed}"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = 0
    for line in process.stderr:
        lines += line.startswith("epoch")
        if lines == 2:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    process.wait()
    (place,) = (killed / "runs").iterdir()
    before = read_checkpoint(place / "checkpoints" / "last.ckpt")["epoch"] + 1
    python("-m", "src.train", f"resume={place}")
    different = _different(undisturbed, RunFolder.open(place))
    yield Row(
        f"a run killed after epoch {before} of {epochs} and resumed: tensors that differ",
        f"{len(different)}" + "".join(f"; {name}" for name in different[:3]),
        "none, killed before its end",
        not different and process.returncode == -signal.SIGKILL,
    )


def exports(
    device: torch.device,
    folder: Path,
    *,
    overrides: Sequence[str] = _SMALL,
    epochs: int = 5,
    variants: Sequence[str] = _VARIANTS,
) -> Iterator[Row]:
    """Labels of exported variants against those that the device gave to the validation part.

    Args:
        device: of the training.
        folder: for the run.
        overrides: overrides of the run.
        epochs: of it.
        variants: to export.
    """
    given = [*overrides, "tracking=none", "tracking.figures=false", f"trainer.max_epochs={epochs}"]
    run = _trained(folder / "exported", [*given, "trainer.tta=none", _accelerator(device)])
    python("-m", "src.export", f"run={run.path}", f"variants=[{','.join(variants)}]")
    record = json.loads((run.exports / "export.json").read_text())
    known = Predictions.read(run.predictions / "val.parquet")
    pictures = _pictures(run, known.sample_ids)
    for name in variants:
        bundle = run.exports / name
        if not bundle.exists():
            yield Row(f"exported as {name}", f"skipped: {record['missing'].get(name)}", "", None)
            continue
        logits = open_logits(bundle / model_file(bundle), 1)
        share = float((logits(pictures).argmax(1) == known.probs.argmax(1)).mean())
        yield Row(
            f"labels of the variant {name} that are those of the training's device",
            f"{100 * share:.2f} % of {len(pictures)}",
            f"at least {100 * _LEAST_EQUAL:.0f} %",
            share >= _LEAST_EQUAL,
        )


def system_metrics(
    device: torch.device, folder: Path, *, overrides: Sequence[str] = _SMALL, epochs: int = 30
) -> Iterator[Row]:
    """System metrics of the device that MLflow has of a run.

    Args:
        device: of the training.
        folder: for the run.
        overrides: overrides of the run.
        epochs: of it; it must take longer than a second.
    """
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    given = [*overrides, "tracking=mlflow", f"tracking.uri={uri}", f"trainer.max_epochs={epochs}"]
    run = _trained(folder / "tracked", [*given, _accelerator(device)])
    python("-m", "src.tracking.replay", f"output_dir={folder / 'tracked'}", f"tracking.uri={uri}")
    client = MlflowClient(tracking_uri=uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    (tracked,) = client.search_runs(ids, "tags.`bakeoff.run_id` = '" + run.run_id + "'")
    wanted = "system/gpu_0_" if device.type == "cuda" else "system/cpu_"
    found = {k: v for k, v in tracked.data.metrics.items() if k.startswith(wanted)}
    shown = ", ".join(f"{key.removeprefix('system/')} {value:g}" for key, value in found.items())
    yield Row(
        f"metrics of the {device.type} in MLflow",
        shown or "none",
        "utilization and memory",
        any("utilization" in key for key in found),
    )


def _trained(output_dir: Path, overrides: Sequence[str]) -> RunFolder:
    return RunFolder.open(trained_in(output_dir, *overrides))


def _accelerator(device: torch.device) -> str:
    return f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}"


def _different(one: RunFolder, other: RunFolder) -> list[str]:
    """Return what differs: tensors of the last checkpoints, and the probabilities of pictures."""
    states: list[dict[str, Any]] = [
        read_checkpoint(run.checkpoints / "last.ckpt")["state_dict"] for run in (one, other)
    ]
    names = sorted(states[0].keys() | states[1].keys())
    found = [n for n in names if not _equal(states[0].get(n), states[1].get(n))]
    probs = [Predictions.read(run.predictions / "val.parquet").probs for run in (one, other)]
    return found + ([] if np.array_equal(probs[0], probs[1]) else ["probabilities"])


def _equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return type(one) is type(other) and one == other  # a count of steps


def _pictures(run: RunFolder, ids: Any) -> Any:
    """Return the pictures (N, C, H, W) uint8 of a run by their sample ids."""
    from src.runs.finished.evaluate import revisit

    pictures = revisit(run, run.chosen_checkpoint()).data.pictures
    return np.stack([pictures.read(int(index)) for index in ids])
