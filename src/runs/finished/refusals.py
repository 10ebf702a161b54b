"""Refusals of finished runs by what their folders say, before PyTorch is loaded for them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import yaml

from ...config.checks import ConfigError
from ...config.features import EXPORTED
from ...config.finished import MADE_BY_TORCH, ExportSettings
from ...config.schema import RunSettings, stored_settings
from ...data.splitting.splits import Split
from ...data.splitting.test_usage import refuse_uncountable
from ...machine.package import command
from ...targets import kind_of
from ..folder import CLASSIFIER, NETWORK, RunFolder, predict_command
from ..settings import refuse_lost_pictures, seen_from_here

__all__ = ["refuse_explaining", "refuse_export", "refuse_measuring", "refuse_part"]

_PARTS = ("train", "val", "test")
_EXTRA = ("onnx", "onnxruntime", "onnxscript")


def refuse_measuring(folder: RunFolder, part: str) -> None:
    """Refuse a part that the run does not have, pictures that are gone, or what cannot be counted.

    Raises:
        ConfigError: with the remedy.
    """
    settings = _settings_of(folder)
    try:
        split = Split.read(folder.split)
    except (OSError, ValueError) as error:
        raise ConfigError(f"run: {folder.name} has no record of its parts: {error}.") from error
    refuse_part(folder, settings, split, part)
    if part == "test":
        refuse_uncountable(folder.output_dir)
    refuse_lost_pictures(folder, settings.data)


def refuse_part(folder: RunFolder, settings: RunSettings, split: Split, part: str) -> None:
    """Refuse a part of a run that has no pictures, or that the run leaves alone.

    Args:
        folder, settings, split: of the run.
        part: "train", "val" or "test".

    Raises:
        ConfigError: with the remedy.
    """
    if not len(getattr(split, part)):
        others = " or ".join(f"split={one}" for one in _PARTS if len(getattr(split, one)))
        raise ConfigError(
            f"split is {part}, and {folder.name} has no pictures in that part: set {others}."
        )
    if part == "test" and settings.cv.fold is not None:
        raise ConfigError(
            f"{folder.name} is a fold of a cross-validation, which leaves the test part alone: "
            "train without cv.folds to measure it."
        )


def refuse_explaining(run: str, model: Path) -> None:
    """Refuse class maps of a model that has none, whatever it has learnt.

    Networks, and classifiers on features, which may be of networks, are not refused: whether one
    has maps is only known once it is loaded.

    Args:
        run: as it was asked for.
        model: the run's checkpoint, or the bundle of an exported variant.

    Raises:
        ConfigError: with the remedy.
    """
    if model.is_dir():
        raise ConfigError(
            "explain: an exported variant keeps no maps to look into: leave variant out."
        )
    if model.suffix not in (NETWORK, CLASSIFIER):
        raise ConfigError(
            f"explain: {run} is a combination of models, which has no maps: name one of them, or "
            "leave explain=true out."
        )


def refuse_export(folder: RunFolder, settings: ExportSettings) -> None:
    """Refuse a model that no file can compute, missing packages, and pictures that are gone.

    Args:
        folder: of the run.
        settings: of the export.

    Raises:
        ConfigError: with the remedy.
    """
    run = _settings_of(folder)
    if part := folder.not_exported():
        raise ConfigError(_not_exportable(folder, run, part))
    needing = [name for name in settings.variants if name not in MADE_BY_TORCH]
    if needing and not all(map(importlib.util.find_spec, _EXTRA)):
        raise ConfigError(
            f"variants: {' and '.join(needing)} need onnx, onnxruntime and onnxscript: "
            "pip install onnx onnxruntime onnxscript, or in the checkout make install "
            "EXTRAS=export (or set variants=[pt2])."
        )
    refuse_lost_pictures(folder, run.data)


def _not_exportable(folder: RunFolder, settings: RunSettings, part: str) -> str:
    """Return why a run whose model has such a part is not exported, and what serves it instead."""
    place = folder.place_overrides()
    label = predict_command(folder.name, settings.data.target, *place)
    best = command("compare", *place)
    others = "model=embedding model.classifier=logistic"
    if kind_of(settings.data.target).pixels:
        others = "recipe=dense"
    return (
        f"run: {folder.name} ({settings.model.name}) cannot be exported, for that needs a network, "
        f"or {', '.join(EXPORTED)} on the features of networks, and it has {part}. It labels "
        f"pictures as it is, on any machine with its bundle ({folder.path / 'model'}): {label}; "
        f"for ONNX or int8, export the best of those that {best} lists, or train one on the same "
        f"pictures (python -m src.train {others})."
    )


def _settings_of(folder: RunFolder) -> RunSettings:
    try:
        stored = stored_settings(folder.plain_settings())
        return seen_from_here(stored, folder)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"run: the settings of {folder.name} cannot be read: {error}") from error
