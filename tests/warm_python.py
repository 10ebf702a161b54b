"""Commands as processes of their own that start at once: forked from one that has imported torch.

`python -m src.train` spends most of a short run on imports. A server imports once and forks for
every command; what is forked has its own process id, environment, arguments, output and exit code,
and ends as any Python does. It times its networks more briefly. On Linux the same holds for what a
command starts with `python -m src.…`, as workers and mirrors: its child is forked from a standby, a
copy of the server that the command has beside it. How a command starts from nothing is for tests
that start `python`.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
_IMPORTED = (
    "src.runs.experiment",
    "src.runs.build",
    "src.runs.candidates.choose",
    "src.runs.candidates.soup",
    "src.runs.candidates.classical",
    "src.runs.label_review",
    "src.reporting.run_figures",
    *("sklearn.linear_model", "sklearn.ensemble", "sklearn.svm", "skops.io"),
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
)
# How long a run times its network, and what frozen ones compute fastest with: what depends on more
# is shown in tests/training.
BRIEF_TIMINGS = {
    "src.training.cost._BUDGET_SECONDS": 0.004,
    "src.training.inference_plan._PASS_SECONDS": 0.002,
    "src.training.inference_plan._MOST_ROUNDS": 2,
}
_MOST_BYTES = 1 << 20
_MOST_FILES = 50
# Of prctl(2).
_SET_DEATH_SIGNAL, _SET_SUBREAPER = 1, 36


class Command:
    """A module that runs in a process and process group of its own.

    It has what the tests use of `subprocess.Popen`, without time limits: those are pytest's.
    """

    def __init__(self, python: WarmPython, pid: int, out: IO[bytes], err: IO[bytes]) -> None:
        self._python = python
        self._out = out
        self._err = err
        self.pid = pid
        self.returncode: int | None = None

    def poll(self, block: bool = False) -> int | None:
        """Return its exit code, or None while it runs."""
        if self.returncode is None:
            code = self._python.ask(json.dumps({"pid": self.pid, "block": block}).encode())
            self.returncode = int(code) if code else None
        return self.returncode

    def wait(self) -> int:
        self.poll(block=True)
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Return what it printed until it ended."""
        self.wait()
        return self.printed()

    def printed(self) -> tuple[str, str]:
        """Return what it has printed so far: standard output, and standard error."""
        return _text(self._out), _text(self._err)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class WarmPython:
    """Runs modules of the project, each in a process of its own."""

    def __init__(self, number: int | None = None) -> None:
        """With the number of an open socket: the server at its other end, which is another's."""
        self._socket = None if number is None else socket.socket(fileno=number)
        self._server: subprocess.Popen[bytes] | None = None

    def begin(
        self,
        module: str,
        overrides: Sequence[str],
        environment: Mapping[str, str],
        place: Path = ROOT,
    ) -> Command:
        """Start `python -m module overrides` in a folder."""
        # They are the command's as long as it is looked at.
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        pid = self.fork(module, overrides, environment, place, out.fileno(), err.fileno())
        return Command(self, pid, out, err)

    def fork(
        self,
        module: str,
        overrides: Sequence[str],
        environment: Mapping[str, str],
        place: Path,
        *files: int,
    ) -> int:
        """Start it with these files for its output and its errors; return its process id."""
        with open(os.devnull) as nothing:
            asked = _asked(module, overrides, environment, str(place))
            return int(self.ask(asked, nothing.fileno(), *files))

    def in_a_shell(self) -> tuple[int, str]:
        """Return a line of bash after which `python -m src.…` runs here, and the file it needs."""
        number = self._connected().fileno()
        typed = shlex.join([sys.executable, "-IS", __file__, "typed", str(number)])
        known = f'"-m src."*) {typed} "${{@:2}}";;'
        usual = '*) command python "$@";;'
        return number, f'python() {{ case "${{1-}} ${{2-}}" in {known} {usual} esac; }}\n'

    def run(
        self,
        module: str,
        overrides: Sequence[str],
        environment: Mapping[str, str],
        place: Path = ROOT,
    ) -> subprocess.CompletedProcess[str]:
        """Return what `python -m module overrides` in a folder gives."""
        begun = self.begin(module, overrides, environment, place)
        try:
            out, err = begun.communicate()
        except BaseException:  # as when the test took too long
            os.killpg(begun.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess([module, *overrides], begun.wait(), out, err)

    @contextmanager
    def forking(self) -> Iterator[None]:
        """What this process itself starts meanwhile with `python -m src.…` is forked as well."""
        before = subprocess._fork_exec  # type: ignore[attr-defined]
        if sys.platform == "linux":
            subprocess._fork_exec = _Children(self._connected()).fork_or_exec  # type: ignore[attr-defined]
        try:
            yield
        finally:
            subprocess._fork_exec = before  # type: ignore[attr-defined]

    def ask(self, message: bytes, *files: int) -> str:
        """Send the server a message and return its answer."""
        line = self._connected()
        try:
            socket.send_fds(line, [message], files)
            return line.recv(_MOST_BYTES).decode().strip()
        except BaseException:  # the answer would be taken for that to the next message
            self.close()
            raise

    def close(self) -> None:
        """End the server."""
        if self._socket is not None and self._server is not None:
            self._socket.close()
            self._server.kill()
            self._server.wait()
        self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            number = theirs.fileno()
            self._server = subprocess.Popen(
                # With room for the command lines that forks show in its place.
                [sys.executable, "-m", "tests.warm_python", str(number), " " * 1000],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                pass_fds=[number],
            )
            theirs.close()
        return self._socket


def _text(file: IO[bytes]) -> str:
    """Return what a file holds, without moving the place where its writer goes on."""
    descriptor = file.fileno()
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return content.decode("utf-8", "backslashreplace")


class _Children:
    """Has what this process starts with `python -m src.…` forked by a server, as its own child."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._exec: Callable[..., int] = subprocess._fork_exec  # type: ignore[attr-defined]

    def fork_or_exec(self, *given: Any) -> int:
        """Do what `subprocess._fork_exec` does, without exec where that is not needed."""
        overrides, _, close, kept, place, environment, *rest = given
        ends, (failed, restore, session, group), others = rest[:6], rest[7:11], rest[11:]
        usual = close and restore and group == -1 and others[:5] == [None, None, None, -1, None]
        if not usual or list(overrides[:2]) != [sys.executable, "-m"] or overrides[2][:4] != "src.":
            return self._exec(*given)
        if os.getpid() != self._owner:  # a fork of this one, whose child it would not be
            return self._exec(*given)
        wanted = {0: ends[0], 1: ends[3], 2: ends[5]}
        files = {number: number if end == -1 else end for number, end in wanted.items()}
        files |= {number: number for number in kept if number not in (failed, *files)}
        pairs = [os.fsdecode(pair).split("=", 1) for pair in environment or ()]
        variables = dict(os.environ) if environment is None else dict(pairs)
        paths = variables.get("PYTHONPATH", "").split(os.pathsep)
        if any(os.path.isfile(os.path.join(path, "sitecustomize.py")) for path in paths if path):
            return self._exec(*given)  # Python runs it as it starts
        asked = _asked(
            overrides[2],
            list(map(os.fsdecode, overrides[3:])),
            variables,
            os.fsdecode(place or os.getcwd()),
            numbers=list(files),
            session=bool(session),
            between=True,
        )
        with self._lock:
            _prctl(_SET_SUBREAPER, 1)  # for its child's child, once that child has ended
            try:
                socket.send_fds(self._line, [asked], list(files.values()))
                pid = int(self._line.recv(_MOST_BYTES))
            except (OSError, ValueError):  # the standby was killed with the group
                pid = 0
            finally:
                _prctl(_SET_SUBREAPER, 0)
        return pid or self._exec(*given)


def _asked(
    module: str,
    overrides: Sequence[str],
    environment: Mapping[str, str],
    place: str,
    *,
    numbers: Sequence[int] = (0, 1, 2),
    session: bool = True,
    between: bool = False,
) -> bytes:
    """Return the message that has a module run; `numbers` are those of the files beside it."""
    asked = {"module": module, "overrides": list(overrides), "environment": dict(environment)}
    asked |= {"place": place, "numbers": numbers, "session": session, "between": between}
    return json.dumps(asked).encode()


def _serve(line: socket.socket) -> dict[str, Any]:
    """Fork for every command that is asked for; return it in the fork, and never in the server."""
    while True:
        message, files, _, _ = socket.recv_fds(line, _MOST_BYTES, _MOST_FILES)
        if not message:
            os._exit(0)
        asked: dict[str, Any] = json.loads(message)
        if "pid" in asked:
            ended, status = os.waitpid(asked["pid"], 0 if asked["block"] else os.WNOHANG)
            line.send(str(os.waitstatus_to_exitcode(status) if ended else " ").encode())
            continue
        pid = _fork_for_another() if asked["between"] else os.fork()
        if pid == 0:
            line.close()
            if asked["session"]:
                os.setsid()
            _give(files, asked["numbers"])
            return asked
        for file in files:
            os.close(file)
        line.send(str(pid).encode())


def _fork_for_another() -> int:
    """Fork as `os.fork`, but what is forked becomes a child of the nearest subreaper."""
    reads, writes = os.pipe()
    between = os.fork()
    if between:
        os.waitpid(between, 0)  # whose child is that of another from now on
        pid = int(os.read(reads, 100))
    else:
        between = os.getpid()
        pid = os.fork()
        if pid:
            os.write(writes, str(pid).encode())
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.0005)
    os.close(reads)
    os.close(writes)
    return pid


def _stand_by(files: Sequence[int]) -> tuple[int, dict[str, Any]]:
    """Have a copy of this process fork its children; it keeps none of these files open.

    Returns:
        The copy's process id, and 0 in its forks, with what is asked of them.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if pid := os.fork():
        theirs.close()
        subprocess._fork_exec = _Children(ours).fork_or_exec  # type: ignore[attr-defined]
        return pid, {}
    ours.close()
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    _show(["standby"])
    with open(os.devnull) as nothing:
        for file in files:
            os.dup2(nothing.fileno(), file)
    return 0, _serve(theirs)


def _give(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give open files these numbers."""
    lowest = max(numbers) + 1
    high = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, lowest) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(high, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)


def _prctl(option: int, value: int) -> None:
    assert ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0


def _show(overrides: Sequence[str]) -> None:
    """Show a command line in place of the server's, for those who look for a process by it."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    line = b"\0".join(map(os.fsencode, overrides))[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


def _typed(number: int, module: str, *overrides: str) -> int:
    """Run a command of a shell, in its folder and environment, and return the exit code."""
    python = WarmPython(number)
    pid = python.fork(module, overrides, os.environ, Path.cwd(), 1, 2)
    code = int(python.ask(json.dumps({"pid": pid, "block": True}).encode()))
    return code if code >= 0 else 128 - code


def _main() -> None:
    gc.disable()
    for name in _IMPORTED:
        __import__(name)
    for path, value in BRIEF_TIMINGS.items():
        module, _, name = path.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    # None of this is garbage, and a fork that looks for some among it copies all its memory.
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    standby = 0
    while sys.platform == "linux" and not standby:
        standby, further = _stand_by(asked["numbers"])
        asked = further or asked
    if standby:
        _show([sys.executable, "-m", asked["module"], *asked["overrides"]])
    gc.enable()
    # Those of the server know where they were in its own files.
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", 1, sys.stderr.encoding, "backslashreplace", closefd=False
    )
    os.chdir(asked["place"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    # Python reads the variable when it starts, which the server did with one of its own.
    sys.path += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv[:] = [asked["module"], *asked["overrides"]]
    try:
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    # As Python ends, but for its last look for cycles among all that torch and MLflow have made:
    # two seconds a command, as every page of the server's memory is copied for it.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if standby:
        with suppress(ProcessLookupError, ChildProcessError):  # it ended with the group
            os.kill(standby, signal.SIGKILL)
            os.waitpid(standby, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "typed":
        sys.exit(_typed(int(sys.argv[2]), *sys.argv[3:]))
    _main()
