"""`families: auto`: which kinds of candidates suit these pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.config.sweep import SweepSettings
from src.data.audit import survey
from src.data.cache import cache_folder
from src.data.parallel import available_cores
from src.data.sources.listing import list_pictures

__all__ = ["ChosenFamilies", "choose_families"]

# Pixels of the median shorter side: below, pictures have little of what photos show.
_PHOTO_SIDE = 64
# Smaller ones are symbols rather than photos, of which published networks know nothing.
_LEAST_SIDE = 24
# A frozen network takes some 0.02 CPU seconds a picture; many small pictures teach a network from
# scratch as much in that time.
_MOST_PICTURES = 20_000
_FROM_SCRATCH = ("mlp", "cnn", "fcn", "gru", "handcrafted")


@dataclass(frozen=True)
class ChosenFamilies:
    """What races, and why.

    Attributes:
        names: of files in sweeps/spaces/.
        reason: two lines for the person.
    """

    names: tuple[str, ...]
    reason: str


def choose_families(settings: SweepSettings) -> ChosenFamilies:
    """Return the families that suit the size and the number of the pictures.

    Files are looked at as a training does it (see `src.data.audit.survey`), so what is found is
    kept for it.

    Raises:
        ConfigError: the pictures are not there, or not what they should be.
    """
    source = list_pictures(settings.data)
    cache = cache_folder(settings.data.cache_dir).absolute()
    workers = settings.data.num_workers or available_cores()
    sizes = survey(
        source,
        findings_dir=cache / "findings",
        workers=workers,
        check_content=settings.data.check_content,
    ).sizes
    usable = sizes[sizes.min(axis=1) > 0]
    side = int(np.median(usable.min(axis=1))) if len(usable) else 0
    count = len(source)
    names, why = _suited(side, count)
    minutes = settings.budget.minutes
    limit = "no limit of time" if minutes is None else f"{minutes:g} minutes"
    cores = available_cores()
    return ChosenFamilies(
        names,
        f"families: {', '.join(names)}; {count:,} pictures of some {side} pixels a side: {why}\n"
        f"  {limit} on {cores} core{'s' * (cores > 1)}; families=[...] names others",
    )


def _suited(side: int, count: int) -> tuple[tuple[str, ...], str]:
    if side > _PHOTO_SIDE:
        return (
            ("embedding", "efficientnet_lite0", "handcrafted", "cnn", "fcn"),
            "published networks, frozen and fine-tuned, come first on photos",
        )
    if side >= _LEAST_SIDE and count <= _MOST_PICTURES:
        return (
            ("embedding", *_FROM_SCRATCH),
            "few small ones, so that features of a published network may help",
        )
    return _FROM_SCRATCH, "small ones, which networks from scratch learn well"
