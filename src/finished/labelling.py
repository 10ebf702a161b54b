"""Labels for picture files: a table of all, and pictures of those worth a look."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from src.config.after import PredictSettings
from src.config.checks import ConfigError
from src.data.thumbnails import thumbnail
from src.disk import named_file, refusal
from src.reporting.class_maps import ClassMaps
from src.reporting.guesses import Guess, GuessSample
from src.serving.predictor import Labelled, Predictor

__all__ = ["label_pictures"]


def label_pictures(model: Path, found: Iterable[str], settings: PredictSettings) -> str:
    """Write a CSV row for every readable picture, in order, and sheets of those worth a look.

    What cannot be read is named on standard error. Memory does not grow with the number of
    pictures.

    Args:
        model: a run's checkpoint, or the bundle of an exported variant.
        found: paths of picture files; sheets that lie among them are left out.
        settings: what to write, and where to.

    Returns:
        what was done, in a sentence.

    Raises:
        ConfigError: nothing can be read or explained, or a place to write to is taken.
    """
    sheets = _Sheets.beside(settings.out, explain=settings.explain)
    files = [Path(file) for file in found if not sheets.has(Path(file))]

    predictor, maps = _opened(model, settings)
    naming = nullcontext() if settings.out is None else named_file(settings.out)
    with naming, _output(settings.out) as stream:
        sample = _write_rows(predictor, files, settings.top_k, stream)
    if sample.count == 0:
        raise ConfigError(f"images: of {settings.images} nothing can be read.")
    where = ""
    if sheets.labels is not None:
        from src.reporting.canvas import save
        from src.reporting.label_sheet import label_sheet

        save(label_sheet(sample, thumbnail), sheets.labels)
        where = f", written to {settings.out} and shown in {sheets.labels.name}"
    if maps is not None and sheets.explained is not None:
        _explain(sample.few(), predictor, maps, sheets.explained)
        where += f", what the network looked at in {sheets.explained.name}"
    pictures = "picture" if sample.count == 1 else "pictures"
    return f"{sample.count:,} {pictures} labelled{where}, {len(files) - sample.count} skipped"


@dataclass(frozen=True)
class _Sheets:
    """Where pictures of pictures go: beside the CSV file, and over nothing but earlier ones."""

    labels: Path | None = None
    explained: Path | None = None

    @classmethod
    def beside(cls, out: str | None, *, explain: bool) -> _Sheets:
        if out is None or (Path(out).exists() and not Path(out).is_file()):  # a terminal, a pipe
            if explain:
                raise ConfigError(
                    "explain: its pictures are written beside a CSV file: say out=FILE.csv too."
                )
            return cls()
        table = Path(out).absolute()
        sheets = cls(
            table.with_suffix(".png"),
            table.with_name(f"{table.stem}_explained.png") if explain else None,
        )
        for sheet in (sheets.labels, sheets.explained):
            if sheet is not None and sheet.exists() and not table.exists():
                raise ConfigError(f"out: {sheet}, where a contact sheet goes, is there already.")
        return sheets

    def has(self, file: Path) -> bool:
        return file.absolute() in (self.labels, self.explained)


def _output(out: str | None) -> nullcontext[TextIO] | TextIO:
    if out is None:
        return nullcontext(sys.stdout)
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        return open(out, "w", encoding="utf-8", newline="")
    except OSError as error:
        reason = refusal(error) or error.strerror
        raise ConfigError(f"out: {out} cannot be written: {reason}.") from error


def _opened(model: Path, settings: PredictSettings) -> tuple[Predictor, ClassMaps | None]:
    """What labels, and what explains it where that is asked for."""
    # torch: after all that may be refused at once
    from src.candidates.choose import load_trained
    from src.serving.bundle import open_predictor

    if model.is_dir():
        if settings.explain:
            raise ConfigError(
                "explain: an exported variant keeps no maps to look into: leave variant out."
            )
        try:
            return open_predictor(model, batch_size=settings.batch_size), None
        except ValueError as error:
            raise ConfigError(f"variant: {error}.") from error
    trained = load_trained(model)
    maps = trained.class_maps() if settings.explain else None
    if settings.explain and maps is None:
        raise ConfigError(
            f"explain: in {trained.passport['settings']['model']['name']} no value belongs to a "
            "place of the picture, so there is nothing to show: leave explain=true out."
        )
    return trained.predictor(settings.batch_size), maps


def _write_rows(
    predictor: Predictor, files: Iterable[Path], top_k: int, stream: TextIO
) -> GuessSample:
    sample = GuessSample(predictor.class_names)
    top_k = min(top_k, len(predictor.class_names))
    rows = csv.writer(stream)
    further = [f"{word}_{k}" for k in range(2, top_k + 1) for word in ("label", "probability")]
    rows.writerow(["path", "label", "probability", *further])
    for item in predictor.label(files, top_k):
        if isinstance(item, Labelled):
            pairs = zip(item.labels, item.probabilities, strict=True)
            rows.writerow([item.path, *(x for name, p in pairs for x in (name, f"{p:.6f}"))])
            sample.add(Guess(item.probabilities[0], item.path, item.labels[0]))
        else:
            print(f"skipped {item}", file=sys.stderr)
    return sample


def _explain(guesses: Sequence[Guess], predictor: Predictor, maps: ClassMaps, sheet: Path) -> None:
    """Draw where a few pictures speak for their label, and where for the class after it."""
    from src.reporting.canvas import save
    from src.reporting.map_sheet import likeliest, rivals_sheet

    pixels = np.stack([predictor.pixels(Path(guess.path)) for guess in guesses])
    probs = predictor.probabilities(pixels)
    shown = [thumbnail(guess.path) for guess in guesses]
    heats = maps.of(pixels, likeliest(probs))
    save(rivals_sheet(shown, heats, probs, predictor.class_names, maps.title), sheet)
