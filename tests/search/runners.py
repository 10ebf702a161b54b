"""What workers run in these tests: jobs of a few lines, without torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.search.workers.process import Ending, Say

# As it was before anything was imported here.
SEEN = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}


class Interrupted(Exception):
    pass


class Tiny:
    """Does what a job's `do` says."""

    def __init__(self) -> None:
        self.kept = bytearray()

    def __call__(self, job: Mapping[str, Any], say: Say) -> Ending:
        return getattr(self, f"_{job['do']}")(job, say)

    def _see(self, job: Mapping[str, Any], say: Say) -> Ending:
        heavy = [name for name in ("torch", "numpy", "optuna") if name in sys.modules]
        return Ending("complete", {"seen": SEEN, "heavy": heavy, "folder": os.getcwd()})

    def _train(self, job: Mapping[str, Any], say: Say) -> Ending:
        """`epochs` that take `seconds` each; `die` with a signal at an epoch, once if `once`."""
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            begin = 1 if job.get("resume") is None else int(job["resume"]) + 1
            say.note(run_id=f"{job.get('number')}", pid=os.getpid())
            for epoch in range(begin, job["epochs"] + 1):
                time.sleep(job.get("seconds", 0.0))
                say.note(run_dir=str(epoch - 1))
                if job.get("die") == epoch:
                    os.kill(os.getpid(), signal.SIGKILL)
                value = job["value"] * epoch
                if stop := say.report(epoch, {"val/accuracy": value, "other": 1.0}):
                    return Ending("pruned", reason=stop)
            return Ending("complete", {"metrics": {"val/accuracy": job["value"], "other": 1.0}})
        except Interrupted:
            return Ending("interrupted", reason="stopped")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _sleep(self, job: Mapping[str, Any], say: Say) -> Ending:
        """Report nothing; `deaf` to what it is asked meanwhile."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN if job["deaf"] else _interrupt)
        try:
            time.sleep(job["seconds"])
            return Ending("complete", {"metrics": {"val/accuracy": 1.0}})
        except Interrupted:
            return Ending("interrupted", reason="stopped")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _train_folds(self, job: Mapping[str, Any], say: Say) -> Ending:
        return self._train({**job, "epochs": job["folds"]}, say)

    def _starve(self, job: Mapping[str, Any], say: Say) -> Ending:
        return Ending("starved", reason="the disk is full")

    def _die_once(self, job: Mapping[str, Any], say: Say) -> Ending:
        marker = Path(job["marker"])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Ending("complete")

    def _fail(self, job: Mapping[str, Any], say: Say) -> Ending:
        raise RuntimeError("no such thing")

    def _smaller(self, job: Mapping[str, Any], say: Say) -> Ending:
        say.note(run_dir="large" if "half" not in job["words"] else "small")
        if "half" in job["words"]:
            return Ending("complete", {"metrics": {"val/accuracy": 0.5}})
        return Ending("failed", reason="too little memory", again={"changes": ["half"]})

    def _hang(self, job: Mapping[str, Any], say: Say) -> Ending:
        """With a child, as a loader has; nobody hears the interruption."""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        say.note(pid=os.getpid(), child=child.pid)
        time.sleep(600)
        return Ending("complete")

    def _grow(self, job: Mapping[str, Any], say: Say) -> Ending:
        self.kept += bytes(job["bytes"])
        return Ending("complete")


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise RuntimeError("no accelerator")


def _interrupt(*_: object) -> None:
    raise Interrupted
