"""From the runs that were compared to one more run that answers for several of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from src.candidates.choose import ENSEMBLE_SUFFIX
from src.config.after import CompareSettings
from src.config.checks import ConfigError, from_plain
from src.config.compose import compose_plain, word_of
from src.config.schema import RunSettings
from src.experiment import run_experiment
from src.records import RunSummary
from src.run_folder import RunFolder

__all__ = ["ensemble_of"]


def ensemble_of(run_ids: Sequence[str], settings: CompareSettings) -> RunSummary:
    """Combine runs as `settings.ensemble` says, and save what comes of it as a run.

    Its pictures, their parts and its place in MLflow are those of the first run that is named.
    The test part is not measured.

    Args:
        run_ids: of finished runs on the same split, the best first. Those that cannot be part of
            one model are left out, unless `settings.runs` names them.
        settings: of the comparison.

    Raises:
        ConfigError: the runs cannot be combined.
    """
    if settings.part != "val":
        raise ConfigError(
            f"part is {settings.part}, but an ensemble is chosen on the validation part: what the "
            "test part is to judge must not have been chosen by it."
        )
    folders = _folders(run_ids, settings)
    usable = folders if settings.runs is not None else _usable(folders)
    if left_out := len(folders) - len(usable):
        some = "One run" if left_out == 1 else f"{left_out} runs"
        print(
            f"{some} left out of the ensemble: no model is kept, or one that is an ensemble or "
            "takes pictures of another size."
        )
    if len(usable) < 2:
        raise ConfigError(
            f"ensemble: at least two runs are needed that keep their models, and there "
            f"{'is 1' if usable else 'are none'}."
        )
    names = [str(f.path) if f.output_dir != _output_dir(settings) else f.name for f in usable]
    return _made(_settings(usable[0], names, settings), names, settings)


def _made(run: RunSettings, names: list[str], settings: CompareSettings) -> RunSummary:
    words = [f"ensemble={str(settings.ensemble).lower()}", word_of("runs", names)]
    command = ["python", "-m", "src.compare", *words, f"output_dir={settings.output_dir}"]
    summary = run_experiment(run, command=shlex.join(command))
    if summary is None:
        raise RuntimeError("an ensemble runs in one process")
    return summary


def _output_dir(settings: CompareSettings) -> Path:
    return Path(settings.output_dir).absolute()


def _folders(run_ids: Sequence[str], settings: CompareSettings) -> list[RunFolder]:
    output_dir = _output_dir(settings)
    # One look at all of them, and not one for each.
    known = [RunFolder.open(path.parent) for path in (output_dir / "runs").glob("*/run.json")]
    known += [RunFolder.find(run, output_dir) for run in settings.runs or ()]
    by_id = {folder.run_id: folder for folder in known}
    return [by_id[run_id] for run_id in run_ids if run_id in by_id]


def _usable(folders: Sequence[RunFolder]) -> list[RunFolder]:
    """Those with a model of their own for pictures as the first of them takes them."""
    kept: list[tuple[Any, RunFolder]] = []
    for folder in folders:
        try:
            checkpoint = folder.chosen_checkpoint()
        except ValueError:  # a sweep keeps the models of its finalists alone
            continue
        if checkpoint.suffix != ENSEMBLE_SUFFIX:
            data = _plain(folder)["data"]
            kept.append(((data["image_size"], data["channels"]), folder))
    return [folder for shape, folder in kept if shape == kept[0][0]]


def _settings(first: RunFolder, names: list[str], settings: CompareSettings) -> RunSettings:
    way = "best" if settings.ensemble is True else str(settings.ensemble)
    plain = compose_plain(["model=ensemble"], "config")
    theirs = _plain(first)
    plain["data"], plain["tracking"] = theirs["data"], theirs["tracking"]
    plain["output_dir"] = settings.output_dir
    plain["evaluate_test"] = False
    plain["model"] |= {"runs": names, "way": way}
    if way == "soup":
        plain["model"]["name"] = way
    return from_plain(RunSettings, plain)


def _plain(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    return found
