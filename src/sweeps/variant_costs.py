"""What trials of a family cost beside its own configuration: searches, fits, features, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..config.features import ClassicalSettings
from ..config.models import NetworkSettings
from ..config.overrides import with_values
from ..config.schema import RunSettings
from ..runs.build.network import build_network
from ..runs.candidates.choose import Preparation
from ..training.cost import count_flops
from .families import SIDE, name_of_kind
from .tasks import Prepare

__all__ = ["feature_costs", "network_costs", "search_seconds", "searching"]


def searching(settings: RunSettings, kinds: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether trials of some kind, or all of them, search for a classifier."""
    model = settings.model
    if not isinstance(model, ClassicalSettings):
        return False
    return "auto" in {kind.get("model.classifier", model.classifier) for kind in kinds or [{}]}


def search_seconds(settings: RunSettings, kinds: Sequence[Mapping[str, Any]]) -> float:
    """Return the time that a run has for its choice of classifiers, one for each fold."""
    model = settings.model
    if not isinstance(model, ClassicalSettings) or not searching(settings, kinds):
        return 0.0
    return model.auto.seconds * (settings.cv.count if settings.cv.is_whole else 1)


def feature_costs(found: Preparation, task: Prepare) -> tuple[dict[str, float], dict[str, float]]:
    """Return how many times as long each variant of the features takes, and what fitting does.

    By names of variants, and of kinds with and without those. A search, which ends by the clock,
    takes as many times as long as there are more features: what it has begun, it ends.
    """
    settings, model = found.settings, found.settings.model
    if not isinstance(model, ClassicalSettings):
        return {}, {}
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

    candidate = ClassicalCandidate(settings, model, found.data)
    (_, own), *costs = candidate.description_costs([{}, *variants]) if variants else [(1.0, 0)]
    seconds = candidate.fit_seconds(timed, [own, *(width for _, width in costs)])
    fits = {
        name_of_kind({**kind, **variant}): one
        for kind, each in zip(timed, seconds, strict=True)
        for variant, one in zip([{}, *variants], each, strict=True)
    }
    for variant, (_, width) in zip(variants, costs, strict=True):
        search = search_seconds(settings, searches) * max(1.0, width / own)
        fits |= {name_of_kind({**kind, **variant}): search for kind in searches}
    names = map(name_of_kind, variants)
    return dict(zip(names, (longer for longer, _ in costs), strict=True)), fits


def network_costs(found: Preparation, task: Prepare) -> dict[str, float]:
    """Return how many times as long training each variant of the network takes, by its name.

    Told from the operations of a forward pass. Smaller ones count as long as the one that was
    measured, for what a step takes beside those operations becomes no less.
    """
    settings, pictures = found.settings, found.data.pictures
    size = pictures.image_size
    model = settings.model
    assert isinstance(model, NetworkSettings)
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
