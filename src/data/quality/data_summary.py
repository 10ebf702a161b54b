"""Summary text of a data set before anything is trained on it: three lines, and remarks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import numpy as np

from ...machine.arrays import AnyArray, Int64Array
from ...machine.text import counted, percent
from ...records.pictures import Suspect
from ...targets.labels import label_counts
from ..decoding.depth import range_remark
from ..decoding.picture_format import PictureFormat
from ..decoding.picture_store import PictureStore
from ..sources.source import Problem
from ..splitting.folds import groups_of_classes
from ..splitting.splits import PARTS, Split
from .suspects import ODD_LABEL, Examination

__all__ = ["rare_labels", "remarks_on", "summary_lines"]

# Classes that are named; of more, the largest and the smallest ones are.
_MOST_NAMED = 10
# Faults of one kind that are shown one by one.
_MOST_SHOWN_OF_A_KIND = 3
# Classes that are named of those that a part lacks.
_LACKING = 5
# Pictures of a class with which it can be in every part, and classes that make a set of labels odd.
_PICTURES_FOR_EVERY_PART, _LEAST_CLASSES_TO_BE_ODD = 3, 10
# How many times as frequent a label is that a rare one may be meant for, and how alike they are.
_TIMES_AS_FREQUENT, _ALIKE = 10, 0.79
_FITS = {
    "squeeze": "squeezed",
    "crop": "cropped to its proportions",
    "pad": "padded to its proportions",
}


def summary_lines(pictures: PictureStore, split: Split) -> tuple[str, str, str]:
    """Return the parts, the classes and the format of the pictures, a line each."""
    return _parts(pictures, split), _classes(pictures, split), _format(pictures)


def remarks_on(
    pictures: PictureStore,
    split: Split,
    found: Examination,
    suspects: Sequence[Suspect],
    groups: Int64Array,
    folds: int | None = None,
) -> tuple[str, ...]:
    """Return what the user should know about a data set, a sentence each; often nothing.

    Args:
        pictures, split, found, suspects: of the data set.
        groups: (N,) what belongs together.
        folds: of a cross-validation that holds out training and validation pictures; or None.
    """
    remarks = list(_counted(pictures.problems))
    if (rare := rare_labels(pictures)) is not None:
        remarks.append(rare)
    remarks += _misspelt(pictures)
    remarks += _missing_classes(pictures, split, ("test",) if folds else PARTS[:3])
    if folds:
        remarks += _rare_in_folds(pictures, split, groups, folds)
    if pictures.pixel_bounds is not None and pictures.format.value_range is not None:
        training = pictures.pixel_bounds[split.train]
        remark = range_remark(training, pictures.format.value_range)
        remarks += [] if remark is None else [remark]
    remarks += _suspicions(suspects, split)
    pairs = found.belong_together
    together = int((split.parts[pairs[:, 0]] == split.parts[pairs[:, 1]]).sum())
    published = pictures.source is not None and pictures.source.published
    if together and not published:
        kept = "pair of nearly equal pictures was kept in one part"
        if together > 1:
            kept = "pairs of nearly equal pictures were kept in one part each"
        remarks.append(f"{together:,} {kept}")
    return tuple(remarks)


def _counted(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield each problem, or one sentence for all of a kind of which there are many."""
    counts = Counter(problem.kind for problem in problems if problem.kind)
    shown: set[str] = set()
    for problem in problems:
        if counts[problem.kind] <= _MOST_SHOWN_OF_A_KIND:
            yield str(problem)
        elif problem.kind not in shown:
            shown.add(problem.kind)
            yield f"{counts[problem.kind]:,} {problem.kind}; the first of them, {problem}"


def rare_labels(pictures: PictureStore) -> str | None:
    """Return what to do where most labels have too few pictures to be classes; None elsewhere.

    Such are measurements, which a regression would predict, and names or numbers of the pictures.
    """
    if pictures.targets.ndim != 1:  # a set of labels needs no class of its own
        return None
    names = pictures.class_names
    counts = label_counts(pictures.targets, len(names))
    few = int((counts < _PICTURES_FOR_EVERY_PART).sum())
    if len(names) < _LEAST_CLASSES_TO_BE_ODD or 2 * few <= len(names):
        return None
    advice = "A label is a class, which many pictures have: add pictures, or join labels"
    if all(_is_number(name) for name in names):
        advice = (
            "Classes are predicted, and no numbers: put measurements into a few ranges, such as "
            "low, medium and high (data.target=ordinal data.order=[low,medium,high])"
        )
    advice += "; data.columns says which column of a table holds the label"
    least = _PICTURES_FOR_EVERY_PART
    return f"{few:,} of {len(names):,} labels have fewer than {least} pictures. {advice}"


def _misspelt(pictures: PictureStore) -> Iterator[str]:
    """Yield a remark on labels of a picture or two that are spelt almost as a frequent one is."""
    names = pictures.class_names
    counts = label_counts(pictures.targets, len(names)).tolist()
    found = []
    for name, count in zip(names, counts, strict=True):
        if not 0 < count < _PICTURES_FOR_EVERY_PART:
            continue
        frequent = [
            other
            for other, many in zip(names, counts, strict=True)
            if many >= _TIMES_AS_FREQUENT * count
            and re.findall(r"\d+", other) == re.findall(r"\d+", name)  # species 1 and 2 are two
        ]
        if close := get_close_matches(name, frequent, n=1, cutoff=_ALIKE):
            found.append(f"{name} for {close[0]}")
    if found:
        more = f" and {len(found) - _LACKING:,} more" if len(found) > _LACKING else ""
        yield (
            f"perhaps misspelt, and classes of their own: {', '.join(found[:_LACKING])}{more}; "
            "correct the labels"
        )


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _missing_classes(pictures: PictureStore, split: Split, parts: Sequence[str]) -> Iterator[str]:
    """Yield a remark for each part that lacks classes."""
    for part in parts:
        indices = getattr(split, part)
        counts = label_counts(pictures.targets[indices], len(pictures.class_names))
        missing = [n for n, count in zip(pictures.class_names, counts, strict=True) if not count]
        if missing and len(indices):
            effect = "learnt" if part == "train" else "measured there"
            yield f"no picture of {_listed(missing)} in the {part} part: it cannot be {effect}"


def _rare_in_folds(
    pictures: PictureStore, split: Split, groups: Int64Array, folds: int
) -> Iterator[str]:
    """Yield a remark on the classes that not every fold can hold out."""
    pool, names = np.concatenate([split.train, split.val]), pictures.class_names
    counts = groups_of_classes(groups[pool], pictures.targets[pool], len(names))
    few = [f"{name} {count}" for name, count in zip(names, counts) if 1 < count < folds]
    if few:
        yield f"fewer pictures than {folds} folds: some folds hold out none of {_listed(few)}"
    if lone := [name for name, count in zip(names, counts, strict=True) if count == 1]:
        yield (
            f"a single picture to learn {_listed(lone)} from, which trains in all folds: it cannot "
            "be measured"
        )
    if missing := [name for name, count in zip(names, counts, strict=True) if count == 0]:
        yield f"no picture of {_listed(missing)} to train on: it cannot be learnt"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LACKING]) + (", ..." if len(names) > _LACKING else "")


def _suspicions(suspects: Sequence[Suspect], split: Split) -> Iterator[str]:
    odd = [suspect for suspect in suspects if suspect.kind == ODD_LABEL]
    if odd:
        has, its, them = "picture has", "its label", "it"
        if len(odd) > 1:
            has, its, them = "pictures have", "their labels", "them"
        yield (
            f"{len(odd):,} {has} another label than most of the pictures nearly equal to {them}, "
            f"most of all {odd[0].name} ({odd[0].label}, and the others {odd[0].suggested}): check "
            f"{its}; see suspects.csv"
        )
    counts = Counter(
        suspect.kind for suspect in suspects if not suspect.like and suspect.kind != ODD_LABEL
    )
    if counts:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
        yield f"suspicious pictures: {kinds}; see suspects.csv"
    for part in PARTS[:3]:
        alike = [suspect for suspect in suspects if suspect.part == part and suspect.like]
        if alike:
            worst = max(alike, key=lambda suspect: suspect.score)
            yield (
                f"{len(alike):,} of {len(getattr(split, part)):,} {part} pictures nearly equal one "
                f"of another part or label, most of all {worst.name} and "
                f"{worst.like} ({percent(worst.score)}); see suspects.csv"
            )


def _parts(pictures: PictureStore, split: Split) -> str:
    counts = np.bincount(split.parts, minlength=len(PARTS)).tolist()
    shown = [f"{part} {count:,}" for part, count in zip(PARTS, counts, strict=True) if count]
    origin = "made by data.split_seed" if pictures.given_parts is None else "as given"
    if pictures.given_parts is not None and set(pictures.given_parts) != set(PARTS[:3]):
        given = [part for part in PARTS if part in pictures.given_parts]
        origin = f"given: {', '.join(given)}"
    return f"{len(pictures):,} pictures: {', '.join(shown)} ({origin})"


def _classes(pictures: PictureStore, split: Split) -> str:
    names = pictures.class_names
    used = split.parts != PARTS.index("dropped")
    targets = pictures.targets[used]
    counts = label_counts(targets, len(names))
    kinds = {"multi": "labels", "ordinal": "ordered classes"}
    what = kinds.get(pictures.kind, "classes")
    if len(names) <= _MOST_NAMED:
        named = _named(names, counts, range(len(names)))
        return f"{len(names)} {what}: {named}{_each(targets, pictures.kind)}"
    order = np.argsort(-counts, kind="stable").tolist()
    half = _MOST_NAMED // 2
    return (
        f"{len(names):,} {what}: {_named(names, counts, order[:half])}, ..., "
        f"{_named(names, counts, order[-half:])}{_each(targets, pictures.kind)}"
    )


def _each(targets: AnyArray, kind: str) -> str:
    """Describe how many labels a picture has, where it has a set of them."""
    if targets.ndim == 1:
        return ""
    sizes = targets.sum(axis=1)
    if kind == "dense":
        return f"; {counted(int((sizes == 1).sum()), 'mask')} of a single class"
    return f"; {sizes.mean():.1f} a picture, none for {int((sizes == 0).sum()):,}"


def _named(names: Sequence[str], counts: Int64Array, chosen: Sequence[int]) -> str:
    return ", ".join(f"{names[index]} {counts[index]:,}" for index in chosen)


def _format(pictures: PictureStore) -> str:
    sizes, form = pictures.original_sizes, pictures.format
    areas = sizes.prod(axis=1)
    smallest, largest = sizes[areas.argmin()].tolist(), sizes[areas.argmax()].tolist()
    wanted = list(form.image_size)
    alike = bool((sizes == sizes[0]).all())
    shown = f"all {_pixels(smallest)}" if alike else f"{_pixels(smallest)} to {_pixels(largest)}"
    if form.windowed:
        scale = "" if form.scale == 1 else f" times {form.scale:g}"
        text = f"{shown} pixels (height x width){scale}, seen in windows of {_pixels(wanted)}"
        return f"{text}; {_bands(form)}, {_depth(pictures)}"
    done = "kept so" if alike and smallest == wanted else f"resized to {_pixels(wanted)}"
    text = f"{shown} pixels (height x width), {done}"
    height, width = form.image_size
    if (np.abs(sizes[:, 0] * width / sizes[:, 1] - height) > 0.5).any():  # half a pixel
        text += f" and {_FITS[form.fit]}"
    if smallest != wanted or largest != wanted:
        text += " (data.image_size sets another size)"
    return f"{text}; {_bands(form)}, {_depth(pictures)}"


def _bands(form: PictureFormat) -> str:
    if form.bands is None:
        return "grey" if form.channels == 1 else "colour"
    if form.bands == tuple(range(1, form.band_count + 1)):
        return f"all {form.band_count} bands"
    return f"bands {', '.join(map(str, form.bands))} of {form.band_count}"


def _depth(pictures: PictureStore) -> str:
    if pictures.pixel_bounds is None:
        return "8 bits" if pictures.format.dtype == "uint8" else "black and white as files state"
    count = int((~np.isnan(pictures.pixel_bounds[:, 0])).sum())
    black, white = pictures.format.value_range or (0.0, 65535.0)
    which = "all" if count == len(pictures) else f"{count:,}"
    return f"{which} of more than 8 bits, {black:g} black and {white:g} white"


def _pixels(size: Sequence[int]) -> str:
    return "x".join(map(str, size))
