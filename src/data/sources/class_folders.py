"""The folders of a tree that are parts (train, val, test), and those that are classes."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...config.checks import ConfigError
from ...machine.text import visible
from ..decoding.picture_files import PICTURE_ENDINGS
from .source import PARTS, Problem, is_left_behind
from .unread_kinds import unread_kind
from .written_answers import table_of_copies

__all__ = ["FolderTree", "class_folders", "is_held_out", "named", "part_named"]

_KINDS = {
    **dict.fromkeys(("train", "training", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    # Held out, for an unknown one of the two purposes.
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
_MOST_NAMED = 5
_NO_FILES = "broken links or no regular files were left out"
_NO_UTF_8 = "names are no valid UTF-8, and were left out"


@dataclass
class FolderTree:
    """Lists folders below `root` by paths relative to it, and remembers what was left out.

    Pictures are files with an ending of `PICTURE_ENDINGS` or `further`.
    """

    root: str
    further: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)
    _others: Counter[str] = field(default_factory=Counter)
    _first_other: str = ""
    _unread: list[str] = field(default_factory=list)
    _listed: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def folders(self, folder: str) -> list[str]:
        """Return the folders directly inside, sorted."""
        return self._list(folder)[0]

    def pictures(self, folder: str) -> list[str]:
        """Return the pictures directly inside, sorted."""
        return self._list(folder)[1]

    def pictures_below(self, folder: str) -> list[str]:
        """Return the pictures of the folder and of the folders inside it, sorted."""
        found: list[str] = []
        seen: set[str] = set()
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            # A link to a folder further up would otherwise be walked for ever.
            real = os.path.realpath(os.path.join(self.root, current))
            if real in seen:
                continue
            seen.add(real)
            found += self.pictures(current)
            waiting += self.folders(current)
        return sorted(found)

    def note(self, path: str, reason: str, kind: str = "") -> None:
        self.problems.append(Problem(path, reason, kind))

    def unread_below(self, folder: str) -> list[str]:
        """Return the files below a listed folder that hold pictures and are not read."""
        inside = f"{folder}/" if folder else ""
        return [path for path in self._unread if path.startswith(inside)]

    def without_utf_8(self) -> str:
        """Return a sentence on what was left out because of its name; "" for nothing."""
        left = [problem.path for problem in self.problems if problem.kind == _NO_UTF_8]
        if not left:
            return ""
        return f" {named(left)}: left out, for such names are no valid UTF-8; rename them."

    def noticed(self) -> tuple[Problem, ...]:
        """Return all problems, with the files that are no pictures counted in one."""
        if self._others:
            kinds = ", ".join(f"{n} {ending}" for ending, n in self._others.most_common(5))
            first = next(iter(self._unread), self._first_other)
            what = unread_kind(first) or "is no picture by its name"
            reason = f"{what}; such files were left out ({kinds})"
            return (*self.problems, Problem(first, reason))
        return tuple(self.problems)

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        """Return folders and pictures directly inside, each sorted; listed once."""
        if folder in self._listed:
            return self._listed[folder]
        folders: list[str] = []
        pictures: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    try:
                        self._sort_in(entry, path, folders, pictures)
                    except OSError as error:
                        if error.errno != errno.ELOOP:
                            raise
                        self.note(path, "is a link to itself; left out", _NO_FILES)
        except OSError as error:
            raise ConfigError(
                f"the folder {os.path.join(self.root, folder)} cannot be listed: {error.strerror}."
            ) from None
        self._listed[folder] = folders, pictures
        return self._listed[folder]

    def _sort_in(
        self, entry: os.DirEntry[str], path: str, folders: list[str], pictures: list[str]
    ) -> None:
        name = entry.name
        hidden = is_left_behind(name)
        ending = os.path.splitext(name)[1].lower()
        known = ending in PICTURE_ENDINGS or ending in self.further
        if known and name.isascii() and not hidden and entry.is_file():
            pictures.append(path)  # first, for these are many
            return
        # Bytes that are no UTF-8 come as lone surrogates.
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            self.note(
                visible(path),
                "has a name that is no valid UTF-8; left out, please rename it",
                _NO_UTF_8,
            )
        elif entry.is_dir():
            if hidden:
                self.note(path, "is a hidden folder; left out", "hidden folders were left out")
            else:
                self._add_folder(path, folders)
        elif hidden:
            return
        elif not known:
            self._first_other = self._first_other or path
            self._others[ending or "without ending"] += 1
            if unread_kind(name):  # a class of nothing else must not go unnoticed
                self._unread.append(path)
        elif entry.is_file():
            pictures.append(path)
        else:
            self.note(
                path,
                "is a broken link or no regular file; left out",
                _NO_FILES,
            )

    def _add_folder(self, path: str, folders: list[str]) -> None:
        table = table_of_copies(Path(self.root, path))
        if table is None:
            folders.append(path)
        else:
            self.note(
                path,
                f"holds copies that predict made beside {table.name}; left out: once their labels "
                "are right, move them into the folders of their classes",
            )


class _Name(NamedTuple):
    """A folder whose name has one word for a part; `rest` are its other words."""

    folder: str
    kind: str
    rest: tuple[str, ...]


class ClassFolder(NamedTuple):
    """A folder of pictures of one class; the part is "" where none are given."""

    part: str
    label: str
    folder: str


def class_folders(tree: FolderTree, top: str, shown: str) -> list[ClassFolder]:
    """Return the class folders below `top`, those of the train part first.

    Folders are parts where one is called for training, another for validation or test (train,
    training_set, seg_train, train2017, Train; val, valid, dev; test, seg_test, ...), the names
    say nothing else that differs, and the train folder holds folders. A folder of the same meaning
    inside a part (seg_train/seg_train) is looked through. So are parts inside every class folder.
    Elsewhere those are names of classes like any other. Messages name the root as `shown`.

    Raises:
        ConfigError: folders look like parts or folds, but not clearly so.
    """
    inside = tree.folders(top)
    names = [name for name in map(_read, inside) if name is not None]
    folds = [folder for folder in inside if _FOLD.fullmatch(_base(folder))]
    if len(folds) > 1 and _shared(tree, folds):
        raise ConfigError(
            f"{shown} has the folders {named(folds)} with the same folders in them, which are "
            "folds and no classes: put the pictures of each class into one folder and set "
            f"cv.folds={len(folds)}, or call the folders train, val and test."
        )
    parts = _chosen_parts(tree, inside, names, shown)
    if parts:
        for folder in inside:
            if folder not in parts.values():
                reason, name = "stands beside the train folder and is no part", _read(folder)
                if name is not None and name.kind == "unlabelled":
                    reason = "holds pictures without labels"
                count = len(tree.pictures_below(folder))
                tree.note(folder, f"{reason}; left out ({count} pictures)")
        return [
            ClassFolder(part, _base(folder), folder)
            for part in PARTS
            if part in parts
            for folder in _classes_of(tree, _unwrapped(tree, parts[part]))
        ]
    within = _parts_within_classes(tree, inside, shown)
    if within:
        return within
    # The inner names might be the classes where they are the same in all.
    inner = [{_base(folder) for folder in tree.folders(outer)} for outer in inside]
    if len(inner) > 1 and len(inner[0]) > 1 and all(one == inner[0] for one in inner):
        tree.note(
            inside[0],
            f"holds the same folders as all others ({named(sorted(inner[0]))}); the classes are "
            f"called after the outer folders ({named(inside)})",
        )
    return [ClassFolder("", _base(folder), folder) for folder in _classes_of(tree, top)]


def _classes_of(tree: FolderTree, folder: str) -> list[str]:
    if strays := tree.pictures(folder):
        tree.note(strays[0], f"lies in no class folder ({len(strays)} such pictures); left out")
    return tree.folders(folder)


def _chosen_parts(
    tree: FolderTree, inside: Sequence[str], names: Sequence[_Name], shown: str
) -> dict[str, str]:
    """Return the folder of each part; empty where the folders are classes."""
    if len({name.kind for name in names}) < 2:
        return {}
    nested = [name for name in names if tree.folders(name.folder)]
    if not nested:
        if len(names) == len(inside) and len({name.rest for name in names}) == 1:
            raise ConfigError(
                f"{shown} has the folders {named(inside)}, which are called as parts are and "
                "hold pictures, but no folders of classes: put the pictures of each class into a "
                "folder of its own within each part, or name them in a CSV file path,label,split."
            )
        return {}
    train = next((name for name in nested if name.kind == "train"), None)
    if train is None:
        if len(names) == len(inside) and _shared(tree, inside):
            raise ConfigError(
                f"{shown} has the parts {named(inside)} and no train part: call one of the "
                "folders train."
            )
        return {}
    parts: dict[str, str] = {}
    for name in names:
        if name.kind == "unlabelled":
            continue
        if name.kind == "unclear" or name.rest != train.rest:
            if _shared(tree, [train.folder, name.folder]):  # it is no class of its own either
                raise ConfigError(
                    f"{shown} has the folders {train.folder} and {name.folder} with the same "
                    "folders in them, and it is not clear which part the second one is: call it "
                    "val or test, or move it away."
                )
            continue
        if name.kind in parts:
            raise ConfigError(
                f"{shown} has two folders for {name.kind}: {parts[name.kind]} and {name.folder}."
            )
        parts[name.kind] = name.folder
    unlabelled = any(name.kind == "unlabelled" for name in names)
    return parts if len(parts) > 1 or unlabelled else {}


def _parts_within_classes(tree: FolderTree, inside: Sequence[str], shown: str) -> list[ClassFolder]:
    """Return the class folders of root/class/part/...; empty where the pictures are not kept so."""
    found: list[ClassFolder] = []
    clear = True
    for folder in inside:
        names = [name for name in map(_read, tree.folders(folder)) if name is not None]
        kinds = [name.kind for name in names if not name.rest]
        if "train" not in kinds or not {"val", "test"} & set(kinds):
            return []
        alone = len(names) == len(tree.folders(folder)) and not tree.pictures(folder)
        clear &= alone and len(kinds) == len(set(kinds)) == len(names) and set(kinds) <= set(PARTS)
        found += [ClassFolder(name.kind, _base(folder), name.folder) for name in names]
    if found and not clear:
        raise ConfigError(
            f"{shown} has folders for parts in each of {named(inside)}, and other things beside "
            "them: leave nothing but train, val and test in each class folder."
        )
    return sorted(found, key=lambda one: PARTS.index(one.part))


def _shared(tree: FolderTree, folders: Sequence[str]) -> bool:
    """Return whether a folder of one name, with pictures, lies in each of these."""
    inner = [
        {_base(folder) for folder in tree.folders(_unwrapped(tree, outer))} for outer in folders
    ]
    return bool(set.intersection(*inner))


def _unwrapped(tree: FolderTree, part: str) -> str:
    """Return the folder with a part's classes: itself, or the one inside of the same meaning."""
    kind = _read(part)
    while len(inside := tree.folders(part)) == 1 and not tree.pictures(part):
        inner = _read(inside[0])
        same = inner is not None and kind is not None and inner.kind == kind.kind
        if not tree.folders(inside[0]) or not (same or _words(inside[0]) <= _FILLERS):
            break
        part = inside[0]
    return part


def part_named(word: str) -> str | None:
    """Return the part (train, val or test) that a word means: Valid, dev, training set, ...

    None where it means none of them, or says more than that.
    """
    name = _read(word)
    return name.kind if name is not None and not name.rest and name.kind in PARTS else None


def is_held_out(word: str) -> bool:
    """Return whether a word means a part that is val or test, and not which: eval, holdout, ..."""
    name = _read(word)
    return name is not None and not name.rest and name.kind == "unclear"


def _read(folder: str) -> _Name | None:
    """Return the part that a folder's name means; None where it has no word for one, or several."""
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
    """Return the words of a folder's name in small letters, without numbers."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _base(folder))
    words = (word.strip("0123456789").lower() for word in re.split(r"[\W_]+", spaced))
    parts = (glued.groups() if (glued := _GLUED.fullmatch(word)) else (word,) for word in words)
    return frozenset(word for group in parts for word in group if word)


def _base(folder: str) -> str:
    return folder.rpartition("/")[2]


def named(folders: Sequence[str]) -> str:
    """Return the names of folders, of many the first ones and how many there are."""
    shown = ", ".join(_base(folder) for folder in folders[:_MOST_NAMED])
    return shown if len(folders) <= _MOST_NAMED else f"{shown}, ... ({len(folders)})"
