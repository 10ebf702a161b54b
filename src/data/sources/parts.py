"""Which folders are parts (train, val, test) and which are classes, by their names and places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from src.config.checks import ConfigError
from src.data.sources.source import PARTS
from src.data.sources.walk import Walk

__all__ = ["class_folders"]

_KINDS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    # Held out, but nothing says for which of the two purposes.
    **dict.fromkeys(("eval", "evaluation", "holdout", "heldout", "query", "gallery"), "unclear"),
    **dict.fromkeys(
        ("pred", "predict", "prediction", "unlabelled", "unlabeled", "submission"), "unlabelled"
    ),
}
_FILLERS = frozenset(
    ("set", "sets", "data", "dataset", "datasets", "split", "splits", "part", "folder", "dir")
) | {"image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "jpg", "png"}
# Words that are written together, such as trainset and testimages.
_GLUED = re.compile(rf"({'|'.join(_KINDS)})({'|'.join(sorted(_FILLERS, key=len, reverse=True))})")
_FOLD = re.compile(r"(cv|k)?[\W_]*(fold|split|partition)s?[\W_]*\d+", re.IGNORECASE)
_NAMED = 5


class _Name(NamedTuple):
    """A folder whose name holds one word for a part; `rest` is what else the name says."""

    folder: str
    kind: str
    rest: tuple[str, ...]


class ClassFolder(NamedTuple):
    """A folder of pictures of one class; the part is "" where none are given."""

    part: str
    label: str
    folder: str


def class_folders(walk: Walk, top: str, shown: str) -> list[ClassFolder]:
    """The class folders below `top`, those of the train part first.

    Folders are parts where one is called for training, another for validation or test (train,
    training_set, seg_train, train2017, Train; val, valid, dev; test, seg_test, ...), the names
    say nothing else that differs, and the train folder holds folders. A folder of the same meaning
    inside a part (seg_train/seg_train) is looked through. So are parts inside every class folder.
    Elsewhere those are names of classes like any other.

    Args:
        top: the folder that holds parts or classes.
        shown: what the person called the root, for messages.

    Raises:
        ConfigError: folders look like parts or folds, but not clearly so.
    """
    inside = walk.folders(top)
    names = [name for name in map(_read, inside) if name is not None]
    _refuse_folds(walk, inside, shown)
    parts = _chosen_parts(walk, inside, names, shown)
    if parts:
        for folder in inside:
            if folder not in parts.values():
                _note_left_out(walk, folder)
        return [
            ClassFolder(part, _base(folder), folder)
            for part in PARTS
            if part in parts
            for folder in _classes_of(walk, _unwrapped(walk, parts[part]))
        ]
    within = _parts_within_classes(walk, inside, shown)
    if within:
        return within
    _note_if_alike(walk, inside)
    return [ClassFolder("", _base(folder), folder) for folder in _classes_of(walk, top)]


def _classes_of(walk: Walk, folder: str) -> list[str]:
    if strays := walk.pictures(folder):
        walk.note(strays[0], f"lies in no class folder ({len(strays)} such pictures); left out")
    return walk.folders(folder)


def _chosen_parts(
    walk: Walk, inside: Sequence[str], names: Sequence[_Name], shown: str
) -> dict[str, str]:
    """The folder of each part; empty where the folders are classes."""
    if len({name.kind for name in names}) < 2:
        return {}
    nested = [name for name in names if walk.folders(name.folder)]
    if not nested:
        if len(names) == len(inside) and len({name.rest for name in names}) == 1:
            raise ConfigError(
                f"{shown} has the folders {_listed(inside)}, which are called as parts are and "
                "hold pictures, but no folders of classes: put the pictures of each class into a "
                "folder of its own within each part, or name them in a CSV file path,label,split."
            )
        return {}
    train = next((name for name in nested if name.kind == "train"), None)
    if train is None:
        if len(names) == len(inside) and _shared(walk, inside):
            raise ConfigError(
                f"{shown} has the parts {_listed(inside)} and no train part: call one of the "
                "folders train."
            )
        return {}
    parts: dict[str, str] = {}
    for name in names:
        if name.kind == "unlabelled":
            continue
        if name.kind == "unclear" or name.rest != train.rest:
            _refuse_unclear(walk, train, name, shown)
            continue
        if name.kind in parts:
            raise ConfigError(
                f"{shown} has two folders for {name.kind}: {parts[name.kind]} and {name.folder}."
            )
        parts[name.kind] = name.folder
    unlabelled = any(name.kind == "unlabelled" for name in names)
    return parts if len(parts) > 1 or unlabelled else {}


def _refuse_unclear(walk: Walk, train: _Name, other: _Name, shown: str) -> None:
    """Refuse a folder that is neither the part that it is called nor a class of its own."""
    if _shared(walk, [train.folder, other.folder]):
        raise ConfigError(
            f"{shown} has the folders {train.folder} and {other.folder} with the same folders in "
            "them, and it is not clear which part the second one is: call it val or test, or move "
            "it away."
        )


def _refuse_folds(walk: Walk, inside: Sequence[str], shown: str) -> None:
    folds = [folder for folder in inside if _FOLD.fullmatch(_base(folder))]
    if len(folds) < 2 or not _shared(walk, folds):
        return
    raise ConfigError(
        f"{shown} has the folders {_listed(folds)} with the same folders in them, which are folds "
        "and no classes: put the pictures of each class into one folder and say "
        f"cv.folds={len(folds)}, or call the folders train, val and test."
    )


def _parts_within_classes(walk: Walk, inside: Sequence[str], shown: str) -> list[ClassFolder]:
    """The class folders of root/class/part/...; empty where the pictures are not kept so."""
    found: list[ClassFolder] = []
    clear = True
    for folder in inside:
        names = [name for name in map(_read, walk.folders(folder)) if name is not None]
        kinds = [name.kind for name in names if not name.rest]
        if "train" not in kinds or not {"val", "test"} & set(kinds):
            return []
        alone = len(names) == len(walk.folders(folder)) and not walk.pictures(folder)
        clear &= alone and len(kinds) == len(set(kinds)) == len(names) and set(kinds) <= set(PARTS)
        found += [ClassFolder(name.kind, _base(folder), name.folder) for name in names]
    if found and not clear:
        raise ConfigError(
            f"{shown} has folders for parts in each of {_listed(inside)}, and other things beside "
            "them: leave nothing but train, val and test in each class folder."
        )
    return sorted(found, key=lambda one: PARTS.index(one.part))


def _note_left_out(walk: Walk, folder: str) -> None:
    name = _read(folder)
    count = len(walk.pictures_below(folder))
    if name is not None and name.kind == "unlabelled":
        walk.note(folder, f"holds pictures without labels; left out ({count} pictures)")
    else:
        walk.note(
            folder, f"stands beside the train folder and is no part; left out ({count} pictures)"
        )


def _note_if_alike(walk: Walk, inside: Sequence[str]) -> None:
    """Say that outer names were taken for the classes where the inner ones might be them."""
    inner = [{_base(folder) for folder in walk.folders(outer)} for outer in inside]
    if len(inner) > 1 and len(inner[0]) > 1 and all(one == inner[0] for one in inner):
        walk.note(
            inside[0],
            f"holds the same folders as all others ({_listed(sorted(inner[0]))}); the classes are "
            f"called after the outer folders ({_listed(inside)})",
        )


def _shared(walk: Walk, folders: Sequence[str]) -> bool:
    """Whether a folder of one name, with pictures, lies in each of these."""
    inner = [
        {_base(folder) for folder in walk.folders(_unwrapped(walk, outer))} for outer in folders
    ]
    return bool(set.intersection(*inner))


def _unwrapped(walk: Walk, part: str) -> str:
    """The folder with the classes of a part: itself, or the one inside that says the same."""
    kind = _read(part)
    while len(inside := walk.folders(part)) == 1 and not walk.pictures(part):
        inner = _read(inside[0])
        same = inner is not None and kind is not None and inner.kind == kind.kind
        if not walk.folders(inside[0]) or not (same or _words(inside[0]) <= _FILLERS):
            break
        part = inside[0]
    return part


def _read(folder: str) -> _Name | None:
    """The part that a folder's name means; None where it has no word for one, or several."""
    words = _words(folder)
    kinds = {_KINDS[word] for word in words if word in _KINDS}
    if "unlabelled" in kinds:  # whichever part it would belong to
        kinds = {"unlabelled"}
    if kinds == {"train", "val"}:  # both in one, to be divided
        kinds = {"train"}
    if len(kinds) != 1:
        return None
    rest = tuple(sorted(word for word in words if word not in _KINDS and word not in _FILLERS))
    return _Name(folder, kinds.pop(), rest)


def _words(folder: str) -> frozenset[str]:
    """The words of a folder's name in small letters, without numbers."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _base(folder))
    words = (word.strip("0123456789").lower() for word in re.split(r"[\W_]+", spaced))
    parts = (glued.groups() if (glued := _GLUED.fullmatch(word)) else (word,) for word in words)
    return frozenset(word for group in parts for word in group if word)


def _base(folder: str) -> str:
    return folder.rpartition("/")[2]


def _listed(folders: Sequence[str]) -> str:
    shown = ", ".join(_base(folder) for folder in folders[:_NAMED])
    return shown if len(folders) <= _NAMED else f"{shown}, ... ({len(folders)})"
