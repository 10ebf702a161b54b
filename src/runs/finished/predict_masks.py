"""Masks for picture files: a PNG and an overlay each, and a CSV table of the shares of classes."""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TextIO

import numpy as np
import yaml
from PIL import Image

from ...config.checks import ConfigError
from ...config.console import written_to
from ...config.finished import PredictSettings
from ...data.decoding.decode import decode_picture, shown_size, thumbnail
from ...data.decoding.mask_files import LEFT_OUT, mask_png
from ...data.decoding.picture_files import PictureError
from ...data.decoding.windows import mean_over_windows
from ...data.sources.picture_paths import FoundPictures, without_masks
from ...data.sources.source import Problem
from ...data.sources.written_answers import MASKS, OVERLAYS, SHARES, without_answers
from ...machine.arrays import UInt8Array
from ...machine.memory import memory_kept
from ...machine.status import doing, with_progress
from ...machine.text import counted, csv_cell, from_csv_cell
from ...records.pixel_answers import colours
from ...serving.masks import (
    PredictedMask,
    class_shares,
    mask_uncertainty,
    predicted_masks,
)
from ...serving.predictor import DamagedModel, Predictor
from ...storage.files import replacing
from ...targets.labels import class_columns
from ..folder import RunFolder
from .kept_answers import UNFINISHED, KeptAnswers, kept_answers
from .label_next import MasksNext
from .predict import open_model, picture_shown

__all__ = ["predicts_pixels", "windowed_masks", "write_masks"]

# The first columns of the table.
_COLUMNS = ("path", "mask")
# Pixels of an overlay's longer side at most, and how much of it is the colour of the class.
_LONGEST_SIDE, _OPACITY = 1024, 0.5


def predicts_pixels(folder: RunFolder) -> bool:
    """Return whether a run has learnt a class for every pixel."""
    try:
        return bool(folder.plain_settings()["data"]["target"] == "dense")
    except (OSError, KeyError, TypeError, yaml.YAMLError):  # said when its model is loaded
        return False


@memory_kept()
def write_masks(model: Path, found: FoundPictures, settings: PredictSettings) -> str:
    """Write mask and overlay of every readable picture, and a row with the share of each class.

    Masks have the sizes of their pictures and a palette; a pixel's value is its class, 255 where
    the model saw nothing (`data.fit=crop`). Overlays have 1024 pixels of a side at most. Files
    that cannot be read are named on standard error.

    Args:
        model: a run's checkpoint, or the bundle of an exported variant.
        found: picture files and others; what earlier calls have written, and masks
            beside their pictures, are left out.
        settings: where to, in the place of what an earlier call has written; without `out` the
            rows alone are written, to standard output.

    Returns:
        A sentence on what was done.

    Raises:
        ConfigError: nothing can be read, the place is taken or cannot be written, the model is
            damaged, or something is asked for that classes of pixels do not have.
    """
    _refuse_what_labels_have(settings)
    place = None if settings.out is None else _place(settings.out)
    to_label = None
    if settings.label_next is not None:
        if place is None:
            raise ConfigError(
                "label_next: its table is written beside the masks: set out=FOLDER too."
            )
        to_label = MasksNext(place, settings.label_next)
    inside = "" if place is None else f"{place}{os.sep}"
    found, left_out = without_answers(found, settings.images)
    if inside:  # a call that was killed has left masks and no table
        outside = [x for x in found.pictures if not os.path.abspath(x).startswith(inside)]
        found = replace(found, pictures=outside)
    found, masks = without_masks(found, settings.images, by_kind=True)
    pictures = found.pictures
    with doing("loading the model"):
        predictor, _ = open_model(model, settings)
    for problem in found.left_out:
        print(f"skipped {problem}", file=sys.stderr)
    if masks:
        print(masks, file=sys.stderr)
    earlier = _listed(place)
    with (
        written_to("out", place or Path("-")),
        kept_answers(place and place / UNFINISHED, model, pictures, settings) as kept,
    ):
        answers = _masked(predictor, pictures, place, kept, windows=settings.windows)
        with _table(place) as stream:
            try:
                written = _write_rows(stream, place, predictor.class_names, answers, to_label)
            except DamagedModel as error:
                raise ConfigError(f"run: {error}.") from error
            if not written:
                raise ConfigError(f"images: of {settings.images} nothing can be read.")
        for name in earlier - written:  # of pictures that are no more, or of another model
            for folder in (MASKS, OVERLAYS):
                Path(inside, folder, name).unlink(missing_ok=True)
        to_draw = [] if to_label is None else [to_label.write(picture_shown)]
    count = len(written)
    skipped = len(pictures) - count + len(found.left_out)
    where = "" if place is None else f", written to {place} ({MASKS}, {OVERLAYS}, {SHARES})"
    return "\n".join([f"{counted(count, 'mask')}{where}, {skipped:,} skipped{left_out}", *to_draw])


def _refuse_what_labels_have(settings: PredictSettings) -> None:
    """Raise a ConfigError for options that classes of pixels do not have."""
    for key, given in (
        ("explain", settings.explain),
        ("coverage", settings.coverage is not None),
        ("max_error", settings.max_error is not None),
        ("top_k", settings.top_k is not None),
    ):
        if given:
            raise ConfigError(
                f"{key} is about whole pictures, and {settings.run} has a class for every pixel: "
                f"leave {key} out."
            )


class _Masked(NamedTuple):
    """A picture whose mask is written.

    Attributes:
        path: of the picture.
        name: of the mask, in the folder of all masks.
        uncertainty: as of `PredictedMask`.
        shares: of the classes in the pixels.
    """

    path: str
    name: str
    uncertainty: float
    shares: tuple[float, ...]


def _masked(
    predictor: Predictor,
    pictures: Sequence[str],
    place: Path | None,
    kept: KeptAnswers,
    *,
    windows: bool,
) -> Iterator[_Masked | Problem]:
    """Write the mask of each picture where there is a place; yield what the table says of it."""
    windows = windows and not predictor.formats[0].windowed  # which goes so anyway
    predict, classes = windowed_masks if windows else predicted_masks, len(predictor.class_names)

    def answered(named: Sequence[tuple[str, str]]) -> Iterator[_Masked | Problem]:
        answers = zip(named, predict(predictor, (Path(file) for file, _ in named)), strict=True)
        for (file, name), answer in with_progress(answers, len(named), "pictures answered"):
            if isinstance(answer, Problem):
                yield answer
                continue
            if place is not None:
                _write(place, name, file, answer.classes)
            shares = class_shares(answer.classes, classes)
            yield _Masked(file, name, answer.uncertainty, tuple(shares.tolist()))

    named = [*zip(pictures, _names(pictures), strict=True)]
    return kept.continued(named, answered, plain=_plain, read=_read)


def _plain(answer: _Masked | Problem) -> dict[str, Any]:
    return asdict(answer) if isinstance(answer, Problem) else answer._asdict()


def _read(plain: dict[str, Any]) -> _Masked | Problem:
    return Problem(**plain) if "reason" in plain else _Masked(**plain)


def _write_rows(
    stream: TextIO,
    place: Path | None,
    classes: Sequence[str],
    answers: Iterable[_Masked | Problem],
    to_label: MasksNext | None,
) -> set[str]:
    """Write the table, and return the names of the masks."""
    rows, written = csv.writer(stream), set[str]()
    rows.writerow([*_COLUMNS, *map(csv_cell, class_columns(classes, _COLUMNS))])
    for answer in answers:
        if isinstance(answer, Problem):
            print(f"skipped {answer}", file=sys.stderr)
            continue
        mask = "" if place is None else f"{MASKS}/{answer.name}"
        if to_label is not None:
            to_label.add(answer.path, answer.uncertainty, mask)
        written.add(answer.name)
        shares = (f"{share:.6f}" for share in answer.shares)
        rows.writerow([csv_cell(answer.path), csv_cell(mask), *shares])
    return written


def windowed_masks(
    predictor: Predictor, files: Iterable[Path]
) -> Iterator[PredictedMask | Problem]:
    """Yield the mask of each file in order, or a `Problem` for one that cannot be read.

    Every picture is taken at its own size, by overlapping windows of the size of the training; a
    smaller one is filled up with grey, as a model that is trained on windows has it.

    Raises:
        DamagedModel: as `Predictor.probabilities`.
    """
    form = replace(predictor.formats[0], fit="windows", scale=1.0)
    for file in files:
        try:
            height, width = shown_size(file)
            picture = decode_picture(file, form)[None]
        except PictureError as error:
            yield Problem(str(file), str(error))
            continue
        probs = mean_over_windows(predictor.probabilities, picture, form.image_size)
        own = probs[0, :, :height, :width]
        classes = own.argmax(axis=0).astype(np.uint8)
        yield PredictedMask(str(file), classes, mask_uncertainty(predictor.kind, own))


def _place(out: str) -> Path:
    """Return the folder to write to: a new or empty one, or that of an earlier call."""
    place = Path(out).absolute()
    if place.suffix.lower() == ".csv" or (place.exists() and not place.is_dir()):
        raise ConfigError(f"out is {out!r}: masks are written to a folder, so name a new one.")
    if place.is_dir() and {file.name for file in place.iterdir()} - {
        SHARES,
        MASKS,
        OVERLAYS,
        UNFINISHED,
    }:
        raise ConfigError(f"out: the folder {out} holds other files: name a new one.")
    return place


def _listed(place: Path | None) -> set[str]:
    """Return the names of the masks in the table of an earlier call."""
    try:
        with Path(place or os.devnull, SHARES).open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        if tuple(header[: len(_COLUMNS)]) != _COLUMNS:
            return set()
    except (OSError, ValueError, csv.Error):
        return set()
    cells = [from_csv_cell(row[1]) for row in rows if len(row) > 1]
    paths = [PurePath(cell) for cell in cells if cell.endswith(".png")]
    return {
        path.relative_to(MASKS).as_posix()
        for path in paths
        if path.parts[0] == MASKS and ".." not in path.parts
    }


@contextmanager
def _table(place: Path | None) -> Iterator[TextIO]:
    """Yield the stream of the table, whose file is in its place when the block has ended."""
    if place is None:
        yield sys.stdout
        return
    place.mkdir(parents=True, exist_ok=True)
    with replacing(place / SHARES) as new, new.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def _names(files: Sequence[str]) -> list[str]:
    """Return a name for the mask of each file: its path below what all have in common.

    The ending of the file stays in it where masks would otherwise have one name.
    """
    parents = [os.path.dirname(os.path.abspath(file)) for file in files]
    common = os.path.commonpath(parents) if parents else ""
    paths = [os.path.relpath(os.path.abspath(file), common) for file in files]
    stems = [os.path.splitext(path)[0] for path in paths]
    times = Counter([*stems, *paths])
    return [
        PurePath(f"{path if times[stem] > 1 else stem}.png").as_posix()
        for path, stem in zip(paths, stems, strict=True)
    ]


def _write(place: Path, name: str, file: str, classes: UInt8Array) -> None:
    for folder in (MASKS, OVERLAYS):
        (place / folder / name).parent.mkdir(parents=True, exist_ok=True)
    (place / MASKS / name).write_bytes(mask_png(classes))
    try:
        picture = thumbnail(file, _LONGEST_SIDE)
    except (OSError, PictureError):  # gone meanwhile: the mask is there
        return
    _overlay(picture, classes).save(place / OVERLAYS / name)


def _overlay(picture: UInt8Array, classes: UInt8Array) -> Image.Image:
    """Return the picture (3, H, W) with the colours of all classes but the first."""
    size = picture.shape[2], picture.shape[1]
    sized = np.asarray(Image.fromarray(classes).resize(size, Image.Resampling.NEAREST))
    pixels = picture.transpose(1, 2, 0).astype(np.float32)
    mixed = (1 - _OPACITY) * pixels + _OPACITY * colours(256)[sized]
    painted = np.where(((sized > 0) & (sized < LEFT_OUT))[:, :, None], mixed, pixels)
    return Image.fromarray(painted.astype(np.uint8))
