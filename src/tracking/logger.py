"""Lightning's door to the tracker."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from src.tracking.tracker import Tracker

__all__ = ["SpoolLogger"]


class SpoolLogger(Logger):
    """Hands Lightning's metrics to the tracker under the names they have.

    Parameters are the run's config and come from the tracker's start, so what Lightning reads out
    of constructors is left out; so is `epoch`, which Lightning adds to every step. The end of a fit
    is not the end of a run, which evaluation follows: `finalize` does nothing.
    """

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self._tracker = tracker

    @property
    def name(self) -> str:
        return self._tracker.run_dir.name

    @property
    def version(self) -> str:
        return self._tracker.run_id

    @property
    def save_dir(self) -> str:
        return str(self._tracker.run_dir)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = {key: float(value) for key, value in metrics.items() if key != "epoch"}
        self._tracker.metrics(values, step=0 if step is None else step)

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        return None
