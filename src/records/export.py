"""The comparison of a run with its exported variants: the content of exports/export.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["OF_MASKS", "ExportRecord", "VariantRecord"]

# The metric of masks; of labels there are several.
OF_MASKS = "miou"


@dataclass(frozen=True)
class VariantRecord:
    """One way to compute a model.

    Attributes:
        name: the variant's, or what tells an original apart.
        size_mb: of its file, or of the original's weights, in millions of bytes.
        largest_difference: of any logit from the original's in single precision.
        equal_labels, accuracy: shares of the pictures that get the original's and their own label,
            or all labels of a set, by the thresholds that are kept with the model; of masks shares
            of the pixels that count.
        milliseconds: median time of a call, by pictures at once.
        speedup: how many times faster than the original, by pictures at once: median, lowest and
            highest of the rounds.
        figure: by the metric of the record; None where an output is no number.
    """

    name: str
    size_mb: float
    largest_difference: float
    equal_labels: float
    accuracy: float
    milliseconds: Mapping[int, float]
    speedup: Mapping[int, tuple[float, float, float]]
    figure: float | None

    def agreement(self, original: VariantRecord, *, masks: bool) -> float:
        """Return how far the answers are the original's, in [0, 1].

        That is the share of equal ones. In masks, where a rare class has a hundredth of the pixels,
        the mean IoU tells what that share hides; one that is higher by chance is another as well.
        """
        if not masks or self.figure is None or original.figure is None:
            return self.equal_labels
        return min(self.equal_labels, 1 - abs(original.figure - self.figure))


@dataclass(frozen=True)
class ExportRecord:
    """All of them.

    Attributes:
        variants: originals first, then what was made.
        metric: plain name of the metric that judges the run, of which they have figures.
        missing: why a variant that was wanted cannot be had, by its name.
        part: of the data that was compared on, "val" or "train", with so many `pictures`.
        threads: of the processor that each could use.
        least_equal: share of equal labels that a recommended variant needs; of masks its mean IoU
            may differ from the original's by the rest to one, at most.
        recommended: the fastest of them; None for the original.
        chosen: what was asked for, or what is recommended; None for the original.
    """

    variants: tuple[VariantRecord, ...]
    metric: str
    missing: Mapping[str, str]
    part: str
    pictures: int
    threads: int
    least_equal: float
    recommended: str | None
    chosen: str | None

    @property
    def of_masks(self) -> bool:
        """Whether pixels have classes, and not whole pictures."""
        return self.metric == OF_MASKS

    @classmethod
    def read(cls, file: Path) -> ExportRecord | None:
        """Return what `text` wrote; None where there is no such file, or it is of another form."""
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
            variants = plain.pop("variants")
            if "metric" not in plain:  # of earlier versions
                masks = variants[0].get("miou") is not None
                plain["metric"] = OF_MASKS if masks else "accuracy"
                for one in variants:
                    miou = one.pop("miou", None)
                    one["figure"] = miou if masks else one["accuracy"]
            return cls(variants=tuple(map(_variant, variants)), **plain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def text(self) -> str:
        """As JSON; an infinite difference, of a variant that overflows, becomes null."""
        plain = asdict(self)
        for variant in plain["variants"]:
            if variant["largest_difference"] == float("inf"):
                variant["largest_difference"] = None
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _variant(plain: Mapping[str, Any]) -> VariantRecord:
    """Return a variant out of JSON, whose keys are text and which knows no infinity."""
    largest = plain["largest_difference"]
    changed = {
        "largest_difference": float("inf") if largest is None else largest,
        "milliseconds": {int(size): time for size, time in plain["milliseconds"].items()},
        "speedup": {int(size): tuple(ratios) for size, ratios in plain["speedup"].items()},
    }
    return VariantRecord(**{**plain, **changed})
