"""What trials of a family take in the worker that measures: its own configuration and others."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from ..config.checks import ConfigError, to_plain
from ..config.compose import leaves
from ..config.data import DataSettings
from ..config.features import ClassicalSettings, HandcraftedSettings
from ..config.models import NetworkSettings
from ..config.overrides import override_of, with_values
from ..config.schema import RunSettings
from ..data.decoding.format_choice import chosen_format
from ..data.loading.datamodule import PictureData
from ..data.quality.audit import survey
from ..data.sources.listing import list_pictures
from ..data.sources.source import Source
from ..machine.cpu_load import slowdown
from ..machine.hardware import device_of, precisions
from ..machine.parallel import TooSlow, available_cores, in_time
from ..models.arithmetic import autocast, own_threads
from ..runs.build import native_side
from ..runs.build.network import build_network
from ..runs.candidates.choose import Preparation, origin_of, prepared
from ..runs.resolve import use_threads
from ..storage.cache import cache_folder
from ..training.cost import count_flops, wait_for
from .families import SIDE, name_of_kind
from .prepared import NOT_OPENED, Prepared
from .tasks import Prepare

__all__ = ["measured", "search_seconds"]

_log = logging.getLogger(__name__)

_CHOSEN = (
    *("runtime.", "data.batch_size", "data.fit", "data.train_limit", "trainer.max_epochs"),
    *("model.networks", "model.input_size", "model.auto.seconds"),
)
_OPENING = "opening the pictures"
# Pictures of a step that tells what a network takes at least, and such steps, of which the first
# prepares what the others find. What is left out costs more than so few pictures do, but a family
# is given up for that alone where it is far from its time.
_DRAWN, _STEPS, _CLEARLY = 8, 3, 1.5
# The last are copies, and what `data.train_limit` leaves out of the training part.
_PARTS = ("train", "val", "test", "dropped")


def measured(
    settings: RunSettings,
    overrides: Sequence[str],
    task: Prepare,
    open_pictures: Callable[[RunSettings], PictureData],
) -> Prepared:
    """Measure and choose what a family's own configuration leaves open.

    Args:
        settings: of a trial.
        overrides: that they are made of.
        task: with the time for it. Pictures whose opening would not end in that are not opened.
        open_pictures: returns the pictures of a run's settings, as `build_data` does.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    if settings.data.train_on_val:
        raise ConfigError("data.train_on_val leaves no validation part to race on: say false.")
    latest = None
    if task.seconds is not None:
        latest = time.perf_counter() + task.seconds + task.late_by
    before = leaves(to_plain(settings))
    stated = [word.partition("=")[0] for word in overrides]

    def opened(settings: RunSettings) -> PictureData:
        with in_time(latest, _OPENING):
            return open_pictures(settings)

    # Nothing else runs meanwhile: all cores may describe pictures. A network is timed with the
    # threads that its trials will have.
    classical = isinstance(settings.model, ClassicalSettings)
    try:
        if (priced := _too_dear(settings, task, latest)) is not None:
            return priced
        with own_threads(available_cores() if classical else None):
            found = prepared(
                *(settings, opened),
                networks="model.networks" not in stated,
                seconds=task.seconds,
                searching=search_seconds(settings, task.kinds) > 0,
                late_by=task.late_by,
                at_once=task.at_once,
                fits="data.fit" not in stated,
            )
    except TooSlow as late:
        unknown = Prepared([], 1, 0.0, limit=task.seconds)
        return unknown.left_out(f"{late}, which is too long for this budget")
    settings = found.settings
    chosen = {
        key: value
        for key, value in leaves(to_plain(settings)).items()
        if key.startswith(_CHOSEN) and value != before[key]
    }
    longer, fits = _costs(found, task, latest)
    return Prepared(
        overrides=[override_of(key, value) for key, value in chosen.items()],
        epochs=found.epochs,
        seconds_per_epoch=found.seconds_per_epoch,
        published=origin_of(settings).start in ("frozen", "fine-tuned"),
        notes=list(found.notes),
        # Features are computed once for all folds.
        trainings=1 if classical or not settings.cv.is_whole else settings.cv.count,
        data=list(found.data.summary[: None if found.sized else -1]),  # the last tells the size
        networks=[asdict(one) for one in found.networks],
        limit=task.seconds if found.cut else None,
        parts={p: len(getattr(found.data.split, p)) for p in _PARTS},
        side=max(found.data.pictures.image_size) if found.sized else None,
        search_seconds=search_seconds(settings, task.kinds),
        fit_seconds=fits,
        longer=longer,
        all_cores=classical and found.seconds_per_epoch > 0,
        promise=found.promise,
    )


def _too_dear(settings: RunSettings, task: Prepare, latest: float | None) -> Prepared | None:
    """Return what a network from scratch takes at least, where no trial of it ends in its time.

    None where one may. Before the pictures are opened, a few steps on drawn ones of their size
    tell, which leave out decoding, augmentation and validation. `TooSlow` where it is clear that
    not even the sizes of all will be known by `latest`.
    """
    model = settings.model
    if task.trial_seconds is None or not isinstance(model, NetworkSettings):
        return None
    if origin_of(settings).start != "from scratch":
        return None
    source = list_pictures(settings.data)
    folder = cache_folder(settings.data.cache_dir).absolute() / "findings"
    workers = settings.data.num_workers or available_cores()
    with in_time(latest, _OPENING):
        found = survey(source, findings_dir=folder, workers=workers)
    if len(found.reasons) == len(source):
        return None  # which opening them explains
    form = chosen_format(source, found, settings.data, native_side(model))
    network = build_network(
        model,
        channels=form.channels,
        classes=len(source.class_names),
        image_size=form.image_size,
        target=settings.data.target,
    )
    _log.info("a few steps on drawn pictures of %s pixels", "x".join(map(str, form.image_size)))
    with own_threads():
        use_threads(settings)
        each = _least_seconds(network, (form.channels, *form.image_size), settings)
    train = _training_share(source, settings.data) * (len(source) - len(found.reasons))
    # `data.limit` is a limit of each part.
    limits = (settings.data.limit, settings.data.train_limit)
    epoch = each * min(train, *(limit or math.inf for limit in limits))
    epochs = settings.trainer.max_epochs
    few = min(task.least_epochs, epochs) if isinstance(epochs, int) else task.least_epochs
    trainings = settings.cv.count if settings.cv.is_whole else 1
    if epoch * few * trainings <= _CLEARLY * task.trial_seconds:
        return None
    return Prepared(
        *([], epochs if isinstance(epochs, int) else math.ceil(few), epoch),
        limit=task.seconds,
        notes=[NOT_OPENED],
        trainings=trainings,
        side=max(form.image_size),
    )


def _least_seconds(network: nn.Module, shape: tuple[int, int, int], settings: RunSettings) -> float:
    """Return the seconds of a drawn picture (C, H, W), forward and back, by the fastest step.

    In the arithmetic that is usually the fastest. On one thread of a CPU it is processor time, as
    other programs slow that down just now.
    """
    device = device_of(settings.trainer.accelerator)
    stated = settings.runtime.precision
    precision = precisions(device)[-1] if stated == "auto" else stated
    network = network.to(device).train()
    images = torch.rand(_DRAWN, *shape, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if alone else time.perf_counter
    steps = []
    for _ in range(_STEPS):
        began = clock()
        with autocast(device, precision):
            answers = network(images)
        answers.float().square().mean().backward()
        wait_for(device)
        steps.append(clock() - began)
    return min(steps) / _DRAWN * (slowdown() if alone else 1.0)


def _training_share(source: Source, data: DataSettings) -> float:
    """Return about the share of the pictures that trains."""
    parts = source.given_parts
    if parts is None:
        return 1 - data.val_fraction - data.test_fraction
    given = float((parts == "train").mean())
    return given if (parts == "val").any() else given * (1 - data.val_fraction)


def search_seconds(settings: RunSettings, kinds: Sequence[Mapping[str, Any]]) -> float:
    """Return the time that a run has for its choice of classifiers, one for each fold.

    0 where no trial of these kinds makes one.
    """
    model = settings.model
    if not isinstance(model, ClassicalSettings):
        return 0.0
    if "auto" not in {kind.get("model.classifier", model.classifier) for kind in kinds or [{}]}:
        return 0.0
    return model.auto.seconds * (settings.cv.count if settings.cv.is_whole else 1)


def _costs(
    found: Preparation, task: Prepare, latest: float | None
) -> tuple[dict[str, float], dict[str, float]]:
    """Return how many times as long variants of features or networks take, and what fits do.

    By names of variants, and of kinds with and without those. None of them is timed where the time
    is over, nor where pictures are not described, as it would take too long.
    """
    model = found.settings.model
    if isinstance(model, NetworkSettings):
        return _network_costs(found, model, task), {}
    described = found.seconds_per_epoch == 0 or isinstance(model, HandcraftedSettings)
    in_time = latest is None or time.perf_counter() < latest
    if isinstance(model, ClassicalSettings) and described and in_time:
        return _feature_costs(found, model, task)
    return {}, {}


def _feature_costs(
    found: Preparation, model: ClassicalSettings, task: Prepare
) -> tuple[dict[str, float], dict[str, float]]:
    """Return those of features. A search, whose work is bounded, has no fit of its own.

    On other features it takes as many times as long as there are more of them: what it has begun,
    it ends.
    """
    timed: list[Mapping[str, Any]] = []
    searches: list[Mapping[str, Any]] = []
    for kind in task.kinds:
        chosen = kind.get("model.classifier", model.classifier)
        (searches if chosen == "auto" else timed).append(kind)
    variants = [one for one in task.variants if one]
    if not timed and not variants:
        return {}, {}
    # scikit-learn takes seconds to import, and networks need none of it.
    from ..runs.candidates.classical import ClassicalCandidate

    candidate = ClassicalCandidate(found.settings, model, found.data)
    (_, own), *costs = candidate.description_costs([{}, *variants]) if variants else [(1.0, 0)]
    seconds = candidate.fit_seconds(timed, [own, *(width for _, width in costs)])
    fits = {
        name_of_kind({**kind, **variant}): one
        for kind, each in zip(timed, seconds, strict=True)
        for variant, one in zip([{}, *variants], each, strict=True)
    }
    for variant, (_, width) in zip(variants, costs, strict=True):
        search = search_seconds(found.settings, searches) * max(1.0, width / own)
        fits |= {name_of_kind({**kind, **variant}): search for kind in searches}
    names = map(name_of_kind, variants)
    return dict(zip(names, (longer for longer, _ in costs), strict=True)), fits


def _network_costs(found: Preparation, model: NetworkSettings, task: Prepare) -> dict[str, float]:
    """Return how many times as long training each variant of a network takes, by its name.

    Told from the operations of a forward pass. Smaller ones count as long as the one that was
    measured, for what a step takes beside those operations becomes no less.
    """
    settings, pictures = found.settings, found.data.pictures
    size = pictures.image_size
    if len(task.variants) < 2:
        return {}

    def operations(values: Mapping[str, Any]) -> int:
        side = values.get(SIDE) or size
        height, width = (side, side) if isinstance(side, int) else side
        network = build_network(
            with_values(model, {k: v for k, v in values.items() if k != SIDE}).without_weights(),
            channels=pictures.channels,
            classes=len(pictures.class_names),
            image_size=(height, width),
            target=settings.data.target,
        )
        return count_flops(network, (pictures.channels, height, width))

    own = operations({})
    return {name_of_kind(one): max(1.0, operations(one) / own) for one in task.variants}
