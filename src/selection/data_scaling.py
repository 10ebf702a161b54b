"""Train a run's settings on fractions of its pictures, and forecast what more of them would bring.

Fewer training pictures are always among more of them, the held-out ones are the same, and every
setting is the run's own, so that the trainings differ in nothing but their number; those of few
epochs get more of them on fewer pictures. Each is a run
like any other. The test part is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.checks import ConfigError
from ..config.finished import ScalingSettings
from ..config.schema import RunSettings
from ..data.splitting.splits import Split
from ..machine.package import command
from ..machine.text import counted
from ..metrics.registry import RANKING
from ..records.data_scaling import (
    DATA_SCALING,
    DataScalingRecord,
    ForecastRecord,
    MeasuredRecord,
    fraction_runs,
    scaling_text,
    with_runs,
)
from ..records.run import Predictions
from ..reporting.data_scaling_report import scaling_figure
from ..reporting.formatting import duration
from ..reporting.style import save
from ..runs.build import build_data
from ..runs.finished.evaluate import reopen
from ..runs.folder import RunFolder, finished_summary
from ..runs.seal import amending
from ..statistics.candidates import Measure, MeasuredRun, candidates_of
from ..statistics.data_scaling import MOST_TIMES, DataScaling, data_scaling, measured_losses
from ..statistics.evidence import Evidence, normal_quantile
from ..statistics.intervals import figure_interval
from ..storage.files import write_atomically
from ..storage.locks import alone
from ..targets import kind_of
from .retrain import repeating_command, train_into
from .scaling_plan import ScalingPlan

__all__ = ["expected_seconds", "measure_scaling"]

# With which a training on fewer pictures has come near to its end.
_ENOUGH_EPOCHS = 8
_FIGURE, _LOCK = "data_scaling.png", ".scaling.lock"


def measure_scaling(plan: ScalingPlan, settings: ScalingSettings) -> tuple[DataScalingRecord, Path]:
    """Train what has not been trained yet, and keep the forecast with the run.

    Trainings that ended are not repeated, and one that was interrupted goes on.

    Returns:
        The forecast, and the file of its drawing.

    Raises:
        ConfigError: the pictures are others than those that the run was trained on, or another
            process makes a forecast of the run.
        Exception: as `run_experiment`.
    """
    chosen = plan.chosen
    _check_pictures(chosen.folder, chosen.settings)
    # Two would train on the same fractions, each in runs of its own.
    with alone(
        chosen.folder.path / _LOCK, f"run: a forecast of {chosen.folder.name} is being made"
    ):
        known = fraction_runs(chosen.folder.path / DATA_SCALING)
        missing = [count for count in plan.fewer if not _has_ended(plan, known.get(count))]
        if missing:
            _print_plan(plan, missing)
        for count in missing:
            _train(plan, count, known)
    fewer = [RunFolder.open(chosen.folder.path.parent / known[count]) for count in plan.fewer]
    record = _record([*fewer, chosen.folder], plan, settings)
    file, picture = chosen.folder.path / DATA_SCALING, chosen.folder.figures / _FIGURE
    with amending(chosen.folder.path, DATA_SCALING, f"figures/{_FIGURE}"):
        write_atomically(file, scaling_text(known, record))
        picture.parent.mkdir(exist_ok=True)
        save(scaling_figure(record), picture)
    tracker = reopen(chosen.folder, chosen.settings, chosen.summary, settings.tracking.uri)
    tracker.artifact(file, "")
    tracker.artifact(picture, "figures")
    tracker.finish(chosen.summary.status, chosen.summary.reason)
    return record, picture


def _check_pictures(folder: RunFolder, settings: RunSettings) -> None:
    now, before = build_data(settings).split, Split.read(folder.split)
    # Its answers are compared, picture by picture, with those of runs on fewer.
    if not (now.fingerprint == before.fingerprint and now.numbers_as(before)):
        raise ConfigError(
            f"the pictures of {settings.data.name}, or their order, have changed since "
            f"{folder.name} was trained: train and choose again."
        )


def _print_plan(plan: ScalingPlan, missing: Sequence[int]) -> None:
    """Print what is trained, and how long that takes about."""
    numbers, seconds = ", ".join(f"{count:,}" for count in missing), expected_seconds(plan, missing)
    about = f", some {duration(seconds)}" if math.isfinite(seconds) else ""
    print(f"scaling: training on {numbers} of {plan.pictures:,} pictures{about}", flush=True)


def expected_seconds(plan: ScalingPlan, counts: Sequence[int]) -> float:
    """Return the seconds that runs on so many pictures take by what the chosen one took.

    Their trainings are in proportion to pictures and epochs. The rest of a run, such as opening the
    pictures and measuring what was trained, is not: it is as long for few pictures. Features of the
    pictures are those that the chosen run left in the cache, and take no time. NaN where the time
    of the training is not known.
    """
    settings, summary = plan.chosen.settings, plan.chosen.summary

    def seconds(name: str, otherwise: float = 0.0) -> float:
        # Of a cross-validation it is a mean over the folds.
        return summary.metrics.get(f"cost/{name}", otherwise) * settings.cv.trainings

    training = seconds("training_seconds", math.nan) - seconds("features_seconds")
    rest = max(0.0, summary.duration_seconds - seconds("features_here_seconds") - training)
    shares = [count / plan.pictures for count in counts]
    return sum(rest + training * share * _longer(settings, share) for share in shares)


def _begun(plan: ScalingPlan, name: str | None) -> RunFolder | None:
    """Return the run of that name beside the chosen one, finished or not; None if it is gone."""
    try:
        return None if name is None else RunFolder.open(plan.chosen.folder.path.parent / name)
    except ValueError:
        return None


def _has_ended(plan: ScalingPlan, name: str | None) -> bool:
    begun = _begun(plan, name)
    return begun is not None and finished_summary(begun) is not None


def _train(plan: ScalingPlan, count: int, known: dict[int, str]) -> None:
    """Train on so many pictures; the run's name is kept first, so that a killed one goes on."""
    chosen = plan.chosen
    wanted = _settings(chosen.settings, count, plan.pictures)
    folder = _begun(plan, known.get(count)) or RunFolder.create(
        chosen.folder.output_dir, wanted.model.name, wanted.data.name
    )
    known[count] = folder.name
    file = chosen.folder.path / DATA_SCALING
    with amending(chosen.folder.path, DATA_SCALING):
        write_atomically(file, with_runs(file, known))
    otherwise = command("scaling", f"run={chosen.folder.path}")
    repeat = repeating_command(chosen.summary, wanted, otherwise)
    print(f"scaling: {count:,} of {plan.pictures:,} pictures", flush=True)
    train_into(folder, wanted, build_data(wanted), repeat)


def _longer(settings: RunSettings, fraction: float) -> float:
    """Return how many times the epochs of a run a training on a fraction of the pictures has.

    A training of few epochs has not learnt all that there is: on fewer pictures it gets more of
    them, for as many steps, so that the forecast is of pictures and not of steps.
    """
    if settings.is_idle("trainer.max_epochs"):
        return 1.0
    epochs = settings.trainer.epochs
    return max(epochs, min(round(epochs / fraction), _ENOUGH_EPOCHS)) / epochs


def _few_epochs(plan: ScalingPlan) -> int | None:
    """Return the epochs of the run if its trainings on fewer pictures have more; else None."""
    settings = plan.chosen.settings
    few = _longer(settings, plan.fewer[0] / plan.pictures) > 1
    return settings.trainer.epochs if few else None


def _settings(settings: RunSettings, count: int, pictures: int) -> RunSettings:
    """Return the settings of a run for a training on so many of its pictures."""
    trainer, longer = settings.trainer, _longer(settings, count / pictures)
    if longer > 1:
        trainer = replace(trainer, max_epochs=round(longer * trainer.epochs))
    return replace(
        settings,
        trainer=trainer,
        resume=None,
        evaluate_test=False,
        data=replace(settings.data, train_limit=count),
        tracking=replace(settings.tracking, log_model=False, figures=False),
    )


def _record(
    folders: Sequence[RunFolder], plan: ScalingPlan, settings: ScalingSettings
) -> DataScalingRecord:
    """Measure the runs by their held-out answers, and forecast."""
    numbers = [*plan.fewer, plan.pictures]
    measured = [_measured(one, n, plan) for one, n in zip(folders, numbers, strict=True)]
    try:
        candidates = candidates_of(run for runs in measured for run in runs)
    except ValueError as error:
        raise ConfigError(f"run: {error} Train again.") from error
    lowest = RANKING[plan.metric].worst
    evidence = Evidence.of(candidates, measured[-1][0].groups, lowest=lowest)
    best = 0.0 if lowest is None else 1.0
    law = data_scaling([n / plan.pictures for n in numbers], *measured_losses(evidence))
    sign = -1.0 if lowest is None else 1.0
    quantile = normal_quantile(0.95)
    shown = []
    for at, (count, folder) in enumerate(zip(numbers, folders, strict=True)):
        figure = sign * float(evidence.figure[at])
        interval = figure_interval(evidence, at, quantile)
        low, high = sorted((sign * interval.low, sign * interval.high))
        shown.append(MeasuredRecord(count, folder.name, figure, low, high))
    return DataScalingRecord(
        metric=plan.metric,
        part="out-of-fold" if plan.chosen.settings.cv.folds else "val",
        held_out=evidence.pictures,
        measured=tuple(shown),
        forecasts=tuple(
            _forecast(law, one, plan.pictures, best, sign) for one in sorted(settings.factors)
        ),
        **_needed(law, settings.goal, plan.pictures, best, sign),
        fitted=sign * (best - law.loss(1)[0]),
        sets=kind_of(plan.chosen.settings.data.target).sets,
        epochs=_few_epochs(plan),
    )


def _measured(folder: RunFolder, count: int, plan: ScalingPlan) -> list[MeasuredRun]:
    """Return the held-out answers of a run reduced to scores, for each repeat of its folds."""
    return [
        MeasuredRun.of(
            Predictions.read(file),
            run_id=folder.run_id,
            configuration=str(count),
            name=f"the run on {counted(count, 'picture')}",
            seed=repeat,
            part="val",
            split_fingerprint=None,
            measure=Measure(plan.metric, plan.costs),
        )
        for repeat, file in enumerate(folder.answers("val"))
    ]


def _forecast(
    law: DataScaling, factor: float, pictures: int, best: float, sign: float
) -> ForecastRecord:
    loss, losses = law.loss(factor)
    gain, gains = law.gain(factor)
    low, high = sorted(sign * (best - end) for end in (losses.low, losses.high))
    figure = sign * (best - loss)
    return ForecastRecord(round(factor * pictures), figure, low, high, gain, gains.low, gains.high)


def _needed(
    law: DataScaling, goal: float | None, pictures: int, best: float, sign: float
) -> dict[str, Any]:
    """Return the keys of the record on a figure that is wanted."""
    if goal is None:
        return {}
    middle, ends = law.needed(best - sign * goal)
    found = {"needed": middle, "needed_low": ends.low, "needed_high": ends.high}
    counts = {k: round(v * pictures) if math.isfinite(v) else None for k, v in found.items()}
    return {"goal": goal, **counts, "most": round(MOST_TIMES * pictures)}
