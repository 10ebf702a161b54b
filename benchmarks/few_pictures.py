"""The choice of a classifier by few pictures, with votes of neighbours among the heads and without.

Pictures of some classes are drawn from the training parts of clothing photos, CIFAR-10 and magnetic
tiles and described by a frozen network. The project's search finds a head by so many of a class,
and up to 400 others of these classes judge it. No validation or test part is used.
BAKEOFF_PHOTOS names the folder with the pictures.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.photo_sets import photo_set
from benchmarks.table import Row
from src.config.compose import compose_settings
from src.config.features import EmbeddingSettings
from src.config.schema import RunSettings
from src.features.grid import HeadGroup, head_groups
from src.features.heads import Examples, choose_head, fit_chosen
from src.machine.arrays import Float32Array, Int64Array
from src.runs.build import build_data, build_extractors, feature_table

__all__ = ["measure"]

_SETS = ("clothing", "cifar10", "tiles")
_NETWORK = "tf_efficientnet_lite1"
# Classes and pictures of each.
_CASES = ((2, 10), (2, 25), (4, 6), (5, 8), (10, 4), (10, 8), (10, 16))
_DRAWS, _MOST_JUDGED = 12, 400
_MANY = 1_000  # pictures of which all heads are tried


def measure() -> list[Row]:
    """The difference that neighbours make, paired over draws, by the number of pictures."""
    found: dict[int, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for name in _SETS:
            features, targets, model = _described(photo_set(name, Path(folder)))
            for classes, count in _CASES:
                for draw in range(_DRAWS):
                    rng = np.random.default_rng((draw, classes, count))
                    for difference in _differences(rng, features, targets, model, classes, count):
                        found.setdefault(classes * count, []).append(difference)
            print(f"  {name}: done", flush=True)
    rows = [_row(f"{count} pictures", some) for count, some in sorted(found.items())]
    return [*rows, _row("all of these", [one for some in found.values() for one in some])]


def _row(what: str, differences: list[tuple[float, float]]) -> Row:
    points, nats = np.array(differences).T
    return Row(
        f"the best head by {what} of two to ten classes: what votes of neighbours gain, "
        f"{len(points)} draws",
        f"{100 * points.mean():+.2f} points (standard error {100 * _error(points):.2f}), "
        f"{nats.mean():+.3f} nats of log-loss ({_error(nats):.3f})",
        "no clear gain",
        bool(points.mean() <= 2 * _error(points)),
    )


def _error(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _described(root: Path) -> tuple[Float32Array, Int64Array, EmbeddingSettings]:
    """Return features (N, D) and classes (N,) of the training part, and the model's settings."""
    overrides = ["data=folder", f"data.root={root}", "model=embedding"]
    settings = compose_settings(RunSettings, [*overrides, f"model.networks=[{_NETWORK}]"])
    assert isinstance(settings.model, EmbeddingSettings)
    data = build_data(settings)
    table = feature_table(settings, data, build_extractors(settings, data))
    return table.part("train"), data.pictures.targets[data.split.train], settings.model


def _differences(
    rng: np.random.Generator,
    features: Float32Array,
    targets: Int64Array,
    model: EmbeddingSettings,
    classes: int,
    count: int,
) -> Iterator[tuple[float, float]]:
    """Yield by how much neighbours make accuracy and log-loss larger; nothing for too few."""
    sizes = np.bincount(targets)
    chosen = rng.permutation(np.flatnonzero(sizes >= count + 20))[:classes]
    if len(chosen) < classes:
        return
    own = [rng.permutation(np.flatnonzero(targets == one)) for one in chosen]
    known = np.concatenate([ids[:count] for ids in own])
    unseen = rng.permutation(np.concatenate([ids[count:] for ids in own]))[:_MOST_JUDGED]
    labels = np.searchsorted(np.sort(chosen), targets)
    examples = Examples(features[known], labels[known], np.arange(len(known)), [features.shape[1]])

    def judged(groups: list[HeadGroup]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        choice = choose_head(examples, folds=5, seed=0, seconds=math.inf, groups=groups)
        fitted = fit_chosen(choice, model, examples, num_classes=classes, seed=0, threads=1)
        probs = fitted.probabilities(features[unseen])
        chance = probs[np.arange(len(unseen)), labels[unseen]]
        right = (probs.argmax(axis=1) == labels[unseen]).mean()
        return np.array([right, -np.log(np.maximum(chance, 1e-12)).mean()])

    wide = features.shape[1]
    without = [one for one in head_groups(_MANY, wide) if one.kind != "knn"]
    points, nats = judged(head_groups(_MANY, wide)) - judged(without)
    yield float(points), float(nats)
