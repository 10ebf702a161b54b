"""The model card: intended use, data, metrics and limits of a model as Markdown.

Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv:1810.03993): its sections and
their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent

from ..metrics.summary import accuracy_name
from ..records.export import ExportRecord
from ..records.run import Predictions, RunSummary
from .card_tables import PART_NAMES, calibration_table, class_scores_table
from .certainty_report import CardCertainty, card_lines
from .export_report import EXPORTED, exported_lines
from .formatting import (
    Table,
    code,
    count,
    duration,
    escaped,
    figure_text,
    measured,
)

__all__ = ["CardFacts", "model_card"]

_NAMED_CLASSES = 20
_SCORES = {
    "map": "mean average precision",
    "kappa": "quadratic kappa",
    "mae": "mean absolute error (classes)",
    "balanced_accuracy": "balanced accuracy",
    "dice": "Dice, mean over classes",
    "pixel_accuracy": "pixel accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "hamming_loss": "Hamming loss",
    "top5_accuracy": "among the five most probable",
    "log_loss": "log-loss (nats)",
    "brier": "Brier score",
    "calibration_error": "expected calibration error",
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """The content of a model card.

    Attributes:
        summary: of the model's run.
        chosen: of the run that it is a refit of, or None.
        reasons: why this one, in sentences.
        source: where the pictures come from.
        picture: height, width and channels.
        parts: pictures of each part of the run's split.
        epochs: trained; 0 for what knows none.
        predictions: by part, of pictures that the model was not trained on.
        validation: metrics of the validation part by key, the chosen run's for a refit.
        test_measurements: of this test part so far; 0 for none.
        provenance: of the run: `git` (`commit`, `dirty`) or None, and `packages` by name.
        commands: what to type, by what it does.
        registered: the name in MLflow's registry, or None.
        certainty: of single answers; None for a model without calibration.
        exported: how the exported variants compare with it; None for a model without.
    """

    summary: RunSummary
    chosen: RunSummary | None
    reasons: Sequence[str]
    class_names: Sequence[str]
    source: str
    picture: tuple[int, int, int]
    parts: Mapping[str, int]
    split_seed: int
    epochs: int
    predictions: Mapping[str, Predictions]
    validation: Mapping[str, float]
    test_measurements: int
    provenance: Mapping[str, object]
    commands: Mapping[str, str]
    registered: str | None = None
    certainty: CardCertainty | None = None
    exported: ExportRecord | None = None


def model_card(facts: CardFacts, use: Sequence[str] = ()) -> str:
    """Return the card as Markdown.

    Args:
        facts: its content; without commands it has no section on how to reproduce the model.
        use: lines on how to use the model, which come first.
    """
    sections: dict[str, Sequence[str]] = {
        "Model details": _details(facts),
        "Intended use": _use(facts),
        "Factors": [
            "The classes are the only groups that were told apart (see the table of classes). How "
            "the model fares with other differences between pictures (cameras, places, people) was "
            "not measured, because the data do not say."
        ],
        "Metrics": [_metrics(facts)],
        "Evaluation data": _evaluation_data(facts),
        "Training data": _training_data(facts),
        "Quantitative analyses": _analyses(facts),
        **({} if facts.exported is None else {EXPORTED: exported_lines(facts.exported)}),
        "Ethical considerations": [
            "Nobody has examined who is harmed by a wrong label, or whether it is right to label "
            "such pictures at all. That is for whoever uses the model to answer, before using it."
        ],
        "Caveats and recommendations": _caveats(facts),
    }
    if use:
        sections = {"How to use": use, **sections}
    if facts.commands:
        sections["How to reproduce"] = [
            *("In the project's folder, with its environment:", ""),
            *(indent(f"# {what}\n{line}", "    ") for what, line in facts.commands.items()),
        ]
    title = f"# Model card: {escaped(facts.summary.model)} on {escaped(facts.summary.data)}"
    body = [line for name, lines in sections.items() for line in (f"## {name}", "", *lines, "")]
    source = (
        "The sections follow Mitchell et al., *Model Cards for Model Reporting*, FAT\\* 2019 "
        "(arXiv:1810.03993)."
    )
    return "\n".join([title, "", *body, source, ""])


def _of_sets(facts: CardFacts) -> bool:
    return any(one.kind == "multi" for one in facts.predictions.values())


def _of_pixels(facts: CardFacts) -> bool:
    return any(one.kind == "dense" for one in facts.predictions.values())


def _metrics(facts: CardFacts) -> str:
    intervals = "by what single pictures change" if _of_pixels(facts) else "Wilson's"
    text = (
        f"{_described_accuracy(facts)} Intervals are {intervals}, 95 %: they tell what other "
        "pictures of the same origin would change, and not what another training would."
    )
    if _of_pixels(facts):  # no probabilities of pixels are kept
        return text
    return (
        f"{text} Calibration is the mean gap between what the model claims and how often it is "
        "right (15 bins of the probability of its answer)."
    )


def _described_accuracy(facts: CardFacts) -> str:
    if _of_pixels(facts):
        return (
            "The IoU of a class is the number of pixels that are both of it and predicted as it, "
            "divided by the number that are either, over all pictures together, in the size that "
            "the model takes; the mean is over the classes that occur."
        )
    if _of_sets(facts):
        chosen = any(one.thresholds is not None for one in facts.predictions.values())
        threshold = "its threshold on, which was chosen on the validation part"
        if not chosen:
            threshold = "a probability of one half on"
        return (
            "Mean average precision is over the labels: for each, the mean precision at the places "
            "of the pictures that have it, ordered by probability. The exact match is the share of "
            f"pictures with all labels right; a label counts as said from {threshold}."
        )
    judged = [one for one in facts.predictions.values() if one.thresholds is not None]
    if judged:
        cuts = judged[0].thresholds
        assert cuts is not None
        rule = "the median class, on either side of which lies at most half of the probability"
        if len(cuts) == len(judged[0].class_names):
            rule = (
                "the class whose probability is the largest multiple of its mean on the validation "
                "part, so that rare classes count as much as frequent ones"
            )
        elif len(cuts) > 1:
            rule = (
                "the class in which the mean of the classes lies, stretched as the labels of the "
                "validation part are spread"
            )
        kappa = "Kappa is Cohen's with quadratic weights. " if judged[0].kind == "ordinal" else ""
        return (
            f"{kappa}The answer is {rule}. Accuracy is the share of pictures for which that is the "
            "right one."
        )
    return "Accuracy is the share of pictures whose most probable class is the right one."


def _details(facts: CardFacts) -> list[str]:
    summary = facts.summary
    size = "" if summary.num_parameters is None else f", {count(summary.num_parameters)} parameters"
    length = f"{facts.epochs} epochs, " if facts.epochs else ""
    seconds = summary.metrics.get("cost/training_seconds", summary.duration_seconds)
    weights = "" if summary.weights is None else f", published weights: {escaped(summary.weights)}"
    rows = [
        f"Model: {escaped(summary.model)}{size}.",
        *([] if summary.start is None else [f"Start: {summary.start}{weights}."]),
        f"Run: {code(summary.name)} ({code(summary.run_id)}).",
        f"Trained: {length}seed {summary.seed}, {duration(seconds)} in all.",
    ]
    if facts.chosen is not None:
        rows.append(
            f"Refit of {code(facts.chosen.name)}: its settings and its number of epochs, trained "
            "on training and validation part together."
        )
    if facts.registered is not None:
        rows.append(f"Registered: {code(f'models:/{facts.registered}@champion')}.")
    git = facts.provenance.get("git")
    if isinstance(git, Mapping):
        changed = ", with changes (changes.diff)" if git.get("dirty") else ""
        rows.append(f"Code: commit `{git.get('commit')}`{changed}.")
    packages = facts.provenance.get("packages")
    if isinstance(packages, Mapping):
        rows.append(f"Packages: {', '.join(f'{k} {v}' for k, v in packages.items())}.")
    lines = [f"- {row}" for row in rows]
    if facts.reasons:
        lines += ["", "Why this one:", "", *(f"- {escaped(reason)}" for reason in facts.reasons)]
    return lines


def _use(facts: CardFacts) -> list[str]:
    names = [escaped(name) for name in facts.class_names]
    more = len(names) - _NAMED_CLASSES
    listed = ", ".join(names[:_NAMED_CLASSES]) + (f" and {more} more" if more > 0 else "")
    answer = "names the class of a picture, one of"
    if _of_pixels(facts):
        answer = "gives every pixel of a picture a class, one of"
    if _of_sets(facts):
        answer = "names the labels of a picture, any or none of"
    meant = (
        f"It {answer} {len(names)}: {listed}. It is meant for pictures that come about as those "
        "did that it learnt from"
    )
    if _of_pixels(facts) or _of_sets(facts):
        return [f"{meant}; for pictures of another origin no figure below holds."]
    return [
        f"{meant}.",
        "",
        "Out of scope: every picture gets one of these classes, one that shows none of them as "
        "well; and pictures of another origin, for which no figure below holds.",
    ]


def _evaluation_data(facts: CardFacts) -> list[str]:
    tested = facts.parts.get("test", 0)
    if not tested:
        return ["There is no test part: no figure below comes from pictures that nobody chose by."]
    lines = [
        f"{tested:,} pictures of {escaped(facts.summary.data)} that the model has not learnt from "
        "and was not chosen by; equal pictures never stand on both sides."
    ]
    if facts.test_measurements:
        lines += ["", f"The test part has been measured {measured(facts.test_measurements)}."]
    return lines


def _training_data(facts: CardFacts) -> list[str]:
    height, width, channels = facts.picture
    parts = ", ".join(f"{facts.parts.get(p, 0):,} {name}" for p, name in PART_NAMES.items())
    return [
        f"{escaped(facts.summary.data)} ({code(facts.source)}), as "
        f"{height}x{width}x{channels}; parts of this run: {parts}; split seed "
        f"{facts.split_seed}, fingerprint `{str(facts.summary.split_fingerprint)[:16]}`. "
        "`split.csv` names the part of every picture, `suspects.csv` those that look wrong."
    ]


def _analyses(facts: CardFacts) -> list[str]:
    tables = [_scores(facts)]
    for part, predictions in facts.predictions.items():
        tables.append(class_scores_table(part, predictions))
        if predictions.kind != "dense":  # the probabilities of pixels are not kept
            tables.append(calibration_table(part, predictions))
    lines = ["\n\n".join(table.markdown() for table in tables)]
    if facts.certainty is not None:
        lines += ["", "### Certainty of single answers", "", *card_lines(facts.certainty)]
    return [*lines, "", _costs(facts.summary).markdown()]


def _scores(facts: CardFacts) -> Table:
    tested = {k: v for k, v in facts.summary.metrics.items() if k.startswith("test/")}
    columns = {"val": facts.validation, "test": tested}
    judged_by = "miou" if _of_pixels(facts) else "accuracy"
    shown = {part: found for part, found in columns.items() if f"{part}/{judged_by}" in found}
    name = "mean IoU" if _of_pixels(facts) else accuracy_name(_of_sets(facts))
    first = (figure_text(found, f"{part}/{judged_by}") or "" for part, found in shown.items())
    rows = [(name, *first)]
    if any(f"{part}/cost" in found for part, found in shown.items()):
        costs = (figure_text(found, f"{part}/cost") or "" for part, found in shown.items())
        rows.append(("mean cost", *costs))
    most = 1 if _of_sets(facts) else 2
    for key, name in (_SCORES | {"brier": f"Brier score (0 to {most})"}).items():
        cells = [found.get(f"{part}/{key}") for part, found in shown.items()]
        if any(cell is not None for cell in cells):
            rows.append((name, *("" if c is None else f"{c:.4f}" for c in cells)))
    heads = [
        "validation (of the chosen run)" if part == "val" and facts.chosen else PART_NAMES[part]
        for part in shown
    ]
    numbers = frozenset(range(1, len(heads) + 1))
    return Table("How good it is", ("measure", *heads), tuple(rows), numbers)


def _costs(summary: RunSummary) -> Table:
    known = {k.removeprefix("cost/"): v for k, v in summary.metrics.items() if k[:5] == "cost/"}
    texts: dict[str, tuple[str, Callable[[float], str]]] = {
        "latency of one picture": ("latency_ms", lambda v: f"{v:.3g} ms"),
        "pictures a second, in batches": ("throughput", lambda v: f"{v:,.0f}"),
        "operations a picture": ("flops", lambda v: count(round(v))),
        "size on disk": ("checkpoint_mb", lambda v: f"{v:.3g} MB"),
        "most memory": ("peak_memory_mb", lambda v: f"{v:,.0f} MB"),
        "training": ("training_seconds", duration),
    }
    rows = tuple((name, text(known[key])) for name, (key, text) in texts.items() if key in known)
    if others := known.get("latency_others"):
        rows += (("the latency was measured beside other programs", f"{others:.1f} cores"),)
    return Table(
        "Costs, on the machine that trained it", ("what", "measured"), rows, frozenset({1})
    )


def _caveats(facts: CardFacts) -> list[str]:
    limits = []
    if "test" in facts.predictions:
        if facts.test_measurements > 1:
            limits.append(
                f"The test part has been measured {facts.test_measurements} times. Whatever was "
                "decided after such a look makes the test figure a little too good."
            )
        number = len(facts.predictions["test"].targets)
        limits.append(
            f"The test figure stands on {number:,} pictures; the interval beside it says how far "
            "that carries, and those of single classes are wider."
        )
    if facts.validation:
        limits.append(
            "What is chosen by its validation figure has a figure that is a little too good: trust "
            "that of the test part."
        )
    if facts.chosen is not None:
        limits.append(
            "The refit itself was measured on the test part alone: on validation pictures, which "
            "it has learnt, no figure of it would mean anything."
        )
    limits.append("It was trained once with these pictures; another seed gives another model.")
    if not _of_pixels(facts):
        limits.append(
            "Probabilities are calibrated for pictures of the same origin, if at all (see above). "
            "Elsewhere a high one is no proof."
        )
    return [f"- {limit}" for limit in limits]
