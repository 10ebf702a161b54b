"""Verification of a run, of a study, or of an output folder with the stores of the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from ..config.checks import ConfigError, input_of
from ..config.finished import VerifySettings
from ..data.quality.findings import Findings
from ..data.sources.archive import changed_files
from ..data.sources.file_notes import NOTES, FileNotes, shortened_names
from ..machine.disk import refusal
from ..machine.status import with_progress
from ..machine.text import counted
from ..runs.folder import FOLDS
from ..runs.seal import SEAL
from ..storage.cache import (
    cache_folder,
    check_again,
    entry_folders,
    read_entry,
    remove_unfinished,
)
from ..tracking.events import tracked_runs
from ..tracking.mlflow_database import remove_unfinished_database
from ..tracking.spool import is_being_written
from .mlflow_models import verify_models
from .runs import Fault, UntouchedRun, verify_run, verify_spool
from .studies import is_running, verify_json, verify_output, verify_study

__all__ = ["verify_all"]

_STUDY_FILES = ("study.journal", "sweep.json", "config.yaml")
# Any of them may be what was lost.
_RUN_FILES = ("run.json", SEAL, "config.yaml", FOLDS)


def verify_all(settings: VerifySettings) -> tuple[str, Iterator[Fault]]:
    """Return a description of what is checked, and the faults that are found.

    Raises:
        ConfigError: there is no such run, study or folder.
    """
    output_dir, repair = Path(settings.output_dir).absolute(), settings.repair
    if settings.run is not None:
        return _run(settings.run, output_dir, repair)
    if settings.study is not None:
        folder = _study(settings.study, output_dir)
        what = "no study, since one drives" if is_running(folder) else "the study"
        return f"{what} {folder.name}", verify_study(folder, repair=repair)
    if not output_dir.is_dir():
        raise ConfigError(f"output_dir is {settings.output_dir!r}: there is no such folder.")
    runs, written = _at_rest_and_busy(output_dir / "runs", _RUN_FILES, is_being_written)
    studies, running = _at_rest_and_busy(output_dir / "sweeps", _STUDY_FILES, is_running)
    cache = cache_folder(settings.cache_dir).absolute()
    entries, stores = _stores(cache, repair=repair)
    faults = chain(
        verify_output(output_dir, repair=repair),
        verify_models(output_dir, repair=repair),
        _each(verify_run, runs, "runs", repair),
        _each(verify_study, studies, "studies", repair),
        *(verify_spool(path, repair=repair) for path in tracked_runs(output_dir / "compare")),
        stores,
        _fetched(cache, repair=repair),
        _leftovers(output_dir, cache) if repair else (),
    )
    unsealed = sum(not (path / SEAL).exists() for path in runs)
    without = f" ({unsealed} without a seal)" if unsealed else ""
    busy = [_runs(len(written))] * bool(written) + [_studies(len(running))] * bool(running)
    left_out = f" (without {' and '.join(busy)} being written)" if busy else ""
    return (
        f"{_runs(len(runs))}{without} and {_studies(len(studies))} in {output_dir}{left_out}, "
        f"{counted(entries, 'stored result')} in {cache}",
        faults,
    )


def _each(
    verify: Callable[..., Iterator[Fault]], places: list[Path], what: str, repair: bool
) -> Iterator[Fault]:
    for place in with_progress(places, len(places), f"{what} checked"):
        yield from verify(place, repair=repair)


def _runs(number: int) -> str:
    return counted(number, "run")


def _studies(number: int) -> str:
    return counted(number, "study", "studies")


def _at_rest_and_busy(
    folder: Path, names: Sequence[str], is_busy: Callable[[Path], bool]
) -> tuple[list[Path], list[Path]]:
    """Return the folders in a folder that have any of these files: those at rest, and the busy."""
    found = sorted({path.parent for name in names for path in folder.glob(f"*/{name}")})
    busy = [path for path in found if is_busy(path)]
    return [path for path in found if path not in busy], busy


def _run(run: str, output_dir: Path, repair: bool) -> tuple[str, Iterator[Fault]]:
    path = Path(run)
    if not path.is_dir():  # in a folder, a damaged run.json is one of the faults
        with input_of("run"):
            path = UntouchedRun.find(run, output_dir).path
    elif not any((path / name).exists() for name in _RUN_FILES):
        raise ConfigError(f"run: {path} is not the folder of a run.")
    what = "no run, since one writes" if is_being_written(path) else "the run"
    return f"{what} {path.name}", verify_run(path.absolute(), repair=repair)


def _study(study: str, output_dir: Path) -> Path:
    for folder in (Path(study), output_dir / "sweeps" / study):
        if any((folder / name).is_file() for name in _STUDY_FILES):
            return folder.absolute()
    sweeps = output_dir / "sweeps"
    raise ConfigError(f"study is {study!r}: it is no folder of a study, nor a name in {sweeps}.")


def _stores(cache_dir: Path, *, repair: bool) -> tuple[int, Iterator[Fault]]:
    """Return how many entries the cache has, and their faults.

    `repair` deletes damaged entries, which are made anew when they are needed.
    """
    check_again()
    kinds: list[tuple[str, str, Callable[[Path], bool]]] = [
        ("findings", "*.npz", lambda file: Findings.load(file) is not None),
        ("plans", "*.json", lambda file: not any(verify_json(file, ""))),
    ]
    entries: list[tuple[Path, Callable[[Path], bool]]] = [
        *((path, _is_whole) for path in entry_folders(cache_dir)),
        *(
            (path, is_whole)
            for folder, pattern, is_whole in kinds
            for path in sorted((cache_dir / folder).glob(pattern))
        ),
    ]
    return len(entries), _faults(entries, repair=repair)


def _is_whole(entry: Path) -> bool:
    if read_entry(entry) is None:
        return False
    # Those that hold what an archive did have notes of its files.
    return not (entry / NOTES).exists() or not changed_files(entry, content=True)


def _fetched(cache_dir: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of files from addresses; `repair` deletes those, which are fetched anew."""
    for place in sorted((cache_dir / "remote").glob("*/")):
        notes, content = FileNotes.read(place / NOTES), place / "content"
        try:
            changed = [] if notes is None else notes.changed(content, content=True)
        except OSError as error:
            reason = f"{error.filename} cannot be read ({error.strerror or error})"
            yield Fault(content, reason, "remove it, and it is fetched anew")
            continue
        if not changed:
            continue
        what = f"{shortened_names(changed)} is not what came from the address"
        if not repair:
            yield Fault(content, what, "data.check_content=true and repair=true fetch it anew")
            continue
        for name in changed:
            (content / name).unlink(missing_ok=True)
        yield Fault(content, what, "deleted; it is fetched anew when it is needed", True)


def _leftovers(output_dir: Path, cache_dir: Path) -> Iterator[Fault]:
    """Remove what was being made by processes that died, and yield it."""
    database = output_dir / "mlflow.db"
    for remove, place in ((remove_unfinished_database, database), (remove_unfinished, cache_dir)):
        try:
            removed = remove(place)
        except OSError as error:
            yield Fault(place, "it holds what killed processes left", refusal(error) or str(error))
            continue
        for path in removed:
            yield Fault(path, "a process that was killed left it", "removed", True)


def _faults(entries: list[tuple[Path, Callable[[Path], bool]]], *, repair: bool) -> Iterator[Fault]:
    for path, is_whole in with_progress(entries, len(entries), "stored results checked"):
        try:
            if is_whole(path):
                continue
        except OSError as error:  # which says nothing about the content
            reason = refusal(error, path) or "try again"
            yield Fault(path, f"it cannot be read ({error.strerror or error})", reason)
            continue
        what = "its content is not what was written"
        if not repair:
            yield Fault(path, what, "it is made anew when it is needed; repair=true deletes it")
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        yield Fault(path, what, "deleted; it is made anew when it is needed", True)
