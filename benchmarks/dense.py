"""A class for every pixel: the race over U-Net against a plain script, on magnetic tiles.

The script trains a U-Net of segmentation-models-pytorch with the same encoder, published weights
and loss, for the CPU seconds that the race used, and predicts by its last weights. There are two
tasks on the tiles that have a defect: defect or not, and which of five. A fully convolutional
network from scratch and a random forest on single pixels, each at most as long, are told beside
them. Figures are mean IoUs of the test part, at the size that all take. Each seed divides the tiles
in another way, so that other tiles are tested, and the validation part is told beside it: of a race
with time for one training it chooses nothing, and the script does not look at it.

BAKEOFF_PHOTOS names the folder with `magnetic-tile.tar.xz`. BAKEOFF_MINUTES=3 is what a race gets,
on each of BAKEOFF_SEEDS=0,1,2 and of BAKEOFF_TASKS=defect,six; a seed of a task takes three to five
times as long in all. Answers are kept in the cache folder, and an interrupted measurement goes on
with what is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score
from torch.nn.functional import cross_entropy

from benchmarks.commands import digest_of, kept_answer, python, trained_in
from benchmarks.photo_sets import given
from benchmarks.rivals.protocol import cpu_seconds_used
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.data.loading.picture_data import PictureData
from src.machine.subprocesses import ROOT
from src.models.weights import find_weights, package_state
from src.runs.build import build_data
from src.storage.cache import cache_folder

__all__ = ["Answer", "measure", "plain_script"]

_ENCODER, _SIDE, _BATCH = "tf_efficientnet_lite0", 128, 16
# What the race, the script and the others depend on.
_CODE = [ROOT / "src", ROOT / "conf", ROOT / "sweeps", Path(__file__).resolve()]
_TASKS = {"defect": [], "six": ["data.mask_class=folder"]}
_ALONE = {
    "fcn": ["model=fcn", "loss=cross_entropy_dice", f"data.batch_size={_BATCH}"],
    "pixels": ["model=pixels"],
}


@dataclass(frozen=True)
class Answer:
    """What one contestant came to on one seed.

    Attributes:
        miou: of the test part.
        cpu_seconds: of all its processes.
        validation: mean IoU of the validation part; None where nobody asked for it.
        low, high: of the 95 % interval of `miou`; None where nobody computed it.
    """

    miou: float
    cpu_seconds: float
    validation: float | None = None
    low: float | None = None
    high: float | None = None


def measure() -> list[Row]:
    """The race against a plain script, and two candidates without published weights."""
    minutes = float(os.environ.get("BAKEOFF_MINUTES", "3"))
    seeds = [int(one) for one in os.environ.get("BAKEOFF_SEEDS", "0,1,2").split(",")]
    tasks = os.environ.get("BAKEOFF_TASKS", ",".join(_TASKS)).split(",")
    if unknown := [name for name in tasks if name not in _TASKS]:
        sys.exit(f"there is no task {', '.join(unknown)}: choose of {', '.join(_TASKS)}")
    work = cache_folder(None).absolute() / "dense"
    base = [
        *("data=folder", f"data.root={_defects(work)}", "data.target=dense"),
        *("data.mask_threshold=128", f"data.image_size={_SIDE}", "data.name=tiles"),
        *("tracking=none", "tracking.figures=false"),
    ]
    return [row for task in tasks for row in _rows(task, base, minutes, seeds, work)]


def _rows(
    task: str, base: Sequence[str], minutes: float, seeds: Sequence[int], work: Path
) -> list[Row]:
    overrides, code = [*base, *_TASKS[task]], digest_of(_CODE)
    folder, out = work / f"{task}-{minutes:g}-{code}", work / "out"

    def answer(name: str, ask: Callable[[], Answer]) -> Answer:
        return kept_answer(folder / f"{name}.json", Answer, ask)

    races, scripts = [], []
    for seed in seeds:
        own = [*overrides, f"data.split_seed={seed}"]
        race = answer(f"race-{seed}", partial(_race, own, out, minutes, seed))
        ask = partial(plain_script, own, race.cpu_seconds, seed)
        races.append(race)
        scripts.append(answer(f"script-{seed}", ask))
    alone = {
        name: answer(name, partial(_alone, out, [*overrides, *own], minutes))
        for name, own in _ALONE.items()
    }
    ours, theirs = ([one.miou for one in found] for found in (races, scripts))
    held, others = ([one.validation or 0.0 for one in found] for found in (races, scripts))
    # Of a seed both parts are answered by the same trainings.
    ahead = (np.subtract(ours, theirs) + np.subtract(held, others)) / 2
    lead = f"{100 * ahead.mean():.1f}"
    if len(ahead) > 1:  # one seed tells nothing of how much seeds differ
        lead += f" +- {100 * float(ahead.std(ddof=1)) / len(ahead) ** 0.5:.1f}"
    seconds = spread([one.cpu_seconds for one in races], " CPU seconds", 0)
    told = " and ".join(
        f"{one.miou:.3f} (95 % interval {one.low:.3f} to {one.high:.3f}, {one.cpu_seconds:.0f} CPU "
        "seconds)"
        for one in alone.values()
    )
    return [
        Row(
            f"tiles with defects, {task}, {minutes:g} minutes ({seconds}), seeds {list(seeds)}: "
            "test mean IoU of the race's pick, and of a plain script with the same encoder, "
            "weights and CPU seconds",
            f"{spread(ours, '', 3)} and {spread(theirs, '', 3)}; validation {spread(held, '', 3)} "
            f"and {spread(others, '', 3)}; in the mean of both parts ahead by {lead} points",
            "ahead",
            float(np.mean(ours)) > float(np.mean(theirs)),
        ),
        Row(
            f"the same tiles, {task}: test mean IoU of {' and '.join(f'model={n}' for n in alone)}",
            told,
            "told",
            True,
        ),
    ]


def plain_script(base: Sequence[str], cpu_seconds: float, seed: int) -> Answer:
    """Return what a U-Net comes to that is trained until the CPU seconds are used.

    Adam, cross-entropy and Dice, mirrored at random. Decoding the pictures counts for nothing here,
    and counts for the race.
    """
    data = build_data(read_run_settings([*base, "model=fcn"]))
    started = cpu_seconds_used()
    torch.manual_seed(seed)
    found = find_weights("timm", _ENCODER)
    assert found is not None
    names = iter(timm.create_model(_ENCODER).state_dict())
    network = smp.Unet(
        f"tu-{_ENCODER}",
        encoder_weights=True,
        in_channels=data.pictures.channels,
        classes=len(data.pictures.class_names),
        pretrained_cfg_overlay={"state_dict": package_state(found, names)},
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    dice = smp.losses.DiceLoss("multiclass")
    images, masks = _part(data, data.split.train)
    while cpu_seconds_used() - started < cpu_seconds:
        for rows in torch.randperm(len(images)).split(_BATCH)[: len(images) // _BATCH]:
            batch, targets = images[rows], masks[rows]
            if torch.rand(()) < 0.5:
                batch, targets = batch.flip(-1), targets.flip(-1)
            logits = network(batch)
            optimizer.zero_grad()
            (cross_entropy(logits, targets) + dice(logits, targets)).backward()
            optimizer.step()
            if cpu_seconds_used() - started >= cpu_seconds:
                break
    used = cpu_seconds_used() - started
    network.eval()

    def score(ids: NDArray[np.int64]) -> float:
        images, masks = _part(data, ids)
        with torch.no_grad():
            preds = torch.cat([network(batch).argmax(1) for batch in images.split(_BATCH)])
        return float(jaccard_score(masks.ravel().numpy(), preds.ravel().numpy(), average="macro"))

    return Answer(score(data.split.test), used, score(data.split.val))


def _part(data: PictureData, ids: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pictures of a part as the encoder takes them, and their masks."""
    images = np.stack([data.pictures.read(int(i)) for i in ids]).astype(np.float32)
    masks = np.stack([data.pictures.read_mask(int(i)) for i in ids])
    return torch.from_numpy(images / 127.5 - 1), torch.from_numpy(masks.astype(np.int64))


def _race(base: Sequence[str], out: Path, minutes: float, seed: int) -> Answer:
    # One that was interrupted has used CPU seconds that nobody counted: it begins again.
    shutil.rmtree(out, ignore_errors=True)
    study, started = f"dense{seed}", cpu_seconds_used()
    python(
        *("-m", "src.sweep", "--config-name", "dense", f"study={study}", *base),
        *("families=[unet]", f"budget.minutes={minutes:g}", f"seed={seed}", "finalist_seeds=1"),
        f"output_dir={out}",
    )
    used = cpu_seconds_used() - started
    record = json.loads((out / "sweeps" / study / "sweep.json").read_text())
    winner = next(one for one in record["finalists"] if one["trial"] == record["winner"])
    validation = float(np.mean([*winner["runs"].values()]))
    return Answer(float(record["test"]["test/miou"]), used, validation)


def _alone(out: Path, overrides: Sequence[str], minutes: float) -> Answer:
    """Return what a single candidate comes to."""
    limit = [] if "model=pixels" in overrides else [f"trainer.max_time={60 * minutes:g}"]
    started = cpu_seconds_used()
    summary = json.loads((trained_in(out, *overrides, *limit) / "summary.json").read_text())
    middle, low, high = (
        summary["metrics"][f"test/{name}"] for name in ("miou", "miou_low", "miou_high")
    )
    return Answer(middle, cpu_seconds_used() - started, None, low, high)


def _defects(folder: Path) -> Path:
    """Unpack the tiles of the set that have a defect, pictures beside their masks."""
    target = folder / "tiles"
    if not target.exists():
        archive = given("magnetic-tile.tar.xz")
        if archive is None:
            raise SystemExit("BAKEOFF_PHOTOS must name the folder that has magnetic-tile.tar.xz")
        unfinished = folder / "tiles.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with tarfile.open(archive) as tiles:
            tiles.extractall(unfinished, filter="data")
        for plain in list(unfinished.rglob("MT_Free")):
            shutil.rmtree(plain)
        unfinished.rename(target)
    # Classes are named after the first folder below the one that is given.
    return next(target.rglob("MT_Crack")).parent
