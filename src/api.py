"""Bakeoff from Python, for scripts and notebooks: what the commands do, with objects as results.

    import bakeoff

    race = bakeoff.sweep("photos", minutes=10)
    print(race.verdict())
    model = race.select()
    model.predict("new-photos")

Everything that a command takes is taken here as well, in the same form, and lies in the same
folders: `fit("photos", "model=cnn", "optimizer.lr=0.01")`.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .config.checks import ConfigError, input_of
from .config.command_line import errors_explained, from_environment, progress_shown
from .config.compose import compose_settings, data_overrides
from .config.finished import CompareSettings, ScalingSettings, SelectSettings
from .config.other_names import known_as
from .config.overrides import by_key, override_of
from .config.plugins import plugin_overrides, take_plugins
from .config.sweep import SweepSettings, read_sweep_settings
from .data.sources.listing import check_root
from .machine.cache_place import place_for_matplotlib
from .machine.failures import RunFailed
from .machine.interruption import Interrupted
from .machine.package import command, typed
from .machine.status import doing, with_progress
from .machine.text import nearest
from .records.run import RunSummary
from .records.standings import leaderboard
from .runs.settings import read_settings

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from .records.comparison import Comparison
    from .records.data_scaling import DataScalingRecord
    from .records.trials import SweepRecord
    from .serving.predictor import Predictor
    from .serving.trust import Trust

    Picture: TypeAlias = str | Path | bytes | Image | NDArray[np.generic]

__all__ = [
    "ConfigError",
    "Forecast",
    "Model",
    "Run",
    "RunFailed",
    "Sweep",
    "Verdict",
    "compare",
    "fit",
    "load",
    "scaling",
    "sweep",
]

# Characters of a line of text, and pictures that are classified at once.
_WIDTH, _BATCH = 100, 128
_MINUTES = "budget.minutes"
_FROM_MLFLOW = ("tracking.uri", "tracking.experiment")
_LOADING, _DONE = "loading PyTorch and Lightning", "pictures labelled"
# In a notebook without ipywidgets, of a bar that a library may draw and that nobody asked for.
warnings.filterwarnings("ignore", message="IProgress not found")


@contextmanager
def _as_command() -> Iterator[None]:
    """Show progress as commands do, and raise the sentences that they would print.

    Ctrl-C and a notebook's "interrupt" leave as what other Python raises, and who asks the process
    to end gets its exit code.
    """
    place_for_matplotlib(None)
    try:
        with progress_shown(), errors_explained():
            yield
    except (ConfigError, RunFailed) as error:
        error.args = (typed(str(error)),)
        raise
    except Interrupted as stop:
        if stop.signum == signal.SIGINT:
            raise KeyboardInterrupt(str(stop)) from None
        raise SystemExit(stop.exit_code) from None


@_as_command()
def fit(
    data: str | Path, *overrides: str, output_dir: str | Path = "outputs", **settings: Never
) -> Run:
    """Train one candidate as a tracked run.

    Args:
        data: a folder, archive or table of pictures, or the name of a data set such as "digits".
        overrides: of the settings, as `train` takes them: "model=cnn", "optimizer.lr=0.01".
        output_dir: of all runs.
        settings: none: a setting is an override.

    Raises:
        ConfigError: the settings or the pictures are wrong.
        RunFailed: the training ended before its end.
    """
    _refuse_no_name(data=data, output_dir=output_dir)
    given = _given(overrides, settings, "output_dir")
    all_overrides = [*data_overrides(data), *given, f"output_dir={output_dir}"]
    all_overrides += from_environment(_FROM_MLFLOW, read_settings(all_overrides), all_overrides)
    asked = read_settings(all_overrides)
    if asked.trainer.devices != 1:
        raise ConfigError(
            "trainer.devices: Lightning starts a process a device by the command line, and here is "
            "none: train on several with the command `train`."
        )
    check_root(asked.data)
    with doing(_LOADING):
        from .runs.build import check_network
        from .runs.experiment import run_experiment

    check_network(asked)
    summary = run_experiment(asked, command=command("train", *plugin_overrides(), *all_overrides))
    assert summary is not None, "this is the process of the first device"
    return Run(summary)


@_as_command()
def sweep(
    data: str | Path,
    *overrides: str,
    minutes: float | None = None,
    study: str = "default",
    config_name: str = "default",
    output_dir: str | Path = "outputs",
    **settings: Never,
) -> Sweep:
    """Race families of candidates, or go on with a study of this name.

    Args:
        data: as in `fit`.
        overrides: of the settings, as `sweep` takes them: "families=[cnn,embedding]".
        minutes: of the whole race, without a limit of trials unless `budget.trials` is stated;
            None for `budget.minutes` of the settings, 20 as they come, or 24 trials.
        study: name of the study.
        config_name: of a file in sweeps/.
        output_dir: of all runs and studies.
        settings: none: a setting is an override.

    Raises:
        ConfigError: the settings or the pictures are wrong, or the study is another one's.
        RunFailed: no trial came to its end.
    """
    _refuse_no_name(data=data, study=study, config_name=config_name, output_dir=output_dir)
    if minutes is not None and not isinstance(minutes, Real):
        raise ConfigError(f"minutes is {minutes!r}: it must be a number or None.")
    limit: list[str] = [] if minutes is None else [f"{_MINUTES}={minutes:g}"]
    known = ("minutes", "study", "config_name", "output_dir")
    given = [*_given(overrides, settings, *known), f"study={study}", f"output_dir={output_dir}"]
    all_overrides = [*data_overrides(data), *given, *limit]
    all_overrides += from_environment(
        _FROM_MLFLOW, read_sweep_settings(all_overrides, config_name), all_overrides
    )
    asked = read_sweep_settings(all_overrides, config_name)
    with doing("loading Optuna"):
        from .sweeps.race import run_sweep

    record = run_sweep(asked, all_overrides, config_name)
    # Its methods find the study from whatever folder they are called in.
    return Sweep(replace(asked, output_dir=str(Path(output_dir).absolute())), record)


@_as_command()
def compare(
    *overrides: str | Run, output_dir: str | Path = "outputs", **settings: Never
) -> Verdict:
    """Compare finished runs by their stored predictions.

    Args:
        overrides: runs that `fit` returned, or settings as the command `compare` takes them, all
            but subgroup: "runs=[A,B]".
        output_dir: where runs are looked for that are not given as objects.
        settings: none: a setting is an override.

    Raises:
        ConfigError: there is nothing to compare, or the runs do not belong together.
    """
    _refuse_no_name(output_dir=output_dir)
    runs = [str(one.folder) for one in overrides if isinstance(one, Run)]
    texts = [one for one in overrides if not isinstance(one, Run)]
    all_overrides = [*_given(texts, settings, "output_dir"), f"output_dir={output_dir}"]
    if runs:
        if "runs" in by_key(all_overrides):
            raise ConfigError("runs=[...] beside runs as objects: name all of them in one way.")
        all_overrides.append(override_of("runs", runs))
    read = partial(compose_settings, CompareSettings)
    asked = read(
        [*all_overrides, *from_environment(_FROM_MLFLOW[:1], read(all_overrides), all_overrides)]
    )
    if asked.subgroup is not None:
        raise ConfigError("subgroup is for the page, which the command `compare` writes alone.")
    with doing("reading and judging runs"):
        from .selection.comparison import compared

        comparison = compared(asked)
    if asked.ensemble:
        from .selection.ensemble import with_ensemble

        comparison = with_ensemble(comparison, asked)[0]
    return Verdict(comparison)


@_as_command()
def scaling(
    run: str | Path = "champion",
    *overrides: str,
    output_dir: str | Path = "outputs",
    **settings: Never,
) -> Forecast:
    """Forecast what more training pictures would bring, by trainings on fewer of them.

    Args:
        run: folder, name or id of a run, or "champion".
        overrides: of the settings, as `scaling` takes them: "factors=[2,8]", "goal=0.95".
        output_dir: of all runs.
        settings: none: a setting is an override.

    Raises:
        ConfigError: there is no such run, or it cannot be trained on fewer pictures.
        RunFailed: a training ended before its end.
    """
    _refuse_no_name(run=run, output_dir=output_dir)
    given = _given(overrides, settings, "run", "output_dir")
    all_overrides = [f"run={run}", *given, f"output_dir={output_dir}"]
    asked = compose_settings(ScalingSettings, all_overrides)
    with doing("reading the run"):
        from .selection.scaling_plan import plan_scaling

        plan = plan_scaling(asked)
    with doing(_LOADING):
        from .selection.data_scaling import measure_scaling

    return Forecast(measure_scaling(plan, asked)[0])


@_as_command()
def load(
    run: str | Path = "champion", *, output_dir: str | Path = "outputs", changed: str = "refuse"
) -> Model:
    """Load a trained model, by default the champion.

    Args:
        run: folder, name or id of a run, or "champion".
        output_dir: of all runs.
        changed: "refuse", or "use" for a run whose files were changed after its end.

    Raises:
        ConfigError: there is no such run, its model is damaged, or it was changed and is refused.
    """
    _refuse_no_name(run=run, output_dir=output_dir)
    from .runs.folder import trained_run
    from .runs.seal import RECORD, refuse_changed

    with input_of("run"):
        folder, file = trained_run(str(run), Path(output_dir))
        refuse_changed(folder.path, changed, (*RECORD, "model/*"))
    with doing("loading the model"):
        from .runs.finished.predict import predictor_of

        return Model(folder.path, predictor_of(file, _BATCH, changed))


def _refuse_no_name(**given: object) -> None:
    """Raise a ConfigError for an argument that is no text or path, or is empty, which means `.`."""
    for key, value in given.items():
        if not isinstance(value, str | PathLike) or not str(value).strip():
            raise ConfigError(f"{key} is {value!r}: it must be a text or a path, and not empty.")


def _given(overrides: Sequence[str], keywords: Mapping[str, object], *known: str) -> list[str]:
    """Return overrides but those of plugins, which are imported.

    Raises:
        ConfigError: one is no text, or has the form of a keyword, of which these are known.
    """
    for key, value in keywords.items():
        near, setting = nearest(key, known), known_as(key)
        if "minutes" in known and setting in ("budget", _MINUTES):
            near = f" (did you mean minutes={value}?)"
        given = "" if near else f': a setting is given as a text, "{setting}={value}"'
        raise ConfigError(f"{key}: there is no such keyword{near}{given}.")
    for one in overrides:
        if not isinstance(one, str):
            raise ConfigError(f'{one!r} is no text: settings are given as "seed=1".')
    return take_plugins(overrides)


@dataclass(frozen=True, repr=False)
class Run:
    """A finished training.

    Attributes:
        summary: what its folder keeps.
    """

    summary: RunSummary

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.summary.run_dir)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the parts that were measured, such as "val/accuracy"."""
        return dict(self.summary.metrics)

    def model(self) -> Model:
        """Load the trained model."""
        return load(str(self.folder), output_dir=self.folder.parents[1])


@dataclass(frozen=True, repr=False)
class Sweep:
    """A study in its current state.

    Attributes:
        settings: of the sweep.
        record: of its trials and finalists.
    """

    settings: SweepSettings
    record: SweepRecord

    def __repr__(self) -> str:
        return f"Sweep({self.settings.study!r}, trials={len(self.record.trials)})"

    def leaderboard(self) -> pd.DataFrame:
        """Return the trials in the order of the page: a row each, with what was searched."""
        import pandas as pd

        rows = [
            {
                "candidate": one.name,
                "trial": one.number,
                "family": one.family,
                "state": one.state,
                self.record.metrics[0]: one.value,
                "seconds": one.seconds,
                **one.values,
            }
            for one in leaderboard(self.record)
        ]
        return pd.DataFrame(rows)

    def verdict(self) -> Verdict:
        """Compare the candidates of the study."""
        return compare(f"sweep={self.settings.study}", output_dir=self.settings.output_dir)

    @_as_command()
    def select(self, *overrides: str, **settings: Never) -> Model:
        """Make the verdict's choice the champion, and load it.

        Args:
            overrides: of the settings, as `select` takes them: "refit=true".
            settings: none: a setting is an override.
        """
        with doing(_LOADING):
            from .selection.choice import choose
            from .selection.select import select

        all_overrides = [f"sweep={self.settings.study}", f"output_dir={self.settings.output_dir}"]
        all_overrides += _given(overrides, settings)
        asked = compose_settings(SelectSettings, all_overrides)
        champion = select(choose(asked), asked)
        return load(champion.run, output_dir=self.settings.output_dir, changed=asked.changed)


class _Text:
    """What is displayed as its text, in a shell and in a notebook."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


@dataclass(frozen=True, repr=False)
class Verdict(_Text):
    """The candidate to use, and how sure that is; its text is what `compare` prints.

    Attributes:
        comparison: the outcome with all its figures.
    """

    comparison: Comparison

    def __str__(self) -> str:
        from .reporting.comparison_report import format_comparison

        return format_comparison(self.comparison, _WIDTH, wrapped=True)

    @property
    def choice(self) -> str:
        """Name of the candidate to use."""
        return self.comparison.verdict.choice.name

    def leaderboard(self) -> pd.DataFrame:
        """Return the candidates, the best first, with figure, interval and cost.

        `figure` is by the measure that ranks, whose name is in `measure`; `low` and `high` are the
        ends of its 95 % interval, for all candidates at once; `cost` is the latency of a picture
        in milliseconds. Of pixels there is no `accuracy`.
        """
        import pandas as pd

        rows = [
            {
                "rank": one.rank,
                "candidate": one.name,
                "family": entrant.family,
                "measure": self.comparison.verdict.measure,
                "figure": one.figure,
                "low": one.interval.low,
                "high": one.interval.high,
                "tied": one.tied,
                "accuracy": None if self.comparison.pixels else one.accuracy,
                "log_loss": one.log_loss,
                "cost": one.cost,
                "command": entrant.command,
            }
            for entrant in self.comparison.entrants
            for one in [entrant.standing]
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True, repr=False)
class Forecast(_Text):
    """What more training pictures would bring; its text is what `scaling` prints.

    Attributes:
        record: the measured figures and the forecasts.
    """

    record: DataScalingRecord

    def __str__(self) -> str:
        from .reporting.data_scaling_report import format_scaling

        return format_scaling(self.record, _WIDTH, wrapped=True)

    def table(self) -> pd.DataFrame:
        """Return a row for each number of training pictures, measured or forecast.

        `figure` is by the measure `record.metric`; `low` and `high` are the ends of its 95 %
        interval; a forecast has no `run`.
        """
        import pandas as pd

        rows: list[tuple[float | str | None, ...]]
        rows = [(o.pictures, o.figure, o.low, o.high, o.run) for o in self.record.measured]
        rows += [(o.pictures, o.figure, o.low, o.high, None) for o in self.record.forecasts]
        return pd.DataFrame(rows, columns=["pictures", "figure", "low", "high", "run"])


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model that labels pictures as its run did.

    Attributes:
        folder: of the run.
    """

    folder: Path
    _predictor: Predictor

    def __repr__(self) -> str:
        return f"Model({str(self.folder)!r}, {len(self.class_names)} classes)"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the columns of `probabilities`."""
        return self._predictor.class_names

    @_as_command()
    def predict(
        self,
        pictures: Picture | Sequence[Picture],
        *,
        coverage: float | None = None,
        classwise: bool = False,
        max_error: float | None = None,
    ) -> pd.DataFrame:
        """Return a row for each picture: `picture`, `label`, `probability`, `uncertainty`.

        `uncertainty`, in [0, 1], is the larger the more the picture's label would teach the model.
        A champion gives `novelty` as well, in [0, 1], how probable a picture as unusual as this one
        is among those like the training pictures, and `unlike`, bool, whether it is out of
        distribution; and what is asked for: `label_set`, a list of labels, and `answered`, bool.
        A model that names several labels gives `labels`, a list, and a column for each label; one
        with a class for every pixel `mask`, an array (H, W) uint8 of the picture's size with its
        classes, 255 where it saw nothing, and the share of each class.

        A model of all pages of files, or of frames of videos, gives a row for each, named
        "FILE#3"; of bytes it takes the first.

        Args:
            pictures: one or several: paths, folders and patterns such as "photos/*.jpg", bytes of
                files, pictures of Pillow, or arrays (H, W) or (H, W, C) with values from 0 to 255
                or, of a model of more than 8 bits, in the units of the files it was trained on.
            coverage: share of the pictures, in (0, 1), whose `label_set` is to hold the true label;
                of several labels, share of these that it is to hold on average.
            classwise: whether the coverage is to hold for the pictures of each class, or label.
            max_error: largest share of wrong labels, in (0, 1), among those that are `answered`.

        Raises:
            ConfigError: the model has no calibration for what is asked, or it does not suffice.
            ValueError: names the first that is no picture.
        """
        import pandas as pd

        from .serving.file_pages import Page

        trust = self._trust(coverage, classwise, max_error)
        listed = list(self._pages(pictures))
        pictures_named = [str(one) if isinstance(one, Path | Page) else None for one in listed]
        if self._predictor.kind.pixels:
            from .serving.masks import class_shares, masks_of

            masks = list(with_progress(masks_of(self._predictor, listed), len(listed), _DONE))
            shares = [class_shares(mask, len(self.class_names)) for mask in masks]
            columns = np.array(shares).reshape(-1, len(self.class_names)).T
            return self._table({"picture": pictures_named, "mask": masks}, columns)
        probs, answers = self._predictor.judge_all(with_progress(listed, len(listed), _DONE), trust)
        judged = {} if trust is None else trust.table(answers)
        uncertainty = self._predictor.kind.uncertainties(probs).astype(float)
        if self._predictor.kind.sets:
            sets = self._predictor.label_sets(probs)
            labels = [[self.class_names[k] for k in one] for one in sets]
            found = {"picture": pictures_named, "labels": labels, "uncertainty": uncertainty}
            return self._table(found | judged, probs.T)
        best = self._predictor.decided(probs)
        found = {
            "picture": pictures_named,
            "label": [self.class_names[k] for k in best],
            "probability": np.take_along_axis(probs, best[:, None], axis=1)[:, 0].astype(float),
            "uncertainty": uncertainty,
        }
        return pd.DataFrame(found | judged)

    def _trust(
        self, coverage: float | None, classwise: bool, max_error: float | None
    ) -> Trust | None:
        from .runs.finished.trust_in_labels import trust_of
        from .serving.trust import Promise

        for name, value in {"coverage": coverage, "max_error": max_error}.items():
            if value is not None and not isinstance(value, Real):
                raise ConfigError(f"{name} is {value!r}: it must be a number or None.")
        try:
            promise = Promise(coverage, classwise, max_error)
        except ValueError as error:
            raise ConfigError(f"{error}.") from error
        if self._predictor.kind.pixels and promise != Promise():
            raise ConfigError(
                "coverage and max_error are about labels of whole pictures, and the model has a "
                "class for every pixel: leave them out."
            )
        return trust_of(self.folder, promise)

    def _table(self, first: dict[str, Any], of_classes: NDArray[np.floating[Any]]) -> pd.DataFrame:
        """Return columns, and one (N,) for each class, as `class_columns` calls them."""
        import pandas as pd

        from .targets.labels import class_columns

        names = class_columns(self.class_names, first)
        return pd.DataFrame(first | dict(zip(names, of_classes, strict=True)))

    @_as_command()
    def probabilities(self, pictures: Picture | Sequence[Picture]) -> NDArray[np.float32]:
        """Return (N, K) float32, the probability of each class for each picture.

        Args:
            pictures: as in `predict`.

        Raises:
            ValueError: names the first that is no picture; or the model has a class for every
                pixel.
        """
        if self._predictor.kind.pixels:
            raise ValueError("the model has a class for every pixel: take the masks of predict")
        listed = list(self._pages(pictures))
        return self._predictor.answer(with_progress(listed, len(listed), _DONE))

    def _pages(self, pictures: Picture | Sequence[Picture]) -> Iterator[Any]:
        """Yield single pictures; of files those that the model was trained on."""
        from .data.sources.files import each_picture

        for one in each_picture(pictures):
            yield from self._predictor.pages_in(one) if isinstance(one, Path) else [one]
