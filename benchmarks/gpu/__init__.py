"""What needs a GPU: `make gpu`, or `python -m benchmarks gpu`.

Each check runs in a process of its own and has so many seconds, so that one that fails, hangs or
leaves the device unusable costs the others nothing. They write their rows as they find them, the
most valuable first; all together take less than 25 minutes, and need nothing from the internet.

- `BAKEOFF_GPU_CHECKS=epoch,plans` runs some of them.
- `BAKEOFF_PHOTOS` names the folder with `cifar10-jpeg.tar.xz`, for `speedrun`.
- `BAKEOFF_GPU_OUT` names the folder for `gpu.txt`, `gpu.json` and `gpu.log`; `outputs/gpu` else.
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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.table import Row, table_text
from src.machine.subprocesses import ROOT

__all__ = ["CHECKS", "Check", "chosen_checks", "measure", "run_checks"]

_SECONDS = 24 * 60.0
# Less is not worth the start of a process.
_LEAST_SECONDS = 20.0


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        target: `module:function`, which takes a device and a folder,
            and yields rows.
        seconds: after which it is ended.
    """

    target: str
    seconds: float


CHECKS: dict[str, Check] = {
    "epoch": Check("benchmarks.gpu.training:steady_epoch", 240),
    "plans": Check("benchmarks.gpu.training:plans", 220),
    "steps": Check("benchmarks.gpu.training:steps", 200),
    "speedrun": Check("benchmarks.gpu.speedrun:speedrun", 300),
    "sweep": Check("benchmarks.gpu.trials:sweep_rate", 240),
    "features": Check("benchmarks.gpu.photos:features", 120),
    "finetune": Check("benchmarks.gpu.photos:finetune", 120),
    "memory": Check("benchmarks.gpu.trials:memory", 100),
    "slots": Check("benchmarks.gpu.trials:slots", 100),
    "determinism": Check("benchmarks.gpu.runs:determinism", 60),
    "resume": Check("benchmarks.gpu.runs:resume", 90),
    "metrics": Check("benchmarks.gpu.runs:system_metrics", 60),
    "exports": Check("benchmarks.gpu.runs:exports", 180),
}


def measure() -> list[Row]:
    """Run the checks that `BAKEOFF_GPU_CHECKS` names, or all; none without a GPU."""
    import torch

    if not torch.cuda.is_available():
        print("torch sees no GPU of CUDA on this machine, so none of the checks was run.")
        return []
    name = torch.cuda.get_device_name()
    out = Path(os.environ.get("BAKEOFF_GPU_OUT", "outputs/gpu")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    print(f"on {name}, torch {torch.__version__}; results go to {out}", flush=True)
    chosen = chosen_checks(os.environ.get("BAKEOFF_GPU_CHECKS", ""))
    return run_checks(chosen, out, "cuda:0", about={"device": name, "torch": torch.__version__})


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
    """Run checks one after another, and write their table to a folder after each of them.

    Args:
        checks: by name, in their order.
        out: an existing folder.
        device: as torch calls it.
        about: kept with the table.
        seconds: for all of them; those that do not fit any more are skipped.
    """
    began, rows = time.monotonic(), list[Row]()
    # One cache for all: pictures and plans of one check serve the next.
    with (out / "gpu.log").open("w") as log, tempfile.TemporaryDirectory() as cache:
        for name, check in checks.items():
            left = seconds - (time.monotonic() - began)
            if left < _LEAST_SECONDS:
                rows.append(Row(name, "skipped: no time was left", "", None))
                continue
            print(f"  {name} ...", flush=True)
            rows += _rows(name, check, device, min(left, check.seconds), log, cache)
            (out / "gpu.txt").write_text(table_text(rows) + "\n")
            plain = [asdict(row) | {"result": row.result} for row in rows]
            (out / "gpu.json").write_text(json.dumps({**(about or {}), "rows": plain}, indent=1))
    return rows


def _rows(
    name: str, check: Check, device: str, seconds: float, log: IO[str], cache: str
) -> list[Row]:
    """Return the rows of a check, with one more where it failed or was ended."""
    log.write(f"== {name}\n")
    log.flush()
    with tempfile.TemporaryDirectory(prefix="bakeoff-gpu-") as place:
        file = Path(place) / "rows.jsonl"
        file.touch()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.check", check.target, device, place],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"BAKEOFF_CACHE": cache},
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # with the processes that it started
            _end_group(process.pid)
            process.wait()
        rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()]
    if code is None:
        rows.append(Row(name, f"ended after {seconds:.0f} s", "to be over by then", False))
    elif code:
        rows.append(Row(name, f"failed (exit code {code}): see gpu.log", "to be over", False))
    return rows


def _end_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
