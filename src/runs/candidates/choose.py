"""The kind of candidate that settings or a file describe; this module alone knows all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ...config.checks import input_of
from ...config.features import (
    ClassicalSettings,
    EmbeddingSettings,
    HandcraftedSettings,
    PixelsSettings,
)
from ...config.models import (
    EncoderSettings,
    EnsembleSettings,
    NetworkSettings,
    SegmentationSettings,
    ZooSettings,
)
from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...ensembles.combine import METHODS, WeightFit
from ...machine.hardware import device_of_run
from ...machine.status import doing
from ...models.segmentation import backbone_of
from ...models.weights import loadable
from ...targets import kind_of
from ..build import load_task
from ..resolve import Resolved, resolve
from .candidate import Trainable, Trained, read_thresholds
from .ensemble import (
    EnsembleCandidate,
    TrainedEnsemble,
    member_files,
    read_ensemble_metadata,
)
from .members import ENSEMBLE_SUFFIX, choose_among, judge_of, read_members, refuse_single
from .mixed_pixels import choose_for_pixels

__all__ = ["Origin", "candidate_of", "load_trained", "origin_of"]


def candidate_of(settings: RunSettings, data: PictureData) -> Trainable:
    """Return the candidate that the settings describe, ready to be fitted.

    Settings that are left open are chosen here.

    Raises:
        ConfigError: it cannot be made for these pictures.
        NothingGained: no mean, of weights or of answers, is better than the best of the runs.
    """
    # Lightning takes seconds to import, and so do scikit-learn and scikit-image: none needs all.
    if isinstance(settings.model, ClassicalSettings):
        from .classical import ClassicalCandidate

        return ClassicalCandidate(settings, settings.model, data)
    if isinstance(settings.model, PixelsSettings):
        from .pixels import PixelCandidate

        return PixelCandidate(settings, settings.model, data)
    if isinstance(settings.model, EnsembleSettings):
        return _combination_of(settings, settings.model, data)
    with doing("loading Lightning"):
        from .network import NetworkCandidate

    return NetworkCandidate(resolve(settings, data), data)


def _combination_of(settings: RunSettings, model: EnsembleSettings, data: PictureData) -> Trainable:
    """Choose among finished runs, and load the models of those that are used."""
    started = time.perf_counter()
    library = read_members(model.runs, Path(settings.output_dir), data)
    judge = judge_of(settings, data)
    if model.way == "soup":
        from .soup import SoupCandidate, choose_soup, networks_of

        networks = networks_of(library, [[*map(load_trained, m.checkpoints)] for m in library])
        found = choose_soup(settings, library, judge, networks, data)
        seconds = time.perf_counter() - started
        return SoupCandidate(Resolved(settings), library, judge, found, seconds, networks[0])
    methods = [one for one in METHODS if model.way in (one, "best")]
    fit = WeightFit(model.at_most, methods, settings.seed)
    if kind_of(data.pictures.kind).pixels:
        found = choose_for_pixels(library, load_trained, data, fit, judge)
    else:
        found = choose_among(library, judge, fit)
    refuse_single(library, found)
    used = zip(library, found.weights, strict=True)
    models = [[*map(load_trained, member.checkpoints)] for member, weight in used if weight]
    seconds = time.perf_counter() - started
    return EnsembleCandidate(Resolved(settings), library, judge, found, seconds, data, models)


def load_trained(checkpoint: Path) -> Trained:
    """Load the trained model of a run's file, onto a GPU where the run may use one.

    Its metadata have the `thresholds` of its labels, where there are some.

    Raises:
        ConfigError: the file is not one of a run, is damaged, or holds code.
    """
    trained = _loaded(checkpoint)
    thresholds = read_thresholds(checkpoint.parent)
    if thresholds is not None:
        trained.metadata["thresholds"] = thresholds.tolist()
    return trained


def _loaded(checkpoint: Path) -> Trained:
    if checkpoint.suffix == ".skops":
        from ...features.classifier import FeatureClassifier
        from .pixels import TrainedPixels
        from .trained_classifier import TrainedClassifier

        with input_of("run"):
            classifier = FeatureClassifier.load(checkpoint)
        kind = TrainedPixels if classifier.of_pixels else TrainedClassifier
        return kind(classifier, checkpoint)
    if checkpoint.suffix == ENSEMBLE_SUFFIX:
        metadata = read_ensemble_metadata(checkpoint)
        members = [load_trained(file) for file in member_files(metadata, checkpoint)]
        return TrainedEnsemble(metadata, checkpoint, tuple(members))
    from .network import TrainedNetwork

    task = load_task(checkpoint)
    device = device_of_run(task.metadata)
    if "soup" in task.metadata:
        from .soup import TrainedSoup

        return TrainedSoup(task, device, checkpoint.parent)
    return TrainedNetwork(task, device)


@dataclass(frozen=True)
class Origin:
    """The state of a candidate before it is fitted.

    Attributes:
        start: "frozen", "fine-tuned", "from scratch", "hand-crafted" or "ensemble".
        weights: names of the weights with their source and licence; None without.
    """

    start: str
    weights: str | None = None


def origin_of(settings: RunSettings) -> Origin:
    """Return what the candidate of these settings starts from."""
    model = settings.model
    if isinstance(model, HandcraftedSettings | PixelsSettings):
        return Origin("hand-crafted")
    if isinstance(model, EnsembleSettings):
        return Origin("ensemble")
    if isinstance(model, EmbeddingSettings):
        if model.run is not None:
            return Origin("frozen", f"those of {model.run}")
        return Origin("frozen", _weights("timm", model.networks, model.pretrained))
    if isinstance(model, EncoderSettings) and model.pretrained:
        return Origin("fine-tuned", _weights("timm", [model.encoder], model.pretrained))
    if isinstance(model, NetworkSettings) and model.pretrained:
        library = "timm" if model._target_.endswith("TimmNet") else "torchvision"
        names = [model.name] if isinstance(model, ZooSettings) else []
        if isinstance(model, SegmentationSettings):
            names = [backbone_of(model.name)]
        return Origin("fine-tuned", _weights(library, names, model.pretrained))
    return Origin("from scratch")


def _weights(library: str, names: list[str], pretrained: bool | str) -> str:
    if pretrained not in (True, "hub", "package"):
        return str(pretrained)
    plain = {name: name.partition(".")[0] for name in names}
    about = {
        one.name.partition(".")[0]: f"{one.source}, {one.licence or 'no licence stated'}"
        for one in loadable({*plain.values()})
        if one.library == library
    }
    return " + ".join(f"{name} ({about.get(plain[name], 'hub')})" for name in names)
