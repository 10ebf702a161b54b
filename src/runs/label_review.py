"""The labels of a run's pictures, as a page to look at and a table to correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..config.overrides import override_of
from ..data.loading.picture_data import PictureData
from ..data.quality.suspects import ODD_LABEL
from ..data.splitting.splits import PARTS
from ..machine.package import command
from ..records.pictures import LabelRow, Suspect, write_labels
from ..records.run import Predictions
from ..reporting.label_page import label_page, review_sentences
from ..statistics.label_errors import review_labels
from ..storage.files import write_atomically
from .folder import LABELS, PAGE

__all__ = ["write_label_review"]


def write_label_review(
    folder: Path,
    data: PictureData,
    parts: Mapping[str, Predictions],
    doubtful: Sequence[Suspect],
) -> list[Path]:
    """Write the page of contradicted labels, and for pictures that are files the table.

    Args:
        folder: of the run.
        data: its pictures.
        parts: predictions of held-out pictures, by part.
        doubtful: pictures whose labels the model contradicts, by score.

    Returns:
        The files; none where no label is doubtful, nor odd among nearly equal pictures.

    Raises:
        OSError: a file cannot be written.
    """
    odd: tuple[Suspect, ...] = ()
    if parts and data.pictures.targets.ndim == 1:  # else a label is a set
        odd = tuple(one for one in data.suspects if one.kind == ODD_LABEL)
    if not doubtful and not odd:
        return []
    written = []
    review = replace(review_labels(parts, doubtful), odd=odd)
    rows = _rows(data, review.listed)
    if rows:
        written.append(folder / LABELS)
        write_labels(written[-1], rows)
    train = _command(data, written[0]) if written else None
    table = None if train is None else (str(written[0]), train)
    written.append(folder / PAGE)
    write_atomically(written[-1], label_page(review, data.pictures.read, table))
    print(f"labels: {' '.join(review_sentences(review))} See {written[-1]}")
    return written


def _command(data: PictureData, table: Path) -> str:
    """Return the command that trains with the table."""
    overrides, pictures = [f"data={table}"], data.pictures
    if pictures.kind == "ordinal":  # which classes of a table are by what is said of them alone
        order = override_of("data.order", list(pictures.class_names))
        overrides += ["data.target=ordinal", order]
    return command("train", *overrides)


def _rows(data: PictureData, doubtful: Sequence[Suspect]) -> list[LabelRow]:
    """Return a row for each file of a picture that is in a part; none where these are no files.

    The pages of a file, or the frames of a video, have one label.
    """
    pictures, source = data.pictures, data.pictures.source
    if source is None or pictures.sample_paths is None or source.spans is not None:
        return []
    found = {suspect.index: suspect for suspect in doubtful}
    rows: dict[str, LabelRow] = {}
    # A run that learnt from fewer has left out pictures that another one learns from.
    parts = data.split.whole.parts
    for index, (code, target) in enumerate(zip(parts.tolist(), pictures.targets)):
        if PARTS[code] == "dropped":
            continue
        suspect, path = found.get(index), source.file(index)
        row = LabelRow(
            path=path,
            label=pictures.class_names[target],
            split=PARTS[code],
            group="" if pictures.groups is None else pictures.groups[index],
            suggested="" if suspect is None else suspect.suggested,
            score=0.0 if suspect is None else suspect.score,
            odd=suspect is not None and suspect.kind == ODD_LABEL,
        )
        rows[path] = max(rows.get(path, row), row, key=lambda one: (one.odd, one.score))
    return list(rows.values())
