"""The champion of each data set: the run that was chosen to be used.

`<output_dir>/champions/<data>.json` says which, and the alias in MLflow's registry is its mirror.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from ..machine.regular_files import file_fault
from ..machine.text import plain, visible
from ..storage.digests import checked_json, line_content
from ..storage.files import write_atomically

__all__ = [
    "ALIAS",
    "Champion",
    "champions",
    "champions_folder",
    "find_champion",
    "plain_name",
    "withdraw_champion",
]

_log = logging.getLogger(__name__)

ALIAS = "champion"
_MOST_NAMED = 10  # classes in a remark
_MOST_BYTES = 60  # two such names and a time are together the name of a folder
_WITH_DIGEST = re.compile(r"(?s).*[-_][0-9a-f]{6}")


@dataclass(frozen=True)
class Champion:
    """The run that is the champion of a data set, by its folder's name and the project's id.

    `class_names` are those that it tells apart.
    """

    data: str
    run: str
    run_id: str
    class_names: tuple[str, ...] = ()

    @property
    def registered_model(self) -> str:
        """The registered model in MLflow that its model is a version of."""
        return f"bakeoff-{_own_name(self.data)}"

    def replacement_remark(self, before: Champion) -> str | None:
        """Return a warning where `before`, which this one replaces, has other classes."""
        if set(before.class_names) == set(self.class_names):
            return None
        classes = [", ".join(map(visible, one.class_names[:_MOST_NAMED])) for one in (before, self)]
        return (
            f"the champion of {self.data} was {before.run}, of other classes ({classes[0]}, and "
            f"not {classes[1]}): if these are two sets of pictures, give each a name of its own, "
            f"data.name=NAME, when it is trained on; python -m src.select run={before.run} makes "
            "that run the champion again"
        )

    @classmethod
    def read(cls, output_dir: Path, data: str) -> Champion | None:
        """Return the champion of a data set, or None."""
        found = _read(_file(output_dir, data))
        return found if found is not None and found.data == data else None

    def write(self, output_dir: Path) -> Path:
        """Write its record, and return the file.

        Raises:
            OSError: it cannot be written; the champion before stays.
        """
        path = _file(output_dir, self.data)
        write_atomically(path, checked_json(asdict(self)))
        return path


def champions_folder(output_dir: Path) -> Path:
    """Return the folder of an output folder's champions, a file each."""
    return output_dir.absolute() / "champions"


def champions(output_dir: Path) -> list[Champion] | None:
    """Return the champions; None where there is no folder of them, or a record is damaged."""
    folder = champions_folder(output_dir)
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    known = [one for one in found if one is not None]
    return known if folder.is_dir() and len(known) == len(found) else None


def find_champion(reference: str, output_dir: Path) -> Champion | None:
    """Return the champion that `champion` or `champion:DATA` names; None for any other text.

    Raises:
        ValueError: there is no such champion, or `champion` alone could mean several.
    """
    alias, colon, data = reference.partition(":")
    if alias != ALIAS:
        return None
    paths = champions_folder(output_dir).glob("*.json")
    known = [one for path in sorted(paths) if (one := _read(path)) is not None]
    if not known:
        raise ValueError(
            f"there is no champion in {output_dir.absolute()} yet: python -m src.select chooses one"
        )
    found = [one for one in known if not colon or one.data == data] or [
        one for one in known if plain_name(one.data) == plain_name(data)
    ]
    names = ", ".join(f"{ALIAS}:{one.data}" for one in known)
    if not found:
        raise ValueError(f"there is no champion of {data!r}: there is {names}")
    if len(found) > 1:
        raise ValueError(f"{ALIAS} is ambiguous: use one of {names}")
    return found[0]


def withdraw_champion(output_dir: Path, run_id: str) -> list[str]:
    """Remove the records that name a run; return the data sets that it was the champion of."""
    found = []
    for path in sorted(champions_folder(output_dir).glob("*.json")):
        champion = _read(path)
        if champion is not None and champion.run_id == run_id:
            path.unlink()
            found.append(champion.data)
    return found


def plain_name(name: str) -> str:
    """Return `name` with letters, digits, dots and underscores only; see `plain`."""
    # Names without a letter, such as of an emoji, must not become one and the same.
    return plain(name, _MOST_BYTES).strip("._") or f"unnamed_{_digest(name)}"


def _own_name(name: str) -> str:
    """Return a plain name that no other name becomes: with a digest where it is another one."""
    same = name and plain(name, _MOST_BYTES, "._-").strip("._-") == name
    if same and not _WITH_DIGEST.fullmatch(name):
        return name
    short = plain_name(name)
    return short if short.startswith("unnamed_") else f"{short}-{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:6]


def _file(output_dir: Path, data: str) -> Path:
    folder, name = champions_folder(output_dir), _own_name(data)
    # Earlier versions wrote other letters in front of the digest: "_" or o for ö.
    earlier = folder.glob(f"*[-_]{_digest(data)}.json")
    return next(iter(sorted(earlier)), folder / f"{name}.json")


def _read(path: Path) -> Champion | None:
    try:
        if path.exists() and (fault := file_fault(path)):
            raise ValueError(f"it {fault}")
        plain = line_content(path.read_bytes())
        class_names = tuple(map(str, plain["class_names"]))
        champion = Champion(plain["data"], plain["run"], plain["run_id"], class_names)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s is damaged (%s): python -m src.select chooses again", path, error)
        return None
    # A run's name is joined to a path: a damaged record must not lead elsewhere.
    return champion if champion.run == Path(champion.run).name else None
