"""Who looks on at a race: the person at the screen, and the sweep's own run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from src.config.sweep import SweepSettings
from src.records.trials import TrialRecord
from src.search.study import SweepStudy
from src.sweeps.display import Display
from src.sweeps.parent_run import ParentRun

__all__ = ["Onlookers"]


class Onlookers:
    """Passes on what happens; see `search.driver.Watcher`."""

    def __init__(self, settings: SweepSettings, study: SweepStudy, parent: ParentRun) -> None:
        self._parent = parent
        self._higher = settings.directions[0] == "maximize"
        self._counts: dict[str, int] = {}
        self._best: TrialRecord | None = None
        for trial in study.trials():
            self._consider(trial)
        self._display = Display(
            metric=settings.metrics[0],
            families=settings.families,
            best=self._best,
            steps="folds" if settings.cv.is_whole else "epochs",
        )

    def __enter__(self) -> Self:
        self._display.__enter__()
        self._parent.open(self.say)
        return self

    def __exit__(self, *error: Any) -> None:
        self._display.__exit__(*error)

    def say(self, text: str) -> None:
        """A line for the person."""
        self._display.say(text)

    def began(self, slot: int, trial: TrialRecord, epochs: int) -> None:
        self._display.slot_started(slot, trial, epochs)

    def noted(self, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        for run_dir in (facts.get("run_dir"), facts.get("fold_dir")):
            if run_dir is not None:
                self._parent.follow(Path(run_dir))

    def reported(self, slot: int, trial: int, epoch: int, value: float | None) -> None:
        if value is not None:
            self._display.slot_reported(slot, epoch, value)

    def ended(self, slot: int, trial: TrialRecord) -> None:
        self._consider(trial)
        self._display.slot_ended(slot, trial, self._best)
        self._parent.ended(trial, self._best)

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        self._counts = dict(counts)
        self._display.tick(counts, left)

    def freed(self, slot: int) -> None:
        """What a slot ran is over, and no trial."""
        self._display.slot_freed(slot)

    def after(self, left: str) -> None:
        """Time goes by after the race: what is left now."""
        self._display.tick(self._counts | {"running": 0}, left)

    def _consider(self, trial: TrialRecord) -> None:
        """The best complete trial so far."""
        if trial.objectives is None:
            return
        best = self._best
        if best is None or best.objectives is None:
            self._best = trial
        elif (trial.objectives[0] > best.objectives[0]) == self._higher:
            self._best = trial if trial.objectives[0] != best.objectives[0] else best
