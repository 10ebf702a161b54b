"""Networks as candidates, trained by Lightning."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from torch import Tensor

from ...config.augment import OPERATIONS
from ...config.checks import ConfigError, input_of, to_plain
from ...config.finished import ORIGINAL
from ...config.plugins import code_digest
from ...config.schema import stored_settings
from ...data.decoding.picture_format import PictureFormat
from ...data.decoding.windows import window_places
from ...data.loading.picture_data import PictureData
from ...data.splitting.folds import training_seed
from ...explain.grad_cam import LOOKED_AT, find_map_layer, grad_cam
from ...explain.score_maps import HasScoreMaps, class_maps
from ...machine.arrays import Float32Array, Int64Array
from ...machine.failures import RunFailed
from ...models.arithmetic import autocast
from ...models.pretrained import reason_of
from ...records.pictures import ClassMaps, Pixels
from ...serving.bundle_writing import write_bundle
from ...serving.export_formats import ExportSource, exportable
from ...serving.predictor import Predictor, kind_in
from ...serving.whole_network import WholeNetwork, eager, network_predictor
from ...storage.cache import cache_folder
from ...targets import kind_of
from ...training import cost
from ...training.checkpoints import network_difference, read_checkpoint
from ...training.epochs import EpochKeeper, has_best, has_ended
from ...training.frozen_front import store_front
from ...training.inference import predict, views
from ...training.lightning_parts import FitBatches
from ...training.links import link_of, probabilities
from ...training.pixels import predict_pixels
from ...training.progress import Progress
from ...training.task import ClassificationTask
from .. import build
from ..earlier_runs import refuse_judged_by_weights
from ..folder import RunFolder, finished_summary
from ..resolve import Resolved, use_threads
from .candidate import (
    Answers,
    FitContext,
    Fitted,
    described_features,
    part_batches,
    typical_picture,
)

__all__ = ["NetworkCandidate", "TrainedNetwork"]

_LAST = "last.ckpt"
# Pictures of a batch whose speed is measured.
_AT_ONCE = 128
# After a process is lost to the others, until the system says how it ended.
_SECONDS_TO_END = 2.0


@dataclass
class TrainedNetwork:
    """A trained network, its task in eval mode on `device`."""

    task: ClassificationTask
    device: torch.device

    def __post_init__(self) -> None:
        settings = stored_settings(self.metadata["settings"])
        self.precision, self.tta = settings.runtime.precision, settings.trainer.tta
        self.task.to(self.device)

    @property
    def metadata(self) -> dict[str, Any]:
        return self.task.metadata

    @property
    def num_parameters(self) -> int:
        return cost.num_parameters(self.task.network)

    @property
    def format(self) -> PictureFormat:
        """The format of the pictures that the network takes."""
        return PictureFormat.of(self.metadata)

    def predict(self, data: PictureData, part: str) -> Answers:
        batches = part_batches(data.formatted(self.format), part)
        options: dict[str, Any] = {"device": self.device, "precision": self.precision}
        if kind_of(data.pictures.kind).pixels:
            answers, ids = predict_pixels(self.task, batches, tta=self.tta, **options)
            return answers, data.pictures.targets[ids], ids
        return predict(self.task, batches, tta=self.tta, **options)

    def features(self, data: PictureData, part: str, rows: Int64Array) -> Float32Array | None:
        # They are those of the picture itself: further views would be computed for nothing.
        settings = self.metadata["settings"]
        trainer = {**settings["trainer"], "tta": "none"}
        metadata = {**self.metadata, "settings": {**settings, "trainer": trainer}}
        predictor = network_predictor(self.task.evaluated, metadata, self.device, 128)
        return described_features(predictor, data, getattr(data.split, part)[rows])

    def predictor(self, batch_size: int) -> Predictor:
        return network_predictor(self.task.evaluated, self.metadata, self.device, batch_size)

    def cost(self, data: PictureData, checkpoint: Path) -> dict[str, float]:
        """Measure the costs; the timed prediction is the one by which the network is judged.

        That is the mean over the views of `trainer.tta`, and of pictures that are taken in windows
        the whole of one of the median size, one at a time. "passes" is how often the network runs
        for it.
        """
        data, form = data.formatted(self.format), self.format
        size, batch_size = form.image_size, _AT_ONCE
        passes = sum(1 for _ in views(torch.zeros(1, 1, 1, 1), self.tta))
        if form.windowed:
            height, width = data.pictures.array_sizes[typical_picture(data)].tolist()
            size, batch_size = (height, width), 1
            passes *= len(window_places(size, form.image_size))
        network = self.task.evaluated.eval()
        with autocast(self.device, self.precision):
            found = cost.measure_cost(
                network,
                (form.channels, *form.image_size),
                batch_size=batch_size,
                checkpoint=checkpoint,
                answering=WholeNetwork(network, self.metadata).to(self.device),
                picture_shape=(form.channels, *size),
            )
        return {**found, "passes": passes}

    def write_bundle(self, folder: Path, example: Pixels) -> str:
        return write_bundle(folder, self.task.evaluated, self.metadata, example)

    def export_source(self) -> ExportSource:
        network = exportable(self.task.evaluated, self.metadata)
        originals = {ORIGINAL: eager(network)}
        if self.precision != "float32":
            originals[f"{ORIGINAL} {self.precision}"] = eager(network, self.precision)
        # Contiguous whatever the run's layout: ONNX has none, and .pt2 stores no other completely.
        plain = exportable(self.task.evaluated, self.metadata, "contiguous")
        return ExportSource(plain, self.metadata, originals)

    def class_maps(self) -> ClassMaps | None:
        link = link_of(self.metadata)
        if link == "corn" or kind_in(self.metadata).pixels:
            return None  # its outputs are not classes of pictures
        network = self.task.evaluated.eval()
        if isinstance(network, HasScoreMaps):
            maps = partial(class_maps, network, probabilities=partial(probabilities, link=link))
            return self._class_maps(maps, "Where the network sees a class: brighter is surer")
        shape = (1, self.format.channels, *self.format.image_size)
        blank = self._normalized(np.full(shape, 128, np.uint8))
        layer = find_map_layer(network, blank)
        if layer is None:
            return None
        return self._class_maps(partial(grad_cam, network, layer), LOOKED_AT)

    def _class_maps(self, maps: Callable[[Tensor, Tensor], Tensor], title: str) -> ClassMaps:
        def of(images: Pixels, classes: Int64Array) -> Float32Array:
            with torch.no_grad():  # in full precision: gradients of small scores vanish in half
                found = maps(self._normalized(images), torch.from_numpy(classes).to(self.device))
            shown: Float32Array = found.cpu().numpy()
            return shown

        return ClassMaps(of, title)

    def _normalized(self, images: Pixels) -> Tensor:
        return self.task.normalized(torch.from_numpy(images).to(self.device))


class NetworkCandidate:
    """A network with its training, ready to start or to go on.

    Raises:
        ConfigError: the network cannot be made for these pictures, or its weights not be found or
            know pictures that they would be judged by.
    """

    def __init__(self, resolved: Resolved, data: PictureData) -> None:
        self.resolved = resolved
        self._settings = resolved.settings
        self._data = data
        refuse_judged_by_weights(self._settings, data)
        use_threads(self._settings)
        self._task = build.build_task(self._settings, data, resumed=self._resumed_metadata())

    def _resumed_metadata(self) -> dict[str, Any] | None:
        """Return the metadata of the checkpoint that brings the weights; None where none does.

        A run that began with weights of others then needs these no more.

        Raises:
            ConfigError: the checkpoint is damaged, or the run has none and its file is gone.
        """
        model, resume = build.network_of(self._settings), self._settings.resume
        if resume is None or not model.pretrained:
            return None
        folder = RunFolder.open(Path(resume))
        file, weights = folder.checkpoints / _LAST, model.weights_file
        if file.is_file():
            with input_of("resume"):
                metadata = read_checkpoint(file).get("bakeoff")
            # One that lacks them is reported by `check_resumed`.
            known = isinstance(metadata, dict) and metadata.keys() >= {"network", "mean", "std"}
            return metadata if known else None
        if weights is not None and not Path(weights).exists():
            raise ConfigError(
                f"model.pretrained: {folder.name} starts from {weights}, which is gone, and has no "
                "checkpoint to go on from: put the file back."
            )
        return None

    @property
    def num_parameters(self) -> int:
        return cost.num_parameters(self._task.network)

    def description(self) -> str:
        return f"{self.num_parameters:,} parameters"

    def check_resumed(self, folder: RunFolder) -> bool:
        """Return whether the run in a folder has been trained as long as the settings say.

        Raises:
            ConfigError: its last checkpoint is damaged, or is of another network; or the best one
                is missing or such, and its weights are to be the final ones.
        """
        file = folder.checkpoints / _LAST
        if not file.is_file():  # killed before its first checkpoint: it begins again
            return False
        with input_of("resume"):
            checkpoint = self._checkpoint(file, folder)
            epochs = self._settings.trainer.epochs
            try:
                begun = int(checkpoint["epoch"]) + 1
                complete = has_ended(checkpoint, self._settings.trainer)
                if self._settings.trainer.final_weights == "best" and has_best(checkpoint):
                    # It may be of a later epoch, if `last.ckpt` is not written after every one.
                    best = self._checkpoint(file.with_name("best.ckpt"), folder)
                    begun = max(begun, int(best["epoch"]) + 1)
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{file} cannot be gone on with, as it lacks {error}: begin a new run"
                ) from error
        if begun > epochs and finished_summary(folder) is None:
            raise ConfigError(
                f"trainer.max_epochs is {epochs}, but {folder.name} is in epoch {begun} of its "
                f"training already or has ended that: set {begun} or more."
            )
        return complete

    def _checkpoint(self, file: Path, folder: RunFolder) -> dict[str, Any]:
        """Return a checkpoint of the run in a folder.

        Raises:
            ValueError: it is missing, damaged, or of another network.
        """
        checkpoint = read_checkpoint(file)
        difference = network_difference(checkpoint, self._task.state_dict())
        if difference is not None:
            raise ValueError(
                f"{file} is not of the network that {folder.config.name} describes "
                f"({difference}): begin a new run without resume"
            )
        return checkpoint

    def fit(self, context: FitContext) -> Fitted:
        settings, task, tracker = self._settings.trainer, self._task, context.tracker
        steps = len(self._data.batches("train", training=True))  # type: ignore[arg-type]
        progress = Progress(settings.epochs, steps, moving=settings.progress)
        keeper = EpochKeeper(
            context.folder.checkpoints,
            settings,
            context.interruption,
            log=None if tracker is None else tracker.metrics,
            on_epoch=context.on_epoch,
            progress=None if tracker is None else progress,
        )
        task.share_of_time = keeper.share_of_time
        trainer = build.build_trainer(self._settings, keeper, context.folder.path)
        # A run that was killed before its first checkpoint begins again.
        resumed = keeper.last if self._settings.resume and keeper.last.is_file() else None
        device = trainer.strategy.root_device
        if device.type == "cuda":  # a warm process may have trained larger networks before
            torch.cuda.reset_peak_memory_stats(device)
        self._data.live_on(device)
        started = time.perf_counter()
        if resumed is None:
            # On several devices Lightning starts the others later, and sends them the head.
            first = tracker is not None
            build.start_network(task, self._settings, self._data, device, head=first)
        self._store_front(device, resumed)
        keeper.seconds = time.perf_counter() - started
        if self._settings.runtime.compile:
            task.network.compile()
        with self._failures_explained(trainer, context.folder.path):
            batches = FitBatches(self._data)
            trainer.fit(task, datamodule=batches, ckpt_path=resumed, weights_only=True)
        checkpoint = keeper.last
        if settings.final_weights == "best" and keeper.best.is_file():
            checkpoint = keeper.best
            task.load_state_dict(read_checkpoint(keeper.best)["state_dict"])
        return Fitted(
            trained=TrainedNetwork(task, device),
            checkpoint=checkpoint,
            seconds=keeper.seconds,
            metrics={key: values[-1][1] for key, values in keeper.history.items()},
            history=keeper.history,
        )

    @contextmanager
    def _failures_explained(self, trainer: Trainer, run_dir: Path) -> Iterator[None]:
        """Turn what stops torch's compiler, and the end of a further device, into `RunFailed`."""
        try:
            yield
        except RuntimeError as error:  # of the exchange between devices, perhaps
            if self._settings.runtime.compile and (reason := _not_compiled(error)) is not None:
                name = self._settings.model.name
                raise RunFailed(
                    f"runtime.compile is true, and torch cannot compile {name} here ({reason}): "
                    "begin a new run with runtime.compile=false"
                ) from error
            if (lost := _lost_device(trainer)) is None:
                raise
            raise RunFailed(f"{lost}: resume={run_dir} goes on from the last checkpoint") from error

    def _store_front(self, device: torch.device, resumed: Path | None) -> None:
        """Compute the output of the frozen stages for the training pictures, where it is kept."""
        settings, data = self._settings, self._data
        model = build.network_of(settings)
        if not model.stores_views:
            return
        if resumed is not None:  # which Lightning reads later
            self._task.load_state_dict(read_checkpoint(resumed)["state_dict"])
        identity = {
            "pictures": data.pictures.identity(),
            "augment": to_plain(settings.augment),
            "mirror_ok": settings.data.mirror_ok,
            "seed": training_seed(settings.seed, settings.cv.fold),
            "plugins": code_digest(str(model._target_), *OPERATIONS.values()),
        }
        front = store_front(
            self._task,
            data.batches("train"),
            ids=data.split.train,
            contents=data.pictures.content_hashes,
            identity=identity,
            cache_dir=cache_folder(settings.data.cache_dir).absolute(),
            limit_bytes=settings.data.cache_limit_bytes,
            device=device,
            precision=settings.runtime.precision,
        )
        if front is None:
            print("frozen stages: computed anew in every epoch, for what they give cannot be kept")
        else:
            size = front.activations.nbytes / 1e9
            print(f"frozen stages: {size:.2f} GB of {model.stored_views} views kept")
        self._task.front = front

    def training_batch(self) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
        batch = next(iter(self._data.batches("train", training=True)))
        images, targets = self._task.augmented(batch)
        return images.cpu().numpy(), targets.cpu().numpy()


def _not_compiled(error: RuntimeError) -> str | None:
    """Return why torch cannot compile a network; None for any other error."""
    from torch._dynamo.exc import TorchDynamoException  # which takes seconds to import

    if not isinstance(error, TorchDynamoException):
        return None
    return reason_of(getattr(error, "inner_exception", error))


def _lost_device(trainer: Trainer) -> str | None:
    """Return how the process of a further device failed; None where none did."""
    processes: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    until = time.monotonic() + _SECONDS_TO_END
    while processes and time.monotonic() < until:
        for device, process in enumerate(processes, 2):
            if code := process.poll():
                # Lightning watches this list, and would kill this process before its record is
                # complete.
                processes.clear()
                how = f"ended with exit code {code}" if code > 0 else f"was killed (signal {-code})"
                return f"the process of device {device} {how}"
        time.sleep(0.05)
    return None
