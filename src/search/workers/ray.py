"""Workers on the machines of a Ray cluster.

Every slot is an actor, which Ray places and gives its CPUs and its share of a GPU, and which runs
the same worker process as on one machine. Every node needs this code and its packages at the same
path. Folders that jobs write stay where they are on a disk that the node shares with the driver;
from any other node they come back through Ray's object store. The driver runs on a node of the
cluster.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from filelock import Timeout

from ...config.sweep import WorkersSettings
from ...machine.subprocesses import import_environment
from ...storage.locks import ProcessLock, holder_of
from ..jobs import Death, Ending, Job, Message, WorkersFail, decode, encode
from .folders import ASIDE, DamagedParcel, Incoming, Outgoing
from .ray_slot import Delivery, RaySlot
from .slots import GPU_SHARE, THREAD_VARIABLES, cluster_slots

__all__ = ["RayEngine"]

# No usage report to the makers of Ray.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

_CONNECT_SECONDS = 10.0
_CHECK_SECONDS = 5.0
# For a lock that is only looked at, or with which the end of a killed run is recorded.
_LOCK_SECONDS = 5.0
# Longer than a worker process that does not end by itself is waited for.
_STOP_SECONDS = 8.0


class RayEngine:
    """Runs workers through Ray.

    Args:
        workers: without an `address`, HOST:PORT, the cluster is the one that RAY_ADDRESS names or
            that runs on this machine, else one of this machine alone is started.
        runner_path: see `LocalEngine`.
        folder: each worker's output goes there.
        devices, use_gpus: see `cluster_slots`.
        written: names of the facts, noted by jobs, that are folders which they write.
        lock_of: returns the path of the lock that whoever writes a folder of a job holds; this
            process holds it as long as a node that shares no disk has the folder.

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
        written: Sequence[str] = (),
        lock_of: Callable[[Path], Path],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ray = _connect(workers.address)
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        nodes = [(float(one.get("CPU", 0)), float(one.get("GPU", 0))) for one in resources]
        try:
            self.reserved = cluster_slots(workers, devices, nodes=nodes, use_gpus=use_gpus)
        except ValueError:
            self._ray.shutdown()
            raise
        self.size = self.reserved.count
        self._address = str(self._ray.get_runtime_context().gcs_address)
        self._checked = time.monotonic()
        self._is_lost = False
        self._runner = runner_path
        self._folder = folder
        self._written = tuple(written)
        self._lock_of = lock_of
        # Its name is new, so that no network file system remembers that it was not there.
        self._sign = folder / f"driver-{secrets.token_hex(8)}"
        for earlier in folder.glob("driver-*"):
            earlier.unlink()
        for earlier in folder.glob(f"{ASIDE}*"):
            shutil.rmtree(earlier)
        self._sign.touch()
        self._make = self._ray.remote(
            num_cpus=self.reserved.cpus,
            num_gpus=self.reserved.gpus,
            max_restarts=0,  # the pool starts another one, and retries with what it knows
            concurrency_groups={"receive": 1},  # `send` goes on while `receive` waits
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": self._environment()},
        )(RaySlot)
        self._actors: dict[int, Any] = {}
        self._next: dict[int, Any] = {}  # references to what `receive` or `part` returns
        self._elsewhere: set[int] = set()  # slots whose workers share no disk with this process
        self._arriving: dict[int, tuple[Delivery, Incoming]] = {}
        self._leaving: dict[int, _Departure] = {}
        self._away: dict[int, ExitStack] = {}  # by slot, the locks of folders that its node has
        self._refused: deque[tuple[int, Ending]] = deque()

    def start(self, slot: int) -> None:
        self._actors[slot] = self._make.remote(
            runner_path=self._runner,
            log=str(self._log(slot)),
            sign=str(self._sign),
            current=str(Path.cwd()),
            variables=_own_variables(),
            written=self._written,
        )
        self._next[slot] = self._receive(slot)

    def send(self, slot: int, message: Message) -> None:
        folders = message.folders if isinstance(message, Job) and slot in self._elsewhere else ()
        if not folders:
            self._actors[slot].send.remote(encode(message))
            return
        if (reason := self._lock(slot, folders)) is not None:
            self._refused.append((slot, Ending("failed", reason=reason)))
            return
        parcel = Outgoing.pack({Path(folder): None for folder in folders}, self._folder)
        self._leaving[slot] = _Departure(parcel, encode(message))
        self._send_part(slot)

    def messages(self, seconds: float) -> Iterator[tuple[int, Message | Death]]:
        if time.monotonic() - self._checked >= _CHECK_SECONDS:
            self._check()
        while self._refused:
            yield self._refused.popleft()
        slots = {reference: slot for slot, reference in self._next.items()}
        sent = {one.reference: slot for slot, one in self._leaving.items()}
        ready, waiting = self._ray.wait([*slots, *sent], timeout=seconds)
        if waiting:
            ready += self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
        for reference in ready:
            if reference in sent:
                self._send_part(sent[reference])
                continue
            slot = slots[reference]
            received = self._arrived(slot, self._received(reference))
            if isinstance(received, bytes):
                self._next[slot] = self._receive(slot)
                yield slot, decode(received)
            elif received is not None:
                self._check()
                self._remove(slot)
                yield slot, received

    def stop(self, slot: int) -> Death:
        how = self._received(self._end(slot), _STOP_SECONDS)
        self._remove(slot)
        return how if isinstance(how, Death) else Death(str(how))

    def close(self) -> None:
        """End all workers and leave the cluster; end it, if it was started here."""
        try:
            if self._actors and not self._is_lost:
                ends = [self._end(slot) for slot in self._actors]
                self._ray.wait(ends, num_returns=len(ends), timeout=_STOP_SECONDS)
        finally:
            for slot in list(self._actors):
                self._forget(slot)
            self._actors.clear()
            self._sign.unlink(missing_ok=True)
            self._ray.shutdown()

    def _log(self, slot: int) -> Path:
        return self._folder / f"worker-{slot}.log"

    def _lock(self, slot: int, folders: Iterable[str]) -> str | None:
        """Hold the locks of folders that are sent to a slot; return why they cannot be had."""
        self._unlock(slot)
        held = self._away[slot] = ExitStack()
        for folder in folders:
            lock = ProcessLock(self._lock_of(Path(folder)), thread_local=False)
            try:
                lock.acquire(timeout=_LOCK_SECONDS)
            except Timeout:
                self._unlock(slot)
                return f"{folder} is being written by {holder_of(lock)}"
            held.callback(lock.release)
        return None

    def _unlock(self, slot: int) -> None:
        if (held := self._away.pop(slot, None)) is not None:
            held.close()

    def _send_part(self, slot: int) -> None:
        """Send a slot the next part of what its job needs, and after the last one the job."""
        leaving, actor = self._leaving[slot], self._actors[slot]
        parcel, offset = leaving.parcel, leaving.offset
        if offset >= parcel.size:
            del self._leaving[slot]
            parcel.close()
            actor.send.remote(leaving.job)
            return
        chunk = parcel.chunk(offset)
        leaving.offset += len(chunk)
        leaving.reference = actor.take.remote(chunk, parcel.size, parcel.digest)

    def _arrived(self, slot: int, received: bytes | str | Delivery | Death) -> bytes | Death | None:
        """Return a message, or how a worker ended, once all that belongs to it is here."""
        actor = self._actors[slot]
        if isinstance(received, Delivery):
            self._elsewhere.add(slot)
            if received.output:
                with self._log(slot).open("ab") as log:
                    log.write(received.output)
            if received.size:
                incoming = Incoming(received.size, received.digest, self._folder)
                self._arriving[slot] = received, incoming
                self._next[slot] = actor.part.remote(0)
                return None
            self._unlock(slot)
            received = received.content
        elif isinstance(received, bytes) and slot in self._arriving:
            delivery, incoming = self._arriving[slot]
            if not incoming.add(received):
                self._next[slot] = actor.part.remote(incoming.offset)
                return None
            try:
                unpacked = incoming.unpack(replace=False)  # what is here is on a shared disk
            except DamagedParcel as error:
                return Death(f"ended: {error}", outside=True)
            incoming.close()
            del self._arriving[slot]
            self._unlock(slot)
            deleted = actor.delete.remote([str(folder) for folder in unpacked])
            received = delivery.content
            if isinstance(received, str):  # else the actor is killed before that
                self._ray.wait([deleted], timeout=_STOP_SECONDS)
        return Death(received) if isinstance(received, str) else received

    def _receive(self, slot: int) -> Any:
        return self._actors[slot].receive.options(concurrency_group="receive").remote()

    def _end(self, slot: int) -> Any:
        """Let a slot's worker end; return a reference to how it did."""
        self._actors[slot].end.remote()
        return self._receive(slot)

    def _received(
        self, reference: Any, seconds: float | None = None
    ) -> bytes | str | Delivery | Death:
        """Return what a worker sent, or how it ended."""
        errors = self._ray.exceptions
        try:
            received: bytes | str | Delivery = self._ray.get(reference, timeout=seconds)
        except errors.GetTimeoutError:
            return Death("could not be reached any more", outside=True)
        except errors.OutOfMemoryError:
            return Death("was ended by Ray, because its node ran out of memory")
        except errors.RayError as error:
            reason = _first_line(getattr(error, "cause", None) or error)
            return Death(f"ended: {reason}", outside=True)
        return received

    def _remove(self, slot: int) -> None:
        self._forget(slot)
        del self._next[slot]
        self._ray.kill(self._actors.pop(slot))

    def _forget(self, slot: int) -> None:
        """Forget what was on its way to or from a slot."""
        self._elsewhere.discard(slot)
        self._unlock(slot)
        if (leaving := self._leaving.pop(slot, None)) is not None:
            leaving.parcel.close()
        if (arriving := self._arriving.pop(slot, None)) is not None:
            arriving[1].close()

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
        own = dict.fromkeys(THREAD_VARIABLES, str(self.reserved.threads))
        if self.reserved.gpus:
            own[GPU_SHARE] = str(min(1.0, self.reserved.gpus))
        else:
            own["CUDA_VISIBLE_DEVICES"] = ""
        return own | import_environment()


@dataclass
class _Departure:
    """A job whose folders are sent before it, and how far they are."""

    parcel: Outgoing
    job: bytes
    offset: int = 0
    reference: Any = None


def _own_variables() -> dict[str, str]:
    """Return this project's variables of this process's environment."""
    return {name: text for name, text in os.environ.items() if name.startswith("BAKEOFF_")}


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
    _require_noted(address)
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


def _require_noted(address: str | None) -> None:
    """Check the cluster that Ray would join by itself, for which it would wait for a quarter hour.

    Ray notes the address of the one it last started on this machine, and keeps that of a dead one.
    """
    note = Path(os.environ.get("RAY_TMPDIR") or gettempdir(), "ray", "ray_current_cluster")
    if address not in (None, "auto") or not note.is_file():
        return
    noted = note.read_text(encoding="utf-8").strip()
    try:
        _try_connection(noted)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the Ray cluster {noted}, the last one of this machine, does not answer: "
            f"{getattr(error, 'strerror', None) or error}. Type ray stop to forget it, or set "
            "workers.address=local to start one for this sweep"
        ) from error


def _try_connection(address: str) -> None:
    """Connect to HOST:PORT once; ValueError if it is none, OSError without an answer."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
