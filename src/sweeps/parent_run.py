"""The sweep's own run in MLflow, and the one mirror process for it and for all its trials."""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..config.checks import to_plain
from ..config.metrics import plain_metric
from ..config.sweep import SweepSettings
from ..machine.interruption import signals_so_far
from ..machine.package import command
from ..machine.status import doing
from ..machine.text import counted
from ..machine.yaml_text import yaml_text
from ..records.run import RunSummary
from ..records.trials import COMPLETE, FAILED, PRUNED, SweepRecord, TrialRecord
from ..reporting.run_note import note
from ..reporting.sweep_report import COMMAND, headline, verdict
from ..runs.folder import drop_checkpoints
from ..search.loop import OVER, Observer
from ..search.study import SweepStudy
from ..storage.digests import checked_json, line_content
from ..storage.files import write_atomically
from ..tracking.addresses import without_password
from ..tracking.mlflow_pages import METRIC_TAG
from ..tracking.spool import Spool
from ..tracking.tracker import NOTE, Tracker
from .tasks import run_with_folds

__all__ = ["ParentRun"]

# Seconds to wait for the mirror, which may still send the runs of the last trials; and after a
# second signal.
_PATIENT_SECONDS = 60.0
_HASTY_SECONDS = 0.5
_SUMMARY = "sweep.json"
_NOT_PARAMS = ("output_dir", "resume", "tracking", "model")


class ParentRun(Observer):
    """The run of a sweep in its folder, and the mirror process of it and of its trials' runs."""

    def __init__(self, settings: SweepSettings, study: SweepStudy, command: str) -> None:
        self.folder = settings.study_folder
        self.page = self.folder / "sweep.html"
        known = study.recall("run_id")
        self.run_id = str(known or uuid.uuid4().hex)
        if known is None:
            study.remember("run_id", self.run_id)
        self._settings = settings
        self._command = command
        self._tracker: Tracker | None = None
        self._written: dict[int, list[Path]] = {}  # by slot, run folders of its job

    @property
    def is_written(self) -> bool:
        """Whether the study's folder has a record of its results."""
        return (self.folder / _SUMMARY).is_file()

    def remark_on_lost(self, trials: int) -> str | None:
        """Return a warning if the study had more trials at its last end than now, else None."""
        record = self.folder / _SUMMARY
        try:
            noted = len(line_content(record.read_bytes())["trials"])
        except (OSError, ValueError, LookupError, TypeError):
            return None  # the end of the sweep writes it again
        if noted <= trials:
            return None
        return (
            f"warning: the study holds {counted(trials, 'trial')}, and {record} tells of "
            f"{noted}: its storage has lost the others. End this and put a copy of it back, "
            "or they are tried anew"
        )

    def open(self, warn: Callable[[str], None]) -> None:
        """Begin the run in MLflow, or resume it."""
        self._warn = warn
        settings = self._settings
        plain = to_plain(settings)
        self._tracker = Tracker.start(
            self.folder,
            # The machine is sampled by the runs of trials, where these compute.
            replace(settings.tracking, system_metrics_seconds=None),
            output_dir=Path(settings.output_dir),
            run_id=self.run_id,
            run_name=f"sweep {settings.study}",
            tags={
                "bakeoff.sweep": settings.study,
                "bakeoff.data": settings.data.name,
                METRIC_TAG: plain_metric(settings.metrics[0]),
                "bakeoff.command": self._command,
                NOTE: note(f"Sweep {settings.study} on {settings.data.name}", self._command, {}),
            },
            warn=warn,
        )
        self._tracker.params({k: v for k, v in plain.items() if k not in _NOT_PARAMS})
        config = self.folder / "config.yaml"
        written = yaml_text(plain)
        write_atomically(config, without_password(written))  # such as that of `storage`
        self._tracker.artifact(config)

    def noted(self, slot: int, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        """Mirror a trial's run, or that of its fold, from its start."""
        for run_dir in (facts.get("run_dir"), facts.get("fold_dir")):
            if run_dir is not None and self._tracker is not None:
                self._written.setdefault(slot, []).append(Path(run_dir))
                self._tracker.follow(Path(run_dir))

    def freed(self, slot: int) -> None:
        """Mirror what the job wrote once more.

        A run that went on elsewhere is over for the mirror, with the end of an earlier attempt,
        until its folder is back.
        """
        for run_dir in self._written.pop(slot, ()):
            if self._tracker is not None:
                self._tracker.follow(run_dir)

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        for path in _ended_from_outside(trial):
            if _record_end(path, trial) and self._tracker is not None:
                self._tracker.follow(path)
        if self._tracker is not None and best is not None and best.objectives is not None:
            name = self._settings.metrics[0]
            self._tracker.metrics({f"best/{name}": best.objectives[0]}, step=trial.number)

    def finish(self, status: str, reason: str | None, record: SweepRecord | None) -> None:
        """End the run as FINISHED, FAILED or KILLED, with the leaderboard and the figures.

        Args:
            status: of the run in MLflow.
            reason: of a failure.
            record: of the sweep; None if it cannot be read, or a second signal forbids to wait.
        """
        tracker, self._tracker = self._tracker, None
        if tracker is None:
            return
        signals = signals_so_far()
        try:
            if record is not None:
                with doing("drawing the figures and pages of the sweep"):
                    self._show(tracker, record, stopped=status == "KILLED")
        finally:  # a full disk costs no more than the figures
            patient = record is not None and signals_so_far() == signals
            tracker.finish(
                status,
                reason,
                wait_seconds=0.0 if record is None else _PATIENT_SECONDS,
                close_seconds=_PATIENT_SECONDS if patient else _HASTY_SECONDS,
            )
            if not tracker.is_sent:
                self._warn(
                    "warning: MLflow does not have all of the sweep yet. The next run sends it, "
                    f"or: {command('replay', f'output_dir={self._settings.output_dir}')}"
                )

    def _show(self, tracker: Tracker, record: SweepRecord, *, stopped: bool) -> None:
        for path in self._write(record, stopped=stopped):
            tracker.artifact(path, "" if path.parent == self.folder else path.parent.name)
        counts = Counter(trial.state for trial in record.trials)
        states = {COMPLETE, PRUNED, FAILED, *counts}
        figures = {f"trials/{state}": float(counts[state]) for state in sorted(states)}
        tracker.metrics(figures | dict(record.test), step=0, final=True)
        results = {name: text for name, text in verdict(record).items() if name != COMMAND}
        tracker.tags({NOTE: note(f"Sweep {headline(record)}", self._command, results)})
        if record.winner is not None:
            winner = {"bakeoff.winner": results["winner"]}
            tracker.tags(winner | {"bakeoff.winner_command": record.commands[record.winner]})

    def _write(self, record: SweepRecord, *, stopped: bool) -> list[Path]:
        """Write the files with the results of the study, and return their paths."""
        # matplotlib takes a second to import, which is not needed before a race.
        from ..reporting.sweep_figures import draw_sweep_figures
        from ..reporting.sweep_report import leaderboard_csv, networks_csv, sweep_page

        contents: dict[str, str | bytes] = {
            _SUMMARY: checked_json(_finite(asdict(record))),
            "leaderboard.csv": leaderboard_csv(record),
            self.page.name: sweep_page(record, stopped=stopped),
        }
        if record.networks:
            contents["networks.csv"] = networks_csv(record)
        for name, content in contents.items():
            write_atomically(self.folder / name, content)
        figures = draw_sweep_figures(self.folder / "figures", record)
        return [*(self.folder / name for name in contents), *figures]


def _finite(plain: Any) -> Any:
    """Return plain values with None for NaN and infinities, which JSON does not have."""
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_finite(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _ended_from_outside(trial: TrialRecord) -> list[Path]:
    """Return the folders of a trial's runs that may lack a record of the trial's end.

    Checkpoints of trials that were stopped by the time limit are removed, as of all pruned trials.
    """
    if trial.run_dir is None or _is_finished(Path(trial.run_dir)):
        return []
    if trial.state == FAILED:
        return [Path(trial.run_dir)]
    if (trial.state, trial.reason) != (PRUNED, OVER):
        return []
    late = [Path(folder) for folder in run_with_folds(trial.run_dir)]
    for folder in late:
        drop_checkpoints(folder)
    return [folder for folder in late if not _is_finished(folder)]


def _is_finished(run_dir: Path) -> bool:
    try:
        return RunSummary.read(run_dir / "summary.json").status == "FINISHED"
    except (ValueError, OSError):
        return False


def _record_end(run_dir: Path, trial: TrialRecord) -> bool:
    """Write the state of an ended trial into its run; return whether anything was written.

    A failed run may have its end already, and one on a machine that was lost has no folder. A
    stopped run may have recorded that it was killed, though as a trial it was pruned.
    """
    if not run_dir.is_dir():
        return False
    try:
        spool = Spool(run_dir, wait_seconds=5.0)
    except (ValueError, OSError):  # gone, or its worker has not ended yet
        return False
    with spool:
        stopped = trial.state == PRUNED
        if spool.finished and not stopped:
            return False
        spool.tags({"bakeoff.state": trial.state})
        spool.end("FINISHED" if stopped else FAILED.upper(), trial.reason)
    return True
