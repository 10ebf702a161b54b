from __future__ import annotations

import os
import signal

import pytest

from src.machine.helper import Helper


@pytest.mark.parametrize(("things", "others"), [(9, 0.0), (10, 0.9)])
def test_none_is_started_for_few_things_or_without_a_free_core(
    things: int, others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 2)
    monkeypatch.setattr("src.machine.helper.CpuLoad.__exit__", _sees(others))
    with Helper("src.machine.text", least=10) as helper:
        assert helper.submit(os.getpid) is None  # before its start
        helper.start(things)
        assert helper.submit(os.getpid) is None


def test_what_is_left_to_it_is_done_in_another_process_until_that_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 2)
    monkeypatch.setattr("src.machine.helper.CpuLoad.__exit__", _sees(0.1))
    with Helper("src.machine.text", least=10) as helper:
        helper.start(10)
        begun = helper.submit(os.getpid)
        assert begun is not None
        process = begun.result()
        assert process != os.getpid()
        lost = helper.submit(signal.pause)
        os.kill(process, signal.SIGKILL)
        assert lost is not None and lost.exception() is not None
        assert helper.submit(os.getpid) is None


def _sees(others: float) -> object:
    def leave(load: object, *_: object) -> None:
        load.others = others  # type: ignore[attr-defined]

    return leave
