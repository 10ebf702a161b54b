"""Labels for picture files: a CSV table of all, and contact sheets of some."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from ...config.checks import ConfigError, input_of, not_written
from ...config.console import OutputLost, direct, give_up, written_to
from ...config.finished import PredictSettings
from ...data.decoding.decode import thumbnail
from ...data.decoding.picture_files import PICTURE_ENDINGS, PictureError
from ...data.sources.picture_paths import FoundPictures, without_masks
from ...data.sources.source import Problem
from ...data.sources.written_answers import EXPLAINED, is_table_of_answers, without_answers
from ...machine.arrays import UInt8Array
from ...machine.disk import named_file, refusal
from ...machine.memory import memory_kept
from ...machine.status import doing, with_progress
from ...machine.text import counted, csv_cell
from ...records.pictures import ClassMaps, Guess, GuessSample
from ...serving.bundle import open_predictor
from ...serving.bundle_files import DIGEST
from ...serving.file_pages import Page, page_of
from ...serving.predictor import DamagedModel, Labelled, Predictor
from ...serving.trust import Trust
from ...storage.cache import key_of
from ...storage.files import replacing
from ...targets.labels import class_columns, labels_text
from .kept_answers import UNFINISHED, KeptAnswers, kept_answers, labelled_of
from .label_next import LabelNext
from .refusals import refuse_explaining
from .trust_in_labels import Tally, trust_in

__all__ = ["label_pictures", "open_model", "picture_shown", "predictor_of"]

# Classes of each picture, unless another number is asked for.
_CLASSES_NAMED = 5


@memory_kept()
def label_pictures(model: Path, found: FoundPictures, settings: PredictSettings) -> str:
    """Write a CSV row for every readable picture, in order, and contact sheets of some.

    Files without a row are named on standard error. Memory does not grow with the number of
    pictures, but for 8 bytes each that a calibrated model judges. An earlier CSV file is replaced
    only when the new one is complete.

    Args:
        model: a run's checkpoint, or the bundle of an exported variant.
        found: picture files and others; what earlier calls have written, and masks
            beside their pictures, are left out.
        settings: what to write, and where to.

    Returns:
        A sentence on what was done, and a line on each thing that was judged.

    Raises:
        ConfigError: nothing can be read or explained, a place to write to is taken or cannot be
            written, the model is damaged, or cannot do what is asked for.
    """
    if settings.windows:
        raise ConfigError(
            f"windows is about a class for every pixel, and {settings.run} labels whole pictures: "
            "leave windows=true out."
        )
    if settings.explain:
        refuse_explaining(settings.run, model)
    tally = Tally(trust_in(model, settings))
    _keep_pictures(settings.out, found)
    sheets = _Sheets.beside(settings.out, explain=settings.explain)
    to_label = _label_next(sheets.table, settings.label_next)
    found, left_out = without_answers(found, settings.images)
    found, masks = without_masks(found, settings.images)

    with kept_answers(sheets.kept, model, found.pictures, settings) as kept:
        with _output(settings.out) as stream:
            with doing("loading the model"):
                predictor, maps = open_model(model, settings)
            for problem in found.left_out:
                print(f"skipped {problem}", file=sys.stderr)
            if masks:
                print(masks, file=sys.stderr)
            files = map(Path, found.pictures)
            pages = [page for file in files for page in predictor.pages_in(file)]
            answers = _answers(predictor, pages, settings.top_k, tally.trust, kept)
            sample = _write_rows(predictor, answers, settings.top_k, stream, tally, to_label)
            if sample.count == 0:
                raise ConfigError(f"images: of {settings.images} nothing can be read.")
        if sheets.labels is not None:
            with written_to("out", sheets.labels):
                _draw(sample, sheets, predictor, maps)
        labelled = f"{counted(sample.count, 'picture')} labelled{sheets.described(settings.out)}"
        skipped = len(pages) - sample.count + len(found.left_out)
        hidden = f"; {found.hidden:,} hidden ones were not looked at" if found.hidden else ""
        lines = [f"{labelled}, {skipped:,} skipped{hidden}{left_out}", *tally.sentences()]
        if to_label is not None:
            lines.append(to_label.write(picture_shown, sets=predictor.kind.sets))
    return "\n".join(lines)


@dataclass(frozen=True)
class _Sheets:
    """Paths of the contact sheets, beside the CSV file; only earlier sheets are overwritten."""

    table: Path | None = None
    labels: Path | None = None
    explained: Path | None = None

    @classmethod
    def beside(cls, out: str | None, *, explain: bool) -> _Sheets:
        if out is None or _is_special(out):
            if explain:
                raise ConfigError(
                    "explain: its pictures are written beside a CSV file: set out=FILE.csv too."
                )
            return cls()
        table = Path(out).absolute()
        if not table.suffix and not table.exists():  # a folder may have been meant
            raise ConfigError(
                f"out: {out} has no ending, and a CSV file is written: out={out}.csv."
            )
        explained = table.with_name(f"{table.stem}{EXPLAINED}.png") if explain else None
        sheets = cls(table, table.with_suffix(".png"), explained)
        for sheet in (sheets.labels, sheets.explained):
            if sheet is not None and os.path.lexists(sheet) and not is_table_of_answers(table):
                raise ConfigError(
                    f"out: {sheet}, where a contact sheet goes, is there already: name another CSV "
                    "file."
                )
        return sheets

    @property
    def kept(self) -> Path | None:
        """The folder of answers that a call keeps until the table is there."""
        if self.table is None:
            return None
        # Not by the name itself, which may be as long as a name can be.
        return self.table.with_name(f".{key_of(self.table.name)}{UNFINISHED}")

    def described(self, out: str | None) -> str:
        """Return where the table and the sheets are, to be read after what is in them."""
        if self.labels is None:
            return ""
        beside = Path(out or "").with_name
        where = f", written to {out} and shown in {beside(self.labels.name)}"
        if self.explained is None:
            return where
        return f"{where}, what the network looked at in {beside(self.explained.name)}"


def _label_next(table: Path | None, count: int | None) -> LabelNext | None:
    if count is None:
        return None
    if table is None:
        raise ConfigError(
            "label_next: its files are written beside a CSV file: set out=FILE.csv too."
        )
    return LabelNext(table, count)


def _keep_pictures(out: str | None, found: FoundPictures) -> None:
    """Refuse to write the table over a picture."""
    place = os.path.realpath(out or "")
    taken = os.path.splitext(place)[1].lower() in PICTURE_ENDINGS
    if out is not None and (taken or place in map(os.path.realpath, found.pictures)):
        raise ConfigError(f"out: {out} is a picture by its name or content: name a CSV file.")


def _is_special(out: str) -> bool:
    """Return whether `out` is a terminal, a pipe or a device, which is written to directly."""
    return os.path.exists(out) and not os.path.isfile(out) and not os.path.isdir(out)


@contextmanager
def _output(out: str | None) -> Iterator[TextIO]:
    """Yield a stream for the rows; a file is put in its place when the block has ended."""
    if out is None:
        with _standard_output() as stream:
            yield stream
        return
    if os.path.isdir(out):
        raise ConfigError(f"out: {out} is a folder: name a CSV file.")
    # A link stays one: what it leads to is replaced.
    target = Path(os.path.realpath(out))
    special = _is_special(out)
    try:
        place = nullcontext(target) if special else replacing(target)
        with (
            named_file(target),
            place as path,
            path.open("w", encoding="utf-8", newline="") as stream,
        ):
            yield stream
    except OSError as error:
        if error.filename is not None:  # else it is a write that failed
            named = Path(error.filename)
            if named.parent != target.parent and not target.is_relative_to(named):
                raise
        if special:
            raise ConfigError(f"out: {out} cannot be written: {error.strerror}.") from error
        reason = refusal(error) or error.strerror
        raise not_written(error, f"out: {out} cannot be written: {reason}.") from error


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Yield standard output: in the terminal's encoding, or as UTF-8 for a program."""
    stream = direct(sys.stdout)
    if stream.isatty() or not isinstance(stream, TextIOWrapper):
        yield sys.stdout
        return
    encoding, errors = stream.encoding, stream.errors
    stream.reconfigure(encoding="utf-8", errors="strict", newline="")
    try:
        yield cast(TextIO, stream)
        stream.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        give_up(cast(TextIO, stream))
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputLost(error) from error
    finally:
        stream.reconfigure(encoding=encoding, errors=errors, newline=None)


def open_model(model: Path, settings: PredictSettings) -> tuple[Predictor, ClassMaps | None]:
    """Open the predictor of a model, and its class maps where `explain` is set.

    Args:
        model: a run's checkpoint, or the bundle of an exported variant.
        settings: of the call.

    Raises:
        ConfigError: the model is damaged, or has no maps.
    """
    if model.is_dir():
        with input_of("variant"):
            return open_predictor(model, batch_size=settings.batch_size), None
    if not settings.explain:
        return predictor_of(model, settings.batch_size, settings.changed), None
    from ..candidates.choose import load_trained

    trained = load_trained(model)
    maps = trained.class_maps()
    if maps is None:
        name = trained.metadata["settings"]["model"]["name"]
        why = f"in {name} no value belongs to a place of the picture"
        if trained.metadata.get("link") == "corn":
            why = f"with loss=corn {name} answers whether a class is above another, and none alone"
        raise ConfigError(f"explain: {why}, so there is nothing to show: leave explain=true out.")
    return trained.predictor(settings.batch_size), maps


def predictor_of(checkpoint: Path, batch_size: int, changed: str = "refuse") -> Predictor:
    """Return the predictor of a run: of its bundle, which is served too, where it has one.

    A checkpoint belongs to a training, so that Lightning is imported to read it, which takes longer
    than all that answering needs.

    Args:
        checkpoint: the one that the run chose.
        batch_size: pictures at once.
        changed: "use" reads the checkpoint, for that may be what was changed on purpose.

    Raises:
        ConfigError: the model is damaged, or holds code.
    """
    bundle = checkpoint.parents[1] / "model"
    if changed != "use" and (bundle / DIGEST).is_file():
        with input_of("run"):
            return open_predictor(bundle, batch_size=batch_size)
    from ..candidates.choose import load_trained

    return load_trained(checkpoint).predictor(batch_size)


def _answers(
    predictor: Predictor,
    pages: Sequence[Path | Page],
    top_k: int | None,
    trust: Trust | None,
    kept: KeptAnswers,
) -> Iterator[Labelled | Problem]:
    """Yield the answer to each picture, or why there is none, with as many classes as are used."""
    # Of those to label, the second class is named however many are asked for.
    count = max(top_k or _CLASSES_NAMED, 2)

    def answered(rest: Sequence[Path | Page]) -> Iterator[Labelled | Problem]:
        # Answers come in batches, so that the time of a single picture is not known.
        taken = with_progress(rest, len(rest), "pictures labelled")
        return predictor.label(taken, count, trust)

    return kept.continued(pages, answered, plain=asdict, read=labelled_of)


def _write_rows(
    predictor: Predictor,
    answers: Iterable[Labelled | Problem],
    top_k: int | None,
    stream: TextIO,
    tally: Tally,
    to_label: LabelNext | None,
) -> GuessSample:
    """Write a row for each picture that can be read, and name the others on standard error."""
    sets, classes = predictor.kind.sets, predictor.class_names
    sample, rows = GuessSample(classes), csv.writer(stream)
    count = min(top_k or _CLASSES_NAMED, len(classes))
    header = _columns_of_sets(classes, top_k, tally) if sets else _columns(count)
    rows.writerow([*header, *tally.columns])
    try:
        for item in answers:
            if not isinstance(item, Labelled):
                print(f"skipped {item}", file=sys.stderr)
                continue
            cells = _cells_of_set(predictor, item, top_k) if sets else _cells(item, count)
            rows.writerow([csv_cell(item.path), *cells, *tally.add(item)])
            if to_label is not None:
                to_label.add(item)
            if sets:
                shown, sure = labels_text(item.labels) or "none", item.confidence
            else:
                shown, sure = item.labels[0], item.probabilities[0]
            sample.add(Guess(sure, item.path, shown))
    except DamagedModel as error:
        raise ConfigError(f"run: {error}.") from error
    return sample


def _columns(count: int) -> list[str]:
    further = [f"{column}_{k}" for k in range(2, count + 1) for column in ("label", "probability")]
    return ["path", "label", "probability", *further]


def _cells(item: Labelled, count: int) -> list[str]:
    pairs = zip(item.labels[:count], item.probabilities[:count], strict=True)
    return [x for name, p in pairs for x in (csv_cell(name), f"{p:.6f}")]


def _columns_of_sets(classes: Sequence[str], top_k: int | None, tally: Tally) -> list[str]:
    """Return a column for the labels, with `top_k` one for the most probable, and one for each.

    A label that is called like another column has the column `class NAME`.
    """
    first = ["path", "labels", *([] if top_k is None else ["most_probable"])]
    return [*first, *map(csv_cell, class_columns(classes, [*first, *tally.columns]))]


def _cells_of_set(predictor: Predictor, item: Labelled, top_k: int | None) -> list[str]:
    """Return the cells; among the most probable labels are those below their thresholds."""
    likely = [] if top_k is None else predictor.most_probable(np.array([item.every]), top_k)
    named = [csv_cell(labels_text(one)) for one in (item.labels, *likely)]
    return [*named, *(f"{p:.6f}" for p in item.every)]


def picture_shown(path: str) -> UInt8Array:
    """Return a thumbnail, (3, H, W) uint8; grey if the file has gone or changed meanwhile."""
    try:
        picture = page_of(path)
        if isinstance(picture, Page):
            return thumbnail(picture.file, page=picture.number)
        return thumbnail(picture)
    except (OSError, PictureError):
        return np.full((3, 90, 90), 200, np.uint8)


def _draw(
    sample: GuessSample, sheets: _Sheets, predictor: Predictor, maps: ClassMaps | None
) -> None:
    """Draw the contact sheets: labels, and maps for the two most probable classes of a few."""
    from ...reporting.contact_sheets import label_sheet, likeliest, rivals_sheet
    from ...reporting.style import save

    if sheets.labels is not None:
        save(label_sheet(sample, picture_shown), sheets.labels)
    if maps is None or sheets.explained is None:
        return
    guesses = sample.few()
    pixels = np.stack([predictor.pixels(page_of(guess.path)) for guess in guesses])
    probs = predictor.probabilities(pixels)
    shown = [picture_shown(guess.path) for guess in guesses]
    heats = maps.of(pixels, likeliest(probs))
    names = [guess.path for guess in guesses]
    sheet = rivals_sheet(
        shown, heats, probs, class_names=predictor.class_names, names=names, title=maps.title
    )
    save(sheet, sheets.explained)
