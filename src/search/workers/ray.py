"""Workers on the machines of a Ray cluster.

Every slot is an actor, which Ray places and gives its CPUs and its share of a GPU, and which runs
the same worker process as on one machine. Every node needs, at the same path: this checkout, the
driver's current folder, and `output_dir`, in a folder that all nodes share (and the packages, as
Ray itself needs them). The driver runs on a node of the cluster.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...config.sweep import WorkersSettings
from ...machine.subprocesses import import_environment
from ..jobs import Message, WorkersFail, decode, encode
from .local import WorkerProcess
from .slots import GPU_SHARE, THREAD_VARIABLES, share

__all__ = ["RayEngine"]

# No usage report to the makers of Ray.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

_CONNECT_SECONDS = 10.0
_CHECK_SECONDS = 5.0
# Longer than a worker process that does not end by itself is waited for.
_STOP_SECONDS = 8.0
_POLL_SECONDS = 0.25
# A file that proves to a node that it shares the folder with the driver.
_SIGN = "driver"


class RayEngine:
    """Runs workers through Ray.

    Args:
        workers: without an `address`, HOST:PORT, the cluster is the one that RAY_ADDRESS names or
            that runs on this machine, else one of this machine alone is started.
        runner_path: see `LocalEngine`.
        folder: on a disk that all nodes share; each worker's output goes there.
        devices, use_gpus: see `share`.

    Raises:
        ValueError: Ray is not installed, the cluster does not answer, or nothing fits on it.
    """

    def __init__(
        self,
        workers: WorkersSettings,
        runner_path: str,
        folder: Path,
        *,
        devices: int,
        use_gpus: bool,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ray = _connect(workers.address)
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        nodes = [(float(one.get("CPU", 0)), float(one.get("GPU", 0))) for one in resources]
        try:
            self.share = share(workers, devices, nodes=nodes, use_gpus=use_gpus)
        except ValueError:
            self._ray.shutdown()
            raise
        self.size = self.share.count
        self._address = str(self._ray.get_runtime_context().gcs_address)
        self._checked = time.monotonic()
        self._is_lost = False
        self._runner = runner_path
        self._folder = folder
        self._mark = secrets.token_hex()
        (folder / _SIGN).write_text(self._mark)
        self._make = self._ray.remote(
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus,
            max_restarts=0,  # the pool starts another one, and retries with what it knows
            concurrency_groups={"receive": 1},  # `send` goes on while `receive` waits
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": self._environment()},
        )(_Slot)
        self._actors: dict[int, Any] = {}
        self._next: dict[int, Any] = {}  # references to what `receive` returns

    def start(self, slot: int) -> None:
        log = str(self._folder / f"worker-{slot}.log")
        self._actors[slot] = self._make.remote(self._runner, log, self._mark, str(Path.cwd()))
        self._next[slot] = self._receive(slot)

    def send(self, slot: int, message: Message) -> None:
        self._actors[slot].send.remote(encode(message))

    def messages(self, seconds: float) -> Iterator[tuple[int, Message | str]]:
        if time.monotonic() - self._checked >= _CHECK_SECONDS:
            self._check()
        slots = {reference: slot for slot, reference in self._next.items()}
        ready, waiting = self._ray.wait(list(slots), timeout=seconds)
        if waiting:
            ready += self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
        for reference in ready:
            slot, received = slots[reference], self._received(reference)
            if isinstance(received, bytes):
                self._next[slot] = self._receive(slot)
                yield slot, decode(received)
            else:
                self._check()
                self._remove(slot)
                yield slot, received

    def stop(self, slot: int) -> str:
        how = self._received(self._end(slot), _STOP_SECONDS)
        self._remove(slot)
        return str(how)

    def close(self) -> None:
        """End all workers and leave the cluster; end it, if it was started here."""
        try:
            if self._actors and not self._is_lost:
                ends = [self._end(slot) for slot in self._actors]
                self._ray.wait(ends, num_returns=len(ends), timeout=_STOP_SECONDS)
        finally:
            self._actors.clear()
            (self._folder / _SIGN).unlink(missing_ok=True)
            self._ray.shutdown()

    def _receive(self, slot: int) -> Any:
        return self._actors[slot].receive.options(concurrency_group="receive").remote()

    def _end(self, slot: int) -> Any:
        """Let a slot's worker end; return a reference to how it did."""
        self._actors[slot].end.remote()
        return self._receive(slot)

    def _received(self, reference: Any, seconds: float | None = None) -> bytes | str:
        """Return a message of a worker, or how it ended."""
        errors = self._ray.exceptions
        try:
            received: bytes | str = self._ray.get(reference, timeout=seconds)
        except errors.GetTimeoutError:
            return "could not be reached any more"
        except errors.OutOfMemoryError:
            return "was ended by Ray, because its node ran out of memory"
        except errors.RayError as error:
            return f"ended: {_first_line(getattr(error, 'cause', None) or error)}"
        return received

    def _remove(self, slot: int) -> None:
        del self._next[slot]
        self._ray.kill(self._actors.pop(slot))

    def _check(self) -> None:
        """Raise WorkersFail without the cluster's head, when Ray ends this process in a minute."""
        try:
            _try_connection(self._address)
        except OSError as error:
            self._is_lost = True
            raise WorkersFail(
                f"the Ray cluster {self._address} does not answer any more: "
                f"{error.strerror or error}; once it does, the same command goes on"
            ) from error
        self._checked = time.monotonic()

    def _environment(self) -> dict[str, str]:
        """Return the variables of a worker's process, in which Ray itself sets the GPUs."""
        own = {name: text for name, text in os.environ.items() if name.startswith("BAKEOFF_")}
        own |= dict.fromkeys(THREAD_VARIABLES, str(self.share.threads))
        if self.share.gpus:
            own[GPU_SHARE] = str(min(1.0, self.share.gpus))
        else:
            own["CUDA_VISIBLE_DEVICES"] = ""
        return own | import_environment()


class _Slot:
    """The actor of a slot: a worker process on its node, begun by the first `receive`.

    The worker runs in the driver's current folder, so that relative paths mean the same, and its
    output goes to `log`, beside the driver's sign, whose content is `mark`.
    """

    def __init__(self, runner_path: str, log: str, mark: str, current: str) -> None:
        self._runner = runner_path
        self._log = Path(log)
        self._mark = mark
        self._current = current
        self._worker: WorkerProcess | None = None
        self._ending = threading.Event()

    def send(self, content: bytes) -> None:
        """Send a message to the worker."""
        if self._worker is not None:
            self._worker.send(content)

    def receive(self) -> bytes | str:
        """Wait for the worker's next message and return it; at its end return how it ended."""
        where = f"on {socket.gethostname()}"
        try:
            worker = self._worker = self._worker or self._begin()
        except OSError as error:
            return f"ended {where}: {error}"
        while not self._ending.is_set():
            if worker.connection.poll(_POLL_SECONDS):
                try:
                    return worker.connection.recv_bytes()
                except (EOFError, OSError):
                    break
        self._ending.set()
        return f"{worker.end()} {where}"

    def end(self) -> None:
        """Let `receive` end the worker."""
        self._ending.set()

    def _begin(self) -> WorkerProcess:
        sign = self._log.with_name(_SIGN)
        if not sign.is_file() or sign.read_text() != self._mark:
            raise FileNotFoundError(
                f"it does not see {sign.parent}: output_dir must be in a folder that all nodes "
                "share, at the same path"
            )
        return WorkerProcess(self._runner, self._log, {}, self._current)


def _connect(address: str | None) -> Any:
    """Return Ray, connected; ValueError as of `RayEngine`."""
    try:
        import ray
    except ImportError:
        raise ValueError(
            "workers=ray needs the package ray: install it with make install EXTRAS=ray"
        ) from None
    # Ray starts its processes by an unquoted shell command, which fails and is repeated for ever.
    if any(letter.isspace() for letter in sys.executable):
        raise ValueError(
            f"workers=ray: Ray cannot start {sys.executable}, because there is a space in that "
            "path; put the checkout and its .venv in a folder without one"
        )
    address = address or os.environ.get("RAY_ADDRESS")
    _require_reachable(address)
    terminate = signal.getsignal(signal.SIGTERM)  # which Ray replaces
    try:
        ray.init(
            address,
            include_dashboard=None if address else False,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    except Exception as error:
        # To an address that was named, Ray sends no token unless RAY_AUTH_MODE says so.
        asked = address is not None and "RAY_AUTH_MODE" not in os.environ
        hint = " (set RAY_AUTH_MODE=token if it asks for a token)" if asked else ""
        named = address or "of this machine"
        raise ValueError(
            f"the Ray cluster {named} cannot be used: {_first_line(error)}{hint}"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, terminate)
    return ray


def _require_reachable(address: str | None) -> None:
    """Check the address, at which Ray itself would try for minutes and may end the process."""
    if address is None or address in ("auto", "local"):
        return
    try:
        if "://" in address:  # Ray's client: a driver that no worker could call
            raise ValueError(address)
        _try_connection(address)
    except ValueError:
        raise ValueError(
            f"workers.address is {address}: it must be HOST:PORT, said on a node of the cluster"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"the Ray cluster {address} does not answer: {reason}") from error


def _try_connection(address: str) -> None:
    """Connect to HOST:PORT once; ValueError if it is none, OSError without an answer."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
