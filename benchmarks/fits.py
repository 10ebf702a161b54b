"""How pictures of other proportions are best fitted into the square of a frozen network.

For each set and network of published weights, the pictures are squeezed, cropped and padded to the
network's own size. For each way the project's search among heads finds one on the features of the
training part, and that head is measured twice: on five folds of the training part, and fitted to
all of it on the validation part. Test parts are not described. Differences are paired, picture by
picture; their standard errors say nothing about the search's luck, which is the same for each way.

BAKEOFF_PHOTOS names the folder with the pictures; BAKEOFF_PHOTO_SETS=clothing,tiles, whose pictures
are no squares, and BAKEOFF_NETWORKS=tf_efficientnet_lite2,tf_efficientnet_lite0 choose what is
measured.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.photo_sets import photo_set
from benchmarks.table import Row
from src.config.compose import compose_settings
from src.config.features import EmbeddingSettings
from src.config.schema import RunSettings
from src.features.calibration import folds_of
from src.features.grid import head_groups
from src.features.heads import Examples, choose_head
from src.features.pipeline import make_pipeline
from src.machine.arrays import BoolArray
from src.runs.build import build_data, build_extractors, feature_table, fold_codes

__all__ = ["measure"]

_FITS = ("squeeze", "crop", "pad")
_FOLDS, _SEED = 5, 0
# Of `head_groups`: nearest mean, logistic and ridge regression under two normalisations, whatever
# else runs meanwhile.
_GROUPS = 6


def measure() -> list[Row]:
    """A row for each set and network: the accuracies of the three ways."""
    sets = os.environ.get("BAKEOFF_PHOTO_SETS", "clothing,tiles").split(",")
    networks = os.environ.get("BAKEOFF_NETWORKS", "tf_efficientnet_lite2,tf_efficientnet_lite0")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sets:
            root = photo_set(name, Path(folder))
            rows += [_row(name, root, network) for network in networks.split(",")]
    return rows


def _row(name: str, root: Path, network: str) -> Row:
    found = {fit: _judged(root, network, fit) for fit in _FITS}
    usual, shown = found[_FITS[0]], []
    behind = False
    for fit, (folds, held_out) in found.items():
        text = f"{fit} {100 * folds.mean():.1f} and {100 * held_out.mean():.1f} %"
        if fit != _FITS[0]:
            differences = folds.astype(float) - usual[0], held_out.astype(float) - usual[1]
            text += f" ({', '.join(_difference(one) for one in differences)})"
            more, error = differences[0].mean(), _error(differences[0])
            behind = behind or more > 2 * error
        shown.append(text)
        print(f"  {name}, {network}: {text}", flush=True)
    count, validation = (len(one) for one in usual)
    what = f"{name}, {network}: accuracy on {count:,} training photos by folds, on {validation:,}"
    return Row(
        f"{what} validation photos", "; ".join(shown), "squeeze not clearly behind", not behind
    )


def _judged(root: Path, network: str, fit: str) -> tuple[BoolArray, BoolArray]:
    """Return which training pictures, by folds, and which of the validation part are right."""
    overrides = [f"data.root={root}", f"data.fit={fit}", f"model.networks=[{network}]"]
    overrides += ["data=folder", "model=embedding", f"seed={_SEED}"]
    settings = compose_settings(RunSettings, overrides)
    model = settings.model
    assert isinstance(model, EmbeddingSettings)
    data = build_data(settings)
    table = feature_table(settings, data, build_extractors(settings, data))
    known, unseen = (
        Examples(
            table.part(part),
            data.pictures.targets[ids],
            fold_codes(data, ids, data.pictures.targets[ids]),
            table.sizes,
        )
        for part, ids in (("train", data.split.train), ("val", data.split.val))
    )
    with threadpool_limits(1):
        choice = choose_head(
            known,
            folds=_FOLDS,
            seed=_SEED,
            seconds=math.inf,
            groups=head_groups(*known.features.shape)[:_GROUPS],
        )
        print(f"  {fit}: {choice}", flush=True)
        chosen = choice.head.settings(model)
        right = np.zeros(len(known.targets), bool)
        # Other folds than those of the search.
        for train, held in folds_of(known.targets, known.contents, _FOLDS, _SEED + 1):
            fitted = make_pipeline(chosen, known.sizes, pictures=len(train), seed=_SEED, threads=1)
            fitted.fit(known.features[train], known.targets[train])
            right[held] = fitted.predict(known.features[held]) == known.targets[held]
        fitted = make_pipeline(
            chosen, known.sizes, pictures=len(known.targets), seed=_SEED, threads=1
        )
        fitted.fit(known.features, known.targets)
        return right, fitted.predict(unseen.features) == unseen.targets


def _difference(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    return f"{100 * values.mean():+.1f} +- {100 * _error(values):.1f}"


def _error(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
