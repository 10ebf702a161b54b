"""`families: auto`: which kinds of candidates suit these pictures, and how they are judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.config.sweep import SweepSettings
from src.data.quality.audit import survey
from src.data.sources.listing import list_pictures
from src.machine.parallel import available_cores
from src.storage.cache import cache_folder

__all__ = ["ChosenFamilies", "choose_families"]

# Pixels of the median shorter side: below, pictures have little of what photos show.
_PHOTO_SIDE = 64
# Smaller ones are symbols rather than photos, of which published networks know nothing.
_LEAST_SIDE = 24
# A frozen network takes some 0.02 CPU seconds a picture; many small pictures teach a network from
# scratch as much in that time.
_MOST_PICTURES = 20_000
# Validation pictures: fewer cannot tell candidates apart that are some points from each other (the
# standard error of an accuracy of 85 % is 2.5 points on 200 of them), and all folds together hold
# out several times as many.
_LEAST_VALIDATION = 200
_FOLDS = ("cv.folds=5", "pruner=wilcoxon")
_FROM_SCRATCH = ("mlp", "cnn", "fcn", "gru", "handcrafted")


@dataclass(frozen=True)
class ChosenFamilies:
    """What races, and why.

    Attributes:
        names: of files in sweeps/spaces/.
        reason: two or three lines for the person.
        words: further settings of the sweep.
    """

    names: tuple[str, ...]
    reason: str
    words: tuple[str, ...] = ()


def choose_families(settings: SweepSettings, words: Sequence[str] = ()) -> ChosenFamilies:
    """Return the families that suit the size and the number of the pictures.

    Files are looked at as a training does it (see `src.data.quality.audit.survey`), so what is
    found is kept for it. Where the validation part would be small, candidates are
    cross-validated, unless the sweep says how they are judged.

    Args:
        settings: of the sweep.
        words: of the command line that they came from.

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
    reason = (
        f"families: {', '.join(names)}; {count:,} pictures of some {side} pixels a side: {why}\n"
        f"  {limit} on {cores} core{'s' * (cores > 1)}; families=[...] names others"
    )
    held_out = _validation_pictures(source.given_parts, count, settings)
    said = any(word.lstrip("+~").startswith(("cv.", "pruner")) for word in words)
    if held_out >= _LEAST_VALIDATION or said or settings.cv.folds or settings.pruner.name != "asha":
        return ChosenFamilies(names, reason)
    return ChosenFamilies(
        names,
        f"{reason}\n  judged on five folds, for a validation part of {held_out} pictures tells "
        "little; cv.folds=null judges on that part",
        _FOLDS,
    )


def _validation_pictures(
    parts: NDArray[np.str_] | None, count: int, settings: SweepSettings
) -> int:
    """Return about how many pictures a single split holds out for validation."""
    if parts is None:
        return int(settings.data.val_fraction * count)
    given = int((parts == "val").sum())
    return given or int(settings.data.val_fraction * (parts == "train").sum())


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
