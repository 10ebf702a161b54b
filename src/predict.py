"""Label pictures with a trained run.

python -m src.predict run=ID images=FOLDER out=labels.csv
"""

from __future__ import annotations

import csv
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
from src.run_folder import RunFolder


def predict(settings: PredictSettings, words: Sequence[str]) -> None:
    """Write a CSV row for every readable picture; name the others on standard error."""
    try:
        folder = RunFolder.find(settings.run, Path(settings.output_dir))
        checkpoint = folder.chosen_checkpoint()
    except ValueError as error:
        raise ConfigError(f"run: {error}.") from error
    try:
        files = find_pictures(Path(settings.images))
    except ValueError as error:
        raise ConfigError(f"images: {error}.") from error

    import torch

    from src.build import load_task
    from src.serving.predictor import Labelled, Predictor

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictor = Predictor(load_task(checkpoint), device, batch_size=settings.batch_size)
    labelled = skipped = 0
    with _output(settings.out) as stream:
        rows = csv.writer(stream)
        top_k = min(settings.top_k, len(predictor.class_names))
        further = [f"{word}_{k}" for k in range(2, top_k + 1) for word in ("label", "probability")]
        rows.writerow(["path", "label", "probability", *further])
        for item in predictor.label(files, top_k):
            if isinstance(item, Labelled):
                pairs = zip(item.labels, item.probabilities, strict=True)
                rows.writerow([item.path, *(x for name, p in pairs for x in (name, f"{p:.6f}"))])
                labelled += 1
            else:
                print(f"skipped {item}", file=sys.stderr)
                skipped += 1
    where = "" if settings.out is None else f", written to {settings.out}"
    print(f"{labelled} pictures labelled{where}, {skipped} skipped", file=sys.stderr)


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
