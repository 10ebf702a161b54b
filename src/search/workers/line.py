"""A line between driver and worker on different machines: the worker calls, sooner or later."""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from contextlib import suppress
from multiprocessing.connection import Connection

from src.search.jobs import Waiting, encode

__all__ = ["IncomingLine", "call"]

_SECRET_BYTES = 32
# A caller who does not say at once who he is, is none of ours.
_INTRODUCTION_SECONDS = 1.0
_CALL_SECONDS = 30.0


class IncomingLine:
    """The driver's end: a port of its own, until the one worker that knows the secret calls.

    Nobody waits for that: until then whoever watches `fileno` reads `waiting` now and then. All but
    `cut` is for one thread.

    Args:
        host: address of this machine under which the worker's machine knows it.

    Attributes:
        address: to call.
        secret: to say first; it opens this line once.
    """

    def __init__(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self._socket.settimeout(_INTRODUCTION_SECONDS)
        self._connection: Connection | None = None
        self._is_cut = False
        self.address: tuple[str, int] = (host, self._socket.getsockname()[1])
        self.secret = secrets.token_bytes(_SECRET_BYTES)

    def fileno(self) -> int:
        """Readable when there is something to receive, the line's end included."""
        return self._socket.fileno()

    def recv_bytes(self) -> bytes:
        """The next message.

        Raises:
            EOFError, OSError: the line has ended.
        """
        if self._connection is not None:
            return self._connection.recv_bytes()
        with suppress(TimeoutError, ConnectionError):
            self._answer()
        return encode(Waiting())

    def send_bytes(self, message: bytes, /) -> None:
        """Raises: OSError: nobody is there."""
        if self._connection is None:
            raise OSError("the worker has not called yet")
        self._connection.send_bytes(message)

    def cut(self) -> None:
        """End the line, from any thread: its reader learns of it."""
        self._is_cut = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()
        if self._connection is not None:
            self._connection.close()

    def _answer(self) -> None:
        caller, _ = self._socket.accept()
        caller.settimeout(_INTRODUCTION_SECONDS)
        try:
            if not hmac.compare_digest(_exactly(caller, _SECRET_BYTES), self.secret):
                raise ConnectionError("a stranger")
            _prepare(caller)
            # The socket can be shut down from another thread; a Connection cannot.
            self._connection = Connection(os.dup(caller.fileno()))
        except OSError:
            caller.close()
            raise
        self._socket.close()
        self._socket = caller
        if self._is_cut:  # while this was under way
            self.cut()


def call(address: tuple[str, int], secret: bytes) -> Connection:
    """The worker's end.

    Raises:
        OSError: the driver does not answer.
    """
    line = socket.create_connection(address, timeout=_CALL_SECONDS)
    _prepare(line)
    line.sendall(secret)
    return Connection(line.detach())


def _prepare(line: socket.socket) -> None:
    """Notice within minutes that the other machine is gone, however quiet a long epoch is."""
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _exactly(caller: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (part := caller.recv(size - len(got))):
        got += part
    return got
