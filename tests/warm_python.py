"""Commands as processes of their own that start at once: forked from one that has imported torch.

`python -m src.train` spends most of a short run on imports. A server imports once and forks for
every command; what is forked has its own process id, environment, arguments, output and exit code,
and ends as any Python does. How a command starts from nothing is for tests that start `python`.
"""

from __future__ import annotations

import atexit
import gc
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
_IMPORTED = (
    "src.runs.experiment",
    "src.runs.build",
    "src.runs.candidates.choose",
    *("sklearn.linear_model", "sklearn.ensemble", "sklearn.svm", "skops.io"),
    "mlflow",
)
_MOST_BYTES = 1 << 20


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
            code = self._python.ask({"pid": self.pid, "block": block})
            self.returncode = int(code) if code else None
        return self.returncode

    def wait(self) -> int:
        self.poll(block=True)
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Return what it printed until it ended."""
        self.wait()
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
        self, module: str, words: Sequence[str], environment: Mapping[str, str], place: Path = ROOT
    ) -> Command:
        """Start `python -m module words` in a folder."""
        # They are the command's as long as it is looked at.
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        pid = self.fork(module, words, environment, place, out.fileno(), err.fileno())
        return Command(self, pid, out, err)

    def fork(
        self,
        module: str,
        words: Sequence[str],
        environment: Mapping[str, str],
        place: Path,
        *files: int,
    ) -> int:
        """Start it with these files for its output and its errors; return its process id."""
        asked: dict[str, Any] = {"module": module, "words": list(words), "place": str(place)}
        return int(self.ask(asked | {"environment": dict(environment)}, *files))

    def in_a_shell(self) -> tuple[int, str]:
        """Return a line of bash after which `python -m src.…` runs here, and the file it needs."""
        number = self._connected().fileno()
        typed = shlex.join([sys.executable, "-IS", __file__, "typed", str(number)])
        known = f'"-m src."*) {typed} "${{@:2}}";;'
        usual = '*) command python "$@";;'
        return number, f'python() {{ case "${{1-}} ${{2-}}" in {known} {usual} esac; }}\n'

    def run(
        self, module: str, words: Sequence[str], environment: Mapping[str, str], place: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Return what `python -m module words` in a folder gives."""
        begun = self.begin(module, words, environment, place)
        try:
            out, err = begun.communicate()
        except BaseException:  # as when the test took too long
            os.killpg(begun.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess([module, *words], begun.wait(), out, err)

    def ask(self, message: Mapping[str, object], *files: int) -> str:
        """Send the server a message and return its answer."""
        line = self._connected()
        try:
            socket.send_fds(line, [json.dumps(message).encode()], files)
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
                [sys.executable, "-m", "tests.warm_python", str(number)],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                pass_fds=[number],
            )
            theirs.close()
        return self._socket


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "backslashreplace")


def _serve(line: socket.socket) -> dict[str, Any]:
    """Fork for every command that is asked for; return it in the fork, and never in the server."""
    while True:
        message, files, _, _ = socket.recv_fds(line, _MOST_BYTES, 2)
        if not message:
            os._exit(0)
        asked: dict[str, Any] = json.loads(message)
        if "pid" in asked:
            ended, status = os.waitpid(asked["pid"], 0 if asked["block"] else os.WNOHANG)
            line.send(str(os.waitstatus_to_exitcode(status) if ended else " ").encode())
            continue
        pid = os.fork()
        if pid == 0:
            line.close()
            os.setsid()
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
            for file, number in zip(files, (1, 2), strict=True):
                os.dup2(file, number)
                os.close(file)
            return asked
        for file in files:
            os.close(file)
        line.send(str(pid).encode())


def _typed(number: int, module: str, *words: str) -> int:
    """Run a command of a shell, in its folder and environment, and return the exit code."""
    python = WarmPython(number)
    pid = python.fork(module, words, os.environ, Path.cwd(), 1, 2)
    code = int(python.ask({"pid": pid, "block": True}))
    return code if code >= 0 else 128 - code


def _main() -> None:
    gc.disable()
    for name in _IMPORTED:
        __import__(name)
    # None of this is garbage, and a fork that looks for some among it copies all its memory.
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
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
    sys.argv[:] = [asked["module"], *asked["words"]]
    try:
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    # As Python ends, but for its last look for cycles among all that torch and MLflow have made:
    # two seconds a command, as every page of the server's memory is copied for it.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "typed":
        sys.exit(_typed(int(sys.argv[2]), *sys.argv[3:]))
    _main()
