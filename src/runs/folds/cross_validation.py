"""A cross-validation: one run that stands for the whole, and a run of its own for each fold.

Each fold's run is an ordinary one with `cv.fold` set, so it can be repeated by hand, and one that
was interrupted goes on. The whole keeps what they said of the pictures that they had not seen:
predictions of every training and validation picture.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from src.config.checks import ConfigError, to_plain
from src.config.compose import leaves, word_of
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.data.splitting.splits import PARTS
from src.machine.failures import explained
from src.machine.interruption import Interruption
from src.records.run import Predictions, RunSummary
from src.reporting.terminal import format_summary
from src.runs.build import build_fold
from src.runs.candidates.candidate import OnEpoch
from src.runs.candidates.choose import candidate_of
from src.runs.end import Outcome, close_run, outcome_of, show_suspects, ui_command
from src.runs.folder import RunFolder
from src.runs.folds.book import FoldBook
from src.runs.folds.out_of_fold import fold_means, joined, mean_of
from src.runs.resolve import Resolved
from src.runs.seal import changed_since
from src.runs.start import Membership, open_folder, record_start
from src.statistics.label_errors import doubtful_labels
from src.storage.files import write_atomically
from src.tracking.addresses import absolute_uri, public_uri
from src.tracking.mirror_process import MirrorProcess
from src.tracking.tracker import Tracker

__all__ = ["RunOne", "cross_validate", "fold_runs"]

_TABLE = "folds.csv"


class RunOne(Protocol):
    """What carries out the run of one fold: `src.runs.experiment.run_experiment`."""

    def __call__(
        self,
        settings: RunSettings,
        on_epoch: OnEpoch | None = None,
        *,
        command: str | None = None,
        data: PictureData | None = None,
        part_of: Membership | None = None,
    ) -> RunSummary | None: ...


def cross_validate(
    settings: RunSettings,
    data: PictureData,
    run_one: RunOne,
    on_fold: OnEpoch | None,
    *,
    command: str,
    part_of: Membership | None,
) -> RunSummary:
    """Train every fold that has not ended yet, and bring together what came of them.

    What the settings leave open is measured once, on the first fold.

    Args:
        settings: with `cv.folds`; with `resume` set to the folder of a cross-validation, that goes
            on with the folds that are missing.
        data: divided into its usual parts.
        run_one: carries out a fold's run.
        on_fold: called with (fold from 0, metrics) after each fold; what it raises ends the run.
        command: the command line that repeats the whole.
        part_of: what the whole belongs to, or None.

    Returns:
        the summary of the whole; its metrics are means over the folds.

    Raises:
        ConfigError: the input is wrong, or the pictures are not those of the run that goes on.
        Exception: as `run_experiment`.
    """
    whole = settings.cv
    settings = replace(settings, evaluate_test=False, cv=replace(whole, fold=1))
    resolved = candidate_of(settings, build_fold(settings, data)).resolved
    for note in resolved.notes:
        print(note)
    early = settings.trainer.early_stopping is not None
    if not settings.is_idle("trainer.final_weights") and (
        early or settings.trainer.final_weights == "best"
    ):
        print(
            f"trainer.{'early_stopping' if early else 'final_weights'}: it looks at the fold that "
            "is held out, so that the figures of the folds flatter a little"
        )
    chosen = _differences(settings, resolved.settings)
    settings = replace(resolved.settings, cv=whole)
    folder = open_folder(settings)
    book = FoldBook.open(folder, [*shlex.split(command), *chosen])
    run = _CrossValidation(replace(resolved, settings=settings), folder, data, book, part_of)
    return run.carry_out(run_one, on_fold)


def fold_runs(whole: RunFolder) -> list[RunFolder]:
    """The runs of a cross-validation's folds, as far as they are still there."""
    book = FoldBook.open(whole, [])
    return [run for number in sorted(book.runs) if (run := book.run(number)) is not None]


def _differences(asked: RunSettings, chosen: RunSettings) -> list[str]:
    """Words that say what was chosen, so that a fold repeated by hand does not choose again."""
    before, after = leaves(to_plain(asked)), leaves(to_plain(chosen))
    return [word_of(key, value) for key, value in after.items() if before[key] != value]


@dataclass
class _CrossValidation:
    """The state of a cross-validation between its steps."""

    resolved: Resolved
    folder: RunFolder
    data: PictureData
    book: FoldBook
    part_of: Membership | None
    started: float = field(default_factory=time.perf_counter)
    ended: dict[int, RunSummary] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def settings(self) -> RunSettings:
        return self.resolved.settings

    def carry_out(self, run_one: RunOne, on_fold: OnEpoch | None) -> RunSummary:
        """Train, join and measure, and write the summary however it ends."""
        folder, settings = self.folder, self.settings
        mirror = self._mirror()
        command = shlex.join(self.book.command)
        tracker = record_start(self.resolved, folder, self.data, command, self.part_of, mirror)
        if mirror is not None:
            mirror.replay(folder.output_dir, *self._where)
        print(self._headline())
        try:
            with Interruption() as interruption:
                try:
                    with (
                        outcome_of(folder, alone=self.part_of is None) as outcome,
                        explained(folder.path),
                    ):
                        for number in range(1, settings.cv.count + 1):
                            self._fold(number, run_one, tracker, mirror)
                            if on_fold is not None:
                                on_fold(number - 1, self.ended[number].metrics)
                        self._bring_together(tracker)
                finally:
                    interruption.defer(True)  # the records are written to the end
                    with explained(folder.path):
                        summary = self._close(tracker, outcome)
                    interruption.defer(False)
                interruption.check()
        finally:
            if mirror is not None:
                mirror.close()
        if self.part_of is None:
            print(format_summary(summary, ui_command(settings)))
        return summary

    def _mirror(self) -> MirrorProcess | None:
        """One process sends the whole and its folds, unless that of a sweep does."""
        if self.part_of is not None or not self.settings.tracking.enabled:
            return None
        return MirrorProcess(self.folder.path / "tracking" / "mirror.log")

    @property
    def _where(self) -> tuple[str, str | None]:
        """Where runs are sent, and what is written down of it."""
        uri, output_dir = self.settings.tracking.uri, self.folder.output_dir
        return absolute_uri(uri, output_dir), public_uri(uri, output_dir)

    def _headline(self) -> str:
        cv, split = self.settings.cv, self.data.split
        times = "" if cv.repeats == 1 else f", {cv.repeats} times"
        return (
            f"cross-validation of {self.settings.model.name} on {self.settings.data.name}: "
            f"{cv.folds} folds of {len(split.train) + len(split.val):,} pictures{times}\n"
            f"run: {self.folder.path}"
        )

    def _fold(
        self, number: int, run_one: RunOne, tracker: Tracker, mirror: MirrorProcess | None
    ) -> None:
        """Train one fold, or read what came of it at an earlier start."""
        before = self.book.run(number)
        summary = None if before is None else _finished(before)
        if summary is None:
            settings = self.settings
            settings = replace(
                settings,
                cv=replace(settings.cv, fold=number),
                resume=None if before is None else str(before.path),
                # Drawn once for all folds, of which none is the model to use.
                tracking=replace(settings.tracking, log_model=False, figures=False),
            )
            summary = run_one(
                settings,
                command=shlex.join(self.book.words(number)),
                data=build_fold(settings, self.data),
                part_of=self._membership(number, mirror),
            )
        if summary is None:
            raise TypeError("a fold is trained on one device")
        self.ended[number] = summary
        measured = {k: v for k, v in summary.metrics.items() if k.startswith("val/")}
        accuracy = summary.metrics["val/accuracy"]
        print(
            f"fold {number} of {self.settings.cv.count}: {100 * accuracy:.1f} % right", flush=True
        )
        tracker.metrics({f"fold/{k.removeprefix('val/')}": v for k, v in measured.items()}, number)

    def _membership(self, number: int, mirror: MirrorProcess | None) -> Membership:
        part_of = self.part_of

        def announce(run: RunFolder) -> None:
            self.book.add(number, run)
            if part_of is not None:
                part_of.announce_fold(run)
            if mirror is not None:
                mirror.follow(run.path, *self._where)

        name = self.folder.name if part_of is None else part_of.name
        return Membership(
            parent_run_id=self.folder.run_id,
            name=f"{name}-fold{number:02d}",
            tags={"bakeoff.fold": str(number)},
            announce=announce,
        )

    def _bring_together(self, tracker: Tracker) -> None:
        """Predictions, figures and means of all folds."""
        settings, folder = self.settings, self.folder
        folds = settings.cv.folds or 0
        runs = [self.book.run(number) for number in sorted(self.ended)]
        said = [Predictions.read(run.predictions / "val.parquet") for run in runs if run]
        repeats = [joined(said[i : i + folds]) for i in range(0, len(said), folds)]
        out_of_fold = mean_of(repeats)
        written = {"val": out_of_fold}
        if len(repeats) > 1:
            written |= {f"val-repeat{r}": one for r, one in enumerate(repeats, start=1)}
        for name, predictions in written.items():
            path = folder.predictions / f"{name}.parquet"
            predictions.write(path)
            tracker.artifact(path, "predictions")
        table = folder.path / _TABLE
        write_atomically(table, self._table())
        tracker.artifact(table)
        self.metrics = fold_means(self._by_metric(), folds)
        if settings.tracking.figures:
            self._draw(tracker, out_of_fold)
        tracker.metrics(self.metrics, step=0, final=True)

    def _draw(self, tracker: Tracker, out_of_fold: Predictions) -> None:
        # matplotlib takes a second to import, which no training should wait for.
        from src.reporting.run_figures import draw_run_figures

        folder, read = self.folder, self.data.pictures.read
        for figure in draw_run_figures(folder.figures, {}, {"val": out_of_fold}, read, None):
            tracker.artifact(figure, "figures")
        parts = self.data.split.parts
        doubtful = [
            replace(suspect, part=PARTS[parts[suspect.index]])
            for suspect in doubtful_labels({"val": out_of_fold})
        ]
        show_suspects(folder, tracker, [*self.data.suspects, *doubtful], read)

    def _by_metric(self) -> dict[str, list[float]]:
        """The values of all folds that ended, of the metrics that each of them has."""
        ended = [self.ended[number].metrics for number in sorted(self.ended)]
        common = [key for key in ended[0] if all(key in one for one in ended)] if ended else []
        return {key: [one[key] for one in ended] for key in common}

    def _table(self) -> str:
        """A line for each fold, as CSV."""
        values, folds = self._by_metric(), self.settings.cv.folds or 0
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["fold", "repeat", "run", *values])
        for place, number in enumerate(sorted(self.ended)):
            row = [number, 1 + place // folds, self.book.runs[number]]
            rows.writerow([*row, *(one[place] for one in values.values())])
        return text.getvalue()

    def _close(self, tracker: Tracker, outcome: Outcome) -> RunSummary:
        if self.part_of is not None:
            tracker.metrics(self.part_of.figures(), step=0, final=True)
            tracker.tags({"bakeoff.state": outcome.state})
        return close_run(self.folder, tracker, self._summary(outcome), outcome)

    def _summary(self, outcome: Outcome) -> RunSummary:
        settings = self.settings
        ended = [self.ended[number] for number in sorted(self.ended)]
        return RunSummary(
            run_id=self.folder.run_id,
            status=outcome.status,
            name=self.folder.name,
            model=settings.model.name,
            data=settings.data.name,
            seed=settings.seed,
            split_fingerprint=self._fingerprint(ended),
            metrics=self.metrics,
            num_parameters=ended[0].num_parameters if ended else None,
            duration_seconds=time.perf_counter() - self.started,
            reason=outcome.reason,
            run_dir=str(self.folder.path),
            command=shlex.join(self.book.command),
            folds=self._by_metric(),
            start=ended[0].start if ended else None,
            weights=ended[0].weights if ended else None,
        )

    def _fingerprint(self, ended: Sequence[RunSummary]) -> str | None:
        """Of the division into folds: equal for whoever held out the same pictures together."""
        if len(ended) < self.settings.cv.count:
            return None
        divisions = "\n".join(str(one.split_fingerprint) for one in ended)
        return hashlib.sha256(divisions.encode()).hexdigest()


def _finished(run: RunFolder) -> RunSummary | None:
    """The summary of a fold's run that has all it is asked for; None where it must go on."""
    try:
        summary = RunSummary.read(run.summary)
    except (OSError, ValueError):
        return None
    if (changed := changed_since(run.path)) is not None:
        raise ConfigError(f"resume: {changed}: put the original back, or begin anew.")
    kept = (run.predictions / "val.parquet").is_file()
    return summary if summary.status == "FINISHED" and kept else None
