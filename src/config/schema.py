"""Settings of one run: all groups together, and what of them must fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import features  # noqa: F401 - registers the models that classify features
from .augment import AugmentSettings
from .checks import ConfigError, ForeignCode, Settings, from_plain, setting, to_plain
from .cross_validation import CrossValidationSettings
from .data import DataSettings
from .metrics import COST, monitored_metrics, plain_metric
from .models import ModelSettings, NetworkSettings, models_for
from .tracking import TrackingSettings
from .training import (
    LossSettings,
    OptimizerSettings,
    RuntimeSettings,
    SchedulerSettings,
    TrainerSettings,
)

__all__ = ["RunSettings", "stored_settings"]

# Of what is fitted in one go: it has no use for them, and its stored settings leave them out.
_SETTINGS_OF_NO_USE = {
    "optimizer": {"_target_": "src.training.optimizers.sgd", "name": "sgd", "lr": 0.1},
    "scheduler": {"_target_": "src.training.schedules.constant", "name": "constant"},
    "loss": {"_target_": "src.training.losses.CrossEntropy", "name": "cross_entropy"},
}


@dataclass(frozen=True)
class RunSettings(Settings):
    """All settings of one run."""

    config_name = "config"

    seed: int = setting("seed of weights, order and augmentation", 0, at_least=0, below=2**31)
    evaluate_test: bool = setting("measure the test part at the end (and count that it was)", True)
    find_lr: bool = setting("set optimizer.lr by a learning-rate range test before training", False)
    output_dir: str = setting(
        "folder under which runs, tracking database and counts are kept", "outputs", literal=True
    )
    resume: str | None = setting("id or folder of a run to continue", None, literal=True)
    costs: str | None = setting(
        "CSV file of what mistakes cost, for the metric cost: a header of class names, and a row "
        "for each class with its name and the cost of each prediction; null for no such metric",
        None,
        literal=True,
    )
    cv: CrossValidationSettings = setting("cross-validation")
    data: DataSettings = setting("the pictures")
    model: ModelSettings = setting("the model")
    optimizer: OptimizerSettings = setting("the optimizer")
    scheduler: SchedulerSettings = setting("the learning-rate schedule")
    loss: LossSettings = setting("the loss function")
    augment: AugmentSettings = setting("augmentation of training pictures")
    trainer: TrainerSettings = setting("duration, devices and refinements of the training")
    runtime: RuntimeSettings = setting("number format, memory layout and threads")
    tracking: TrackingSettings = setting("where the run is mirrored")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cv.is_whole and self.trainer.devices != 1:
            raise ConfigError(
                f"trainer.devices is {self.trainer.devices}, but a cross-validation trains its "
                "folds one after another on one device: set trainer.devices=1, or run each "
                "cv.fold=NUMBER by itself."
            )
        if self.data.train_on_val and self.cv.folds is not None:
            raise ConfigError(
                "data.train_on_val holds nothing out, but cv.folds does: give only one."
            )
        self._check_target()
        self._check_choice()
        self._check_stored()

    def _check_choice(self) -> None:
        """Check that there is a validation where something is chosen by one."""
        trainer = self.trainer
        lacking = "data.train_on_val leaves no validation part to choose by: set"
        never = isinstance(trainer.max_epochs, int) and trainer.validate_every > trainer.max_epochs
        if never and not self.data.train_on_val:
            lacking = (
                f"trainer.validate_every is {trainer.validate_every}, and with "
                f"{trainer.max_epochs} epochs there is never a validation to choose by: take a "
                "lower one, or set"
            )
        chooses = {"early_stopping": None, "final_weights": "last"}
        for key, must in chooses.items() if never or self.data.train_on_val else ():
            if getattr(trainer, key) != must and not self.is_idle(f"trainer.{key}"):
                value = "null" if must is None else must
                raise ConfigError(f"{lacking} trainer.{key}={value}.")

    def _check_stored(self) -> None:
        """Check that the network is not compiled where stored views bypass it."""
        model = self.model
        if not isinstance(model, NetworkSettings) or not model.stores_views:
            return
        if self.runtime.compile is True:
            raise ConfigError(
                f"runtime.compile is true, and with model.stored_views={model.stored_views} "
                "training goes past what would be compiled: set runtime.compile=false, or "
                "model.stored_views=0."
            )

    def _check_target(self) -> None:
        """Check that loss, monitor and devices go with what pictures are labelled with."""
        target, loss = self.data.target, self.loss
        self._check_model()
        if target not in loss.targets and not self.is_idle("loss"):
            raise ConfigError(
                f"loss is {loss.name}, which is for target={' or '.join(loss.targets)}, and "
                f"data.target is {target}: set loss=cross_entropy."
            )
        self._check_monitor()
        if target != "single" and self.trainer.devices != 1:
            raise ConfigError(
                f"trainer.devices is {self.trainer.devices}, but with data.target={target} one "
                "device trains: set trainer.devices=1."
            )
        if target == "dense":
            self._check_pixels()

    def _check_monitor(self) -> None:
        """Check that what checkpoints and early stopping look at is measured in each epoch."""
        target, monitor = self.data.target, self.trainer.monitor
        if self.costs is not None and COST not in monitored_metrics(target):
            raise ConfigError(
                f"costs is given, but data.target is {target}: costs are of one class a picture."
            )
        if self.data.answer == "cost" and self.costs is None:
            raise ConfigError(
                "data.answer is cost, and there are no costs: set costs=FILE.csv, which says what "
                "each mistake costs."
            )
        if monitor == COST and self.costs is None:
            raise ConfigError(
                "trainer.monitor is cost, and there are no costs: set costs=FILE.csv, which says "
                "what each mistake costs."
            )
        if monitor not in ("auto", *monitored_metrics(target)):
            known = ["auto", *map(plain_metric, monitored_metrics(target))]
            raise ConfigError(
                f"trainer.monitor is {plain_metric(monitor)}, which is not measured with "
                f"data.target={target}: set it to one of {', '.join(known)}."
            )

    def _check_model(self) -> None:
        """Check that the model can learn what pictures are labelled with."""
        target, model = self.data.target, self.model
        if target not in model.targets:
            raise ConfigError(
                f"model is {model.name}, which is for target={' or '.join(model.targets)}, and "
                f"data.target is {target}: use one of model={', '.join(models_for(target))}."
            )

    def _check_pixels(self) -> None:
        """Check that nothing is asked for that a class for every pixel does not allow."""
        augment, views = self.augment, self.trainer.tta
        if self.is_idle("augment"):
            return
        if augment.mix_probability and (augment.mixup_alpha or augment.cutmix_alpha):
            raise ConfigError(
                f"augment.mix_probability is {augment.mix_probability:g}, and pictures with a "
                "class for every pixel are not mixed: set augment.mix_probability=0."
            )
        if views not in ("auto", "none", "flip"):
            raise ConfigError(
                f"trainer.tta is {views}, and the classes of pixels are averaged over mirrored "
                "views alone: set trainer.tta=flip or none."
            )
        model = self.model
        if isinstance(model, NetworkSettings) and model.stores_views:
            raise ConfigError(
                f"model.stored_views is {model.stored_views}, and masks are not stored with views: "
                "set model.stored_views=0."
            )

    def is_idle(self, key: str) -> bool:
        """Return whether a key, or a whole group, changes nothing with this model."""
        return self.model.is_idle(key)

    def effective(self) -> dict[str, Any]:
        """Return all settings but the idle ones, as nested plain containers.

        `stored_settings` gives the others their defaults.
        """

        def kept(plain: Any, where: str) -> Any:
            if not isinstance(plain, dict):
                return plain
            paths = {key: f"{where}{key}" for key in plain}
            return {k: kept(plain[k], f"{p}.") for k, p in paths.items() if not self.is_idle(p)}

        return kept(to_plain(self), "")


def stored_settings(plain: Mapping[str, Any]) -> RunSettings:
    """Return the settings of a run's config.yaml or of the metadata in its checkpoint.

    Raises:
        ConfigError: they are not what this version of the project writes, or name a plugin's code
            that is not allowed here.
    """
    try:
        if not isinstance(plain, Mapping):
            raise ConfigError("there are none")
        return from_plain(RunSettings, {**_SETTINGS_OF_NO_USE, **plain})
    except ForeignCode:
        raise
    except ConfigError as error:
        raise ConfigError(
            f"the settings of this run are damaged or of another version, so it cannot be used "
            f"any more ({str(error).rstrip('.')}): train it again."
        ) from error
