"""Verification of runs: seals, files that cannot be read, and damaged lines of spools."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml

from src.config.schema import stored_settings
from src.data.splitting.splits import Split
from src.records.run import Predictions, RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import Seal, read_seal
from src.storage.digests import line_content, zip_is_whole
from src.tracking.spool import is_being_written, spool_path
from src.verification.faults import Fault, find_damaged_lines

__all__ = ["verify_run", "verify_spool"]

_COPY = "put a copy of it back, or train again; changed=use takes it as it is"


def verify_run(path: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of a run's folder.

    Args:
        path: of the folder.
        repair: whether to put damaged lines of its spool aside.
    """
    try:
        folder = RunFolder.open(path)
    except ValueError as error:
        yield Fault(path / "run.json", str(error), "put a copy of it back")
        return
    if is_being_written(path):  # it is not sealed before its end
        return
    try:
        sealed = read_seal(path)
    except ValueError as error:
        yield Fault(path / "seal.json", str(error), _COPY)
        sealed = None
    if sealed is not None:
        yield from _changed(folder, sealed)
    else:
        yield from _unreadable(folder)
    yield from verify_spool(path, repair=repair)


def _changed(folder: RunFolder, sealed: Seal) -> Iterator[Fault]:
    for name, fault in sealed.faults(folder.path).items():
        yield Fault(folder.path / name, fault, _remedy(folder, name))


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
    """Yield the unreadable files of a run without a seal, unfinished or of an earlier version."""
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
    stored_settings(yaml.safe_load(path.read_text(encoding="utf-8")))


def _read_checkpoint(path: Path) -> None:
    if zip_is_whole(path) is False:
        raise ValueError("its content is not what was written")


def verify_spool(run_dir: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the damaged lines of a run's spool as one fault; `repair` puts them aside."""
    damaged = find_damaged_lines(spool_path(run_dir), line_content)
    if damaged is None:
        return
    lost = "what it said is lost to MLflow"
    if not repair:
        yield Fault(damaged.path, damaged.what, f"repair=true puts it aside; {lost}")
        return
    aside = damaged.put_aside(b"".join(damaged.whole))
    # Offsets in the spool have changed: it is sent again from its beginning, which changes nothing.
    (run_dir / "tracking" / "mirror.json").unlink(missing_ok=True)
    yield Fault(damaged.path, damaged.what, f"put aside in {aside.name}; {lost}", True)
