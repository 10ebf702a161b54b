"""A class for every pixel: magnetic tiles with a defect, from the folder that BAKEOFF_PHOTOS names.

The race over U-Net, with its encoder EfficientNet-Lite0, against a plain script around
segmentation-models-pytorch with the same encoder, weights, loss and minutes; and a fully
convolutional network from scratch beside a random forest on single pixels. Figures are mean IoUs of
the test part, at the size that both take. BAKEOFF_MINUTES (3) and BAKEOFF_SEEDS (0,1,2) set others.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score
from torch.nn.functional import cross_entropy

from benchmarks.commands import python
from benchmarks.photo_sets import given
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.models.weights import find_weights, package_state
from src.runs.build import build_data
from src.runs.experiment import run_experiment

__all__ = ["measure", "plain_script"]

_ENCODER, _SIDE, _BATCH = "tf_efficientnet_lite0", 128, 16
# Points of mean IoU within which the other counts as level: some 60 test pictures.
_LEVEL = 0.03


def measure() -> list[Row]:
    """The race against a plain script, and two candidates without published weights."""
    minutes = float(os.environ.get("BAKEOFF_MINUTES", "3"))
    seeds = [int(one) for one in os.environ.get("BAKEOFF_SEEDS", "0,1,2").split(",")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = [
            *("data=folder", f"data.root={_defects(folder)}", "data.target=dense"),
            *("data.mask_threshold=128", f"data.image_size={_SIDE}"),
            *("tracking=none", "tracking.figures=false", f"output_dir={folder / 'out'}"),
        ]
        ours = [_race(base, folder / "out", minutes, seed) for seed in seeds]
        theirs = [plain_script(base, minutes, seed) for seed in seeds]
        fcn = ["model=fcn", "loss=cross_entropy_dice", f"data.batch_size={_BATCH}"]
        scratch = [fcn, ["model=pixels"]]
        found = [run_experiment(read_run_settings([*base, *words])) for words in scratch]
    each = [one.metrics for one in found if one is not None]
    values = [[m[f"test/{name}"] for name in ("miou", "miou_low", "miou_high")] for m in each]
    described = " and ".join(
        f"{middle:.3f} (95 % interval {low:.3f} to {high:.3f})" for middle, low, high in values
    )
    return [
        Row(
            f"tiles with defects, {minutes:g} minutes, seeds {seeds}: test mean IoU of the race's "
            "pick, and of a plain script with the same encoder and weights",
            f"{spread(ours, '', 3)} and {spread(theirs, '', 3)}",
            f"at most {_LEVEL:g} less",
            float(np.mean(ours)) >= float(np.mean(theirs)) - _LEVEL,
        ),
        Row(
            "the same tiles, model=fcn and model=pixels: test mean IoU",
            described,
            "both above 0.5, what calling all background gives at most",
            min(middle for middle, _, _ in values) > 0.5,
        ),
    ]


def plain_script(base: list[str], minutes: float, seed: int) -> float:
    """Return the test mean IoU of a U-Net trained for some minutes: Adam, mirrored at random."""
    data = build_data(read_run_settings([*base, "model=fcn"]))
    store, split = data.pictures, data.split

    def part(ids: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        images = np.stack([store.read(int(i)) for i in ids]).astype(np.float32)
        masks = np.stack([store.read_mask(int(i)) for i in ids])
        return torch.from_numpy(images / 127.5 - 1), torch.from_numpy(masks.astype(np.int64))

    torch.manual_seed(seed)
    found = find_weights("timm", _ENCODER)
    assert found is not None
    names = iter(timm.create_model(_ENCODER).state_dict())
    network = smp.Unet(
        f"tu-{_ENCODER}",
        encoder_weights=True,
        in_channels=store.channels,
        classes=len(store.class_names),
        pretrained_cfg_overlay={"state_dict": package_state(found, names)},
    )
    optimizer, dice = (
        torch.optim.Adam(network.parameters(), 1e-3),
        smp.losses.DiceLoss("multiclass"),
    )
    images, masks = part(split.train)
    end = time.perf_counter() + 60 * minutes
    while time.perf_counter() < end:
        for rows in torch.randperm(len(images)).split(_BATCH)[: len(images) // _BATCH]:
            batch, targets = images[rows], masks[rows]
            if torch.rand(()) < 0.5:
                batch, targets = batch.flip(-1), targets.flip(-1)
            logits = network(batch)
            optimizer.zero_grad()
            (cross_entropy(logits, targets) + dice(logits, targets)).backward()
            optimizer.step()
            if time.perf_counter() > end:
                break
    network.eval()
    images, masks = part(split.test)
    with torch.no_grad():
        preds = torch.cat([network(batch).argmax(1) for batch in images.split(_BATCH)])
    score = jaccard_score(masks.ravel().numpy(), preds.ravel().numpy(), average="macro")
    return float(score)


def _race(base: list[str], out: Path, minutes: float, seed: int) -> float:
    study = f"dense{seed}"
    python(
        *("-m", "src.sweep", "--config-name", "dense", f"study={study}", *base),
        *("families=[unet]", f"budget.minutes={minutes:g}", f"seed={seed}", "finalist_seeds=1"),
    )
    record = json.loads((out / "sweeps" / study / "sweep.json").read_text())
    return float(record["test"]["test/miou"])


def _defects(folder: Path) -> Path:
    """Unpack the tiles of the set that have a defect, pictures beside their masks."""
    archive = given("magnetic-tile.tar.xz")
    if archive is None:
        raise SystemExit("BAKEOFF_PHOTOS must name the folder that has magnetic-tile.tar.xz")
    with tarfile.open(archive) as tiles:
        tiles.extractall(folder / "tiles", filter="data")
    for plain in (folder / "tiles").rglob("MT_Free"):
        shutil.rmtree(plain)
    return folder / "tiles"
