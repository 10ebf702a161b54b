"""The best of hundreds of classifiers on features, chosen on held-out folds of the training part.

Fold by fold, heads that are clearly worse than the best so far drop out, by accuracy and then by
the log-loss after calibration (Maron & Moore, "Hoeffding Races", NIPS 1993, with a paired normal
test in the place of Hoeffding's bound). Of those that stay, the one with the smallest log-loss is
chosen, with its calibration.

Log-loss rather than accuracy decides: over six subsamples of 300 and 1,000 photos the two choices
were as accurate on unseen ones (81.4 and 81.5 %), and the log-loss of the first was smaller (0.541
and 0.553 nats).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from ..config.features import ClassicalSettings
from ..machine.arrays import Float32Array, Float64Array, Int64Array
from .calibration import (
    CalibratedModel,
    Calibration,
    folds_of,
    is_enough,
    of_all_classes,
    scores_of,
)
from .grid import Head, HeadGroup, Normalisation, axes_seconds
from .paths import (
    LinearPath,
    View,
    mean_scores,
    neighbour_scores,
    ridge_scores,
    svm_scores,
)
from .pipeline import make_pipeline
from .rbf import RbfMachine
from .scaling import BlockScaler

__all__ = ["SEARCH_VERSION", "ChosenHead", "Examples", "choose_head", "fit_chosen"]

# Part of the key of a search that is kept: to be raised when the same heads of the same features
# would be scored, calibrated or compared otherwise.
SEARCH_VERSION = 2

# Fraction of the time limit for the first fold, in which all heads are tried; the others take less.
_FIRST_SHARE = 0.4
# Fraction of the time limit that the counted work may fill: under load a search may take three
# times as long and still finds the same.
_COUNTED = 1 / 3
# Standard errors by which a head is worse than the best when it drops out. Copies (mirrored
# pictures) make the error seem smaller than it is, and the best of many is lucky.
_CLEARLY = 3.0
# Largest number of scores of a fold that are kept for each head; of more, a sample is kept.
_MOST_SCORES = 250_000
# Number of features above which axes are computed from a sample, since they would take longest.
_MOST_ROTATED = 2_000
_SAMPLE = 5_000


@dataclass(frozen=True, eq=False)
class Examples:
    """Features of pictures, and what a classifier on them learns.

    Attributes:
        features: (N, D) float32.
        targets: (N,) int64, the classes.
        contents: (N,) equal where pictures share a fold, as of `held_together`.
        sizes: features of each descriptor, D in all.
    """

    features: Float32Array
    targets: Int64Array
    contents: NDArray[np.generic]
    sizes: Sequence[int]


@dataclass(frozen=True, eq=False)
class ChosenHead:
    """The result of a search among heads."""

    head: Head  # the one with the smallest log-loss
    calibration: Calibration  # of its scores of held-out pictures
    accuracy: float  # of these, in [0, 1]; too high by the luck of the best of many
    log_loss: float  # of their calibrated probabilities, in nats
    tried: int  # heads
    folds: int  # that the last of them were judged by
    seconds: float
    complete: bool  # none was left out for lack of time: more would find the same
    late: bool  # the clock has cut it short: with a core to itself it would find more

    def __str__(self) -> str:
        short = ", with no time for more" * self.late
        return f"{self.head}; chosen from {self.tried} classifiers in {self.seconds:.0f} s{short}"

    def covers(self, other: ChosenHead) -> bool:
        """Return whether it was made of as many heads, on as many folds, as another one."""
        return self.tried >= other.tried and self.folds >= other.folds

    def plain(self) -> dict[str, Any]:
        """Return plain values from which `from_plain` makes the same choice."""
        head, calibration = self.head, self.calibration
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "head": asdict(head),
            "calibration": {"slope": calibration.slope, "shift": calibration.shift.tolist()},
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Return the choice of these values.

        Raises:
            KeyError, TypeError, ValueError: they are not those of a choice.
        """
        head, calibration = plain["head"], plain["calibration"]
        values = tuple((str(name), float(value)) for name, value in head["values"])
        made = {
            "head": Head(head["kind"], Normalisation(**head["normalisation"]), values),
            "calibration": Calibration(calibration["slope"], np.array(calibration["shift"])),
        }
        return cls(**{**plain, **made})

    def record(self) -> dict[str, Any]:
        """Return plain values for the metadata of a model."""
        return {
            "summary": str(self),
            "settings": self.head.plain(),
            "tried": self.tried,
            "folds": self.folds,
            "seconds": round(self.seconds, 3),
            "out_of_fold_accuracy": self.accuracy,
            "out_of_fold_log_loss": self.log_loss,
        }


def fit_chosen(
    choice: ChosenHead,
    settings: ClassicalSettings,
    examples: Examples,
    *,
    num_classes: int,
    seed: int,
    threads: int,
) -> CalibratedModel:
    """Return the chosen head fitted to all pictures, with the calibration of its search.

    Args:
        choice: of `choose_head` on the same examples.
        settings: all else of the classifier.
        examples: the training pictures.
        num_classes: as of `CalibratedModel.fit`.
        seed, threads: as of `make_pipeline`.
    """
    classes, labels = np.unique(examples.targets, return_inverse=True)
    chosen = choice.head.settings(settings)
    count = len(labels)
    pipeline = make_pipeline(chosen, examples.sizes, pictures=count, seed=seed, threads=threads)
    pipeline.fit(examples.features, labels)
    return CalibratedModel(pipeline, choice.calibration, classes, num_classes)


def choose_head(
    examples: Examples,
    *,
    folds: int,
    seed: int,
    seconds: float,
    groups: Sequence[HeadGroup],
) -> ChosenHead:
    """Return the head with the smallest out-of-fold log-loss.

    What is tried follows from the numbers of pictures, features and classes: as much as an idle
    core does in a third of the time. So a busy machine finds the same, until the time is up.

    Args:
        examples: the training pictures.
        folds: at least 2.
        seed: of the folds and of samples.
        seconds: after which no further head is tried, nor a fold begun; the first group of heads
            is tried in any case.
        groups: of heads to try, in this order; see `head_groups`.
    """
    search, budget = _HeadSearch(list(groups)), _Budget(seconds, time.perf_counter())
    _, labels = np.unique(examples.targets, return_inverse=True)
    held_out: list[Int64Array] = []
    for train, held in folds_of(labels, examples.contents, folds, seed):
        share = 1.0 if search.folds else _FIRST_SHARE
        if search.folds and budget.is_spent(share):
            search.complete = False
            break
        seen, every = search.seen + len(held), held
        held = held[:: max(1, len(held) * (int(labels.max()) + 1) // _MOST_SCORES)]
        fold = _Fold(examples, labels, train, held, seed)
        found: dict[Head, Float32Array] = {}
        for group in search.groups:
            if found and budget.is_spent(share):
                break
            budget.counted += fold.seconds(group)
            found.update(zip(group.heads, _group_scores(group, fold)))
        complete = len(found) == sum(len(group.heads) for group in search.groups)
        search.complete = search.complete and complete
        if search.folds and not complete:
            break  # heads are compared on the same folds
        search.add(found, labels[held], seen)
        held_out.append(labels[every])
        if is_enough(held_out, len(np.unique(labels))):
            break
    return search.result(budget)


@dataclass
class _Budget:
    """Counts the seconds that the work of a search would take on an idle core, and its own."""

    seconds: float
    started: float
    counted: float = 0.0
    late: bool = False

    @property
    def took(self) -> float:
        return time.perf_counter() - self.started

    def is_spent(self, share: float) -> bool:
        """Return whether this share of the work is done, or the time is up."""
        self.late = self.late or self.took > self.seconds
        return self.late or self.counted > share * _COUNTED * self.seconds


@dataclass(frozen=True, eq=False)
class _ScoredHead:
    """A head's scores of the held-out pictures, calibrated: accuracy, and the loss of each."""

    calibration: Calibration
    accuracy: float
    losses: Float64Array

    @classmethod
    def of(cls, scores: Float32Array, targets: Int64Array) -> Self:
        calibration = Calibration.fit(scores, targets)
        probs = calibration(scores)
        chance = probs[np.arange(len(targets)), targets].astype(np.float64)
        accuracy = float((probs.argmax(axis=1) == targets).mean())
        return cls(calibration, accuracy, -np.log(np.maximum(chance, 1e-12)))


@dataclass(eq=False)
class _HeadSearch:
    """The heads that are left, with their scores of the folds so far."""

    groups: list[HeadGroup]
    scores: dict[Head, list[Float32Array]] = field(default_factory=dict)
    judged: dict[Head, _ScoredHead] = field(default_factory=dict)
    targets: list[Int64Array] = field(default_factory=list)
    tried: int = 0
    seen: int = 0
    complete: bool = True

    @property
    def folds(self) -> int:
        return len(self.targets)

    def add(self, found: dict[Head, Float32Array], targets: Int64Array, seen: int) -> None:
        """Add the scores of one more fold, and drop heads that are clearly worse than the best."""
        if not self.targets:
            self.tried = len(found)
        self.seen = seen
        self.targets.append(targets)
        known = np.concatenate(self.targets)
        parts = {head: [*self.scores.get(head, []), one] for head, one in found.items()}
        joined = {head: np.concatenate(some) for head, some in parts.items()}
        wrong = {head: 1.0 * (one.argmax(axis=1) != known) for head, one in joined.items()}
        judged = {head: _ScoredHead.of(joined[head], known) for head in _not_clearly_worse(wrong)}
        left = _not_clearly_worse({head: one.losses for head, one in judged.items()})
        self.judged = {head: judged[head] for head in left}
        self.scores = {head: parts[head] for head in left}
        groups = [group.only(self.scores) for group in self.groups]
        self.groups = [group for group in groups if group.heads]

    def result(self, budget: _Budget) -> ChosenHead:
        """Return the head with the smallest log-loss; of equal ones the first."""
        head = min(self.judged, key=lambda one: self.judged[one].losses.mean())
        best = self.judged[head]
        return ChosenHead(
            head=head,
            calibration=best.calibration,
            accuracy=best.accuracy,
            log_loss=float(best.losses.mean()),
            tried=self.tried,
            folds=self.folds,
            seconds=budget.took,
            complete=self.complete,
            late=budget.late,
        )


def _not_clearly_worse(losses: dict[Head, Float64Array]) -> list[Head]:
    """Return the heads whose losses (N,) are on average not clearly above the smallest ones."""
    best = losses[min(losses, key=lambda head: losses[head].mean())]
    left = []
    for head, one in losses.items():
        worse = one - best
        if worse.mean() <= _CLEARLY * worse.std() / np.sqrt(len(worse)):
            left.append(head)
    return left


class _Fold:
    """One division of the training pictures, and its features in each normalisation in use."""

    def __init__(
        self,
        examples: Examples,
        labels: Int64Array,
        train: Int64Array,
        held: Int64Array,
        seed: int,
    ) -> None:
        self.seed = seed
        self.known, self._labels = np.unique(labels[train], return_inverse=True)
        self.classes = int(labels.max()) + 1
        self._features, self._train, self._held = examples.features, train, held
        self._sizes = list(examples.sizes)
        self._scaled: dict[str, View] = {}
        self._views: dict[Normalisation, View] = {}

    def seconds(self, group: HeadGroup) -> float:
        """Estimate the seconds of the scores of a group from sizes only."""
        wanted, rows, held = group.normalisation, len(self._train), len(self._held)
        wide = self._features.shape[1]
        dims = min(rows, wide, wanted.keep or wide)
        found = group.seconds(rows, held, dims, len(self.known))
        if wanted.scaling not in self._scaled:
            found += axes_seconds(rows, held, wide)
        if wanted.rows and wanted not in self._views:
            found += axes_seconds(rows, held, dims)
        return found

    def view(self, normalisation: Normalisation) -> View:
        """Return the features in this normalisation, computed once."""
        if normalisation not in self._views:
            self._views[normalisation] = self._normalised(normalisation)
        return self._views[normalisation]

    def _normalised(self, wanted: Normalisation) -> View:
        view = self._of_scaling(wanted.scaling)
        kept = slice(wanted.keep)
        factors = (view.variances[kept] ** (-wanted.whitening / 2)).astype(np.float32)
        train, held = view.train[:, kept] * factors, view.held[:, kept] * factors
        dims = view.dims
        if wanted.keep is not None:
            dims = min(dims, wanted.keep, len(train))
        if wanted.rows:
            return View.of(normalize(train), normalize(held), self._labels, len(self.known), dims)
        variances = view.variances[kept] ** (1 - wanted.whitening)
        return replace(view, train=train, held=held, variances=variances, dims=dims)

    def _of_scaling(self, scaling: str) -> View:
        if scaling not in self._scaled:
            scaler = BlockScaler(self._sizes, each=scaling == "features")
            train = scaler.fit(self._features[self._train]).transform(self._features[self._train])
            held = scaler.transform(self._features[self._held])
            if min(train.shape) > _MOST_ROTATED:
                train, held = self._reduced(train, held)
            self._scaled[scaling] = View.of(train, held, self._labels, len(self.known))
        return self._scaled[scaling]

    def _reduced(
        self, train: Float32Array, held: Float32Array
    ) -> tuple[Float32Array, Float32Array]:
        from sklearn.decomposition import PCA

        sample = np.random.default_rng(self.seed).permutation(len(train))[:_SAMPLE]
        axes = PCA(Normalisation.MOST_KEPT, svd_solver="randomized", random_state=self.seed)
        axes.fit(train[np.sort(sample)])
        return axes.transform(train), axes.transform(held)


def _group_scores(group: HeadGroup, fold: _Fold) -> Iterator[Float32Array]:
    """Yield scores (M, K) float32 of a fold's held-out pictures for each head of a group."""
    view = fold.view(group.normalisation)
    if len(fold.known) == 1:  # too few pictures for a choice: all heads predict the same
        found: Iterator[NDArray[np.floating]] = (np.ones((len(view.held), 1)) for _ in group.heads)
    else:
        found = _path(group, view, fold.seed)
    for scores in found:
        yield of_all_classes(scores.astype(np.float64), fold.known, fold.classes).astype(np.float32)


def _path(group: HeadGroup, view: View, seed: int) -> Iterator[Float64Array]:
    """Yield scores (M, K') of each head of a group, in its order."""
    values = [dict(head.values) for head in group.heads]
    match group.kind:
        case "ridge":
            return ridge_scores(view, [one["strength"] for one in values])
        case "nearest_mean":
            return mean_scores(view, [one["shrinkage"] for one in values])
        case "logistic":
            return LinearPath(view).scores([one["strength"] for one in values])
        case "linear_svm":
            return LinearPath(view, "squared_hinge").scores([one["strength"] for one in values])
        case "knn":
            return neighbour_scores(view, [int(one["neighbours"]) for one in values])
        case _ if values[0]["exact_up_to"] > 0:
            return svm_scores(view, [(one["gamma"], one["strength"]) for one in values])
        case _:
            machines = (
                RbfMachine(one["strength"], one["gamma"], 0, int(one["components"]), seed)
                for one in values
            )
            fitted = (machine.fit(view.train, view.labels) for machine in machines)
            return (scores_of(machine, view.held, view.classes) for machine in fitted)
