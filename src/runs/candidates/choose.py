"""The kind of candidate that settings or a file describe; the one module that knows all kinds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

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
from ...data.loading.datamodule import PictureData
from ...ensembles.combine import METHODS, WeightFit
from ...machine.hardware import device_of_run
from ...machine.parallel import TooSlow
from ...models.segmentation import backbone_of
from ...records.trials import NetworkRecord
from ..build import COMPARED_SIDE, load_task
from ..resolve import Resolved, resolve, seconds_per_epoch
from .affordable import Option
from .candidate import Trainable, Trained, read_thresholds
from .members import ENSEMBLE_SUFFIX, choose_among, read_members, refuse_single
from .network import NetworkCandidate, TrainedNetwork

__all__ = ["Origin", "Settled", "candidate_of", "load_trained", "origin_of", "settled"]

# Time of the search for a classifier, as a fraction of that of choosing and describing.
_HEADS_SHARE = 0.25
# Number of times that networks are chosen, if the first choice turns out to be too slow.
_TRIES = 3


def candidate_of(settings: RunSettings, data: PictureData) -> Trainable:
    """Return the candidate that the settings describe, ready to be fitted.

    Settings that are left open are chosen here.

    Raises:
        ConfigError: it cannot be made for these pictures.
        NothingGained: no mean, of weights or of answers, is better than the best of the runs.
    """
    if isinstance(settings.model, ClassicalSettings):
        # scikit-learn and scikit-image take seconds to import, and networks need none of it.
        from .classical import ClassicalCandidate

        return ClassicalCandidate(settings, settings.model, data)
    if isinstance(settings.model, PixelsSettings):
        from .pixels import PixelCandidate

        return PixelCandidate(settings, settings.model, data)
    if isinstance(settings.model, EnsembleSettings):
        return _combination_of(settings, settings.model, data)
    return NetworkCandidate(resolve(settings, data), data)


def _combination_of(settings: RunSettings, model: EnsembleSettings, data: PictureData) -> Trainable:
    """Choose among finished runs, and load the models of those that are used."""
    started = time.perf_counter()
    library = read_members(model.runs, Path(settings.output_dir), data)
    if model.way == "soup":
        from .soup import SoupCandidate, choose_soup, networks_of

        networks = networks_of(library, [[*map(load_trained, m.checkpoints)] for m in library])
        found = choose_soup(settings, library, networks, data)
        seconds = time.perf_counter() - started
        return SoupCandidate(Resolved(settings), library, found, seconds, networks[0])
    from .ensemble import EnsembleCandidate

    methods = [one for one in METHODS if model.way in (one, "best")]
    fit = WeightFit(model.at_most, methods, settings.seed)
    if data.pictures.kind == "dense":
        from .mixed_pixels import choose_for_pixels

        found = choose_for_pixels(library, load_trained, data, fit)
    else:
        found = choose_among(library, data.pictures.kind, fit)
    refuse_single(library, found)
    used = zip(library, found.weights, strict=True)
    models = [[*map(load_trained, member.checkpoints)] for member, weight in used if weight]
    seconds = time.perf_counter() - started
    return EnsembleCandidate(Resolved(settings), library, found, seconds, data, models)


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
        from .pixels import TrainedPixels
        from .trained_classifier import load_classifier

        trained = load_classifier(checkpoint)
        if trained.classifier.of_pixels:
            return TrainedPixels(trained.classifier, trained.file)
        return trained
    if checkpoint.suffix == ENSEMBLE_SUFFIX:
        from .ensemble import TrainedEnsemble, member_files, read_ensemble_metadata

        metadata = read_ensemble_metadata(checkpoint)
        members = [load_trained(file) for file in member_files(metadata, checkpoint)]
        return TrainedEnsemble(metadata, checkpoint, tuple(members))
    task = load_task(checkpoint)
    device = device_of_run(task.metadata)
    if "soup" in task.metadata:
        from .soup import TrainedSoup

        return TrainedSoup(task, device, checkpoint.parent)
    return TrainedNetwork(task, device)


@dataclass(frozen=True)
class Settled:
    """The settings of a candidate without any `auto`, and the expected time of a fit.

    Attributes:
        data: the pictures, as these settings have them decoded where `sized`; else smaller, for
            there was no time to decode them.
        epochs: of a whole fit; 1 for candidates without epochs.
        notes: sentences on how the settings were chosen.
        networks: those that frozen networks were chosen among.
        cut: whether more time could have led to another choice of them.
        promise: of the chosen networks, as `NetworkChoice` has it, with the points that another way
            to fit pictures into a square has gained; None for other candidates.
    """

    settings: RunSettings
    data: PictureData
    epochs: int
    seconds_per_epoch: float
    notes: tuple[str, ...] = ()
    networks: tuple[NetworkRecord, ...] = ()
    cut: bool = False
    sized: bool = True
    promise: float | None = None


def settled(
    settings: RunSettings,
    open_pictures: Callable[[RunSettings], PictureData],
    *,
    networks: bool,
    seconds: float | None,
    searching: bool = False,
    late_by: float = 0.0,
    at_once: bool = False,
    fits: bool = False,
) -> Settled:
    """Choose the settings that a candidate leaves open, once for many runs of its kind.

    The features that these runs share are computed here, with all cores.

    Args:
        settings: of a run.
        open_pictures: returns the pictures of a run's settings, as `build_data` does.
        networks: whether frozen networks are to be chosen among those that can be loaded.
        seconds: limit for measuring, choosing and computing features; None for no limit.
        searching: whether some of these runs search for a classifier, though this one does not.
        late_by: seconds by which features of chosen networks may come later before they are given
            up, and with them all that was computed.
        at_once: whether networks by which the pictures are described already come before better
            ones, as `choose_networks` has it.
        fits: whether it is chosen as well how frozen networks have pictures fitted into a square,
            as `choose_fit` has it.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    deadline = None if seconds is None else time.perf_counter() + seconds
    model = settings.model
    if isinstance(model, NetworkSettings):
        data = open_pictures(settings)
        settings = resolve(settings, data, deadline).settings
        epochs = settings.trainer.epochs
        return Settled(settings, data, epochs, seconds_per_epoch(settings, data, deadline))
    if isinstance(model, PixelsSettings):
        from .pixels import PixelCandidate

        data = open_pictures(settings)
        each = PixelCandidate(settings, model, data).fit_seconds()
        return Settled(settings, data, 1, each)
    if not isinstance(model, ClassicalSettings):
        return Settled(settings, open_pictures(settings), 1, 0.0)
    if seconds is not None and (searching or model.classifier == "auto"):
        shortest = min(model.auto.seconds, max(0.1, round(_HEADS_SHARE * seconds, 1)))
        model = replace(model, auto=replace(model.auto, seconds=shortest))
        settings = replace(settings, model=model)
    if networks and isinstance(model, EmbeddingSettings) and model.run is None:
        return _with_networks(
            settings,
            model,
            open_pictures,
            deadline=deadline,
            late_by=late_by,
            at_once=at_once,
            fits=fits,
        )
    from .classical import ClassicalCandidate

    data = open_pictures(settings)
    try:
        seconds = ClassicalCandidate(settings, model, data).describe_seconds(deadline)
    except TooSlow as late:
        seconds = late.seconds
    return Settled(settings, data, 1, seconds)


def _with_networks(
    settings: RunSettings,
    model: EmbeddingSettings,
    open_pictures: Callable[[RunSettings], PictureData],
    *,
    deadline: float | None,
    late_by: float,
    at_once: bool,
    fits: bool,
) -> Settled:
    """Choose frozen networks, and describe the pictures by them until the deadline.

    Until the networks are known, and with them the size that they take pictures at, the pictures
    are opened as small as they are compared with each other.
    """
    from .classical import ClassicalCandidate
    from .network_choice import choose_networks, described_by, keep_described
    from .picture_fit import FitChoice, choose_fit, kept_fit

    side = model.input_size or COMPARED_SIDE
    data = open_pictures(replace(settings, model=replace(model, input_size=side)))
    fit = FitChoice(settings.data.fit)
    if fits:
        fit = kept_fit(settings, data) or fit
    notes: tuple[str, ...] = ()
    found, opened, took = settings, data, 0.0
    gone = set[Option]()
    latest = None if deadline is None else deadline + late_by
    for attempt in range(_TRIES):
        if attempt and latest is not None and time.perf_counter() > latest:
            break  # timing the networks again would use up the time left
        known = described_by(fit.apply(settings), data) - gone
        choice = choose_networks(
            settings, data, _left(deadline), anew=attempt > 0, described=known, at_once=at_once
        )
        notes += choice.notes
        size = choice.input_size or model.input_size
        chosen = replace(model, networks=list(choice.networks), input_size=size)
        found = replace(settings, model=chosen)
        if fits:
            there = choice.options <= known
            left = 0.0 if (at_once and there) or not choice.is_native else _left(deadline)
            fit = choose_fit(
                found,
                data,
                choice.speeds,
                seconds=left,
                open_pictures=open_pictures,
                described=there,
            )
            notes += tuple(note for note in fit.notes if note not in notes)
        found = fit.apply(found)
        if choice.share < 1:
            most = math.ceil(choice.share * len(data.split.train))
            found = replace(found, data=replace(found.data, train_limit=most))
        ends = time.perf_counter() + choice.seconds
        if choice.seconds and latest is not None and ends > latest:
            # Nothing is described that cannot finish in time.
            return Settled(found, data, 1, choice.seconds, notes, cut=True, sized=False)
        try:
            opened = open_pictures(found)
            ClassicalCandidate(found, chosen, opened).describe_seconds(latest)
        except TooSlow as late:
            took = late.seconds
            if choice.options <= known:  # their features were expected to be stored, but are gone
                gone |= choice.options
            notes += (f"given up: {late}, for the machine is slower than it was a moment ago",)
            continue
        keep_described(fit.apply(settings), data, choice)
        cut, promise = choice.cut or fit.cut, choice.promise + fit.points
        return Settled(found, opened, 1, 0.0, notes, choice.considered, cut, promise=promise)
    return Settled(found, opened, 1, took, notes, cut=True)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.perf_counter()


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
    # Listing the installed weights imports a library that a network with such weights needs anyway.
    from ...models.weights import loadable

    plain = {name: name.partition(".")[0] for name in names}
    about = {
        one.name.partition(".")[0]: f"{one.source}, {one.licence or 'no licence stated'}"
        for one in loadable({*plain.values()})
        if one.library == library
    }
    return " + ".join(f"{name} ({about.get(plain[name], 'hub')})" for name in names)
