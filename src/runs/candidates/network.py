"""Networks as candidates, trained by Lightning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.config.checks import input_of, to_plain
from src.config.schema import RunSettings, seconds_of
from src.data.decoding.decode import PictureFormat
from src.data.loading.datamodule import PictureData
from src.data.splitting.folds import training_seed
from src.explain.feature_maps import find_map_layer
from src.explain.grad_cam import grad_cam
from src.explain.score_maps import HasScoreMaps, class_maps
from src.machine.interruption import Interruption
from src.records.class_maps import ClassMaps
from src.runs import build
from src.runs.candidates.candidate import Answers, Fitted, OnEpoch, described_features
from src.runs.candidates.head_start import start_head
from src.runs.folder import RunFolder
from src.runs.resolve import Resolved, use_threads
from src.serving.bundle import write_bundle
from src.serving.predictor import Predictor
from src.serving.whole_network import network_classifier, network_describer
from src.storage.cache import cache_folder
from src.tracking.tracker import Tracker
from src.training import cost
from src.training.checkpoints import network_difference, read_checkpoint
from src.training.epochs import EpochKeeper, LogMetrics, is_complete
from src.training.frozen_front import store_front
from src.training.inference import autocast, predict
from src.training.progress import Progress
from src.training.task import ClassificationTask

__all__ = ["NetworkCandidate", "TrainedNetwork"]


@dataclass
class TrainedNetwork:
    """A trained network.

    Attributes:
        task: in eval mode, on `device`.
        device: where to compute.
        precision, tta: as the run's settings say.
    """

    task: ClassificationTask
    device: torch.device
    precision: str
    tta: str

    @classmethod
    def of(
        cls, task: ClassificationTask, settings: RunSettings, device: torch.device
    ) -> TrainedNetwork:
        """Return the trained network of a run with these settings."""
        task.to(device)
        return cls(task, device, settings.runtime.precision, settings.trainer.tta)

    @property
    def passport(self) -> dict[str, Any]:
        return self.task.metadata

    @property
    def num_parameters(self) -> int:
        return cost.num_parameters(self.task.network)

    @property
    def format(self) -> PictureFormat:
        """The format of the pictures that the network takes."""
        return PictureFormat.of(self.passport)

    def predict(self, data: PictureData, part: str) -> Answers:
        return predict(
            self.task,
            data.formatted(self.format).batches(part),
            device=self.device,
            precision=self.precision,
            tta=self.tta,
        )

    def features(
        self, data: PictureData, part: str, rows: NDArray[np.int64]
    ) -> NDArray[np.float32] | None:
        # They are those of the picture itself: further views would be computed for nothing.
        settings = self.passport["settings"]
        trainer = {**settings["trainer"], "tta": "none"}
        passport = {**self.passport, "settings": {**settings, "trainer": trainer}}
        predictor = self._predictor(passport, 128)
        return described_features(predictor, data, getattr(data.split, part)[rows])

    def predictor(self, batch_size: int) -> Predictor:
        return self._predictor(self.passport, batch_size)

    def _predictor(self, passport: dict[str, Any], batch_size: int) -> Predictor:
        network, classes = self.task.evaluated, len(passport["class_names"])
        classify = network_classifier(network, passport, self.device)
        describe = network_describer(network, classify, classes)
        return Predictor(classify, passport, describe=describe, batch_size=batch_size)

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        shape = (self.format.channels, *self.format.image_size)
        with autocast(self.device, self.precision):
            return cost.measure_cost(self.task.evaluated.eval(), shape, checkpoint=checkpoint)

    def write_bundle(self, folder: Path, example: NDArray[np.uint8]) -> str:
        return write_bundle(folder, self.task.evaluated, self.passport, example)

    def class_maps(self) -> ClassMaps | None:
        network = self.task.evaluated.eval()
        if isinstance(network, HasScoreMaps):
            return self._class_maps(
                partial(class_maps, network), "Where the network sees a class: brighter is surer"
            )
        shape = (1, self.format.channels, *self.format.image_size)
        blank = self._normalized(np.full(shape, 128, np.uint8))
        layer = find_map_layer(network, blank)
        if layer is None:
            return None
        return self._class_maps(
            partial(grad_cam, network, layer),
            "What the network looked at: brighter speaks more for the class",
        )

    def _class_maps(self, maps: Callable[[Tensor, Tensor], Tensor], title: str) -> ClassMaps:
        def of(images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
            with torch.no_grad():  # in full precision: gradients of small scores vanish in half
                found = maps(self._normalized(images), torch.from_numpy(classes).to(self.device))
            shown: NDArray[np.float32] = found.cpu().numpy()
            return shown

        return ClassMaps(of, title)

    def _normalized(self, images: NDArray[np.uint8]) -> Tensor:
        return self.task.normalized(torch.from_numpy(images).to(self.device))


class NetworkCandidate:
    """A network with its training, ready to start or to go on.

    Args:
        resolved: the run's settings without any `auto`.
        data: the pictures.

    Raises:
        ConfigError: the network cannot be made for these pictures, or its weights not be found.
    """

    def __init__(self, resolved: Resolved, data: PictureData) -> None:
        settings = resolved.settings
        use_threads(settings)
        self.resolved = resolved
        self._settings = settings
        self._data = data
        self._task = build.build_task(settings, data)

    @property
    def num_parameters(self) -> int:
        return cost.num_parameters(self._task.network)

    def description(self) -> str:
        return f"{self.num_parameters:,} parameters"

    def fit(
        self,
        folder: RunFolder,
        tracker: Tracker,
        interruption: Interruption,
        on_epoch: OnEpoch | None,
    ) -> Fitted:
        return self._fit(folder, tracker.metrics, interruption, on_epoch)

    def check_resumed(self, folder: RunFolder) -> bool:
        """Return whether the run in a folder has been trained as long as the settings say.

        Raises:
            ConfigError: its last checkpoint is damaged, or is of another network.
        """
        file = folder.checkpoints / "last.ckpt"
        if not file.is_file():  # killed before its first checkpoint: it begins again
            return False
        with input_of("resume"):
            checkpoint = read_checkpoint(file)
            difference = network_difference(checkpoint, self._task.state_dict())
            if difference is not None:
                raise ValueError(
                    f"{file} is not of the network that {folder.config.name} describes "
                    f"({difference}): begin a new run without resume"
                )
            settings = self._settings.trainer
            try:
                return is_complete(
                    checkpoint,
                    max_epochs=int(settings.max_epochs),
                    patience=settings.early_stopping,
                    stop_after=settings.stop_after,
                    max_seconds=None
                    if settings.max_time is None
                    else seconds_of(settings.max_time),
                )
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{file} cannot be gone on with, as it lacks {error}: begin a new run"
                ) from error

    def join(self, folder: RunFolder, interruption: Interruption) -> None:
        """Train on a further device in the run of the first one, which keeps the records."""
        self._fit(folder, None, interruption, None)

    def _fit(
        self,
        folder: RunFolder,
        log: LogMetrics | None,
        interruption: Interruption,
        on_epoch: OnEpoch | None,
    ) -> Fitted:
        settings, task = self._settings.trainer, self._task
        keeper = EpochKeeper(
            folder.checkpoints,
            interruption=interruption,
            monitor=settings.monitor,
            patience=settings.early_stopping,
            stop_after=settings.stop_after,
            max_seconds=None if settings.max_time is None else seconds_of(settings.max_time),
            log=log,
            on_epoch=on_epoch,
            progress=None if log is None else self._progress(),
        )
        trainer = build.build_trainer(self._settings, keeper, folder.path)
        # A run that was killed before its first checkpoint begins again.
        resumed = keeper.last if self._settings.resume and keeper.last.is_file() else None
        device = trainer.strategy.root_device
        self._data.live_on(device)
        # On several devices Lightning starts the others later, and sends them these weights.
        if resumed is None and log is not None and self._fits_head:
            started = time.perf_counter()
            start_head(task, self._settings, self._data, device)
            keeper.seconds = time.perf_counter() - started
        started = time.perf_counter()
        self._store_front(device)
        keeper.seconds += time.perf_counter() - started
        if self._settings.runtime.compile:
            task.network.compile()
        trainer.fit(task, datamodule=self._data, ckpt_path=resumed, weights_only=True)
        checkpoint = keeper.last
        if settings.final_weights == "best" and keeper.best.is_file():
            checkpoint = keeper.best
            task.load_state_dict(read_checkpoint(keeper.best)["state_dict"])
        return Fitted(
            trained=TrainedNetwork.of(task, self._settings, device),
            checkpoint=checkpoint,
            seconds=keeper.seconds,
            metrics={key: values[-1][1] for key, values in keeper.history.items()},
            history=keeper.history,
        )

    def _store_front(self, device: torch.device) -> None:
        """Compute the output of the frozen stages for the training pictures, where it is kept."""
        settings, data = self._settings, self._data
        model = build.network_of(settings)
        if not (model.frozen_stages and model.stored_views):
            return
        front = store_front(
            self._task,
            data.batches("train"),
            ids=data.split.train,
            contents=data.pictures.content_hashes,
            identity={
                "pictures": [data.pictures.channels, *data.pictures.image_size],
                "augment": to_plain(settings.augment),
                "mirror_ok": settings.data.mirror_ok,
                "seed": training_seed(settings.seed, settings.cv.fold),
            },
            cache_dir=cache_folder(settings.data.cache_dir).absolute(),
            limit_bytes=int(settings.data.cache_limit_gb * 1e9),
            device=device,
            precision=settings.runtime.precision,
        )
        if front is None:
            print("frozen stages: computed anew in every epoch, for what they give cannot be kept")
        else:
            print(f"frozen stages: {front.nbytes / 1e9:.2f} GB of {model.stored_views} views kept")
        self._task.front = front

    @property
    def _fits_head(self) -> bool:
        model = build.network_of(self._settings)
        return bool(model.pretrained) and model.head_start == "fitted"

    def training_batch(self) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        batch = next(iter(self._data.batches("train", training=True)))
        images, targets = self._task.augmented(batch)
        return images.cpu().numpy(), targets.cpu().numpy()

    def _progress(self) -> Progress:
        batches = len(self._data.batches("train", training=True))  # type: ignore[arg-type]
        settings = self._settings.trainer
        return Progress(int(settings.max_epochs), batches, moving=settings.progress)
