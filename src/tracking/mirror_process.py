"""Control of the mirror process from the trainer: commands and reports, without waiting."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..machine.interruption import signals_so_far
from ..machine.package import module_command
from ..machine.subprocesses import import_environment

__all__ = ["CLOSE_SECONDS", "MirrorProcess", "MirrorStatus"]

# A mirror that dies again and again (no memory, a broken installation) is left dead.
_MOST_STARTS = 3
# Longest wait for the end of a process that no longer reads.
_DYING_SECONDS = 5.0
# Time for what is being sent; there is no waiting for a server that does not answer.
CLOSE_SECONDS = 5.0
# It computes nothing: no accelerator, no thread pools.
_ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@dataclass
class MirrorStatus:
    """The state of one run in the mirror, by its reports.

    Attributes:
        done: all of it is in MLflow, or it was given up.
        sent: how many of how many entries of the spool, by the last report, or None.
        away: why the server could not be reached since the last command, or None.
        warnings: not yet shown.
    """

    mlflow_run_id: str | None = None
    done: bool = False
    sent: tuple[int, int] | None = None
    away: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def progress(self) -> str:
        """Return what a person waits for, in a few words."""
        if self.sent is not None:
            return f"sending to MLflow, {self.sent[0]} of {self.sent[1]} entries"
        return "starting MLflow" if self.mlflow_run_id is None else "sending to MLflow"


class MirrorProcess:
    """One mirror process for any number of runs, one after another or at the same time.

    To be used by one thread. It may be started before the slow imports of a training, as its own
    take seconds. If it dies it is started again with the next command; nothing is lost, as it only
    reads run folders. Its output, usually none, goes to the file `log`.

    Args:
        nice: whether it gives way to other work. Beside a training it has to; where the command
            only waits for it, a busy machine would let it have a tenth of what others get.
    """

    def __init__(self, log: Path, *, nice: bool = True) -> None:
        self._log = log
        self._arguments = ("nice",) if nice else ()
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._open: dict[Path, dict[str, Any]] = {}
        self._runs: dict[Path, MirrorStatus] = {}
        self._changed = threading.Condition()

    def follow(self, run_dir: Path, uri: str, target: str | None) -> None:
        """Send this run's spool from now on until the end of the run."""
        with self._changed:
            self._runs[run_dir] = MirrorStatus()
        command = {"command": "follow", "run_dir": str(run_dir), "uri": uri, "target": target}
        self._send(command)
        self._open[run_dir] = command

    def replay(self, output_dir: Path, uri: str, target: str | None) -> None:
        """Send incomplete earlier runs under `output_dir` to `target`, when idle."""
        about = {"output_dir": str(output_dir), "uri": uri, "target": target}
        self._send({"command": "replay", **about})

    def warnings(self, run_dir: Path) -> list[str]:
        """Return the warnings since the last call."""
        with self._changed:
            run = self._runs.get(run_dir, MirrorStatus())
            warnings, run.warnings = run.warnings, []
        return warnings

    def wait(
        self, run_dir: Path, seconds: float, show: Callable[[str], None] = lambda _: None
    ) -> MirrorStatus:
        """Wait until a finished run is mirrored, the server is away, or time or patience is over.

        A signal such as Ctrl-C is the end of patience. The run is then forgotten here; the mirror
        goes on with it. `show` is called with how far it is.
        """
        with self._changed:
            asked = self._runs.setdefault(run_dir, MirrorStatus())
            asked.away = asked.sent = None
        self._send({"command": "flush"})
        deadline, signals = time.monotonic() + seconds, signals_so_far()
        with self._changed:
            run = self._runs[run_dir]
            while not run.done and run.away is None and self._alive():
                left = deadline - time.monotonic()
                if left <= 0 or signals_so_far() > signals:
                    break
                show(run.progress)
                self._changed.wait(min(left, 0.5))  # a process that died reports nothing
            self._runs.pop(run_dir)
            self._open.pop(run_dir, None)
        return run

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """End the process within `seconds`, or at a signal; return whether all was sent.

        The rest is in the run folders for the next run or for a replay: no process outlives the
        command that started it.
        """
        if self._alive():
            # The end of the pipe is not enough: children that the trainer forked hold it open.
            self._send({"command": "end"})
        process, self._process = self._process, None
        self._open.clear()
        if process is None:
            return True
        assert process.stdin is not None
        with suppress(OSError):  # it died with a command in the pipe
            process.stdin.close()
        deadline, signals = time.monotonic() + seconds, signals_so_far()
        try:
            while (left := deadline - time.monotonic()) > 0 and signals_so_far() == signals:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(min(left, 0.5)) == 0
            return process.poll() == 0
        finally:  # also where a signal ends the waiting
            if process.poll() is None:
                process.kill()
                process.wait()

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _send(self, command: dict[str, Any]) -> None:
        for _ in range(2):
            # Runs that were open when a process died are followed by its successor.
            commands = [command] if self._alive() else [*self._open.values(), command]
            try:
                if not self._alive() and not self._start():
                    return
                assert self._process is not None and self._process.stdin is not None
                for line in commands:
                    self._process.stdin.write(json.dumps(line).encode() + b"\n")
                self._process.stdin.flush()
                return
            except OSError:  # it is dying: its pipe is closed before it has ended
                if self._process is not None:
                    with suppress(subprocess.TimeoutExpired):
                        self._process.wait(_DYING_SECONDS)

    def _start(self) -> bool:
        if self._starts == _MOST_STARTS:
            return False
        self._starts += 1
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                module_command("tracking.mirror", *self._arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | _ENVIRONMENT | import_environment(),
                start_new_session=True,  # Ctrl-C is the trainer's, not the mirror's
            )
        threading.Thread(target=self._read_reports, args=(self._process,), daemon=True).start()
        return True

    def _read_reports(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if (report := _report_in(line)) is None:
                continue
            with self._changed:
                run = self._runs.get(Path(report["run_dir"]))
                if run is not None:
                    run.mlflow_run_id = report.get("mlflow_run_id", run.mlflow_run_id)
                    run.done = run.done or report["report"] == "done"
                    if report["report"] == "sent":
                        run.sent = (report["count"], report["of"])
                    if report["report"] == "warning":
                        run.warnings.append(report["text"])
                    elif report["report"] == "away":
                        run.away = away = report["text"]
                        run.warnings.append(f"MLflow does not report ({away}); the run goes on")
                    self._changed.notify_all()
                    if run.done:  # a sweep's process has thousands of them
                        self._open.pop(Path(report["run_dir"]), None)
        process.stdout.close()
        process.wait()
        with self._changed:
            self._changed.notify_all()


def _report_in(line: bytes) -> dict[str, Any] | None:
    """Return the report of a line.

    None for half of one, which a process leaves that is killed while it writes, and for what code
    prints that Python runs before the mirror's own, such as a `sitecustomize`.
    """
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and "report" in report else None
