"""Classifiers on the features of frozen networks as one module of torch, to be exported.

Of a fitted pipeline all is affine but the scaling of rows and kernels: steps that follow each other
become one matrix, read off their own answers to zeros and to unit vectors in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.preprocessing import Normalizer
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from ..machine.arrays import Float32Array, Float64Array
from ..records.pictures import Pixels
from ..targets import kind_of
from .binary import BinaryModels
from .calibration import CalibratedModel, scores_of
from .classifier import FeatureClassifier
from .embedding import NetworkFeatures
from .means import NearestMean
from .rbf import RbfMachine
from .scaling import BlockScaler, PartWhitening
from .selection import KeepBest

__all__ = ["ClassifierNetwork", "classifier_logits"]

Rows = Callable[[Any], Any]  # of rows (N, D) to rows (N, E) float64

_AFFINE = (KeepBest, PCA, PartWhitening)
_LINEAR = (LinearSVC, LogisticRegression, NearestMean, RidgeClassifier)
# Logit of a class that was not there to learn: its probability is 0 in single precision.
_ABSENT = -200.0
# Differences of two single precision probabilities say nothing below this.
_LEAST_ORDERED = 1e-7


class ClassifierNetwork(nn.Module):
    """Decoded pictures (B, C, H, W), from 0 to 255, to logits (B, K) float32, in evaluation mode.

    Args:
        classifier: fitted, on the features of networks. It is not changed.

    Attributes:
        link: how logits become probabilities, "softmax" or, of several labels, "sigmoid"; with
            softmax they are logarithms of the probabilities.

    Raises:
        ValueError: a part of it has no counterpart; the message names it.
    """

    def __init__(self, classifier: FeatureClassifier) -> None:
        super().__init__()
        self.networks = nn.ModuleList(map(_module_of, classifier.extractors))
        self.head = _head_of(classifier.model)
        self.link = "sigmoid" if isinstance(self.head, _Labels) else "softmax"
        self.eval()

    def at_once(self, images: Tensor) -> Tensor:
        """Return the logits of pictures."""
        features = torch.cat([network(images) for network in self.networks], dim=1)
        logits: Tensor = self.head(features)
        return logits


def classifier_logits(classifier: FeatureClassifier, images: Pixels) -> Float32Array:
    """Return the logits of `ClassifierNetwork` as the classifier itself gives them."""
    return _logits(classifier.model, classifier.features(images))


def _module_of(extractor: Any) -> nn.Module:
    if not isinstance(extractor, NetworkFeatures):
        raise ValueError(f"{extractor.name} is no network")
    return extractor.module()


def _head_of(model: CalibratedModel | BinaryModels) -> nn.Module:
    """Return the module from features (B, D) to logits (B, K)."""
    if isinstance(model, CalibratedModel):
        return _Classes(model)
    labels = _Labels(model)
    return labels if kind_of(model.kind).sets else nn.Sequential(labels, _Ordered())


def _logits(model: CalibratedModel | BinaryModels, features: Float32Array) -> Float32Array:
    """Return what `_head_of` computes, by the model itself."""
    if isinstance(model, BinaryModels) and kind_of(model.kind).sets:
        columns = [
            np.full(len(features), np.log(one / (1 - one)), np.float32)
            if isinstance(one, float)
            else np.diff(_logits(one, features), axis=1)[:, 0]
            for one in model.models
        ]
        return np.stack(columns, axis=1)
    least = np.exp(_ABSENT) if isinstance(model, CalibratedModel) else _LEAST_ORDERED
    probs = model.probabilities(features).astype(np.float64)
    return np.log(np.maximum(probs, least)).astype(np.float32)


class _Classes(nn.Module):
    """Features (B, D) to logarithms of the probabilities (B, K) of a calibrated model."""

    mean: Tensor
    scale: Tensor
    places: Tensor

    def __init__(self, model: CalibratedModel) -> None:
        super().__init__()
        scaler, *steps, machine = [step for _, step in model.pipeline.steps]
        if not isinstance(scaler, BlockScaler):
            raise ValueError(f"a pipeline begins with {type(scaler).__name__}")
        self.register_buffer("mean", torch.from_numpy(scaler.mean_))
        self.register_buffer("scale", torch.from_numpy(scaler.scale_))
        self.layers = nn.Sequential(*_layers(steps, machine, model, len(scaler.mean_)))
        # Of a class that was not there the column behind all others.
        places = np.full(model.num_classes, len(model.classes))
        places[model.classes] = np.arange(len(model.classes))
        self.register_buffer("places", torch.from_numpy(places))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layers((features - self.mean) * self.scale).log_softmax(dim=1)
        return F.pad(logits, (0, 1), value=_ABSENT).index_select(1, self.places)


def _layers(
    steps: Sequence[Any], machine: Any, model: CalibratedModel, width: int
) -> list[nn.Module]:
    """Return the modules from scaled features (B, D) to calibrated scores (B, K').

    Args:
        steps: after the scaler and before the classifier.
        machine: the classifier.
        model: that they are of.
        width: D.
    """
    layers: list[nn.Module] = []
    waiting: list[Rows] = []

    def settle() -> None:
        nonlocal width
        if waiting:
            layer = _affine(waiting, width)
            width = layer.out_features
            layers.append(layer)
            waiting.clear()

    for step in steps:
        if isinstance(step, Normalizer):
            settle()
            layers.append(_UnitRows())
        elif isinstance(step, _AFFINE):
            waiting.append(step.transform)
        else:
            raise ValueError(f"there is no module for {type(step).__name__}")
    classes = len(model.classes)
    if isinstance(machine, RbfMachine):
        settle()
        layers.append(_kernel_machine(machine))
        width = classes
    elif isinstance(machine, _LINEAR):
        waiting.append(partial(scores_of, machine, classes=classes))
    else:
        raise ValueError(f"there is no module for {type(machine).__name__}")
    waiting.append(lambda scores: model.calibration.slope * scores + model.calibration.shift)
    settle()
    return layers


def _affine(functions: Sequence[Rows], width: int) -> nn.Linear:
    """Return affine functions of rows (N, width), one after another, as one layer."""

    def compute(rows: Float64Array) -> Float64Array:
        for function in functions:
            rows = function(rows)
        return rows

    offset = compute(np.zeros((1, width)))
    return _linear(compute(np.eye(width)) - offset, offset[0])


def _linear(weights: Float64Array, offset: Float64Array) -> nn.Linear:
    """Return the layer of rows @ weights (D, E) + offset (E,)."""
    layer = nn.Linear(*weights.shape)
    layer.requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T)))
    layer.bias.copy_(torch.from_numpy(offset))
    return layer


class _UnitRows(nn.Module):
    """Rows (B, D) scaled to length 1."""

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=1)


def _kernel_machine(machine: RbfMachine) -> nn.Sequential:
    """Return the module from rows (B, D) to a machine's scores (B, K)."""
    exact, classes = machine.exact_, len(machine.classes_)
    centres = machine.sample_ if exact is None else exact.support_vectors_
    kernel = _Kernel(centres, machine.width_)
    if exact is not None and classes > 2:
        return nn.Sequential(kernel, _Opponents(exact))
    if exact is None:
        weights, offset = machine.weights_, machine.offset_
        if classes == 2:
            weights, offset = weights[:, 1:], offset[1:]
    else:
        weights, offset = exact.dual_coef_.T, exact.intercept_
    if classes == 2:  # as `scores_of` gives both classes a score
        both = np.array([[-0.5, 0.5]])
        weights, offset = weights @ both, offset @ both
    return nn.Sequential(kernel, _linear(weights, offset))


class _Kernel(nn.Module):
    """Rows x (B, D) to exp(-width |x - y|^2) of each of the centres y, (B, M)."""

    centres: Tensor
    squares: Tensor

    def __init__(self, centres: Float64Array, width: float) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("centres", torch.from_numpy(centres.T.astype(np.float32)))
        squares = np.square(centres, dtype=np.float64).sum(axis=1)
        self.register_buffer("squares", torch.from_numpy(squares.astype(np.float32)))

    def forward(self, rows: Tensor) -> Tensor:
        own = rows.square().sum(dim=1, keepdim=True)
        distances = own + self.squares - 2 * (rows @ self.centres)
        return (-self.width * distances.clamp(min=0)).exp()


class _Opponents(nn.Module):
    """Kernel values (B, M) of a support vector machine to scores (B, K), K above 2.

    Its margins between each two classes, added up as by `src.features.rbf.sums_over_opponents`.
    """

    upper: Tensor
    lower: Tensor
    offset: Tensor
    signs: Tensor

    def __init__(self, machine: Any) -> None:
        super().__init__()
        self.counts = machine.n_support_.tolist()
        # Rows of the dual coefficients are a class's opponents, columns its support vectors.
        parts = np.split(machine.dual_coef_, np.cumsum(self.counts)[:-1], axis=1)
        self.against = nn.ModuleList(_linear(part.T, np.zeros(len(part))) for part in parts)
        # Where each of a pair stands against the other: a class is no opponent of its own.
        first, second = np.triu_indices(len(parts), 1)
        others = len(parts) - 1
        self.register_buffer("upper", torch.from_numpy(first * others + second - 1))
        self.register_buffer("lower", torch.from_numpy(second * others + first))
        self.register_buffer("offset", torch.from_numpy(machine.intercept_.astype(np.float32)))
        each = np.eye(len(parts), dtype=np.float32)
        self.register_buffer("signs", torch.from_numpy(each[first] - each[second]))

    def forward(self, kernel: Tensor) -> Tensor:
        parts = kernel.split(self.counts, dim=1)
        sums = torch.cat([one(part) for one, part in zip(self.against, parts)], dim=1)
        margins = sums.index_select(1, self.upper) + sums.index_select(1, self.lower)
        return torch.tanh(2 * (margins + self.offset)) @ self.signs


class _Labels(nn.Module):
    """Features (B, D) to the log-odds (B, M) of binary models."""

    def __init__(self, model: BinaryModels) -> None:
        super().__init__()
        self.odds = [
            np.log(one / (1 - one)) if isinstance(one, float) else None for one in model.models
        ]
        learnt = [one for one in model.models if not isinstance(one, float)]
        self.models = nn.ModuleList(map(_Classes, learnt))

    def forward(self, features: Tensor) -> Tensor:
        models = iter(self.models)
        columns = []
        for odds in self.odds:
            if odds is None:
                logs = next(models)(features)
                columns.append(logs[:, 1] - logs[:, 0])
            else:
                columns.append(torch.full_like(features[:, 0], odds))
        return torch.stack(columns, dim=1)


class _Ordered(nn.Module):
    """Log-odds (B, K - 1) of being above each class to logarithms of probabilities (B, K).

    As `src.targets.ordinal.Ordinal.from_binary`: the odds are cut to those of the class before.
    """

    def forward(self, above_each: Tensor) -> Tensor:
        falling: list[Tensor] = []
        for odds in above_each.unbind(dim=1):
            falling.append(torch.minimum(falling[-1], odds) if falling else odds)
        above = F.pad(torch.stack(falling, dim=1).sigmoid(), (0, 1))
        whole = F.pad(above, (1, 0), value=1.0)
        return (whole[:, :-1] - whole[:, 1:]).clamp(min=_LEAST_ORDERED).log()
