"""The best configurations once more, over seeds and to the end, and the winner's test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from src.config.sweep import SweepSettings
from src.machine.failures import RunFailed
from src.records.trials import Finalist, TrialRecord
from src.reporting.formatting import metric_text
from src.search.pool import Ended, Event, Noted, Pool, Reported
from src.search.study import SweepStudy
from src.search.workers.process import Job
from src.sweeps.observers import Onlookers

__all__ = ["NO_FOLDS", "FinalRecord", "Finals"]

# Words that turn a cross-validated configuration into a single training on the usual parts.
NO_FOLDS = ("cv.folds=null", "cv.repeats=1")

_REFITS, _TEST, _SIZE = "refits", "test", "finalists"
_POLL_SECONDS = 0.25
_MOST_ATTEMPTS = 2


@dataclass(frozen=True)
class FinalRecord:
    """What the study remembers of its finalists.

    Attributes:
        refits: by trial number and seed, the run's first metric (None: failed), and its folder.
        test: figures of the winner on the test part.
        test_measurements: how often that part has been measured.
        winner: number of the trial, or None.
    """

    refits: Mapping[int, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    test_measurements: int | None = None
    winner: int | None = None

    @property
    def winning_seed(self) -> int | None:
        """The first of the winner's seeds that ended well: nobody picked it, so it is the one that
        is measured on the test part."""
        if self.winner is None:
            return None
        seeds = self.refits.get(self.winner, {})
        return min(
            (s for s, found in seeds.items() if found.get("value") is not None), default=None
        )

    def ranked(self, direction: str) -> tuple[Finalist, ...]:
        """Best mean first; those of whom no seed ended well come last."""
        finalists = [
            Finalist(
                number,
                {seed: found.get("value") for seed, found in seeds.items()},
                {seed: found["run_dir"] for seed, found in seeds.items() if found.get("run_dir")},
            )
            for number, seeds in self.refits.items()
        ]
        sign = -1.0 if direction == "maximize" else 1.0
        worst = math.inf
        return tuple(sorted(finalists, key=lambda f: worst if f.mean is None else sign * f.mean))


class Finals:
    """Trains the finalists and measures the winner, in the pool that the race has left.

    The seeds are others than that of the trials: a configuration was chosen for what it did with
    that one.

    Args:
        settings, study, pool, onlookers: of the sweep.
        job_of: the job of a trial's configuration with another seed and these further words.
        seconds_left: of the sweep's budget; None for no limit. Fewer finalists, or fewer seeds, are
            trained where more would take longer; where there is no time for any, the best trial
            wins as it stands.
    """

    def __init__(
        self,
        settings: SweepSettings,
        study: SweepStudy,
        pool: Pool,
        onlookers: Onlookers,
        job_of: Callable[[TrialRecord, int, Sequence[str]], Job],
        seconds_left: float | None = None,
    ) -> None:
        self._settings = settings
        self._study = study
        self._pool = pool
        self._onlookers = onlookers
        self._job_of = job_of
        self._seconds_left = seconds_left
        self._metric = settings.metrics[0]
        self._refits: dict[str, dict[str, dict[str, Any]]] = study.recall(_REFITS) or {}

    @staticmethod
    def stored(study: SweepStudy) -> FinalRecord:
        """What the study remembers."""
        refits = {
            int(number): {int(seed): found for seed, found in seeds.items() if "value" in found}
            for number, seeds in (study.recall(_REFITS) or {}).items()
        }
        test = study.recall(_TEST) or {}
        return FinalRecord(
            {number: seeds for number, seeds in refits.items() if seeds},
            test.get("metrics", {}),
            test.get("measurements"),
            test.get("winner"),
        )

    def run(self, interrupted: Callable[[], bool], check: Callable[[], None]) -> None:
        """Train what is missing, then measure the winner on the test part, once.

        Args:
            interrupted: asked all the time; True to save and end.
            check: called all the time; raises what `interrupted` is about.

        Raises:
            Interrupted: somebody asked to stop; the next start goes on.
            RunFailed: no trial came to its end, so there is nothing to choose from.
        """
        if not self._settings.finalists:
            return
        chosen = self._chosen()
        if not chosen:
            raise RunFailed(self._without_result())
        finalists, count = self._affordable(chosen)
        if not count:
            self._take_as_it_stands(chosen[0])
            self._measure_winner(check)
            return
        chosen = chosen[:finalists]
        seeds = [self._settings.seed + 1 + i for i in range(count)]
        self._onlookers.say(
            f"finalists: trials {', '.join(str(trial.number) for trial in chosen)}, "
            f"each with seeds {', '.join(map(str, seeds))}"
        )
        todo = [
            (trial, seed, 1)
            for trial in chosen
            for seed in seeds
            if "value" not in self._refits.get(str(trial.number), {}).get(str(seed), {})
        ]
        self._train(todo, interrupted)
        check()
        self._measure_winner(check)

    def _chosen(self) -> list[TrialRecord]:
        """The best complete trials, no configuration twice."""
        sign = -1.0 if self._settings.directions[0] == "maximize" else 1.0
        complete = [trial for trial in self._study.trials() if trial.objectives is not None]
        complete.sort(key=lambda t: (sign * (t.objectives or (0.0,))[0], t.number))
        distinct: dict[tuple[str, ...], TrialRecord] = {}
        for trial in complete:
            distinct.setdefault(trial.words, trial)
        return list(distinct.values())[: self._settings.finalists]

    def _without_result(self) -> str:
        """Say why there is no winner, and what to do."""
        if self._seconds_left is None:
            return "no trial came to its end, so there is no winner: give the sweep more trials"
        return (
            f"no trial came to its end within budget.minutes={self._settings.budget.minutes:g}, so "
            "there is no winner: give the same command more minutes, or name faster families"
        )

    def _affordable(self, chosen: Sequence[TrialRecord]) -> tuple[int, int]:
        """How many finalists and seeds of each end within the time that is left.

        The most trainings that do; of as many the more seeds, for one figure of each says little.
        Once chosen, it stays: a later start goes on with the same.
        """
        known = self._study.recall(_SIZE)
        if known is not None and len(chosen) >= known[0]:
            return known[0], known[1]
        most = len(chosen), self._settings.finalist_seeds
        fitting = [
            (finalists, seeds)
            for finalists in range(1, most[0] + 1)
            for seeds in range(1, most[1] + 1)
            if self._fits(chosen[:finalists], seeds)
        ]
        size = max(fitting, key=lambda pair: (pair[0] * pair[1], pair[1]), default=(1, 0))
        if size != most:
            said = "none" if not size[1] else f"{size[0]} with {size[1]} seeds each"
            self._onlookers.say(
                f"finalists: {said}, for {most[0]} with {most[1]} seeds each would take longer "
                "than the budget"
            )
        self._study.remember(_SIZE, size)
        return size

    def _fits(self, trials: Sequence[TrialRecord], seeds: int) -> bool:
        if self._seconds_left is None:
            return True
        each = [trial.seconds or 0.0 for trial in trials]
        slots = max(1, len(self._pool.free()))
        return seeds * max(sum(each) / slots, *each) <= self._seconds_left

    def _take_as_it_stands(self, trial: TrialRecord) -> None:
        """The best trial's own run stands for the finalist that there is no time to train."""
        found = self._found(trial, self._settings.seed)
        found |= {"value": (trial.objectives or (None,))[0], "run_dir": trial.run_dir}
        self._study.remember(_REFITS, self._refits)

    def _train(
        self, todo: list[tuple[TrialRecord, int, int]], interrupted: Callable[[], bool]
    ) -> None:
        running: dict[int, tuple[TrialRecord, int, int]] = {}
        asked_to_stop = False
        while todo or running:
            self._study.stay()
            self._onlookers.after(f"{len(todo) + len(running)} trainings of finalists left")
            if interrupted() and not asked_to_stop:
                asked_to_stop = True
                self._pool.interrupt(self._pool.busy)
            if asked_to_stop and not running:
                break
            for slot in [] if asked_to_stop else self._pool.free()[: len(todo)]:
                trial, seed, attempt = running[slot] = todo.pop(0)
                known = self._found(trial, seed)
                job = self._job_of(trial, seed, known.get("changes", ()))
                self._pool.give(slot, {**job, "resume": known.get("run_dir")})
                self._onlookers.began(slot, trial, job["epochs"])
            for event in self._pool.events(_POLL_SECONDS):
                trial, seed, attempt = running[event.slot]
                self._hear(event, trial, seed, asked_to_stop)
                if not isinstance(event, Ended):
                    continue
                del running[event.slot]
                self._onlookers.freed(event.slot)
                lost = event.died or event.ending.state == "interrupted"
                if lost and asked_to_stop:
                    continue
                again = event.ending.again
                if (lost or again is not None) and attempt < _MOST_ATTEMPTS:
                    if again is not None:  # in a run of its own
                        self._found(trial, seed).update({"run_dir": None, **again})
                    todo.append((trial, seed, attempt + 1))
                    continue
                self._keep(trial, seed, event)

    def _hear(self, event: Event, trial: TrialRecord, seed: int, stopping: bool) -> None:
        match event:
            case Noted(facts=facts):
                self._found(trial, seed).update(facts)
                self._study.remember(_REFITS, self._refits)
                self._onlookers.noted(trial, facts)
            case Reported(slot=slot, epoch=epoch, metrics=metrics):
                if stopping:  # a job that was just beginning may have missed it
                    self._pool.interrupt([slot])
                self._pool.answer(slot, None)
                self._onlookers.reported(slot, trial.number, epoch, metrics.get(self._metric))

    def _keep(self, trial: TrialRecord, seed: int, event: Ended) -> None:
        metrics = event.ending.result.get("metrics", {})
        value = metrics.get(self._metric) if event.ending.state == "complete" else None
        found = self._found(trial, seed)
        found["value"] = value
        self._study.remember(_REFITS, self._refits)
        said = event.ending.reason
        if value is not None:
            said = f"{self._metric} {metric_text(self._metric, value)}"
        self._onlookers.say(f"finalist {trial.number} ({trial.family}), seed {seed}: {said}")

    def _found(self, trial: TrialRecord, seed: int) -> dict[str, Any]:
        return self._refits.setdefault(str(trial.number), {}).setdefault(str(seed), {})

    def _measure_winner(self, check: Callable[[], None]) -> None:
        """The best mean wins; of its runs the first seed's is measured, which nobody picked."""
        ranked = self.stored(self._study).ranked(self._settings.directions[0])
        if not ranked or ranked[0].mean is None:
            return
        winner = ranked[0]
        known = self._study.recall(_TEST) or {}
        if known.get("winner") == winner.trial and (
            known.get("metrics") or not self._settings.evaluate_test
        ):
            return
        record: dict[str, Any] = {"winner": winner.trial}
        self._study.remember(_TEST, record)
        if self._settings.evaluate_test:
            record |= self._tested(winner, check)
            self._study.remember(_TEST, record)

    def _tested(self, winner: Finalist, check: Callable[[], None]) -> dict[str, Any]:
        seeds: Sequence[int] = sorted(seed for seed, v in winner.runs.items() if v is not None)
        trial, run_dir = self._study.trial(winner.trial), winner.run_dirs[seeds[0]]
        places = [f"output_dir={Path(self._settings.output_dir).absolute()}"]
        if self._settings.tracking.uri is not None:
            places.append(f"tracking.uri={self._settings.tracking.uri}")
        job: dict[str, Any] = {"do": "test", "run_dir": run_dir, "places": places}
        if self._settings.cv.is_whole:  # of whose runs none is the one to use
            alone = dict(self._job_of(trial, seeds[0], NO_FOLDS))
            job["train"] = alone | {"name": f"{alone['name']}-test", "resume": None}
        noted = partial(self._onlookers.noted, trial)
        ending = self._pool.run_alone(job, check, noted).ending
        if ending.state != "complete":
            self._onlookers.say(f"the test part was not measured: {ending.reason}")
            return {}
        result = ending.result
        metrics = {k: v for k, v in result["metrics"].items() if k.startswith("test/")}
        measured = {"metrics": metrics, "measurements": result["measurements"]}
        return measured | {"run_dir": result["run_dir"]}
