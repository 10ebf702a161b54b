"""Grounds to judge a model's certainty by: its answers on calibration pictures, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import AnyArray, BoolArray, Float32Array, Int64Array
from ..storage.array_files import load_arrays
from ..storage.files import replacing

__all__ = ["SOURCES", "Certainty", "FeatureSample", "FeatureScale"]

# Where the calibration pictures come from: the test part; the held-out folds of a cross-validation;
# the validation part.
SOURCES = ("test", "out-of-fold", "val")
_FORMAT = 1
# The array `comparable` in a file, which earlier versions did not write.
_MARK = "distances_comparable"
# The attributes of `Certainty` in a file: those of its JSON, and the arrays with their types.
_PLAIN_ATTRIBUTES = ("source", "refitted", "candidates", "pictures", "num_classes")
_ARRAYS: dict[str, type[np.generic]] = {
    "targets": np.int64,
    "label_probs": np.float32,
    "confidences": np.float32,
    "correct": np.bool_,
}


@dataclass(frozen=True, eq=False)
class FeatureScale:
    """The variation of features among training pictures.

    Attributes:
        mean, deviation: (F,) float32, of each feature.
        length: (2,) float32, mean and deviation of the logarithm of the length of features that are
            centred and scaled by these.
    """

    mean: Float32Array
    deviation: Float32Array
    length: Float32Array


@dataclass(frozen=True, eq=False)
class FeatureSample:
    """Features of R training pictures, and how far calibration pictures lie from them.

    Attributes:
        scale: of the features.
        rows: (R, F + 1) float16, see `src.statistics.novelty.feature_rows`.
        distances: (n,) float32, of the calibration pictures, see there.
        comparable: whether many new pictures that are like these lie as far away. They do not where
            the network was refitted on far more pictures than those that measured these.
    """

    scale: FeatureScale
    rows: NDArray[np.float16]
    distances: Float32Array
    comparable: bool = True


@dataclass(frozen=True, eq=False)
class Certainty:
    """A model's answers on n calibration pictures, one of each group.

    Attributes:
        source: one of `SOURCES`.
        refitted: whether the answers are those of models that were trained on fewer pictures than
            the model that they stand for.
        candidates: models of which one may have been chosen by these pictures; 1 for none other.
        pictures: calibration pictures, before one of each group was drawn.
        num_classes: K.
        targets: (n,) int64, the true classes, or (n, K) 0 and 1, sets of labels.
        label_probs: (n,) float32, the probability of the true class, or (n, K) of every label.
        confidences: (n,) float32, as `TargetKind.confidences` has them.
        correct: (n,) bool, whether the answer, the class or all labels, is the true one.
        sample: of the features; None for a model that gives none.
        outdated: whether an earlier version measured the distances of a refit by the refit itself,
            which knew the calibration pictures: they are left out, and `sample` is None.

    Raises:
        ValueError: lengths or values that do not fit together.
    """

    source: str
    refitted: bool
    candidates: int
    pictures: int
    num_classes: int
    targets: Int64Array
    label_probs: Float32Array
    confidences: Float32Array
    correct: BoolArray
    sample: FeatureSample | None
    outdated: bool = False

    def __post_init__(self) -> None:
        count = len(self.targets)
        columns: list[AnyArray] = [self.confidences, self.correct]
        if self.sample is not None:
            columns.append(self.sample.distances)
            _check_sample(self.sample)
        shape = (count, self.num_classes) if self.of_sets else (count,)
        if any(column.shape != (count,) for column in columns) or not (
            self.targets.shape == self.label_probs.shape == shape
        ):
            raise ValueError("the columns of the calibration pictures differ in length")
        if not (np.isfinite(self.label_probs).all() and np.isfinite(self.confidences).all()):
            raise ValueError("the probabilities of the calibration pictures are not finite")
        most = 1 if self.of_sets else self.num_classes - 1
        if count and not 0 <= self.targets.min() <= self.targets.max() <= most:
            raise ValueError("a target of the calibration pictures names no class")
        if self.source not in SOURCES or self.candidates < 1 or self.pictures < count:
            raise ValueError("source, candidates or pictures is out of range")

    @property
    def of_sets(self) -> bool:
        """Whether pictures have sets of labels."""
        return self.targets.ndim == 2

    def write(self, path: Path) -> None:
        """Write an .npz file of arrays and JSON, atomically.

        Raises:
            OSError: it cannot be written; one that was there before stays.
        """
        facts = {"format": _FORMAT, **{name: getattr(self, name) for name in _PLAIN_ATTRIBUTES}}
        arrays: dict[str, AnyArray] = {
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
            **{name: getattr(self, name) for name in _ARRAYS},
        }
        if self.sample is not None:
            arrays |= {
                "feature_mean": self.sample.scale.mean,
                "feature_deviation": self.sample.scale.deviation,
                "feature_length": self.sample.scale.length,
                "feature_rows": self.sample.rows,
                "distances": self.sample.distances,
                _MARK: np.array(self.sample.comparable),
            }
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def read(cls, path: Path) -> Certainty | None:
        """Read what `write` wrote; None where there is no such file.

        Raises:
            ValueError: the file is damaged, or of a later version.
        """
        try:
            arrays = load_arrays(path)
            facts = json.loads(arrays["facts"].tobytes())
            if facts["format"] != _FORMAT:
                raise ValueError(f"its format is {facts['format']}, and {_FORMAT} is known")
            values: dict[str, Any] = {name: facts[name] for name in _PLAIN_ATTRIBUTES}
            values |= {name: arrays[name].astype(kind) for name, kind in _ARRAYS.items()}
            outdated = values["refitted"] and "feature_rows" in arrays and _MARK not in arrays
            sample = None if outdated else _sample(arrays)
            return cls(**values, sample=sample, outdated=outdated)
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no calibration that can be read: {error}") from error


def _check_sample(sample: FeatureSample) -> None:
    scale, features = sample.scale, len(sample.scale.mean)
    shapes = (scale.mean.shape, scale.deviation.shape, scale.length.shape, sample.rows.shape)
    if shapes != ((features,), (features,), (2,), (len(sample.rows), features + 1)):
        raise ValueError("the sample of features has shapes that do not fit together")
    if not len(sample.rows) or (scale.deviation <= 0).any() or scale.length[1] <= 0:
        raise ValueError("the sample of features is empty, or has no scale")
    arrays = (scale.mean, scale.deviation, scale.length, sample.rows, sample.distances)
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("the sample of features is not finite")


def _sample(arrays: dict[str, AnyArray]) -> FeatureSample | None:
    if "feature_rows" not in arrays:
        return None
    return FeatureSample(
        scale=FeatureScale(
            mean=arrays["feature_mean"].astype(np.float32),
            deviation=arrays["feature_deviation"].astype(np.float32),
            length=arrays["feature_length"].astype(np.float32),
        ),
        rows=arrays["feature_rows"].astype(np.float16),
        distances=arrays["distances"].astype(np.float32),
        comparable=bool(arrays.get(_MARK, True)),
    )
