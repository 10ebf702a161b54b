"""Label pictures with a trained run.

python -m src.predict run=ID images=FOLDER out=labels.csv
python -m src.predict run=ID "images=/pictures/**/*.jpg"
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TextIO

from src.config.after import PredictSettings
from src.config.checks import ConfigError
from src.config.command_line import run_entry
from src.config.compose import compose_settings
from src.data.listing import find_pictures
from src.data.thumbnails import thumbnail
from src.run_folder import RunFolder


def predict(settings: PredictSettings, words: Sequence[str]) -> None:
    """Write a CSV row for every readable picture, and a sheet of those worth a look.

    What cannot be read is named on standard error.
    """
    try:
        folder = RunFolder.find(settings.run, Path(settings.output_dir))
        checkpoint = folder.chosen_checkpoint()
    except ValueError as error:
        raise ConfigError(f"run: {error}.") from error
    try:
        found = find_pictures(settings.images)
    except ValueError as error:
        raise ConfigError(f"images: {error}.") from error
    sheet = _sheet(settings.out)
    files = [file for file in found if Path(file).absolute() != sheet]

    from src.revisit import label_files

    with _output(settings.out) as stream:
        sample = label_files(checkpoint, map(Path, files), settings, stream)
    if sample.count == 0:
        raise ConfigError(f"images: of {settings.images} nothing can be read.")
    where = ""
    if sheet is not None:
        from src.reporting.canvas import save
        from src.reporting.label_sheet import label_sheet

        save(label_sheet(sample, thumbnail), sheet)
        where = f", written to {settings.out} and shown in {sheet.name}"
    skipped = len(files) - sample.count
    print(f"{sample.count} pictures labelled{where}, {skipped} skipped", file=sys.stderr)


def _sheet(out: str | None) -> Path | None:
    """Where the contact sheet goes: beside the CSV file, and over nothing but an earlier sheet."""
    if out is None or (Path(out).exists() and not Path(out).is_file()):
        return None  # a terminal, a pipe
    sheet = Path(out).with_suffix(".png").absolute()
    if sheet.exists() and not Path(out).exists():
        raise ConfigError(f"out: {sheet}, where the contact sheet goes, is there already.")
    return sheet


def _output(out: str | None) -> nullcontext[TextIO] | TextIO:
    if out is None:
        return nullcontext(sys.stdout)
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        return open(out, "w", encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be written: {error.strerror}.") from error


def main() -> int:
    """The exit code of the command line."""
    read = partial(compose_settings, PredictSettings, config_name="predict")
    return run_entry(__doc__ or "", read, predict)


if __name__ == "__main__":
    sys.exit(main())
