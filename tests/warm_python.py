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
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_IMPORTED = (
    "src.runs.experiment",
    "src.runs.build",
    "src.runs.candidates.choose",
    "sklearn.linear_model",
    "mlflow",
)
_MOST_BYTES = 1 << 20


class WarmPython:
    """Runs modules of the project one after another, each in a process of its own."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self, module: str, words: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Return what `python -m module words` in the checkout gives."""
        line = self._connected()
        asked = {"module": module, "words": list(words), "environment": dict(environment)}
        pid = None
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                files = [out.fileno(), err.fileno()]
                socket.send_fds(line, [json.dumps(asked).encode()], files)
                pid = int(line.recv(_MOST_BYTES))
                code = int(line.recv(_MOST_BYTES))
            except BaseException:  # as when the test took too long
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                # Its exit code would be taken for that of the next command.
                self.close()
                raise
            command = [sys.executable, "-m", module, *words]
            return subprocess.CompletedProcess(command, code, _text(out), _text(err))

    def close(self) -> None:
        """End the server."""
        if self._socket is not None and self._server is not None:
            self._socket.close()
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


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode("utf-8", "backslashreplace"))


def _serve(line: socket.socket) -> dict[str, Any]:
    """Fork for every command that is asked for; return it in the fork, and never in the server."""
    while True:
        message, files, _, _ = socket.recv_fds(line, _MOST_BYTES, 2)
        if not message:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            line.close()
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
            for file, number in zip(files, (1, 2), strict=True):
                os.dup2(file, number)
                os.close(file)
            return dict(json.loads(message))
        for file in files:
            os.close(file)
        line.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _main() -> None:
    gc.disable()
    for name in _IMPORTED:
        __import__(name)
    # None of this is garbage, and a fork that looks for some among it copies all its memory.
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    gc.enable()
    os.environ.clear()
    os.environ.update(asked["environment"])
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
    _main()
