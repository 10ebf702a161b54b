"""The interface of every candidate and trained model, and the measuring of what it predicts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...config.checks import ConfigError
from ...config.metrics import further_metrics
from ...data.loading.loaders import Batch
from ...data.loading.picture_data import PictureData
from ...machine.arrays import AnyArray, Float32Array, Float64Array, Int64Array
from ...machine.interruption import Interruption
from ...machine.status import with_progress
from ...metrics.class_maps import iou_sums, mean_interval
from ...metrics.summary import metric_key
from ...records.comparison import Interval
from ...records.pictures import ClassMaps, Pixels
from ...records.run import Predictions
from ...serving.export_formats import ExportSource
from ...serving.predictor import Predictor
from ...statistics.candidates import Measure
from ...statistics.intervals import measure_interval, share_interval
from ...storage.files import write_atomically
from ...targets import fixed_thresholds, kind_of
from ...tracking.tracker import Tracker
from ..folder import RunFolder
from ..resolve import Resolved

__all__ = [
    "Answers",
    "FitContext",
    "Fitted",
    "Measured",
    "OnEpoch",
    "Trainable",
    "Trained",
    "cost_scores",
    "cross_fitted",
    "decided_by",
    "described_features",
    "measure_part",
    "part_batches",
    "read_thresholds",
    "send_final",
    "settle_thresholds",
    "typical_picture",
]

_DESCRIBED_AT_ONCE = 128
_THRESHOLDS = "thresholds.json"
OnEpoch = Callable[[int, dict[str, float]], None]
# Probabilities (N, K) float32, or of pixels their answers, (N,), as of `src.records.pixel_answers`;
# targets (N,) int64 or of label sets (N, K), sample ids (N,) int64.
Answers = tuple[AnyArray, AnyArray, Int64Array]


class Trained(Protocol):
    """A fitted model, fresh from its fit or loaded from a file."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata in plain containers, such as the `settings` of its run and its `epochs`."""

    @property
    def num_parameters(self) -> int:
        """The count of the numbers that were fitted to pictures."""

    def predict(self, data: PictureData, part: str) -> Answers:
        """Predict every picture of "train", "val" or "test"."""

    def features(self, data: PictureData, part: str, rows: Int64Array) -> Float32Array | None:
        """Return the features (n, F) of the pictures at these places of a part, as its predictor.

        None for a model that gives none.
        """

    def predictor(self, batch_size: int) -> Predictor:
        """Return a predictor that labels pictures of any size."""

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """Measure what it costs to store and to run, by plain name; see `src.training.cost`."""

    def write_bundle(self, folder: Path, example: Pixels) -> str:
        """Write the bundle that MLflow serves and return its digest; see `bundle_writing`."""

    def export_source(self) -> ExportSource:
        """Return the model as it is exported.

        Raises:
            ValueError: no file can compute it; the message says why.
        """

    def class_maps(self) -> ClassMaps | None:
        """Return class maps; None for a model without values that belong to places of a picture."""


@dataclass(frozen=True)
class Fitted:
    """The result of a fit.

    Attributes:
        trained: the model.
        checkpoint: the file that it is loaded from.
        seconds: duration of the fit, all starts of the run together, without that of the features.
        metrics: the last values measured while fitting, by `{split}/{metric}`.
        history: (epoch from 1, value) pairs of those that have a curve; empty of a fit in one go.
        split_fingerprint: of the division that its held-out predictions go by, where that is not
            the split of its pictures: the folds of the cross-validations that it was made of.
        features_seconds: that computing the features of its pictures took, now or in an earlier
            run; None where it is fitted on none.
        features_here: those of them that computing took in this run.
    """

    trained: Trained
    checkpoint: Path
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[list[float]]] = field(default_factory=dict)
    split_fingerprint: str | None = None
    features_seconds: float | None = None
    features_here: float = 0.0

    def cost(self) -> dict[str, float]:
        """Return the seconds of the training by the plain names that a run's `cost/` metrics have.

        Features that were kept count in `training_seconds` as if they were computed now, so that
        the order of runs does not change what they cost.
        """
        if self.features_seconds is None:
            return {"training_seconds": self.seconds}
        return {
            "training_seconds": self.seconds + self.features_seconds,
            "features_seconds": self.features_seconds,
            "features_here_seconds": self.features_here,
        }


@dataclass(frozen=True)
class FitContext:
    """The surroundings of a fit.

    Attributes:
        folder: of the run; a fit that was stopped goes on from what it left there.
        tracker: records what is measured meanwhile; None on a further device of a run.
        interruption: checked where the state is consistent.
        on_epoch: called with (epoch from 0, metrics); an exception from it ends the fit.
    """

    folder: RunFolder
    tracker: Tracker | None
    interruption: Interruption
    on_epoch: OnEpoch | None = None


class Trainable(Protocol):
    """Settings and pictures, ready to be fitted."""

    @property
    def resolved(self) -> Resolved:
        """The run's settings without any `auto`."""

    @property
    def num_parameters(self) -> int | None:
        """As of `Trained`; None where it is known only after the fit."""

    def description(self) -> str:
        """Return a short description for the first line of a run."""

    def fit(self, context: FitContext) -> Fitted:
        """Fit it to the training part."""

    def training_batch(self) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
        """Return images and targets as the fit saw them; None where it saw them unchanged."""


@dataclass(frozen=True)
class Measured:
    """Predictions of one part and the metrics computed from them, by `{part}/{metric}`."""

    predictions: Predictions
    metrics: dict[str, float]


def described_features(
    predictor: Predictor, data: PictureData, ids: Int64Array
) -> Float32Array | None:
    """Return the features (n, F) that a predictor computes of pictures; None where it gives none.

    Args:
        predictor: of a trained model.
        data: the pictures, decoded to any format.
        ids: (n,) their indices, n at least 1.
    """
    if not predictor.gives_features:
        return None
    stores = [data.formatted(wanted).pictures for wanted in predictor.formats]
    found = []
    starts = range(0, len(ids), _DESCRIBED_AT_ONCE)
    for start in with_progress(starts, len(ids), "pictures done", lambda _: _DESCRIBED_AT_ONCE):
        batch = ids[start : start + _DESCRIBED_AT_ONCE].tolist()
        images = [np.stack([store.read(one) for one in batch]) for store in stores]
        found.append(predictor.described(*images)[1])
    return np.concatenate([one for one in found if one is not None])


def part_batches(data: PictureData, part: str) -> Iterator[Batch]:
    """Yield the batches of a part in its order, and log the time left."""
    count = len(getattr(data.split, part))
    return with_progress(
        data.batches(part), count, "pictures measured", lambda batch: len(batch.sample_ids)
    )


def typical_picture(data: PictureData) -> int:
    """Return the index of the picture with the median number of pixels, as it is kept."""
    sizes = data.pictures.array_sizes
    return int(np.argsort(sizes.prod(axis=1), kind="stable")[len(sizes) // 2])


def measure_part(
    data: PictureData,
    part: str,
    answers: Answers,
    thresholds: Float64Array | None = None,
    best_for: str | None = None,
) -> Measured:
    """Compute all metrics of a model's predictions of "train", "val" or "test".

    The interval of the accuracy takes each group of pictures as one. Measurements of "test" are
    counted by the caller first (src/data/splitting/test_usage.py).

    Args:
        data: the pictures.
        part: that was predicted.
        answers: the predictions.
        thresholds: of the model's answers, see `TargetKind.decide`, where it has some, chosen on
            the validation part: of that part each picture is judged by thresholds that the others
            choose.
        best_for: the metric that they are best for, as `DataSettings.chosen_for`.
    """
    probs, targets, ids = answers
    pictures = data.pictures
    paths = pictures.sample_paths
    predictions = Predictions(
        sample_ids=ids,
        paths=None if paths is None else tuple(paths[i] for i in ids.tolist()),
        targets=targets,
        probs=probs,
        class_names=tuple(pictures.class_names),
        groups=None if data.groups is None else data.groups[ids],
        kind=pictures.kind,
        thresholds=thresholds,
        copies=data.groups is not None and pictures.groups is None,
    )
    kind, judged_by = kind_of(pictures.kind), thresholds
    if part == "val" and thresholds is not None and best_for is not None:
        predictions, judged_by = cross_fitted(predictions, best_for)
    elif thresholds is not None and not kind.sets:
        predictions = replace(predictions, preds=kind.decide(probs, thresholds))
    scores = kind.evaluate(probs, targets, pictures.class_names, judged_by)
    if kind.pixels:
        low, high = mean_interval(iou_sums(probs["matrix"]), predictions.groups)
        scores |= {"miou_low": low, "miou_high": high} if math.isfinite(low) else {}
    else:  # metrics of plugins take probabilities
        scores |= further_metrics(probs, targets)
        if "auc" in scores:
            found = measure_interval(predictions, Measure("auc"))
            scores |= {"auc_low": found.low, "auc_high": found.high}
    if data.costs is not None:
        scores |= cost_scores(data.costs, predictions)
    if predictions.groups is not None and "accuracy_low" in scores:
        right = kind.right(predictions.decided, targets)
        interval = share_interval(right, predictions.groups) or Interval(0.0, 1.0)
        scores |= {"accuracy_low": interval.low, "accuracy_high": interval.high}
    return Measured(predictions, {metric_key(part, name): value for name, value in scores.items()})


def cost_scores(costs: Float64Array, predictions: Predictions) -> dict[str, float]:
    """Return the mean cost of predictions with its 95 % interval, which takes groups as one.

    Args:
        costs: (K, K) of each predicted class (column) for each true one (row).
        predictions: of a part.
    """
    interval = measure_interval(predictions, Measure("cost", costs))
    mean = float(costs[predictions.targets, predictions.decided].mean())
    return {"cost": mean, "cost_low": interval.low, "cost_high": interval.high}


def cross_fitted(predictions: Predictions, best_for: str) -> tuple[Predictions, Float64Array]:
    """Return predictions decided by thresholds from other pictures, and the thresholds (N, M).

    `predictions` are of the pictures that the thresholds were chosen on.
    """
    probs, targets, groups = predictions.probs, predictions.targets, predictions.groups
    groups = predictions.sample_ids if groups is None else groups
    kind = predictions.kind_of_targets
    least = kind.cross_fitted_thresholds(probs, targets, groups, best_for)
    return replace(predictions, preds=kind.decide(probs, least)), least


def decided_by(
    thresholds: Float64Array, predictions: Predictions, chosen_for: str | None
) -> Predictions:
    """Return predictions of held-out pictures with the answers that thresholds give.

    Args:
        thresholds: of all of them.
        predictions: of the pictures that these were chosen on, where any were.
        chosen_for: as `DataSettings.chosen_for`; each picture is then judged by others.
    """
    predictions = replace(predictions, thresholds=thresholds)
    if chosen_for is not None:
        return cross_fitted(predictions, chosen_for)[0]
    kind = predictions.kind_of_targets
    return replace(predictions, preds=kind.decide(predictions.probs, thresholds))


def settle_thresholds(
    folder: RunFolder,
    wanted: str | None,
    held_out: Predictions | None,
    costs: Float64Array | None = None,
) -> Float64Array | None:
    """Choose the thresholds of answers, and keep them beside the run's checkpoint.

    Args:
        folder: of the run.
        wanted: what they are best for, as `DataSettings.best_for`; None for no thresholds.
        held_out: predictions to choose by; None for those that are there already, or for those
            that no pictures choose.
        costs: as of `fixed_thresholds`.

    Returns:
        see `TargetKind.thresholds`; None where there are none.
    """
    if wanted is None:
        return None
    found = fixed_thresholds(wanted, costs)
    if found is None and held_out is not None:
        kind = held_out.kind_of_targets
        found = kind.thresholds(held_out.probs, held_out.targets, wanted)
        if found is None:
            return None
    if found is None:
        return read_thresholds(folder.checkpoints)
    plain = {"metric": wanted, "thresholds": found.tolist()}
    write_atomically(folder.checkpoints / _THRESHOLDS, json.dumps(plain, indent=1) + "\n")
    return found


def read_thresholds(checkpoints: Path) -> Float64Array | None:
    """Return the thresholds of answers beside a checkpoint; None where there are none.

    Raises:
        ConfigError: their file is damaged.
    """
    file = checkpoints / _THRESHOLDS
    try:
        return np.array(json.loads(file.read_text())["thresholds"], np.float64)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"run: {file} holds no thresholds: {error!r}.") from error


def send_final(
    tracker: Tracker, metrics: Mapping[str, float], curves: Container[str], epochs: int
) -> None:
    """Send final metrics: at the last epoch those that have a curve, at 0 the others.

    MLflow draws what has one value as a bar if its step is 0, else as a curve of one dot.
    """
    of_curves = {key: value for key, value in metrics.items() if key in curves}
    tracker.metrics(of_curves, step=epochs, final=True)
    single = {key: value for key, value in metrics.items() if key not in curves}
    tracker.metrics(single, step=0, final=True)
