"""The same three parts of a set's pictures for every contestant, dealt anew for each seed."""

from __future__ import annotations

import csv
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.runs.build import build_data

__all__ = ["Parts", "deal"]

# Of a set: pictures a class that are taken, all where it is not named; and the shares of the
# validation and the test part. Those of CIFAR-10 leave a hundred a class in each.
_AT_MOST = {"cifar10": 300}
_SHARES = {"cifar10": (1 / 3, 1 / 3)}
_USUAL_SHARES = (0.15, 0.15)


@dataclass(frozen=True)
class Parts:
    """One division of a set.

    Attributes:
        known: folder with `train` and `val`, each with one folder of pictures a class.
        test: folder of the pictures of the test part, under names that say nothing.
        truth: the class of each picture of the test part, by its name there.
        sources: the path of each of them in the set, by its name there.
    """

    known: Path
    test: Path
    truth: Mapping[str, str]
    sources: Mapping[str, str]

    def right(self, labels: Mapping[str, str]) -> dict[str, bool]:
        """Return for each picture of the test part, by its path in the set, whether it is right.

        Raises:
            ValueError: a picture has no label, or one that is not in the test part has.
        """
        if labels.keys() != self.truth.keys():
            odd = sorted(labels.keys() ^ self.truth.keys())
            raise ValueError(f"labels and test part differ in {len(odd)} pictures, as {odd[0]}")
        return {self.sources[name]: labels[name] == label for name, label in self.truth.items()}


def deal(name: str, pictures: Path, folder: Path, seed: int) -> Parts:
    """Divide a set by the project's own rule, under which equal and near pictures stay together.

    Parts that the set brings are put together first, so that every seed has other pictures.

    Args:
        name: of the set.
        pictures: its folder: of class folders, or of parts with class folders.
        folder: where the parts are put, unless they are there.
        seed: of the division.
    """
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _write(name, pictures, unfinished, seed)
        unfinished.rename(folder)
    with (folder / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["name"], row["label"], row["source"]) for row in csv.DictReader(file)]
    return Parts(
        folder / "known",
        folder / "test",
        {one: label for one, label, _ in rows},
        {one: source for one, _, source in rows},
    )


def _write(name: str, pictures: Path, folder: Path, seed: int) -> None:
    pooled = folder / "pooled"
    _pool(pictures, pooled, _AT_MOST.get(name), seed)
    val, test = _SHARES.get(name, _USUAL_SHARES)
    overrides = [
        f"data.val_fraction={val}",
        f"data.test_fraction={test}",
        f"data.split_seed={seed}",
    ]
    settings = compose_settings(RunSettings, ["data=folder", "data.on_bad_image=skip", *overrides])
    placed = replace(settings.data, root=str(pooled), cache_dir=str(folder / "cache"))
    data = build_data(replace(settings, data=placed))
    paths = data.pictures.sample_paths
    assert paths is not None
    for part in ("train", "val"):
        for index in getattr(data.split, part).tolist():
            _link(pooled / paths[index], folder / "known" / part / paths[index])
    _write_test(pooled, [paths[index] for index in data.split.test.tolist()], folder, seed)
    shutil.rmtree(pooled)
    shutil.rmtree(folder / "cache")


def _pool(pictures: Path, pooled: Path, at_most: int | None, seed: int) -> None:
    """Put the pictures of all parts into one folder a class, so many of each at most."""
    classes: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(path for path in pictures.rglob("*") if path.is_file()):
        classes[file.parent.name].append(file)
    rng = np.random.default_rng(seed)
    for label, files in classes.items():
        for place in rng.permutation(len(files))[:at_most].tolist():
            # Two parts may have files of one name.
            name = "-".join((*files[place].relative_to(pictures).parts[:-2], files[place].name))
            _link(files[place], pooled / label / name)


def _write_test(pooled: Path, paths: list[str], folder: Path, seed: int) -> None:
    """Put the pictures of the test part into one folder in random order, and their classes aside.

    Args:
        pooled: folder of class folders.
        paths: of the test part's pictures in it.
    """
    with (folder / "test.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "label", "source"])
        for number, place in enumerate(np.random.default_rng(seed).permutation(len(paths))):
            path = Path(paths[place])
            name = f"{number:05d}{path.suffix.lower()}"
            _link(pooled / path, folder / "test" / name)
            rows.writerow([name, path.parent.name, path.as_posix()])


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)
