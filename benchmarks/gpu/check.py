"""One check in a process of its own, as `benchmarks.gpu` starts it.

`python -m benchmarks.gpu.check MODULE:FUNCTION DEVICE FOLDER`
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch

__all__ = ["main"]


def main(target: str, device: str, folder: str) -> None:
    """Append each row that a check yields to `rows.jsonl` in the folder."""
    module, _, function = target.partition(":")
    # Before the first product, as a training has it: equal sums are promised with it alone.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    check = getattr(importlib.import_module(module), function)
    with (Path(folder) / "rows.jsonl").open("a") as file:
        for row in check(torch.device(device), Path(folder)):
            print(f"{row.what}: {row.measured}, bar {row.bar}: {row.result}", flush=True)
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
