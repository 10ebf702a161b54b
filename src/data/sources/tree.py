"""Pictures in class folders: finding the parts, the classes and the files, quickly and in order."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from src.config.checks import ConfigError
from src.data.decode import PICTURE_ENDINGS
from src.data.source import PARTS, Problem, Source, natural_order

__all__ = ["list_tree"]

_PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# What systems and editors leave behind, apart from names that begin with a dot.
_LEFTOVERS = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}


def list_tree(root: Path, *, shown: str) -> Source:
    """The pictures of root/class/..., or of root/part/class/... with part train, val or test.

    Parts are taken as given when there is a train folder that holds folders, and a val (valid,
    validation) or test (testing) folder beside it, in any case; otherwise those are names like any
    other. A single folder that wraps all the others is looked through. Pictures may lie deeper
    inside a class folder. Hidden files and folders are left out, and so is, with a problem, what
    is no picture by its name.

    Args:
        root: an existing folder.
        shown: what the person called it, for messages.

    Raises:
        ConfigError: there are no two classes with pictures, or a folder cannot be listed.
    """
    walk = _Walk(str(root))
    top = _below_wrappers(walk)
    parts = _given_parts(walk, top, shown)
    paths: dict[tuple[str, str], list[str]] = {}
    for part, folder in parts.items():
        for class_folder in walk.folders(folder):
            found = walk.pictures_below(class_folder)
            if not found:
                walk.note(class_folder, "holds no pictures; this folder was left out")
                continue
            # The same letter may be one code point or two, depending on the system that wrote it.
            label = unicodedata.normalize("NFC", class_folder.rpartition("/")[2])
            paths.setdefault((part, label), []).extend(found)
        if strays := walk.pictures(folder):
            walk.note(strays[0], f"lies in no class folder ({len(strays)} such pictures); left out")
    class_names = tuple(sorted({label for _, label in paths}, key=natural_order))
    if len(class_names) < 2:
        raise ConfigError(_too_few(class_names, shown))
    index = {label: number for number, label in enumerate(class_names)}
    keys = sorted(paths, key=lambda key: (list(parts).index(key[0]), index[key[1]]))
    counts = [len(paths[key]) for key in keys]
    given = None
    if len(parts) > 1:
        given = np.repeat([part for part, _ in keys], counts)
        for label in class_names:
            if ("train", label) not in paths:
                walk.note(label, "is a class without pictures in the train part")
    return Source(
        "folder",
        class_names,
        np.repeat([index[label] for _, label in keys], counts).astype(np.int64),
        root=root,
        sample_paths=tuple(path for key in keys for path in paths[key]),
        given_parts=given,
        problems=walk.noticed(),
    )


@dataclass
class _Walk:
    """Lists folders below `root` by paths relative to it, and remembers what was left out."""

    root: str
    problems: list[Problem] = field(default_factory=list)
    _others: Counter[str] = field(default_factory=Counter)
    _first_other: str = ""
    _listed: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def folders(self, folder: str) -> list[str]:
        return self._list(folder)[0]

    def pictures(self, folder: str) -> list[str]:
        return self._list(folder)[1]

    def pictures_below(self, folder: str) -> list[str]:
        """Pictures of the folder and of the folders inside it, sorted."""
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

    def note(self, path: str, reason: str) -> None:
        self.problems.append(Problem(path, reason))

    def noticed(self) -> tuple[Problem, ...]:
        """All problems, with the files that are no pictures counted in one."""
        if self._others:
            kinds = ", ".join(f"{n} {ending}" for ending, n in self._others.most_common(5))
            reason = f"is no picture by its name; such files were left out ({kinds})"
            return (*self.problems, Problem(self._first_other, reason))
        return tuple(self.problems)

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        """Folders and pictures directly inside, each sorted; asked twice, answered from memory."""
        if folder in self._listed:
            return self._listed[folder]
        folders: list[str] = []
        pictures: list[str] = []
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    self._sort_in(entry, path, folders, pictures)
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
        hidden = name.startswith(".") or name.lower() in _LEFTOVERS
        if not name.isascii() and not _is_unicode(name):
            self.note(ascii(path), "has a name that is no valid UTF-8; left out, please rename it")
        elif entry.is_dir():
            if hidden:
                self.note(path, "is a hidden folder; left out")
            else:
                folders.append(path)
        elif hidden:
            return
        elif os.path.splitext(name)[1].lower() not in PICTURE_ENDINGS:
            self._first_other = self._first_other or path
            self._others[os.path.splitext(name)[1].lower() or "without ending"] += 1
        elif entry.is_file():
            pictures.append(path)
        else:
            self.note(path, "is a broken link or no regular file; left out")


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _below_wrappers(walk: _Walk) -> str:
    """The folder that has the parts or classes: the root, or what lies inside single folders."""
    top = ""
    while len(inside := walk.folders(top)) == 1 and not walk.pictures(top):
        if not walk.folders(inside[0]):
            break
        top = inside[0]
    return top


def _given_parts(walk: _Walk, top: str, shown: str) -> dict[str, str]:
    """The folder of each part in the order train, val, test; or {"": top} if no parts are given."""
    folders: dict[str, str] = {}
    others: list[str] = []
    for folder in walk.folders(top):
        part = _PART_NAMES.get(folder.rpartition("/")[2].lower())
        if part is None:
            others.append(folder)
        elif part in folders:
            raise ConfigError(f"{shown} has two folders for {part}: {folders[part]} and {folder}.")
        else:
            folders[part] = folder
    if "train" not in folders or len(folders) < 2 or not walk.folders(folders["train"]):
        return {"": top}
    for folder in others:
        walk.note(folder, "stands beside the train folder and is no part; left out")
    return {part: folders[part] for part in PARTS if part in folders}


def _too_few(class_names: tuple[str, ...], shown: str) -> str:
    have = f"only one ({class_names[0]})" if class_names else "none"
    return (
        f"{shown} should have at least 2 class folders with pictures, and has {have}. Put the "
        f"pictures of each class into a folder of its own, such as {shown}/cat and {shown}/dog; "
        f"pictures are files ending in {', '.join(sorted(PICTURE_ENDINGS))}."
    )
