"""The table of the pictures that somebody should look at."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.machine.text import csv_row
from src.metrics.confident import label_suspects
from src.records.run import Predictions, Suspect
from src.storage.files import write_atomically

__all__ = ["doubtful_labels", "write_suspects"]

_COLUMNS = ("part", "index", "path", "label", "kind", "score", "suggested_label", "like")
_LABEL = "label"


def doubtful_labels(predictions: Mapping[str, Predictions]) -> list[Suspect]:
    """The pictures whose labels the network confidently contradicts, the surest first.

    Args:
        predictions: by part; what the network said of pictures that it was not trained on.
    """
    suspects = []
    for part, said in predictions.items():
        names, found = said.class_names, label_suspects(said.probs, said.targets)
        for row, score, suggested in zip(found.indices, found.scores, found.suggested, strict=True):
            suspects.append(
                Suspect(
                    part=part,
                    index=int(said.sample_ids[row]),
                    path=None if said.paths is None else said.paths[row],
                    label=names[said.targets[row]],
                    kind=_LABEL,
                    score=float(score),
                    suggested=names[suggested],
                )
            )
    return sorted(suspects, key=lambda suspect: -suspect.score)


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write the table: a CSV file with a line for each suspect, atomically.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for s in suspects:
        place = (s.part, s.index, s.path or "", s.label)
        rows.writerow(csv_row((*place, s.kind, f"{s.score:.4f}", s.suggested, s.like)))
    write_atomically(path, text.getvalue())
