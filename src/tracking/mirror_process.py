"""The trainer's end of the mirror process: start it, tell it, hear from it, never wait for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from src.machine.checkout import import_environment

__all__ = ["MirrorProcess", "Mirrored"]

# A mirror that dies again and again (no memory, a broken installation) is left dead.
_MOST_STARTS = 3
# What is on its way may arrive; a server that does not answer is not waited for.
_CLOSE_SECONDS = 5.0
_ENVIRONMENT = {
    # Without this the current folder would come first, and it may have a `src` of its own.
    "PYTHONSAFEPATH": "1",
    # It computes nothing: no accelerator, no thread pools.
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Mirrored:
    """What the mirror has said of one run.

    Attributes:
        mlflow_run_id: once the run exists in MLflow.
        done: everything is there, or given up.
        away: why the server could not be reached, since the last command.
        warnings: not yet shown.
    """

    mlflow_run_id: str | None = None
    done: bool = False
    away: str | None = None
    warnings: list[str] = field(default_factory=list)


class MirrorProcess:
    """One mirror process for any number of runs, one after another or at the same time.

    To be used by one thread.

    It may be started before the expensive imports of a training, since it has some seconds of its
    own. If it dies it is started anew with the next command; nothing is lost, because it only
    reads what is in the run folders.

    Args:
        log: file for what the process prints (nothing, as a rule); None for nowhere.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._open: dict[Path, dict[str, Any]] = {}
        self._runs: dict[Path, Mirrored] = {}
        self._heard = threading.Condition()

    def prepare(self, uri: str) -> None:
        """Open (for a new SQLite file: make) the database, so that it is ready when needed."""
        self._tell({"do": "prepare", "uri": uri})

    def follow(self, run_dir: Path, uri: str, target: str | None) -> None:
        """Send this run's spool from now on until its last word."""
        with self._heard:
            self._runs[run_dir] = Mirrored()
        command = {"do": "follow", "run_dir": str(run_dir), "uri": uri, "target": target}
        self._tell(command)
        self._open[run_dir] = command

    def replay(self, output_dir: Path, uri: str, target: str | None) -> None:
        """Send the earlier runs under `output_dir` that were meant for `target`, in the gaps."""
        self._tell({"do": "replay", "output_dir": str(output_dir), "uri": uri, "target": target})

    def warnings(self, run_dir: Path) -> list[str]:
        """What the mirror warned of since the last call."""
        with self._heard:
            run = self._runs.get(run_dir, Mirrored())
            warnings, run.warnings = run.warnings, []
        return warnings

    def wait(self, run_dir: Path, seconds: float) -> Mirrored:
        """Wait until a finished run is mirrored, the server is away, or the time is over.

        The run is forgotten here; it is not in the mirror, which goes on with it.
        """
        with self._heard:
            self._runs.setdefault(run_dir, Mirrored()).away = None
        self._tell({"do": "flush"})
        deadline = time.monotonic() + seconds
        with self._heard:
            run = self._runs[run_dir]
            while not run.done and run.away is None and self._alive():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._heard.wait(min(left, 0.5))  # a process that died says nothing
            self._runs.pop(run_dir)
            self._open.pop(run_dir, None)
        return run

    def close(self, seconds: float = _CLOSE_SECONDS) -> bool:
        """End the process; returns whether it had sent all that it had.

        What it has not sent is in the run folders for the next run or for a replay: no process
        outlives the command that started it.

        Args:
            seconds: that it may take to finish what it has.
        """
        if self._alive():
            # Not by the pipe's end alone: children that the trainer forked hold it open.
            self._tell({"do": "end"})
        process, self._process = self._process, None
        self._open.clear()
        if process is None:
            return True
        assert process.stdin is not None
        with suppress(OSError):  # it died with a command in the pipe
            process.stdin.close()
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:  # also where a signal ends the waiting
            if process.poll() is None:
                process.kill()
                process.wait()

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _tell(self, command: dict[str, Any]) -> None:
        # What was open when a process died, its successor is told again.
        commands = [command] if self._alive() else [*self._open.values(), command]
        try:
            if not self._alive() and not self._start():
                return
            assert self._process is not None and self._process.stdin is not None
            for line in commands:
                self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return  # it died just now: the next command starts another

    def _start(self) -> bool:
        if self._starts == _MOST_STARTS:
            return False
        self._starts += 1
        log: IO[bytes] | int = subprocess.DEVNULL
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            log = self._log.open("ab")  # the process has its own copy: closed below
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "src.tracking.mirror"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | _ENVIRONMENT | import_environment(),
                start_new_session=True,  # Ctrl-C is the trainer's, not the mirror's
            )
        finally:
            if not isinstance(log, int):
                log.close()
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return True

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            with self._heard:
                run = self._runs.get(Path(answer["run_dir"]))
                if run is not None:
                    _note(run, answer)
                    self._heard.notify_all()
                    if run.done:  # a sweep's process has thousands of them
                        self._open.pop(Path(answer["run_dir"]), None)
        process.wait()
        with self._heard:
            self._heard.notify_all()


def _note(run: Mirrored, answer: dict[str, Any]) -> None:
    match answer["said"]:
        case "created":
            run.mlflow_run_id = answer["mlflow_run_id"]
        case "done":
            run.mlflow_run_id = answer["mlflow_run_id"]
            run.done = True
        case "away":
            run.away = answer["text"]
            run.warnings.append(f"MLflow does not answer ({answer['text']}); the run goes on")
        case "warning":
            run.warnings.append(answer["text"])
