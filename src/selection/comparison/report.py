"""What the report shows, read from the runs of a verdict's best candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.config.finished import ComparisonSettings
from src.metrics.classification import confusion_matrix
from src.metrics.probabilistic import reliability_bins
from src.records.run import Predictions
from src.reporting.comparison import Comparison, Entrant
from src.reporting.report_data import Agreement, Answer, Disagreement, Exhibits, Leader
from src.selection.comparison.find_runs import sweep_file
from src.selection.comparison.pictures import PicturesGone, read_pictures
from src.storage.digests import line_content
from src.tracking.spool import read_history

__all__ = ["gather", "leaders_of"]

_LEADERS = 3
_DISAGREEMENTS = 12
_CURVES_A_FAMILY = 10
_CURVE = "val/accuracy"


def gather(comparison: Comparison, settings: ComparisonSettings) -> Exhibits:
    """Read what the report shows; a picture or curve that is gone is left out.

    Raises:
        ValueError: the predictions of a leader are gone since they were compared.
    """
    leaders = leaders_of(comparison.entrants)
    said = [_predictions(one, comparison.part) for one in leaders]
    first = [repeats[0] for repeats in said]
    disagreements: tuple[Disagreement, ...] = ()
    agreement, no_pictures = None, None
    if len(leaders) > 1:
        agreement = _agreement(first)
        disagreements, no_pictures = _disagreements(first, Path(leaders[0].run_dirs[0]))
    importances, metric = _importances(settings)
    return Exhibits(
        comparison=comparison,
        class_names=first[0].class_names,
        leaders=tuple(_leader(one, repeats) for one, repeats in zip(leaders, said)),
        agreement=agreement,
        disagreements=disagreements,
        no_pictures=no_pictures,
        curves=_curves(comparison.entrants),
        importances=importances,
        importance_of=metric,
    )


def leaders_of(entrants: Sequence[Entrant]) -> list[Entrant]:
    """The winner and the best candidates of other families; fewer families, their next best."""
    best = {one.family: one for one in reversed(entrants)}
    chosen = sorted(best.values(), key=lambda one: one.standing.rank)[:_LEADERS]
    for one in entrants:
        if len(chosen) == _LEADERS:
            break
        if one not in chosen:
            chosen.append(one)
    return sorted(chosen, key=lambda one: one.standing.rank)


def _predictions(one: Entrant, part: str) -> list[Predictions]:
    """Of all its repeats, by ascending sample id."""
    return [
        _in_order(Predictions.read(Path(place) / "predictions" / f"{part}.parquet"))
        for place in one.run_dirs
    ]


def _in_order(said: Predictions) -> Predictions:
    order = np.argsort(said.sample_ids, kind="stable")
    return Predictions(
        sample_ids=said.sample_ids[order],
        paths=None if said.paths is None else tuple(said.paths[i] for i in order.tolist()),
        targets=said.targets[order],
        probs=said.probs[order],
        class_names=said.class_names,
    )


def _leader(one: Entrant, repeats: Sequence[Predictions]) -> Leader:
    probs = np.concatenate([said.probs for said in repeats])
    targets = np.concatenate([said.targets for said in repeats])
    return Leader(
        rank=one.standing.rank,
        name=one.standing.name,
        family=one.family,
        matrix=confusion_matrix(probs, targets),
        bins=reliability_bins(probs, targets),
    )


def _agreement(said: Sequence[Predictions]) -> Agreement:
    preds = np.stack([one.probs.argmax(axis=1) for one in said])
    right = preds == said[0].targets
    return Agreement(float((preds == preds[0]).all(axis=0).mean()), float(right.any(axis=0).mean()))


def _disagreements(
    said: Sequence[Predictions], run_dir: Path
) -> tuple[tuple[Disagreement, ...], str | None]:
    """The pictures of which the leaders say different things most surely, and why none is shown."""
    chosen = _most_sure(said)
    ids = said[0].sample_ids[chosen].tolist()
    pictures: dict[int, NDArray[np.uint8]] = {}
    no_pictures = None
    try:
        pictures = read_pictures(run_dir, ids)
    except PicturesGone as error:
        no_pictures = str(error)
    names = said[0].class_names
    found = []
    for place, index in zip(chosen.tolist(), ids):
        target = int(said[0].targets[place])
        found.append(
            Disagreement(
                shown=f"picture {index}" if said[0].paths is None else said[0].paths[place],
                target=names[target],
                answers=tuple(_answer(one, place, target) for one in said),
                picture=pictures.get(index),
            )
        )
    return tuple(found), no_pictures


def _most_sure(said: Sequence[Predictions]) -> NDArray[np.int64]:
    """Positions where predictions differ, by the lowest of the probabilities they come with."""
    preds = np.stack([one.probs.argmax(axis=1) for one in said])
    sure = np.stack([one.probs.max(axis=1) for one in said]).min(axis=0)
    differ = np.flatnonzero((preds != preds[0]).any(axis=0))
    return differ[np.argsort(-sure[differ], kind="stable")][:_DISAGREEMENTS]


def _answer(said: Predictions, place: int, target: int) -> Answer:
    label = int(said.probs[place].argmax())
    return Answer(said.class_names[label], float(said.probs[place, label]), label == target)


def _curves(entrants: Sequence[Entrant]) -> dict[int, tuple[tuple[int, float], ...]]:
    """By rank, of the best candidates of every family; reading all of a thousand takes long."""
    read: dict[str, int] = {}
    curves = {}
    for one in entrants:
        read[one.family] = read.get(one.family, 0) + 1
        if read[one.family] > _CURVES_A_FAMILY:
            continue
        points = read_history(Path(one.run_dirs[0]), (_CURVE,))[_CURVE]
        if len(points) > 1:  # a single one is the last word of what knows no epochs
            curves[one.standing.rank] = points
    return curves


def _importances(settings: ComparisonSettings) -> tuple[dict[str, dict[str, float]], str]:
    """Those of the study that is compared, where it has some, and what they are about."""
    if settings.sweep is None:
        return {}, ""
    record = sweep_file(Path(settings.output_dir).absolute(), settings.sweep)
    plain = line_content(record.read_bytes())
    return dict(plain.get("importances", {})), str(plain.get("metrics", [""])[0])
