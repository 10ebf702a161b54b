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

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Never, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .config.checks import ConfigError, input_of
from .config.command_line import from_environment
from .config.compose import compose_settings, data_overrides
from .config.finished import CompareSettings, ScalingSettings, SelectSettings
from .config.overrides import by_key, override_of
from .config.plugins import plugin_overrides
from .config.python_calls import MINUTES, as_command, given_overrides, refuse_no_name
from .config.sweep import SweepSettings, read_sweep_settings
from .data.sources.listing import check_root
from .machine.failures import RunFailed
from .machine.package import command
from .machine.status import doing
from .records.run import RunSummary
from .runs.settings import read_settings

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from .records.comparison import Comparison
    from .records.data_scaling import DataScalingRecord
    from .records.trials import SweepRecord
    from .serving.predictor import Predictor

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
_FROM_MLFLOW = ("tracking.uri", "tracking.experiment")
_LOADING = "loading PyTorch"
# In a notebook without ipywidgets, of a bar that a library may draw and that nobody asked for.
warnings.filterwarnings("ignore", message="IProgress not found")


@as_command()
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
    refuse_no_name(data=data, output_dir=output_dir)
    given = given_overrides(overrides, settings, "data", "output_dir")
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
        from .runs.build import check_plugins
        from .runs.experiment import run_experiment

    check_plugins(asked)
    summary = run_experiment(asked, command=command("train", *plugin_overrides(), *all_overrides))
    assert summary is not None, "this is the process of the first device"
    return Run(summary)


@as_command()
def sweep(
    data: str | Path,
    *overrides: str,
    minutes: float | None = None,
    study: str | None = None,
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
        study: name of the study; None for that of the data set, or of the file in sweeps/ if it is
            not "default".
        config_name: of a file in sweeps/.
        output_dir: of all runs and studies.
        settings: none: a setting is an override.

    Raises:
        ConfigError: the settings or the pictures are wrong, or the study is another one's.
        RunFailed: no trial came to its end.
    """
    names = {} if study is None else {"study": study}
    refuse_no_name(data=data, **names, config_name=config_name, output_dir=output_dir)
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, Real)):
        raise ConfigError(f"minutes is {minutes!r}: it must be a number or None.")
    limit: list[str] = [] if minutes is None else [f"{MINUTES}={minutes:g}"]
    known = ("data", "minutes", "study", "config_name", "output_dir")
    given = [
        *given_overrides(overrides, settings, *known),
        *([] if study is None else [f"study={study}"]),
        f"output_dir={output_dir}",
    ]
    all_overrides = [*data_overrides(data), *given, *limit]
    all_overrides += from_environment(
        _FROM_MLFLOW, read_sweep_settings(all_overrides, config_name), all_overrides
    )
    asked = read_sweep_settings(all_overrides, config_name)
    with doing("loading Optuna"):
        from .sweeps.launch import run_sweep

    record = run_sweep(asked, all_overrides, config_name)
    # Its methods find the study from whatever folder they are called in.
    return Sweep(replace(asked, output_dir=str(Path(output_dir).absolute())), record)


@as_command()
def compare(
    *overrides: str | Path | Run, output_dir: str | Path = "outputs", **settings: Never
) -> Verdict:
    """Compare finished runs by their stored predictions.

    Args:
        overrides: runs that `fit` returned or paths of their folders, or settings as the command
            `compare` takes them, all but subgroup: "runs=[A,B]".
        output_dir: where runs are looked for that are not given as objects.
        settings: none: a setting is an override.

    Raises:
        ConfigError: there is nothing to compare, or the runs do not belong together.
    """
    refuse_no_name(output_dir=output_dir)
    runs = [str(_place(one)) for one in overrides if isinstance(one, Run | Path)]
    texts = [one for one in overrides if not isinstance(one, Run | Path)]
    all_overrides = [*given_overrides(texts, settings, "output_dir"), f"output_dir={output_dir}"]
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
        from .selection.combined_run import with_ensemble

        comparison = with_ensemble(comparison, asked)[0]
    return Verdict(comparison)


@as_command()
def scaling(
    run: str | Path | Run = "champion",
    *overrides: str,
    output_dir: str | Path = "outputs",
    **settings: Never,
) -> Forecast:
    """Forecast what more training pictures would bring, by trainings on fewer of them.

    Args:
        run: one that `fit` returned, or the folder, name or id of a run, or "champion".
        overrides: of the settings, as `scaling` takes them: "factors=[2,8]", "goal=0.95".
        output_dir: of all runs.
        settings: none: a setting is an override.

    Raises:
        ConfigError: there is no such run, or it cannot be trained on fewer pictures.
        RunFailed: a training ended before its end.
    """
    run = _place(run)
    refuse_no_name(run=run, output_dir=output_dir)
    given = given_overrides(overrides, settings, "run", "output_dir")
    all_overrides = [f"run={run}", *given, f"output_dir={output_dir}"]
    asked = compose_settings(ScalingSettings, all_overrides)
    with doing("reading the run"):
        from .selection.scaling_plan import plan_scaling

        plan = plan_scaling(asked)
    with doing(_LOADING):
        from .selection.data_scaling import measure_scaling

    return Forecast(measure_scaling(plan, asked)[0])


@as_command()
def load(
    run: str | Path | Run = "champion",
    *overrides: str,
    output_dir: str | Path = "outputs",
    changed: str = "refuse",
    **settings: Never,
) -> Model:
    """Load a trained model, by default the champion.

    Args:
        run: one that `fit` returned, or the folder, name or id of a run, or "champion".
        overrides: "plugins=FOLDER" of a model with code of one's own, and no other.
        output_dir: of all runs.
        changed: "refuse", or "use" for a run whose files were changed after its end.
        settings: none.

    Raises:
        ConfigError: there is no such run, its model is damaged, or it was changed and is refused.
    """
    run = _place(run)
    refuse_no_name(run=run, output_dir=output_dir)
    if others := given_overrides(overrides, settings, "run", "output_dir", "changed"):
        raise ConfigError(
            f"{others[0]}: a model is loaded with plugins=FOLDER and no other setting."
        )
    if changed not in ("refuse", "use"):
        raise ConfigError(f"changed is {changed!r}: it must be one of refuse, use.")
    from .runs.folder import trained_run
    from .runs.seal import RECORD, refuse_changed

    with input_of("run"):
        folder, file = trained_run(str(run), Path(output_dir))
        refuse_changed(folder.path, changed, (*RECORD, "model/*"))
    with doing("loading the model"):
        from .runs.finished.predict import predictor_of

        return Model(folder.path, predictor_of(file, _BATCH, changed), changed)


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


def _place(run: str | Path | Run) -> str | Path:
    """Return the folder of a run that `fit` returned, and what else names a run as it is."""
    return run.folder if isinstance(run, Run) else run


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
        from .reporting.data_frames import trials_frame

        return trials_frame(self.record)

    def verdict(self) -> Verdict:
        """Compare the candidates of the study."""
        return compare(f"sweep={self.settings.study}", output_dir=self.settings.output_dir)

    @as_command()
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
        all_overrides += given_overrides(overrides, settings)
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
        from .reporting.data_frames import candidates_frame

        return candidates_frame(self.comparison)


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
        from .reporting.data_frames import scaling_frame

        return scaling_frame(self.record)


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model that labels pictures as its run did.

    Pickled, it is the path of its run, and whoever unpickles it loads the model from there.

    Attributes:
        folder: of the run.
    """

    folder: Path
    _predictor: Predictor
    _changed: str = "refuse"

    def __reduce__(self) -> tuple[partial[Model], tuple[()]]:
        return partial(load, str(self.folder.absolute()), changed=self._changed), ()

    def __repr__(self) -> str:
        return f"Model({str(self.folder)!r}, {len(self.class_names)} classes)"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the columns of `probabilities`."""
        return self._predictor.class_names

    @as_command()
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
        "FILE#3"; of bytes it takes the first. Files that cannot be read have no row, and are named.

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
            ValueError: names the first that is no picture, which is no file, or where none is one.
        """
        from .runs.finished.answers_frame import answers_frame, trust_asked

        trust = trust_asked(self.folder, self._predictor, coverage, classwise, max_error)
        return answers_frame(self._predictor, pictures, trust)

    @as_command()
    def probabilities(self, pictures: Picture | Sequence[Picture]) -> NDArray[np.float32]:
        """Return (N, K) float32, the probability of each class for each picture.

        Args:
            pictures: as in `predict`.

        Raises:
            ValueError: names the first that is no picture; or the model has a class for every
                pixel.
        """
        from .runs.finished.answers_frame import probabilities_of

        return probabilities_of(self._predictor, pictures)
