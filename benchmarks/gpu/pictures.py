"""Pictures for the checks: drawn ones of any number and size, and CIFAR-10 as it is published."""

from __future__ import annotations

import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.photo_sets import given

__all__ = ["cifar10_batches", "write_drawn"]

_BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}


def write_drawn(file: Path, counts: dict[str, int], side: int, classes: int = 10) -> Path:
    """Write an `.npz` file of drawn colour pictures that can be told apart by their class.

    Args:
        file: to write; it is returned.
        counts: pictures of each part, "train", "val", "test".
        side: of a picture in pixels.
        classes: K, at least 2.
    """
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in counts.items():
        labels = np.arange(count) % classes
        # Large squares of a picture's own, so that no two are alike, and its class as a tint.
        squares = generator.integers(0, 200, (count, -(-side // 8), -(-side // 8), 3), np.uint8)
        images = squares.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]
        tint = np.stack([labels, 2 * labels % classes, 3 * labels % classes], 1) * 55 // classes
        arrays[f"{part}_images"] = images + tint[:, None, None].astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(file, allow_pickle=False, **arrays)
    return file


def cifar10_batches(folder: Path, limit: int | None = None) -> Path | None:
    """Write CIFAR-10, out of its JPEG files, as the published batches that `data=cifar10` reads.

    Args:
        folder: to write into; it is the value of `data.root`.
        limit: pictures of each part; None for all.

    Returns:
        The folder; None where BAKEOFF_PHOTOS names no folder with the pictures.
    """
    archive = given("cifar10-jpeg.tar.xz")
    if archive is None:
        return None
    files: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            part, name = path.parent.parent.name, path.parent.name
            if part in files and (content := tar.extractfile(member)) is not None:
                files[part].append((name, content.read()))
    names = sorted({name for name, _ in files["train"]})
    target = folder / "cifar-10-batches-py"
    target.mkdir(parents=True)
    for part, batches in _BATCHES.items():
        chosen = [files[part][i] for i in np.random.default_rng(0).permutation(len(files[part]))]
        for number, batch in enumerate(batches):
            some = chosen[:limit][number :: len(batches)]
            with ThreadPoolExecutor() as pool:
                rows = list(pool.map(_row, (content for _, content in some)))
            labels = [names.index(name) for name, _ in some]
            stored = {b"data": np.stack(rows), b"labels": labels}
            (target / batch).write_bytes(pickle.dumps(stored, protocol=2))
    meta = {b"label_names": [name.encode() for name in names]}
    (target / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


def _row(content: bytes) -> np.ndarray:
    """(3072,) uint8: the red pixels row by row, the green ones, the blue ones."""
    return np.asarray(Image.open(BytesIO(content)).convert("RGB")).transpose(2, 0, 1).reshape(-1)
