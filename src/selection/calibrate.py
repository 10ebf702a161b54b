"""The calibration of a champion: its answers on pictures that neither trained nor chose it.

In the order of preference:

1. The test part, from the one measurement that is made of it anyway. It chose nothing, and what is
   read off it changes no label, so that the test figure stays what it is. Where the test part was
   measured before, whoever looked may have chosen by it: as many models count as candidates.
2. The held-out folds of a cross-validation, where the test part has fewer than 300 pictures to draw
   on, or there is none. The answers are those of models that were trained on fewer pictures, of
   repeats those of the first: the champion is one model, and their mean is right more often.
   Distances of pictures are those of the same models too, where a network is trained: it knows the
   pictures that it was trained on, so that they lie closer to each other than new ones do. An
   ensemble of cross-validations has none of them: all but one network of each knows a picture.
3. The validation part, where there is nothing else. It chose among the runs that were judged on it,
   and the promises are corrected for that number (see `src.statistics.conformal` and
   `src.statistics.risk_control`).

Of each group of pictures one is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config.models import EnsembleSettings, NetworkSettings
from ..data.splitting.splits import Split
from ..machine.arrays import Float32Array, Int64Array
from ..records.certainty import Certainty, FeatureSample, FeatureScale
from ..records.run import Predictions, RunSummary
from ..reporting.certainty_report import CardCertainty
from ..runs.candidates.ensemble import TrainedEnsemble
from ..runs.finished.evaluate import Revisited, revisit
from ..runs.fold_records import fold_runs
from ..runs.folder import RunFolder
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
# A network that was refitted on so many times the pictures lays new ones much as those before it
# did: five folds make 1.25 of it. At 1.5, a shift was found in 11 of 24 ordinary folders, and in 1
# of 24 at 1.2 (docs/figures.md, "Known truth").
_MOST_GROWTH = 1.3
_ERRORS = (0.005, 0.01, 0.02, 0.05, 0.1)
_COVERAGES = (0.9, 0.95, 0.99)
_SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class CalibrationBasis:
    """Predictions for a calibration, with the attributes of `src.records.certainty.Certainty`.

    Attributes:
        answered_by: runs whose models answered, each the validation pictures of its own split,
            where the champion is a refit of them; else none.
    """

    source: str
    predictions: Predictions
    refitted: bool
    candidates: int
    answered_by: tuple[RunFolder, ...] = ()


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
    if kind_of(chosen.settings.data.target).pixels:
        print(
            "certainty: prediction sets and guaranteed errors are for labels of whole pictures, so "
            "this model is not calibrated for them"
        )
        return None
    known = chosen.folder.answers("val")[0]
    held_out = Predictions.read(known) if known.is_file() else None
    folds = chosen.settings.cv.is_whole or _combines_folds(chosen, held_out)
    enough = tested is not None and _to_draw_on(tested) >= _ENOUGH_TEST_PICTURES
    if tested is not None and (enough or not folds or held_out is None):
        return CalibrationBasis("test", tested, refitted=False, candidates=max(1, looks))
    if held_out is None or not len(held_out.targets):
        return None
    refitted = folds or model.folder != chosen.folder
    answered_by = fold_runs(chosen.folder) if folds else [chosen.folder]
    return CalibrationBasis(
        "out-of-fold" if folds else "val",
        held_out,
        refitted=refitted,
        candidates=_judged_on(chosen),
        answered_by=tuple(answered_by) if refitted else (),
    )


def _combines_folds(chosen: ChosenRun, held_out: Predictions | None) -> bool:
    """Return whether a run is an ensemble of cross-validations, which held out every picture."""
    if held_out is None or not isinstance(chosen.settings.model, EnsembleSettings):
        return False
    return not np.isin(held_out.sample_ids, Split.read(chosen.folder.split).val).all()


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
    targets, probs, ids = found.targets[kept], found.probs[kept], found.sample_ids[kept]
    kind = found.kind_of_targets
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
        sample=_feature_sample(again, basis, ids, groups),
    )


def _judged_on(chosen: ChosenRun) -> int:
    """Return how many runs were judged on the held-out pictures of a run, itself included.

    One that was stopped early could have been chosen as well, had it done better there. Such a
    cross-validation has no division into folds of its own to know it by, but a first fold.
    """
    folds = fold_runs(chosen.folder)
    judged = RunSummary.read(folds[0].summary) if folds else chosen.summary
    count = 0
    for path in (chosen.folder.output_dir / "runs").glob("*/summary.json"):
        try:
            summary = RunSummary.read(path)
        except (OSError, ValueError):  # of another version, or being written
            continue
        count += summary.split_fingerprint == judged.split_fingerprint
    return max(1, count)


def _feature_sample(
    again: Revisited, basis: CalibrationBasis, ids: Int64Array, groups: Int64Array
) -> FeatureSample | None:
    """Return a sample of the training features, and how far calibration pictures lie from it.

    None for a model that gives none, and where no network is there that could measure them.

    Args:
        again: the champion, with its pictures.
        basis: the answers.
        ids: (n,) indices of the pictures that calibrate.
        groups: (N,) of all pictures.
    """
    if not (basis.refitted and _learns_features(again)):
        known = _reference(again)
        if known is None:
            return None
        return FeatureSample(known.scale, known.rows, _distances(again, known, ids, groups))
    measured = _held_out_distances(basis.answered_by, ids, groups)
    if measured is None:
        return None
    distances, fewest, trained_on = measured
    known = _reference(again, fewest)
    if known is None:
        return None
    comparable = len(again.data.split.train) <= _MOST_GROWTH * trained_on
    return FeatureSample(known.scale, known.rows, distances, comparable)


def _learns_features(again: Revisited) -> bool:
    """Return whether a model's features depend on the pictures that it was trained on."""
    if isinstance(again.trained, TrainedEnsemble):
        # With scikit-learn and scikit-image, which networks need none of.
        from ..runs.candidates.trained_classifier import TrainedClassifier

        return any(not isinstance(one, TrainedClassifier) for one in again.trained.members)
    return isinstance(again.settings.model, NetworkSettings)


def _held_out_distances(
    runs: Sequence[RunFolder], ids: Int64Array, groups: Int64Array
) -> tuple[Float32Array, int, int] | None:
    """Return (n,) distances of pictures by networks that were not trained on them.

    With them comes the least number of training pictures that these were measured from (among
    more, the fifth nearest is nearer), and that a network was trained on. None where a network is
    gone, of an ensemble of cross-validations all are, or gives no features.

    Args:
        runs: of networks with validation parts of their own; of several that held a picture out,
            the first one measures it.
        ids, groups: as of `_feature_sample`.
    """
    found, fewest = np.full(len(ids), np.nan, np.float32), _REFERENCE_PICTURES
    trained_on: list[int] = []
    for run in runs:
        missing = np.flatnonzero(np.isnan(found))
        if not len(missing):
            break
        again = revisit(run, run.chosen_checkpoint())
        held_out = missing[np.isin(ids[missing], again.data.split.val)]
        known = _reference(again)
        if known is None:
            return None
        if len(held_out):
            found[held_out] = _distances(again, known, ids[held_out], groups)
            fewest = min(fewest, len(known.ids))
            trained_on.append(len(again.data.split.train))
    if np.isnan(found).any():
        print(
            "certainty: some of them were held out by no network that is there, so no picture is "
            "flagged as unlike the training pictures"
        )
        return None
    return found, fewest, min(trained_on)


@dataclass(frozen=True, eq=False)
class _Reference:
    """Features of training pictures, with their indices; otherwise as of `FeatureSample`."""

    scale: FeatureScale
    rows: NDArray[np.float16]
    ids: Int64Array


def _reference(again: Revisited, most: int = _REFERENCE_PICTURES) -> _Reference | None:
    """Return the features of `most` training pictures at most; None for a model without any."""
    train = again.data.split.train
    first = features_of(again, train[:1])
    if first is None:
        return None
    size = min(most, max(1, _REFERENCE_BYTES // (2 * first.shape[1])))
    drawn = np.sort(np.random.default_rng(0).permutation(train)[:size])
    features = features_of(again, drawn)
    assert features is not None, "of one picture there were some"
    scale = feature_scale(features)
    # In the stored precision, so that new pictures are compared with the same numbers.
    return _Reference(scale, feature_rows(features, scale).astype(np.float16), drawn)


def _distances(
    again: Revisited, known: _Reference, ids: Int64Array, groups: Int64Array
) -> Float32Array:
    """Return (n,) distances of pictures, n at least 1, from a reference without their groups."""
    features = features_of(again, ids)
    assert features is not None, "of the reference there are some"
    own, others = groups[ids], groups[known.ids]
    return neighbour_distances(
        feature_rows(features, known.scale),
        known.rows,
        same=lambda part: own[part][:, None] == others[None, :],
    )


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
