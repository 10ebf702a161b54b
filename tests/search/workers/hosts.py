"""A second host on this machine: a network, file systems and processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.entries.commands import free_port
from tests.search.workers.pools import ray_or_skip, wait_until

_MIB = 2**20
_UNSHARE = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc")
ENVIRONMENT = os.environ | {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray gives its workers the least share of a busy machine.
    "RAY_worker_niceness": "0",
}
_AGENTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
_START_SECONDS = 120.0
# Ray waits fifteen seconds for its own agents, which a machine with other work may take longer for.
_MOST_STARTS = 5


class TwoHosts:
    """This machine, and a second one behind a cable, which sees none of the first one's outputs.

    The second is a set of Linux namespaces: a cable (veth) joins its network to this one, a memory
    file system covers `folder` there, and all its processes end with the first of them. A node of a
    Ray cluster of one CPU runs on each. The test is skipped where namespaces are not allowed.

    Attributes:
        folder: of the outputs; at the same path another one on the second host.
        address: of the cluster's head, HOST:PORT.
    """

    def __init__(self) -> None:
        ray_or_skip()
        _skip_without_namespaces()
        self.folder = Path(tempfile.mkdtemp(prefix="hosts-"))
        number = os.getpid() % 250
        self._plugs = f"bo{os.getpid()}a", f"bo{os.getpid()}b"
        self._here, self._there = f"10.213.{number}.1", f"10.213.{number}.2"
        # A bridge has this host's address, which is there without the second host as well.
        self._socket = f"bo{os.getpid()}"
        for overrides in (
            ("ip", "link", "add", self._socket, "type", "bridge"),
            ("ip", "address", "add", f"{self._here}/24", "dev", self._socket),
            ("ip", "link", "set", self._socket, "up"),
        ):
            subprocess.run(overrides, check=True)
        self._port = free_port()
        self.address = f"{self._here}:{self._port}"
        self._second: subprocess.Popen[bytes] | None = None
        self._head: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    def start_second(self) -> None:
        """Start the second host and connect it."""
        own = (str(self.folder), "/dev/shm", "/tmp/ray")  # the last two are Ray's
        memory = " && ".join(f"mkdir -p {one} && mount -t tmpfs none {one}" for one in own)
        ready = self.folder / "ready"  # in its own file system
        script = f"hostname second && {memory} && touch {ready} && exec sleep infinity"
        self._second = subprocess.Popen(
            [
                *(*_UNSHARE, "--kill-child=SIGKILL", "sh", "-c", script),
            ]
        )
        wait_until(lambda: self._inside("test", "-e", str(ready)) == 0, 30, "no second host")
        here, there = self._plugs
        for overrides in (
            ("ip", "link", "add", here, "type", "veth", "peer", "name", there),
            ("ip", "link", "set", there, "netns", str(self._init)),
            ("ip", "link", "set", here, "master", self._socket),
            ("ip", "link", "set", here, "up"),
        ):
            subprocess.run(overrides, check=True)
        for overrides in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "address", "add", f"{self._there}/24", "dev", there),
            ("ip", "link", "set", there, "up"),
        ):
            assert self._inside(*overrides) == 0

    def end_second(self) -> None:
        """End the second host with all its processes, as a power cut does."""
        if self._second is not None:
            self._second.kill()
            self._second.wait()
            self._second = self._node = None
            plug = Path(f"/sys/class/net/{self._plugs[0]}")
            wait_until(lambda: not plug.exists(), 30, "the cable outlived its host")

    def cable(self, *, connected: bool) -> None:
        """Disconnect or connect the hosts."""
        state = "up" if connected else "down"
        subprocess.run(["ip", "link", "set", self._plugs[0], state], check=True)

    def start_head(self) -> None:
        """Start the head of the cluster on this host."""
        self._head = self._ray(
            (), "--head", f"--port={self._port}", "--include-dashboard=false", here=self._here
        )

    def end_head(self) -> None:
        """Kill the head and all that belongs to it."""
        if self._head is not None:
            _kill_tree(self._head)
            self._head = None

    def start_node(self, **variables: str) -> None:
        """Start the second host's node, with these variables in its environment."""
        enter = (*self._enter, "env", *(f"{name}={text}" for name, text in variables.items()))
        self._node = self._ray(enter, f"--address={self.address}", here=self._there)

    def second_processes(self, title: str) -> list[int]:
        """Return the processes of the second host whose command line begins so."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            with suppress(psutil.Error, OSError):
                mine = os.readlink(f"/proc/{process.pid}/ns/net") == self._network
                if mine and " ".join(process.info["cmdline"] or ()).startswith(title):
                    found.append(process.pid)
        return found

    def second_has(self, path: Path) -> bool:
        """Return whether the second host has a file or folder."""
        return self._inside("test", "-e", str(path)) == 0

    def close(self) -> None:
        """End both and remove what is left."""
        self.end_second()
        self.end_head()
        subprocess.run(["ip", "link", "delete", self._socket], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _init(self) -> int:
        assert self._second is not None
        return psutil.Process(self._second.pid).children()[0].pid

    @property
    def _network(self) -> str:
        return os.readlink(f"/proc/{self._init}/ns/net")

    @property
    def _enter(self) -> tuple[str, ...]:
        return ("nsenter", "-t", str(self._init), "--net", "--mount", "--uts", "--pid")

    def _inside(self, *overrides: str) -> int:
        try:
            return subprocess.run(
                [*self._enter, *overrides], stderr=subprocess.DEVNULL, check=False
            ).returncode
        except IndexError:  # it is not there yet
            return 1

    def _ray(self, enter: Sequence[str], *overrides: str, here: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"ray-{here}.log"
        for _ in range(_MOST_STARTS):
            command = [
                *(
                    *enter,
                    sys.executable,
                    "-m",
                    "ray.scripts.scripts",
                    "start",
                    "--block",
                    *overrides,
                ),
                *(f"--node-ip-address={here}", "--num-cpus=1", "--num-gpus=0"),
                f"--object-store-memory={80 * _MIB}",
                *(f"--{name}-port={free_port()}" for name in _AGENTS),
            ]
            with log.open("wb") as output:
                process = subprocess.Popen(command, stdout=output, stderr=output, env=ENVIRONMENT)
            deadline = time.monotonic() + _START_SECONDS
            while process.poll() is None and "Ray runtime started" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            if process.poll() is None:
                return process
        raise AssertionError(log.read_text())


def _skip_without_namespaces() -> None:
    needed = [name for name in ("unshare", "nsenter", "ip", "mount") if shutil.which(name) is None]
    if needed:
        pytest.skip(f"a second host needs {', '.join(needed)}")
    made = subprocess.run(
        [*_UNSHARE, "sh", "-c", "mount -t tmpfs none /mnt && ip link add a1 type veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"namespaces are not allowed here: {made.stderr.strip()}")


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        with suppress(psutil.Error):
            one.send_signal(signal.SIGKILL)
    process.wait()
