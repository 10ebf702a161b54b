"""Worker processes on this machine, each with its own devices and threads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from src.machine.subprocesses import import_environment
from src.search.jobs import Message, decode, encode
from src.search.workers.process import describe_exit, start_process

__all__ = ["THREAD_VARIABLES", "LocalEngine", "Slot", "WorkerProcess", "slots", "visible_gpus"]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GRACE_SECONDS = 5.0
# A worker has some 0.7 GB of its own: many cores are no reason for as many workers.
_CORES_A_WORKER = 4


@dataclass(frozen=True)
class Slot:
    """The devices and threads of one worker.

    Attributes:
        devices: the GPUs it sees, as CUDA_VISIBLE_DEVICES lists them; None for what there is.
        threads: of the CPU.
    """

    devices: str | None
    threads: int


def slots(
    *,
    count: int | None,
    per_gpu: int,
    devices_per_trial: int,
    threads: int | None,
    gpus: Sequence[str],
    cores: int,
) -> list[Slot]:
    """Return the slots that a machine is divided into.

    Args:
        count: workers; None for `per_gpu` a GPU, or without GPUs one for some cores: two at least,
            of two cores, if a trial is one process.
        per_gpu: workers that share a GPU.
        devices_per_trial: GPUs of one trial; above 1 each slot has as many to itself.
        threads: of each process of a trial, one a device; None for an equal share of the cores.
        gpus: names of the GPUs, as CUDA_VISIBLE_DEVICES takes them; none for trials on the CPU.
        cores: of the CPU that may be used.

    Raises:
        ValueError: there are fewer GPUs than one trial needs.
    """
    if gpus and len(gpus) < devices_per_trial:
        raise ValueError(
            f"trainer.devices is {devices_per_trial}, but only {len(gpus)} GPUs are here"
        )
    if gpus:
        whole = len(gpus) // devices_per_trial * devices_per_trial
        groups = [
            ",".join(gpus[i : i + devices_per_trial]) for i in range(0, whole, devices_per_trial)
        ]
        places: list[str | None] = [group for _ in range(per_gpu) for group in groups]
    else:
        usual = min(cores, max(2, cores // _CORES_A_WORKER))
        places = [None] * max(1, usual // devices_per_trial)
    if count is not None:
        places = [places[i % len(places)] for i in range(count)]
    share = threads or max(1, cores // (len(places) * devices_per_trial))
    return [Slot(place, share) for place in places]


def visible_gpus() -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, or all there are; without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver, no GPU
        return []
    return [str(number) for number in range(count)]


class LocalEngine:
    """Runs workers as processes of this machine.

    Args:
        slots: one a worker.
        runner_path: see `serve`.
        log_dir: where each worker's output goes.
    """

    def __init__(self, slots: Sequence[Slot], runner_path: str, log_dir: Path) -> None:
        self.slots = tuple(slots)
        self._runner = runner_path
        self._log_dir = log_dir
        self._workers: dict[int, WorkerProcess] = {}
        log_dir.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        return len(self.slots)

    def start(self, slot: int) -> None:
        devices = self.slots[slot].devices
        variables = dict.fromkeys(THREAD_VARIABLES, str(self.slots[slot].threads))
        if devices is not None:
            variables["CUDA_VISIBLE_DEVICES"] = devices
        log = self._log_dir / f"worker-{slot}.log"
        self._workers[slot] = WorkerProcess(self._runner, log, variables | import_environment())

    def send(self, slot: int, message: Message) -> None:
        self._workers[slot].send(encode(message))

    def messages(self, seconds: float) -> Iterator[tuple[int, Message | str]]:
        slots = {worker.connection: slot for slot, worker in self._workers.items()}
        for connection in wait(list(slots), seconds):
            assert isinstance(connection, Connection)
            slot = slots[connection]
            try:
                content = connection.recv_bytes()
            except (EOFError, OSError):
                yield slot, self.stop(slot)
            else:
                yield slot, decode(content)

    def stop(self, slot: int) -> str:
        return self._workers.pop(slot).end()

    def close(self) -> None:
        workers = list(self._workers.values())
        for worker in workers:  # they end by this, all at the same time
            worker.connection.close()
        try:
            for worker in workers:
                worker.end()
        except BaseException:  # a second signal: wait for the rest no longer than it takes
            for worker in workers:
                worker.end()
            raise


class WorkerProcess:
    """A worker process on this machine, and the connection to it.

    Args:
        runner_path: see `serve`.
        log: where its output is appended.
        variables: of its environment beside this process's own, set before torch is imported.
        folder: that it runs in; None for the current one.
    """

    def __init__(
        self, runner_path: str, log: Path, variables: Mapping[str, str], folder: str | None = None
    ) -> None:
        with log.open("ab") as output:
            self.connection, self._process = start_process(
                runner_path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | variables,
                cwd=folder,
            )

    def send(self, content: bytes) -> None:
        """Send an encoded message; it is lost where the process has died."""
        with suppress(OSError):
            self.connection.send_bytes(content)

    def end(self) -> str:
        """End it if it still runs, and return how it ended."""
        self.connection.close()  # at which it ends by itself
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = self._kill()
        except BaseException:  # a signal ends the waiting, and not without the process
            self._kill()
            raise
        return describe_exit(code) + (" (out of memory?)" if code == -9 else "")

    def _kill(self) -> int:
        self._process.kill()
        return self._process.wait()
