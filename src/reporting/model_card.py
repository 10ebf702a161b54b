"""The model card: intended use, data, metrics and limits of a model as Markdown.

Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv:1810.03993): its sections and
their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent

from ..machine.text import counted
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
    times_measured,
)

__all__ = ["CardFacts", "model_card"]

_NAMED_CLASSES = 20
_SCORES = {
    "map": "mean average precision",
    "kappa": "quadratic kappa",
    "mae": "mean absolute error (classes)",
    "auc": "AUC",
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
            "Results are broken down by class only (see the table of classes). Other factors, such "
            "as camera, place or person, were not evaluated, because the data do not state them."
        ],
        "Metrics": [_metrics(facts)],
        "Evaluation data": _evaluation_data(facts),
        "Training data": _training_data(facts),
        "Quantitative analyses": _analyses(facts),
        **({} if facts.exported is None else {EXPORTED: exported_lines(facts.exported)}),
        "Ethical considerations": [
            "The harm of wrong labels, and whether such pictures should be labelled at all, were "
            "not assessed. Assess both before using the model."
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
    return any(one.kind_of_targets.sets for one in facts.predictions.values())


def _of_pixels(facts: CardFacts) -> bool:
    return any(one.kind_of_targets.pixels for one in facts.predictions.values())


def _metrics(facts: CardFacts) -> str:
    kind = "Wilson intervals over pictures"
    if _of_pixels(facts):
        kind = "score intervals with standard errors from influence functions, over pictures"
    elif any(one.groups is not None for one in facts.predictions.values()):
        kind = "intervals over groups of pictures (those that go together count as one group)"
    text = (
        f"{_described_accuracy(facts)} Intervals are 95 % {kind} of the same origin; they do not "
        "include the variation between trainings."
    )
    if any(key.endswith("_sd") for key in facts.validation):
        text += (
            " The interval of the validation is over the folds of a cross-validation (corrected "
            "resampled t), and includes the variation with the training pictures."
        )
    if _of_pixels(facts):  # no probabilities of pixels are kept
        return text
    area = "classes of the area under the ROC curve of each against the rest"
    if _of_sets(facts):
        area = "labels of the area under the ROC curve of each"
    return (
        f"{text} AUC is the mean over the {area}, with intervals by the variance of DeLong et al. "
        "1988. The calibration error is the mean gap between confidence and accuracy (15 bins of "
        "the probability of the answer)."
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
            f"pictures with all labels right; a label is predicted from {threshold}."
        )
    judged = [one for one in facts.predictions.values() if one.thresholds is not None]
    if judged:
        cuts = judged[0].thresholds
        assert cuts is not None
        rule = "the median class, on either side of which lies at most half of the probability"
        if len(cuts) > len(judged[0].class_names):
            rule = (
                "the class whose mean cost, by the probabilities and the table of costs, is least"
            )
        elif len(cuts) == len(judged[0].class_names):
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
    length = f"{counted(facts.epochs, 'epoch')}, " if facts.epochs else ""
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
    answer = "predicts the class of a picture, one of"
    if _of_pixels(facts):
        answer = "predicts the class of every pixel of a picture, one of"
    if _of_sets(facts):
        answer = "predicts the labels of a picture, any or none of"
    meant = (
        f"It {answer} {len(names)}: {listed}. It is meant for pictures of the same origin as the "
        "training pictures"
    )
    if _of_pixels(facts) or _of_sets(facts):
        return [f"{meant}; no figure below holds for others."]
    return [
        f"{meant}.",
        "",
        "Out of scope: pictures that show none of these classes, which get one of them all the "
        "same, and pictures of another origin, for which no figure below holds.",
    ]


def _evaluation_data(facts: CardFacts) -> list[str]:
    tested = facts.parts.get("test", 0)
    if not tested:
        return ["There is no test part: every figure below is subject to selection bias."]
    lines = [
        f"{tested:,} pictures of {escaped(facts.summary.data)} that were used neither for training "
        "nor for selection; no copy of them is in another part."
    ]
    if facts.test_measurements:
        lines += ["", f"The test part has been measured {times_measured(facts.test_measurements)}."]
    return lines


def _training_data(facts: CardFacts) -> list[str]:
    height, width, channels = facts.picture
    parts = ", ".join(f"{facts.parts.get(p, 0):,} {name}" for p, name in PART_NAMES.items())
    return [
        f"{escaped(facts.summary.data)} ({code(facts.source)}), as "
        f"{height}x{width}x{channels}; parts of this run: {parts}; split seed "
        f"{facts.split_seed}, fingerprint `{str(facts.summary.split_fingerprint)[:16]}`. "
        "`split.csv` lists the part of every picture, `suspects.csv` suspicious pictures."
    ]


def _analyses(facts: CardFacts) -> list[str]:
    tables = [_scores(facts)]
    for part, predictions in facts.predictions.items():
        tables.append(class_scores_table(part, predictions))
        if not predictions.kind_of_targets.pixels:  # the probabilities of pixels are not kept
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
        cells = [figure_text(found, f"{part}/{key}") or "" for part, found in shown.items()]
        if any(cells):
            rows.append((name, *cells))
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
        rows += (("load by other programs during the latency", f"{others:.1f} cores"),)
    return Table(
        "Costs, on the machine that trained it", ("what", "measured"), rows, frozenset({1})
    )


def _caveats(facts: CardFacts) -> list[str]:
    limits = []
    if "test" in facts.predictions:
        if facts.test_measurements > 1:
            limits.append(
                f"The test part has been measured {facts.test_measurements} times. Decisions made "
                "after such a measurement bias the test figure upwards."
            )
        number = len(facts.predictions["test"].targets)
        limits.append(
            f"The test figure is from {number:,} pictures (see its interval); the intervals of "
            "single classes are wider."
        )
    if facts.validation:
        limits.append(
            "The model was selected by its validation figure, which is therefore biased upwards: "
            "use the test figure."
        )
    if facts.chosen is not None:
        limits.append(
            "The refit was measured on the test part only, because it was trained on the "
            "validation pictures."
        )
    limits.append("It was trained once; another seed gives another model.")
    if not _of_pixels(facts):
        limits.append(
            "Probabilities are calibrated at most for pictures of the same origin (see above)."
        )
    return [f"- {limit}" for limit in limits]
