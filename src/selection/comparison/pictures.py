"""A few pictures of a run's data set, from where they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from src.config.checks import from_plain
from src.config.data import DataSettings
from src.data.decoding.decode import PictureError, thumbnail
from src.data.quality.audit import content_hash
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source
from src.data.splitting.splits import Split
from src.runs.folder import RunFolder

__all__ = ["PicturesGone", "read_pictures"]


class PicturesGone(Exception):
    """The pictures cannot be had any more; the message says why."""


def read_pictures(run_dir: Path, ids: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """Pictures (C, H, W) uint8 by sample id, those that are what they were when the run began.

    Nothing is downloaded and nothing decoded but these. One that has been changed or is gone is
    left out.

    Args:
        run_dir: folder of a run on the data set.
        ids: of the pictures, as its predictions name them.

    Raises:
        PicturesGone: the data set is not there any more.
    """
    folder = RunFolder.open(run_dir)
    try:
        split = Split.read(folder.split)
        source = _source(folder)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PicturesGone(str(error).rstrip(".")) from error
    places = {} if source.sample_paths is None else _by_path(source)
    found: dict[int, NDArray[np.uint8]] = {}
    for index in ids:
        # Of a set of files the ids leave out those that could not be read: the path counts.
        name = "" if split.names is None else split.names[index]
        place = index if source.sample_paths is None else places.get(name)
        if place is None or place >= len(source):
            continue
        picture = _picture(source, place, bytes(split.content_hashes[index]))
        if picture is not None:
            found[index] = picture
    if not found and ids:
        raise PicturesGone("the pictures of the data set are not those that the run was trained on")
    return found


def _source(folder: RunFolder) -> Source:
    plain: dict[str, Any] = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    data = from_plain(DataSettings, plain["data"], "data")
    return list_pictures(replace(data, download=False))


def _by_path(source: Source) -> dict[str, int]:
    return {name: place for place, name in enumerate(source.sample_paths or ())}


def _picture(source: Source, place: int, expected: bytes) -> NDArray[np.uint8] | None:
    if source.arrays is not None:
        row = np.ascontiguousarray(source.arrays[place])
        return row if content_hash(row) == expected else None
    path = Path(source.file(place))
    try:
        return thumbnail(path) if content_hash(path.read_bytes()) == expected else None
    except (OSError, PictureError):
        return None
