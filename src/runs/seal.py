"""The seal of a folder: a manifest of its files with their sizes and digests, written at its end.

Commands that write into a sealed folder later do so within `amending`. Folders without a seal, of
runs that have not finished, are not checked; the summary of a run that got one says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from ..storage.digests import (
    DamagedLine,
    checked_line,
    digest_of,
    file_digest,
    file_state,
    line_content,
    was_settled,
)
from ..storage.files import write_atomically
from ..storage.locks import ProcessLock

__all__ = [
    "NO_SEAL",
    "RECORD",
    "SEAL",
    "Seal",
    "amending",
    "break_seal",
    "changed_since",
    "read_checked",
    "read_seal",
    "refuse_changed",
    "seal",
]

SEAL = "seal.json"
NO_SEAL = f"its {SEAL} is gone, so nothing vouches for its files"
# Files that most later commands read; the figures beside them are for people and MLflow.
RECORD = (
    *("run.json", "config.yaml", "summary.json", "split.csv", "folds.json"),
    *("predictions/*", "checkpoints/*"),
)
# Of a line a picture, and read by few.
_LARGE_FILES = frozenset({"split.csv"})
# The spool of a run has a checksum a line, and is written to after the run's end.
_FOLDERS_NOT_SEALED = ("tracking",)


@dataclass(frozen=True)
class Seal:
    """The manifest of a sealed folder.

    Attributes:
        files: (size in bytes, SHA-256 as hex digits) by path, relative with slashes.
        open: patterns of paths that a command has begun to write and not sealed yet.
        identity: plain values that say whose folder it is.
        states: `file_state` of large files that few commands read, by path: one that still has it
            has not been written to since, as nothing sets the time of the entry's change.
    """

    files: Mapping[str, tuple[int, str]]
    open: tuple[str, ...] = ()
    identity: Mapping[str, Any] | None = None
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def fault(self, name: str, size: int, digest: Callable[[], str]) -> str | None:
        """Describe what is wrong with a file of this size and digest; None if it was sealed so."""
        if _matches(name, self.open):
            return None
        if name not in self.files:
            return f"{name} was added"
        if size != self.files[name][0]:
            return f"{name} has {size:,} bytes in place of {self.files[name][0]:,}"
        return None if digest() == self.files[name][1] else f"{name} has other contents"

    def faults(self, folder: Path, patterns: Sequence[str] = ("*",)) -> dict[str, str]:
        """Describe what is wrong with files that match a pattern of `fnmatch`, by path."""
        found = {}
        for name in self.files:
            if not _matches(name, patterns) or _matches(name, self.open):
                continue
            path = folder / name
            try:
                fault = self.fault(name, path.stat().st_size, partial(file_digest, path))
            except FileNotFoundError:
                fault = f"{name} is gone"
            except OSError as error:
                fault = f"{name} cannot be read: {error.strerror}"
            if fault is not None:
                found[name] = fault
        return found


def seal(folder: Path, **identity: Any) -> None:
    """Write the manifest of a folder as it is now, in the place of an earlier one.

    Raises:
        OSError: a file cannot be read, or the manifest not be written.
    """
    paths = {name: folder / name for name in _names(folder)}
    files = {name: (path.stat().st_size, file_digest(path)) for name, path in paths.items()}
    states = {}
    for name in files.keys() & _LARGE_FILES:
        state = file_state(paths[name].stat())
        if was_settled(*state[1:3]):
            states[name] = state
    _write(folder, Seal(files, identity=identity, states=states))


def read_seal(folder: Path) -> Seal | None:
    """Read the manifest of a folder; None where it has none.

    Raises:
        ValueError: the manifest is damaged.
    """
    path = folder / SEAL
    try:
        plain = line_content(path.read_bytes(), strict=True)
        files = {name: (int(size), str(digest)) for name, (size, digest) in plain["files"].items()}
        states = {name: tuple(state) for name, state in plain["states"].items()}
        return Seal(files, tuple(plain["open"]), plain["identity"], states)
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder, so nothing vouches for the run's files") from error
    except (DamagedLine, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}), so nothing vouches for its files"
        ) from error


def break_seal(folder: Path) -> None:
    """Remove the manifest of a folder that a resumed run is going to change.

    Raises:
        OSError: it cannot be removed.
    """
    (folder / SEAL).unlink(missing_ok=True)


def changed_since(folder: Path, patterns: Sequence[str] = RECORD) -> str | None:
    """Describe in a clause what was changed in a folder since it was sealed.

    None if nothing was in the files that match the patterns, or if the folder never had a seal.
    """
    try:
        sealed = read_seal(folder)
        found = [] if sealed is None else [*sealed.faults(folder, patterns).values()]
        while found and (newer := read_seal(folder)) != sealed:  # sealed anew meanwhile
            sealed = newer
            found = [] if newer is None else [*newer.faults(folder, patterns).values()]
    except ValueError as error:
        return str(error)
    if sealed is None:
        return f"{folder.name} was changed: {NO_SEAL}" if _had_seal(folder) else None
    if not found:
        return None
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{folder.name} was changed after it had been sealed: {found[0]}{more}"


def refuse_changed(folder: Path, changed: str, patterns: Sequence[str] = RECORD) -> None:
    """Refuse a run whose files were changed after it had been sealed, or print a warning.

    Raises:
        ValueError: it was changed and `changed` is not "use"; the message is a clause with the
            remedy.
    """
    clause = changed_since(folder, patterns)
    if clause is None:
        return
    if changed != "use":
        raise ValueError(
            f"{clause}: put the original back or train again, or set changed=use to take it as it "
            "is"
        )
    print(f"{clause}; it is used all the same", file=sys.stderr, flush=True)


def read_checked(folder: Path, path: Path, sealed: Seal | None) -> tuple[bytes, str | None]:
    """Read a file of a folder, and describe what is wrong with it by the folder's seal.

    Raises:
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    if sealed is None:
        return content, None
    name = path.relative_to(folder).as_posix()
    fault = sealed.fault(name, len(content), partial(digest_of, content))
    if fault is not None:  # another process may have sealed it anew between the two looks
        newer = read_seal(folder)
        if newer is not None and newer != sealed:
            content = path.read_bytes()
            fault = newer.fault(name, len(content), partial(digest_of, content))
    return content, fault


@contextmanager
def amending(folder: Path, *patterns: str, updated: Sequence[str] = ()) -> Iterator[None]:
    """Add the files that are written to a sealed folder within the block to its seal.

    Files that match the patterns are not checked while the block lasts; if the process was killed
    within it, until a block with the same patterns ends. Other processes may amend the folder
    meanwhile: each changes the entries of its own patterns alone, and blocks that update files come
    one after another.

    Args:
        folder: without a seal it gets none.
        patterns: of the paths that are written anew, as of `fnmatch`.
        updated: patterns of those that are read, changed and written back. One that others had
            changed before keeps its entry, and so stays changed.

    Raises:
        ValueError: the manifest is damaged.
    """
    own, spoilt = [*patterns, *updated], dict[str, str]()
    with ExitStack() as stack:
        if updated:
            stack.enter_context(_alone(folder, "update"))
        with _alone(folder, "seal"):
            before = read_seal(folder)
            if before is not None:
                spoilt = before.faults(folder, updated)
                opened = tuple(dict.fromkeys([*before.open, *own]))
                _write(folder, replace(before, open=opened))
        try:
            yield
        finally:
            if before is not None:
                _close(folder, own, spoilt)


def _close(folder: Path, own: Sequence[str], spoilt: Container[str]) -> None:
    """Seal what matches patterns as it is now, but for spoilt files; a broken seal stays broken."""
    with _alone(folder, "seal"):
        now = read_seal(folder)
        if now is None:  # the run goes on
            return
        files = dict(now.files)
        for name in sorted({*_names(folder), *files}):
            if not _matches(name, own) or name in spoilt:
                continue
            files.pop(name, None)
            if (path := folder / name).is_file():
                files[name] = path.stat().st_size, file_digest(path)
        states = {k: v for k, v in now.states.items() if not _matches(k, own)}
        still = tuple(pattern for pattern in now.open if pattern not in own)
        _write(folder, replace(now, files=files, open=still, states=states))


@contextmanager
def _alone(folder: Path, what: str) -> Iterator[None]:
    with ProcessLock(folder / f".{what}.lock"):
        yield


def _names(folder: Path) -> list[str]:
    """Return the paths of the files that belong to a seal, in order."""
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = path.name.startswith(".") or path.suffix in (".lock", ".pyc")
        if path.is_file() and not hidden and relative.parts[0] not in (*_FOLDERS_NOT_SEALED, SEAL):
            found.append(relative.as_posix())
    return sorted(found)


def _had_seal(folder: Path) -> bool:
    """Return whether the summary of a run says that it finished and was sealed."""
    try:
        summary = json.loads((folder / "summary.json").read_bytes())
        return summary["status"] == "FINISHED" and summary["sealed"] is True
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def _write(folder: Path, found: Seal) -> None:
    plain = {"files": found.files, "open": found.open, "identity": found.identity or {}}
    plain["states"] = found.states
    write_atomically(folder / SEAL, checked_line(plain))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
