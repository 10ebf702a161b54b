"""A data set before any picture is decoded, and the order of names."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ...machine.arrays import AnyArray, BytesArray, Int64Array, TextArray, UInt8Array
from ...machine.text import visible
from ...targets import kind_of
from ...targets.labels import label_counts

__all__ = [
    "PARTS",
    "Masks",
    "Problem",
    "Source",
    "is_left_behind",
    "natural_order",
]

PARTS = ("train", "val", "test")
# What systems leave behind beside pictures, apart from names that begin with a dot.
_LEFTOVERS = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin")
# Between the path of a shard and the name of a picture in it.
_TAR = ".tar/"
# Fields of a source with a value for each picture, where they have any.
_COLUMNS = ("arrays", "sample_paths", "given_parts", "groups", "pages", "spans")


@dataclass(frozen=True)
class Problem:
    """A fault of a picture or folder that the user should know: its path, and what is wrong.

    `kind` says of several of them what they are, to be read after their number: "pictures are of a
    single colour". Without one, each is shown.
    """

    path: str
    reason: str
    kind: str = ""

    def __str__(self) -> str:
        return visible(f"{self.path}: {self.reason}")


@dataclass(frozen=True, eq=False)
class Masks:
    """The mask files of N pictures, and the classes that the values of their pixels stand for.

    Attributes:
        files: N paths, relative to the source's root or absolute.
        hashes: (N,) hash of each file's content, 32 hexadecimal digits as bytes.
        sizes: (N, 2) int64 height and width.
        tables: (T, 256) uint8 class of each value, 255 for one that is left out.
        table_of: (N,) int64 in [0, T), the table of each mask.
    """

    files: tuple[str, ...]
    hashes: BytesArray
    sizes: Int64Array
    tables: UInt8Array
    table_of: Int64Array

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digests(self) -> BytesArray:
        """(N,) 32 hexadecimal digits as bytes: hash of each mask and of what its values mean."""
        tables = [table.tobytes() for table in self.tables]
        pairs = zip(self.hashes.tolist(), self.table_of.tolist(), strict=True)
        found = [blake2b(one + tables[at], digest_size=16).hexdigest() for one, at in pairs]
        return np.array(found, "S32")

    def only(self, kept: Int64Array) -> Masks:
        """Return those of some pictures."""
        return replace(
            self,
            files=tuple(self.files[i] for i in kept.tolist()),
            hashes=self.hashes[kept],
            sizes=self.sizes[kept],
            table_of=self.table_of[kept],
        )


@dataclass(frozen=True, eq=False)
class Source:
    """A list of labelled pictures, either as arrays or as files; nothing is decoded yet.

    Attributes:
        name: the data set's name.
        class_names: K names in natural order.
        targets: (N,) int64 in [0, K), or of label sets (N, K) uint8, 0 and 1; with masks these are
            the classes that a picture has pixels of.
        arrays: (N, C, H, W) of uint8 or other numbers, for sets that come as arrays; else None.
        root, sample_paths: for sets that come as files, a folder, and N posix paths relative to it
            or absolute, with `#` and the page after those of pages; else None.
        spans: (N, 2) int64, offset and bytes of each picture in its file, of sets whose pictures
            lie in .tar files; their paths are FILE.tar/NAME. None where each file is one picture.
        pages: (N,) the page of each file that is read, from 0, and -1 for files of one picture;
            None where each file is one picture.
        given_parts: (N,) str of "train" | "val" | "test" where the set brings its own parts.
        groups: N names; samples of one group never stand in different parts.
        problems: faults that were found while listing.
        missing: index -> where it is listed, of samples whose files are not there.
        kind: of the targets: "single", "multi" for label sets, "ordinal" for classes in order, or
            "dense" for a class a pixel.
        masks: of the pictures, of kind "dense"; else None.
        published: whether figures on this set are published, measured on its parts as they are:
            what is alike in it is reported, and stays where it is.

    Raises:
        ValueError: the fields contradict each other.
    """

    name: str
    class_names: tuple[str, ...]
    targets: AnyArray
    arrays: AnyArray | None = None
    root: Path | None = None
    sample_paths: tuple[str, ...] | None = None
    given_parts: TextArray | None = None
    groups: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)
    pages: Int64Array | None = None
    kind: str = "single"
    masks: Masks | None = None
    spans: Int64Array | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if (fault := self._fault()) is not None:
            raise ValueError(f"{self.name}: {fault}")

    def _fault(self) -> str | None:
        if (self.arrays is None) == (self.sample_paths is None):
            return "a source has either arrays or files"
        if (self.root is None) != (self.sample_paths is None):
            return "root and sample_paths go together"
        for name in (*_COLUMNS, "masks"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.targets):
                return f"{len(column)} {name} for {len(self.targets)} targets"
        images = np.zeros((0, 1, 1, 1), np.uint8) if self.arrays is None else self.arrays
        if images.dtype.kind not in "uif" or images.ndim != 4:
            return f"arrays are {images.dtype} {images.shape}, not numbers (N, C, H, W)"
        if len(self.targets) == 0:
            return "there are no pictures"
        if self.targets.dtype.kind not in "iu":
            return f"targets are {self.targets.dtype}, not whole numbers"
        if (self.masks is None) == kind_of(self.kind).pixels:
            return "pictures of kind dense have masks, and no others"
        return self._fault_of_targets()

    def _fault_of_targets(self) -> str | None:
        sets = kind_of(self.kind).multi_hot
        if sets or self.targets.ndim != 1:
            if not sets or self.targets.shape[1:] != (len(self.class_names),):
                return f"targets of kind {self.kind} have the shape {self.targets.shape}"
            largest = self.targets.max(initial=0)  # none may be left of the classes
            return None if largest <= 1 else "label sets have other values than 0 and 1"
        low, high = self.targets.min(), self.targets.max()
        if low < 0 or high >= len(self.class_names):
            return f"targets reach from {low} to {high} with {len(self.class_names)} classes"
        return None

    def __len__(self) -> int:
        return len(self.targets)

    def sample_name(self, index: int) -> str:
        """Return the name of sample `index` for messages: its path, or its number."""
        return f"picture {index}" if self.sample_paths is None else self.sample_paths[index]

    def only(self, kept: Int64Array) -> Source:
        """Return the source reduced to some of its pictures, and to the classes that these have.

        Of masks all classes stay, as their numbers stand in the files.
        """
        if len(kept) == len(self):
            return self
        targets = self.targets[kept]
        # The order of ordered classes is that of all of them.
        present = np.flatnonzero(label_counts(targets, len(self.class_names)))
        if self.masks is not None:
            present = np.arange(len(self.class_names))
        if targets.ndim == 2:
            targets = targets[:, present]
        else:
            targets = np.searchsorted(present, targets).astype(np.int64)

        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in present),
            targets=targets,
            **self._columns(kept),
            masks=None if self.masks is None else self.masks.only(kept),
            missing={
                place: self.missing[index]
                for place, index in enumerate(kept.tolist())
                if index in self.missing
            },
        )

    def _columns(self, rows: Int64Array) -> dict[str, Any]:
        """Return the columns that there are, with these rows of them."""
        there = {name: getattr(self, name) for name in _COLUMNS}
        return {
            name: tuple(map(column.__getitem__, rows)) if type(column) is tuple else column[rows]
            for name, column in there.items()
            if column is not None
        }

    def file(self, index: int) -> str:
        """Return the file of sample `index`, of a source that has files."""
        if self.root is None or self.sample_paths is None:
            raise ValueError(f"{self.name} has arrays, not files")
        path = self.sample_paths[index]
        if self.pages is not None and self.pages[index] >= 0:
            path = path.rpartition("#")[0]
        if self.spans is not None:
            path = path[: path.index(_TAR) + len(_TAR) - 1]
        return os.path.join(self.root, path)

    def open(self, index: int) -> io.BufferedReader | io.BytesIO:
        """Return the content of sample `index`, of a source that has files, open for reading.

        Raises:
            OSError: the file cannot be read.
        """
        file = self.file(index)
        if self.spans is None:
            return open(file, "rb")
        start, size = self.spans[index].tolist()
        with open(file, "rb") as stream:
            stream.seek(start)
            return io.BytesIO(stream.read(size))

    def place(self, index: int) -> tuple[str, int]:
        """Return file and offset of sample `index`, which the pages of one file share."""
        return self.file(index), 0 if self.spans is None else int(self.spans[index, 0])

    def page(self, index: int) -> int:
        """Return which page of its file sample `index` is, from 0."""
        return 0 if self.pages is None else max(0, int(self.pages[index]))

    def with_pages(self, pages: Sequence[range]) -> Source:
        """Return the source with a sample for every page of files that have several of them.

        `pages` are those of each file, from 0. The pages of a file are of one group.
        """
        counts = list(map(len, pages))
        if self.sample_paths is None or max(counts) < 2:
            return self
        rows = np.repeat(np.arange(len(self)), counts)
        several = np.array(counts)[rows] > 1
        number = np.concatenate([np.array(some) for some in pages])
        names = self.groups or self.sample_paths
        columns = self._columns(rows) | {
            "sample_paths": tuple(
                f"{self.sample_paths[row]}#{page + 1}" if many else self.sample_paths[row]
                for row, page, many in zip(rows, number, several, strict=True)
            ),
            "groups": tuple(names[row] for row in rows),
            "pages": np.where(several, number, -1),
        }
        return replace(self, targets=self.targets[rows], **columns)


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key in which numbers inside names count: class2 before class10, b after A."""
    key = []
    for piece in re.split(r"([0-9]+)", name.casefold()):
        if piece[:1].isascii() and piece[:1].isdigit():
            digits = piece.lstrip("0")
            key.append((0, len(digits), digits))
        elif piece:
            key.append((1, 0, piece))
    return key, name


def is_left_behind(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or one that systems leave behind."""
    return name.startswith(".") or name.lower() in _LEFTOVERS
