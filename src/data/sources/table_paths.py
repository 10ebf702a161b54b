"""The picture files that the paths of a table mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ...config.checks import ConfigError
from .class_folders import FolderTree

__all__ = ["found_files"]


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
    prefix = "" if finder.is_file(written[0]) else finder.foreign_prefix(written[0])
    if prefix and all(path.startswith(prefix) for path in written):
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
                others = others or [f"{found} for {path}"]
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

    def is_file(self, path: str) -> bool:
        return os.path.isfile(os.path.join(self._folder, path))

    def foreign_prefix(self, path: str) -> str:
        """Return what to take from the start of a path for the rest to be a file here.

        As where a table was written in another folder or on another machine. Empty for none.
        """
        places = [at for at, letter in enumerate(path, start=1) if letter in "/\\"]
        for at in places:
            if self.is_file(path[at:].replace("\\", "/")):
                return path[:at]
        return ""

    def candidates(self, path: str) -> list[str]:
        """Return the pictures that differ from `path` in the ending or in capitals, or, for a bare
        name, in the folder."""
        if self.is_file(path):
            return [path]
        folder, _, name = path.rpartition("/")
        found = self._named(folder, name, self._tree.pictures)
        if not found and not folder:
            found = self._named("/", name, lambda _: self._tree.pictures_below(""))
        return found

    def _named(self, folder: str, name: str, listing: Callable[[str], list[str]]) -> list[str]:
        if folder not in self._inside:
            index = self._inside[folder] = {}
            try:
                pictures = listing(folder)
            except ConfigError:  # such a folder cannot be listed, so nothing is found there
                pictures = []
            for picture in pictures:
                base = picture.rpartition("/")[2].casefold()
                index.setdefault(base, []).append(picture)
                index.setdefault(os.path.splitext(base)[0], []).append(picture)
        return self._inside[folder].get(name.casefold(), [])
