"""Classifiers on features as candidates, fitted by scikit-learn in one go."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from threadpoolctl import threadpool_limits

from ...config.checks import ConfigError
from ...config.features import (
    CLASSIFIERS,
    ClassicalSettings,
    EmbeddingSettings,
    HandcraftedSettings,
)
from ...config.overrides import with_values
from ...config.plugins import fails_for
from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...data.splitting.folds import training_seed
from ...features.binary import BinaryModels, choices_record, choices_text
from ...features.calibration import CalibratedModel
from ...features.classifier import FeatureClassifier
from ...features.fusion import Described, Extractor
from ...features.grid import HeadGroup, head_groups
from ...features.heads import SEARCH_VERSION, ChosenHead, Examples, choose_head, fit_chosen
from ...features.pipeline import make_pipeline
from ...machine.arrays import AnyArray, Float32Array, Int64Array
from ...machine.failures import RunFailed, require_folder
from ...machine.imports import is_foreign
from ...machine.parallel import TooSlow
from ...machine.status import doing
from ...records.champions import find_champion
from ...storage.cache import CachedMeasurement, load_measurement, store_measurement
from ...targets import kind_of
from ..build import (
    build_extractors,
    feature_table,
    fold_codes,
    foreign_descriptors,
    model_metadata,
    remark_on_network,
)
from ..resolve import Resolved, threads_of
from .candidate import FitContext, Fitted
from .fit_cost import SAMPLE, FitSample
from .trained_classifier import MODEL_FILE, TrainedClassifier

__all__ = ["ClassicalCandidate", "kept_choice"]

_TIMED_PICTURES = 32
# By which features are compared with each other.
_COMPARED_PICTURES = 4
# Nearest means, logistic and ridge regressions of one normalisation, where there are many problems.
_GROUPS_OF_SEVERAL = 3


class ClassicalCandidate:
    """A classifier on hand-crafted features or on those of a frozen network, ready to be fitted.

    A fit that was stopped begins again when it is resumed: its features are kept, and the rest
    takes seconds to minutes.

    Raises:
        ConfigError: there is nothing to tell apart, or the network cannot be had.
    """

    num_parameters = None

    def __init__(self, settings: RunSettings, model: ClassicalSettings, data: PictureData) -> None:
        if np.count_nonzero(data.class_counts) < 2:
            raise ConfigError("data: the training part has pictures of one class only.")
        self._extractors = build_extractors(settings, data)
        self._settings = _pinned(settings)
        remark = remark_on_network(self._settings, data)
        self.resolved = Resolved(self._settings, () if remark is None else (remark,))
        self._model = model
        self._data = data

    @property
    def _views(self) -> int:
        return self._model.views(self._settings.data.mirror_ok)

    @property
    def _seed(self) -> int:
        return training_seed(self._settings.seed, self._settings.cv.fold)

    def description(self) -> str:
        model = self._model
        chosen = model.classifier
        classifier = "the best of many classifiers" if chosen == "auto" else chosen
        if isinstance(model, HandcraftedSettings):
            return f"{classifier} on {' + '.join(model.features)}"
        if isinstance(model, EmbeddingSettings) and model.run is None:
            return f"{classifier} on the features of {' + '.join(model.networks)}"
        return f"{classifier} on the features of an earlier run"

    def fit(self, context: FitContext) -> Fitted:
        data = self._data
        table = feature_table(self._settings, data, self._extractors)
        # In an order that names and folders do not change: samples and projections go by rows.
        order = np.argsort(data.pictures.content_hashes[data.split.train], kind="stable")
        features, indices = table.part("train")[order], data.split.train[order]
        if self._views > 1:
            features = np.concatenate([features, table.part("train", mirrored=True)[order]])
            indices = np.tile(indices, 2)  # with its copy, a picture is held out or neither is
        self._require_finite(features, indices, table.sizes)
        with doing("fitting the classifier"), threadpool_limits(threads_of(self._settings)):
            model, choices, seconds = self._fitted(features, indices, table.sizes)
        metadata = self._metadata()
        if choices:
            several = isinstance(model, BinaryModels)
            if self._settings.cv.fold is None:  # each fold chooses, and none of theirs is used
                print(f"classifier: {choices_text(choices) if several else choices[0]}")
            metadata["classifier"] = choices_record(choices) if several else choices[0].record()
        classifier = FeatureClassifier(self._extractors, model, metadata)
        require_folder(context.folder.path)
        file = context.folder.checkpoints / MODEL_FILE
        chosen = CLASSIFIERS.get(self._model.classifier, __name__)  # of auto, none of a plugin
        with fails_for("model.classifier", chosen):
            classifier.save(file)
            if is_foreign(chosen):  # whose estimator may hold what is written, and never read
                FeatureClassifier.load(file)
        trained = TrainedClassifier(classifier, file)
        return Fitted(
            trained,
            file,
            seconds,
            features_seconds=table.seconds,
            features_here=table.seconds_here,
        )

    def describe_seconds(self) -> float:
        """Return the seconds in which a fit describes its pictures, by those of a small sample.

        It is of hand-crafted features, of which none is kept.
        """
        data = self._data
        ids = data.split.train[:_TIMED_PICTURES]
        images = np.stack([data.pictures.read(int(i)) for i in ids])
        seconds = 0.0
        for extractor in self._extractors:
            started = time.perf_counter()
            extractor(images)
            each = (time.perf_counter() - started) / len(ids)
            views = self._computed_views(extractor)
            seconds += each * (views * len(data.split.train) + len(data.split.val))
        return seconds / self._settings.data.worker_count

    def _computed_views(self, extractor: Extractor) -> int:
        """Return how often a training picture is described: once if that gives its mirror image."""
        derived = isinstance(extractor, Described) and extractor.mirrored() is not None
        return 1 if derived else self._views

    def describe(self, deadline: float | None, shares: Sequence[float] = (1.0,)) -> float:
        """Compute the features that a fit needs, which are kept, and return of which share.

        Args:
            deadline: on `time.perf_counter`; None for no limit.
            shares: of the training pictures that may do, in (0, 1], halves of each other. Those of
                the smallest are described first, and as many more as there is time for.

        Raises:
            TooSlow: as soon as it is clear that not even the smallest can be described in time.
        """
        done, split = 0.0, self._data.split
        for share in sorted(shares):
            most = math.ceil(share * len(split.train))
            some = split if most == len(split.train) else split.whole.with_less_training(most)
            table = feature_table(self._settings, self._data, self._extractors, deadline, some)
            try:
                table.part("train")
                table.part("val")
                if self._views > 1:
                    table.part("train", mirrored=True)
            except TooSlow:
                if not done:
                    raise
                break
            done = share
        return done

    def description_costs(self, variants: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
        """Return, for other hand-crafted features, the time and the number of them.

        Args:
            variants: values of keys of the model that replace its own.

        Returns:
            For each, how many times as long as by the model's own features a picture takes to be
            described, and how many features it has.
        """
        ids = self._data.split.train[:_COMPARED_PICTURES]
        images = np.stack([self._data.pictures.read(int(i)) for i in ids])
        known: dict[str, tuple[float, int]] = {}

        def cost(extractor: Extractor) -> tuple[float, int]:
            name = json.dumps(extractor.identity, sort_keys=True)
            if name not in known:
                extractor(images[:1])  # filters are made once
                started = time.perf_counter()
                width = extractor(images).shape[1]
                seconds = time.perf_counter() - started
                known[name] = seconds * self._computed_views(extractor), width
            return known[name]

        def total(extractors: Sequence[Extractor]) -> tuple[float, int]:
            seconds, widths = zip(*map(cost, extractors), strict=True)
            return sum(seconds), sum(widths)

        own = total(self._extractors)[0]
        found = []
        for values in variants:
            model = with_values(self._model, values)
            settings = replace(self._settings, model=model)
            seconds, width = total(build_extractors(settings, self._data))
            found.append((seconds / own, width))
        return found

    def fit_seconds(
        self, kinds: Sequence[Mapping[str, Any]], widths: Sequence[int] = (0,)
    ) -> list[list[float]]:
        """Estimate the seconds of fitting each kind of classifier, without describing.

        Features of a network are those that `describe` has stored; hand-crafted ones are
        computed for a few pictures, and repeated with noise for the others.

        Args:
            kinds: values of keys of the model that replace its own; none of them `auto`.
            widths: numbers of features to tell the time for; 0 for those of the model.
        """
        data, rng = self._data, np.random.default_rng(0)
        rows = rng.permutation(len(data.split.train))[:SAMPLE]
        if isinstance(self._model, HandcraftedSettings):
            rows = rows[:_TIMED_PICTURES]
            images = np.stack([data.pictures.read(int(i)) for i in data.split.train[rows]])
            blocks = [extractor(images) for extractor in self._extractors]
            sizes = tuple(block.shape[1] for block in blocks)
            few, again = np.concatenate(blocks, axis=1), np.arange(SAMPLE) % len(rows)
            noise = rng.standard_normal((SAMPLE, few.shape[1]), np.float32)
            features, rows = few[again] + few.std(axis=0) * noise, rows[again]
        else:
            table = feature_table(self._settings, data, self._extractors)
            features, sizes = table.part("train")[rows], table.sizes
        pictures = data.pictures
        labels, problems = pictures.targets[data.split.train[rows]], 1
        if pictures.kind != "single":
            kind = kind_of(pictures.kind)
            binary = kind.binary_targets(labels, len(pictures.class_names))
            labels, problems = binary[:, 0].astype(np.int64), binary.shape[1]
        times = problems * self._settings.cv.trainings
        count = self._views * len(data.split.train)
        asked = [width or sum(sizes) for width in widths]
        each = FitSample(self._settings, features, labels, sizes, count).seconds(kinds, asked)
        return [[times * one for one in kind] for kind in each]

    def training_batch(self) -> None:
        return None

    def _fitted(
        self, features: Float32Array, indices: Int64Array, sizes: Sequence[int]
    ) -> tuple[CalibratedModel | BinaryModels, list[ChosenHead], float]:
        """Return the model fitted to features (N, D), its classifiers' choices, and the seconds.

        A choice that was kept from an earlier search counts as made now.
        """
        pictures = self._data.pictures
        targets, classes = pictures.targets[indices], len(pictures.class_names)
        fit = partial(self._fitted_one, features=features, indices=indices, sizes=sizes)
        if pictures.kind == "single":
            model, choice, seconds = fit(targets, classes)
            return model, [] if choice is None else [choice], seconds
        kind, choices, total = kind_of(pictures.kind), [], 0.0
        problems = kind.binary_targets(targets, classes).shape[1]

        def fit_one(labels: Int64Array) -> CalibratedModel:
            nonlocal total
            model, choice, seconds = fit(labels, 2, problems=problems)
            choices.extend([] if choice is None else [choice])
            total += seconds
            return model

        return BinaryModels.fit(kind.name, targets, classes, fit_one), choices, total

    def _fitted_one(
        self,
        targets: Int64Array,
        classes: int,
        *,
        features: Float32Array,
        indices: Int64Array,
        sizes: Sequence[int],
        problems: int = 1,
    ) -> tuple[CalibratedModel, ChosenHead | None, float]:
        """Return a model of one class a picture, as `_fitted` does.

        Of several `problems` each search has its share of the time, and tries the heads that share
        the most promising normalisation.
        """
        settings, seed = self._model, self._seed
        contents = fold_codes(self._data, indices, targets)
        examples = Examples(features, targets, contents, sizes)
        how = {"seed": seed, "threads": threads_of(self._settings)}
        if settings.classifier == "auto":
            groups = None
            if problems > 1:
                auto = replace(settings.auto, seconds=settings.auto.seconds / problems)
                settings = replace(settings, auto=auto)
                groups = head_groups(*features.shape)[:_GROUPS_OF_SEVERAL]
            cache_dir = self._settings.data.cache_dir
            choice = kept_choice(settings, examples, seed=seed, cache_dir=cache_dir, groups=groups)
            started = time.perf_counter()
            model = fit_chosen(choice, settings, examples, num_classes=classes, **how)
            return model, choice, time.perf_counter() - started + choice.seconds
        started = time.perf_counter()
        with fails_for("model.classifier", CLASSIFIERS[settings.classifier]):
            model = CalibratedModel.fit(
                lambda count: make_pipeline(settings, sizes, pictures=count, **how),
                features,
                targets,
                contents,
                num_classes=classes,
                folds=settings.calibration_folds,
                seed=seed,
            )
        return model, None, time.perf_counter() - started

    def _require_finite(
        self, features: Float32Array, indices: Int64Array, sizes: Sequence[int]
    ) -> None:
        """Raise a `RunFailed` where no classifier can be fitted to features (N, D)."""
        rows, columns = np.nonzero(~np.isfinite(features))
        if not len(rows):
            return
        block = int(np.searchsorted(np.cumsum(sizes), columns[0], side="right"))
        identity, paths = self._extractors[block].identity, self._data.pictures.sample_paths
        picture, count = int(indices[rows[0]]), len(np.unique(indices[rows]))
        shown = f"number {picture}" if paths is None else paths[picture]
        raise RunFailed(
            f"of {count} training picture{'s' * (count > 1)} ({shown} first) some features are no "
            f"finite numbers: {_name_of(identity)} gives infinity or NaN for them"
        )

    def _metadata(self) -> dict[str, Any]:
        """Return the metadata, in which parts of the model from plugins are import paths."""
        model = self._model
        found = {**model_metadata(self._settings, self._data), "epochs": 0}
        if networks := [e.metadata for e in self._extractors if hasattr(e, "metadata")]:
            found["networks"] = networks
        if isinstance(model, HandcraftedSettings) and (made := foreign_descriptors(model)):
            found["descriptors"] = made
        target = CLASSIFIERS.get(model.classifier)
        if target is not None and is_foreign(target):
            found["classifier_target"] = target
        return found


def _name_of(identity: Mapping[str, Any]) -> str:
    """Return the name in the settings of an extractor with this identity."""
    if "plugin" in identity:
        return str(identity["plugin"][0])
    return str(identity.get("name", "the frozen network"))


def _pinned(settings: RunSettings) -> RunSettings:
    """Return the settings with the id of a champion in place of the word `champion`."""
    model = settings.model
    if not isinstance(model, EmbeddingSettings) or model.run is None:
        return settings
    champion = find_champion(model.run, Path(settings.output_dir))
    if champion is None:
        return settings
    return replace(settings, model=replace(model, run=champion.run_id))


def kept_choice(
    settings: ClassicalSettings,
    examples: Examples,
    *,
    seed: int,
    cache_dir: str | None,
    groups: Sequence[HeadGroup] | None = None,
) -> ChosenHead:
    """Return the best head for features, searched for once for the same features and labels.

    A search that its limit has cut short is repeated where that is clearly higher now. What comes
    of it counts, unless the clock has cut it shorter still.

    The arguments are those of `src.features.heads.choose_head`; `cache_dir` is that of
    `src.storage.cache.cache_folder`.
    """
    groups = groups or head_groups(*examples.features.shape)
    known: dict[str, Any] = {
        "features": _digest(examples.features),
        "labels": _digest(np.unique(examples.targets, return_inverse=True)[1]),
        "contents": _digest(np.unique(examples.contents, return_inverse=True)[1]),
        "sizes": list(examples.sizes),
        "heads": [repr(head) for group in groups for head in group.heads],
        "folds": settings.calibration_folds,
        "seed": seed,
        "libraries": [np.__version__, scipy.__version__, sklearn.__version__],
        "search": SEARCH_VERSION,
    }
    kept = load_measurement("heads", known, cache_dir)
    limit = settings.auto.seconds
    earlier = None
    if kept is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            earlier = ChosenHead.from_plain(kept.found)
            if kept.is_enough_for(limit):
                return earlier
    choice = choose_head(
        examples,
        folds=settings.calibration_folds,
        seed=seed,
        seconds=limit,
        groups=groups,
    )
    if choice.late:  # a later start may have a core to itself
        return choice if earlier is None or choice.covers(earlier) else earlier
    measurement = CachedMeasurement(choice.plain(), False, None if choice.complete else limit)
    store_measurement("heads", known, measurement, cache_dir)
    return choice


def _digest(values: AnyArray) -> str:
    rows = np.ascontiguousarray(values)
    found = hashlib.blake2b(f"{rows.dtype} {rows.shape}".encode(), digest_size=16)
    found.update(rows.view(np.uint8).reshape(-1).data)
    return found.hexdigest()
