"""Measure, in a worker, the time of a family's trials: its default configuration and variants."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from ..config.checks import ConfigError, to_plain
from ..config.data import DataSettings
from ..config.features import ClassicalSettings, HandcraftedSettings
from ..config.models import NetworkSettings
from ..config.nested import leaves
from ..config.overrides import by_key, override_of, with_values
from ..config.schema import RunSettings
from ..data.decoding.format_choice import chosen_format
from ..data.decoding.opening import surveyed
from ..data.loading.picture_data import PictureData
from ..data.sources.listing import list_pictures
from ..data.sources.source import Source
from ..machine.cpu_load import slowdown
from ..machine.hardware import device_of, precisions
from ..machine.parallel import TooSlow, available_cores, in_time
from ..models.arithmetic import autocast, own_threads
from ..runs.build import native_side, remark_on_size
from ..runs.build.network import NetworkShape, build_network
from ..runs.candidates.choose import origin_of
from ..runs.candidates.settled import Settled, settled
from ..runs.resolve import use_threads
from ..training.cost import count_flops, wait_for
from .families import SIDE, name_of_kind
from .prepared import NOT_OPENED, Prepared
from .tasks import Prepare

__all__ = ["measured", "search_seconds"]

_log = logging.getLogger(__name__)

_CHOSEN_KEYS = (
    *("runtime.", "data.batch_size", "data.fit", "data.train_limit", "trainer.max_epochs"),
    *("model.networks", "model.input_size", "model.auto.seconds"),
)
_OPENING = "opening the pictures"
# Numbers of random pictures of a training step that bounds the time of a network from below, the
# first in which a step takes so many seconds, and the number of steps, of which the first is a
# warm-up: eight pictures of 28 pixels a side take an MLP as long as a hundred. A family is left out
# by this bound only if it exceeds the time of a trial by the margin.
_BATCHES, _STEP_SECONDS, _STEPS, _MARGIN = (8, 32, 128), 0.05, 3, 1.5
# "dropped" are copies, and the training pictures that `data.train_limit` leaves out.
_PARTS = ("train", "val", "test", "dropped")


def measured(
    settings: RunSettings,
    overrides: Sequence[str],
    task: Prepare,
    open_pictures: Callable[[RunSettings], PictureData],
) -> Prepared:
    """Choose the settings that a family's default configuration leaves open, and measure its time.

    Args:
        settings: of a trial.
        overrides: that the settings were made from.
        task: with the time limit. Pictures are not opened if that would exceed it.
        open_pictures: returns the pictures of a run's settings, as `build_data` does.

    Raises:
        ConfigError: the settings do not fit these pictures.
    """
    if settings.data.train_on_val:
        raise ConfigError(
            "data.train_on_val leaves no validation part for the race: set it to false."
        )
    latest = None
    if task.seconds is not None:
        latest = time.perf_counter() + task.seconds + task.late_by
    try:
        if (estimate := _estimate_unaffordable(settings, task, latest)) is not None:
            return estimate
        found = _settled(settings, by_key(overrides), task, latest, open_pictures)
    except TooSlow as late:
        unknown = Prepared([], 1, 0.0, limit=task.seconds)
        return unknown.left_out(f"{late}, which is too long for this budget")
    return _described(found, settings, task, latest)


def _settled(
    settings: RunSettings,
    stated: Collection[str],
    task: Prepare,
    latest: float | None,
    open_pictures: Callable[[RunSettings], PictureData],
) -> Settled:
    """Return the settings with what they leave open chosen and timed; TooSlow after `latest`.

    `stated` has the keys that are not to be chosen.
    """

    def opened(settings: RunSettings) -> PictureData:
        with in_time(latest, _OPENING):
            return open_pictures(settings)

    # Nothing else runs meanwhile, so that all cores describe pictures. A network is timed with the
    # number of threads that its trials will have.
    classical = isinstance(settings.model, ClassicalSettings)
    with own_threads(available_cores() if classical else None):
        return settled(
            settings,
            opened,
            networks="model.networks" not in stated,
            seconds=task.seconds,
            searching=search_seconds(settings, task.kinds) > 0,
            late_by=task.late_by,
            at_once=task.at_once,
            fits="data.fit" not in stated,
        )


def _described(
    found: Settled, before: RunSettings, task: Prepare, latest: float | None
) -> Prepared:
    """Return what was chosen, beside the settings `before`, and how long trials take."""
    settings, data = found.settings, found.data
    classical = isinstance(settings.model, ClassicalSettings)
    earlier = leaves(to_plain(before))
    chosen = {
        key: value
        for key, value in leaves(to_plain(settings)).items()
        if key.startswith(_CHOSEN_KEYS) and value != earlier[key]
    }
    longer, fits = _variant_costs(found, task, latest)
    remark = remark_on_size(settings, data) if found.sized else None
    return Prepared(
        overrides=[override_of(key, value) for key, value in chosen.items()],
        epochs=found.epochs,
        seconds_per_epoch=found.seconds_per_epoch,
        published=origin_of(settings).start in ("frozen", "fine-tuned"),
        notes=[*found.notes, *([] if remark is None else [remark])],
        # Features are computed once for all folds.
        trainings=1 if classical else settings.cv.trainings,
        # The last line of the summary is on the size.
        data=[*data.summary[: None if found.sized else -1], *data.remarks],
        networks=[asdict(one) for one in found.networks],
        limit=task.seconds if found.cut else None,
        parts={p: len(getattr(data.split, p)) for p in _PARTS},
        side=max(data.pictures.image_size) if found.sized else None,
        search_seconds=search_seconds(settings, task.kinds),
        fit_seconds=fits,
        longer=longer,
        all_cores=classical and found.seconds_per_epoch > 0,
        device=device_of(settings.trainer.accelerator).type,
        promise=found.promise,
    )


def _estimate_unaffordable(
    settings: RunSettings, task: Prepare, latest: float | None
) -> Prepared | None:
    """Return a lower bound of a network's time if no trial of it ends within its limit, else None.

    The bound is measured before the pictures are opened, for a network from scratch, by training
    steps on random pictures of the same size, without decoding, augmentation and validation.

    Raises:
        TooSlow: not even the sizes of all pictures will be known by `latest`.
    """
    model = settings.model
    if task.trial_seconds is None or not isinstance(model, NetworkSettings):
        return None
    if origin_of(settings).start != "from scratch":
        return None
    source = list_pictures(settings.data)
    with in_time(latest, _OPENING):
        found = surveyed(source, settings.data)
    if len(found.reasons) == len(source):
        return None  # opening the pictures will say why none is usable
    form = chosen_format(source, found, settings.data, native_side(model))
    classes, target = len(source.class_names), settings.data.target
    shape = NetworkShape(form.channels, classes, form.image_size, target)
    network = build_network(model, shape)
    _log.info(
        "timing a few steps on random pictures of %s pixels", "x".join(map(str, form.image_size))
    )
    with own_threads():
        use_threads(settings)
        each = _minimal_seconds(network, (form.channels, *form.image_size), settings)
    train = _training_share(source, settings.data) * (len(source) - len(found.reasons))
    # `data.limit` is a limit of each part.
    limits = (settings.data.limit, settings.data.train_limit)
    epoch = each * min(train, *(limit or math.inf for limit in limits))
    epochs = settings.trainer.max_epochs
    fewest = min(task.least_epochs, epochs) if isinstance(epochs, int) else task.least_epochs
    trainings = settings.cv.trainings
    if epoch * fewest * trainings <= _MARGIN * task.trial_seconds:
        return None
    return Prepared(
        [],
        epochs if isinstance(epochs, int) else math.ceil(fewest),
        epoch,
        limit=task.seconds,
        notes=[NOT_OPENED],
        trainings=trainings,
        side=max(form.image_size),
    )


def _minimal_seconds(
    network: nn.Module, shape: tuple[int, int, int], settings: RunSettings
) -> float:
    """Return the seconds of a training step per picture of `shape` (C, H, W), by the fastest step.

    The precision is the one that is usually the fastest. On a single CPU thread, CPU time is
    measured and scaled by the current load of the machine.
    """
    device = device_of(settings.trainer.accelerator)
    stated = settings.runtime.precision
    precision = precisions(device)[-1] if stated == "auto" else stated
    network = network.to(device).train()
    single_thread = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if single_thread else time.perf_counter
    each = math.inf
    for batch in _BATCHES:
        images = torch.rand(batch, *shape, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        steps = []
        for _ in range(_STEPS):
            began = clock()
            with autocast(device, precision):
                answers = network(images)
            answers.float().square().mean().backward()
            wait_for(device)
            steps.append(clock() - began)
        each = min(each, min(steps) / batch)
        if min(steps) >= _STEP_SECONDS:
            break
    return each * (slowdown() if single_thread else 1.0)


def _training_share(source: Source, data: DataSettings) -> float:
    """Return the approximate fraction of the pictures in the training part."""
    parts = source.given_parts
    if parts is None:
        return 1 - data.val_fraction - data.test_fraction
    given = float((parts == "train").mean())
    return given if (parts == "val").any() else given * (1 - data.val_fraction)


def search_seconds(settings: RunSettings, kinds: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds that a run has to search for a classifier, summed over its folds.

    0 if no trial of these kinds searches.
    """
    model = settings.model
    if not isinstance(model, ClassicalSettings):
        return 0.0
    if "auto" not in {kind.get("model.classifier", model.classifier) for kind in kinds or [{}]}:
        return 0.0
    return model.auto.seconds * settings.cv.trainings


def _variant_costs(
    found: Settled, task: Prepare, latest: float | None
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the relative times of variants, and the seconds of fits.

    Returns:
        ratios of the time of variants (of features or networks) to that of the default
        configuration, by name of the variant; seconds of fits by name of the kind, with and without
        a variant. Both are empty if the time is over or the pictures are not described.
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
    found: Settled, model: ClassicalSettings, task: Prepare
) -> tuple[dict[str, float], dict[str, float]]:
    """Return `_variant_costs` of features.

    A search for a classifier, which has a limit, is not timed. Its limit is scaled with the number
    of features, since a fit that was begun runs to its end.
    """
    timed: list[Mapping[str, Any]] = []
    searches: list[Mapping[str, Any]] = []
    for kind in task.kinds:
        chosen = kind.get("model.classifier", model.classifier)
        (searches if chosen == "auto" else timed).append(kind)
    variants = [one for one in task.variants if one]
    if not timed and not variants:
        return {}, {}
    # scikit-learn takes seconds to import, and networks do not need it.
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


def _network_costs(found: Settled, model: NetworkSettings, task: Prepare) -> dict[str, float]:
    """Estimate the ratio of the training time of each variant of a network to the measured one.

    The estimate is the ratio of the operations of a forward pass, and at least 1, since the rest of
    a step does not shrink with the network. Keys are names of variants.
    """
    settings, pictures = found.settings, found.data.pictures
    size = pictures.image_size
    if len(task.variants) < 2:
        return {}

    def operations(values: Mapping[str, Any]) -> int:
        side = values.get(SIDE) or size
        height, width = (side, side) if isinstance(side, int) else side
        variant = with_values(model, {k: v for k, v in values.items() if k != SIDE})
        classes, target = len(pictures.class_names), settings.data.target
        shape = NetworkShape(pictures.channels, classes, (height, width), target)
        network = build_network(variant.without_weights(), shape)
        return count_flops(network, (pictures.channels, height, width))

    own = operations({})
    return {name_of_kind(one): max(1.0, operations(one) / own) for one in task.variants}
