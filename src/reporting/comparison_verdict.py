"""The verdict of a comparison in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..machine.text import counted, percent
from ..metrics.registry import RANKING
from ..metrics.summary import metric_name
from ..records.comparison import Collapses, Comparison, Interval, Pair, Recommendation, Standing
from ..records.ties import MEAN_DIGITS
from .formatting import chance_text, change_text, gap_text, is_percent, metric_text

__all__ = [
    "CERTAIN",
    "baseline_sentence",
    "caution_sentences",
    "constant_sentence",
    "difference_text",
    "interval_text",
    "measure_name",
    "measure_title",
    "pair_sentence",
    "pictures_text",
    "verdict_sentences",
]

CERTAIN = "It is significantly better than every other candidate (simultaneous 95 % confidence)."
# More names, and longer ones, such as those of single runs, are replaced by ranks.
_MOST_NAMED, _LONGEST_NAME = 5, 24
# Half of the last digit that is shown.
_NOT_WORTH_SAYING = 0.0005
# Of the figure of the choice; what a constant answer has below that, nobody takes for knowledge.
_SHARE_OF_A_CONSTANT = 0.5
# Of the chance that further seeds decide.
_NEGLIGIBLE_CHANCE = 0.05
_TRAININGS = ("the trained models", "these folds and trainings")
_WITHOUT_REPEATS = ("Trained once", "Cross-validated once")


def verdict_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return the verdict in sentences: winner, doubt, choice, data needed and scope."""
    verdict, folds = comparison.verdict, comparison.folds
    several = len(verdict.standings) > 1
    sentences = [
        *(_winner(verdict, folds), _corrected(verdict, folds)),
        constant_sentence(verdict),
    ]
    if verdict.collapses is not None:
        sentences.append(_collapsed(verdict, verdict.collapses))
    if several:  # "it" is the winner here, and cautions are about the choice
        sentences += [_tied(verdict), _chances(verdict), _difference(verdict), _choice(verdict)]
        sentences.append(_likelier(verdict))
    sentences += caution_sentences(verdict)
    if several:
        sentences += [_disturbed(comparison), _need(verdict)]
    sentences += [_seeds(verdict), _looks(verdict), _about(verdict, folds)]
    if comparison.pair is not None:
        sentences.append(pair_sentence(comparison.pair))
    return tuple(filter(None, sentences))


def _disturbed(comparison: Comparison) -> str:
    """Return that latencies decided which are longer than they are on an idle machine, if any."""
    tied = [one for one in comparison.entrants if one.standing.tied]
    marked = [one.standing for one in tied if one.disturbed]
    if len(tied) < 2 or not marked or comparison.verdict.cheapest is None:
        return ""
    return (
        f"The latency of {_which(marked)} was measured under load (other programs running) and is "
        "too high: on an idle machine another tied candidate may be the fastest."
    )


def caution_sentences(verdict: Recommendation) -> tuple[str, ...]:
    """Return what the figures do not say or promise, for which reasons; none where they do."""
    return tuple(filter(None, (baseline_sentence(verdict), _unsteady(verdict), _lone(verdict))))


def baseline_sentence(verdict: Recommendation) -> str:
    """Return that the choice may be no better than one answer for all; "" where it is better."""
    if verdict.baseline is None or verdict.beats_baseline:
        return ""
    figure = metric_text(verdict.measure, verdict.baseline)
    low, high = verdict.choice.interval.low, verdict.choice.interval.high
    worse = high < verdict.baseline if verdict.higher_is_better else low > verdict.baseline
    held = "significantly worse" if worse else "not significantly better"
    return (
        f"{verdict.choice.name} is {held} than the constant baseline (the same answer for "
        f"everything), whose {measure_name(verdict)} is {figure}."
    )


def constant_sentence(verdict: Recommendation) -> str:
    """Return what one answer for all has; "" where that is far less, or no less (see above).

    Where seven of ten pictures are of one class, 80 % right answers are a third of what there is to
    know.
    """
    if (baseline := verdict.baseline) is None or not verdict.beats_baseline:
        return ""
    figure = verdict.choice.figure
    near, far = (baseline, figure) if verdict.higher_is_better else (figure, baseline)
    if near < _SHARE_OF_A_CONSTANT * far:
        return ""
    return (
        "The constant baseline (the same answer for everything) has "
        f"{measure_name(verdict)} {metric_text(verdict.measure, baseline)}."
    )


def pair_sentence(pair: Pair) -> str:
    """Return on how many pictures two trained models differ; the verdict has the uncertainty."""
    first, second = pair.first, pair.second
    if max(len(first), len(second)) > _LONGEST_NAME:
        first, second = "the first", "the second"
    scope = "They are repeats of one configuration that differ only in the seed." * pair.repeats
    return (
        f"Of the pictures, {pair.first_alone:,} are right only with {first} and "
        f"{pair.second_alone:,} only with {second}. {scope}"
    ).rstrip()


def pictures_text(verdict: Recommendation) -> str:
    """Return how many pictures there were, as in "600 pictures in 60 groups"."""
    pictures = f"{verdict.pictures:,} pictures"
    if verdict.groups is None:
        return pictures
    kept = " (copies are kept together)" if verdict.copies else ""
    return f"{pictures} in {verdict.groups:,} groups{kept}"


def measure_name(verdict: Recommendation) -> str:
    """Return what the measure of a verdict is called for its kind of targets."""
    return metric_name(verdict.measure, sets=verdict.sets)


def measure_title(verdict: Recommendation) -> str:
    """Return the name of its measure as the beginning of a sentence."""
    name = measure_name(verdict)
    return name[0].upper() + name[1:]


def interval_text(interval: Interval, measure: str) -> str:
    """Return an interval of figures in the units of the measure, as in "86.1 to 89.0 %"."""
    if is_percent(measure):
        return str(interval)
    return f"{metric_text(measure, interval.low)} to {metric_text(measure, interval.high)}"


def difference_text(difference: Interval, measure: str) -> str:
    """Return an interval of differences, as in "-0.2 to +1.3 points"."""
    ends = f"{change_text(measure, difference.low)} to {change_text(measure, difference.high)}"
    return f"{ends} points" if is_percent(measure) else ends


def _winner(verdict: Recommendation, folds: int | None) -> str:
    winner, repeats = verdict.winner, len(verdict.winner.run_ids)
    field = len(verdict.standings)
    first = "is the only candidate" if field == 1 else f"comes first of {field} candidates"
    if verdict.screened:
        first += f", selected from {verdict.screened + field} trials on the same pictures"
    trained = "trained once" if repeats == 1 else f"mean of {repeats} trainings"
    if folds is not None:
        trained = f"{folds}-fold cross-validation"
        trained += "" if repeats == 1 else f", mean of {repeats} repeats"
        trained += ", folds pooled"
        if RANKING[verdict.measure].over_classes or verdict.measure == "kappa":
            trained += " (a run and a sweep state their mean, which is another figure)"
    figure, pictures = metric_text(verdict.measure, winner.figure), pictures_text(verdict)
    return f"{winner.name} {first}: {measure_name(verdict)} {figure} on {pictures}, {trained}."


def _corrected(verdict: Recommendation, folds: int | None) -> str:
    winner, measure = verdict.winner, verdict.measure
    chosen = len(verdict.standings) > 1 or verdict.screened > 0
    notes = ["simultaneous for all candidates"] if chosen else []
    if folds is not None:  # that held-out pictures trained other folds is in no variance
        notes.append("over the pictures alone, as if each fold had its own")
    noted = f" ({'; '.join(notes)})" if notes else ""
    interval = f"95 % interval {interval_text(winner.interval, measure)}{noted}."
    bias = winner.figure - verdict.corrected
    # Of losses less is better, Hamming loss among them, which is written in percent.
    if not chosen or (bias if verdict.higher_is_better else -bias) < _NOT_WORTH_SAYING:
        return f"{measure_title(verdict)}: {interval}"
    return (
        f"Corrected for selection (winner's curse), its {measure_name(verdict)} is "
        f"{metric_text(measure, verdict.corrected)}; {interval}"
    )


def _unsteady(verdict: Recommendation) -> str:
    """Return that intervals take more for granted than so few trainings show, where they do."""
    if not verdict.unsteady:
        return ""
    few = [one for one in verdict.standings if one.name in verdict.unsteady]
    subject = _which(few, begins=True)
    have = (
        "has too few trainings to estimate its"
        if len(few) == 1
        else "have too few trainings to estimate their"
    )
    return (
        f"{subject} {have} seed variance. The 95 % confidence assumes a similar seed variance for "
        "all candidates; where some vary several times more, about 92 % of intervals hold and the "
        "corrected figure is too optimistic."
    )


def _lone(verdict: Recommendation) -> str:
    """Return that single pictures, or groups of them, stand for whole classes, where they do."""
    if not verdict.lone:
        return ""
    single = "picture" if verdict.groups is None else "group of pictures"
    if verdict.measure == "auc" and verdict.sets:
        single += " with it or without it"
    names = ("label", "labels") if verdict.sets else ("class", "classes")
    has = f"has a single {single}" if verdict.lone == 1 else f"have a single {single} each"
    variance = "its variance is" if verdict.lone == 1 else "their variances are"
    return (
        f"{counted(verdict.lone, *names)} {has}, so that {variance} estimated from the other "
        f"{names[1]} and the 95 % confidence is not guaranteed (in simulations, 91 % of intervals "
        "of differences hold)."
    )


def _collapsed(verdict: Recommendation, found: Collapses) -> str:
    names = [one for one in verdict.standings if one.name in found.names]
    are = "is" if found.trainings == 1 else "are"
    including = ""
    if found.winner is not None:
        including = (
            f"; including these, the mean accuracy of {verdict.winner.name} has the 95 % interval "
            f"{found.winner}"
        )
    return (
        f"{found.trainings} of {found.among} trainings collapsed to an accuracy of "
        f"{percent(found.accuracy)} ({_which(names)}) and {are} excluded from all figures. "
        f"Expected share of collapsed trainings: {found.share} (95 % interval){including}. Check "
        "the result of a training before use, and repeat one that collapsed."
    )


def _tied(verdict: Recommendation) -> str:
    others = [one for one in verdict.tied if one.name != verdict.winner.name]
    if not others:
        return CERTAIN
    return (
        f"It is statistically tied with {_which(others)}: with 95 % confidence, the best candidate "
        f"is one of these {len(verdict.tied)}."
    )


def _chances(verdict: Recommendation) -> str:
    if len(verdict.tied) == 1:
        return ""
    winner, measure = verdict.winner, verdict.measure
    equal = ""
    if verdict.band > 0:
        equal = (
            f", and of being within {gap_text(measure, verdict.band)} of the best (practically "
            f"equivalent) {chance_text(winner.equal)}"
        )
    return (
        f"Its probability of being the best is {chance_text(winner.best)}{equal}; its expected "
        f"loss (regret) is {gap_text(measure, winner.loss, 2)}."
    )


def _likelier(verdict: Recommendation) -> str:
    """Return that another candidate is the best with a higher probability, where one is.

    Of two this cannot be, but by the chance of the draws.
    """
    other = max(verdict.tied, key=lambda one: one.best)
    chance = chance_text(other.best)
    if len(verdict.standings) == 2 or chance == chance_text(verdict.winner.best):
        return ""
    higher = f"{_called(other)} has a higher probability of being the best ({chance})"
    if round(other.figure, MEAN_DIGITS) == round(verdict.winner.figure, MEAN_DIGITS):
        return (
            f"{higher}, with the same figure, and so the same expected loss: of equal figures the "
            "lower log-loss ranks first, then the lower latency."
        )
    return (
        f"{higher}, but ranks lower by its figure, and so by its expected loss: a candidate that "
        "is less certain, or less like the others, is more often the best, and further behind "
        "where it is not."
    )


def _difference(verdict: Recommendation) -> str:
    if verdict.difference is None:
        return ""
    measure = verdict.measure
    ahead = abs(verdict.standings[0].figure - verdict.standings[1].figure)
    return (
        f"It is {gap_text(measure, ahead)} ahead (95 % interval of the difference "
        f"{difference_text(verdict.difference, measure)})."
    )


def _choice(verdict: Recommendation) -> str:
    cheapest = verdict.cheapest
    if cheapest is None or len(verdict.tied) == 1:
        return ""
    if cheapest.name == verdict.winner.name:
        return "No tied candidate is at least 1.5 times as fast."
    faster = f"{_called(cheapest)} is at least 1.5 times as fast"
    behind = gap_text(verdict.measure, abs(verdict.winner.figure - cheapest.figure))
    if cheapest.name == verdict.choice.name:
        return f"{faster} and practically equivalent: {behind} behind."
    near = "none" if verdict.choice.name == verdict.winner.name else _called(verdict.choice)
    return (
        f"{faster}, but {behind} behind; of those that are practically equivalent to the winner "
        f"({gap_text(verdict.measure, verdict.band)} and one standard error behind at most), "
        f"{near} is."
    )


def _need(verdict: Recommendation) -> str:
    power = verdict.power
    if power is None or len(verdict.tied) == 1:
        return ""
    measure = verdict.measure
    gap, smallest = gap_text(measure, power.gap), gap_text(measure, power.smallest_gap)
    now = (
        f"Power: a true difference of {gap} between the best two is detected with a probability of "
        f"{percent(power.probability, 0)}, and one of {smallest} with 80 %"
    )
    if power.probability >= 0.8:
        return f"{now}."
    repeats = f" with {power.repeats:,} trainings of each" if power.repeats > 1 else ""
    if power.pictures is None:
        return f"{now}; no number of pictures{repeats} reaches 80 % for {gap}."
    return f"{now}; 80 % for {gap} takes about {_rounded(power.pictures):,} pictures{repeats}."


def _seeds(verdict: Recommendation) -> str:
    chance = verdict.decided_by_seeds
    if chance is None:
        return ""
    if chance < _NEGLIGIBLE_CHANCE:
        return "More seeds are unlikely to separate them (below 5 %): that takes more pictures."
    return (
        "More seeds on the same pictures, however many, would separate it from another tied "
        f"candidate with a probability of {percent(chance, 0)}."
    )


def _looks(verdict: Recommendation) -> str:
    if verdict.look == 1:
        return ""
    return (
        f"This is comparison {verdict.look} of these candidates, each with more seeds; the 95 % "
        "confidence is corrected for repeated looks."
    )


def _about(verdict: Recommendation, folds: int | None) -> str:
    if not verdict.of_configurations:
        return (
            f"Without repeats, all of this is about {_TRAININGS[folds is not None]}; the variation "
            "between seeds is unknown."
        )
    if verdict.borrowed:
        borrowed = [one for one in verdict.standings if one.name in verdict.borrowed]
        theirs = "its" if len(borrowed) == 1 else "their"
        return (
            f"{_WITHOUT_REPEATS[folds is not None]}: {_which(borrowed)}; {theirs} seed variance is "
            "estimated from the candidates with repeats."
        )
    return ""


def _called(standing: Standing) -> str:
    return _which([standing])


def _which(standings: Sequence[Standing], *, begins: bool = False) -> str:
    """Return their names, or their ranks where the names are too many or too long to read.

    Args:
        standings: at least one.
        begins: whether a sentence begins so.
    """
    names = [one.name for one in standings]
    if len(names) <= _MOST_NAMED and max(map(len, names)) <= _LONGEST_NAME:
        return _listed(names)
    runs: list[list[int]] = []
    for rank in sorted(one.rank for one in standings):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    spans: list[str] = []
    for run in runs:
        spans += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    noun = "candidate" if len(names) == 1 else "candidates"
    return f"{noun.capitalize() if begins else noun} {_listed(spans)}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _rounded(count: int) -> int:
    """To two digits, as a forecast of this kind has no more."""
    step = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
