"""Settings of a cross-validation, of a run and of the trials of a sweep."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import ConfigError, Settings, positive_int, setting

__all__ = ["CrossValidationSettings"]


@dataclass(frozen=True)
class CrossValidationSettings(Settings):
    """Cross-validation over the training and validation pictures."""

    folds: int | None = setting(
        "parts that are held out in turn, of the training and validation pictures together; null "
        "for a single run on the parts as they are",
        None,
        at_least=2,
    )
    repeats: int = positive_int("cross-validations, each with folds of its own", 1)
    fold: int | None = positive_int(
        "train this one alone, counted from 1 on over all repeats; null for all of them", None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is None and (self.repeats > 1 or self.fold is not None):
            key = "fold" if self.fold is not None else "repeats"
            raise ConfigError(
                f"{key} is {getattr(self, key)}, which means nothing while folds is null: set "
                "cv.folds=5."
            )
        if self.fold is not None and self.fold > self.count:
            raise ConfigError(f"fold is {self.fold}, but there are {self.count}.")

    @property
    def count(self) -> int:
        """Folds of all repeats together; 0 without cross-validation."""
        return 0 if self.folds is None else self.folds * self.repeats

    @property
    def is_whole(self) -> bool:
        """Whether all folds are trained, and not one alone or none."""
        return self.folds is not None and self.fold is None

    @property
    def trainings(self) -> int:
        """Number of trainings of a candidate: one for each fold, or a single one."""
        return self.count if self.is_whole else 1
