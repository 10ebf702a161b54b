"""The check of what plugins bring to a training: of all but metrics before a picture is read."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from ...config.augment import OPERATIONS
from ...config.checks import ConfigError, Settings, input_of, own_fields
from ...config.features import CLASSIFIERS, DESCRIPTORS, ClassicalSettings, HandcraftedSettings
from ...config.metrics import further_metrics
from ...config.models import NetworkSettings
from ...config.plugins import fault_text
from ...config.schema import RunSettings
from ...config.training import OptimizerSettings, SchedulerSettings
from ...data.loading.picture_data import PictureData
from ...machine.imports import import_object, is_foreign
from ...targets import kind_of
from ...training.links import outputs_of, probabilities
from ...training.optimizers import parameter_groups
from .network import check_network
from .task import made, made_loss

__all__ = ["check_metrics", "check_plugins"]

_CLASSES, _PIXELS, _STEPS = 5, (8, 8), 10
# Pictures, and their side where the settings leave it open.
_PICTURES, _SIDE = 4, 32
_LOSS = (
    "class Loss(torch.nn.Module) with link, one of softmax, sigmoid, corn, with "
    "__init__(self, *, class_weights, ...) and with forward(self, logits, targets), which returns "
    "a scalar"
)
_OPTIMIZER = "optimizer(params, *, ...), which returns a torch.optim.Optimizer"
_SCHEDULE = "schedule(total_steps, *, ...), which returns a function of the step: a factor"
_AUGMENTATION = (
    "Operation(*, ...) with streams, the draws that a picture needs, and with __call__(self, "
    "images, draws), which returns pictures of the same shape, uint8 or float32"
)
_DESCRIPTOR = "Descriptor(*, ...) with __call__(self, picture), which returns (D,) float32"
_CLASSIFIER = (
    "classifier(*, seed, threads, pictures, ...), which returns an estimator as scikit-learn "
    "defines it, with fit and predict"
)


def check_plugins(settings: RunSettings) -> None:
    """Try what plugins bring to a run, but for sources and metrics; the project's own parts pass.

    Raises:
        ConfigError: names the file, the class or function, and what it lacks.
    """
    check_network(settings)
    for group, target, fault_of, form in _parts(settings):
        if target is None or not is_foreign(target):
            continue
        with input_of(group):
            make = import_object(target)
        try:
            with torch.random.fork_rng(devices=[]):
                fault = fault_of(settings)
        except Exception as error:
            fault = f"it fails: {fault_text(error)}"
        if fault is not None:
            file = inspect.getsourcefile(make) or target
            raise ConfigError(f"{group}: {file}, {make.__name__}: {fault}; write it as {form}.")


def check_metrics(data: PictureData) -> None:
    """Measure the metrics of plugins once, on drawn answers to the pictures that they will judge.

    One that fails would else do so when the training has ended.

    Raises:
        ConfigError: as `further_metrics`.
    """
    kind, split = kind_of(data.pictures.kind), data.split
    if kind.pixels:  # for which there are none
        return
    targets = data.pictures.targets[split.val if len(split.val) else split.train]
    shape = len(targets), len(data.pictures.class_names)
    drawn = np.random.default_rng(0).dirichlet(np.ones(shape[1]), shape[0])
    further_metrics(drawn.astype(np.float32), targets)


def _parts(
    settings: RunSettings,
) -> Iterator[tuple[str, str | None, Callable[[RunSettings], str | None], str]]:
    """Yield group, import path, what tells the fault, and the form of each part but the network."""
    model = settings.model
    if isinstance(model, NetworkSettings):
        yield "loss", settings.loss._target_, _fault_of_loss, _LOSS
        yield "optimizer", settings.optimizer._target_, _fault_of_optimizer, _OPTIMIZER
        yield "scheduler", settings.scheduler._target_, _fault_of_schedule, _SCHEDULE
        for name, target in OPERATIONS.items():
            fault_of = partial(_fault_of_augmentation, name)
            yield f"augment.{name}", target, fault_of, _AUGMENTATION
    if isinstance(model, HandcraftedSettings):
        for name in model.features:
            make = partial(_fault_of_descriptor, name)
            yield f"model.{name}", DESCRIPTORS[name], make, _DESCRIPTOR
    if isinstance(model, ClassicalSettings):
        chosen = CLASSIFIERS.get(model.classifier)  # none of "auto"
        yield "model.classifier", chosen, _fault_of_classifier, _CLASSIFIER


def _fault_of_loss(settings: RunSettings) -> str | None:
    """Return what a loss does not do with logits of two pictures, or None."""
    kind = kind_of(settings.data.target)
    loss = made_loss(settings, kind, torch.ones(_CLASSES))
    pixels = _PIXELS if kind.pixels else ()
    logits = torch.zeros(2, outputs_of(loss.link, _CLASSES), *pixels, requires_grad=True)
    probabilities(logits, loss.link)
    if (loss.link == "sigmoid") != kind.sets:
        return (
            f"link is {loss.link}, with data.target={kind.name}: sigmoid is for multi, and no "
            "other is"
        )
    shares = torch.full((2, _CLASSES), 1 / _CLASSES)
    targets = [shares if kind.sets else torch.zeros(2, *pixels, dtype=torch.int64)]
    if settings.augment.mix_probability:
        targets.append(shares)
    for one in targets:
        value = loss(logits, one)
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            return f"forward returns {value}, which is no scalar with a gradient"
    return None


def _fault_of_optimizer(settings: RunSettings) -> str | None:
    """Return what an optimizer does not do with a small network, or None."""
    network, optimizer = nn.Linear(2, 2), settings.optimizer
    groups = parameter_groups(network, lr=optimizer.lr, weight_decay=optimizer.weight_decay)
    built = made(optimizer, OptimizerSettings, params=groups)
    if not isinstance(built, torch.optim.Optimizer):
        return f"it returns {built}"
    before, calls = network.weight.detach().clone(), 0

    def closure() -> float:
        nonlocal calls
        calls += 1
        loss = network(torch.ones(2, 2)).square().mean()
        loss.backward()
        return loss  # a tensor, as of Lightning

    built.step(closure)
    if not calls:
        return "its step does not call the closure, which computes the gradients"
    return "its step changes nothing" if network.weight.equal(before) else None


def _fault_of_schedule(settings: RunSettings) -> str | None:
    """Return what is wrong with the factors of a short training, or None."""
    schedule = made(settings.scheduler, SchedulerSettings, total_steps=_STEPS)
    factors = [float(schedule(step)) for step in range(_STEPS + 1)]
    fine = all(math.isfinite(factor) and factor >= 0 for factor in factors)
    return None if fine else f"its factors are {factors}"


def _fault_of_augmentation(name: str, settings: RunSettings) -> str | None:
    """Return what is wrong with drawn pictures that an operation has changed, or None."""
    model, data = settings.augment, settings.data
    side = data.image_size or _SIDE
    height, width = (side, side) if isinstance(side, int) else side
    make, own = import_object(OPERATIONS[name]), getattr(model, name)
    shape = _PICTURES, data.channels or 3, height, width
    drawn = torch.randint(256, shape, dtype=torch.uint8)
    for chosen, images in product((own, type(own)()), (drawn, drawn.float())):
        operation = make(**own_fields(chosen, Settings))
        changed = operation(images.clone(), torch.rand(operation.streams, _PICTURES))
        if not isinstance(changed, Tensor):
            return f"it returns {type(changed).__name__}"
        if changed.shape != shape or changed.dtype not in (torch.uint8, torch.float32):
            returned = f"{changed.dtype} {tuple(changed.shape)}"
            return f"of pictures {images.dtype} {shape} it returns {returned}"
        if chosen is not own and not changed.equal(images.to(changed.dtype)):
            return "with its defaults it changes pictures, and so those of every other run"
    return None


def _fault_of_descriptor(name: str, settings: RunSettings) -> str | None:
    """Return None, or raise where a descriptor cannot be made."""
    import_object(str(DESCRIPTORS[name]))(**own_fields(getattr(settings.model, name), Settings))
    return None


def _fault_of_classifier(settings: RunSettings) -> str | None:
    """Return what is wrong with the estimator that a classifier gives, or None."""
    from ...features.pipeline import make_classifier  # with scikit-learn, which takes long

    assert isinstance(settings.model, ClassicalSettings)
    estimator = make_classifier(settings.model, pictures=_PICTURES, seed=0, threads=1)
    lacks = [name for name in ("fit", "predict") if not hasattr(estimator, name)]
    found = type(estimator).__name__
    return f"it returns {found}, which has no {lacks[0]}" if lacks else None
