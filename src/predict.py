"""Label pictures with a trained run.

python -m src.predict run=ID images=FOLDER out=labels.csv
python -m src.predict run=ID "images=/pictures/**/*.jpg"
python -m src.predict run=champion images=FOLDER out=labels.csv coverage=0.9 max_error=0.02
python -m src.predict run=ID images=FOLDER out=MASKS      # of a run with data.target=dense
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.predict in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.checks import input_of
from .config.command_line import run_command
from .config.finished import PredictSettings
from .machine.ending import leave
from .runs.folder import RunFolder, refuse_unfinished
from .runs.seal import RECORD, refuse_changed


def predict(settings: PredictSettings, overrides: Sequence[str]) -> None:
    """Label the pictures, and say on standard error where the answers are."""
    with input_of("run"):
        folder = RunFolder.find(settings.run, Path(settings.output_dir))
        model = folder.model_file(settings.variant)
        refuse_unfinished(folder)
        asked = model.relative_to(folder.path).as_posix()
        read = (*RECORD, "exports/export.json", f"{asked}/*", "model/*")
        refuse_changed(folder.path, settings.changed, read)

    from .data.sources.picture_paths import find_pictures
    from .runs.finished.predict import label_pictures
    from .runs.finished.predict_masks import predicts_pixels, write_masks
    from .storage.locks import only_writer

    with input_of("images"):
        found = find_pictures(settings.images)
    answer = write_masks if predicts_pixels(folder) else label_pictures
    with nullcontext() if settings.out is None else only_writer(Path(settings.out), "out"):
        print(answer(model, found, settings), file=sys.stderr)


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, PredictSettings, predict)


if __name__ == "__main__":
    leave(main())
