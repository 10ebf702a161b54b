"""A data set before any picture is decoded, and what all sources share: labels and their order."""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...config.checks import ConfigError
from ...machine.text import visible
from ...targets.labels import has_class, label_counts

__all__ = [
    "PARTS",
    "Masks",
    "Problem",
    "Source",
    "alike",
    "alike_remarks",
    "clean_label",
    "is_left_behind",
    "merged_remarks",
    "natural_order",
]

PARTS = ("train", "val", "test")
# What systems leave behind beside pictures, apart from names that begin with a dot.
_LEFTOVERS = ("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin")
# Zero-width joiner and non-joiner: Persian and Indic words are spelled with them.
_SPELLING = "\u200c\u200d"
# Control characters and those of format, such as byte order marks and zero-width spaces.
_UNSEEN = ("Cc", "Cf")
# Letters by their Unicode names that look like a Latin one of the same case.
_LOOKS = {
    "CYRILLIC SMALL LETTER": "A a, IE e, O o, ER p, ES c, U y, HA x, DZE s, JE j, QA q, WE w, "
    "BYELORUSSIAN-UKRAINIAN I i, SHHA h, KOMI DE d",
    "CYRILLIC CAPITAL LETTER": "A A, VE B, IE E, KA K, EM M, EN H, O O, ER P, ES C, TE T, U Y, "
    "HA X, DZE S, JE J, BYELORUSSIAN-UKRAINIAN I I",
    "GREEK SMALL LETTER": "ALPHA a, IOTA i, NU v, OMICRON o, RHO p",
    "GREEK CAPITAL LETTER": "ALPHA A, BETA B, EPSILON E, ZETA Z, ETA H, IOTA I, KAPPA K, MU M, "
    "NU N, OMICRON O, RHO P, TAU T, UPSILON Y, CHI X",
}
_LATIN_LOOKS = {
    ord(unicodedata.lookup(f"{script} {pair[:-2]}")): pair[-1]
    for script, pairs in _LOOKS.items()
    for pair in pairs.split(", ")
}
# Between the path of a shard and the name of a picture in it.
_TAR = ".tar/"


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
    hashes: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int64]
    tables: npt.NDArray[np.uint8]
    table_of: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digests(self) -> npt.NDArray[np.bytes_]:
        """(N,) 32 hexadecimal digits as bytes: hash of each mask and of what its values mean."""
        tables = [table.tobytes() for table in self.tables]
        pairs = zip(self.hashes.tolist(), self.table_of.tolist(), strict=True)
        found = [blake2b(one + tables[at], digest_size=16).hexdigest() for one, at in pairs]
        return np.array(found, "S32")

    def only(self, kept: npt.NDArray[np.int64]) -> Masks:
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
    targets: npt.NDArray[Any]
    arrays: npt.NDArray[Any] | None = None
    root: Path | None = None
    sample_paths: tuple[str, ...] | None = None
    given_parts: npt.NDArray[np.str_] | None = None
    groups: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()
    missing: Mapping[int, str] = field(default_factory=dict)
    pages: npt.NDArray[np.int64] | None = None
    kind: str = "single"
    masks: Masks | None = None
    spans: npt.NDArray[np.int64] | None = None
    published: bool = False

    def __post_init__(self) -> None:
        if (fault := self._fault()) is not None:
            raise ValueError(f"{self.name}: {fault}")

    def _fault(self) -> str | None:
        if (self.arrays is None) == (self.sample_paths is None):
            return "a source has either arrays or files"
        if (self.root is None) != (self.sample_paths is None):
            return "root and sample_paths go together"
        columns = ("arrays", "sample_paths", "given_parts", "groups", "pages", "masks", "spans")
        for name in columns:
            column = getattr(self, name)
            if column is not None and len(column) != len(self.targets):
                return f"{len(column)} {name} for {len(self.targets)} targets"
        images = np.zeros((0, 1, 1, 1), np.uint8) if self.arrays is None else self.arrays
        if images.dtype.kind not in "uif" or images.ndim != 4:
            return f"arrays are {images.dtype} {images.shape}, not numbers (N, C, H, W)"
        if len(self.targets) == 0:
            return "there are no pictures"
        if (self.masks is None) == (self.kind == "dense"):
            return "pictures of kind dense have masks, and no others"
        sets = self.kind in ("multi", "dense")
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

    def only(self, kept: npt.NDArray[np.int64]) -> Source:
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

        def reduced(column: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return None if column is None else tuple(column[i] for i in kept)

        return replace(
            self,
            class_names=tuple(self.class_names[label] for label in present),
            targets=targets,
            arrays=None if self.arrays is None else self.arrays[kept],
            sample_paths=reduced(self.sample_paths),
            given_parts=None if self.given_parts is None else self.given_parts[kept],
            groups=reduced(self.groups),
            pages=None if self.pages is None else self.pages[kept],
            masks=None if self.masks is None else self.masks.only(kept),
            spans=None if self.spans is None else self.spans[kept],
            missing={
                place: self.missing[index]
                for place, index in enumerate(kept.tolist())
                if index in self.missing
            },
        )

    def without(self, reasons: Mapping[int, str]) -> Source:
        """Return the source without pictures that cannot be used; some others are left.

        `reasons` says of these, by their indices, why.

        Raises:
            ConfigError: no picture of a class is left.
        """
        kept = [index for index in range(len(self)) if index not in reasons]
        usable = self.only(np.array(kept, np.int64))
        for label in sorted(set(self.class_names) - set(usable.class_names)):
            members = np.flatnonzero(has_class(self.targets, self.class_names.index(label)))
            first = int(members[0])
            raise ConfigError(
                f"{self.name}: no picture of the class {label} can be used ({len(members)}), for "
                f"{self.sample_name(first)} {reasons[first]}. Repair them, or take the class out "
                "of the data."
            )
        return usable

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
        return replace(
            self,
            targets=self.targets[rows],
            sample_paths=tuple(
                f"{self.sample_paths[row]}#{page + 1}" if many else self.sample_paths[row]
                for row, page, many in zip(rows, number, several, strict=True)
            ),
            given_parts=None if self.given_parts is None else self.given_parts[rows],
            groups=tuple(names[row] for row in rows),
            pages=np.where(several, number, -1),
            spans=None if self.spans is None else self.spans[rows],
        )


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


def clean_label(label: str) -> str:
    """Return a label in Unicode's normal form C, without invisible characters.

    A run of white space becomes one space, and there is none at the ends.
    """
    visible = (
        " " if letter.isspace() else letter
        for letter in label
        if letter.isspace() or letter in _SPELLING or unicodedata.category(letter) not in _UNSEEN
    )
    return unicodedata.normalize("NFC", " ".join("".join(visible).split())).strip(_SPELLING)


def merged_remarks(written: Iterable[str]) -> list[str]:
    """Return a sentence for each label that is written in several ways.

    Those that differ in Unicode's normal form alone count as one: which form a name has depends on
    the system.
    """
    groups: dict[str, set[str]] = {}
    for label in dict.fromkeys(written):
        clean = clean_label(label) or label
        groups.setdefault(clean, set()).add(unicodedata.normalize("NFC", label))
    return [
        f"the labels {', '.join(sorted(map(ascii, group)))} look alike and were taken for one"
        for group in groups.values()
        if len(group) > 1
    ]


def alike(label: str) -> str:
    """Return what is equal for labels that people hardly tell apart.

    Those that differ in capitals, in the width or the form of letters, as ﬁ and fi, and numbers
    that differ in leading zeros.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    return (folded.lstrip("0") or "0") if folded.isdecimal() else folded


def alike_remarks(labels: Iterable[str]) -> list[str]:
    """Return a sentence for each set of labels that people hardly tell apart.

    Letters of several alphabets that look the same count where the labels of a set are not all of
    the same one alphabet.
    """
    groups: dict[str, list[str]] = {}
    looks: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(alike(label), []).append(label)
        looks.setdefault(alike(label.translate(_LATIN_LOOKS)), []).append(label)
    remarks = []
    for group in looks.values():
        if len({alike(label) for label in group}) > 1 and not _of_one_alphabet(group):
            listed = ", ".join(map(ascii, group))
            remarks.append(
                f"the labels {listed} have letters of several alphabets that look the same, and "
                "are classes of their own"
            )
    for group in groups.values():
        if len(group) == 1:
            continue
        listed, how = ", ".join(group), "differ only in capitals"
        if len({label.lower() for label in group}) > 1:
            listed, how = ", ".join(map(ascii, group)), "may be meant for one"
        remarks.append(f"the labels {listed} {how}, and are classes of their own")
    return remarks


def _of_one_alphabet(labels: Iterable[str]) -> bool:
    """Return whether all letters of all labels are of one script, as Unicode names them."""
    letters = {letter for label in labels for letter in label if letter.isalpha()}
    return len({unicodedata.name(letter, "").partition(" ")[0] for letter in letters}) < 2
