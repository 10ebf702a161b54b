"""Finals: train the best configurations again with several seeds, and test the winner."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.checks import ConfigError
from ..data.splitting.test_usage import count_test_measurement_once
from ..machine.cpu_load import slowdown
from ..machine.failures import RunFailed
from ..machine.text import counted
from ..records.ties import METRICS, Place
from ..records.trials import Finalist, TrialRecord
from ..reporting.comparison_verdict import baseline_sentence, constant_sentence
from ..reporting.formatting import metric_text
from ..search.jobs import Ending, Job
from ..search.loop import OVER, JobLoop, Observer, run_single
from ..search.pool import Pool
from ..search.study import SweepStudy
from .clock import Clock
from .display import Display
from .finalist_choice import choose_finalists
from .finals_time import round_seconds, training_seconds
from .further_seeds import (
    Look,
    judged,
    keep_looks,
    kept_looks,
    left_out,
    next_round,
    verdict_on,
)
from .prepared import PREPARED
from .tasks import SweepJobs

__all__ = ["TEST", "Finals", "kept_finalists"]

# Keys in a study: of trainings by trial and seed, of the winner with its test, and of the numbers
# of finalists and seeds that fit, with those that were asked for.
_REFITS, TEST, _SIZE = "refits", "test", "finalists"

# CPU seconds of a finalist's training beside those of its trial, which draws no figures (clothing
# photos, ten classes).
_FIGURES_CPU_SECONDS = 4.5


def kept_finalists(
    study: SweepStudy, direction: str, looks: Sequence[Look] | None = None
) -> tuple[Finalist, ...]:
    """Return the finalists of a study, best mean first; those without a mean come last.

    Equal means are in the order of `src.records.ties`.

    Args:
        study: that has trained them.
        direction: "maximize" or "minimize".
        looks: comparisons of them, the last of which says how many seeds count; None for those of
            the study.
    """
    looks = kept_looks(study) if looks is None else looks
    counts, out = looks[-1].seeds if looks else {}, left_out(looks)
    finalists = []
    for number, seeds in (study.recall(_REFITS) or {}).items():
        trial = int(number)
        found = {int(seed): facts for seed, facts in seeds.items() if "value" in facts}
        ended = {seed: found[seed] for seed in sorted(found)[: counts.get(trial)]}
        if ended:
            values = {seed: facts["value"] for seed, facts in ended.items()}
            run_dirs = {s: facts["run_dir"] for s, facts in ended.items() if facts.get("run_dir")}
            collapsed = tuple(seed for seed, facts in ended.items() if facts.get("collapsed"))
            figures = {seed: facts.get("figures", {}) for seed, facts in ended.items()}
            finalists.append(Finalist(trial, values, run_dirs, trial in out, collapsed, figures))

    def order(one: Finalist) -> tuple[bool, Place]:
        return one.left_out, one.place(direction, study.trial(one.trial).name)

    return tuple(sorted(finalists, key=order))


class Finals(JobLoop[tuple[int, int]]):
    """Trains the finalists and tests the winner, with the workers of the race.

    Their seeds differ from that of the trials, by which the configurations were selected. The key
    of a training is (trial, seed).

    Args:
        pool, observers, interrupted: see `JobLoop`.
        clock: fewer finalists or seeds are trained if more would take longer than it has left;
            without time for any, the best trial wins as it is. If trainings take longer than
            expected, further seeds begin only as long as one should end in time, by what the
            trainings before it took.
        display: shows each training that ends, and the step that takes a while.
        check: see `Reduction`.
        upkeep: see `Driver`.
    """

    def __init__(
        self,
        pool: Pool,
        jobs: SweepJobs,
        clock: Clock,
        display: Display,
        *,
        check: Callable[[], None],
        upkeep: Callable[[], None],
        observers: Sequence[Observer],
        interrupted: Callable[[], bool],
    ) -> None:
        super().__init__(pool, observers, interrupted)
        self._settings = settings = jobs.settings
        self._study = study = jobs.study
        self._jobs = jobs
        self._clock = clock
        self._display, self._show = display, display.show
        self._check = check
        self._upkeep = upkeep
        self._metric = settings.metrics[0]
        self._name = study.spec.metrics[self._metric]
        self._refits: dict[str, dict[str, dict[str, Any]]] = study.recall(_REFITS) or {}
        self._trials: dict[int, TrialRecord] = {}
        self._counts: Mapping[str, int] = {}
        self._in_time = False
        self._todo: deque[tuple[int, int]] = deque()

    def run(self) -> None:
        """Run the missing trainings, then measure the winner on the test part, once.

        Raises:
            Interrupted: by a signal; the next start resumes.
            RunFailed: no trial is complete, so there is nothing to choose from.
            TooManyFailures, WorkersFail: see `JobLoop.run_jobs`.
        """
        settings = self._settings
        if not settings.finalists:
            return
        known = self._study.trials()
        chosen = self._chosen(known)
        if not chosen:
            raise RunFailed(self._describe_no_result())
        finalists, count = self._affordable(chosen)
        if count:
            self._drop_substitutes()
            self._trials = {trial.number: trial for trial in chosen[:finalists]}
            self._counts = Counter(trial.state for trial in known)
            seeds = [settings.seed + 1 + i for i in range(count)]
            self._show(_announcement([one.name for one in self._trials.values()], seeds))
            self._in_time = True
            self._train(dict.fromkeys(self._trials, count))
            self._in_time = False
            if settings.extra_trainings and finalists > 1 and not self._is_late():
                self._train_further_seeds(count)
        else:  # without time for a training, the best trial's own run is used as the finalist
            best = chosen[0]
            value = (best.objectives or (None,))[0]
            facts = {"value": value, "figures": _figures(best.figures), "run_dir": best.run_dir}
            self.keep((best.number, settings.seed), facts)
        self._measure_winner()

    def _train(self, seeds: Mapping[int, int]) -> None:
        """Run the missing trainings, given the number of seeds of each trial."""
        first = self._settings.seed + 1
        most = max(seeds.values())
        keys = [(trial, first + i) for i in range(most) for trial in seeds if i < seeds[trial]]
        self._todo.extend(key for key in keys if "value" not in self.facts(key))
        self.run_jobs()
        self._check()

    def _train_further_seeds(self, count: int) -> None:
        """Train further seeds of finalists that are tied with the best, while that can help.

        Args:
            count: number of seeds that each finalist has so far.
        """
        looks = kept_looks(self._study)
        if not looks or not self._trials.keys() <= looks[-1].seeds.keys():
            new = self._trials.keys() - (looks[-1].seeds.keys() if looks else ())
            looks = self._look(looks, dict.fromkeys(new, count))
        while True:
            seeds, sentence = next_round(
                looks, self._settings.extra_trainings, lambda trial: self._study.trial(trial).name
            )
            self._show(f"finalists: {sentence}")
            if not seeds:
                return
            self._trials |= {trial: self._study.trial(trial) for trial in seeds}
            self._train(seeds)
            looks = self._look(looks, seeds)

    def _look(self, looks: Sequence[Look], seeds: Mapping[int, int]) -> list[Look]:
        """Return the looks with a new one, given the seeds that some finalists have now."""
        counts = {**(looks[-1].seeds if looks else {}), **seeds}
        direction = self._settings.directions[0]
        finalists = kept_finalists(self._study, direction, [*looks, Look(counts)])
        finalists = tuple(one for one in finalists if one.trial in counts)
        tied, chance = judged(self._settings, finalists, len(looks) + 1, self._jobs.costs)
        found = [*looks, Look(counts, tied, chance)]
        keep_looks(self._study, found)
        return found

    def _chosen(self, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Return the best complete trials, as far as they differ."""
        complete = [trial for trial in trials if trial.objectives is not None]
        complete.sort(key=lambda trial: trial.place(self._settings.directions[0]))
        return choose_finalists(complete, self._jobs)

    def _describe_no_result(self) -> str:
        """Return why there is no winner, and the remedy."""
        if self._clock.left is None:
            return "no trial was completed, so there is no winner: raise budget.trials"
        minutes = self._settings.budget.minutes or 0
        return (
            f"no trial was completed within budget.minutes={minutes:g}, so there is no winner: "
            f"repeat the command with budget.minutes={2 * minutes:g}, or choose faster families"
        )

    def _affordable(self, chosen: Sequence[TrialRecord]) -> tuple[int, int]:
        """Return the numbers of finalists, and of seeds of each, that fit into the time left.

        Of equally many trainings, more seeds are preferred to more finalists, if there are two at
        least to be compared. A later start with the same settings uses the same numbers.
        """
        settings = self._settings
        asked = [settings.budget.minutes, settings.finalists, settings.finalist_seeds]
        known = self._study.recall(_SIZE)
        if known is not None and known[2:] == asked and len(chosen) >= known[0]:
            return known[0], known[1]
        figures = 0.0 if self._clock.left is None else _FIGURES_CPU_SECONDS * slowdown()
        known_size = (1, 0) if known is None else (min(known[0], len(chosen)), known[1])
        most = len(chosen), settings.finalist_seeds
        fitting = [
            (finalists, seeds)
            for finalists in range(1, most[0] + 1)
            for seeds in range(1, most[1] + 1)
            if self._fits(chosen[:finalists], seeds, figures)
        ]
        size = max(fitting, key=_preference, default=known_size)
        if size != most:
            what = "none, and the best trial wins as it is" if not size[1] else _times(*size)
            more = _times(*(most if size[1] else (1, 1)))
            self._show(f"finalists: {what}, because {more} would exceed the budget")
        self._study.remember(_SIZE, [*size, *asked])
        return size

    def _drop_substitutes(self) -> None:
        """Forget trials that were used as finalists, whose results are biased by selection."""
        for seeds in self._refits.values():
            seeds.pop(str(self._settings.seed), None)
        self._study.remember(_REFITS, self._refits)

    def _fits(self, trials: Sequence[TrialRecord], seeds: int, figures: float) -> bool:
        """Return whether trainings of these trials, each with its figures' seconds, end in time."""
        left = self._clock.left
        if left is None:
            return True
        slots, first, needed = max(1, len(self.pool.free())), self._settings.seed + 1, 0.0
        for seed in range(first, first + seeds):
            missing = [t for t in trials if "value" not in self.facts((t.number, seed))]
            prepared = (self._study.facts(trial.number).get(PREPARED, ()) for trial in missing)
            each = [
                training_seconds(trial.seconds or 0.0, its, slots) + figures
                for trial, its in zip(missing, prepared, strict=True)
            ]
            needed += round_seconds(each, slots)
        return needed <= left

    def _is_late(self, trial: int | None = None) -> bool:
        """Return whether the time is over, or will be before a further training of a trial ends."""
        left, ended = self._clock.left, self._refits.get(str(trial), {}).values()
        took = [facts.get("seconds", 0.0) for facts in ended if "value" in facts]
        return left is not None and (left <= 0 or left < max(took, default=0.0))

    # Methods that `JobLoop` calls.

    def next(self) -> tuple[int, int] | None:
        first = self._settings.seed + 1
        if self._todo and self._in_time and self._is_late(self._todo[0][0]):
            needed = [key for key in self._todo if key[1] == first]
            if len(needed) < len(self._todo):
                self._show(
                    f"finalists: {len(self._todo) - len(needed)} trainings are left out, because "
                    "the earlier ones took longer than estimated"
                )
            self._todo = deque(needed)
            if needed and self.seconds_to_end() == 0:
                for number, seed in needed:
                    self._show(f"finalist {self._trials[number].name}, seed {seed}: {OVER}")
                self._todo.clear()
        return self._todo.popleft() if self._todo else None

    def seconds_to_end(self) -> float | None:
        found = (facts for seeds in self._refits.values() for facts in seeds.values())
        return self._clock.finals_to_end(any(facts.get("value") is not None for facts in found))

    def job(self, key: tuple[int, int]) -> Job:
        found = self.facts(key)
        changes, run_dir = found.get("changes", ()), found.get("run_dir")
        return self._jobs.finalist(self._trials[key[0]], key[1], changes, run_dir)

    def facts(self, key: tuple[int, int]) -> Mapping[str, Any]:
        return self._refits.get(str(key[0]), {}).get(str(key[1]), {})

    def keep(self, key: tuple[int, int], facts: Mapping[str, Any]) -> None:
        number, seed = map(str, key)
        self._refits.setdefault(number, {}).setdefault(seed, {}).update(facts)
        self._study.remember(_REFITS, self._refits)

    def trial(self, key: tuple[int, int]) -> TrialRecord:
        return self._trials[key[0]]

    def ended(self, key: tuple[int, int], slot: int, ending: Ending) -> None:
        value = ending.metrics.get(self._metric) if ending.state == "complete" else None
        if value is not None or ending.reason != OVER:  # with more minutes, the latter is repeated
            self.keep(key, {"value": value, "figures": _figures(ending.metrics)})
        outcome = (
            ending.reason if value is None else f"{self._name} {metric_text(self._metric, value)}"
        )
        number, seed = key
        self._show(f"finalist {self._trials[number].name}, seed {seed}: {outcome}")

    def tick(self, running: int) -> None:
        self._upkeep()
        counts = {**self._counts, "running": 0}
        for observer in self.observers:
            left = counted(len(self._todo) + running, "training")
            observer.tick(counts, f"{left} of finalists left")

    # The test part.

    def _note_collapses(self) -> None:
        """Record collapsed trainings: a comparison leaves them out, and both name one winner."""
        finalists = kept_finalists(self._study, self._settings.directions[0])
        try:
            verdict, known = verdict_on(self._settings, finalists, 1, self._jobs.costs)
        except ConfigError:  # `_beside_a_constant` reports it
            return
        sound = {run_id for one in verdict.standings for run_id in one.run_ids}  # by some folds
        found = () if verdict.collapses is None else verdict.collapses.run_ids
        for run_id, training in known.items():
            before = self.facts(training).get("collapsed", False)
            now = run_id in found and run_id not in sound
            if now != before:
                self.keep(training, {"collapsed": now})
                if now:
                    name = self._study.trial(training[0]).name
                    self._show(
                        f"finalist {name}, seed {training[1]}: collapsed, excluded from the mean"
                    )

    def _measure_winner(self) -> None:
        """Measure the winner's first sound seed on the test part, unless that was done."""
        self._note_collapses()
        winner = next(iter(kept_finalists(self._study, self._settings.directions[0])), None)
        if winner is None or winner.mean is None:
            return
        known = self._study.recall(TEST) or {}
        if known.get("winner") == winner.trial and (
            known.get("metrics") or not self._settings.evaluate_test
        ):
            return
        record: dict[str, Any] = {"winner": winner.trial, **self._beside_a_constant(winner)}
        self._study.remember(TEST, record)
        if self._settings.evaluate_test:
            record |= self._measure_test(winner)
            self._study.remember(TEST, record)

    def _beside_a_constant(self, winner: Finalist) -> dict[str, str]:
        """Return a caution if the winner is no better than a constant answer, or what that has."""
        try:
            verdict, _ = verdict_on(self._settings, [winner], 1, self._jobs.costs)
        except ConfigError as error:
            self._show(f"the winner was not compared with the constant baseline: {error}")
            return {"caution": "", "constant": ""}
        return {"caution": baseline_sentence(verdict), "constant": constant_sentence(verdict)}

    def _measure_test(self, winner: Finalist) -> dict[str, Any]:
        seed, trial = winner.first_seed, self._study.trial(winner.trial)
        assert seed is not None
        job = self._jobs.test(trial, seed, winner.run_dirs[seed])
        self._display.doing(f"measuring the winner {trial.name} on the test part")
        ending = run_single(self.pool, job, self._check, trial, observers=self.observers)
        if ending.state != "complete":
            self._show(f"the test part was not measured: {ending.reason}")
            return {}
        metrics = {k: v for k, v in ending.metrics.items() if k.startswith("test/")}
        result = dict(ending.result)
        if measured := result.pop("measured", None):
            place = Path(self._settings.output_dir)
            result["measurements"] = count_test_measurement_once(place, **measured)
        return {"metrics": metrics, **result}


def _announcement(names: Sequence[str], seeds: Sequence[int]) -> str:
    """Return "finalists: cnn-1, mlp-2, each with seeds 1, 2"."""
    many, each = "s" * (len(names) > 1), "each " * (len(names) > 1)
    listed = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"finalist{many}: {', '.join(names)}, {each}with {listed}"


def _preference(size: tuple[int, int]) -> tuple[int, bool, int]:
    """Return what is compared of numbers of finalists and of seeds, the best the highest."""
    finalists, seeds = size
    return finalists * seeds, finalists > 1, seeds


def _figures(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key: metrics[key] for key in METRICS if key in metrics}


def _times(finalists: int, seeds: int) -> str:
    """Return "3 with 2 seeds each"."""
    return f"{finalists} with {seeds} seed{'s' * (seeds > 1)}{' each' * (finalists > 1)}"
