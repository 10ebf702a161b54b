"""Sentences on how far answers can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..machine.text import percent
from ..records.certainty import Certainty

__all__ = ["CardCertainty", "Judgement", "card_lines", "judgement_lines"]

# Below, a folder is said not to look like the training pictures.
_CLEAR_P_VALUE = 0.01
_PARTS = {
    "test": "pictures of the test part",
    "out-of-fold": "pictures that folds of a cross-validation held out",
    "val": "validation pictures",
}


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The judgement of the answers to a set of pictures.

    Attributes:
        certainty: what it rests on.
        false_alarms: share of pictures like the training pictures that is flagged as unlike them;
            None where nothing is flagged.
        pictures: judged.
        coverage: of the sets of labels; None for none.
        classwise: whether it is that of each class.
        labels: in all sets together.
        empty: sets without a label.
        max_error: largest share of wrong answers; None to answer all.
        answered: pictures.
        unlike: pictures flagged as unlike the training pictures.
        shift_p_value: of the hypothesis that the pictures look like the calibration pictures; None
            where these say nothing of that.
    """

    certainty: Certainty
    false_alarms: float | None
    pictures: int
    coverage: float | None
    classwise: bool
    labels: int
    empty: int
    max_error: float | None
    answered: int
    unlike: int
    shift_p_value: float | None


@dataclass(frozen=True, kw_only=True)
class CardCertainty:
    """The certainty of single answers, for a model card.

    Attributes:
        certainty, false_alarms: as of `Judgement`.
        answered: share of the calibration pictures that is answered, by the error that is promised;
            None where it cannot be promised. Empty for sets of labels, as `errors`.
        coverages: that sets of labels can be asked for.
        errors: share of wrong answers by the share of pictures that is answered, surest first.
    """

    certainty: Certainty
    false_alarms: float | None
    answered: Mapping[float, float | None]
    coverages: Sequence[float]
    errors: Mapping[float, float]


def card_lines(found: CardCertainty) -> list[str]:
    """Return the section of the model card in Markdown."""
    lines = [
        "`src.predict` and the served model can state the certainty of each answer; "
        f"{_source(found.certainty)}.",
    ]
    if found.answered:
        lines += ["", "| guaranteed: at most wrong | pictures answered |", "|---|---:|"]
    for error, share in found.answered.items():
        shown = "no guarantee possible" if share is None else percent(share)
        lines.append(f"| {100 * error:g} % (`max_error={error:g}`) | {shown} |")
    if found.errors:
        lines += ["", "| answered, most confident first | wrong among these |", "|---:|---:|"]
    lines += [f"| {100 * s:g} % | {percent(e)} |" for s, e in found.errors.items()]
    asked = ", ".join(f"`coverage={coverage:g}`" for coverage in found.coverages)
    if asked:
        held = "contain the true label with the stated probability"
        if found.certainty.of_sets:
            held = "contain on average the stated share of a picture's labels"
        lines += ["", f"Prediction sets (conformal) that {held}: {asked}."]
    if found.false_alarms is not None:
        alarms = percent(found.false_alarms)
        lines += ["", f"Out-of-distribution pictures are flagged (false-alarm rate {alarms})."]
    elif found.certainty.sample is not None:
        lines += ["", f"{_unflagged(found.certainty)}."]
    return lines


def judgement_lines(found: Judgement) -> list[str]:
    """Return a line on each thing that was judged.

    A single picture has no distribution, and nothing is said of it that its row says.
    """
    promised = found.coverage is not None or found.max_error is not None
    lines = [*_sets_lines(found), *_answered_lines(found), *_unlike_lines(found)]
    lines += [_source(found.certainty)] * promised
    return lines if found.pictures == 1 else [*lines, *_shift_lines(found, promised)]


def _sets_lines(found: Judgement) -> list[str]:
    if found.coverage is None:
        return []
    line = f"label_set: {_held(found)}; {found.labels / found.pictures:.2f} labels on average"
    if found.empty:
        line += f", {found.empty:,} sets are empty"
        if not found.certainty.of_sets:
            line += ": the accuracy exceeds the coverage, and it is least certain of these pictures"
    return [line]


def _answered_lines(found: Judgement) -> list[str]:
    if found.max_error is None:
        return []
    left = found.pictures - found.answered
    return [
        f"answered: {found.answered:,} of {found.pictures:,} pictures, with at most "
        f"{100 * found.max_error:g} % of the answers wrong (95 % confidence); {left:,} "
        f"({percent(left / found.pictures)}) are left to a person"
    ]


def _unlike_lines(found: Judgement) -> list[str]:
    alone = found.pictures == 1
    if found.false_alarms is not None and (found.unlike or not alone):
        flagged = f"{found.unlike:,} of {found.pictures:,} pictures are"
        return [
            f"unlike: {'the picture is' if alone else flagged} out of distribution "
            f"(false-alarm rate {percent(found.false_alarms)})"
        ]
    if found.false_alarms is None and found.certainty.sample is not None:
        return [f"unlike: {_unflagged(found.certainty)}"]
    if found.certainty.outdated:
        return [
            "unlike: nothing is flagged, since an earlier version measured by this model how far "
            "pictures lie that it was trained on: repeat the select that made it the champion"
        ]
    return []


def _shift_lines(found: Judgement, promised: bool) -> list[str]:
    if found.shift_p_value is None:
        untested = "shift: not tested, for no picture was held out of this model's training"
        return [untested] if promised else []
    if found.shift_p_value < _CLEAR_P_VALUE:
        figures = "the guarantees above do" if promised else "the measured figures do"
        broken = f"{figures} not hold{'' if promised else ' for them'}"
        return [
            "shift: their distribution differs from that of the calibration pictures "
            f"(p = {found.shift_p_value:.2g}), so {broken}"
        ]
    if promised or found.certainty.sample is not None:
        return [
            "shift: no distribution shift against the calibration pictures was detected "
            f"(p = {found.shift_p_value:.2g})"
        ]
    return []


def _held(found: Judgement) -> str:
    """Return what sets of labels hold."""
    share = f"{100 * (found.coverage or 0):g} %"
    if not found.certainty.of_sets:
        each = " of each class" * found.classwise
        return f"contains the true label of {share} of the pictures{each}"
    if found.classwise:
        return f"contains each label in {share} of the pictures that have it"
    return f"contains on average {share} of a picture's labels"


def _unflagged(known: Certainty) -> str:
    """Return why no picture is flagged as unlike the training pictures."""
    return (
        f"{len(known.targets):,} calibration pictures are too few to flag out-of-distribution "
        "pictures"
    )


def _source(known: Certainty) -> str:
    """Return on which pictures a promise rests, and what it takes for granted."""
    line = f"calibration: {len(known.targets):,} {_PARTS[known.source]}"
    if known.candidates > 1:
        line += f", corrected for selection among {known.candidates:,} models"
    if known.refitted:
        line += (
            "; with the answers of models trained on fewer pictures, assumed to be no better than "
            "this one"
        )
    return line
