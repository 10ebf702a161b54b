"""What stands for others in these tests: jobs that train nothing, without torch, and a clock."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

from src.search.jobs import Channel, Ending, Job
from src.sweeps.prepared import Prepared
from src.sweeps.tasks import MeasureTest, Prepare, Train, read_task

_EPOCHS = 3
# How well each family's trials end.
_LEVELS = {"embedding": 0.9, "mlp": 0.8, "efficientnet_lite0": 0.7}


class Clock:
    """Moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class StandIn:
    """Notes in `log` of the current folder which tasks came, in their order.

    The first attempt of finalists with seed 1 dies, once, where there is a file `deadly`; with a
    file `slow` the mlp takes a minute an epoch, or half with `divides` and two threads, with a file
    `large` unless pictures are small. With a file `huge` no memory is large enough for it, with
    `kills mlp` measuring it ends the worker, with `cut` more time would choose another frozen
    network, with `crop` frozen networks crop their pictures, with `intervals` accuracies have
    one, and with `broken` trials fail.
    """

    def __call__(self, job: Job, channel: Channel) -> Ending:
        task = read_task(job.task)
        family = next((override.partition("=")[2] for override in job.overrides), "")
        output_dir = Path(task.places[0].partition("=")[2])
        with (output_dir / "log").open("a") as log:
            log.write(f"{type(task).__name__} {family}\n")
        match task:
            case Prepare() if (output_dir / f"kills {family}").exists():
                os.kill(os.getpid(), signal.SIGKILL)
                raise AssertionError
            case Prepare():
                frozen = family == "embedding"
                small = any(override.startswith("data.image_size=") for override in job.overrides)
                large = (output_dir / "large").exists() and not small
                each = 60.0 if large or (output_dir / "slow").exists() else 0.01
                if (output_dir / "divides").exists() and "runtime.threads=2" in job.overrides:
                    each /= 2
                found = Prepared([], 1 if frozen else _EPOCHS, 0.0 if frozen else each, frozen)
                if frozen:
                    limit = task.seconds if (output_dir / "cut").exists() else None
                    networks = [{"name": "n", "taken": True, "side": 96}]
                    overrides = [f"model.input_size={96 if limit else 128}"]
                    if (output_dir / "crop").exists():
                        overrides += ["data.fit=crop"]
                    found = replace(found, networks=networks, limit=limit, overrides=overrides)
                elif (output_dir / "huge").exists():
                    notes = ["left out: there is not enough memory"]
                    found = replace(found, affordable=False, seconds_per_epoch=0.0, notes=notes)
                return Ending("complete", result=found.__dict__)
            case Train() if (output_dir / "broken").exists():
                return Ending("failed", reason="no such thing")
            case Train():
                return self._train(task, job, channel, _LEVELS[family], output_dir)
            case MeasureTest():
                # As a worker that shares no disk, which counts elsewhere.
                measured = {"fingerprint": "f", "run_id": task.run_dir}
                result = {"measurements": 7, "run_dir": task.run_dir, "measured": measured}
                return Ending("complete", {"test/accuracy": 0.85, "val/accuracy": 0.9}, result)

    def _train(
        self, task: Train, job: Job, channel: Channel, level: float, output_dir: Path
    ) -> Ending:
        channel.note(run_id=task.name, run_dir=str(output_dir / task.name))
        deadly = output_dir / "deadly"
        for epoch in range(1, job.epochs + 1):
            if "seed=1" in job.overrides and epoch == 1 and deadly.exists():
                deadly.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            if stop := channel.report(epoch, self._metrics(task, level - 0.1 / epoch)):
                return Ending("pruned", reason=stop)
        run_dir, metrics = str(output_dir / task.name), self._metrics(task, level)
        if (output_dir / "intervals").exists():
            ends = {"val/accuracy_low": level - 0.04, "val/accuracy_high": level + 0.04}
            metrics |= ends
        return Ending("complete", metrics, {"run_dir": run_dir})

    @staticmethod
    def _metrics(task: Train, level: float) -> dict[str, float]:
        """With costs whoever is right more often costs more."""
        costs = {} if task.costs is None else {"val/cost": level * task.costs["0"]["1"]}
        return {"val/accuracy": level, **costs}
