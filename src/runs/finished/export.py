"""A trained model's exported variants: made, checked against it, timed, and one chosen."""

from __future__ import annotations

import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config.checks import ConfigError, input_of
from ...config.finished import ORIGINAL, ExportSettings
from ...config.schema import RunSettings
from ...data.decoding.windows import window_places
from ...data.loading.picture_data import PictureData
from ...machine.arrays import Int64Array, IntegerArray
from ...machine.status import with_progress
from ...machine.text import counted, duration
from ...records.export import OF_MASKS, ExportRecord, VariantRecord
from ...records.pictures import Pixels
from ...records.run import RunSummary
from ...reporting.export_report import with_exported
from ...serving.bundle_files import model_file
from ...serving.bundle_writing import write_exported_bundle
from ...serving.export_formats import VARIANTS, CannotExport, ExportSource, outputs_note, traced
from ...serving.exported import Logits, open_logits
from ...serving.variant_choice import fastest_within, pictures_timed, speedups, times_in_turns
from ...serving.variant_figures import LabelFigures, variant_figures
from ...storage.files import write_atomically
from ...storage.locks import alone
from ...targets import kind_of
from ...tracking.addresses import serve_command
from ..folder import RunFolder
from ..seal import amending
from .evaluate import Revisited, reopen, revisit

__all__ = ["export_run"]

_log = logging.getLogger(__name__)
# Number of pictures that are compared at once, with a label or a mask each.
_LABELS_AT_ONCE, _MASKS_AT_ONCE = 64, 8
# Steps down and across of Roberts' sequence R2, which is spread evenly over a square.
_R2 = (0.7548776662466927, 0.5698402909980532)
_PICTURES_TIMED = 8  # pictures that the expected time is measured with
_BYTES_PER_MB = 1e6


@dataclass(frozen=True)
class _Variant:
    """A model, the size of its file or weights, and the digest of its bundle."""

    logits: Logits
    size_mb: float
    digest: str | None = None


def export_run(
    folder: RunFolder, checkpoint: Path, settings: ExportSettings
) -> tuple[ExportRecord, str | None]:
    """Write the variants into the run's `exports` folder, and log the chosen one to MLflow.

    To be called after `refuse_export`. The variants of an earlier export are replaced at the end.
    Everything is computed on the CPU.

    Returns:
        their comparison, and the command that serves the chosen one; None where MLflow does not
        have it (yet), or where the original is the choice.

    Raises:
        ConfigError: the chosen variant cannot be made, or the pictures have changed.
    """
    again = revisit(folder, checkpoint)
    data = again.data
    with input_of("run"):
        source = again.trained.export_source()
    size = sum(tensor.nbytes for tensor in source.network.state_dict().values()) / _BYTES_PER_MB
    models = {name: _Variant(logits, size) for name, logits in source.originals.items()}
    seconds = _expected_seconds(models[ORIGINAL].logits, settings, data, len(models))
    _log.info(
        "export: some %s to compare and to time, by what a few pictures take now, after %s",
        duration(seconds),
        ", ".join(f"{name} ({VARIANTS[name].effort})" for name in settings.variants),
    )
    with _replacing(folder) as place:
        made, missing = _made(source, settings, data, place)
        if settings.choose in missing:
            raise ConfigError(f"choose is {settings.choose}: {missing[settings.choose]}.")
        every, judged_by = {**models, **made}, _judged_by(again.settings)
        record = _compared(settings, judged_by, every, missing, data, source.metadata)
        write_atomically(place / "export.json", record.text())
    if folder.model_card.is_file():
        with amending(folder.path, updated=[folder.model_card.name]):
            card = folder.model_card.read_text(encoding="utf-8")
            write_atomically(folder.model_card, with_exported(card, record))
    if record.chosen is None:
        return record, None
    return record, _logged(again, settings, record.chosen, made[record.chosen])


@contextmanager
def _replacing(folder: RunFolder) -> Iterator[Path]:
    """Yield a folder that takes the place of the earlier exports if the block ends as it should.

    A process that is killed between the two renames leaves the earlier ones aside, and
    `RunFolder.open` puts them back.

    Raises:
        ConfigError: another process is exporting the run.
    """
    place, old = folder.exports, folder.earlier_exports
    new = place.with_name(f".{place.name}-new")
    with alone(folder.exports_lock, f"run: {folder.name} is being exported"):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        try:
            yield new
            with amending(folder.path, f"{place.name}/*"):
                shutil.rmtree(old, ignore_errors=True)
                if place.is_dir():
                    place.rename(old)
                new.rename(place)
                shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(new, ignore_errors=True)


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
    images = _pictures(data, data.split.sample("train", _PICTURES_TIMED))
    logits(images)  # the first call also allocates
    began = time.perf_counter()
    logits(images)
    each = (time.perf_counter() - began) / len(images)
    ids = _compared_ids(data, settings)
    compared = len(ids)
    if data.pictures.format.windowed:
        sizes, window = data.pictures.array_sizes[ids].tolist(), data.pictures.image_size
        compared += sum(len(window_places(size, window)) for size in sizes)
    timed = pictures_timed(each, _batch_sizes(data, settings), settings.rounds)
    passes = (originals + len(settings.variants)) * (compared + timed)
    calibrated = sum(VARIANTS[name].calibrated for name in settings.variants)
    passes += calibrated * min(settings.calibration_pictures, len(data.split.train))
    return each * passes


def _made(
    source: ExportSource, settings: ExportSettings, data: PictureData, place: Path
) -> tuple[dict[str, _Variant], dict[str, str]]:
    """Return the variants, whose bundles are in `place`, and why others cannot be made, by name."""
    example = _pictures(data, data.split.train[:1])[0]
    models: dict[str, _Variant] = {}
    missing: dict[str, str] = {}
    # Elsewhere, for torch aborts the process where the disk that it writes a pt2 to is full.
    with tempfile.TemporaryDirectory() as files:
        for name in settings.variants:
            bundle = place / name
            _log.info("export: writing %s", name)
            try:
                count = settings.calibration_pictures
                file = _written(name, Path(files), source, data, calibration=count)
                metadata = {**source.metadata, "variant": name}
                digest = write_exported_bundle(bundle, file, metadata, example)
                size = file.stat().st_size / _BYTES_PER_MB
                models[name] = _Variant(_opened(bundle, example), size, digest)
            except CannotExport as error:
                shutil.rmtree(bundle, ignore_errors=True)
                missing[name] = str(error)
    return models, missing


def _written(
    name: str, folder: Path, source: ExportSource, data: PictureData, *, calibration: int
) -> Path:
    """Write the file of a variant. CannotExport where it fails."""
    shape, note = (data.pictures.channels, *data.pictures.image_size), outputs_note(source.metadata)
    # Traced for each variant: the exporters change the graph.
    program = traced(source.network, shape, data.pictures.format.dtype)

    def pictures() -> list[Pixels]:
        return [*_pictures(data, data.split.sample("train", calibration))]

    return VARIANTS[name].write(program, folder, note, pictures)


def _opened(bundle: Path, example: Pixels) -> Logits:
    """Return the bundle's network, checked with batches of two sizes."""
    try:
        logits = open_logits(bundle / model_file(bundle), threads=torch.get_num_threads())
        for count in (1, 3):
            if not np.isfinite(logits(np.stack([example] * count))).all():
                raise ValueError("its outputs are not finite (NaN or infinity)")
    except Exception as error:  # each format has exceptions of its own
        raise CannotExport(error) from error
    return logits


def _judged_by(settings: RunSettings) -> str:
    """Return the plain name of the metric that judges a run.

    That is what its single answers are best for, or what was watched in its training, or the usual
    one of its kind.
    """
    kind, data = kind_of(settings.data.target), settings.data
    if kind.pixels:
        return kind.primary
    if not kind.sets and data.best_for is not None:
        return str(data.best_for)
    watched = settings.trainer.monitor.removeprefix("val/")
    watched = "log_loss" if watched == "loss" else watched
    known = set(kind.measures) - {"cost"}  # whose table a run with other answers does not keep
    return watched if watched in known else kind.primary


def _compared(
    settings: ExportSettings,
    metric: str,
    models: Mapping[str, _Variant],
    missing: Mapping[str, str],
    data: PictureData,
    metadata: Mapping[str, Any],
) -> ExportRecord:
    ids = _compared_ids(data, settings)
    calls = {name: model.logits for name, model in models.items()}
    _log.info("export: comparing %s on %s", ", ".join(models), counted(len(ids), "picture"))
    figures = variant_figures(metadata, metric)
    _add_pictures(figures, calls, data, ids)
    seconds = _timed(settings, calls, data, ids)

    def row(name: str, model: _Variant) -> VariantRecord:
        compared = figures.of(name)
        speedup = {size: speedups(found[ORIGINAL], found[name]) for size, found in seconds.items()}
        return VariantRecord(
            name=name,
            size_mb=model.size_mb,
            largest_difference=compared.largest_difference,
            equal_labels=compared.equal,
            accuracy=compared.accuracy,
            milliseconds={size: 1e3 * statistics.median(f[name]) for size, f in seconds.items()},
            speedup={s: (statistics.median(r), min(r), max(r)) for s, r in speedup.items()},
            figure=compared.figure,
        )

    rows = tuple(row(name, model) for name, model in models.items())
    first = _batch_sizes(data, settings)[0]
    best = fastest_within(
        {row.name: row.milliseconds[first] for row in rows},
        {row.name: row.agreement(rows[0], masks=metric == OF_MASKS) for row in rows},
        settings.least_equal,
        ORIGINAL,
    )
    recommended = best if best in settings.variants else None
    chosen = settings.choose or recommended
    return ExportRecord(
        variants=rows,
        metric=metric,
        missing=dict(missing),
        part="val" if len(data.split.val) else "train",
        pictures=len(ids),
        threads=torch.get_num_threads(),
        least_equal=settings.least_equal,
        recommended=recommended,
        chosen=None if chosen == ORIGINAL else chosen,
    )


def _timed(
    settings: ExportSettings, calls: Mapping[str, Logits], data: PictureData, ids: Int64Array
) -> dict[int, dict[str, list[float]]]:
    """Return the seconds of a call in each round, by the number of pictures and the model."""
    seconds = {}
    for size in _batch_sizes(data, settings):
        _log.info("export: timing them in turns, %d times, %d at once", settings.rounds, size)
        images = _pictures(data, np.resize(ids, size))
        turns = {name: partial(logits, images) for name, logits in calls.items()}
        seconds[size] = times_in_turns(turns, settings.rounds)
    return seconds


def _add_pictures(
    figures: LabelFigures, calls: Mapping[str, Logits], data: PictureData, ids: Int64Array
) -> None:
    """Add what models answer about pictures to their figures."""
    at_once = _at_once(data)
    starts = range(0, len(ids), at_once)
    for start in with_progress(starts, len(ids), "pictures compared", lambda _: at_once):
        some = ids[start : start + at_once].tolist()
        images = np.stack([data.pictures.read(i) for i in some])
        figures.add(calls, images, _targets(data, some))


def _logged(again: Revisited, settings: ExportSettings, name: str, model: _Variant) -> str | None:
    """Log the variant to MLflow, beside the run's own model; return the command that serves it."""
    folder = again.folder
    if not folder.summary.is_file() or model.digest is None:
        return None
    summary = RunSummary.read(folder.summary)
    tracker = reopen(folder, again.settings, summary, settings.tracking.uri)
    tracker.artifact(folder.exports / "export.json", "exports")
    if folder.model_card.is_file():
        tracker.artifact(folder.model_card)
    tracker.model(folder.exports / name, model.digest, name)
    tracked_as = tracker.finish(summary.status, summary.reason)
    if tracked_as is None:
        return None
    place = settings.tracking.uri or again.settings.tracking.uri
    return serve_command(f"runs:/{tracked_as}/{name}", place, folder.output_dir)


def _compared_ids(data: PictureData, settings: ExportSettings) -> Int64Array:
    """Return validation pictures, or without any, as after a refit, some of the training."""
    return data.split.sample("val" if len(data.split.val) else "train", settings.check_pictures)


def _batch_sizes(data: PictureData, settings: ExportSettings) -> list[int]:
    """Return how many pictures at once are timed: by default one, and as many as are answered."""
    usual = _MASKS_AT_ONCE if kind_of(data.pictures.kind).pixels else _LABELS_AT_ONCE
    return settings.batch_sizes or [1, usual]


def _at_once(data: PictureData) -> int:
    """Return how many pictures are compared at once; each of many pixels has as many answers."""
    if data.pictures.format.windowed:  # each has a size of its own
        return 1
    return _MASKS_AT_ONCE if kind_of(data.pictures.kind).pixels else _LABELS_AT_ONCE


def _targets(data: PictureData, ids: Sequence[int]) -> IntegerArray:
    if kind_of(data.pictures.kind).pixels:
        return np.stack([data.pictures.read_mask(i) for i in ids])
    return data.pictures.targets[ids]


def _pictures(data: PictureData, ids: Int64Array) -> Pixels:
    """Return pictures in the size that the network takes: of larger ones a window each.

    The windows stand at other places in each picture, spread evenly, because the borders of
    pictures are not like their middle.
    """
    height, width = data.pictures.image_size
    found = []
    for number, index in enumerate(ids.tolist()):
        picture = data.pictures.read(index)
        top, left = (
            int((0.5 + number * step) % 1 * (side - own + 1))
            for step, side, own in zip(_R2, picture.shape[1:], (height, width), strict=True)
        )
        found.append(picture[:, top : top + height, left : left + width])
    return np.stack(found)
