"""What workers run in these tests: jobs of a few lines, without torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from src.machine.interruption import Interrupted as Signalled
from src.machine.interruption import Interruption
from src.search.jobs import Channel, Ending, Job

# As it was before anything was imported here.
SEEN = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
# On a cluster: that of the Ray node on which this runs, and what the driver passes on.
_PLACE = {"node": os.environ.get("RAY_RAYLET_PID"), "folder": os.getcwd()}
_PLACE["BAKEOFF_PLUGINS"] = os.environ.get("BAKEOFF_PLUGINS")
# What has imported this: the worker, or what forks the workers.
_PLACE["importer"] = str(os.getpid())


class Interrupted(Exception):
    pass


class Tiny:
    """Does what a job's `do` says."""

    def __call__(self, job: Job, channel: Channel) -> Ending:
        return getattr(self, f"_{job.task.get('do', 'train')}")(job, channel)

    def _see(self, job: Job, channel: Channel) -> Ending:
        heavy = [name for name in ("torch", "numpy", "optuna") if name in sys.modules]
        return Ending("complete", result={"seen": SEEN, "heavy": heavy})

    def _train(self, job: Job, channel: Channel) -> Ending:
        """`epochs` that take `seconds` each, then `write`; `die` with a signal at an epoch."""
        signal.signal(signal.SIGTERM, _interrupt)
        task = job.task
        try:
            begin = int(task.get("resume") or 0) + 1
            channel.note(pid=os.getpid(), **_PLACE, **SEEN)
            print("a line of output", flush=True)
            for epoch in range(begin, (job.folds or job.epochs) + 1):
                time.sleep(task.get("seconds", 0.0))
                channel.note(run_dir=str(epoch - 1))
                if task.get("die") == epoch:
                    os.kill(os.getpid(), signal.SIGKILL)
                value = task.get("value", 1.0) * epoch
                if stop := channel.report(epoch, {"val/accuracy": value, "other": 1.0}):
                    return Ending("pruned", reason=stop)
            time.sleep(task.get("write", 0.0))
            return Ending("complete", {"val/accuracy": task.get("value", 1.0), "other": 1.0})
        except Interrupted:
            return Ending("interrupted", reason="stopped")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _sleep(self, job: Job, channel: Channel) -> Ending:
        """Report nothing; `deaf` to what it is asked meanwhile, or `frail`, if it is there."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN if job.task["deaf"] else _interrupt)
        try:
            time.sleep(job.task["seconds"])
            return Ending("complete", {"val/accuracy": 1.0})
        except Interrupted:
            if "frail" in job.task:
                raise RuntimeError("no such thing") from None
            return Ending("interrupted", reason="stopped")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _listen(self, job: Job, channel: Channel) -> Ending:
        """Report nothing, and note why it was interrupted."""
        try:
            with Interruption():
                channel.note(pid=os.getpid())
                time.sleep(60)
        except Signalled as stop:
            channel.note(why=str(stop))
            return Ending("interrupted", reason=str(stop))
        return Ending("complete", {"val/accuracy": 1.0})

    def _save(self, job: Job, channel: Channel) -> Ending:
        """Save for a second once it is asked to stop; of who insists nothing is saved."""
        try:
            with Interruption() as interruption:
                interruption.defer(True)
                channel.note(pid=os.getpid())
                while not interruption.pending:
                    time.sleep(0.01)
                channel.note(saving=True)
                time.sleep(1.0)
        except Signalled:
            return Ending("interrupted", reason="not saved")
        return Ending("interrupted", reason="saved")

    def _say(self, job: Job, channel: Channel) -> Ending:
        channel.note(doing="describing pictures")
        return Ending("complete")

    def _starve(self, job: Job, channel: Channel) -> Ending:
        return Ending("starved", reason="the disk is full")

    def _die_once(self, job: Job, channel: Channel) -> Ending:
        marker = Path(job.task["marker"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Ending("complete")

    def _fail(self, job: Job, channel: Channel) -> Ending:
        raise RuntimeError("no such thing")

    def _smaller(self, job: Job, channel: Channel) -> Ending:
        channel.note(run_dir="large" if "half" not in job.overrides else "small")
        channel.report(1, {"val/accuracy": 0.4 if "half" not in job.overrides else 0.3})
        if "half" in job.overrides:
            return Ending("complete", {"val/accuracy": 0.5})
        return Ending("failed", reason="too little memory", again={"changes": ["half"]})

    def _hang(self, job: Job, channel: Channel) -> Ending:
        """With a child, as a loader has; nobody hears the interruption."""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        channel.note(pid=os.getpid(), child=child.pid)
        time.sleep(600)
        return Ending("complete")


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no accelerator")


def _interrupt(*_: object) -> None:
    raise Interrupted
