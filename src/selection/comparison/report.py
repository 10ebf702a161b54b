"""Read what the report of a comparison shows from the runs of its best candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from ...config.checks import ConfigError, from_plain
from ...config.data import DataSettings
from ...config.finished import CompareSettings
from ...data.decoding.decode import thumbnail
from ...data.decoding.picture_files import PictureError
from ...data.quality.audit import content_hash
from ...data.sources.listing import list_pictures
from ...data.sources.roots import root_beside
from ...data.sources.source import Source
from ...data.splitting.splits import Split
from ...machine.arrays import BoolArray, Float64Array, Int64Array, UInt8Array
from ...metrics.class_maps import class_pixel_scores
from ...metrics.classification import confusion_matrix, per_class_recall
from ...metrics.multilabel import label_scores
from ...metrics.probabilistic import binned, reliability_bins
from ...metrics.summary import metric_key
from ...records.comparison import Comparison, Entrant, Interval
from ...records.pictures import shown
from ...records.report_data import Agreement, Answer, Disagreement, GroupScore, Leader, ReportData
from ...records.run import Predictions
from ...runs.folder import RunFolder
from ...runs.sweep_record import read_sweep_record, sweep_file
from ...statistics.intervals import share_interval
from ...targets.labels import has_class, label_codes, label_text
from ...tracking.events import read_history
from .subgroups import subgroup_scores, subgroup_values

__all__ = ["PicturesGone", "gather", "leaders_of", "read_pictures", "subgroups_of", "with_pictures"]


_NO_LABEL = "none"
_LEADERS = 3
_DISAGREEMENTS = 12
_WEAKEST_GROUPS = 20
_CURVES_A_FAMILY = 10


def gather(comparison: Comparison, settings: CompareSettings) -> ReportData:
    """Gather the report data but for `with_pictures`; curves that no longer exist are left out.

    Raises:
        ConfigError: the predictions of a leader no longer exist, or as of `subgroups_of`.
    """
    values = subgroups_of(comparison, settings)
    leaders = leaders_of(comparison.entrants)
    by_leader = [_predictions(one, comparison.part) for one in leaders]
    first = [repeats[0] for repeats in by_leader]
    disagreements: tuple[Disagreement, ...] = ()
    agreement = None
    kind = first[0].kind_of_targets
    pixels = kind.pixels
    if len(leaders) > 1 and not pixels:  # no two class maps are the same
        agreement = _agreement(first)
        disagreements = _disagreements(first)
    importances, metric = _importances(settings)
    return ReportData(
        comparison=comparison,
        class_names=first[0].class_names,
        leaders=tuple(
            _leader_of_pixels(one, repeats) if pixels else _leader(one, repeats, values)
            for one, repeats in zip(leaders, by_leader)
        ),
        agreement=agreement,
        disagreements=disagreements,
        curves=_curves(comparison.entrants, kind.primary),
        importances=importances,
        importance_of=metric,
        curve=kind.primary,
        of_classes="iou" if pixels else "recall",
        subgroup=settings.subgroup,
    )


def subgroups_of(comparison: Comparison, settings: CompareSettings) -> tuple[str, ...] | None:
    """Return the subgroup of each picture that the winner was judged by; None unless asked for.

    Raises:
        ConfigError: pixels are judged, or as of `subgroup_values`.
    """
    if settings.subgroup is None:
        return None
    winner = leaders_of(comparison.entrants)[0]
    judged = _predictions(winner, comparison.part)[0]
    if judged.kind_of_targets.pixels:
        raise ConfigError("subgroup is about pictures that are right or wrong, not pixels.")
    return subgroup_values(Path(winner.run_dirs[0]), settings.subgroup, judged.sample_ids)


def with_pictures(data: ReportData) -> ReportData:
    """Add the pictures of disagreements to report data, or why there are none.

    Figures are without them, and to read them takes longer than to gather all else.
    """
    if not data.disagreements:
        return data
    first = leaders_of(data.comparison.entrants)[0]
    try:
        found = read_pictures(
            Path(first.run_dirs[0]), [one.sample_id for one in data.disagreements]
        )
    except PicturesGone as error:
        return replace(data, no_pictures=str(error))
    disagreements = (replace(one, picture=found.get(one.sample_id)) for one in data.disagreements)
    return replace(data, disagreements=tuple(disagreements))


def leaders_of(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Return the winner and the best of other families, filled up with the next best."""
    best = {one.family: one for one in reversed(entrants)}
    chosen = sorted(best.values(), key=lambda one: one.standing.rank)[:_LEADERS]
    for one in entrants:
        if len(chosen) == _LEADERS:
            break
        if one not in chosen:
            chosen.append(one)
    return sorted(chosen, key=lambda one: one.standing.rank)


def _predictions(one: Entrant, part: str) -> list[Predictions]:
    """Read the predictions that it was judged by, of all its repeats, by ascending sample id."""
    folders = [RunFolder.open(Path(place)) for place in one.run_dirs]
    try:
        return [
            Predictions.read(file).in_order() for folder in folders for file in folder.answers(part)
        ]
    except FileNotFoundError as error:
        raise ConfigError(
            f"{error.filename} is gone since the comparison began: run it again."
        ) from error


def _leader(one: Entrant, repeats: Sequence[Predictions], values: Sequence[str] | None) -> Leader:
    probs = np.concatenate([each.probs for each in repeats])
    targets = np.concatenate([each.targets for each in repeats])
    preds = np.concatenate([each.decided for each in repeats])
    right = np.stack([_right(each) for each in repeats])
    pictures: tuple[int, ...] = ()
    if repeats[0].kind_of_targets.sets:
        scores = label_scores(probs, targets, preds)
        matrix, recall = np.zeros((0, 0), np.int64), np.array([one.recall for one in scores])
        pictures = tuple(one.pictures for one in scores)
        bins = binned(probs.astype(np.float64).ravel(), targets.ravel() > 0)
    else:
        matrix = confusion_matrix(probs, targets, preds)
        bins = reliability_bins(probs, targets, preds=preds)
        recall = per_class_recall(matrix)
    filled = bins.counts > 0
    return Leader(
        rank=one.standing.rank,
        name=one.standing.name,
        family=one.family,
        matrix=matrix,
        recall=recall,
        calibration_error=bins.calibration_error,
        confidence=bins.confidence[filled],
        accuracy=bins.accuracy[filled],
        shares=bins.counts[filled] / bins.counts.sum(),
        recall_intervals=_of_classes(repeats),
        groups=_of_groups(right, repeats[0]),
        subgroups=() if values is None else subgroup_scores(right, values, repeats[0].groups),
        trainings=len(repeats),
        pictures=pictures,
    )


def _leader_of_pixels(one: Entrant, repeats: Sequence[Predictions]) -> Leader:
    """Return the figures of classes over the pixels of all repeats."""
    matrices = np.sum([each.probs["matrix"] for each in repeats], axis=0)
    scores = class_pixel_scores(matrices, repeats[0].class_names, repeats[0].groups)
    none = np.zeros(0)
    return Leader(
        rank=one.standing.rank,
        name=one.standing.name,
        family=one.family,
        matrix=matrices.sum(axis=0),
        recall=np.array([score.iou for score in scores]),
        calibration_error=float("nan"),
        confidence=none,
        accuracy=none,
        shares=none,
        recall_intervals=tuple(
            None if np.isnan(score.low) else Interval(score.low, score.high) for score in scores
        ),
        trainings=len(repeats),
        pictures=tuple(score.pictures for score in scores),
    )


def _right(predicted: Predictions) -> BoolArray:
    """Return (N,) which pictures are right, of label sets in all labels."""
    return predicted.kind_of_targets.right(predicted.decided, predicted.targets)


def _of_classes(repeats: Sequence[Predictions]) -> tuple[Interval | None, ...]:
    """Return the interval of each class's recall over all repeats."""
    predicted, found = repeats[0], list[Interval | None]()
    decided = [one.decided for one in repeats]
    for label in range(len(predicted.class_names)):
        own = has_class(predicted.targets, label)
        groups = None if predicted.groups is None else predicted.groups[own]
        hits = np.stack([has_class(one[own], label) for one in decided])
        found.append(share_interval(hits, groups))
    return tuple(found)


def _of_groups(right: BoolArray, predicted: Predictions) -> tuple[GroupScore, ...]:
    """Return the groups of two pictures or more with the least right answers, of named ones."""
    if predicted.groups is None or predicted.copies:
        return ()
    _, first, codes, sizes = np.unique(
        predicted.groups, return_index=True, return_inverse=True, return_counts=True
    )
    accuracy = np.bincount(codes, right.mean(axis=0)) / sizes
    order = np.lexsort((-sizes, accuracy))
    weakest = order[sizes[order] > 1][:_WEAKEST_GROUPS].tolist()
    return tuple(
        GroupScore(
            shown=predicted.name(int(first[group])),
            pictures=int(sizes[group]),
            accuracy=float(accuracy[group]),
            interval=share_interval(right[:, codes == group]),
        )
        for group in weakest
    )


def _agreement(by_leader: Sequence[Predictions]) -> Agreement:
    preds, right = _codes(by_leader), np.stack([_right(one) for one in by_leader])
    return Agreement(float((preds == preds[0]).all(axis=0).mean()), float(right.any(axis=0).mean()))


def _disagreements(by_leader: Sequence[Predictions]) -> tuple[Disagreement, ...]:
    """Return the most confident disagreements, without their pictures."""
    chosen = _most_confident(by_leader).tolist()
    names = by_leader[0].class_names
    answers = zip(*(_answers(one, chosen) for one in by_leader), strict=True)
    return tuple(
        Disagreement(
            sample_id=int(by_leader[0].sample_ids[place]),
            shown=by_leader[0].name(place),
            target=label_text(by_leader[0].targets[place], names) or _NO_LABEL,
            answers=each,
        )
        for place, each in zip(chosen, answers, strict=True)
    )


def _most_confident(by_leader: Sequence[Predictions]) -> Int64Array:
    """Return positions where predictions differ, by the lowest confidence, descending."""
    preds = _codes(by_leader)
    sure = np.stack([_confidences(one) for one in by_leader]).min(axis=0)
    differ = np.flatnonzero((preds != preds[0]).any(axis=0))
    return differ[np.argsort(-sure[differ], kind="stable")][:_DISAGREEMENTS]


def _codes(by_leader: Sequence[Predictions]) -> Int64Array:
    """Return (M, N) codes, equal for equal answers."""
    decided = np.concatenate([one.decided for one in by_leader])
    return label_codes(decided).reshape(len(by_leader), -1)


def _confidences(predicted: Predictions) -> Float64Array:
    """Return (N,) the probability of each answer; of label sets as if labels were independent."""
    probs, decided = predicted.probs, predicted.decided
    if not predicted.kind_of_targets.sets:
        return np.take_along_axis(probs, decided[:, None], axis=1)[:, 0].astype(np.float64)
    each: Float64Array = np.where(decided > 0, probs, 1 - probs.astype(np.float64))
    return each.prod(axis=1)


def _answers(predicted: Predictions, places: Sequence[int]) -> list[Answer]:
    preds, right, sure = predicted.decided, _right(predicted), _confidences(predicted)
    return [
        Answer(
            label_text(preds[place], predicted.class_names) or _NO_LABEL,
            float(sure[place]),
            bool(right[place]),
        )
        for place in places
    ]


def _curves(entrants: Sequence[Entrant], metric: str) -> dict[int, tuple[tuple[int, float], ...]]:
    """Read the curves of the best candidates of each family, by rank; all would take too long."""
    read: dict[str, int] = {}
    curves = {}
    for one in entrants:
        read[one.family] = read.get(one.family, 0) + 1
        if read[one.family] > _CURVES_A_FAMILY:
            continue
        key = metric_key("val", metric)
        points = read_history(Path(one.run_dirs[0]), (key,))[key]
        if len(points) > 1:  # models without epochs have one
            curves[one.standing.rank] = points
    return curves


def _importances(settings: CompareSettings) -> tuple[dict[str, dict[str, float]], str]:
    """Return the importances of the study that is compared, if any, and their metric."""
    if settings.sweep is None:
        return {}, ""
    plain = read_sweep_record(sweep_file(Path(settings.output_dir).absolute(), settings.sweep))
    return dict(plain.get("importances", {})), str(plain.get("metrics", [""])[0])


class PicturesGone(Exception):
    """The pictures are no longer available; the message says why."""


def read_pictures(run_dir: Path, ids: Sequence[int]) -> dict[int, UInt8Array]:
    """Read pictures (C, H, W) uint8 by sample id, those with the content that the run was given.

    Nothing is downloaded, and only these are decoded. A changed or missing one is left out.

    Args:
        run_dir: folder of a run on the data set.
        ids: of the pictures, as its predictions name them.

    Raises:
        PicturesGone: the data set is no longer available.
    """
    folder = RunFolder.open(run_dir)
    try:
        split = Split.read(folder.split)
        source = _source(folder)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PicturesGone(str(error).rstrip(".")) from error
    places = {} if source.sample_paths is None else _by_path(source)
    found: dict[int, UInt8Array] = {}
    for index in ids:
        # Of a set of files the ids leave out those that could not be read: the path counts.
        name = "" if split.names is None else split.names[index]
        place = index if source.sample_paths is None else places.get(name)
        if place is None or place >= len(source):
            continue
        picture = _picture(source, place, bytes(split.content_hashes[index]))
        if picture is not None:
            found[index] = picture
    if not found and ids:
        raise PicturesGone("the pictures of the data set are not those that the run was trained on")
    return found


def _source(folder: RunFolder) -> Source:
    data = from_plain(DataSettings, folder.plain_settings()["data"], "data")
    root = root_beside(data.root, folder.output_dir.parent)
    return list_pictures(replace(data, root=root, download=False))


def _by_path(source: Source) -> dict[str, int]:
    return {name: place for place, name in enumerate(source.sample_paths or ())}


def _picture(source: Source, place: int, expected: bytes) -> UInt8Array | None:
    if source.arrays is not None:
        row = np.ascontiguousarray(source.arrays[place])
        return shown(row) if content_hash(row) == expected else None
    try:
        page = source.page(place)
        with source.open(place) as stream:
            data = stream.read()
        return thumbnail(data, page=page) if content_hash(data, page) == expected else None
    except (OSError, PictureError):
        return None
