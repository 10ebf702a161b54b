"""Verification of a run, of a study, or of an output folder with the stores of the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from ..config.checks import ConfigError
from ..config.finished import VerifySettings
from ..data.quality.audit import Findings
from ..machine.disk import refusal
from ..runs.folder import FOLDS, RunFolder
from ..storage.cache import UNFINISHED, cache_folder, check_again, read_entry
from .runs import Fault, verify_run
from .studies import verify_json, verify_output, verify_study

__all__ = ["verify_all"]

_STUDY_FILES = ("study.journal", "sweep.json", "config.yaml")
# The kinds of entries, each a folder of folders; see `src.storage.cache`.
_ENTRIES = ("pictures", "features", "activations", "examined", "archives")


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
        return f"the study {folder.name}", verify_study(folder, repair=repair)
    if not output_dir.is_dir():
        raise ConfigError(f"output_dir is {settings.output_dir!r}: there is no such folder.")
    runs = sorted(path.parent for path in (output_dir / "runs").glob("*/run.json"))
    studies = sorted(
        {p.parent for n in _STUDY_FILES for p in (output_dir / "sweeps").glob(f"*/{n}")}
    )
    cache = cache_folder(settings.cache_dir).absolute()
    entries, stores = _stores(cache, repair=repair)
    faults = chain(
        verify_output(output_dir, repair=repair),
        *(verify_run(path, repair=repair) for path in runs),
        *(verify_study(path, repair=repair) for path in studies),
        stores,
    )
    unsealed = sum(not (path / "seal.json").exists() for path in runs)
    without = f" ({unsealed} without a seal)" if unsealed else ""
    return (
        f"{len(runs)} runs{without} and {len(studies)} studies in {output_dir}, "
        f"{entries} stored results in {cache}",
        faults,
    )


def _run(run: str, output_dir: Path, repair: bool) -> tuple[str, Iterator[Fault]]:
    path = Path(run)
    if not path.is_dir():  # in a folder, a damaged run.json is one of the faults
        try:
            path = RunFolder.find(run, output_dir).path
        except ValueError as error:
            raise ConfigError(f"run: {error}.") from error
    elif not any((path / name).exists() for name in ("run.json", "config.yaml", FOLDS)):
        raise ConfigError(f"run: {path} is not the folder of a run.")
    return f"the run {path.name}", verify_run(path.absolute(), repair=repair)


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
        *((kind, "*/", lambda folder: read_entry(folder) is not None) for kind in _ENTRIES),
        ("findings", "*.npz", lambda file: Findings.load(file) is not None),
        ("plans", "*.json", lambda file: not any(verify_json(file, ""))),
    ]
    entries = [
        (path, is_whole)
        for folder, pattern, is_whole in kinds
        for path in sorted((cache_dir / folder).glob(pattern))
        if path.suffix != UNFINISHED
    ]
    return len(entries), _faults(entries, repair=repair)


def _faults(entries: list[tuple[Path, Callable[[Path], bool]]], *, repair: bool) -> Iterator[Fault]:
    for path, is_whole in entries:
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
