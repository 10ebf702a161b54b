"""Answers of several models about the pixels of pictures, and their mean.

Probabilities of all pixels are never kept: a mixture of models asks each again, batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ...config.checks import ConfigError
from ...data.decoding.picture_format import PictureFormat
from ...data.loading.picture_data import PictureData
from ...ensembles.combine import Judge, Mixture, WeightFit, combine_pixels
from ...ensembles.mixing import mixed_pixels
from ...machine.arrays import AnyArray, Float32Array, Int64Array, UInt8Array
from ...metrics.probabilistic import SMALLEST_PROBABILITY
from ...records.combination import Combination
from ...serving.predictor import Predictor
from ...targets.labels import IGNORED
from ...training.pixels import answers_of
from .candidate import Answers, Trained
from .members import Member

__all__ = ["choose_for_pixels", "mixed_answers"]

# Number of pixels of all pictures to which weights are fitted: neighbouring ones add little.
_FITTED_TO = 20_000


def choose_for_pixels(
    library: Sequence[Member],
    load: Callable[[Path], Trained],
    data: PictureData,
    fit: WeightFit,
    judge: Judge,
) -> Combination:
    """Choose among runs by some pixels of each validation picture, and measure it on all pixels.

    Args:
        library: the runs, of one file each.
        load: returns the model of a run's file; one after another is loaded to be asked.
        data: the pictures.
        fit: fits the weights; its seed is that of the pixels as well.
        judge: of the answers.

    Raises:
        ConfigError: models take pictures in different formats, or no pixel counts.
    """
    form: PictureFormat | None = None
    ids = library[0].held_out.sample_ids
    most = max(1, _FITTED_TO // len(ids))
    probs, labels, pictures = [], np.empty(0, np.int64), np.empty(0, np.int64)
    for member in library:
        trained = load(member.checkpoints[0])
        own = PictureFormat.of(trained.metadata)
        form = form or own
        if own != form:
            raise ConfigError(
                f"runs: {member.name} takes pictures as {_described(own)} and "
                f"{library[0].name} as {_described(form)}: pixels are combined of models that "
                "take pictures of one size."
            )
        found, labels, pictures = _some_pixels(trained, data, most, fit.seed)
        probs.append(found)
    if not len(labels):
        raise ConfigError("runs: no pixel of the validation part counts, so nothing can be chosen.")

    def mixed(mixtures: Sequence[Mixture], number: Int64Array) -> AnyArray:
        needed = np.flatnonzero(np.any([weights for _, weights in mixtures], axis=0)).tolist()
        predictors = [load(library[one].checkpoints[0]).predictor(1) for one in needed]
        fewer = [(one, weights[needed]) for one, weights in mixtures]
        return mixed_answers(predictors, data, "val", fewer, number)[0]

    return combine_pixels(
        [member.name for member in library],
        np.stack(probs),
        labels=labels,
        pictures=np.searchsorted(ids, pictures),
        answers=[member.held_out.probs for member in library],
        targets=library[0].held_out.targets,
        mixed=mixed,
        fit=fit,
        judge=judge,
        groups=library[0].held_out.groups,
    )


def mixed_answers(
    predictors: Sequence[Predictor],
    data: PictureData,
    part: str,
    mixtures: Sequence[Mixture],
    number: Int64Array | None = None,
) -> Answers:
    """Return the answers of mixtures of models about a part, by ascending sample id.

    Args:
        predictors: of M models that take pictures in one format.
        data: the pictures.
        part: "val" or "test".
        mixtures: methods with weights (M,); models without a weight are not asked.
        number: (N,) of the mixture that answers each picture, in the order of the result; None
            where the first answers all.
    """
    ids = np.sort(getattr(data.split, part))
    number = np.zeros(len(ids), np.int64) if number is None else number
    found, order = [], []
    for images, targets, own in _batches(predictors[0], data, part):
        numbers = number[np.searchsorted(ids, own)]
        for one in np.unique(numbers):
            rows = np.flatnonzero(numbers == one)
            way, weights = mixtures[one]
            used = np.flatnonzero(weights)
            answers = (predictors[k].probabilities(images[rows]) for k in used.tolist())
            probs = torch.from_numpy(mixed_pixels(way, answers, weights[used]))
            logits = probs.clamp_min(SMALLEST_PROBABILITY).log()
            found.append(answers_of(logits, targets[torch.from_numpy(rows)]))
            order.append(own[rows])
    place = np.argsort(np.concatenate(order))
    return np.concatenate(found)[place], data.pictures.targets[ids], ids


def _some_pixels(
    trained: Trained, data: PictureData, most: int, seed: int
) -> tuple[Float32Array, Int64Array, Int64Array]:
    """Return probabilities (P, K), classes (P,) and sample ids (P,) of pixels that count.

    Of each validation picture `most` are drawn, the same for every model.
    """
    predictor = trained.predictor(1)
    probs, labels, ids = [], [], []
    for images, targets, own in _batches(predictor, data, "val"):
        answers = predictor.probabilities(images)
        for maps, classes, sample in zip(answers, targets.numpy(), own.tolist(), strict=True):
            counted = np.flatnonzero(classes != IGNORED)
            draw = np.random.default_rng([seed, sample])
            some = draw.choice(counted, min(most, len(counted)), replace=False)
            probs.append(maps.reshape(len(maps), -1)[:, some].T)
            labels.append(classes.reshape(-1)[some])
            ids.append(np.full(len(some), sample))
    return np.concatenate(probs), np.concatenate(labels), np.concatenate(ids)


def _batches(
    predictor: Predictor, data: PictureData, part: str
) -> Iterator[tuple[UInt8Array, torch.Tensor, Int64Array]]:
    """Yield pictures (B, C, H, W), their classes (B, H, W) and sample ids (B,) of a part."""
    for batch in data.formatted(predictor.formats[0]).batches(part):
        yield batch.images.cpu().numpy(), batch.targets.cpu(), batch.sample_ids.cpu().numpy()


def _described(form: PictureFormat) -> str:
    height, width = form.image_size
    return f"{width}x{height} pixels in {form.channels} channels (data.fit={form.fit})"
