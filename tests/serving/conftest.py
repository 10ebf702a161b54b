"""A run of one epoch on the digits with MLflow, and pictures of every awkward kind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.digits import load
from tests.conftest import Outputs
from tests.warm_python import WarmPython

Typed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared_operations() -> Iterator[None]:
    """Exports to ONNX share torch's table of its operations, where they only look these up.

    For a table of its own, each reads the source of 500 functions: half of the time of a small one.
    """
    registration = pytest.importorskip("torch.onnx._internal.exporter._registration")
    registry = registration.ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        yield


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = tmp_path_factory.mktemp("cache")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return inherited | {"BAKEOFF_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PATH": path}


@pytest.fixture(scope="session")
def typed(environment: dict[str, str], warm_python: WarmPython) -> Typed:
    """`typed("src.train", "seed=1")` types `python -m src.train seed=1` in the checkout."""

    def run(module: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        return warm_python.run(module, overrides, environment)

    return run


@pytest.fixture(scope="session")
def trained(typed: Typed, outputs: Outputs) -> Path:
    """The folder of a run of one epoch, mirrored in MLflow beside it."""
    output_dir = outputs("runs of mine")
    overrides = ["model=mlp", "runtime=float32", "trainer.max_epochs=1", "trainer.tta=shift"]
    overrides.append("tracking.figures=false")
    done = typed("src.train", *overrides, f"output_dir={output_dir}")
    assert done.returncode == 0, done.stderr
    (folder,) = (output_dir / "runs").iterdir()
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of many sizes, turned by EXIF, of 16 bits, transparent, in a palette, in JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    source = load(None, folder, False)
    assert source.arrays is not None

    def digit(number: int, width: int, height: int) -> Image.Image:
        return Image.fromarray(source.arrays[number, 0]).resize((width, height))

    def save(name: str, image: Image.Image, **options: object) -> None:
        image.save(folder / name, **options)

    for number, (width, height) in enumerate([(8, 8), (64, 48), (5, 31), (300, 200)]):
        save(f"grey{number}.png", digit(number, width, height))
        save(f"grey{number}.jpg", digit(number, 3 * width, 3 * height))
    turned = Image.Exif()
    turned[0x0112] = 6
    save("turned.jpg", digit(4, 90, 60), exif=turned)
    sixteen = np.asarray(digit(5, 40, 40)).astype(np.uint16) * 257
    save("sixteen.png", Image.fromarray(sixteen))
    transparent = digit(6, 50, 50).convert("RGBA")
    transparent.putalpha(digit(7, 50, 50))
    save("transparent.png", transparent)
    save("palette.gif", digit(8, 33, 44).convert("P"))
    save("cmyk.tiff", digit(9, 44, 33).convert("CMYK"))
    return folder
