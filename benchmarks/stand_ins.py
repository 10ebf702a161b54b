"""Trials that train nothing, for measuring what is around a training."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from src.search.jobs import Channel, Ending, Job

__all__ = ["Empty", "Sleeper", "Tracked"]

_REPORTS = 5


class Empty:
    """Reports five epochs and ends."""

    def __call__(self, job: Job, channel: Channel) -> Ending:
        value = (job.task["number"] % 97) / 97
        for epoch in range(1, _REPORTS + 1):
            if channel.report(epoch, {"val/accuracy": value}) is not None:
                return Ending("pruned", reason="pruned")
        return Ending("complete", {"val/accuracy": value})


class Tracked:
    """The same, as a run that is mirrored in MLflow."""

    def __call__(self, job: Job, channel: Channel) -> Ending:
        from src.config.tracking import TrackingSettings
        from src.tracking.tracker import Tracker

        output_dir = Path(job.task["output_dir"])
        run_id = uuid.uuid4().hex
        tracker = Tracker.start(
            output_dir / "runs" / run_id,
            TrackingSettings(experiment="bench", system_metrics_seconds=None),
            output_dir=output_dir,
            run_id=run_id,
            run_name=f"trial {job.task['number']}",
            parent_run_id="0" * 32,
        )
        tracker.params({"optimizer": {"lr": 0.1}, "overrides": list(job.overrides)})
        channel.note(run_id=run_id, run_dir=str(tracker.run_dir))
        for epoch in range(1, _REPORTS + 1):
            tracker.metrics({"val/accuracy": 0.5, "val/loss": 1.0}, step=epoch)
            channel.report(epoch, {"val/accuracy": 0.5})
        tracker.finish("FINISHED")
        return Ending("complete", {"val/accuracy": 0.5})


class Sleeper:
    """Takes as long as its job says, in five epochs."""

    def __call__(self, job: Job, channel: Channel) -> Ending:
        for epoch in range(1, _REPORTS + 1):
            time.sleep(job.task["seconds"] / _REPORTS)
            channel.report(epoch, {"val/accuracy": 0.5})
        return Ending("complete", {"val/accuracy": 0.5})
