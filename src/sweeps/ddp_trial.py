"""A trial on several devices: a process of its own, because Lightning starts the processes of the
other devices by repeating this one's command line.

python -m src.sweeps.ddp_trial DESCRIPTOR JOB
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from src.machine.interruption import Interrupted
from src.search.workers.process import Ending, Job, Say, Voice, listen

__all__ = ["main", "train_apart"]

_GRACE_SECONDS = 5.0


def train_apart(job: Job, say: Say) -> Ending:
    """Run the job in a process of its own, and pass on what it says.

    Asked to stop, it passes that on and waits a while. Devices that wait for each other for ever,
    because they heard of it in different steps, are ended: the last epoch's checkpoint is whole.
    """
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "src.sweeps.ddp_trial"),
                str(theirs.fileno()),
                json.dumps(dict(job)),
            ],
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # a group of its own, with the processes of the other devices
        )
    try:
        with ours:
            try:
                return _relay(ours, say)
            except Interrupted:
                _signal_all(process, signal.SIGTERM)
                return _relay(ours, say, time.monotonic() + _GRACE_SECONDS)
    except TimeoutError:
        return Ending("interrupted", reason="stopped")
    except (EOFError, OSError):
        # As with a worker that dies: the trial may go on from its checkpoint.
        return Ending("interrupted", reason=f"its process {_how_it_ended(process)}")
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        _signal_all(process, signal.SIGKILL)
        process.wait()


def _signal_all(process: subprocess.Popen[bytes], signum: int) -> None:
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, signum)


def _how_it_ended(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _relay(connection: Connection, say: Say, until: float | None = None) -> Ending:
    while True:
        if until is not None and not connection.poll(max(0.0, until - time.monotonic())):
            raise TimeoutError
        message: dict[str, Any] = json.loads(connection.recv_bytes())
        match message.pop("said"):
            case "noted":
                say.note(**message["facts"])
            case "reported":
                stop = say.report(message["epoch"], message["metrics"])
                connection.send_bytes(json.dumps({"do": "go_on", "stop": stop}).encode())
            case _:
                return Ending(**message)


def main() -> None:
    """Run the one job; on a further device, take part in it."""
    from src.sweeps.run_job import TrialRunner

    job = json.loads(sys.argv[2])
    runner = TrialRunner(apart=True)
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        runner(job, _Mute())
        return
    connection = Connection(int(sys.argv[1]))
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    voice = Voice(connection, answers)
    listen(connection, queue.Queue(), answers)
    voice.say("ended", **asdict(runner(job, voice)))


class _Mute:
    """A further device says nothing: the first one speaks for all."""

    def note(self, **facts: Any) -> None:
        return None

    def report(self, epoch: int, metrics: Any) -> str | None:
        return None


if __name__ == "__main__":
    main()
