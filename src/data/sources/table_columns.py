"""The columns of a table of pictures: what they mean, by their names, and what is in them."""

from __future__ import annotations

import re
import shlex
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...config.checks import ConfigError
from ...machine.regular_files import file_fault
from ...machine.text import nearest
from .label_spelling import clean_label

__all__ = [
    "IS_VALID",
    "ParsedTable",
    "TableSchema",
    "called_as_group",
    "cell_value",
    "check_table",
    "not_utf8",
    "recognised_columns",
]

_COLUMNS = ("path", "label", "split", "group")
IS_VALID = "is_valid"
_MAX_BYTES = 500_000_000
# What the columns of tables are called elsewhere, in letters and digits only. Of several for the
# path the first one here counts: a name with its folder and ending before one without.
_OTHER_NAMES = {
    "path": (
        *("filepath", "imagepath", "imgpath", "filename", "imagefilename", "imagefile", "file"),
        *("imagename", "imageindex", "imgname", "fname", "image", "img", "picture", "photo"),
        *("imageid", "idcode"),
    ),
    "label": (
        *("class", "classname", "category", "target", "diagnosis", "labelname", "labels"),
        *("classlabel", "dx", "species", "breed"),
    ),
    "split": ("set", "subset", "partition", "dataset", "phase", "usage"),
    "group": (
        *("groupid", "patient", "patientid", "patientnumber", "participantid", "subjectid"),
        *("personid", "individualid", "animalid", "lesionid"),
    ),
    IS_VALID: ("isvalid", "isval", "isvalidation"),
}
# Likewise of the column of masks, which then stand in the place of labels.
_MASK_NAMES = ("mask", "maskpath", "maskfile", "maskname", "maskfilename", "segmentation")


def check_table(file: Path) -> None:
    """Raise a ConfigError for what is no file, or larger than a table of pictures is."""
    if (fault := file_fault(file, _MAX_BYTES)) is not None:
        raise ConfigError(f"{file} {fault}: a table of pictures is needed.")


def not_utf8(file: Path) -> ConfigError:
    """Return the refusal of a text file in another encoding, which its first bytes may name."""
    try:
        with file.open("rb") as stream:
            marked = stream.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    except OSError:
        marked = False
    encoding, such = (
        ("UTF-16", "") if marked else ("ENCODING", ", with that of the file, such as SHIFT_JIS")
    )
    return ConfigError(
        f"{file} is not written in UTF-8: save it so (in Excel as CSV UTF-8), or convert it: "
        f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(file))} > NEW{file.suffix}{such}."
    )


@dataclass(frozen=True)
class TableSchema:
    """What the lines of a table of pictures are to hold.

    Attributes:
        columns: as of `list_table`.
        several: whether a picture has a set of labels, which may be empty or be in further columns.
        masks: whether the label is the path of a mask, and its column called so.
    """

    columns: Sequence[str | None] | None = None
    several: bool = False
    masks: bool = False

    def name_of(self, column: str) -> str:
        """Return what a known column is called in messages."""
        return "mask" if self.masks and column == "label" else column


@dataclass
class ParsedTable:
    """The lines of a table that name pictures.

    Attributes:
        header: the names of the columns.
        places: positions of the columns that were recognised, by what these mean.
        lines: their numbers, from 1.
        values: of the recognised columns in each line.
        used: positions of columns whose values have proved to be what their names promise.
        remarks: sentences for the user, to be read after the file's name.
        schema: what its lines are to hold.
        cells: of each line, where the labels are columns.
        sets: labels of each line, where these came as lists.
        alike: positions of columns without a meaning whose cells are all 0 or 1, as those of the
            column of label sets are, which was recognised by its name.
    """

    header: list[str]
    places: dict[str, int]
    lines: list[int] = field(default_factory=list)
    values: dict[str, list[str]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    schema: TableSchema = TableSchema()
    cells: list[list[str]] = field(default_factory=list)
    sets: list[tuple[str, ...]] | None = None
    alike: set[int] = field(default_factory=set)


def recognised_columns(
    header: list[str], where: str, schema: TableSchema, *, strict: bool
) -> dict[str, int]:
    """Return the position of each known column, by what it means.

    Args:
        header: the names in a table's first line.
        where: that is, for messages.
        schema: of the table; of several labels there may be no column.
        strict: refuse what is missing or not clear.

    Raises:
        ConfigError: a column is missing, there twice, or could be one of several.
    """
    names = [name.lower() for name in header]
    places: dict[str, int] = {}
    found: dict[str, Sequence[str]] = {}
    if schema.columns is None:
        plain = list(map(_plain, names))
        for column in (*_COLUMNS, IS_VALID):
            mask = schema.masks and column == "label"
            known = _MASK_NAMES if mask else _OTHER_NAMES.get(column, ())
            here = [column] if column in names and not mask else []
            # Sets are called labels as well.
            if schema.several and here == ["label"] and "labels" in names:
                here, known = [], ("label", *known)
            others = [one for one in known if one in plain]
            found[column] = here or [names[plain.index(one)] for one in others]
        if not schema.several and not schema.masks and found["path"] and not found["label"]:
            taken = {name for some in found.values() for name in some}
            left = [name for name in names if name and name not in taken]
            # It is the labels, or the table has none.
            found["label"] = left if len(left) == 1 else []
    else:
        given = zip(_COLUMNS, schema.columns, strict=False)
        found = {column: [clean_label(n).lower()] for column, n in given if n is not None}
    for column, candidates in found.items():
        there = [name for name in candidates if name in names]
        if strict and column == "label" and len(there) > 1:
            raise ConfigError(
                f"{where}: {' and '.join(there)} could each be the {schema.name_of(column)}s: "
                f"state which, data.columns=[{header[places.get('path', 0)]},{there[0]}]."
            )
        required = ("path",) if schema.several else ("path", "label")
        recognising = schema.columns is None
        if strict and not there and (column in required or not recognising):
            named = schema.name_of(column)
            raise ConfigError(_no_column(where, header, named, recognising, candidates))
        if strict and there and names.count(there[0]) > 1:
            raise ConfigError(f"{where}: there are two columns {there[0]}.")
        if there:
            places[column] = names.index(there[0])
    return places


def called_as_group(header: Sequence[str]) -> list[str]:
    """Return the columns whose names say that pictures of one value belong together."""
    known = ("group", *_OTHER_NAMES["group"])
    return [name for name in header if _plain(name.lower()) in known]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name)


def _no_column(
    where: str, header: list[str], column: str, recognising: bool, candidates: Sequence[str]
) -> str:
    have = ", ".join(name or "one without a name" for name in header[:20]) or "none"
    label = "mask" if column == "mask" else "label"
    if not recognising:
        hint = nearest(candidates[0], [name.lower() for name in header])
        return (
            f"{where}: data.columns names a column {candidates[0]}, and the columns are "
            f"{have}{hint}."
        )
    return (
        f"{where}: there is no column {column}; the columns are {have}. The first line names the "
        f"columns: path,{label} or path,{label},split or path,{label},split,group. Of other names, "
        f"data.columns=[NAME,NAME] says which are path and {label}."
    )


def cell_value(column: str, cell: str) -> str:
    """Return a cell without invisible characters; of a path only outer white space is removed."""
    cleaned = cell.strip()
    # A label is kept as it was written, for the remark on those that look alike.
    return clean_label(cell) if column == "group" or not clean_label(cell) else cleaned
