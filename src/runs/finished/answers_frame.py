"""A trained model's answers to pictures that are named or given in Python, as a table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...config.checks import ConfigError, input_of
from ...data.sources.picture_paths import each_picture
from ...data.sources.source import Problem
from ...machine.arrays import Float32Array
from ...machine.status import with_progress
from ...serving.file_pages import Page
from ...serving.masks import Mask, class_shares, masks_of
from ...serving.predictor import Predictor
from ...serving.trust import Promise, Trust
from ...targets.labels import class_columns
from .trust_in_labels import trust_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["answers_frame", "probabilities_of", "trust_asked"]

_log = logging.getLogger(__name__)
_DONE = "pictures labelled"


def answers_frame(predictor: Predictor, pictures: Any, trust: Trust | None) -> pd.DataFrame:
    """Return a row for each picture, as `Model.predict` of the Python interface describes it.

    Files that cannot be read have none, and are named in the log.

    Args:
        predictor: of the model.
        pictures: one or several, as `each_picture` takes them.
        trust: what judges the answers; None where nothing is asked for or known.

    Raises:
        ValueError: names the first that is no picture, which is no file, or where none is one.
    """
    listed = list(_pages(predictor, pictures))
    shown, left_out = with_progress(listed, len(listed), _DONE), dict[int, Problem]()
    if predictor.kind.pixels:
        masks = list(masks_of(predictor, shown, left_out))
        return _masks_frame(predictor, masks, _names(listed, left_out))
    probs, answers = predictor.judge_all(shown, trust, left_out)
    names = _names(listed, left_out)
    judged = {} if trust is None else trust.table(answers)
    uncertainty = predictor.kind.uncertainties(probs).astype(float)
    if predictor.kind.sets:
        sets = predictor.label_sets(probs)
        labels = [[predictor.class_names[k] for k in one] for one in sets]
        found = {"picture": names, "labels": labels, "uncertainty": uncertainty}
        return _with_classes(predictor, found | judged, probs.T)
    import pandas as pd

    best = predictor.decided(probs)
    found = {
        "picture": names,
        "label": [predictor.class_names[k] for k in best],
        "probability": np.take_along_axis(probs, best[:, None], axis=1)[:, 0].astype(float),
        "uncertainty": uncertainty,
    }
    return pd.DataFrame(found | judged)


def probabilities_of(predictor: Predictor, pictures: Any) -> Float32Array:
    """Return (N, K) float32, the probability of each class for each picture.

    Raises:
        ValueError: names the first that is no picture; or the model has a class for every pixel.
    """
    if predictor.kind.pixels:
        raise ValueError("the model has a class for every pixel: take the masks of predict")
    listed, left_out = list(_pages(predictor, pictures)), dict[int, Problem]()
    probs, _ = predictor.judge_all(with_progress(listed, len(listed), _DONE), None, left_out)
    for problem in left_out.values():  # a row that is missing would shift all others
        raise ValueError(
            f"{problem}; of {len(listed):,} pictures {len(left_out):,} cannot be read: take them "
            "out, or use predict, which leaves them out and names the others"
        )
    return probs


def trust_asked(
    run: Path,
    predictor: Predictor,
    coverage: float | None,
    classwise: bool,
    max_error: float | None,
) -> Trust | None:
    """Return what judges the answers of the run in a folder; None for no calibration and promise.

    Raises:
        ConfigError: what is asked for is no share, or means nothing for the model; or its
            calibration does not suffice, or is missing.
    """
    for name, value in {"coverage": coverage, "max_error": max_error}.items():
        if value is not None and not isinstance(value, Real):
            raise ConfigError(f"{name} is {value!r}: it must be a number or None.")
    with input_of():
        promise = Promise(coverage, classwise, max_error)
    if predictor.kind.pixels and promise != Promise():
        raise ConfigError(
            "coverage and max_error are about labels of whole pictures, and the model has a "
            "class for every pixel: leave them out."
        )
    return trust_of(run, promise)


def _names(listed: list[Any], left_out: Mapping[int, Problem]) -> list[str | None]:
    """Return the paths of the pictures that have answers, None of those that are no files.

    The others are named in the log.

    Raises:
        ValueError: no picture has an answer; names the first.
    """
    for problem in left_out.values():
        if len(left_out) == len(listed):
            raise ValueError(f"of the pictures nothing can be read: {problem}")
        _log.info("skipped %s", problem)
    kept = [one for row, one in enumerate(listed) if row not in left_out]
    return [str(one) if isinstance(one, Path | Page) else None for one in kept]


def _masks_frame(predictor: Predictor, masks: list[Mask], names: list[str | None]) -> pd.DataFrame:
    count = len(predictor.class_names)
    shares = [class_shares(mask, count) for mask in masks]
    found = {"picture": names, "mask": masks}
    return _with_classes(predictor, found, np.array(shares).reshape(-1, count).T)


def _with_classes(
    predictor: Predictor, first: dict[str, Any], of_classes: NDArray[np.floating[Any]]
) -> pd.DataFrame:
    """Return columns, and one (N,) for each class, as `class_columns` calls them."""
    import pandas as pd

    names = class_columns(predictor.class_names, first)
    return pd.DataFrame(first | dict(zip(names, of_classes, strict=True)))


def _pages(predictor: Predictor, pictures: Any) -> Iterator[Any]:
    """Yield single pictures; of files those that the model was trained on."""
    for one in each_picture(pictures):
        yield from predictor.pages_in(one) if isinstance(one, Path) else [one]
