"""What needs a GPU: `make gpu`, or `python -m benchmarks gpu`.

Each check runs in a process of its own and has so many seconds, so that one that fails, hangs or
leaves the device unusable costs the others nothing. They write their rows as they find them, the
most valuable first, and then beside each other those that time nothing; all need nothing from the
internet.

- `BAKEOFF_GPU_CHECKS=epoch,plans` runs some of them.
- `BAKEOFF_GPU_SECONDS=540` ends all of them after so long, 20 minutes by default.
- `BAKEOFF_PHOTOS` names the folder with CIFAR-10, for `speedrun`: `cifar-10-python.tar.gz` as it is
  published, or `cifar10-jpeg.tar.xz`.
- `BAKEOFF_GPU_OUT` names the folder for `gpu.txt`, `gpu.json` and a log of each check;
  `outputs/gpu` by default.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import Row, table_text
from src.machine.subprocesses import ROOT

__all__ = ["CHECKS", "Check", "chosen_checks", "measure", "run_checks"]

_SECONDS = 20 * 60.0
# Less is not worth the start of a process.
_LEAST_SECONDS = 20.0


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        target: `module:function`, which takes a device and a folder,
            and yields rows.
        seconds: after which it is ended.
        beside: whether others may run at the same time: it times nothing.
    """

    target: str
    seconds: float
    beside: bool = False


CHECKS: dict[str, Check] = {
    "steps": Check("benchmarks.gpu.training:steps", 110),
    "epoch": Check("benchmarks.gpu.training:steady_epoch", 90),
    "launches": Check("benchmarks.gpu.launches:launches", 100),
    "dispatches": Check("benchmarks.gpu.dispatches:dispatches", 40),
    "speedrun": Check("benchmarks.gpu.speedrun:speedrun", 150),
    "finetune": Check("benchmarks.gpu.photos:finetune", 120),
    "plans": Check("benchmarks.gpu.training:plans", 150),
    "sweep": Check("benchmarks.gpu.trials:sweep_rate", 170),
    "features": Check("benchmarks.gpu.photos:features", 90),
    "slots": Check("benchmarks.gpu.trials:slots", 120, beside=True),
    "memory": Check("benchmarks.gpu.trials:memory", 120, beside=True),
    "determinism": Check("benchmarks.gpu.runs:determinism", 150, beside=True),
    "resume": Check("benchmarks.gpu.runs:resume", 180, beside=True),
    "metrics": Check("benchmarks.gpu.runs:system_metrics", 180, beside=True),
    "exports": Check("benchmarks.gpu.runs:exports", 180, beside=True),
}


def measure() -> list[Row]:
    """Run the checks that `BAKEOFF_GPU_CHECKS` names, or all; none without a GPU."""
    import torch

    if not torch.cuda.is_available():
        print("torch sees no GPU of CUDA on this machine, so none of the checks was run.")
        return []
    seconds = float(os.environ.get("BAKEOFF_GPU_SECONDS", _SECONDS))
    name = torch.cuda.get_device_name()
    out = Path(os.environ.get("BAKEOFF_GPU_OUT", "outputs/gpu")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    print(f"on {name}, torch {torch.__version__}; results go to {out}", flush=True)
    chosen = chosen_checks(os.environ.get("BAKEOFF_GPU_CHECKS", ""))
    about = {"device": name, "torch": torch.__version__}
    return run_checks(chosen, out, "cuda:0", about=about, seconds=seconds)


def chosen_checks(names: str) -> dict[str, Check]:
    """Return the checks of a list with commas, or all of an empty one; ends with 2 for others."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in CHECKS]:
        print(f"BAKEOFF_GPU_CHECKS: there is no {', '.join(unknown)}: choose of", *CHECKS)
        sys.exit(2)
    return {name: CHECKS[name] for name in wanted or CHECKS}


def run_checks(
    checks: Mapping[str, Check],
    out: Path,
    device: str,
    *,
    about: Mapping[str, Any] | None = None,
    seconds: float = _SECONDS,
) -> list[Row]:
    """Run checks, and write their table to a folder after each of them.

    Args:
        checks: by name, in their order; those that may run beside others do so at the end.
        out: an existing folder.
        device: as torch calls it.
        about: kept with the table.
        seconds: for all of them; those that do not fit any more are skipped.
    """
    deadline, rows = time.monotonic() + seconds, list[Row]()
    alone = [name for name, check in checks.items() if not check.beside]
    groups = [[name] for name in alone] + [[name for name in checks if name not in alone]]
    # One cache for all: pictures and plans of one check serve the next.
    with tempfile.TemporaryDirectory() as cache:
        for group in filter(None, groups):
            left = deadline - time.monotonic()
            if left < _LEAST_SECONDS:
                rows += [Row(name, "skipped: no time was left", "", None) for name in group]
                continue
            print(f"  {', '.join(group)} ...", flush=True)
            for found in _beside_each_other(checks, group, out, device, left, cache):
                rows += found
                (out / "gpu.txt").write_text(table_text(rows) + "\n")
                plain = [asdict(row) | {"result": row.result} for row in rows]
                (out / "gpu.json").write_text(
                    json.dumps({**(about or {}), "rows": plain}, indent=1)
                )
    return rows


def _beside_each_other(
    checks: Mapping[str, Check], group: list[str], out: Path, device: str, left: float, cache: str
) -> Iterator[list[Row]]:
    """Yield the rows of each check of a group, as it ends."""
    with ThreadPoolExecutor(len(group)) as pool:
        running = [
            pool.submit(_rows, name, checks[name], device, left, out / f"{name}.log", cache)
            for name in group
        ]
        for done in as_completed(running):
            yield done.result()


def _rows(name: str, check: Check, device: str, left: float, log: Path, cache: str) -> list[Row]:
    """Return the rows of a check, with one more where it failed or was ended."""
    seconds = min(left, check.seconds)
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bakeoff-gpu-") as place, log.open("w") as output:
        file = Path(place) / "rows.jsonl"
        file.touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.check", check.target, device, place],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Without bytecode every process would compile torch's Python anew.
            env=own | {"BAKEOFF_CACHE": cache},
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # with the processes that it started
            _end_group(process.pid)
            process.wait()
        rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()]
    print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
    if code is None:
        rows.append(Row(name, f"ended after {seconds:.0f} s", "to be over by then", False))
    elif code:
        rows.append(Row(name, f"failed (exit code {code}): see {log.name}", "to be over", False))
    return rows


def _end_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
