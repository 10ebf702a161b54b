"""A program without the project, which has nothing but bundles."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

__all__ = ["a_stranger_asks", "a_stranger_asks_all"]

_PROGRAM = """
import os
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, "code")
for number, bundle in enumerate(sys.argv[2:]):
    os.chdir(bundle)
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "src"]:
        del sys.modules[name]
    from src.serving.bundle import open_predictor
    predictor = open_predictor(Path("."))
    pictures = np.load(f"{sys.argv[1]}/pictures{number}.npy")
    np.save(f"{sys.argv[1]}/probs{number}.npy", predictor.probabilities(pictures))
heavy = {"pytorch_lightning", "hydra", "mlflow", "sklearn", "matplotlib", "timm", "torchvision"}
print(*sorted((heavy | {"torch", "onnx", "scipy"}) & set(sys.modules)))
"""


def a_stranger_asks(bundle: Path, pictures: np.ndarray) -> tuple[np.ndarray, set[str]]:
    """What the bundle says of (N, C, H, W) uint8, and which heavy packages that imported."""
    (probs,), heavy = a_stranger_asks_all({bundle: pictures})
    return probs, heavy


def a_stranger_asks_all(
    asked: Mapping[Path, np.ndarray],
) -> tuple[list[np.ndarray], set[str]]:
    """What each bundle says of its pictures, by its own code, and what all of them imported."""
    folder = next(iter(asked)).parent
    for number, pictures in enumerate(asked.values()):
        np.save(folder / f"pictures{number}.npy", pictures)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM, str(folder), *map(str, asked)],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    probs = [np.load(folder / f"probs{number}.npy") for number in range(len(asked))]
    return probs, set(done.stdout.split())
