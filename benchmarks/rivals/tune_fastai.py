"""fastai's contestant: `fine_tune` of EfficientNet-Lite0 for as many epochs as fit.

python -m benchmarks.rivals.tune_fastai REQUEST.json ANSWER.json, in fastai's own environment.

Everything is as fastai's book has it: RandomResizedCrop, aug_transforms, one epoch of the head,
then all layers under the default rates. Its steps are timed first, on a sample and at no charge.
It gets the largest pictures, of at most 224 pixels, that are seen in three epochs of all layers,
or else in one; where none fits, epochs of the head alone. A training that takes over a tenth more
than its CPU seconds is begun again with fewer epochs and all of them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import (
    Callback,
    CancelFitException,
    CategoryBlock,
    DataBlock,
    GrandparentSplitter,
    ImageBlock,
    RandomResizedCrop,
    accuracy,
    aug_transforms,
    get_image_files,
    parent_label,
    set_seed,
    vision_learner,
)

from benchmarks.rivals.protocol import Answer, Rates, Request, cpu_seconds_used, epochs_that_fit

_NETWORK = "tf_efficientnet_lite0"
_SIDES = (224, 160, 128)
# Whether all layers are tuned, and in how many epochs at least: three of smaller pictures are worth
# more than one of larger ones.
_LADDER = ((True, 3), (True, 1), (False, 1))
_BATCH = 32
_HEAD_RATE = 2e-3  # that of fine_tune
_SAMPLE = 2 * _BATCH
# Of the CPU seconds: a training that needs more of them is given up.
_MOST = 1.1


class _Meter(Callback):
    """Counts CPU seconds of an epoch, and ends a fit that has used too many.

    Args:
        limit: of the CPU seconds of this process.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit
        self.over = False
        self.train = self.validation = self._began = 0.0

    def before_train(self) -> None:
        self._began = time.process_time()

    def after_train(self) -> None:
        self.train = time.process_time() - self._began

    def before_validate(self) -> None:
        self._began = time.process_time()

    def after_validate(self) -> None:
        self.validation = time.process_time() - self._began

    def after_batch(self) -> None:
        if cpu_seconds_used() > self.limit:
            self.over = True
            raise CancelFitException


class _Contestant:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._train = sorted(get_image_files(request.known / "train"))
        self._val = sorted(get_image_files(request.known / "val"))
        self._vocab = sorted({parent_label(file) for file in self._train})
        # Imports and the listing are paid for, what is timed is not.
        self._before = cpu_seconds_used()
        self._rates = cache(self._timed)

    def answer(self) -> Answer:
        """Train, with as many epochs and as large pictures as the CPU seconds allow, and label."""
        left = self._request.cpu_seconds - self._before
        for tuned, least in _LADDER:
            for side in _SIDES:
                sizes = len(self._train), len(self._val)
                epochs = epochs_that_fit(left, self._rates(side), *sizes, tuned=tuned)
                while epochs >= least:
                    began = cpu_seconds_used()
                    learner = self._trained(side, epochs, tuned=tuned, limit=began + _MOST * left)
                    if learner is not None:
                        used = self._before + cpu_seconds_used() - began
                        layers = "all layers after one of the head" if tuned else "the head alone"
                        what = f"{epochs} epoch{'s' * (epochs > 1)} of {layers}"
                        return self._labelled(learner, used, f"{_NETWORK}, {side} pixels, {what}")
                    epochs = min(epochs - 1, int(0.8 * epochs))
        sys.exit(f"{self._request.cpu_seconds:.0f} CPU seconds are too few for an epoch of fastai")

    def _trained(self, side: int, epochs: int, *, tuned: bool, limit: float) -> Any | None:
        """Return a trained Learner, or None if it used too many CPU seconds."""
        meter = _Meter(limit)
        learner = self._learner([*self._train, *self._val], side, meter)
        with learner.no_bar(), learner.no_logging():
            if tuned:
                learner.fine_tune(epochs)
            else:
                learner.fit_one_cycle(epochs, slice(_HEAD_RATE))
        meter.limit = math.inf  # labelling the test part is nobody's training
        return None if meter.over else learner

    def _timed(self, side: int) -> Rates:
        """Return the CPU seconds a picture on a sample, after a first epoch to warm up."""
        rng = torch.Generator().manual_seed(self._request.seed)
        train, val = (self._sample(files, rng) for files in (self._train, self._val))
        meter = _Meter()
        learner = self._learner([*train, *val], side, meter)
        # The loader drops what does not fill a batch.
        steps = len(train) // _BATCH * _BATCH
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(1)
            learner.fit_one_cycle(1)
            head, validation = meter.train / steps, meter.validation / len(val)
            learner.unfreeze()
            learner.fit_one_cycle(1)
            return Rates(head, meter.train / steps, validation)

    def _sample(self, files: Sequence[Path], rng: torch.Generator) -> list[Path]:
        order = torch.randperm(len(files), generator=rng)[:_SAMPLE]
        return [files[place] for place in order.tolist()]

    def _learner(self, files: Sequence[Path], side: int, meter: _Meter) -> Any:
        set_seed(self._request.seed, reproducible=True)
        block = DataBlock(
            blocks=(ImageBlock, CategoryBlock(vocab=self._vocab)),
            get_items=lambda _: list(files),
            splitter=GrandparentSplitter(train_name="train", valid_name="val"),
            get_y=parent_label,
            item_tfms=RandomResizedCrop(side, min_scale=0.5),
            batch_tfms=aug_transforms(),
        )
        # Processes of a loader would be counted only when they have ended.
        loaders = block.dataloaders(self._request.known, bs=_BATCH, num_workers=0)
        weights = {"file": self._request.weights[_NETWORK]}
        return vision_learner(
            loaders, _NETWORK, metrics=accuracy, cbs=[meter], pretrained_cfg_overlay=weights
        )

    def _labelled(self, learner: Any, used: float, chosen: str) -> Answer:
        files = sorted(get_image_files(self._request.test))
        validation = float(learner.recorder.values[-1][-1])
        with learner.no_bar(), learner.no_logging():
            probs, _ = learner.get_preds(dl=learner.dls.test_dl(files, num_workers=0))
        names = [learner.dls.vocab[place] for place in probs.argmax(1).tolist()]
        labels = dict(zip((file.name for file in files), names, strict=True))
        return Answer(labels, validation, used, chosen)


def main(request: Path, answer: Path) -> None:
    """Answer a request."""
    asked = Request.read(request)
    torch.set_num_threads(asked.threads)
    _Contestant(asked).answer().write(answer)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
