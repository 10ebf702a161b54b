"""A cross-validation: one run for the whole, and a run of its own for each fold.

Each fold's run is an ordinary one with `cv.fold` set, which can be repeated by hand and resumed.
The whole keeps the out-of-fold predictions of every training and validation picture.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config.checks import ConfigError, input_of, to_plain
from ..config.nested import leaves
from ..config.overrides import override_of
from ..config.schema import RunSettings
from ..data.loading.picture_data import PictureData
from ..data.splitting.splits import PARTS
from ..machine.failures import explained
from ..machine.interruption import Interruption
from ..machine.text import csv_text
from ..records.run import Predictions, RunSummary
from ..reporting.formatting import primary_text
from ..statistics.label_errors import doubtful_labels
from ..storage.files import write_atomically
from ..tracking.tracker import Tracker
from .build import build_fold, stated_batch_size
from .candidates.candidate import decided_by, settle_thresholds
from .candidates.choose import candidate_of
from .fold_records import FoldBook, fold_means, joined, mean_of
from .folder import RunFolder, finished_summary, open_folder
from .lifecycle import ActiveRun, ParentLink, RunRequest
from .seal import changed_since

__all__ = ["cross_validate"]

_TABLE = "folds.csv"
RunFold = Callable[[RunSettings, PictureData, RunRequest], RunSummary]


def cross_validate(
    settings: RunSettings,
    data: PictureData,
    request: RunRequest,
    ended: RunSummary | None,
    run_fold: RunFold,
) -> RunSummary:
    """Train every fold that has not ended yet, and join their results.

    What the settings leave open is measured once, on the first fold.

    Args:
        settings, data: of the whole.
        request: hears of each fold as of an epoch.
        ended: as of `ActiveRun`.
        run_fold: trains one fold.

    Returns:
        The summary of the whole; its metrics are means over the folds.

    Raises:
        ConfigError: the input is wrong.
        Exception: a fold failed; the summary is written.
    """
    whole = settings.cv
    settings = replace(settings, evaluate_test=False, cv=replace(whole, fold=1))
    with explained(Path(settings.output_dir), stated_batch_size(settings)):
        candidate = candidate_of(settings, build_fold(settings, data))
    resolved, about = candidate.resolved, candidate.description()
    for note in resolved.notes:
        print(note)
    early = settings.trainer.early_stopping is not None
    chooses = early or settings.trainer.final_weights == "best"
    if chooses and not settings.is_idle("trainer.final_weights"):
        print(
            f"trainer.{'early_stopping' if early else 'final_weights'}: it looks at the fold that "
            "is held out, so that the figures of the folds flatter a little"
        )
    # What was chosen, so that a fold that is repeated by hand does not choose again.
    before, after = leaves(to_plain(settings)), leaves(to_plain(resolved.settings))
    chosen = [override_of(key, value) for key, value in after.items() if before[key] != value]
    settings = replace(resolved.settings, cv=whole)
    folder = open_folder(settings)
    with input_of("resume"):
        book = FoldBook.open(folder, [*shlex.split(request.command), *chosen])
    return _CrossValidation(
        replace(resolved, settings=settings),
        folder,
        data,
        replace(request, command=shlex.join(book.command)),
        book,
        run_fold,
        about,
        ended=ended,
    ).carry_out()


@dataclass(eq=False)
class _CrossValidation(ActiveRun):
    book: FoldBook
    run_fold: RunFold
    description: str
    _ended: dict[int, RunSummary] = field(default_factory=dict, init=False)

    def headline(self) -> str:
        cv, split = self.settings.cv, self.data.split
        times = "" if cv.repeats == 1 else f", {cv.repeats} times"
        return (
            f"cross-validation of {self.settings.model.name} on {self.settings.data.name}: "
            f"{cv.folds} folds of {len(split.train) + len(split.val):,} pictures "
            f"{self.format_text()}{times}, {self.description}\n"
            f"run: {self.folder.path}"
        )

    def work(self, tracker: Tracker, interruption: Interruption) -> None:
        """Train each fold, then join predictions and metrics and draw the figures."""
        for number in range(1, self.settings.cv.count + 1):
            self._train_fold(number, tracker)
            if self.request.on_epoch is not None:
                self.request.on_epoch(number - 1, self._ended[number].metrics)
        self._join(tracker)

    def prepare_folder(self) -> None:
        super().prepare_folder()
        self.book.write()  # with the first command, which nothing else keeps

    def completed(self, summary: RunSummary) -> RunSummary:
        ended = [self._ended[number] for number in sorted(self._ended)]
        if len(ended) == self.settings.cv.count:
            # Of the division into folds: equal for runs that hold out the same pictures together.
            divisions = "\n".join(str(one.split_fingerprint) for one in ended)
            fingerprint = hashlib.sha256(divisions.encode()).hexdigest()
            summary = replace(summary, split_fingerprint=fingerprint)
        first = ended[0] if ended else summary
        return replace(
            summary,
            num_parameters=first.num_parameters,
            folds=self._values(),
            start=first.start,
            weights=first.weights,
        )

    def _train_fold(self, number: int, tracker: Tracker) -> None:
        """Train one fold, or read the summary that it has from an earlier start."""
        before = self.book.run(number)
        summary = None
        if before is not None:
            summary = finished_summary(before)
            if (changed := changed_since(before.path)) is not None:
                raise ConfigError(f"resume: {changed}: put the original back, or begin anew.")
            if not (before.predictions / "val.parquet").is_file():
                summary = None
        if summary is None:
            whole = self.settings
            settings = replace(
                whole,
                cv=replace(whole.cv, fold=number),
                resume=None if before is None else str(before.path),
                # Drawn once for all folds, of which none is the model to use.
                tracking=replace(whole.tracking, log_model=False, figures=False),
            )
            line = shlex.join(self.book.fold_command(number))
            request = RunRequest(command=line, parent=self._link(number, tracker))
            summary = self.run_fold(settings, build_fold(settings, self.data), request)
        self._ended[number] = summary
        primary = primary_text(summary.metrics, "val")
        if primary is None:
            primary = f"{100 * summary.metrics['val/accuracy']:.1f} % right"
        print(f"fold {number} of {self.settings.cv.count}: {primary}", flush=True)
        measured = {k: v for k, v in summary.metrics.items() if k.startswith("val/")}
        tracker.metrics({f"fold/{k.removeprefix('val/')}": v for k, v in measured.items()}, number)

    def _link(self, number: int, tracker: Tracker) -> ParentLink:
        parent = self.parent

        def announce(run: RunFolder) -> None:
            self.book.add(number, run)
            if parent is not None:
                parent.announce_fold(run)
            tracker.follow(run.path)

        name = self.folder.name if parent is None else parent.name
        return ParentLink(
            parent_run_id=self.folder.run_id,
            name=f"{name}-fold{number:02d}",
            tags={"bakeoff.fold": str(number)},
            announce=announce,
        )

    def _join(self, tracker: Tracker) -> None:
        """Write out-of-fold predictions, means and figures of all folds."""
        folds = self.settings.cv.folds or 0
        runs = [self.book.run(number) for number in sorted(self._ended)]
        held_out = [Predictions.read(run.predictions / "val.parquet") for run in runs if run]
        repeats = [joined(held_out[i : i + folds]) for i in range(0, len(held_out), folds)]
        out_of_fold = mean_of(repeats)
        data = self.settings.data
        thresholds = settle_thresholds(self.folder, data.best_for, out_of_fold, self.data.costs)
        if thresholds is not None:
            out_of_fold = decided_by(thresholds, out_of_fold, data.chosen_for)
        self.keep_predictions("val", out_of_fold, tracker)
        for repeat, predictions in enumerate(repeats if len(repeats) > 1 else (), start=1):
            self.keep_predictions(f"val-repeat{repeat}", predictions, tracker)
        table = self.folder.path / _TABLE
        write_atomically(table, self._table())
        tracker.artifact(table)
        self.metrics = fold_means(self._values(), folds)
        if self.settings.tracking.figures:
            parts = self.data.split.parts
            doubtful = [
                replace(suspect, part=PARTS[parts[suspect.index]])
                for suspect in doubtful_labels({"val": out_of_fold})
            ]
            self.draw(tracker, {"val": out_of_fold}, doubtful)
        tracker.metrics(self.metrics, step=0, final=True)

    def _values(self) -> dict[str, list[float]]:
        """Return the values of all folds that ended, of the metrics that each of them has."""
        ended = [self._ended[number].metrics for number in sorted(self._ended)]
        common = [key for key in ended[0] if all(key in one for one in ended)] if ended else []
        return {key: [one[key] for one in ended] for key in common}

    def _table(self) -> str:
        """Return a row for each fold, as CSV."""
        values, folds = self._values(), self.settings.cv.folds or 0
        rows = (
            (
                number,
                1 + place // folds,
                self.book.runs[number],
                *(v[place] for v in values.values()),
            )
            for place, number in enumerate(sorted(self._ended))
        )
        return csv_text(("fold", "repeat", "run", *values), rows)
