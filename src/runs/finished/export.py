"""A trained network's exported variants: made, checked against it, timed, and one chosen."""

from __future__ import annotations

import importlib.util
import logging
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...config.checks import ConfigError
from ...config.finished import ORIGINAL, ExportSettings
from ...config.plugins import plugin_overrides
from ...data.loading.datamodule import PictureData
from ...machine.package import command
from ...records.export import ExportRecord, VariantRecord
from ...records.pictures import Pixels
from ...records.run import RunSummary
from ...reporting.formatting import duration
from ...serving.bundle_writing import write_exported_bundle
from ...serving.export_formats import (
    CannotExport,
    exportable,
    outputs_note,
    traced,
    write_int8,
    write_onnx,
    write_pt2,
)
from ...serving.exported import ONNX_FILE, PT2_FILE, Logits, linked, open_logits
from ...serving.variant_choice import agreement, fastest_within, ratios, times_in_turns
from ...serving.whole_network import WholeNetwork
from ...storage.files import write_atomically
from ...targets import kind_of
from ...tracking.addresses import serve_command
from ...training.inference import autocast
from ...training.links import link_of
from ..candidates.network import TrainedNetwork
from ..folder import RunFolder
from ..seal import amending
from .evaluate import Revisited, reopen, revisit

__all__ = ["export_run"]

_log = logging.getLogger(__name__)
# What is said of a variant before it is made, which takes longest.
_EFFORT = {
    "onnx": "seconds, for a large network a minute",
    "int8": "up to some minutes, for its ranges come from training pictures",
    "pt2": "compiled in a minute or two",
}
_EXTRA = ("onnx", "onnxruntime", "onnxscript")
_AT_ONCE = 64
_TRIED = 8  # pictures that the expected time is measured with
_BYTES_PER_MB = 1e6
_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class _Model:
    """A model, the size of its file or weights, and the digest of its bundle."""

    logits: Logits
    size_mb: float
    digest: str | None = None


def export_run(
    folder: RunFolder, checkpoint: Path, settings: ExportSettings
) -> tuple[ExportRecord, str | None]:
    """Write the variants into the run's `exports` folder, and log the chosen one to MLflow.

    The variants of an earlier export are replaced. Everything is computed on the CPU.

    Returns:
        their comparison, and the command that serves the chosen one; None where MLflow does not
        have it (yet), or where the original is the choice.

    Raises:
        ConfigError: the run cannot be exported, or its pictures are not there any more.
    """
    needing = [name for name in settings.variants if name != "pt2"]
    if needing and not all(map(importlib.util.find_spec, _EXTRA)):
        raise ConfigError(
            f"variants: {' and '.join(needing)} need onnx, onnxruntime and onnxscript: "
            "make install EXTRAS=export (or say variants=[pt2])."
        )
    again = revisit(folder, checkpoint)
    trained, data = again.trained, again.data
    if kind_of(data.pictures.kind).pixels:
        raise ConfigError(
            f"run: {folder.name} gives each pixel a class, and only networks that label whole "
            "pictures are exported: use the run as it is, or its bundle "
            f"({folder.path / 'model'})."
        )
    if not isinstance(trained, TrainedNetwork):
        raise ConfigError(_not_exportable(folder, again))
    network = exportable(trained.task.evaluated, trained.metadata)
    size = sum(tensor.nbytes for tensor in network.state_dict().values()) / _BYTES_PER_MB
    models = {ORIGINAL: _Model(eager(network), size)}
    if trained.precision != "float32":
        models[f"{ORIGINAL} {trained.precision}"] = _Model(eager(network, trained.precision), size)
    seconds = _expected_seconds(models[ORIGINAL].logits, settings, data, len(models))
    _log.info(
        "export: some %s to compare and to time, by what a few pictures take now, after %s",
        duration(seconds),
        ", ".join(f"{name} ({_EFFORT[name]})" for name in settings.variants),
    )
    # Contiguous whatever the run's layout: ONNX has none, and .pt2 stores no other completely.
    plain = exportable(trained.task.evaluated, trained.metadata, "contiguous")
    with amending(folder.path, f"{folder.exports.name}/*"):
        shutil.rmtree(folder.exports, ignore_errors=True)
        made, missing = _made(again, settings, plain)
        if settings.choose in missing:
            raise ConfigError(f"choose is {settings.choose}: {missing[settings.choose]}.")
        record = _compared(settings, {**models, **made}, missing, data, trained.metadata)
        write_atomically(folder.exports / "export.json", record.text())
    if record.chosen is None:
        return record, None
    return record, _logged(again, settings, record.chosen, made[record.chosen])


def _expected_seconds(
    logits: Logits, settings: ExportSettings, data: PictureData, originals: int
) -> float:
    """Return about how long calibrating, comparing and timing take, were all as fast as PyTorch.

    Args:
        logits: of the network as it was trained.
        settings: of the export.
        data: the run's pictures.
        originals: models beside the variants.
    """
    images = _pictures(data, _spread(data.split.train, _TRIED))
    logits(images)  # the first call also allocates
    began = time.perf_counter()
    logits(images)
    each = (time.perf_counter() - began) / len(images)
    compared = min(len(data.split.val) or len(data.split.train), settings.check_pictures)
    timed = settings.rounds * sum(settings.batch_sizes)
    passes = (originals + len(settings.variants)) * (compared + timed)
    if "int8" in settings.variants:
        passes += min(settings.calibration_pictures, len(data.split.train))
    return each * passes


def _not_exportable(folder: RunFolder, again: Revisited) -> str:
    """Return why a run that is no network is not exported, and what serves it instead."""
    where = [] if folder.output_dir == Path("outputs").absolute() else [str(folder.output_dir)]
    place = [*plugin_overrides(), *(f"output_dir={one}" for one in where)]
    label = command("predict", f"run={folder.name}", "images=FOLDER", "out=labels.csv", *place)
    best = command("compare", *place)
    return (
        f"run: {folder.name} ({again.settings.model.name}) is no single network, and only networks "
        f"are exported. It labels pictures as it is, on any machine with its bundle "
        f"({folder.path / 'model'}): {label}; for ONNX or int8, export the best network that "
        f"{best} lists."
    )


def eager(network: WholeNetwork, precision: str = "float32") -> Logits:
    """Return the network computed by PyTorch, operation by operation, on the CPU."""

    def logits(images: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(torch.device("cpu"), precision):
            found: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return found

    return logits


def _made(
    again: Revisited, settings: ExportSettings, network: WholeNetwork
) -> tuple[dict[str, _Model], dict[str, str]]:
    """Return the variants, and why others cannot be made, by name."""
    data, metadata = again.data, again.trained.metadata
    example = data.pictures.read(int(data.split.train[0]))
    models: dict[str, _Model] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        for name in settings.variants:
            bundle = again.folder.exports / name
            _log.info("export: writing %s", name)
            try:
                count = settings.calibration_pictures
                file = _written(name, Path(place), network, metadata, data, count)
                digest = write_exported_bundle(bundle, file, {**metadata, "variant": name}, example)
                size = file.stat().st_size / _BYTES_PER_MB
                models[name] = _Model(_opened(bundle, example), size, digest)
            except CannotExport as error:
                shutil.rmtree(bundle, ignore_errors=True)
                missing[name] = str(error)
    return models, missing


def _written(
    name: str,
    folder: Path,
    network: WholeNetwork,
    metadata: Mapping[str, Any],
    data: PictureData,
    calibration: int,
) -> Path:
    """Write the file of a variant; int8 is made from the ONNX file. CannotExport where it fails."""
    shape, note = (data.pictures.channels, *data.pictures.image_size), outputs_note(metadata)
    # Traced for each variant: the exporters change the graph.
    program = traced(network, shape, data.pictures.format.dtype)
    if name == "pt2":
        write_pt2(program, folder / PT2_FILE, note)
        return folder / PT2_FILE
    file = folder / ONNX_FILE
    if not file.is_file():
        write_onnx(program, file, note)
    if name == "onnx":
        return file
    quantised = folder / f"{name}.onnx"
    write_int8(file, quantised, [*_pictures(data, _spread(data.split.train, calibration))])
    return quantised


def _opened(bundle: Path, example: Pixels) -> Logits:
    """Return the bundle's network, checked with batches of two sizes."""
    try:
        logits = open_logits(bundle, threads=torch.get_num_threads())
        assert logits is not None
        for count in (1, 3):
            if not np.isfinite(logits(np.stack([example] * count))).all():
                raise ValueError("its outputs are not finite (NaN or infinity)")
    except Exception as error:  # each format has exceptions of its own
        raise CannotExport(error) from error
    return logits


def _compared(
    settings: ExportSettings,
    models: Mapping[str, _Model],
    missing: Mapping[str, str],
    data: PictureData,
    metadata: Mapping[str, Any],
) -> ExportRecord:
    part = "val" if len(data.split.val) else "train"
    ids = _spread(getattr(data.split, part), settings.check_pictures)
    outputs: dict[str, list[NDArray[np.float32]]] = {name: [] for name in models}
    listed = ", ".join(models)
    _log.info("export: comparing %s on %d pictures", listed, len(ids))
    began = said = time.monotonic()
    for start in range(0, len(ids), _AT_ONCE):
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            left = (said - began) * (len(ids) - start) / start if start else math.nan
            _log.info("export: %d of %d pictures, %.0f s left", start, len(ids), left)
        images = _pictures(data, ids[start : start + _AT_ONCE])
        for name, model in models.items():
            outputs[name].append(model.logits(images))
    logits = {name: np.concatenate(rows) for name, rows in outputs.items()}
    targets = data.pictures.targets[ids]
    seconds = {}
    for size in settings.batch_sizes:
        _log.info("export: timing them in turns, %d times, with %d pictures", settings.rounds, size)
        images = _pictures(data, np.resize(ids, size))
        calls = {name: partial(model.logits, images) for name, model in models.items()}
        seconds[size] = times_in_turns(calls, settings.rounds)

    kind, thresholds = kind_of(data.pictures.kind), metadata.get("thresholds")

    def decide(found: NDArray[np.floating]) -> NDArray[np.integer]:
        return kind.decide(linked(found, link_of(metadata)), thresholds)

    def row(name: str, model: _Model) -> VariantRecord:
        largest, equal = agreement(logits[ORIGINAL], logits[name], decide)
        speedup = {size: ratios(found[ORIGINAL], found[name]) for size, found in seconds.items()}
        return VariantRecord(
            name=name,
            size_mb=model.size_mb,
            largest_difference=largest,
            equal_labels=equal,
            accuracy=float(kind.right(decide(logits[name]), targets).mean()),
            milliseconds={size: 1e3 * statistics.median(f[name]) for size, f in seconds.items()},
            speedup={s: (statistics.median(r), min(r), max(r)) for s, r in speedup.items()},
        )

    rows = tuple(row(name, model) for name, model in models.items())
    first = settings.batch_sizes[0]
    best = fastest_within(
        {row.name: row.milliseconds[first] for row in rows},
        {row.name: row.equal_labels for row in rows},
        settings.least_equal,
        ORIGINAL,
    )
    recommended = best if best in settings.variants else None
    chosen = settings.choose or recommended
    return ExportRecord(
        variants=rows,
        missing=dict(missing),
        part=part,
        pictures=len(ids),
        threads=torch.get_num_threads(),
        least_equal=settings.least_equal,
        recommended=recommended,
        chosen=None if chosen == ORIGINAL else chosen,
    )


def _logged(again: Revisited, settings: ExportSettings, name: str, model: _Model) -> str | None:
    """Log the variant to MLflow, beside the run's own model; return the command that serves it."""
    folder = again.folder
    if not folder.summary.is_file() or model.digest is None:
        return None
    summary = RunSummary.read(folder.summary)
    tracker = reopen(folder, again.settings, summary, settings.tracking.uri)
    tracker.artifact(folder.exports / "export.json", "exports")
    tracker.model(folder.exports / name, model.digest, name)
    tracked_as = tracker.finish(summary.status, summary.reason)
    if tracked_as is None:
        return None
    place = settings.tracking.uri or again.settings.tracking.uri
    return serve_command(f"runs:/{tracked_as}/{name}", place, folder.output_dir)


def _pictures(data: PictureData, ids: NDArray[np.int64]) -> Pixels:
    return np.stack([data.pictures.read(int(i)) for i in ids])


def _spread(ids: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many ids, evenly spaced, so that sorted classes keep their shares."""
    return ids if len(ids) <= most else ids[np.arange(most) * len(ids) // most]
