"""The calibration of a champion: its answers on pictures that neither trained nor chose it.

In the order of preference:

1. The test part, from the one measurement that is made of it anyway. It chose nothing, and what is
   read off it changes no label, so that the test figure stays what it is. Where the test part was
   measured before, whoever looked may have chosen by it: as many models count as candidates.
2. The held-out folds of a cross-validation, where the test part has fewer than 300 pictures to draw
   on, or there is none. The answers are those of models that were trained on fewer pictures, of
   repeats those of the first: the champion is one model, and their mean is right more often.
3. The validation part, where there is nothing else. It chose among the runs that were judged on it,
   and the promises are corrected for that number (see `src.statistics.conformal` and
   `src.statistics.risk_control`).

Of each group of pictures one is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..machine.arrays import Float32Array, Int64Array
from ..records.certainty import Certainty, FeatureSample
from ..records.run import Predictions, RunSummary
from ..reporting.certainty_report import CardCertainty
from ..runs.finished.evaluate import Revisited
from ..serving.trust import false_alarms, familiar
from ..statistics.conformal import fewest_pictures, one_of_each_group
from ..statistics.missed_labels import fewest_labelled
from ..statistics.novelty import feature_rows, feature_scale, neighbour_distances
from ..statistics.risk_control import answering_rule, risk_coverage
from ..targets import kind_of
from .choice import ChosenRun

__all__ = ["CalibrationBasis", "calibrate", "calibration_basis", "card_certainty", "features_of"]

# Number of pictures with which an error of 1 % can be promised if no answer is wrong.
_ENOUGH_TEST_PICTURES = 300
_REFERENCE_PICTURES = 1000
_REFERENCE_BYTES = 16_000_000
_ERRORS = (0.005, 0.01, 0.02, 0.05, 0.1)
_COVERAGES = (0.9, 0.95, 0.99)
_SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class CalibrationBasis:
    """Predictions for a calibration, with the attributes of `src.records.certainty.Certainty`."""

    source: str
    predictions: Predictions
    refitted: bool
    candidates: int


def calibration_basis(
    model: ChosenRun, chosen: ChosenRun, tested: Predictions | None, looks: int
) -> CalibrationBasis | None:
    """Return the answers that calibrate a champion; None where no picture was held out.

    None for pixels as well, since promises concern pictures.

    Args:
        model: what becomes the champion.
        chosen: the run that it is a refit of, or the same.
        tested: its predictions of the test part, if there is one.
        looks: measurements of that test part, this one included.
    """
    if chosen.settings.data.target == "dense":
        print(
            "certainty: prediction sets and guaranteed errors are for labels of whole pictures, so "
            "this model is not calibrated for them"
        )
        return None
    known = chosen.folder.answers("val")[0]
    held_out = Predictions.read(known) if known.is_file() else None
    folds = chosen.settings.cv.is_whole
    enough = tested is not None and _to_draw_on(tested) >= _ENOUGH_TEST_PICTURES
    if tested is not None and (enough or not folds or held_out is None):
        return CalibrationBasis("test", tested, refitted=False, candidates=max(1, looks))
    if held_out is None or not len(held_out.targets):
        return None
    return CalibrationBasis(
        "out-of-fold" if folds else "val",
        held_out,
        refitted=folds or model.folder != chosen.folder,
        candidates=_judged_on(chosen.folder.output_dir, chosen.summary.split_fingerprint),
    )


def _to_draw_on(found: Predictions) -> int:
    """Return the number of pictures that are left when one of each group is drawn."""
    return len(found.targets if found.groups is None else np.unique(found.groups))


def calibrate(again: Revisited, basis: CalibrationBasis) -> Certainty:
    """Return a champion's answers on one calibration picture of each group, with its features.

    Args:
        again: the champion, with its pictures.
        basis: the answers.
    """
    found, groups = basis.predictions, again.data.groups
    if groups is None:  # each picture is a group of its own
        groups = np.arange(len(again.data.pictures.targets))
    kept = one_of_each_group(groups[found.sample_ids])
    targets, probs = found.targets[kept], found.probs[kept]
    kind = kind_of(found.kind)
    right = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0] if not kind.sets else probs
    return Certainty(
        source=basis.source,
        refitted=basis.refitted,
        candidates=basis.candidates,
        pictures=len(found.targets),
        num_classes=len(found.class_names),
        targets=targets.astype(np.int64),
        label_probs=right,
        confidences=kind.confidences(probs),
        correct=kind.right(found.decided[kept], targets),
        sample=_feature_sample(again, found.sample_ids[kept], groups),
    )


def _judged_on(output_dir: Path, fingerprint: str | None) -> int:
    """Return how many finished runs were judged on the held-out pictures of a split."""
    count = 0
    for path in (output_dir / "runs").glob("*/summary.json"):
        try:
            summary = RunSummary.read(path)
        except (OSError, ValueError):  # of another version, or being written
            continue
        count += summary.status == "FINISHED" and summary.split_fingerprint == fingerprint
    return max(1, count)


def _feature_sample(again: Revisited, ids: Int64Array, groups: Int64Array) -> FeatureSample | None:
    """Return a sample of the training features, and how far calibration pictures lie from it."""
    train = again.data.split.train
    first = features_of(again, train[:1])
    if first is None:
        return None
    size = min(_REFERENCE_PICTURES, max(1, _REFERENCE_BYTES // (2 * first.shape[1])))
    drawn = np.sort(np.random.default_rng(0).permutation(train)[:size])
    known, features = features_of(again, drawn), features_of(again, ids)
    if known is None or features is None:
        return None
    scale = feature_scale(known)
    # In the stored precision, so that new pictures are compared with the same numbers.
    reference = feature_rows(known, scale).astype(np.float16)
    own, others = groups[ids], groups[drawn]
    distances = neighbour_distances(
        feature_rows(features, scale),
        reference,
        same=lambda part: own[part][:, None] == others[None, :],
    )
    return FeatureSample(scale, reference, distances)


def features_of(again: Revisited, ids: Int64Array) -> Float32Array | None:
    """Return the features (n, F) of pictures of any parts; None for a model that gives none.

    Args:
        again: the model, with its pictures.
        ids: (n,) their indices, n at least 1.
    """
    found: Float32Array | None = None
    for part in ("train", "val", "test"):
        own = getattr(again.data.split, part)
        inside = np.isin(ids, own)
        if not inside.any():
            continue
        rows = np.searchsorted(own, ids[inside]).astype(np.int64)
        features = again.trained.features(again.data, part, rows)
        if features is None:
            return None
        if found is None:
            found = np.empty((len(ids), features.shape[1]), np.float32)
        found[inside] = features
    return found


def card_certainty(certainty: Certainty) -> CardCertainty:
    """Return what the model card says about the certainty of single answers."""
    count, candidates = len(certainty.targets), certainty.candidates
    answered: dict[float, float | None] = {}
    errors: dict[float, float] = {}
    if certainty.of_sets:
        fewest, there = fewest_labelled, int(certainty.targets.any(axis=1).sum())
    else:
        fewest, there = fewest_pictures, count
        counted = familiar(certainty)
        confidences, correct = certainty.confidences[counted], certainty.correct[counted]
        for error in _ERRORS:
            rule = answering_rule(confidences, correct, error, candidates=candidates)
            answered[error] = None if rule is None else rule.answered / count
        curve = risk_coverage(certainty.confidences, certainty.correct)
        for share in _SHARES:
            at = min(int(np.searchsorted(curve.shares, share)), len(curve.shares) - 1)
            errors[share] = float(curve.errors[at])
    return CardCertainty(
        certainty=certainty,
        false_alarms=false_alarms(certainty),
        answered=answered,
        coverages=[one for one in _COVERAGES if fewest(one, candidates) <= there],
        errors=errors,
    )
