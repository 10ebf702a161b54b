"""A training beside other programs: the default cnn on the digits, idle, beside two and six loops.

Processes with and without the project's settings for OpenMP take turns of a second each, idle,
beside two and beside six endless Python loops, so that whatever else the machine does meets all
alike. The number of threads is what a training would choose that begins under that load; its
precision and layout are the usual ones. Beside its time stands what one thread's fair share of the
cores would make it, by what that thread does idle. A training that began on all cores keeps its
threads when the load comes later; what it does then is printed as well. The latency of the same
network, on one thread, is measured idle and beside two loops in turn.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.table import Row, spread
from src.machine.openmp import WAITING

__all__ = ["measure"]

_ROUNDS = 9
_SECONDS = 1.0
_LOADS = (0, 2, 6)
_BARS = {2: 2.2, 6: 5.0}
_IDLE_BAR = 0.95
_LATENCIES, _LATENCY_LOAD, _LATENCY_BAR = 5, 2, 1.15

# A training process: "N SECONDS" -> steps a second on N threads; "look" -> threads to begin with;
# "latency" -> milliseconds.
_TRAINING = """
import sys, time
import src
import torch
from src.runs import build
from src.config.compose import read_run_settings
from src.machine.cpu_load import others_load, threads_beside
from src.machine.hardware import has_bfloat16
from src.training.cost import latency_ms
from src.training.stepper import Stepper

most, device = torch.get_num_threads(), torch.device("cpu")
runtime = "bfloat16" if has_bfloat16(device) else "float32"
settings = read_run_settings(["data=digits", "trainer.accelerator=cpu", f"runtime={runtime}"])
data = build.build_data(settings)
task = build.build_task(settings, data)
stepper = Stepper(
    task,
    precision=settings.runtime.precision,
    device=device,
    gradient_clip=settings.trainer.gradient_clip,
)
batch = next(iter(data.batches("train", training=True)))
stepper.step(batch)
print(most, flush=True)
for line in sys.stdin:
    if line.strip() == "look":
        print(threads_beside(others_load(), most), flush=True)
        continue
    if line.strip() == "latency":
        torch.set_num_threads(1)
        print(latency_ms(task.network, tuple(batch[0].shape[1:])), flush=True)
        continue
    threads, seconds = line.split()
    torch.set_num_threads(int(threads))
    stepper.step(batch)
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < float(seconds):
        stepper.step(batch)
        steps += 1
    print(steps / (time.perf_counter() - began), flush=True)
"""


def measure() -> list[Row]:
    """Steps a second of the project's training against its idle ones, and against OpenMP's own
    way of waiting on all cores, which is what a training did without any of this."""
    free = {"GOMP_SPINCOUNT": "300000"}  # what GNU's OpenMP takes where nothing is said
    with _training(WAITING) as ours, _training(free) as plain, _loops(max(_LOADS)) as loops:
        most = int(json.loads(plain.stdout.readline()))  # type: ignore[union-attr]
        json.loads(ours.stdout.readline())  # type: ignore[union-attr]
        found: dict[tuple[str, int], list[float]] = {}
        threads: dict[int, int] = {}
        for turn in range(_ROUNDS + 1):
            for load in _LOADS:
                with _running(loops[:load]):
                    threads[load] = int(_asked(ours, "look")) if load else most
                    rates = {
                        "ours": _asked(ours, f"{threads[load]} {_SECONDS}"),
                        "plain": _asked(plain, f"{most} {_SECONDS}"),
                    }
                    if load:
                        rates["begun before"] = _asked(ours, f"{most} {_SECONDS}")
                    else:
                        rates["one thread"] = _asked(ours, f"1 {_SECONDS}")
                if turn:  # in the first, kernels are chosen
                    for name, rate in rates.items():
                        found.setdefault((name, load), []).append(rate)
        latencies = _latencies(ours, loops[:_LATENCY_LOAD])
    load_average = os.getloadavg()[0]
    print(f"  threads begun with: {threads}; load average at the end {load_average:.1f}")
    for (name, load), rates_found in sorted(found.items()):
        print(f"  {name}, beside {load}: {spread(rates_found, ' steps/s', 1)}")
    return [*_rows(found, most), _latency_row(latencies)]


def _latencies(
    training: subprocess.Popen[str], loops: list[subprocess.Popen[bytes]]
) -> list[tuple[float, float]]:
    """Return milliseconds idle and beside the loops, of so many turns."""
    found = []
    for _ in range(_LATENCIES):
        idle = _asked(training, "latency")
        with _running(loops):
            found.append((idle, _asked(training, "latency")))
    return found


def _latency_row(found: list[tuple[float, float]]) -> Row:
    ratios = [beside / idle for idle, beside in found]
    return Row(
        f"latency measured beside {_LATENCY_LOAD} busy processes against idle, one thread "
        f"({spread((idle for idle, _ in found), ' ms')} idle)",
        spread(ratios),
        f"at most {_LATENCY_BAR:.2f}x",
        statistics.median(ratios) <= _LATENCY_BAR,
    )


def _rows(found: dict[tuple[str, int], list[float]], cores: int) -> list[Row]:
    idle = [ours / plain for ours, plain in zip(found["ours", 0], found["plain", 0])]
    rows = [
        Row(
            "default cnn on the digits, idle: steps/s against OpenMP's own way of waiting",
            spread(idle),
            f"at least {_IDLE_BAR:.2f}x",
            statistics.median(idle) >= _IDLE_BAR,
        )
    ]
    for load, bar in _BARS.items():
        slower, before = (
            [alone / beside for alone, beside in zip(found["plain", 0], found[name, load])]
            for name in ("ours", "plain")
        )
        # Of cores that the loops and a single thread share evenly, as it does idle on its own.
        share = min(1.0, cores / (load + 1))
        fair = [
            alone / (share * one) for alone, one in zip(found["plain", 0], found["one thread", 0])
        ]
        rows.append(
            Row(
                f"its time beside {load} busy processes against idle (as OpenMP comes: "
                f"{spread(before, digits=1)}; one thread with its fair share of {cores} cores: "
                f"{spread(fair, digits=1)})",
                spread(slower),
                f"at most {bar:.1f}x",
                statistics.median(slower) <= bar,
            )
        )
    return rows


@contextmanager
def _training(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    names = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", *WAITING)
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAINING],
        env=inherited | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _loops(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Endless loops, stopped for now."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        for loop in loops:
            loop.send_signal(signal.SIGSTOP)
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def _running(loops: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    for loop in loops:
        loop.send_signal(signal.SIGCONT)
    try:
        yield
    finally:
        for loop in loops:
            loop.send_signal(signal.SIGSTOP)


def _asked(process: subprocess.Popen[str], question: str) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{question}\n")
    process.stdin.flush()
    return float(process.stdout.readline())
