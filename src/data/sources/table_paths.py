"""The picture files that the paths of a table mean."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...config.checks import ConfigError
from .class_folders import FolderTree

__all__ = ["found_files"]

# Paths that may show what all begin with elsewhere.
_PATHS_TRIED = 20


def found_files(
    file: Path, written: Sequence[str], lines: Sequence[int], what: str = "pictures"
) -> tuple[list[str], set[int], list[str]]:
    """Return the path of the picture in each row, the rows whose picture is no file, and remarks.

    Args:
        file: the table's own; relative paths start at its folder.
        written: the paths in it.
        lines: number of the line of each.
        what: the paths are of, for messages.

    Raises:
        ConfigError: a path could mean several pictures; with the number of the line.
    """
    finder = _Finder(str(file.parent))
    remarks: list[str] = []
    prefix = finder.foreign_prefix(written)
    if prefix:
        written = [path[len(prefix) :] for path in written]
        remarks.append(f"names {what} in {prefix}, and those in {file.parent} were taken")
    paths: list[str] = []
    missing: set[int] = set()
    others: list[str] = []
    for row, path in enumerate(written):
        found = path
        if not finder.is_file(path):
            candidates = finder.candidates(path.replace("\\", "/"))
            if len(candidates) > 1:
                raise ConfigError(
                    f"{file}, line {lines[row]}: {path} could be {candidates[0]} or "
                    f"{candidates[1]}: write it out."
                )
            if candidates:
                found = candidates[0]
                same = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", path)
                how = "in its other Unicode form" if same else f"for {path}"
                others = others or [f"{found} {how}"]
            else:
                missing.add(row)
        paths.append(found)
    remarks += [f"names {what} otherwise than their files are; took {o}" for o in others]
    return paths, missing, remarks


class _Finder:
    """Finds the files that are meant by paths that are none, relative to `folder`."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._tree = FolderTree(folder)
        self._inside: dict[str, dict[str, list[str]]] = {}
        self._folders = {"": ""}

    def is_file(self, path: str) -> bool:
        return os.path.isfile(os.path.join(self._folder, path))

    def foreign_prefix(self, paths: Sequence[str]) -> str:
        """Return what to take from the start of paths for the rest to be files here.

        As where a table was written in another folder or on another machine. Empty for none. The
        shortest that some paths from all over the table show counts: pictures may be missing, and
        others have the name of one.
        """
        shown: list[str] = []
        for path in paths[:: -(-len(paths) // _PATHS_TRIED)]:
            places = [at for at, letter in enumerate(path, start=1) if letter in "/\\"]
            for at in (0, *places):
                if self.is_file(path[at:].replace("\\", "/") if at else path):
                    shown.append(path[:at])
                    break
        shared = (one for one in shown if all(path.startswith(one) for path in paths))
        return min(shared, key=len, default="")

    def candidates(self, path: str) -> list[str]:
        """Return the pictures that differ from `path` in the ending, in capitals or in the form of
        letters (Macs write é as two), or, for a bare name, in the folder."""
        if self.is_file(path):
            return [path]
        folder, _, name = path.rpartition("/")
        folder = self._written(folder)
        found = self._named(folder, name, self._tree.pictures)
        if not found and not folder:
            found = self._named("/", name, lambda _: self._tree.pictures_below(""))
        return found

    def _written(self, folder: str) -> str:
        """Return a folder as it is called on the disk; as given where that is not clear."""
        if folder not in self._folders:
            parent, _, name = folder.rpartition("/")
            there = os.path.isdir(os.path.join(self._folder, folder))
            alike: list[str] = []
            if not there and not os.path.isabs(folder):
                parent = self._written(parent)
                with suppress(OSError):
                    others = os.listdir(os.path.join(self._folder, parent))
                    alike = [one for one in others if _key(one) == _key(name)]
            meant = os.path.join(parent, alike[0]) if len(alike) == 1 else folder
            self._folders[folder] = meant
        return self._folders[folder]

    def _named(self, folder: str, name: str, listing: Callable[[str], list[str]]) -> list[str]:
        if folder not in self._inside:
            index = self._inside[folder] = {}
            try:
                pictures = listing(folder)
            except ConfigError:  # such a folder cannot be listed, so nothing is found there
                pictures = []
            for picture in pictures:
                base = _key(picture.rpartition("/")[2])
                index.setdefault(base, []).append(picture)
                index.setdefault(os.path.splitext(base)[0], []).append(picture)
        return self._inside[folder].get(_key(name), [])


def _key(name: str) -> str:
    """Return what is equal for names that differ in capitals or in the Unicode form of letters."""
    return unicodedata.normalize("NFC", name).casefold()
