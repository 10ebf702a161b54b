from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import wait

import pytest

from src.search.jobs import Message, Ready, Waiting, decode, encode
from src.search.workers.line import IncomingLine, call


@pytest.fixture
def line() -> Iterator[IncomingLine]:
    line = IncomingLine("127.0.0.1")
    yield line
    line.close()


def _next(line: IncomingLine) -> Message:
    assert wait([line.fileno()], 5), "nothing came"
    return decode(line.recv_bytes())


def test_nothing_to_read_until_the_worker_calls_and_then_both_ways(line: IncomingLine) -> None:
    assert not wait([line.fileno()], 0.05)
    with pytest.raises(OSError, match="not called"):
        line.send_bytes(b"{}")
    with call(line.address, line.secret) as worker:
        assert _next(line) == Waiting()
        worker.send_bytes(encode(Ready()))
        assert _next(line) == Ready()
        line.send_bytes(b"to the worker")
        assert worker.recv_bytes() == b"to the worker"
    with pytest.raises(EOFError):
        _next(line)


def test_strangers_are_turned_away_and_the_worker_still_gets_through(line: IncomingLine) -> None:
    with (
        call(line.address, b"?" * len(line.secret)) as guesser,
        socket.create_connection(line.address) as silent,
        socket.create_connection(line.address) as hasty,
    ):
        hasty.close()
        for _ in range(3):
            assert _next(line) == Waiting()
        with pytest.raises((EOFError, ConnectionError)):
            guesser.recv_bytes()
        assert silent.recv(1) == b""
        with call(line.address, line.secret) as worker:
            assert _next(line) == Waiting()
            worker.send_bytes(encode(Ready()))
            assert _next(line) == Ready()


def test_one_secret_opens_the_line_once(line: IncomingLine) -> None:
    with call(line.address, line.secret):
        _next(line)
        with pytest.raises(ConnectionError):
            call(line.address, line.secret)


@pytest.mark.parametrize("called", [False, True])
def test_a_cut_from_another_thread_wakes_the_reader(line: IncomingLine, called: bool) -> None:
    worker = call(line.address, line.secret) if called else None
    if called:
        _next(line)
    began = time.monotonic()
    threading.Timer(0.1, line.cut).start()
    assert wait([line.fileno()], 5)
    assert time.monotonic() - began < 2
    with pytest.raises((EOFError, OSError)):
        line.recv_bytes()
    if worker is not None:
        with pytest.raises((EOFError, ConnectionError)):
            worker.recv_bytes()
        worker.close()


def test_it_can_be_closed_twice(line: IncomingLine) -> None:
    with call(line.address, line.secret):
        _next(line)
        line.close()
        line.close()
