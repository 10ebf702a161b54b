"""What lies in a tree of folders, by names alone: folders, pictures, and what is neither."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field

from src.config.checks import ConfigError
from src.data.decoding.decode import PICTURE_ENDINGS
from src.data.sources.source import Problem

__all__ = ["Walk"]

# What systems and editors leave behind, apart from names that begin with a dot.
_LEFTOVERS = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}


@dataclass
class Walk:
    """Lists folders below `root` by paths relative to it, and remembers what was left out."""

    root: str
    problems: list[Problem] = field(default_factory=list)
    _others: Counter[str] = field(default_factory=Counter)
    _first_other: str = ""
    _listed: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def folders(self, folder: str) -> list[str]:
        """Folders directly inside, sorted."""
        return self._list(folder)[0]

    def pictures(self, folder: str) -> list[str]:
        """Pictures directly inside, sorted."""
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
