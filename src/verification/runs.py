"""Faults of files; verification of runs: seals, unreadable files, damaged lines of spools."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from ..config.schema import stored_settings
from ..data.splitting.splits import Split
from ..machine.disk import refusal
from ..machine.package import command
from ..machine.regular_files import odd_file
from ..machine.yaml_text import read_yaml
from ..records.run import Predictions, RunSummary
from ..runs.folder import RunFolder
from ..runs.seal import SEAL, changed_since, read_seal
from ..storage.digests import DamagedLine, line_content, zip_is_whole
from ..storage.files import write_atomically
from ..storage.locks import if_free
from ..tracking.events import last_event, spool_path
from ..tracking.spool import Spool, is_being_written, mirror_lock, writer_lock

__all__ = [
    "DamagedLines",
    "Fault",
    "UntouchedRun",
    "find_damaged_lines",
    "verify_run",
    "verify_spool",
]

_ASIDE = ".damaged"

_COPY = "put a copy of it back, or train again; changed=use takes it as it is"


@dataclass(frozen=True)
class Fault:
    """A file or folder that differs from what was written.

    Attributes:
        what: what is wrong with it, in a clause.
        remedy: what to do, or what was done (where it is `repaired`), in a clause.
    """

    place: Path
    what: str
    remedy: str
    repaired: bool = False


class UntouchedRun(RunFolder):
    """A run's folder that is left as it is, whatever a process that was killed left in it."""

    def take_back_exports(self) -> None:
        """Leave earlier exports where they are."""


@dataclass(frozen=True)
class DamagedLines:
    """The lines of a file with their ends, and what is wrong with damaged ones by number from 1."""

    path: Path
    lines: list[bytes]
    reasons: dict[int, str]

    @property
    def what(self) -> str:
        """The fault in a clause."""
        numbers = ", ".join(map(str, self.reasons))
        return f"line {numbers} is damaged ({next(iter(self.reasons.values()))})"

    def put_aside(self, content: bytes) -> str:
        """Give the file new content, and add the damaged lines to a file beside it.

        Returns:
            the name of the file with the damaged lines, each after its number.

        Raises:
            OSError: one of them cannot be written; the file is then unchanged.
        """
        aside = self.path.with_name(self.path.name + _ASIDE)
        before = aside.read_bytes() if aside.exists() else b""
        added = b"".join(
            b"%d: %s\n" % (number, self.lines[number - 1].rstrip(b"\n")) for number in self.reasons
        )
        write_atomically(aside, before + added)
        write_atomically(self.path, content)
        return aside.name


def find_damaged_lines(path: Path, read: Callable[[bytes], object]) -> DamagedLines | None:
    """Return the damaged lines of a file; None where there are none, or no file.

    A last line without its end is damaged, and one for which `read` raises DamagedLine.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    reasons = {}
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b"\n"):
                raise DamagedLine("it has no end")
            read(line)
        except DamagedLine as error:
            reasons[number] = str(error)
    return DamagedLines(path, lines, reasons) if reasons else None


def verify_run(path: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of a run's folder, none while it is being written.

    `repair` puts damaged lines of its spool aside, and corrects its end there; it takes back the
    exports that a process left aside which was killed.
    """
    if odd := odd_file(*RunFolder.record_folders(path)):
        yield Fault(*odd, "remove it, and put a copy of the file back")
        return
    try:
        folder = UntouchedRun.open(path)
    except ValueError as error:
        yield Fault(path / "run.json", str(error), "put a copy of it back")
        return
    if is_being_written(path):  # it is not sealed before its end
        return
    sealed = None
    try:
        sealed = read_seal(path)
    except ValueError as error:
        yield Fault(path / SEAL, str(error), _COPY)
    if sealed is None:
        if not (path / SEAL).exists() and (lost := changed_since(path)) is not None:
            yield Fault(path / SEAL, lost, _COPY)
        yield from _unreadable(folder)
    changed = sealed.faults(path) if sealed else {}
    for name, fault in changed.items():
        yield Fault(path / name, fault, _remedy(folder, name))
    yield from _exports_aside(folder, repair=repair)
    damaged = [*verify_spool(path, repair=repair)]
    yield from damaged
    if sealed and folder.summary.name not in changed and all(one.repaired for one in damaged):
        yield from _verify_end(folder, repair=repair)


def _exports_aside(folder: RunFolder, *, repair: bool) -> Iterator[Fault]:
    aside = folder.earlier_exports
    if not aside.is_dir():
        return
    with if_free(folder.exports_lock) as free:
        if not free:
            return  # an export ends just now
    what = "an export that was killed left earlier variants in it"
    if repair:
        RunFolder.open(folder.path)
    if aside.is_dir():
        remedy = "the next command that uses the run takes them back, and so does repair=true"
        yield Fault(aside, what, f"the folder may not be changed; {remedy}" if repair else remedy)
        return
    yield Fault(aside, what, f"{folder.exports.name} has the last ones that are whole", True)


def _remedy(folder: RunFolder, name: str) -> str:
    run = shlex.quote(f"run={folder.path}")
    if name.startswith("exports/"):
        return f"python -m src.export {run} makes it anew"
    if name == "predictions/val.parquet":
        return f"python -m src.evaluate {run} split=val changed=use makes it anew"
    if name.startswith(("figures/", "provenance/", "choices/")):
        return "nothing is computed from it; put a copy of it back"
    return _COPY


def _unreadable(folder: RunFolder) -> Iterator[Fault]:
    """Yield the unreadable files of a run without a seal, such as one that did not finish."""
    readers = {
        folder.summary: RunSummary.read,
        folder.split: Split.read,
        folder.config: _read_config,
        **dict.fromkeys(sorted(folder.predictions.glob("*.parquet")), Predictions.read),
        **dict.fromkeys(sorted(folder.checkpoints.rglob("*.ckpt")), _read_checkpoint),
    }
    for path, read in readers.items():
        try:
            read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, yaml.YAMLError) as error:
            yield Fault(path, str(error), "put a copy of it back, or train again")


def _read_config(path: Path) -> None:
    stored_settings(read_yaml(path.read_text(encoding="utf-8")))


def _read_checkpoint(path: Path) -> None:
    if not zip_is_whole(path):
        raise ValueError("its content is not what was written")


def verify_spool(run_dir: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the damaged lines of a spool as one fault; `repair` puts them aside.

    Nothing is looked at while a process writes it, and nothing changed while one sends it.
    """
    path = spool_path(run_dir)
    if not path.is_file():
        return
    with if_free(writer_lock(run_dir)) as unwritten, if_free(mirror_lock(run_dir)) as unsent:
        damaged = (
            find_damaged_lines(path, partial(line_content, strict=True)) if unwritten else None
        )
        if damaged is None:
            return
        lost = "what it held is lost to MLflow"
        if not repair:
            yield Fault(path, damaged.what, f"repair=true puts it aside; {lost}")
            return
        if not unsent:
            yield Fault(path, damaged.what, "it is being sent to MLflow: repair it after that")
            return
        lines = enumerate(damaged.lines, 1)
        try:
            aside = damaged.put_aside(
                b"".join(line for n, line in lines if n not in damaged.reasons)
            )
            # Offsets have changed: it is sent again from its beginning, which changes nothing.
            (run_dir / "tracking" / "mirror.json").unlink(missing_ok=True)
        except OSError as error:
            yield Fault(path, damaged.what, refusal(error, path.parent) or str(error))
            return
    yield Fault(path, damaged.what, f"put aside in {aside}; {lost}", True)


def _verify_end(folder: RunFolder, *, repair: bool) -> Iterator[Fault]:
    """Yield where the spool of a run that was sealed as finished lacks that end, or has another."""
    path, last = spool_path(folder.path), last_event(folder.path)
    end = last.get("status") if last.get("event") == "finish" else None
    if not last or end == "FINISHED" or RunSummary.read(folder.summary).status != "FINISHED":
        return
    what = f"{'the end is missing' if end is None else f'it ends as {end}'}, and the run FINISHED"
    if not repair:
        yield Fault(path, what, "repair=true corrects it, and replay what MLflow shows")
        return
    try:
        with Spool(folder.path, wait_seconds=0) as spool:
            spool.correct_end()
    except OSError as error:
        yield Fault(path, what, refusal(error, path.parent) or str(error))
    except ValueError:  # it is being written
        return
    else:
        yield Fault(path, what, f"corrected; {command('replay')} corrects what MLflow shows", True)
