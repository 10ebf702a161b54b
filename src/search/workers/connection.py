"""Connections between a driver and workers on other machines, which the workers establish."""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from contextlib import suppress
from multiprocessing.connection import Connection

__all__ = ["IncomingConnection", "connect"]

_SECRET_BYTES = 32
# A peer that does not send the secret at once is no worker.
_INTRODUCTION_SECONDS = 1.0
_CONNECT_SECONDS = 30.0


class IncomingConnection:
    """The driver's end: a port of its own, until the worker that knows the secret connects.

    That does not block: until then what reads from `fileno` gets empty messages now and then. All
    but `cut` is for one thread.

    Args:
        host: address of this machine under which the worker's machine knows it.

    Attributes:
        address: to connect to.
        secret: to send first; it is accepted once.
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
        """Return a descriptor that is readable with a message to receive, and at the end."""
        return self._socket.fileno()

    def recv_bytes(self) -> bytes:
        """Return the next message; an empty one if the worker has not connected yet.

        Raises:
            EOFError, OSError: the connection has ended.
        """
        if self._connection is not None:
            return self._connection.recv_bytes()
        with suppress(TimeoutError, ConnectionError):
            self._accept()
        return b""

    def send_bytes(self, message: bytes, /) -> None:
        """Send a message; OSError if there is no worker."""
        if self._connection is None:
            raise OSError("the worker has not connected yet")
        self._connection.send_bytes(message)

    def cut(self) -> None:
        """End the connection, from any thread: its reader gets the end."""
        self._is_cut = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
        if self._connection is not None:
            self._connection.close()

    def _accept(self) -> None:
        peer, _ = self._socket.accept()
        peer.settimeout(_INTRODUCTION_SECONDS)
        try:
            if not hmac.compare_digest(_exactly(peer, _SECRET_BYTES), self.secret):
                raise ConnectionError("the secret is wrong")
            _keep_alive(peer)
            # The socket can be shut down from another thread; a Connection cannot.
            self._connection = Connection(os.dup(peer.fileno()))
        except OSError:
            peer.close()
            raise
        self._socket.close()
        self._socket = peer
        if self._is_cut:  # while this was under way
            self.cut()


def connect(address: tuple[str, int], secret: bytes) -> Connection:
    """Return the worker's end.

    Raises:
        OSError: the driver does not answer.
    """
    peer = socket.create_connection(address, timeout=_CONNECT_SECONDS)
    _keep_alive(peer)
    peer.sendall(secret)
    return Connection(peer.detach())


def _keep_alive(peer: socket.socket) -> None:
    """Notice within minutes that the other machine is gone, however quiet a long epoch is."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _exactly(peer: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (part := peer.recv(size - len(got))):
        got += part
    return got
