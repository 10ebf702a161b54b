"""A data set: pictures, their parts and their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
import torch.distributed as dist

from ...config.checks import ConfigError
from ...config.data import DataSettings
from ...machine.arrays import Float64Array, Int64Array
from ...machine.hardware import has_room
from ...records.pictures import Suspect
from ...storage.cache import cache_folder
from ...targets import kind_of
from ...targets.labels import label_counts
from ..decoding.depth import chosen_range
from ..decoding.opening import open_pictures
from ..decoding.picture_format import PictureFormat
from ..decoding.picture_store import PictureStore
from ..quality.data_summary import rare_labels, remarks_on, summary_lines
from ..quality.picture_statistics import channel_statistics
from ..quality.suspects import Examination, examine, list_suspects
from ..sources.source import Source
from ..splitting.folds import assign_folds, hold_out
from ..splitting.groups import group_pictures
from ..splitting.splits import EmptyPart, Split, make_split
from .loaders import Batch, BatchLoader, BatchOrder, StreamLoader
from .pieces import Pieces

__all__ = ["PictureData"]

# Batch size of an evaluation, at least: without gradients there is memory for it, and it is faster.
_EVALUATED_AT_ONCE = 256


class PictureData:
    """A data set, decoded, examined and split.

    The test part is read by `batches("test")` alone.

    Args:
        pictures, split: the decoded pictures, and the part of each.
        batch_size: pictures a training step and device.
        seed: of the training order.
        workers: processes that decode pictures too many to be cached.
        found: the examination of the pictures; None where there was none.
        reopen: returns the same pictures in another format; None where there is only this one.
        groups: (N,) group of each picture, of those that stay in one part; None where each picture
            is a group of its own.

    Attributes:
        suspects, remarks: pictures to look at, and what the user should know before training.
        costs: (K, K) of each predicted class (column) for each true one (row), where answers are
            measured by them as well; else None.
    """

    def __init__(
        self,
        pictures: PictureStore,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        found: Examination | None = None,
        reopen: Callable[[PictureFormat], PictureStore] | None = None,
        groups: Int64Array | None = None,
    ) -> None:
        self.pictures = pictures
        self.split = split
        self.groups = groups
        self.costs: Float64Array | None = None
        self.batch_size = batch_size
        self._on_device: dict[torch.device, torch.Tensor] = {}
        self._resident: torch.Tensor | None = None
        self.seed = seed
        self.workers = workers
        self._found = found
        self.suspects: tuple[Suspect, ...] = ()
        if found is not None:
            self.suspects = tuple(list_suspects(pictures, split, found))
        self.remarks: tuple[str, ...] = ()
        self._reopen = reopen
        self._others: dict[PictureFormat, PictureData] = {}

    @cached_property
    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and deviation of each channel in the training part, in units of [0, 1].

        Computed on first use: a network with published weights brings its own.
        """
        images, read = self.pictures.array, self.pictures.read
        return channel_statistics(read if images is None else images, self.split.train)

    def normalization(self, network: torch.nn.Module) -> tuple[list[float], list[float]]:
        """Return mean and deviation of each channel, in units of [0, 1], for this network.

        They are those of its published weights, where the pictures are such as these were trained
        on: of 8 bits, in grey or colour; else those of the training part.
        """
        own = getattr(network, "input_statistics", None)
        return own if own and self.pictures.format.ordinary else self.channel_statistics

    @property
    def summary(self) -> tuple[str, ...]:
        """Parts, classes and format, a line each."""
        return summary_lines(self.pictures, self.split)

    @classmethod
    def open(
        cls,
        source: Source,
        settings: DataSettings,
        *,
        native_side: int | None,
        batch_size: int,
        seed: int,
        before: Split | None = None,
        folds: int | None = None,
    ) -> PictureData:
        """Decode (or find decoded), examine and split the pictures of a source.

        Args:
            source, settings, native_side: as of `open_pictures`.
            batch_size: pictures a training step and device.
            seed: of the training order.
            before: the split of an earlier run, whose parts these pictures keep where they are the
                same in the same order, and bring no parts of their own.
            folds: of a cross-validation, into which `fold` will divide them, for remarks; or None.

        Raises:
            ConfigError: pictures cannot be used, or the cache cannot be written.
            ValueError: a part would be empty, or given parts share pictures.
        """
        cache_dir = cache_folder(settings.cache_dir).absolute()
        workers = settings.worker_count

        def reopen(form: PictureFormat) -> PictureStore:
            return open_pictures(source, settings, form=form)

        pictures = open_pictures(source, settings, native_side=native_side)
        found = examine(pictures, cache_dir=cache_dir, workers=workers)
        near = None if source.published else found.belong_together
        split = _split_of(pictures, settings, near, before)
        groups = group_pictures(
            pictures.targets,
            pictures.content_hashes,
            pictures.groups,
            seed=settings.split_seed,
            near=near,
        )
        if settings.value_range is None and pictures.pixel_bounds is not None:
            # Until now all pictures counted, as parts were not known; now those that train alone.
            chosen = chosen_range(pictures.pixel_bounds[split.train])
            if chosen != pictures.format.value_range:
                pictures = reopen(replace(pictures.format, value_range=chosen))
                measures = examine(pictures, cache_dir=cache_dir, workers=workers).measures
                found = replace(found, measures=measures)
        opened = cls(
            pictures,
            split,
            batch_size=batch_size,
            seed=seed,
            workers=workers,
            found=found,
            reopen=reopen,
            groups=None if (groups.sizes == 1).all() else groups.of_sample,
        )
        opened.remarks = remarks_on(
            pictures, split, found, opened.suspects, groups.of_sample, folds
        )
        return opened

    def fold(
        self, number: int, folds: int, *, split_seed: int, seed: int, train_limit: int | None = None
    ) -> PictureData:
        """Return the same pictures, with one fold of a cross-validation as the `val` part.

        The others train, and the test part stays. The decoded pictures are shared, and were divided
        without a limit, so that folds are the same ones with it.

        Args:
            number: from 1, counted on over the repeats: with 5 folds, 6 is the second's first.
            folds: of one repeat.
            split_seed, seed: of the division, with the number of the repeat; of the training order.
            train_limit: pictures of the others at most; None for all.

        Raises:
            ValueError: fewer pictures can be held out than there are folds.
        """
        repeat, fold = divmod(number - 1, folds)
        pictures, found = self.pictures, self._found
        assigned = assign_folds(
            self.split,
            folds,
            seed=split_seed,
            repeat=repeat,
            class_names=pictures.class_names,
            groups=pictures.groups,
            # Folds are not published with a set, as parts are: what is alike always stays together.
            near=None if found is None else found.belong_together,
        )
        split = hold_out(self.split, assigned, fold)
        if train_limit is not None:
            split = split.with_less_training(train_limit)
        held_out = self._like(pictures, split, found, seed)
        held_out._on_device = self._on_device
        return held_out

    def formatted(self, wanted: PictureFormat) -> PictureData:
        """Return the same pictures in the same parts, decoded to another format.

        Raises:
            ConfigError: they cannot be decoded to it, or are not the same any more.
        """
        own = self.pictures.format
        if own.dtype == "uint8":  # nothing to be scaled
            wanted = replace(wanted, value_range=own.value_range, dtype="uint8")
        if wanted == self.pictures.format:
            return self
        if wanted not in self._others:
            if self._reopen is None:
                raise ValueError(f"the pictures are to be had in {self.pictures.format} alone")
            pictures = self._reopen(wanted)
            if not np.array_equal(pictures.content_hashes, self.pictures.content_hashes):
                raise ConfigError(
                    f"{pictures.name}: other pictures can be decoded to {wanted.image_size} than "
                    f"to {self.pictures.image_size}: repair or remove those that are damaged."
                )
            self._others[wanted] = self._like(pictures, self.split, None, self.seed)
        self._others[wanted].costs = self.costs
        self._others[wanted].remarks = self.remarks
        return self._others[wanted]

    def undecoded(self, image_size: tuple[int, int]) -> PictureData:
        """Return the same pictures in the same parts, each decoded whenever it is read.

        That pays where few of them are, and each is read once or twice. What was found in the
        pictures of this size holds for the others.

        Args:
            image_size: (H, W) in pixels.
        """
        form = replace(self.pictures.format, image_size=image_size)
        pictures = replace(self.pictures, images=None, masks=None, format=form)
        return self._like(pictures, self.split, self._found, self.seed)

    def _like(
        self, pictures: PictureStore, split: Split, found: Examination | None, seed: int
    ) -> PictureData:
        other = PictureData(
            pictures,
            split,
            batch_size=self.batch_size,
            seed=seed,
            workers=self.workers,
            found=found,
            reopen=self._reopen,
            groups=self.groups,
        )
        other.costs = self.costs
        return other

    def live_on(self, device: torch.device) -> bool:
        """Move the array of pictures to a GPU where it fits into a quarter of the free memory.

        Returns whether batches are gathered there; not on the CPU, nor where they are streamed.
        """
        self._resident = None  # an earlier training may have been on another device
        images = self.pictures.array
        if images is not None:
            if device not in self._on_device and has_room(device, images.nbytes):
                self._on_device[device] = torch.tensor(images, device=device)
            self._resident = self._on_device.get(device)
        return self._resident is not None

    def leave_devices(self) -> None:
        """Give back the memory of GPUs that `live_on` took, of all formats of the pictures."""
        for data in (self, *self._others.values()):
            data._resident = None
            if data._on_device:
                data._on_device.clear()
                torch.cuda.empty_cache()  # what torch keeps does not count as free

    @cached_property
    def class_counts(self) -> Int64Array:
        """(K,) pictures of each class in the training part, or pixels where these have classes."""
        classes = len(self.pictures.class_names)
        if self.pictures.places is not None:
            return self.pictures.places.counts[self.split.train].sum(0)
        if kind_of(self.pictures.kind).pixels:
            counts = np.zeros(256, np.int64)
            for index in self.split.train.tolist():
                counts += np.bincount(self.pictures.read_mask(index).ravel(), minlength=256)
            return counts[:classes]
        targets = self.pictures.targets[self.split.train]
        return label_counts(targets, classes)

    def batches(
        self, part: str, *, training: bool = False, sharded: bool = False
    ) -> Iterable[Batch]:
        """Batches of one part: shuffled anew each epoch for training, in order otherwise.

        With `sharded`, each process of a run on several devices gets its share.
        """
        rank, world_size = 0, 1
        if sharded and dist.is_available() and dist.is_initialized():
            rank, world_size = dist.get_rank(), dist.get_world_size()
        pictures, dense = self.pictures, kind_of(self.pictures.kind).pixels
        # Answers about pixels take as much memory as those of a training batch.
        at_once = self.batch_size if dense else max(self.batch_size, _EVALUATED_AT_ONCE)
        at_once = 1 if pictures.format.windowed else at_once  # each has a size of its own
        pieces = self._pieces(part) if training and pictures.format.windowed else None
        order = BatchOrder(
            getattr(self.split, part) if pieces is None else np.arange(len(pieces)),
            batch_size=self.batch_size if training else at_once,
            training=training,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        if pictures.array is not None:
            images = pictures.array if self._resident is None else self._resident
            masks = pictures.masks
            targets = masks if isinstance(masks, np.ndarray) else pictures.targets
            return BatchLoader(images, targets, order)
        workers = self.workers if pictures.images is None else 0  # to read a file takes no time
        if pieces is not None:
            return StreamLoader(pieces, None, order, workers=workers)
        read_targets = pictures.read_mask if dense else pictures.targets
        return StreamLoader(pictures.read, read_targets, order, workers=workers)

    def _pieces(self, part: str) -> Pieces:
        return Pieces(self.pictures, getattr(self.split, part), self.seed)

    @property
    def samples(self) -> int:
        """Pictures that an epoch of training has, or pieces of such that are taken in windows."""
        windowed = self.pictures.format.windowed
        return len(self._pieces("train") if windowed else self.split.train)


def _split_of(
    pictures: PictureStore,
    settings: DataSettings,
    near: Int64Array | None,
    before: Split | None,
) -> Split:
    """Return the split that settings state; `near` and errors as of `make_split`.

    With the parts of the split `before`, where they are those of these pictures.

    Raises:
        ConfigError: a single picture would train, or most labels have hardly a picture.
    """
    try:
        split = make_split(
            pictures.targets,
            pictures.content_hashes,
            seed=settings.split_seed,
            val_fraction=settings.val_fraction,
            test_fraction=settings.test_fraction,
            given_parts=None if pictures.given_parts is None else pictures.given_parts.tolist(),
            groups=pictures.groups,
            on_duplicates=settings.on_duplicates,
            names=pictures.sample_paths,
            near=near,
        )
    except EmptyPart as error:
        if (rare := rare_labels(pictures)) is None:
            raise
        raise ConfigError(f"data: the {error.part} part would be empty, for {rare}.") from error
    if pictures.source is not None and (masks := pictures.source.masks) is not None:
        split = replace(split, mask_hashes=masks.digests)
    if before is not None and pictures.given_parts is None and split.is_of_same(before):
        split = replace(split, parts=before.parts)
    elif settings.limit is not None:
        split = split.limited(settings.limit)
    if settings.train_limit is not None:
        split = split.with_less_training(settings.train_limit)
    if len(split.train) == 1:  # of which batch normalization, for one, can make nothing
        raise ConfigError(
            "data: the training part has a single picture: add pictures, or raise data.limit "
            "and data.train_limit."
        )
    return split.with_val_training() if settings.train_on_val else split
