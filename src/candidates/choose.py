"""Which kind of candidate the settings or a file mean: the one place that knows them all."""

from __future__ import annotations

from pathlib import Path

import torch

from src.build import load_task
from src.candidates.candidate import Candidate, Trained
from src.candidates.network import NetworkCandidate, TrainedNetwork
from src.config.ensemble import EnsembleSettings
from src.config.features import ClassicalSettings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.data.datamodule import PictureData
from src.resolve import resolve, seconds_per_epoch

__all__ = ["ENSEMBLE_SUFFIX", "candidate_of", "load_trained", "prepared"]

_CLASSIFIER_SUFFIX, ENSEMBLE_SUFFIX = ".skops", ".json"


def candidate_of(settings: RunSettings, data: PictureData) -> Candidate:
    """What the settings describe, ready to be fitted; what they leave open is chosen here.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    if isinstance(settings.model, ClassicalSettings):
        # scikit-learn and scikit-image take seconds to import, and networks need none of it.
        from src.candidates.classical import ClassicalCandidate

        return ClassicalCandidate(settings, settings.model, data)
    if isinstance(settings.model, EnsembleSettings) and settings.model.way == "soup":
        from src.candidates.soup import SoupCandidate

        return SoupCandidate(settings, settings.model, data)
    if isinstance(settings.model, EnsembleSettings):
        from src.candidates.ensemble import EnsembleCandidate

        return EnsembleCandidate(settings, settings.model, data)
    return NetworkCandidate.chosen(settings, data)


def prepared(settings: RunSettings, data: PictureData) -> tuple[RunSettings, int, float]:
    """What a candidate leaves open, measured and chosen once for many runs of its kind.

    Returns:
        the settings without any `auto`, epochs, and about the seconds of one; a single epoch that
        takes no time for what knows none.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    if not isinstance(settings.model, NetworkSettings):
        return settings, 1, 0.0
    settings = resolve(settings, data).settings
    return settings, int(settings.trainer.max_epochs), seconds_per_epoch(settings, data)


def load_trained(checkpoint: Path) -> Trained:
    """The trained model of a run's file, on a GPU where there is one.

    Raises:
        ConfigError: the file is not one of a run, is damaged, or holds code.
    """
    if checkpoint.suffix == _CLASSIFIER_SUFFIX:
        from src.candidates.classical import TrainedClassifier

        return TrainedClassifier.load(checkpoint)
    if checkpoint.suffix == ENSEMBLE_SUFFIX:
        from src.candidates.ensemble import TrainedEnsemble

        return TrainedEnsemble.load(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = load_task(checkpoint)
    settings = stored_settings(task.passport["settings"])
    if "soup" in task.passport:
        from src.candidates.soup import TrainedSoup

        return TrainedSoup.from_file(checkpoint, task, settings, device)
    return TrainedNetwork.of(task, settings, device)
