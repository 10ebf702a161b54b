from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import wait

import pytest

from src.search.workers.connection import IncomingConnection, connect


@pytest.fixture
def incoming() -> Iterator[IncomingConnection]:
    incoming = IncomingConnection("127.0.0.1")
    yield incoming
    incoming.close()


def _next(incoming: IncomingConnection) -> bytes:
    assert wait([incoming.fileno()], 5), "nothing came"
    return incoming.recv_bytes()


def test_nothing_to_read_until_the_worker_calls_and_then_both_ways(
    incoming: IncomingConnection,
) -> None:
    assert not wait([incoming.fileno()], 0.05)
    with pytest.raises(OSError, match="not connected"):
        incoming.send_bytes(b"{}")
    with connect(incoming.address, incoming.secret) as worker:
        assert _next(incoming) == b""
        worker.send_bytes(b"ready")
        assert _next(incoming) == b"ready"
        incoming.send_bytes(b"to the worker")
        assert worker.recv_bytes() == b"to the worker"
    with pytest.raises(EOFError):
        _next(incoming)


def test_strangers_are_turned_away_and_the_worker_still_gets_through(
    incoming: IncomingConnection,
) -> None:
    with (
        connect(incoming.address, b"?" * len(incoming.secret)) as guesser,
        socket.create_connection(incoming.address) as silent,
        socket.create_connection(incoming.address) as hasty,
    ):
        hasty.close()
        for _ in range(3):
            assert _next(incoming) == b""
        with pytest.raises((EOFError, ConnectionError)):
            guesser.recv_bytes()
        assert silent.recv(1) == b""
        with connect(incoming.address, incoming.secret) as worker:
            assert _next(incoming) == b""
            worker.send_bytes(b"ready")
            assert _next(incoming) == b"ready"


def test_one_secret_opens_the_line_once(incoming: IncomingConnection) -> None:
    with connect(incoming.address, incoming.secret):
        _next(incoming)
        with pytest.raises(ConnectionError):
            connect(incoming.address, incoming.secret)


@pytest.mark.parametrize("called", [False, True])
def test_a_cut_from_another_thread_wakes_the_reader(
    incoming: IncomingConnection, called: bool
) -> None:
    worker = connect(incoming.address, incoming.secret) if called else None
    if called:
        _next(incoming)
    began = time.monotonic()
    threading.Timer(0.1, incoming.cut).start()
    assert wait([incoming.fileno()], 5)
    assert time.monotonic() - began < 2
    with pytest.raises((EOFError, OSError)):
        incoming.recv_bytes()
    if worker is not None:
        with pytest.raises((EOFError, ConnectionError)):
            worker.recv_bytes()
        worker.close()


def test_it_can_be_closed_twice(incoming: IncomingConnection) -> None:
    with connect(incoming.address, incoming.secret):
        _next(incoming)
        incoming.close()
        incoming.close()
