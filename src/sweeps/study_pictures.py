"""Choose families by the pictures, and check that the pictures of a study have not changed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config.checks import ConfigError
from ..config.sweep import SweepSettings
from ..data.decoding.opening import refuse_undecoded, surveyed
from ..data.quality.audit import Survey
from ..data.sources.costs import CostTable
from ..data.sources.listing import list_pictures
from ..data.sources.source import Source
from ..machine.arrays import TextArray
from ..machine.parallel import available_cores
from ..machine.text import counted
from ..search.study import SweepStudy
from ..statistics.evidence import normal_quantile
from ..statistics.power import Design
from ..targets import kind_of
from .short_budget import warn_single_family

__all__ = [
    "ChosenFamilies",
    "check_pictures",
    "checked_costs",
    "choose_families",
    "describe_judging",
    "shorter_side",
]

# Key of the fingerprint in a study.
_KEY = "pictures"
# Median shorter side in pixels from which pictures are treated as photos.
_PHOTO_SIDE = 64
# Smaller ones are symbols rather than photos, for which published networks are of no use.
_MIN_SIDE = 24
# Number of small pictures up to which a frozen network pays. It takes some 0.02 CPU seconds a
# picture; on more of them a network from scratch becomes as accurate in that time.
_MAX_PICTURES = 20_000
# Number of validation pictures below which cross-validation is chosen: fewer do not show a
# difference of some points (the standard error of an accuracy of 85 % is 2.5 points on 200
# pictures), and all folds together hold out several times as many.
_MIN_VALIDATION = 200
# Fraction of the pictures on which two good candidates disagree; the better they are, the smaller.
_DISAGREEMENT = 0.1
# Difference of accuracy that matters, as in `compare`.
_DIFFERENCE = 0.01
_FOLDS = ("cv.folds=5", "pruner=wilcoxon")
_OF_PHOTOS = ("embedding", "finetuned", "handcrafted", "cnn", "fcn")
_FROM_SCRATCH = ("mlp", "cnn", "fcn", "gru", "handcrafted")
_OF_PIXELS = ("pixels", "unet", "deeplab", "fcn")


@dataclass(frozen=True)
class ChosenFamilies:
    """Names of files in sweeps/spaces/, the reason for them, and further overrides of the sweep."""

    names: tuple[str, ...]
    reason: str
    overrides: tuple[str, ...]


def choose_families(settings: SweepSettings, overrides: Sequence[str] = ()) -> ChosenFamilies:
    """Return the families that suit the size and the number of the pictures.

    If the validation part would be small, cross-validation is chosen, unless the overrides set how
    candidates are judged. Findings about the files are stored for the trainings.

    Args:
        settings: of the sweep.
        overrides: that the settings were made from.

    Raises:
        ConfigError: the pictures are missing or unusable.
    """
    source = list_pictures(settings.data)
    side = _side(_survey(settings, source, settings.data.check_content))
    count = len(source)
    dense = kind_of(settings.data.target).pixels
    of_pixels = _OF_PIXELS, "segmentation"
    names, why = of_pixels if dense else _suitable_families(side, count)
    minutes, trials = settings.budget.minutes, settings.budget.trials
    limits = [] if minutes is None else [f"{minutes:g} minute{'s' * (minutes != 1)}"]
    limits += [] if trials is None else [counted(trials, "trial")]
    limit = f"{' or '.join(limits)} at most" if limits else "no limit of time"
    cores = available_cores()
    reason = (
        f"{count:,} pictures, about {side} pixels a side; {limit} on {counted(cores, 'core')}\n"
        f"families: {', '.join(names)}\n  ({why}; families=[...] sets others)"
    )
    held_out = _validation_pictures(source.given_parts, count, settings)
    trained = _of_folds(source.given_parts, count, settings) - held_out
    if names == _OF_PHOTOS and minutes is not None:
        warning = warn_single_family(trained, minutes, bool(settings.finalists), overrides)
        reason += f"\n  {warning}" if warning else ""
    first, *others = settings.metrics
    at_the_end = settings.judged_at_the_end and first.startswith("val/") and not others
    usual = not settings.cv.folds and (settings.pruner.name == "asha" or at_the_end)
    further: tuple[str, ...] = ()
    if held_out < _MIN_VALIDATION and usual and not _sets_judging(overrides):
        further = _FOLDS
        reason += (
            f"\n  5-fold cross-validation: {held_out} validation pictures are too few "
            "(cv.folds=null: without)"
        )
    if found := _describe_power(source, settings, bool(further)):
        reason += f"\n  {found}"
    return ChosenFamilies(names, reason, further)


def describe_judging(settings: SweepSettings, overrides: Sequence[str]) -> str:
    """Describe the pictures that judge families, and the smallest difference that they can show.

    It opens with a remark if the pictures are few and the user did not choose how to judge. The
    text is empty on a cluster, where perhaps only the workers have the pictures.
    """
    if settings.workers.engine != "local":
        return ""
    source = list_pictures(settings.data)
    found = _describe_power(source, settings)
    if settings.cv.folds or _sets_judging(overrides):
        return found
    held_out = _validation_pictures(source.given_parts, len(source), settings)
    if held_out >= _MIN_VALIDATION:
        return found
    whole = _of_folds(source.given_parts, len(source), settings)
    remark = (
        f"the validation part has only {held_out:,} pictures: {' '.join(_FOLDS)} evaluates on all "
        f"{whole:,} that are not in the test part"
    )
    return f"{remark}\n{found}".rstrip()


def _sets_judging(overrides: Sequence[str]) -> bool:
    return any(override.lstrip("+~").startswith(("cv.", "pruner")) for override in overrides)


def _describe_power(source: Source, settings: SweepSettings, folds: bool = False) -> str:
    """Describe the smallest difference that the pictures can show between two good candidates."""
    count, parts = len(source), source.given_parts
    whole = folds or settings.cv.is_whole
    pictures = (_of_folds if whole else _validation_pictures)(parts, count, settings)
    if settings.data.target != "single" or pictures < 2:
        return ""
    paired = _paired(pictures)
    points, needed = 100 * paired.detectable(pictures, 1), paired.pictures_needed(_DIFFERENCE, 1)
    judges = "held-out" if whole else "validation"
    text = (
        f"{pictures:,} {judges} pictures detect a difference of {points:.1f} points with 80 % power"
    )
    if needed is not None and needed > pictures:
        text += f" (1 point: {math.ceil(needed / 100) * 100:,})"
    if source.groups is None:
        return text
    _, sizes = np.unique(np.asarray(source.groups), return_counts=True)
    groups = pictures * count / int((sizes**2).sum())  # of one size (Kish), in the same share
    if not 2 <= groups < pictures:
        return text
    as_one = 100 * _paired(groups, groups - 1).detectable(groups, 1)
    return f"{text}; {as_one:.1f} points if each of about {groups:,.0f} groups is answered as one"


def _paired(units: float, freedom: float = math.inf) -> Design:
    """Return the design of a paired comparison of two candidates on so many pictures or groups."""
    return Design(normal_quantile(0.95), _DISAGREEMENT, 0.0, units, 1, group_freedom=freedom)


def shorter_side(settings: SweepSettings) -> int | None:
    """Return the median shorter side of the pictures, in pixels; None if only workers have them."""
    if settings.workers.engine != "local":
        return None
    return _side(_survey(settings, list_pictures(settings.data)))


def _side(found: Survey) -> int:
    usable = found.sizes[found.sizes.min(axis=1) > 0]
    return int(np.median(usable.min(axis=1))) if len(usable) else 0


def check_pictures(settings: SweepSettings, study: SweepStudy) -> None:
    """Refuse to resume a study on other pictures than those that it began with.

    Trials are compared on the same pictures, identified by their index in the list of all. On a
    cluster perhaps only the workers have the pictures, so that nothing is checked there.

    Raises:
        ConfigError: contents, labels, classes or order have changed, or the pictures are missing.
    """
    if settings.workers.engine != "local":
        return
    now, before = _fingerprint(settings), study.recall(_KEY)
    if before is None:
        study.remember(_KEY, now)
    elif before != now:
        raise ConfigError(
            f"the pictures are others, or in another order, than those that the study "
            f"{settings.study} began with: bring the earlier ones back, or begin a new study with "
            "study=NAME."
        )


def checked_costs(settings: SweepSettings) -> CostTable | None:
    """Return the table of costs by which trials are judged, checked; None if there is none.

    As in `check_pictures`, nothing is compared with the pictures on a cluster.

    Raises:
        ConfigError: it is no table of costs, or its classes are not those of the pictures.
    """
    if settings.costs is None:
        return None
    table = CostTable.read(Path(settings.costs))
    if settings.workers.engine == "local":
        table.of(tuple(list_pictures(settings.data).class_names))
    return table


def _fingerprint(settings: SweepSettings) -> str:
    """Return 32 hex digits that identify the pictures with their labels and their order."""
    source = list_pictures(settings.data)
    found = _survey(settings, source)
    digest = hashlib.blake2b(json.dumps(source.class_names).encode(), digest_size=16)
    digest.update(found.hashes.tobytes())
    digest.update(source.targets.astype("<i8").tobytes())
    return digest.hexdigest()


def _survey(settings: SweepSettings, source: Source, check_content: bool = False) -> Survey:
    """Return the audit of the pictures, none of which is decoded; raises as `refuse_undecoded`."""
    found = surveyed(source, settings.data, check_content)
    refuse_undecoded(source, found, settings.data)
    return found


def _validation_pictures(parts: TextArray | None, count: int, settings: SweepSettings) -> int:
    """Return the approximate number of validation pictures in a single split."""
    if parts is None:
        held_out = int(settings.data.val_fraction * count)
    else:
        given = int((parts == "val").sum())
        held_out = given or int(settings.data.val_fraction * (parts == "train").sum())
    return min(held_out, settings.data.limit or held_out)


def _of_folds(parts: TextArray | None, count: int, settings: SweepSettings) -> int:
    """Return the approximate number of pictures that all folds together hold out."""
    if parts is None:
        held_out = int((1 - settings.data.test_fraction) * count)
    else:
        held_out = int((parts != "test").sum())
    return min(held_out, 2 * (settings.data.limit or held_out))  # a limit each of train and val


def _suitable_families(side: int, count: int) -> tuple[tuple[str, ...], str]:
    if side > _PHOTO_SIDE:
        return _OF_PHOTOS, "the default for photos"
    if side >= _MIN_SIDE and count <= _MAX_PICTURES:
        return ("embedding", *_FROM_SCRATCH), "the default for few small pictures"
    return _FROM_SCRATCH, "the default for small pictures"
