"""The run and the fractions of its training pictures that a forecast of more of them is made by.

Imports no torch, so that mistakes in the settings show without delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config.checks import ConfigError, input_of
from ..config.finished import ScalingSettings
from ..config.models import EnsembleSettings
from ..config.schema import RunSettings
from ..data.splitting.splits import Split
from ..machine.arrays import Float64Array
from ..machine.text import share_meant
from ..metrics.registry import RANKING
from ..records.run import Predictions
from ..runs.earlier_runs import known_training_pictures, network_run
from ..runs.folder import REFIT, RunFolder, read_json
from ..runs.settings import refuse_lost_pictures
from ..targets import kind_of
from .choice import ChosenRun, read_chosen
from .comparison.read_runs import refuse_measure

__all__ = ["ScalingPlan", "plan_scaling"]

# Fewest pictures of a fraction, for each class: a model of fewer is a matter of luck.
_FEWEST_OF_A_CLASS = 2


@dataclass(frozen=True)
class ScalingPlan:
    """What is trained.

    Attributes:
        chosen: the run, trained on all of its training pictures.
        pictures: its training pictures, of a cross-validation those of a fold.
        fewer: ascending numbers of them that are trained on.
        metric: plain name of what is forecast.
        costs: (K, K) of each prediction (column) for each class (row), where that is "cost".
    """

    chosen: ChosenRun
    pictures: int
    fewer: tuple[int, ...]
    metric: str
    costs: Float64Array | None = None


def plan_scaling(settings: ScalingSettings) -> ScalingPlan:
    """Return the run that the settings name and what is to be trained; of a refit, its original.

    Raises:
        ConfigError: there is no such run, it cannot be trained on fewer pictures, or was not
            measured on held-out ones.
    """
    with input_of("run"):
        named = RunFolder.find(settings.run, Path(settings.output_dir))
    chosen = read_chosen(_original(named), changed=settings.changed)
    folder, run = chosen.folder, chosen.settings
    if isinstance(run.model, EnsembleSettings):
        raise ConfigError(
            f"run: {folder.name} is made of other runs, which were not trained together: name one "
            "of them."
        )
    _refuse_known_pictures(folder, run)
    if run.data.train_on_val:
        raise ConfigError(
            f"run: {folder.name} was trained on the validation part as well, so that none is left "
            "to measure by: name a run with data.train_on_val=false."
        )
    kind = kind_of(run.data.target)
    by_cost = run.data.answer == "cost"
    metric = settings.metric or ("cost" if by_cost else kind.primary)
    refuse_measure(metric, kind, folder)
    if settings.goal is not None and not _is_reachable(settings.goal, metric):
        goal = settings.goal
        bound = f"below 1{share_meant(goal)}" if RANKING[metric].higher_is_better else "above 0"
        raise ConfigError(f"goal is {goal:g}: of {metric} it must be {bound}.")
    held_out = folder.answers("val")[0]
    if not held_out.is_file():
        raise ConfigError(f"run: {folder.name} has no validation part to measure by.")
    refuse_lost_pictures(folder, run.data)
    predictions = Predictions.read(held_out)
    costs = _costs(predictions, folder, by_cost=by_cost) if metric == "cost" else None
    if run.cv.folds is not None:
        whole = len(predictions.sample_ids)
        pictures = whole - whole // run.cv.folds
        if run.data.train_limit is not None:
            pictures = min(pictures, run.data.train_limit)
    else:
        pictures = len(Split.read(folder.split).train)
    fewer = sorted({round(one * pictures) for one in settings.fractions} - {pictures})
    least = max(2, 0 if kind.pixels else _FEWEST_OF_A_CLASS * len(predictions.class_names))
    if not fewer or fewer[0] < least:
        raise ConfigError(
            f"fractions: {min(settings.fractions):g} of {pictures:,} training pictures is "
            f"{round(min(settings.fractions) * pictures)}, and it must be {least} at least: leave "
            "the smallest fractions out."
        )
    return ScalingPlan(chosen, pictures, tuple(fewer), metric, costs)


def _costs(predictions: Predictions, folder: RunFolder, *, by_cost: bool) -> Float64Array:
    """Return the table of costs that a run answers by, which it keeps as thresholds.

    Raises:
        ConfigError: it has none, or one with gains, whose mean follows no power law.
    """
    if not by_cost or predictions.thresholds is None:
        raise ConfigError(
            f"metric is cost, and {folder.name} does not answer by a table of costs: name a run "
            "with data.answer=cost, or set another metric."
        )
    costs = predictions.thresholds.reshape(len(predictions.class_names), -1)
    if costs.min() < 0:
        raise ConfigError(
            f"metric is cost, and {folder.name} has costs below 0, so that no more pictures are "
            "known to bring the mean to 0: add the same to all costs, or set another metric."
        )
    return costs


def _refuse_known_pictures(folder: RunFolder, settings: RunSettings) -> None:
    """Raise a ConfigError where the run builds on a network that knows its training pictures.

    Fewer of them would be as good as all: that network has learnt from all.
    """
    with input_of("model.run"):
        network = network_run(settings)
    known = 0 if network is None else known_training_pictures(network, Split.read(folder.split))
    if network is not None and known:
        raise ConfigError(
            f"run: {folder.name} builds on the network of {network.name}, which was trained on "
            f"{known:,} of the same pictures, so that trainings on fewer say nothing of more: "
            f"forecast with run={network.name}."
        )


def _is_reachable(goal: float, metric: str) -> bool:
    """Return whether a figure is not that of perfect answers, which no number of pictures gives."""
    return goal < 1 if RANKING[metric].higher_is_better else goal > 0


def _original(folder: RunFolder) -> RunFolder:
    """Return the run that a run is a refit of, or the run itself."""
    for record in folder.path.parent.glob(f"*/{REFIT}"):
        if Path(str(read_json(record).get("run"))).name == folder.name:
            return RunFolder.open(record.parent)
    return folder
