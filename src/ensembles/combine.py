"""Combine trained models, and estimate the accuracy of the combination by cross-validation.

A combination that is chosen and measured on the same pictures looks better than it is. The
pictures are therefore split into folds: for each fold the combination is fitted on the other folds,
and so is the choice of the single best member that it is compared with. Both then predict every
picture once, and are compared picture by picture. The weights returned are fitted on all pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from ..machine.arrays import (
    AnyArray,
    BoolArray,
    Float32Array,
    Float64Array,
    Int64Array,
    IntegerArray,
)
from ..metrics.probabilistic import log_loss
from ..metrics.registry import RANKING
from ..records.combination import Combination
from ..records.ties import Place, place
from ..statistics.candidates import Candidate, Measure
from ..statistics.evidence import Evidence
from ..statistics.paired_tests import difference_p_value, mcnemar
from ..targets import TargetKind, kind_of
from ..targets.kind import fixed_thresholds
from .member_weights import greedy_weights, stacking_weights
from .mixing import Method, as_pairs, combined_probabilities, from_pairs

__all__ = [
    "METHODS",
    "Judge",
    "Mixture",
    "WeightFit",
    "combine",
    "combine_pixels",
    "dealt",
    "greedy_soup",
    "ranked",
]

Probs = Float32Array
Mixture = tuple[Method, Float64Array]
METHODS: tuple[Method, ...] = ("greedy", "stacking")
# Number of members, the best by log-loss, among which weights are fitted.
_LIBRARY = 50
# By which a combination is measured.
_FOLDS = 5
# Folds by which the better of two methods is chosen: two are enough, and each costs a search.
_METHOD_FOLDS = 2


@dataclass(frozen=True, eq=False)
class Judge:
    """By what combinations and their members are judged.

    Attributes:
        kind: of the targets.
        measure: of the answers.
        best_for: the metric that thresholds of answers are best for, see `TargetKind.thresholds`;
            None for answers without thresholds.
        costs: (K, K) of each prediction (column) for each class, for thresholds by these.
    """

    kind: TargetKind
    measure: Measure
    best_for: str | None = None
    costs: Float64Array | None = None

    @classmethod
    def usual(cls, kind: str) -> Judge:
        """Return the one by the primary measure of a kind of targets, without thresholds."""
        return cls(kind_of(kind), Measure(kind_of(kind).primary))

    def figure(
        self, answers: AnyArray, targets: IntegerArray, groups: Int64Array | None = None
    ) -> float:
        """Return the figure of answers to N pictures, in the units of the measure."""
        return self.in_units(self.mean_score(answers, targets, groups))

    def mean_score(
        self, answers: AnyArray, targets: IntegerArray, groups: Int64Array | None = None
    ) -> float:
        """Return the mean score of answers to N pictures, higher for better."""
        return float(self.scored(answers, targets, groups)[1].mean(dtype=np.float64))

    def in_units(self, score: float) -> float:
        """Return the figure of a mean score, which is minus it where less is better."""
        return float(score if RANKING[self.measure.name].higher_is_better else -score)

    def scored(
        self, answers: AnyArray, targets: IntegerArray, groups: Int64Array | None = None
    ) -> tuple[IntegerArray, Float32Array]:
        """Return what is answered, (N,) or (N, K), and (N,) scores, higher for better.

        Thresholds that pictures choose are for each picture those of the others, as in the figures
        of a run.
        """
        thresholds = fixed_thresholds(self.best_for, self.costs)
        if thresholds is None and self.best_for is not None:
            own = np.arange(len(targets)) if groups is None else groups
            thresholds = self.kind.cross_fitted_thresholds(answers, targets, own, self.best_for)
        preds = self.kind.decide(answers, thresholds)
        return preds, self.measure.scores(answers, preds, targets, self.kind)


@dataclass(frozen=True)
class WeightFit:
    """How weights are fitted.

    Attributes:
        at_most: members with a weight, at most: each of them has to answer every picture. The
            heaviest stay and are weighed again; before, all but the 50 best by log-loss are let
            go, as in Caruana, Munson & Niculescu-Mizil, "Getting the Most Out of Ensemble
            Selection", ICDM 2006.
        methods: to choose from: "greedy" (Caruana et al. 2004), "stacking", or both, of which the
            one with the lower held-out log-loss is taken.
        seed: of folds and bags.
    """

    at_most: int
    methods: Sequence[Method] = METHODS
    seed: int = 0

    def __call__(self, probs: Probs, targets: Int64Array, groups: Int64Array | None) -> Mixture:
        """Return the better of the methods, and its weights (M,), fitted to these probabilities."""
        method = self.methods[0]
        units = len(targets) if groups is None else len(np.unique(groups))
        if len(self.methods) > 1 and units > 1:
            alone = {one: replace(self, methods=(one,)) for one in self.methods}
            given = probs, targets, groups, _METHOD_FOLDS
            method = min(alone, key=lambda one: log_loss(alone[one].held_out(*given), targets))
        return method, self._weights(method, probs, targets)

    def held_out(
        self, probs: Probs, targets: Int64Array, groups: Int64Array | None, folds: int
    ) -> Probs:
        """Return (N, K) predictions for each picture of a combination fitted on other folds."""
        found = np.empty(probs.shape[1:], np.float32)
        for outside in dealt(len(targets), folds, self.seed, groups):
            inside = ~outside
            kept = None if groups is None else groups[inside]
            method, weights = self(probs[:, inside], targets[inside], kept)
            found[outside] = combined_probabilities(method, probs[:, outside], weights)
        return found

    def _weights(self, method: Method, probs: Probs, targets: Int64Array) -> Float64Array:
        losses = np.array([log_loss(one, targets) for one in probs])
        chosen = losses.argsort(kind="stable")[:_LIBRARY]
        weights = _weights_of(chosen, method, probs, targets, self.seed)
        if np.count_nonzero(weights) > self.at_most:
            heaviest = np.argsort(-weights, kind="stable")[: self.at_most]
            weights = _weights_of(heaviest, method, probs, targets, self.seed)
        return weights


def combine(
    members: Sequence[str],
    probs: Probs,
    targets: IntegerArray,
    fit: WeightFit,
    *,
    judge: Judge | None = None,
    groups: Int64Array | None = None,
) -> Combination:
    """Fit a combination and measure it on held-out pictures.

    Of label sets each label of each picture is an answer of its own, as far as the weights go;
    those of a picture are dealt together.

    Args:
        members: M names.
        probs: (M, N, K) of pictures that no member was trained on.
        targets: (N,), or of label sets (N, K), 0 and 1.
        fit: fits the weights, anew for every fold.
        judge: of the answers; None for one class a picture, by accuracy.
        groups: (N,) of the pictures, each of which is dealt as a whole; None where each picture is
            a group of its own.

    Raises:
        ValueError: shapes that do not fit, fewer groups than folds, or what the metrics refuse.
    """
    if probs.ndim != 3 or len(members) != len(probs) or len(targets) != probs.shape[1]:
        raise ValueError(
            f"probs has shape {probs.shape}, for {len(members)} members and targets of shape "
            f"{targets.shape}: it must be (M, N, K) for M members and targets of N pictures."
        )
    judge = judge or Judge.usual("single")
    sets = judge.kind.sets
    answers, labels, owners = probs, targets.astype(np.int64, copy=False), groups
    if sets:
        classes = targets.shape[1]
        answers, labels = as_pairs(probs), labels.ravel()
        owners = np.repeat(np.arange(len(targets)) if groups is None else groups, classes)
    held_out = fit.held_out(answers, labels, owners, _FOLDS)
    if sets:
        held_out = from_pairs(held_out, classes)
    held = _HeldOut(judge, targets, dealt(len(targets), _FOLDS, fit.seed, groups), groups)
    return held.compared(members, *fit(answers, labels, owners), held_out, probs)


def combine_pixels(
    members: Sequence[str],
    probs: Probs,
    *,
    labels: Int64Array,
    pictures: Int64Array,
    answers: Sequence[AnyArray],
    targets: IntegerArray,
    mixed: Callable[[Sequence[Mixture], Int64Array], AnyArray],
    fit: WeightFit,
    judge: Judge | None = None,
    groups: Int64Array | None = None,
) -> Combination:
    """Fit a combination of predictions of pixels, and measure it on all pixels of pictures.

    The weights are fitted to some pixels of each picture, which are dealt together.

    Args:
        members: M names.
        probs: (M, P, K) of some pixels of pictures that no member was trained on.
        labels: (P,) their classes.
        pictures: (P,) in [0, N), the place of the picture that each is of.
        answers: of each member the (N,) answers about all pixels, see `src.records.pixel_answers`.
        targets: (N, K), the classes that a picture holds.
        mixed: combinations, and (N,) the number of that by which each picture is answered ->
            (N,) answers about all pixels. Called once.
        fit, groups: as of `combine`.
        judge: of the answers about all pixels; None for mean IoU.

    Raises:
        ValueError: as `combine`.
    """
    owners = pictures if groups is None else groups[pictures]
    outside = dealt(len(targets), _FOLDS, fit.seed, groups)
    mixtures = []
    for fold in outside:
        inside = ~fold[pictures]
        mixtures.append(fit(probs[:, inside], labels[inside], owners[inside]))
    held_out = mixed(mixtures, np.argmax(outside, axis=0))
    held = _HeldOut(judge or Judge.usual("dense"), targets, outside, groups)
    return held.compared(members, *fit(probs, labels, owners), held_out, answers)


def greedy_soup(
    members: Sequence[str],
    predict: Callable[[tuple[int, ...]], AnyArray],
    targets: IntegerArray,
    *,
    judge: Judge | None = None,
    seed: int = 0,
    groups: Int64Array | None = None,
) -> Combination:
    """Return the greedy soup, measured on pictures that it was not chosen on.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without increasing inference time", ICML 2022, recipe 1: from the best member to the
    worst, each is put in if the figure does not fall. As in `combine`, the soup and its best
    member are chosen anew for every fold, from the pictures of the other folds.

    Args:
        members: M names, at least one.
        predict: ascending indices of some members -> (N, K) of the mean of their weights, or of
            pixels (N,) answers; called once for every soup that is tried.
        targets: (N,) or (N, K).
        judge: of the answers, by which networks are chosen; None as of `combine`.
        seed, groups: see `dealt`, whose errors it raises.

    Returns:
        Of the weights, those of the members in the soup are equal and the others 0.
    """
    predicted, judge = cache(predict), judge or Judge.usual("single")
    alone = [predicted((i,)) for i in range(len(members))]

    def made(kept: BoolArray) -> tuple[int, ...]:
        own = None if groups is None else groups[kept]

        def reached(soup: tuple[int, ...]) -> float:
            return judge.mean_score(predicted(soup)[kept], targets[kept], own)

        first, *others = ranked(judge, members, [one[kept] for one in alone], targets[kept], own)
        soup: tuple[int, ...] = (first,)
        for other in others:
            larger = tuple(sorted((*soup, other)))
            if reached(larger) >= reached(soup):
                soup = larger
        return soup

    held_out = np.empty_like(alone[0])
    held = _HeldOut(judge, targets, dealt(len(targets), _FOLDS, seed, groups), groups)
    for fold in held.folds:
        held_out[fold] = predicted(made(~fold))[fold]
    weights = np.zeros(len(members))
    chosen = list(made(np.ones(len(targets), np.bool_)))
    weights[chosen] = 1 / len(chosen)
    return held.compared(members, "soup", weights, held_out, alone)


def ranked(
    judge: Judge,
    names: Sequence[str],
    answers: Sequence[AnyArray],
    targets: IntegerArray,
    groups: Int64Array | None = None,
) -> list[int]:
    """Return the places of M models, the best first.

    Equal ones are in the order of `src.records.ties`.

    Args:
        judge: of the answers.
        names: M of the models.
        answers: of each, to the same N pictures.
        targets: (N,) or (N, K).
        groups: (N,) of the pictures; None where each stands for itself.
    """

    def order(index: int) -> Place:
        return place(
            judge.mean_score(answers[index], targets, groups),
            maximize=True,
            log_loss=float(judge.kind.losses(answers[index], targets).mean(dtype=np.float64)),
            latency=None,
            name=names[index],
        )

    return sorted(range(len(names)), key=order)


@dataclass(frozen=True)
class _HeldOut:
    """The pictures on which a combination is compared with the best single member.

    Attributes:
        judge: of the answers.
        targets: (N,) or (N, K).
        folds: of each, (N,) bool, which pictures it holds out.
        groups: (N,) of the pictures, or None.
    """

    judge: Judge
    targets: IntegerArray
    folds: Sequence[BoolArray]
    groups: Int64Array | None

    def compared(
        self,
        members: Sequence[str],
        method: Method | Literal["soup"],
        weights: Float64Array,
        held_out: AnyArray,
        alone: Sequence[AnyArray] | Probs,
    ) -> Combination:
        """Compare a combination with the best single member, both on held-out pictures.

        Args:
            members, method, weights: of the combination.
            held_out: (N, K) predictions for each picture of a combination fitted on the other
                folds, or of pixels (N,) answers.
            alone: of each member its own predictions, likewise.
        """
        judge, targets, groups = self.judge, self.targets, self.groups

        def best_of(kept: BoolArray) -> int:
            own = None if groups is None else groups[kept]
            return ranked(judge, members, [one[kept] for one in alone], targets[kept], own)[0]

        single = np.empty_like(alone[0])
        for fold in self.folds:
            single[fold] = alone[best_of(~fold)][fold]
        both = []
        for name, answers in (("combination", held_out), ("single", single)):
            losses = judge.kind.losses(answers, targets).mean(dtype=np.float64, keepdims=True)
            preds, scores = judge.scored(answers, targets, groups)
            both.append(
                Candidate(
                    name=name,
                    run_ids=("",),
                    right=judge.kind.right(preds, targets)[None],
                    log_losses=losses,
                    scores=scores[None],
                )
            )
        measure = judge.measure.name
        evidence = Evidence.of(both, groups, lowest=RANKING[measure].worst)
        return Combination(
            way=method,
            members=tuple(members),
            weights=weights,
            probs=held_out,
            measure=measure,
            figure=judge.in_units(evidence.figure[0]),
            log_loss=both[0].log_loss,
            best=members[best_of(np.ones(len(targets), np.bool_))],
            best_figure=judge.in_units(evidence.figure[1]),
            p_value=mcnemar(both[0].right[0], both[1].right[0], groups).p_value
            if measure == "accuracy"
            else difference_p_value(evidence, 0, 1),
        )


def dealt(count: int, folds: int, seed: int, groups: Int64Array | None = None) -> list[BoolArray]:
    """Return for each fold, (N,) bool, which of `count` pictures are held out.

    Args:
        count: N.
        folds: at least 2.
        seed: of the order in which they are dealt.
        groups: (N,) of the pictures, each of which is held out as a whole; None where each picture
            is a group of its own.

    Raises:
        ValueError: there are fewer than 2 folds, or more than groups.
    """
    own = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(own.max(initial=-1)) + 1
    if not 2 <= folds <= units:
        what = "pictures" if groups is None else "groups of pictures"
        raise ValueError(f"folds is {folds}: it must be within 2 and the {units} {what}.")
    fold_of = (np.random.default_rng(seed).permutation(units) % folds)[own]
    return [fold_of == fold for fold in range(folds)]


def _weights_of(
    chosen: Int64Array, method: Method, probs: Probs, targets: Int64Array, seed: int
) -> Float64Array:
    """Return (M,) weights, 0 for all but the chosen members."""
    kept, weights = np.sort(chosen), np.zeros(len(probs))
    if method == "stacking":
        weights[kept] = stacking_weights(probs[kept], targets)
    else:
        weights[kept] = greedy_weights(probs[kept], targets, seed=seed)
    return weights
