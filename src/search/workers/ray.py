"""Workers on the machines of a Ray cluster.

Ray places the slots and gives each its CPUs and its share of a GPU; in every slot runs the same
worker as on one machine, which connects to the driver. Every node needs, at the same path: this
checkout, the driver's current folder, and `output_dir`, in a folder that all nodes share (and the
packages, as Ray itself needs them). The driver runs on a node of the cluster.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.machine.subprocesses import import_environment
from src.search.workers.connection import IncomingConnection, connect
from src.search.workers.engine import Worker, WorkersFail
from src.search.workers.local import THREAD_VARIABLES
from src.search.workers.process import serve

__all__ = ["RayEngine", "Share", "share"]

# No usage report to the makers of Ray.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

_GRACE_SECONDS = 5.0
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Share:
    """The slots that a cluster is divided into.

    Attributes:
        count: slots.
        threads: of each process of a trial.
        cpus, gpus: that Ray reserves for a slot, possibly fractions.
    """

    count: int
    threads: int
    cpus: float
    gpus: float


def share(
    nodes: Sequence[tuple[float, float]],
    *,
    count: int | None,
    per_gpu: int,
    devices_per_trial: int,
    threads: int | None,
    use_gpus: bool,
) -> Share:
    """Return the slots that a cluster is divided into.

    Args:
        nodes: CPUs and GPUs of each.
        count: slots; None for as many as fit. More than fit wait until Ray finds room for them.
        per_gpu: slots that share a GPU.
        devices_per_trial: devices of one trial, on one node.
        threads: of each process of a trial, one a device; None for an equal share of the CPUs.
        use_gpus: if there are any.

    Raises:
        ValueError: no slot fits on any node.
    """
    if use_gpus and any(gpus >= 1 for _, gpus in nodes):
        if devices_per_trial > 1 and per_gpu > 1:
            raise ValueError(
                f"workers.per_gpu is {per_gpu}, but Ray gives whole GPUs to trials on several: "
                "say workers.per_gpu=1"
            )
        places = [int(gpus) // devices_per_trial * per_gpu for _, gpus in nodes]
        if not any(places):
            raise ValueError(
                f"trainer.devices is {devices_per_trial}, but no node of the Ray cluster has as "
                "many GPUs"
            )
        room = min(cpus / n for (cpus, _), n in zip(nodes, places) if n)
        threads = threads or max(1, int(room) // devices_per_trial)
        cpus = min(threads * devices_per_trial, room)
        return Share(count or sum(places), threads, cpus, devices_per_trial / per_gpu)
    cores = [int(cpus) for cpus, _ in nodes]
    threads = threads or _most_threads(cores, count, devices_per_trial)
    needed = threads * devices_per_trial
    fit = sum(n // needed for n in cores)
    if not fit:
        raise ValueError(f"a trial needs {needed} CPUs, but no node of the Ray cluster has as many")
    return Share(count or fit, threads, needed, 0.0)


def _most_threads(cores: Sequence[int], count: int | None, devices: int) -> int:
    """Return the most threads with which so many slots fit; 1 if their number is open."""
    if count is None:
        return 1
    usable = range(1, max(cores, default=0) // devices + 1)
    fitting = [n for n in usable if sum(c // (n * devices) for c in cores) >= count]
    return max(fitting, default=1)


class RayEngine:
    """Starts workers through Ray.

    Args:
        runner_path: see `serve`.
        address: of the cluster, HOST:PORT; None for the one that RAY_ADDRESS names or that runs on
            this machine, else one of this machine alone is started.
        folder: on a disk that all nodes share; each worker's output goes there.
        divide: returns the slots for nodes of so many CPUs and GPUs; see `share`.

    Raises:
        ValueError: Ray is not installed, the cluster does not answer, or nothing fits on it.
    """

    def __init__(
        self,
        runner_path: str,
        *,
        address: str | None,
        folder: Path,
        divide: Callable[[Sequence[tuple[float, float]]], Share],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ray = _connect(address, folder / "ray.log")
        try:
            self.share = divide(_nodes(self.ray))
        except ValueError:
            self.ray.shutdown()
            raise
        self._address = str(self.ray.get_runtime_context().gcs_address)
        self.is_lost = False
        self._runner = runner_path
        self._host = self.ray.util.get_node_ip_address()
        self._folder = folder
        self._sign, self._mark = folder / "driver", secrets.token_hex()
        self._sign.write_text(self._mark)
        self._begin = self.ray.remote(
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus,
            max_retries=0,  # the pool retries, with what it knows of the trial
            max_calls=1,  # a process whose connection was cut dies, without another task
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": self._environment()},
        )(_work)

    @property
    def size(self) -> int:
        """The number of slots."""
        return self.share.count

    def start(self, number: int) -> Worker:
        """Ask Ray for a worker, which is ready once it has its place."""
        connection = IncomingConnection(self._host)
        task = self._begin.remote(
            connection.address,
            connection.secret,
            self._runner,
            str(self._folder / f"worker-{number}.log"),
            (str(self._sign), self._mark),
            str(Path.cwd()),
        )
        ended: Future[str] = task.future()
        # Ray notices a machine without power, which the network does not.
        ended.add_done_callback(lambda _: connection.cut())
        return _RayWorker(self, connection, task, ended)

    def check(self) -> None:
        """Check that the cluster's head answers; without it Ray ends this process in a minute.

        Raises:
            WorkersFail: it does not.
        """
        try:
            _try_connection(self._address)
        except OSError as error:
            self.is_lost = True
            raise WorkersFail(
                f"the Ray cluster {self._address} does not answer any more: "
                f"{error.strerror or error}; once it does, the same command goes on"
            ) from error

    def close(self) -> None:
        """Leave the cluster; end it, if it was started here."""
        self._sign.unlink(missing_ok=True)
        self.ray.shutdown()

    def _environment(self) -> dict[str, str]:
        """Return the variables of a worker's process, in which Ray itself sets the GPUs."""
        environment = dict.fromkeys(THREAD_VARIABLES, str(self.share.threads))
        environment |= import_environment()
        if not self.share.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        return environment


@dataclass(frozen=True)
class _RayWorker:
    """A task of Ray and the connection to it."""

    engine: RayEngine
    connection: IncomingConnection
    task: Any
    ended: Future[str]

    def end(self) -> str:
        self.connection.close()  # at which it ends by itself
        if self.engine.is_lost:  # Ray cannot be asked
            return "lost its cluster"
        errors = self.engine.ray.exceptions
        try:
            return f"ended {self.ended.result(_GRACE_SECONDS)}"
        except TimeoutError:
            self.engine.ray.cancel(self.task, force=True)
            return "could not be reached any more"
        except errors.OutOfMemoryError:
            return "was ended by Ray, because its node ran out of memory"
        except errors.NodeDiedError:
            return "ended with its node"
        except errors.WorkerCrashedError:
            return "was killed, or lost its node"
        except errors.RayError as error:
            cause = getattr(error, "cause", None) or error
            return f"ended: {_first_line(cause)}"


def _work(
    address: tuple[str, int],
    secret: bytes,
    runner_path: str,
    log: str,
    sign: tuple[str, str],
    current: str,
) -> str:
    """Run a worker in a slot, on the main thread of a process of its own.

    Returns:
        where it ended and why it could not begin.
    """
    where = f"on {socket.gethostname()}"
    path, content = Path(sign[0]), sign[1]
    if not path.is_file() or path.read_text() != content:
        return (
            f"{where}, which does not see {path.parent}: output_dir must be in a folder that all "
            "nodes share, at the same path"
        )
    try:
        os.chdir(current)  # relative paths mean the same as for the driver
        with Path(log).open("ab") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())
        connection = connect(address, secret)
    except OSError as error:
        return f"{where}: {error}"
    # As in a worker of one machine: a job that is interrupted handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        serve(connection, runner_path)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        return f"{where}: {type(error).__name__}: {error}"
    return where


def _connect(address: str | None, log: Path) -> Any:
    """Return Ray, connected; its messages go to `log`.

    Raises:
        ValueError: see `RayEngine`.
    """
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
    _redirect_messages(log)
    try:
        with _own_signals():
            ray.init(
                address,
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
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


def _redirect_messages(log: Path) -> None:
    """Let Ray write its messages to a file.

    For each worker that ends it prints a paragraph into a live display, whatever its settings, so
    that this replaces a private function of it. The pool reports the same in a sentence.
    """
    from ray._private import worker

    def write(message: Mapping[str, Any], ignore_prefix: bool = False) -> None:
        with log.open("a") as file:
            file.writelines(f"{line}\n" for line in message["lines"])

    worker.print_to_stdstream = write


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces when it starts."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # off the main thread Ray leaves it alone as well
            signal.signal(signal.SIGTERM, handler)


def _nodes(ray: Any) -> list[tuple[float, float]]:
    alive: list[Mapping[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
    resources = [node["Resources"] for node in alive]
    return [(float(r.get("CPU", 0)), float(r.get("GPU", 0))) for r in resources]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
