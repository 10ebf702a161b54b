"""The LightningModule: training step, validation step, running totals, metadata of checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ..config.checks import ConfigError
from ..data.augmentation.transforms import scaled
from ..data.loading.loaders import Batch
from ..data.randomness import derive_seed
from ..models.arithmetic import depthwise_in_float32
from .cuda_graphs import GraphedPasses
from .freezing import Freezing, head_prefixes
from .inference import in_pieces
from .links import link_of
from .losses import plain_loss
from .sliding_windows import over_windows
from .totals import LossTotal, RunningTotals
from .weight_averages import WeightAverage

if TYPE_CHECKING:
    from .frozen_front import StoredFront

__all__ = ["ClassificationTask", "seed_generator"]

_DROPOUT_STREAM = 7  # separates the seeds of dropout from those of other random numbers


def _no_limit() -> float:
    return 0.0


def seed_generator(device: torch.device, seed: int) -> None:
    """Seed the generator of a device, and no other: `torch.manual_seed` is 150 times slower."""
    if device.type == "mps":
        torch.mps.manual_seed(seed)
        return
    generator = torch.default_generator
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
    generator.manual_seed(seed)


class _Normalization(nn.Module):
    """Pictures (B, C, H, W), uint8 or float32 in [0, 255], to those that a network takes, float32.

    Args:
        mean, std: (C,) in units of [0, 1].
        memory_format: of the result.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, std: Tensor, memory_format: torch.memory_format) -> None:
        super().__init__()
        # Computed once and not in every step. Checkpoints have what they are computed from.
        self.register_buffer("offset", mean.mul(255), persistent=False)
        self.register_buffer("scale", std.mul(255).reciprocal(), persistent=False)
        self._memory_format = memory_format

    def forward(self, images: Tensor) -> Tensor:
        pictures = scaled(images, self.offset, self.scale)
        return pictures.contiguous(memory_format=self._memory_format)


class ClassificationTask(pl.LightningModule):
    """Trains a network: pictures (B, C, H, W) uint8 to logits (B, K) float, or (B, K, H, W).

    Args:
        network: plain module, normalised float pictures -> logits.
        metadata: plain containers in every checkpoint, enough to use it without the run: `mean` and
            `std` of the normalisation, per channel, in units of [0, 1], and a `link` other than
            softmax.
        loss: module, (logits (B, K), targets (B,) int64 or (B, K) probabilities) -> scalar; of
            pixels (logits (B, K, H, W), targets (B, H, W) int64).
        target: the kind of targets, see `src.targets`.
        validation: totals of the validation part; None for the loss, and of single labels accuracy.
        augment: changes the training batches, as src/data/augmentation/augment.py; or None.
        make_optimizer: network -> optimizer.
        make_schedule: total number of steps -> (step -> factor of the learning rate).
        seed: of all random numbers of the training.
        freezing: of the network; None for one that is trained as a whole.
        stored_views: number of views of a picture that training repeats; 0 for a new one every
            epoch.
        ema_decay: decay of the weights' moving average, which validation then uses; 0 for none.
        memory_format: of pictures and kernels.
        cuda_graphs: whether to launch the network's passes on a GPU as `GraphedPasses`, which takes
            gradients that are used before the next pass.
    """

    mean: Tensor
    std: Tensor
    front: StoredFront | None = None  # computes logits of training pictures instead of the network

    def __init__(
        self,
        network: nn.Module,
        metadata: dict[str, Any],
        *,
        loss: nn.Module,
        augment: Callable[..., tuple[Tensor, Tensor]] | None,
        make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        make_schedule: Callable[[int], Callable[[int], float]],
        seed: int,
        freezing: Freezing | None = None,
        stored_views: int = 0,
        ema_decay: float = 0.0,
        memory_format: torch.memory_format = torch.channels_last,
        cuda_graphs: bool = False,
        target: str = "single",
        validation: RunningTotals | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.register_buffer("mean", torch.tensor(metadata["mean"]))
        self.register_buffer("std", torch.tensor(metadata["std"]))
        self._normalization = _Normalization(self.mean, self.std, memory_format)
        self.average = WeightAverage(network, ema_decay) if ema_decay > 0 else None
        self.metadata = metadata
        totals = RunningTotals if target == "single" else LossTotal
        self.totals: dict[str, RunningTotals] = {"train": totals(), "val": validation or totals()}
        self._validation_loss = plain_loss(link_of(metadata))
        self._augment = augment
        self.make_optimizer = make_optimizer
        self._make_schedule = make_schedule
        # The share of the time limit that is spent; the schedule is as far on as this at least.
        self.share_of_time = _no_limit
        self._seed = seed
        self.stored_views = stored_views
        self._freezing = freezing or Freezing(network, head_prefixes(network))
        self._passes = GraphedPasses(network, self._normalization, wanted=cuda_graphs)

    @property
    def evaluated(self) -> nn.Module:
        """The network that predicts: the averaged one where there is one."""
        return self.network if self.average is None else self.average.network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K) of pictures (B, C, H, W), uint8 or float in [0, 255]."""
        return over_windows(self.evaluated, self.metadata)(self.normalized(images))

    def normalized(self, images: Tensor) -> Tensor:
        """Return pictures (B, C, H, W), uint8 or float in [0, 255], normalised for the network."""
        normalized: Tensor = self._normalization(images)
        return normalized

    def augmented(self, batch: Batch, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return the batch augmented for `epoch`: pictures in [0, 255], and targets."""
        if self._augment is None:
            return batch.images, batch.targets
        images, targets, ids, step = batch
        return self._augment(images, targets, ids, seed=self._seed, epoch=epoch, step=step)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        epoch = self.current_epoch
        device = batch.images.device  # whose generator dropout draws from
        # Seeded every step, it is the same after resuming.
        seed_generator(device, derive_seed(self._seed, epoch, batch_index, _DROPOUT_STREAM))
        view = epoch % self.stored_views if self.stored_views else epoch
        with depthwise_in_float32(device):
            if self.front is None:
                images, targets = self.augmented(batch, view)
                logits = self._passes(images)
            else:
                logits, targets = self.front.logits(batch.sample_ids, view), batch.targets
        loss: Tensor = self.loss(logits, targets)
        if loss.ndim:  # one of a plugin
            raise ConfigError(
                f"loss: {type(self.loss).__module__}.{type(self.loss).__name__} returned "
                f"{tuple(loss.shape)} for logits {tuple(logits.shape)}: a scalar is needed."
            )
        self.totals["train"].add(loss, logits, targets)
        share = self._share(batch_index)
        return loss if share == 1 else share * loss

    def _share(self, batch_index: int) -> float:
        """Return the factor that makes the sum over the batches of a step their mean.

        Lightning divides by their usual number, and the last step of an epoch may have fewer.
        """
        if self._trainer is None:
            return 1.0
        usual, batches = self.trainer.accumulate_grad_batches, self.trainer.num_training_batches
        first = batch_index - batch_index % usual
        return usual / min(usual, int(batches) - first)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        logits = in_pieces(self, batch.images)
        loss = self._validation_loss(logits.float(), batch.targets)
        self.totals["val"].add(loss, logits, batch.targets)

    def on_train_start(self) -> None:
        if self.average is not None:
            self.average.locate(self.network)  # on several devices its norms have been replaced
        self.on_train_epoch_start()  # Lightning skips it for an epoch resumed within

    def on_train_epoch_start(self) -> None:
        self.set_modes(self.current_epoch)

    def on_fit_end(self) -> None:
        self._passes.release()
        self.front = None

    def set_modes(self, epoch: int | None = None) -> None:
        """Set gradients and modes of the network as an epoch trains it.

        Args:
            epoch: from 0; None for one after all that train the head alone.
        """
        self._freezing.set_epoch(epoch)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update(self.network)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.network)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        planned = self._make_schedule(steps)
        # Devices have clocks of their own, and must agree on the rate.
        alone = self.trainer.world_size == 1

        def factor(step: int) -> float:
            # What ends early must come down as well: half a schedule leaves the rate near its peak.
            timed = round(self.share_of_time() * (steps - 1)) if alone else 0
            return planned(max(step, timed))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["bakeoff"] = self.metadata
