"""Which kind of candidate the settings or a file mean: the one place that knows them all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from src.config.ensemble import EnsembleSettings
from src.config.features import ClassicalSettings, EmbeddingSettings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.data.loading.datamodule import PictureData
from src.runs.build import build_data, load_task
from src.runs.candidates.candidate import Candidate, Trained
from src.runs.candidates.network import NetworkCandidate, TrainedNetwork
from src.runs.resolve import resolve, seconds_per_epoch

__all__ = ["ENSEMBLE_SUFFIX", "Preparation", "candidate_of", "load_trained", "prepared"]

_CLASSIFIER_SUFFIX, ENSEMBLE_SUFFIX = ".skops", ".json"


def candidate_of(settings: RunSettings, data: PictureData) -> Candidate:
    """What the settings describe, ready to be fitted; what they leave open is chosen here.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    if isinstance(settings.model, ClassicalSettings):
        # scikit-learn and scikit-image take seconds to import, and networks need none of it.
        from src.runs.candidates.classical import ClassicalCandidate

        return ClassicalCandidate(settings, settings.model, data)
    if isinstance(settings.model, EnsembleSettings) and settings.model.way == "soup":
        from src.runs.candidates.soup import SoupCandidate

        return SoupCandidate(settings, settings.model, data)
    if isinstance(settings.model, EnsembleSettings):
        from src.runs.candidates.ensemble import EnsembleCandidate

        return EnsembleCandidate(settings, settings.model, data)
    return NetworkCandidate.chosen(settings, data)


@dataclass(frozen=True)
class Preparation:
    """What a candidate left open, chosen.

    Attributes:
        settings: without any `auto`.
        epochs: of a whole fit; 1 for what knows none.
        seconds_per_epoch: about what one of them takes.
        notes: how it was chosen, for the person.
    """

    settings: RunSettings
    epochs: int
    seconds_per_epoch: float
    notes: tuple[str, ...] = ()


def prepared(
    settings: RunSettings, data: PictureData, *, networks: bool, seconds: float | None
) -> Preparation:
    """Measure and choose, once for many runs of its kind, what a candidate leaves open.

    The features that these runs share are computed here, with all cores.

    Args:
        settings: of a run.
        data: its pictures.
        networks: whether frozen networks are to be chosen among those that can be loaded.
        seconds: that choosing and describing may take; None for no limit.

    Raises:
        ConfigError: it cannot be made for these pictures.
    """
    if isinstance(settings.model, NetworkSettings):
        settings = resolve(settings, data).settings
        epochs = int(settings.trainer.max_epochs)
        return Preparation(settings, epochs, seconds_per_epoch(settings, data))
    model = settings.model
    if not isinstance(model, ClassicalSettings):
        return Preparation(settings, 1, 0.0)
    from src.runs.candidates.classical import ClassicalCandidate

    notes: tuple[str, ...] = ()
    if networks and isinstance(model, EmbeddingSettings) and model.run is None:
        from src.runs.candidates.ranking import choose_networks

        choice = choose_networks(settings, data, seconds)
        size = choice.input_size or model.input_size
        model = replace(model, networks=list(choice.networks), input_size=size)
        settings, notes = replace(settings, model=model), choice.notes
        data = build_data(settings)
    candidate = ClassicalCandidate(settings, model, data)
    return Preparation(settings, 1, candidate.describe_seconds(), notes)


def load_trained(checkpoint: Path) -> Trained:
    """The trained model of a run's file, on a GPU where there is one.

    Raises:
        ConfigError: the file is not one of a run, is damaged, or holds code.
    """
    if checkpoint.suffix == _CLASSIFIER_SUFFIX:
        from src.runs.candidates.classical import TrainedClassifier

        return TrainedClassifier.load(checkpoint)
    if checkpoint.suffix == ENSEMBLE_SUFFIX:
        from src.runs.candidates.ensemble import TrainedEnsemble

        return TrainedEnsemble.load(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = load_task(checkpoint)
    settings = stored_settings(task.metadata["settings"])
    if "soup" in task.metadata:
        from src.runs.candidates.soup import TrainedSoup

        return TrainedSoup.from_file(checkpoint, task, settings, device)
    return TrainedNetwork.of(task, settings, device)
