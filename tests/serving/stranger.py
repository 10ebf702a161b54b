"""A program without the project, which has nothing but a bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

__all__ = ["a_stranger_asks"]

_PROGRAM = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, "code")
from src.serving.bundle import open_predictor
predictor = open_predictor(Path("."))
np.save(sys.argv[2], predictor.probabilities(np.load(sys.argv[1])))
heavy = {"pytorch_lightning", "hydra", "mlflow", "sklearn", "matplotlib", "timm", "torchvision"}
print(*sorted((heavy | {"torch", "onnx", "scipy"}) & set(sys.modules)))
"""


def a_stranger_asks(bundle: Path, pictures: np.ndarray) -> tuple[np.ndarray, set[str]]:
    """What the bundle says of (N, C, H, W) uint8, and which heavy packages that imported."""
    asked, said = (bundle.parent / name for name in ("pictures.npy", "probs.npy"))
    np.save(asked, pictures)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, str(asked), str(said)],
        cwd=bundle,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(said), set(done.stdout.split())
