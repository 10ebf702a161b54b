"""Records of a finished run, and the two files that hold them.

`summary.json` holds what the run was and its results; `predictions/<split>.parquet` holds the
probabilities of every picture. Everything after a run works on these two.
"""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..machine.arrays import AnyArray, Float64Array, Int64Array
from ..storage.files import replacing, write_atomically
from ..targets import TargetKind, kind_of
from .field_types import check_type
from .pixel_answers import pixel_columns, read_pixel_columns
from .trials import candidate_name

__all__ = ["Predictions", "RunSummary"]

_STATUSES = ("FINISHED", "FAILED", "KILLED")
# Where parquet keeps what belongs to the whole table; the kind of ordinary targets is not there.
_CLASS_NAMES_KEY, _KIND_KEY, _THRESHOLDS_KEY = b"class_names", b"kind", b"thresholds"
# Whether answers are other ones than probabilities and thresholds alone give.
_COPIES_KEY, _DECIDED_KEY = b"groups_of_copies", b"decided"
_COLUMNS = ("index", "path", "target", "probabilities")
_PREDICTION = "prediction"
_PIXEL_COLUMNS = ("index", "path", "target", "matrix", "log_loss", "map")
_GROUP = "group"  # which runs without groups do not have
_WITH_REPEATS = ["path", "target", "target_name", "prediction", "prediction_name"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The probabilities that a network gave to the pictures of one split.

    Attributes:
        sample_ids: (N,) int64, each picture's index in its data set.
        paths: N paths, or None where the pictures are no files.
        targets: (N,) int64 in [0, K), or of kinds "multi" and "dense" (N, K) uint8, 0 and 1.
        probs: (N, K) float32; of kind "dense" (N,) answers about pixels, see `pixel_answers`.
        class_names: K names.
        groups: (N,) int64, equal for pictures that go together (copies, shots of one subject, a
            named group); None where every picture stands for itself.
        kind: of the targets, see `src.targets`.
        thresholds: of kind "multi" (K,), from which on a label counts as predicted, None for one
            half each; of kinds "single" and "ordinal" (K,), of which the probability of the class
            that is answered is the largest multiple, None for none, or (K * K,), the costs of each
            answer for each class, row by row; of kind "ordinal" also (K - 1,), which the mean of
            the classes reaches or does not, or (1,), which the probabilities of higher classes
            reach.
        copies: whether groups are of pictures that are alike, and none was named by the user.
        preds: of kind "multi" (N, K) uint8, the predicted labels, None where they are those that
            reach the thresholds; of classes (N,) int64, the predicted ones, None where they are the
            most probable ones. On the pictures that thresholds were chosen on, each
            picture is judged by thresholds that others chose.

    Raises:
        ValueError: lengths that do not fit together, or a target that names no class.
    """

    sample_ids: Int64Array
    paths: tuple[str, ...] | None
    targets: AnyArray
    probs: AnyArray
    class_names: tuple[str, ...]
    groups: Int64Array | None = None
    kind: str = "single"
    thresholds: Float64Array | None = None
    preds: AnyArray | None = None
    copies: bool = False

    def __post_init__(self) -> None:
        count, num_classes = len(self.sample_ids), len(self.class_names)
        kind, limits = self.kind_of_targets, num_classes
        answers = self.probs["matrix"] if kind.pixels else self.probs
        classes = (num_classes, num_classes) if kind.pixels else (num_classes,)
        labels = (count, num_classes) if kind.multi_hot else (count,)
        if self.thresholds is not None and len(self.thresholds) in kind.threshold_counts(limits):
            limits = len(self.thresholds)
        for name, array, shape in (
            ("probs", answers, (count, *classes)),
            ("targets", self.targets, labels),
            ("preds", self.preds, labels),
            ("groups", self.groups, (count,)),
            ("thresholds", self.thresholds, (limits,)),
        ):
            if array is not None and np.shape(array) != shape:
                raise ValueError(f"{name} has shape {np.shape(array)}: it must be {shape}.")
        if self.paths is not None and len(self.paths) != count:
            raise ValueError(f"There are {len(self.paths)} paths for {count} samples.")
        most = 1 if kind.multi_hot else num_classes - 1
        if count and not (self.targets.min() >= 0 and self.targets.max() <= most):
            raise ValueError(f"targets must stay within 0 and {most}.")

    @property
    def kind_of_targets(self) -> TargetKind:
        """The kind, which knows how its predictions are judged."""
        return kind_of(self.kind)

    @property
    def decided(self) -> AnyArray:
        """(N,) int64, the predicted classes; of kind "multi" (N, K) uint8, the labels.

        Of kind "dense" (N, K, K) int64, the pixels of each class by the class that they were given.
        """
        if self.preds is not None:
            return self.preds
        kind = self.kind_of_targets
        return kind.decide(self.probs, self.thresholds if kind.sets else None)

    def name(self, row: int) -> str:
        """Return the path of a picture, or its number where the pictures are no files."""
        return f"picture {self.sample_ids[row]}" if self.paths is None else self.paths[row]

    def in_order(self) -> Predictions:
        """Return them by ascending sample id; those of one id stay in their order."""
        order = np.argsort(self.sample_ids, kind="stable")
        rows: dict[str, Any] = {
            name: None if value is None else value[order]
            for name in ("sample_ids", "targets", "probs", "groups", "preds")
            for value in (getattr(self, name),)
        }
        paths = None if self.paths is None else tuple(self.paths[i] for i in order.tolist())
        return dataclasses.replace(self, paths=paths, **rows)

    def write(self, path: Path | str) -> None:
        r"""Write a parquet file that explains itself to any other reader, atomically.

        Columns: index, path (null where there is none), target, target_name, prediction,
        prediction_name, probabilities (list of K float32), and group where pictures go together. A
        byte of a path that is no UTF-8, which parquet cannot hold, is written as an escape
        (`\udcff`). Of label sets, target and prediction are lists of K numbers 0 and 1, and their
        names lists of text. So they are of kind "dense", where they say which classes a picture
        has pixels of, and the columns of `pixel_columns` stand in the place of probabilities.

        Raises:
            OSError: the file cannot be written; one that was there before stays.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = pa.array([_printable(name) for name in self.class_names], pa.string())
        kind = self.kind_of_targets
        if kind.multi_hot:
            found = self.decided
            found = found.sum(axis=1) > 0 if kind.pixels else found
            targets, target_names = _set_columns(self.targets, names)
            predictions, prediction_names = _set_columns(found, names)
        else:
            targets = pa.array(self.targets, pa.int64())
            predictions = pa.array(self.decided, pa.int64())
            target_names, prediction_names = names.take(targets), names.take(predictions)
        if kind.pixels:
            answers = pixel_columns(self.probs)
        else:
            flat = pa.array(np.ascontiguousarray(self.probs, np.float32).reshape(-1))
            answers = {"probabilities": pa.FixedSizeListArray.from_arrays(flat, len(names))}
        paths = [None] * len(targets) if self.paths is None else map(_printable, self.paths)
        columns = {
            "index": pa.array(self.sample_ids, pa.int64()),
            "path": pa.array(paths, pa.string()),
            "target": targets,
            "target_name": target_names,
            "prediction": predictions,
            "prediction_name": prediction_names,
            **answers,
        }
        if self.groups is not None:
            columns["group"] = pa.array(self.groups, pa.int64())
        table = pa.table(columns).replace_schema_metadata(self._metadata())
        with replacing(path) as temporary:
            # Hardly two probabilities are the same, and looking for equal ones takes longest.
            pq.write_table(table, temporary, use_dictionary=_WITH_REPEATS)

    def _metadata(self) -> dict[bytes, bytes]:
        names = [_printable(name) for name in self.class_names]
        metadata = {_CLASS_NAMES_KEY: json.dumps(names).encode()}
        if self.kind != "single":
            metadata[_KIND_KEY] = self.kind.encode()
        if self.thresholds is not None:
            metadata[_THRESHOLDS_KEY] = json.dumps(self.thresholds.tolist()).encode()
        if self.groups is not None and self.copies:
            metadata[_COPIES_KEY] = b"true"
        if self.preds is not None:
            metadata[_DECIDED_KEY] = b"true"
        return metadata

    @classmethod
    def read(cls, path: Path | str, *, with_paths: bool = True) -> Predictions:
        """Read what `write` wrote; paths and class maps may be left out: they take longest.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no predictions.
        """
        return cls.parse(Path(path).read_bytes(), path, with_paths=with_paths)

    @classmethod
    def parse(cls, data: bytes, path: Path | str, *, with_paths: bool = True) -> Predictions:
        """Read the bytes of a file that `write` wrote; `path` is for messages."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # What lies in memory needs no reading ahead by further threads.
            file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
            schema = file.schema_arrow  # made anew whenever it is asked for
            stored = schema.metadata or {}
            kind = kind_of(stored.get(_KIND_KEY, b"single").decode())
            columns = [*(_PIXEL_COLUMNS if kind.pixels else _COLUMNS)]
            columns = [name for name in columns if with_paths or name not in ("path", "map")]
            grouped = _GROUP in schema.names
            columns += [_GROUP] if grouped else []
            thresholds = stored.get(_THRESHOLDS_KEY)
            # Answers that are more than probabilities say.
            decided = kind.sets or thresholds is not None or _DECIDED_KEY in stored
            columns += [_PREDICTION] if decided else []
            table = file.read(columns=columns, use_threads=False)
            class_names = json.loads(stored[_CLASS_NAMES_KEY])
            shape = len(table), len(class_names)
            if kind.pixels:
                probs = read_pixel_columns(table, len(class_names), maps=with_paths)
            else:
                probs = _lists(table["probabilities"], shape).astype(np.float32, copy=False)
            preds = None
            if decided:
                found = table[_PREDICTION]
                preds = _lists(found, shape) if kind.multi_hot else _numbers(found)
            targets, paths = table["target"], table["path"].to_pylist() if with_paths else []
            return cls(
                sample_ids=_numbers(table["index"]),
                paths=None if None in paths or not paths else tuple(paths),
                targets=_lists(targets, shape) if kind.multi_hot else _numbers(targets),
                probs=probs,
                class_names=tuple(class_names),
                groups=_numbers(table[_GROUP]) if grouped else None,
                kind=kind.name,
                thresholds=None if thresholds is None else np.array(json.loads(thresholds)),
                preds=preds,
                copies=_COPIES_KEY in stored,
            )
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no predictions of a run: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The content of summary.json: what a run was and how it went.

    Attributes:
        run_id: the run's id in the tracker.
        status: "FINISHED", "FAILED" or "KILLED".
        model, data: the options chosen in these groups.
        seed: of the training.
        split_fingerprint: hash of which pictures were in which part, those that `data.train_limit`
            left out included; None if it never came to that.
        metrics: values by `{split}/{metric}` and `cost/{name}`; NaN and infinities are allowed.
        num_parameters: of the network; None if there never was one.
        duration_seconds: from start to end of the run.
        checkpoint: absolute path of the one to use, or None.
        reason: why the run did not finish, or None.
        test_measurements: how often the test part of this split has been measured, or None.
        run_dir: absolute path of the run's folder.
        command: the command line that repeats the run.
        fold: which fold of a cross-validation it is, from 1; None for a run of its own.
        family, trial: of the sweep that it belongs to; None for a run of its own.
        start: what the candidate started from: "frozen", "fine-tuned", "from scratch",
            "hand-crafted" or "ensemble"; None where nobody noted it.
        weights: names of the published weights, with source and licence; None without.
        folds: of a whole cross-validation, the values of its folds in order, by metric key;
            `metrics` then holds their means. None for a run of its own.
        found: keys of settings whose values the run measured, as it was asked to; None where it was
            asked for none, or nobody noted it.
        sealed: whether the run's folder got a seal at its end, as finished ones do.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    run_id: str
    status: str
    name: str
    model: str
    data: str
    seed: int
    split_fingerprint: str | None
    metrics: dict[str, float]
    num_parameters: int | None
    duration_seconds: float
    checkpoint: str | None = None
    reason: str | None = None
    test_measurements: int | None = None
    run_dir: str
    command: str
    fold: int | None = None
    start: str | None = None
    weights: str | None = None
    folds: dict[str, list[float]] | None = None
    family: str | None = None
    trial: int | None = None
    found: list[str] | None = None
    sealed: bool = False

    @property
    def candidate(self) -> str:
        """The short name of its candidate, or of a run of its own the run's name."""
        if self.trial is None:
            return self.name
        return candidate_name(self.family or self.model, self.trial)

    def __post_init__(self) -> None:
        for name, hint in _SUMMARY_TYPES.items():
            check_type(name, getattr(self, name), hint)
        if self.status not in _STATUSES:
            raise ValueError(
                f"status is {self.status!r}: it must be one of {', '.join(_STATUSES)}."
            )
        for name in ("checkpoint", "run_dir"):
            value = getattr(self, name)
            if value is not None and not Path(value).is_absolute():
                raise ValueError(f"{name} is {value!r}: it must be an absolute path.")
        # NumPy's scalars become Python's, so that equality and JSON see plain numbers.
        metrics = {key: float(value) for key, value in self.metrics.items()}
        object.__setattr__(self, "metrics", metrics)

    def write(self, path: Path | str) -> None:
        """Write as JSON, atomically. NaN becomes null, the infinities "inf" and "-inf".

        Raises:
            OSError: the file cannot be written; one that was there before stays.
        """
        plain = dataclasses.asdict(self)
        plain["metrics"] = {key: _to_json(value) for key, value in self.metrics.items()}
        if self.folds is not None:
            plain["folds"] = {key: [*map(_to_json, values)] for key, values in self.folds.items()}
        text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
        # A byte of a path that is no UTF-8 is a lone surrogate in Python, and its backslash escape
        # is JSON's own escape for it: what is read back is the same path.
        write_atomically(path, f"{text}\n".encode("utf-8", "backslashreplace"))

    @classmethod
    def read(cls, path: Path | str) -> RunSummary:
        """Read what `write` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no summary of a run.
        """
        return cls.parse(Path(path).read_bytes(), path)

    @classmethod
    def parse(cls, content: bytes, path: Path | str) -> RunSummary:
        """Read the bytes of a file that `write` wrote; `path` is for messages.

        Raises:
            ValueError: they hold no summary of a run.
        """
        try:
            plain = json.loads(content)
            if not isinstance(plain, dict):
                raise ValueError("it is no JSON object.")
            if isinstance(plain.get("metrics"), dict):
                plain["metrics"] = {k: _from_json(v) for k, v in plain["metrics"].items()}
            if isinstance(plain.get("folds"), dict):
                plain["folds"] = {k: [*map(_from_json, v)] for k, v in plain["folds"].items()}
            return cls(**plain)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"{path} holds no summary of a run: {error}") from error


_SUMMARY_TYPES = typing.get_type_hints(RunSummary)


def _to_json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _from_json(value: Any) -> Any:
    if value is None:
        return math.nan
    return float(value) if value in ("inf", "-inf") else value


def _numbers(column: Any) -> AnyArray:
    """Return a column of a table; pyarrow's own `to_numpy` imports pandas first, for a second."""
    return np.from_dlpack(column.combine_chunks())


def _lists(column: Any, shape: tuple[int, int]) -> AnyArray:
    """Return a column of lists as an array of this shape.

    Without their `flatten`, which imports pyarrow.compute, for a tenth of a second.
    """
    lists = column.combine_chunks()
    if lists.null_count:
        raise ValueError("it lacks lists of some pictures.")
    return np.from_dlpack(lists.values).reshape(shape)


def _set_columns(sets: AnyArray, names: Any) -> tuple[Any, Any]:
    """Return the columns of sets (N, K): lists of numbers 0 and 1, and of the names they stand for.

    Args:
        sets: true, or not 0, where a class belongs to a set.
        names: K texts, an array of pyarrow's.
    """
    import pyarrow as pa

    numbers, texts = pa.array(sets.astype(np.uint8).reshape(-1)), names.to_pylist()
    named = [[texts[k] for k in np.flatnonzero(row)] for row in sets]
    return (
        pa.FixedSizeListArray.from_arrays(numbers, len(texts)),
        pa.array(named, pa.list_(pa.string())),
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
