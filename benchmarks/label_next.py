"""What pictures that `predict label_next=N` names are worth, against pictures drawn at random.

A logistic regression on frozen features is trained on some pictures and chooses further ones, on
which it and other classifiers are then trained as well: on photos of one label (accuracy), and on
mosaics of one to four photos, of all classes alike many or not (mean average precision). A small
network on frozen maps of features does so with masks of defects of magnetic tiles, most of which
have none (mean IoU). Figures are those on a third of the pictures that takes no part in any of it.
No test part is used.

BAKEOFF_PHOTOS names the folder with the pictures; BAKEOFF_TASKS=clothing,tiles,cifar10,mosaics,
uneven,masks,defects chooses what is measured; the last are the tiles with a defect alone.
"""

from __future__ import annotations

import csv
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from torch.nn.functional import cross_entropy, interpolate

from benchmarks.photo_sets import given, photo_set
from benchmarks.table import Row
from benchmarks.target_kinds import write_mosaics
from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_format import PictureFormat
from src.features.embedding import NetworkFeatures
from src.models.weights import find_weights, package_state
from src.models.zoo import TimmNet
from src.targets import kind_of

__all__ = ["Features", "measure", "photo_features"]

_NETWORK, _SIDE, _AT_ONCE = "tf_efficientnet_lite1", 192, 256
# Pictures with labels at first, and pictures added, of each set.
_SETS = {"clothing": (300, 100), "tiles": (200, 100), "cifar10": (500, 200)}
# Mosaics, those with labels at first, and those added; features are cheaper ones.
_MOSAICS, _OF_MOSAICS = 3000, (300, 150)
_SMALL_NETWORK, _SMALL_SIDE = "tf_efficientnet_lite0", 96
# Tiles with masks at first, and tiles added; the side that they and their masks get.
_TILES, _TILE_SIDE, _STEPS, _BATCH = (60, 60), 128, 200, 16
_DRAWS, _DRAWS_OF_MASKS = 10, 4
_OF_TILES = ("masks", "defects")
_CHOOSES = "logistic regression"
_CLASSIFIERS = {
    _CHOOSES: LogisticRegression(C=0.003, tol=1e-3),
    "support vector machine": SVC(C=5),
    "nearest neighbours": KNeighborsClassifier(5, metric="cosine"),
}
_OF_SETS = {
    _CHOOSES: OneVsRestClassifier(LogisticRegression(C=0.003, tol=1e-3)),
    "nearest neighbours": OneVsRestClassifier(KNeighborsClassifier(9, metric="cosine")),
}
_TIMES = (1.0, 1.5, 2.0, 3.0, 4.0)
_TIMES_OF_MASKS = (1.0, 2.0, 3.0)

# Features, and classes (N,) or sets of labels (N, K).
Features = tuple[NDArray[np.float32], NDArray[np.int64]]


def measure() -> list[Row]:
    """The gain by pictures chosen, and by as many at random and more."""
    tasks = (*_SETS, "mosaics", "uneven", *_OF_TILES)
    wanted = os.environ.get("BAKEOFF_TASKS", ",".join(tasks)).split(",")
    if unknown := [name for name in wanted if name not in tasks]:
        sys.exit(f"there is no task {', '.join(unknown)}: choose of {', '.join(tasks)}")
    rows: list[Row] = []
    tiles: _Tiles | None = None
    with tempfile.TemporaryDirectory() as place, threadpool_limits(1):  # the fits are small
        for name in wanted:
            if name in _OF_TILES:
                tiles = tiles or _Tiles(Path(place))
                rows.append(_masks(name, tiles))
                continue
            folder, (first, added) = Path(place), _SETS.get(name, _OF_MOSAICS)
            described = photo_features(name, folder) if name in _SETS else _mosaics(name, folder)
            gains = np.array([_gains(described, first, added, seed) for seed in range(_DRAWS)])
            figure, judges = _judged(described[1])
            for judge, found in zip(judges, np.moveaxis(gains, 0, -1), strict=True):
                what = f"{name}, {judge}, {added} pictures beside {first}"
                rows.append(_row(what, figure, found, _TIMES))
    return rows


def _judged(targets: NDArray[np.int64]) -> tuple[str, dict[str, BaseEstimator]]:
    """Return the figure that counts for such targets, and the classifiers."""
    return ("accuracy", _CLASSIFIERS) if targets.ndim == 1 else ("mAP", _OF_SETS)


def photo_features(name: str, folder: Path) -> Features:
    """Return features and classes of all pictures but those of the test part."""
    root = photo_set(name, folder)
    found = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))
    files = [file for file in found if file.relative_to(root).parts[0] != "test"]
    names = [file.parent.name for file in files]
    return _described(files, _NETWORK, _SIDE), np.unique(names, return_inverse=True)[1]


def _mosaics(name: str, folder: Path) -> Features:
    """Return features and labels of mosaics."""
    photos = photo_set("cifar10", folder) / "test"
    uneven = name == "uneven"
    table = write_mosaics(photos, folder / name, _MOSAICS, uneven=uneven, seed=1)
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    shown = [set(row["labels"].split(";")) for row in rows]
    labels = sorted(set().union(*shown) - {""})
    targets = np.array([[label in one for label in labels] for one in shown], np.int64)
    files = [table.parent / row["path"] for row in rows]
    return _described(files, _SMALL_NETWORK, _SMALL_SIDE), targets


def _described(files: Sequence[Path], name: str, side: int) -> NDArray[np.float32]:
    """Return features of all pictures."""
    size = (side, side)
    network = TimmNet(
        *(3, 2, size), name=name, pretrained=True, input_size=side, stem="keep", drop_rate=None
    )
    mean, std = network.input_statistics or ((0.5,) * 3, (0.5,) * 3)
    metadata = {"channels": 3, "image_size": size, "mean": mean, "std": std}
    describe = NetworkFeatures(network, metadata, torch.device("cpu"))
    starts = range(0, len(files), _AT_ONCE)
    form = PictureFormat(size, 3)

    def pixels(some: Iterable[Path]) -> NDArray[np.uint8]:
        return np.stack([decode_picture(file, form) for file in some]).astype(np.uint8)

    return np.concatenate([describe(pixels(files[at : at + _AT_ONCE])) for at in starts])


def _row(what: str, figure: str, gains: NDArray[np.float64], times: Sequence[float]) -> Row:
    """Return the row of the gains (1 + times, draws) of a classifier."""
    chosen, *drawn = 100 * gains
    better = chosen - drawn[0]
    error = better.std(ddof=1) / np.sqrt(len(better))
    means = np.maximum.accumulate(np.mean(drawn, axis=1))
    worth = np.interp(chosen.mean(), means, times)
    beyond = "more than " if chosen.mean() > means[-1] else ""
    return Row(
        f"{what}: points of {figure} by those chosen; by those at random",
        f"{chosen.mean():.1f}; {means[0]:.1f} ({better.mean():+.1f}, standard error {error:.1f}), "
        f"worth {beyond}{worth:.1f} times as many at random",
        "no less than at random",
        bool(better.mean() > -2 * error),
    )


def _gains(described: Features, first: int, added: int, seed: int) -> list[list[float]]:
    """Return the gain of each classifier by pictures chosen, and by `_TIMES` as many drawn."""
    features, targets = described
    sets, classifiers = targets.ndim > 1, _judged(targets)[1]
    order = np.random.default_rng(seed).permutation(len(targets))
    held, pool = np.split(order, [len(order) // 3])
    start, rest = np.split(pool, [first])

    def fitted(classifier: BaseEstimator, rows: NDArray[np.int64]) -> Pipeline:
        steps = make_pipeline(StandardScaler(), clone(classifier))
        return steps.fit(features[rows], targets[rows])

    def figure(model: Pipeline) -> float:
        if not sets:
            return float(model.score(features[held], targets[held]))
        return float(average_precision_score(targets[held], model.predict_proba(features[held])))

    now = fitted(classifiers[_CHOOSES], start)
    kind = kind_of("multi" if sets else "single")
    uncertain = kind.uncertainties(now.predict_proba(features[rest]))
    chosen = rest[np.argsort(-uncertain, kind="stable")[:added]]
    further = [rest[:0], chosen, *(rest[: round(times * added)] for times in _TIMES)]
    gains = []
    for classifier in classifiers.values():
        models = [fitted(classifier, np.concatenate([start, one])) for one in further]
        before, *after = [figure(one) for one in models]
        gains.append([one - before for one in after])
    return gains


def _masks(name: str, tiles: _Tiles) -> Row:
    """Return the row of all tiles, or of those with a defect."""
    rows = np.flatnonzero(tiles.defects | (name == "masks"))
    (first, added), gains = _TILES, []
    for seed in range(_DRAWS_OF_MASKS):
        order = np.random.default_rng(seed).permutation(rows)
        held, pool = np.split(order, [len(order) // 3])
        pool = pool[len(order) // 6 :]  # of the others, the choice of an uncertainty was made
        start, rest = np.split(pool, [first])
        network = tiles.trained(start, seed)
        uncertain = np.concatenate(
            [kind_of("dense").uncertainties(one) for one in tiles.answers(network, rest)]
        )
        chosen = rest[np.argsort(-uncertain, kind="stable")[:added]]
        further = [chosen, *(rest[: round(times * added)] for times in _TIMES_OF_MASKS)]
        before = tiles.miou(network, held)
        after = [tiles.trained(np.concatenate([start, one]), seed) for one in further]
        gains.append([tiles.miou(one, held) - before for one in after])
    what = f"{name} of tiles, {added} pictures beside {first}"
    return _row(what, "mean IoU", np.array(gains).T, _TIMES_OF_MASKS)


class _Tiles:
    """Magnetic tiles with masks of their defects, as maps of a frozen network's features.

    Args:
        folder: where to unpack them.

    Attributes:
        masks: (N, side, side) int64, 1 for a defect.
        defects: (N,) whether a tile has one.
    """

    def __init__(self, folder: Path) -> None:
        archive = given("magnetic-tile.tar.xz")
        if archive is None:
            sys.exit("BAKEOFF_PHOTOS must name the folder that has magnetic-tile.tar.xz")
        with tarfile.open(archive) as unpacked:
            unpacked.extractall(folder / "masks", filter="data")
        pictures, masks, size = [], [], (_TILE_SIDE, _TILE_SIDE)
        files = sorted((folder / "masks").rglob("Imgs/*.jpg"))
        self.defects = np.array([file.parent.parent.name != "MT_Free" for file in files])
        for file in files:
            with Image.open(file) as tile, Image.open(file.with_suffix(".png")) as mask:
                grey = tile.convert("L").resize(size, Image.Resampling.BILINEAR)
                pictures.append(np.asarray(grey))
                shown = mask.convert("L").resize(size, Image.Resampling.NEAREST)
                masks.append(np.asarray(shown) > 127)
        self.masks = torch.from_numpy(np.stack(masks).astype(np.int64))
        found = find_weights("timm", _SMALL_NETWORK)
        assert found is not None
        network = timm.create_model(_SMALL_NETWORK, features_only=True, out_indices=(0, 1, 2, 3))
        names = iter(timm.create_model(_SMALL_NETWORK).state_dict())
        network.load_state_dict(package_state(found, names), strict=False)  # without its head
        network.eval()
        images = torch.from_numpy(np.stack(pictures).astype(np.float32) / 127.5 - 1)
        with torch.no_grad():
            maps = [
                torch.cat([_at_a_quarter(one) for one in network(some)], 1).half()
                for some in images[:, None].expand(-1, 3, -1, -1).split(32)
            ]
        self._maps = torch.cat(maps)
        self._mean, self._std = self._standard(self._maps[:300].float())

    @staticmethod
    def _standard(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        std = maps.std((0, 2, 3), correction=0, keepdim=True)
        return maps.mean((0, 2, 3), keepdim=True), std + 1e-3

    def _batch(self, rows: torch.Tensor) -> torch.Tensor:
        return (self._maps[rows].float() - self._mean) / self._std

    def trained(self, rows: NDArray[np.int64], seed: int) -> torch.nn.Module:
        """Return a network of two layers on the maps that is trained on some tiles."""
        torch.manual_seed(seed)
        drawn = torch.Generator().manual_seed(seed)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(self._maps.shape[1], 32, 3, padding=1),
            torch.nn.BatchNorm2d(32),
            torch.nn.ReLU(),
            torch.nn.Dropout2d(0.2),
            torch.nn.Conv2d(32, 2, 3, padding=1),
        )
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, _STEPS)
        dice, all_rows, step = smp.losses.DiceLoss("multiclass"), torch.as_tensor(rows), 0
        while True:
            for batch in all_rows[torch.randperm(len(rows), generator=drawn)].split(_BATCH):
                maps, masks = self._batch(batch), self.masks[batch]
                if torch.rand((), generator=drawn) < 0.5:
                    maps, masks = maps.flip(-1), masks.flip(-1)
                logits = _at_full_size(network(maps))
                optimizer.zero_grad()
                (cross_entropy(logits, masks) + dice(logits, masks)).backward()
                optimizer.step()
                schedule.step()
                step += 1
                if step == _STEPS:
                    return network.eval()

    def answers(
        self, network: torch.nn.Module, rows: NDArray[np.int64]
    ) -> Iterable[NDArray[np.float32]]:
        """Yield probabilities (n, 2, side, side) of some tiles at a time."""
        for some in torch.as_tensor(rows).split(32):
            with torch.no_grad():
                yield _at_full_size(network(self._batch(some))).softmax(1).numpy()

    def miou(self, network: torch.nn.Module, rows: NDArray[np.int64]) -> float:
        """Return the mean IoU of ground and defect on some tiles, all pixels together."""
        found = np.concatenate([one[:, 1] > 0.5 for one in self.answers(network, rows)])
        true = self.masks[rows].numpy() > 0
        ratios = [(a & b).sum() / (a | b).sum() for a, b in ((found, true), (~found, ~true))]
        return float(np.mean(ratios))


def _at_a_quarter(maps: torch.Tensor) -> torch.Tensor:
    side = _TILE_SIDE // 4
    return interpolate(maps, (side, side), mode="area" if maps.shape[-1] > side else "bilinear")


def _at_full_size(logits: torch.Tensor) -> torch.Tensor:
    return interpolate(logits, (_TILE_SIDE, _TILE_SIDE), mode="bilinear")
