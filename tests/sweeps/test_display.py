from __future__ import annotations

import errno
import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, TrialRecord
from src.search.loop import OVER
from src.sweeps.display import Display
from tests.sweeps.stand_in import Clock

METRIC = "val/accuracy"
COUNTS = {COMPLETE: 3, PRUNED: 2, FAILED: 1, RUNNING: 4}


class Gone(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal  # type: ignore[method-assign]

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "the terminal went away")


def trial(
    number: int, state: str = RUNNING, value: float | None = None, **more: Any
) -> TrialRecord:
    curve = () if value is None else ((1, value),)
    objectives = (value,) if state == COMPLETE and value is not None else None
    settings = {"optimizer.lr": 0.003, "model.width": 32 + number}
    return TrialRecord(number, "cnn", state, settings, curve=curve, objectives=objectives, **more)


@contextmanager
def display_on_terminal(
    lines: int = 30,
    columns: int = 100,
    clock: Callable[[], float] = time.monotonic,
    best: TrialRecord | None = None,
) -> Iterator[tuple[Display, list[str]]]:
    """On a real terminal of this size; and what was written there, once it is closed."""
    reader, writer = pty.openpty()
    written: list[str] = []
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read() -> None:
        data = b""
        with suppress(OSError):  # the other end was closed
            while chunk := os.read(reader, 65536):
                data += chunk
        written.append(data.decode())

    thread = threading.Thread(target=read)
    thread.start()
    try:
        with (
            os.fdopen(writer, "w", encoding="utf-8") as stream,
            Display(stream, metric=METRIC, families=["cnn"], clock=clock, best=best) as display,
        ):
            yield display, written
    finally:
        thread.join()
        os.close(reader)


@pytest.fixture
def color(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


@pytest.mark.usefixtures("color")
def test_a_terminal_shows_slots_the_best_and_what_is_left() -> None:
    clock = Clock()
    with display_on_terminal(clock=clock) as (display, written):
        display.began(0, trial(7), 12)
        display.began(1, trial(8), 9)
        display.reported(0, 4, {METRIC: 0.9125})
        done = trial(3, COMPLETE, 0.95, seconds=8.4)
        display.began(2, done, 12)
        display.freed(2)
        display.ended(2, done, done)
        clock.now += 75
        display.tick(COUNTS, "8 min left")
    shown = plain(written[0]).splitlines()
    at = next(i for i, line in enumerate(shown) if "slot" in line)
    assert shown[at : at + 6] == [
        "  slot  candidate  epoch  accuracy        time  settings",
        "     0  cnn-7       4/12    91.2 %  1 min 15 s  lr=0.003 width=39",
        "     1  cnn-8        0/9            1 min 15 s  lr=0.003 width=40",
        "best validation accuracy 95.0 %: cnn-3",
        "cnn-3  complete, accuracy 95.0 %, 1 epoch, 8.4 s, the best so far",
        "3 done, 2 pruned, 1 failed, 4 running  8 min left",
    ]
    assert "\x1b[32m" in written[0]
    assert re.search(r"\x1b\[38;[\d;]+mcnn-7\x1b\[0m", written[0])  # in the color of its family
    assert written[0].count("\x1b[?25l") == written[0].count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.usefixtures("color")
def test_many_slots_leave_room_for_the_rest() -> None:
    for lines, rows in ((50, 16), (12, 6)):
        with display_on_terminal(lines, 60) as (display, written):
            for slot in range(256):
                display.began(slot, trial(slot), 12)
            display.tick(COUNTS, "8 min left")
        shown = plain(written[0])
        assert f"  and {256 - rows} more" in shown
        assert len(re.findall(r"^ +\d+  cnn-\d+", shown, re.MULTILINE)) == rows
        assert all(len(line) <= 60 for line in shown.splitlines())


@pytest.mark.usefixtures("color")
def test_it_draws_at_most_four_times_a_second_and_takes_the_area_away() -> None:
    clock = Clock()
    with display_on_terminal(clock=clock) as (display, written):
        display.began(0, trial(7), 12)
        for _ in range(100):
            clock.now += 0.01
            display.tick(COUNTS, "8 min left")
    assert 4 <= written[0].count("8 min left") <= 5
    assert "\x1b[2K" in written[0].rpartition("8 min left")[2]


def test_what_is_fitted_in_one_go_counts_no_epochs() -> None:
    out = io.StringIO()
    with Display(out, metric=METRIC, families=["handcrafted"], clock=Clock()) as display:
        for number, steps in ((0, 1), (1, 12)):
            display.began(0, trial(number), steps)
            display.freed(0)
            display.ended(0, trial(number, COMPLETE, 0.5), None)
    assert [line.partition("%")[2] for line in out.getvalue().splitlines() if "%" in line] == [
        "",
        ", 1 epoch",
    ]


@pytest.mark.usefixtures("color")
def test_who_led_before_is_shown_and_said_lines_stay_as_they_are() -> None:
    with display_on_terminal(30, 40, best=trial(3, COMPLETE, 0.95)) as (display, written):
        display.tick(COUNTS, "8 min left")
        display.show("GPU 1 [bold]ran out[/] of memory: " + "x" * 30)
    assert "GPU 1 [bold]ran out[/] of memory: " + "x" * 30 in plain(written[0])
    assert "best validation accuracy 95.0 %: cnn-3" in plain(written[0]).splitlines()


@pytest.mark.usefixtures("color")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_and_the_live_area_are_left_out_on_request(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with display_on_terminal() as (display, written):
        display.ended(0, trial(3, FAILED, 0.5, reason="out of memory"), None)
        display.tick(COUNTS, "8 min left")
    assert "cnn-3  failed, 1 epoch, out of memory" in written[0]
    assert ("\x1b" in written[0]) == (name == "NO_COLOR") and "\x1b[31m" not in written[0]


@pytest.mark.usefixtures("color")
def test_what_goes_on_beside_trials_is_said_with_its_time_until_a_line_comes() -> None:
    clock = Clock()
    with display_on_terminal(clock=clock) as (display, written):
        display.doing("starting the workers")
        clock.now += 75
        display.go_on()
        display.show("cnn: finding out")
        clock.now += 1
        display.go_on()
    shown = plain(written[0])
    assert "starting the workers (1 min 15 s so far)" in shown
    assert "cnn: finding out" in shown and "0 done" in shown.rpartition("starting")[2]
    out = io.StringIO()
    with Display(out, metric=METRIC, families=["cnn"], clock=clock) as display:
        display.doing("measuring the winner")
        display.go_on()
    assert out.getvalue() == "measuring the winner\n"


def test_elsewhere_a_line_for_every_ended_trial_and_one_a_minute() -> None:
    clock, out = Clock(), io.StringIO()
    best = trial(0, COMPLETE, 0.97, seconds=75.0)
    with Display(out, metric=METRIC, families=["cnn", "gru_2"], clock=clock) as display:
        display.began(0, trial(0), 12)
        display.began(1, trial(1), 12)
        display.reported(0, 1, {METRIC: 0.5})
        display.ended(0, best, best)
        for slot in (0, 1):
            display.freed(slot)
        display.began(0, best, 12)  # a finalist, which is announced
        display.ended(1, trial(1, PRUNED, 0.5), best)
        display.ended(2, trial(2, FAILED, 0.5, reason="out of\nmemory \x1b[31m"), best)
        display.ended(3, trial(9, PRUNED, 0.5, reason=OVER), best)
        late = "stopped after 1 epoch: the other 3 take 6.2 s, and 3.9 s are left"
        display.ended(3, trial(8, PRUNED, 0.6, reason=late), best)
        display.show("a word")
        for _ in range(119):
            clock.now += 1
            display.tick(COUNTS, "8 min left")
    state = "3 done, 2 pruned, 1 failed, 4 running"
    assert out.getvalue().splitlines() == [
        "cnn-0 begins",
        "cnn-0    complete, accuracy 97.0 %, 1 epoch, 1 min 15 s, the best so far",
        "cnn-1    pruned, accuracy 50.0 %, 1 epoch",
        "cnn-2    failed, 1 epoch, out of memory [31m",
        "cnn-9    stopped, accuracy 50.0 %, 1 epoch, the time was over",
        "cnn-8    stopped, accuracy 60.0 %, 1 epoch, the other 3 take 6.2 s, and 3.9 s are left",
        "a word",
        f"{state}. best validation accuracy 97.0 %: cnn-0. 8 min left",
    ]


@pytest.mark.usefixtures("color")
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_that_goes_away_ends_no_race(is_terminal: bool) -> None:
    with Display(Gone(is_terminal), metric=METRIC, families=["cnn"]) as display:
        display.began(0, trial(0), 3)
        display.tick(COUNTS, "")
        display.show("a word")
        display.ended(0, trial(0, COMPLETE, 0.5), None)
        display.tick(COUNTS, "")


@pytest.mark.usefixtures("color")
def test_a_late_report_is_ignored_and_errors_pass_through() -> None:
    def late(display: Display) -> None:
        display.reported(5, 1, {METRIC: 0.5})
        raise KeyError("real")

    with pytest.raises(KeyError, match="real"), display_on_terminal() as (display, written):
        late(display)
    assert written[0].count("\x1b[?25l") == written[0].count("\x1b[?25h") == 1


@pytest.mark.usefixtures("color")
def test_an_event_costs_less_than_a_millisecond() -> None:
    with display_on_terminal() as (display, _):
        started = time.process_time()
        for number in range(1000):
            slot = number % 256
            display.began(slot, trial(number), 12)
            display.reported(slot, 1, {METRIC: 0.5})
            done = trial(number, COMPLETE, 0.5)
            display.ended(slot, done, done)
            display.tick(COUNTS, "8 min left")
        spent = time.process_time() - started
    assert spent / 4000 < 0.001


def test_it_writes_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(metric=METRIC, families=["cnn"]) as display:
        display.show("a word")
    assert capsys.readouterr() == ("", "a word\n")


@pytest.mark.parametrize(
    ("first", "second", "lead"),
    [
        ({"val/log_loss": 0.5}, {"val/log_loss": 0.4}, "level with cnn-1, ahead by log-loss"),
        ({"cost/latency_ms": 2.0}, {"cost/latency_ms": 1.0}, "level with cnn-1, ahead by latency"),
        ({}, {}, "level with cnn-1, ahead by name"),
    ],
)
def test_the_best_of_equal_trials_is_not_called_better(
    first: dict[str, float], second: dict[str, float], lead: str
) -> None:
    out = io.StringIO()
    with Display(out, metric=METRIC, families=["cnn"]) as display:
        display.ended(0, one := trial(1, COMPLETE, 0.9, figures=first), one)
        display.ended(0, other := trial(0, COMPLETE, 0.9, figures=second), other)
        display.ended(0, trial(2, COMPLETE, 0.9), other)
        display.ended(0, better := trial(3, COMPLETE, 0.91), better)
    ends = [line.partition("epoch")[2] for line in out.getvalue().splitlines()]
    assert ends == [", the best so far", f", {lead}", "", ", the best so far"]


def test_lines_call_the_metric_what_pages_call_it_and_say_where_it_is_a_mean_of_folds() -> None:
    clock = Clock()
    done = trial(3, COMPLETE, 0.625, seconds=8.4)
    for metric, given, name in (
        ("val/miou", {}, "validation mean IoU"),
        ("val/accuracy", {"sets": True}, "validation exact match"),
        (
            "val/map",
            {"sets": True, "steps": "folds"},
            "validation mean average precision (mean of folds)",
        ),
    ):
        out = io.StringIO()
        with Display(out, metric=metric, families=["cnn"], clock=clock, **given) as display:
            display.ended(0, done, done)
            clock.now += 61
            display.tick(COUNTS, "")
        assert f"best {name} 62.5 %: cnn-3" in out.getvalue()
