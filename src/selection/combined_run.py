"""Combine compared runs into one more run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from ..config.checks import ConfigError
from ..config.compose import compose_plain
from ..config.finished import CompareSettings
from ..config.models import ModelSettings, NetworkSettings
from ..config.overrides import override_of
from ..config.plugins import plugin_overrides
from ..config.schema import RunSettings, stored_settings
from ..machine.imports import import_object
from ..machine.package import command
from ..machine.text import counted
from ..records.comparison import Comparison
from ..records.run import RunSummary
from ..runs.candidates.members import ENSEMBLE_SUFFIX, NothingGained
from ..runs.experiment import run_experiment
from ..runs.folder import RunFolder, finished_summary
from ..runs.settings import seen_from_here
from ..tracking.spool import is_being_written
from .comparison import compared
from .comparison.judge import wanted_measure

__all__ = ["ensemble_of", "with_ensemble"]

# Settings of the pictures that models of one format share.
_PICTURE_SETTINGS = ("image_size", "channels", "bands", "fit", "scale")
# Settings that name the classes, or their order.
_CLASS_SETTINGS = ("class_names", "order")
# Settings of a network in which networks of one architecture may differ.
_OF_TRAININGS = tuple(
    key for key in get_type_hints(NetworkSettings) if key not in get_type_hints(ModelSettings)
)


def with_ensemble(
    comparison: Comparison, settings: CompareSettings
) -> tuple[Comparison, RunSummary | None]:
    """Combine the compared runs by `ensemble_of`, and compare the combination with them.

    Returns:
        the new comparison, with the summary of the new run; the same and None where nothing is
        gained.

    Raises:
        ConfigError: as `ensemble_of`.
    """
    places = [Path(place) for one in comparison.entrants for place in one.run_dirs]
    made = ensemble_of([RunFolder.open(place) for place in places], settings)
    return (comparison if made is None else compared(settings, [made.run_dir])), made


def ensemble_of(folders: Sequence[RunFolder], settings: CompareSettings) -> RunSummary | None:
    """Combine runs as `settings.ensemble` says, and save the combination as a run.

    Its pictures, their parts and its place in MLflow are those of the first run.
    The test part is not measured. One that was stopped goes on.

    Args:
        folders: of finished runs on the same split, the best first. Those that cannot be part of
            one model are left out, unless `settings.runs` names them.
        settings: of the comparison.

    Returns:
        of the new run; None where nothing is gained by combining them, which is then said.

    Raises:
        ConfigError: the runs cannot be combined.
    """
    if settings.part != "val":
        raise ConfigError(
            f"part is {settings.part}, but an ensemble is chosen on the validation part: what the "
            "test part is to judge must not have been chosen by it."
        )
    soup = settings.ensemble == "soup"
    folders = list({folder.run_id: folder for folder in folders}.values())
    if settings.runs is None:
        candidates = _without_folds(folders, soup)
        usable = _usable(candidates, soup)
        if left_out := len(candidates) - len(usable):
            kind = "classes of one naming and pictures of one size"
            kind += " and one architecture" * soup
            print(
                f"{counted(left_out, 'run', begins=True)} left out of it: it needs models that are "
                "kept, that can be loaded (plugins=... names the code of others), and that have "
                f"{kind}."
            )
    else:
        usable = folders
    if len(usable) < 2:
        raise ConfigError(
            f"ensemble: at least two runs are needed that can be combined, and there "
            f"{'is 1' if usable else 'are none'}."
        )
    names = [str(f.path) if f.output_dir != _output_dir(settings) else f.name for f in usable]
    return _made(_settings(usable[0], names, settings), names, settings)


def _made(run: RunSettings, names: list[str], settings: CompareSettings) -> RunSummary | None:
    overrides = [f"ensemble={str(settings.ensemble).lower()}", override_of("runs", names)]
    place = f"output_dir={settings.output_dir}"
    line = command("compare", *plugin_overrides(), *overrides, place)
    begun = _begun(run)
    if begun is not None:
        run = replace(run, resume=str(begun.path))
    try:
        return run_experiment(run, command=line, is_step=True)
    except NothingGained as outcome:
        print(outcome)
        return None


def _begun(run: RunSettings) -> RunFolder | None:
    """Return the run of the same combination that was stopped before it ended; None without one."""
    for path in sorted(Path(run.output_dir).absolute().glob(f"runs/{run.model.name}-*")):
        try:
            folder = RunFolder.open(path)
            same = _how(stored_settings(folder.plain_settings())) == _how(run)
        except (ConfigError, ValueError):  # it ended before it had settings, or they are damaged
            continue
        if same and finished_summary(folder) is None and not is_being_written(folder.path):
            return folder
    return None


def _how(run: RunSettings) -> tuple[object, ...]:
    """Return what is combined, and what judges it."""
    return run.model, run.trainer.monitor, run.costs


def _output_dir(settings: CompareSettings) -> Path:
    return Path(settings.output_dir).absolute()


def _has_folds(plain: Mapping[str, Any]) -> bool:
    """Return whether these are settings of a cross-validation, whose models are of its folds."""
    return plain.get("cv", {}).get("folds") is not None


def _without_folds(folders: Sequence[RunFolder], soup: bool) -> list[RunFolder]:
    """Return the runs that are no cross-validations, where these cannot be part; say how many."""
    by_folds: dict[bool, list[RunFolder]] = {False: [], True: []}
    pixels = False
    for folder in folders:
        plain = folder.plain_settings()
        by_folds[_has_folds(plain)].append(folder)
        pixels |= plain["data"].get("target") == "dense"
    if not by_folds[True] or not (soup or pixels):
        return list(folders)
    reason = (
        "their folds are not asked again about single pixels"
        if pixels
        else "a soup is of the weights of single networks, and they have one for each fold"
    )
    whole = counted(len(by_folds[True]), "cross-validation", begins=True)
    print(f"{whole} left out of it: {reason}.")
    return by_folds[False]


def _usable(folders: Sequence[RunFolder], soup: bool) -> list[RunFolder]:
    """Return the runs of the first group of two or more whose models can be combined.

    Where there is none, those of the first one.
    """
    alike: dict[str, list[RunFolder]] = {}
    for folder in folders:
        plain = folder.plain_settings()
        pixels = plain["data"].get("target") == "dense"
        if not (_has_model(folder, plain, network=soup) and _is_readable(plain)):
            continue
        shared: list[Any] = [plain["data"].get(key) for key in _CLASS_SETTINGS]
        if soup or pixels:
            shared += [plain["data"].get(key) for key in _PICTURE_SETTINGS]
        if soup:
            shared.append({k: v for k, v in plain["model"].items() if k not in _OF_TRAININGS})
            shared.append(_link(plain["loss"]))
        alike.setdefault(json.dumps(shared, sort_keys=True), []).append(folder)
    groups = list(alike.values())
    return next((group for group in groups if len(group) > 1), groups[0] if groups else [])


def _is_readable(plain: Mapping[str, Any]) -> bool:
    """Return whether a run's settings are undamaged, and of code that is allowed here."""
    try:
        stored_settings(plain)
    except ConfigError:
        return False
    return True


def _link(loss: Mapping[str, Any]) -> str:
    """Return how a network's outputs become probabilities, which is what they mean."""
    target = str(loss["_target_"])
    try:
        return str(import_object(target).link)
    except (ValueError, AttributeError):  # of a plugin that is not here
        return target


def _has_model(folder: RunFolder, plain: dict[str, Any], *, network: bool) -> bool:
    """Return whether a run has a model, or those of its folds, that can be part of one.

    Args:
        folder: of the run.
        plain: its settings.
        network: it must be a network.
    """
    if _has_folds(plain):
        return True
    try:
        suffix = folder.chosen_checkpoint().suffix
    except ValueError:  # a sweep drops the models of trials that it ended early
        return False
    return suffix == ".ckpt" if network else suffix != ENSEMBLE_SUFFIX


def _settings(first: RunFolder, names: list[str], settings: CompareSettings) -> RunSettings:
    way = "best" if settings.ensemble is True else str(settings.ensemble)
    plain = compose_plain(["model=ensemble"], "config")
    theirs = first.plain_settings()
    place, tracked = settings.tracking, theirs["tracking"]
    uri, enabled = place.uri or tracked["uri"], place.enabled and tracked["enabled"]
    plain["data"], plain["tracking"] = theirs["data"], tracked | {"uri": uri, "enabled": enabled}
    plain["output_dir"] = settings.output_dir
    plain["evaluate_test"] = False
    plain["model"] |= {"runs": names, "way": way}
    measure = wanted_measure(settings)[0]
    plain["costs"] = settings.costs or theirs.get("costs")
    if measure is not None:  # what the comparison goes by
        plain["trainer"]["monitor"] = measure
    if way == "soup":
        plain["model"]["name"] = way
    return seen_from_here(stored_settings(plain), first)
