"""The verdict of a comparison in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from ..machine.text import percent
from ..metrics.summary import accuracy_name
from ..records.comparison import Collapses, Comparison, Interval, Pair, Standing, Verdict
from .formatting import chance_text, counted, is_percent, metric_text, size_text

__all__ = [
    "MEASURE_NAMES",
    "baseline_sentence",
    "caution_sentences",
    "difference_text",
    "interval_text",
    "measure_name",
    "measure_title",
    "pair_sentence",
    "pictures_text",
    "verdict_sentences",
]

MEASURE_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log-loss",
    "cost": "mean cost",
    "map": "mean average precision",
    "micro_f1": "micro F1",
    "hamming_loss": "Hamming loss",
    "kappa": "quadratic kappa",
    "mae": "mean absolute error",
    "miou": "mean IoU",
    "dice": "Dice",
    "pixel_accuracy": "pixel accuracy",
}
# A longer list of names helps nobody: the leaderboard has them all, by rank.
_NAMED_AT_MOST, _LETTERS_AT_MOST = 5, 120
_RANKED = "those ranked"
# Half of the last digit that is shown.
_NOT_WORTH_SAYING = 0.0005
# Of the chance that further seeds decide.
_NEVER = 0.05
_TRAININGS = ("the trained models", "these folds and trainings")
_ONCE = ("Trained once", "Cross-validated once")


def verdict_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return the verdict in sentences: winner, doubt, choice, data needed and scope."""
    verdict, folds = comparison.verdict, comparison.folds
    said = [_winner(verdict, folds), _corrected(verdict), *caution_sentences(verdict)]
    if verdict.collapses is not None:
        said.append(_collapsed(verdict, verdict.collapses))
    if len(verdict.standings) > 1:
        said += [_tied(verdict), _chances(verdict), _difference(verdict)]
        said += [_choice(verdict), _disturbed(comparison), _need(verdict)]
    said += [_seeds(verdict), _looks(verdict), _about(verdict, folds)]
    if comparison.pair is not None:
        said.append(pair_sentence(comparison.pair))
    return tuple(filter(None, said))


def _disturbed(comparison: Comparison) -> str:
    """Return that latencies decided which are longer than they are on an idle machine, if any."""
    tied = [one for one in comparison.entrants if one.standing.tied]
    marked = [one.standing for one in tied if one.disturbed]
    if len(tied) < 2 or not marked or comparison.verdict.cheapest is None:
        return ""
    return (
        f"The latency of {_which(marked)} was measured beside other programs, which makes it "
        "longer: on an idle machine another of the tied may be the cheapest."
    )


def caution_sentences(verdict: Verdict) -> tuple[str, ...]:
    """Return what the figures do not say or promise, for which reasons; none where they do."""
    return tuple(filter(None, (baseline_sentence(verdict), _unsteady(verdict), _lone(verdict))))


def baseline_sentence(verdict: Verdict) -> str:
    """Return that the choice may be no better than one answer for all; "" where it is better."""
    if verdict.baseline is None or verdict.beats_baseline:
        return ""
    figure = metric_text(verdict.measure, verdict.baseline)
    return (
        f"{verdict.choice.name} is not shown to be better than the same answer for everything, "
        f"which has {measure_name(verdict)} {figure}."
    )


def pair_sentence(pair: Pair) -> str:
    """Return on which pictures two trained models differ; how sure that is says the verdict."""
    scope = "They are repeats of one configuration and differ in the seed alone." * pair.repeats
    return (
        f"Of the trained models {pair.first} and {pair.second}, {pair.first_alone} pictures only "
        f"the first has right and {pair.second_alone} only the second. {scope}"
    ).rstrip()


def pictures_text(verdict: Verdict) -> str:
    """Return how many pictures there were, as in "600 pictures in 60 groups"."""
    pictures = f"{verdict.pictures:,} pictures"
    if verdict.groups is None:
        return pictures
    kept = " (copies are kept together)" if verdict.copies else ""
    return f"{pictures} in {verdict.groups:,} groups{kept}"


def measure_name(verdict: Verdict) -> str:
    """Return what the measure of a verdict is called for its kind of targets."""
    name = MEASURE_NAMES[verdict.measure]
    return accuracy_name(verdict.sets) if verdict.measure == "accuracy" else name


def measure_title(verdict: Verdict) -> str:
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
    if is_percent(measure):
        return f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f} points"
    return f"{difference.low:+.3g} to {difference.high:+.3g}"


def _winner(verdict: Verdict, folds: int | None) -> str:
    winner, repeats = verdict.winner, len(verdict.winner.run_ids)
    field = len(verdict.standings)
    first = "is the only candidate" if field == 1 else f"comes first of {field} candidates"
    if verdict.screened:
        first += f", chosen from {verdict.screened + field} trials on the same pictures"
    trained = "trained once" if repeats == 1 else f"the mean of {repeats} trainings"
    if folds is not None:
        trained = f"each when it was held out as one of {folds} folds"
        trained += "" if repeats == 1 else f", the mean of {repeats} repeats"
    figure, pictures = metric_text(verdict.measure, winner.figure), pictures_text(verdict)
    if measure_name(verdict) == "accuracy":
        return f"{winner.name} {first}: {figure} of {pictures} right, {trained}."
    name = measure_name(verdict)
    return f"{winner.name} {first} by {name}: {figure} on {pictures}, {trained}."


def _corrected(verdict: Verdict) -> str:
    winner, measure = verdict.winner, verdict.measure
    name = measure_name(verdict)
    ends = interval_text(winner.interval, measure).replace(" to ", " and ")
    chosen = len(verdict.standings) > 1 or verdict.screened > 0
    within = f"{ends} (95 % interval{', for all candidates at once' * chosen})"
    luck = winner.figure - verdict.corrected
    # Of losses less is better, Hamming loss among them, which is written in percent.
    if not chosen or (luck if verdict.higher_is_better else -luck) < _NOT_WORTH_SAYING:
        return f"Its true {name} lies between {within}."
    as_far = ", as far as so few trainings tell, " if verdict.unsteady else " "
    return (
        f"The first of many is partly first by luck: corrected for that"
        f"{as_far}its {name} is {metric_text(measure, verdict.corrected)}, and the true one lies "
        f"between {within}."
    )


def _unsteady(verdict: Verdict) -> str:
    """Return that intervals take more for granted than so few trainings show, where they do."""
    if not verdict.unsteady:
        return ""
    few = [one for one in verdict.standings if one.name in verdict.unsteady]
    have = "has" if len(few) == 1 else "have"
    subject = _which(few)
    if subject.startswith(_RANKED):
        subject = subject.capitalize()
    return (
        f"{subject} {have} too few trainings to show how far seeds move a result. The 95 % "
        "here hold if all candidates depend on seeds about alike; where some depend several times "
        "more, some 92 of 100 intervals do, and the corrected figure is too good."
    )


def _lone(verdict: Verdict) -> str:
    """Return that single pictures stand for whole classes, where they do."""
    if not verdict.lone:
        return ""
    of_labels = verdict.measure == "map"
    names = ("label", "labels") if of_labels else ("class", "classes")
    return (
        f"Of {counted(verdict.lone, *names)} there is a single picture"
        f"{' each' * (verdict.lone > 1)}: how far such a figure is off can only be taken from the "
        "others, so that no interval and no tie here is promised with 95 %: of 100 differences "
        "some 91 are within theirs."
    )


def _collapsed(verdict: Verdict, found: Collapses) -> str:
    some = "One training" if found.trainings == 1 else f"{found.trainings} trainings"
    names = [one for one in verdict.standings if one.name in found.names]
    follows = ""
    if found.winner is not None:
        follows = (
            f"; counted as often as they come, the mean accuracy of trainings of "
            f"{verdict.winner.name} lies between "
            f"{str(found.winner).replace(' to ', ' and ')}"
        )
    share = "one" if found.trainings == 1 else "ones"
    return (
        f"{some} of {found.among} collapsed, to {percent(found.accuracy)} ({_which(names)}): "
        f"all figures leave the collapsed {share} out, and of trainings like these "
        f"{found.share} are to be expected to collapse{follows}. Look at the result of a training "
        "before it is used, and repeat one that collapsed."
    )


def _tied(verdict: Verdict) -> str:
    others = [one for one in verdict.tied if one.name != verdict.winner.name]
    if not others:
        return "It is better than every other candidate, with 95 % confidence for all at once."
    return (
        f"It cannot be told from {_which(others)}: with 95 % confidence the truly best is one of "
        f"these {len(verdict.tied)}."
    )


def _chances(verdict: Verdict) -> str:
    if len(verdict.tied) == 1:
        return ""
    winner, measure = verdict.winner, verdict.measure
    equal = ""
    if verdict.band > 0:
        equal = (
            f", and with {chance_text(winner.equal)} within "
            f"{size_text(measure, verdict.band)} of the best, which counts as equal"
        )
    return (
        f"It is the best with a probability of {chance_text(winner.best)}{equal}; choosing it is "
        f"expected to lose {size_text(measure, winner.loss, 2)} to the best."
    )


def _difference(verdict: Verdict) -> str:
    if verdict.difference is None:
        return ""
    measure = verdict.measure
    ahead = abs(verdict.standings[0].figure - verdict.standings[1].figure)
    measured = f"It is {size_text(measure, ahead)} ahead" if ahead else "The two are level"
    low, _, high = difference_text(verdict.difference, measure).partition(" to ")
    return f"{measured}; the true difference lies between {low} and {high} (95 % interval)."


def _choice(verdict: Verdict) -> str:
    cheapest = verdict.cheapest
    if cheapest is None or len(verdict.tied) == 1:
        return ""
    if cheapest.name == verdict.winner.name:
        return "None of them costs a third less."
    less = f"{cheapest.name} costs at least a third less"
    if cheapest.name == verdict.choice.name:
        return f"{less} and is within one standard error of it."
    behind = size_text(verdict.measure, abs(verdict.winner.figure - cheapest.figure))
    near = (
        "none does" if verdict.choice.name == verdict.winner.name else f"{verdict.choice.name} does"
    )
    return f"{less} and is {behind} behind; within one standard error of the winner {near}."


def _need(verdict: Verdict) -> str:
    power = verdict.power
    if power is None or len(verdict.tied) == 1:
        return ""
    measure = verdict.measure
    gap, smallest = size_text(measure, power.gap), size_text(measure, power.smallest_gap)
    now = (
        f"If one of the best two were {gap} better, this comparison would show it with a "
        f"probability of {percent(power.probability, 0)}, and one of {smallest} four times out of "
        "five"
    )
    if power.probability >= 0.8:
        return f"{now}."
    repeats = f" and {power.repeats} repeats of each" if power.repeats > 1 else ""
    if power.pictures is None:
        return f"{now}; no number of pictures{repeats} shows {gap} so often."
    return f"{now}; {gap} need some {_rounded(power.pictures):,} pictures{repeats} for that."


def _seeds(verdict: Verdict) -> str:
    chance = verdict.decided_by_seeds
    if chance is None:
        return ""
    if chance < _NEVER:
        return "No number of further seeds would tell them apart: that takes more pictures."
    return (
        "Further seeds on the same pictures, however many, would tell it from another of them with "
        f"a probability of {percent(chance, 0)}."
    )


def _looks(verdict: Verdict) -> str:
    if verdict.look == 1:
        return ""
    return (
        f"These trainings have been judged {verdict.look} times, with further seeds each time; "
        "what is said with 95 % confidence allows for that."
    )


def _about(verdict: Verdict, folds: int | None) -> str:
    if not verdict.of_configurations:
        return (
            f"Without repeats to judge by, all of this is about {_TRAININGS[folds is not None]}: "
            "what the same configurations give with other seeds is not known."
        )
    if verdict.borrowed:
        borrowed = [one for one in verdict.standings if one.name in verdict.borrowed]
        return (
            f"{_ONCE[folds is not None]}: {_which(borrowed)}; what another seed would "
            "change there is judged by the candidates with repeats."
        )
    return ""


def _which(standings: Sequence[Standing]) -> str:
    """Their names, or where there are too many to read their ranks."""
    names = [one.name for one in standings]
    if len(names) <= _NAMED_AT_MOST and sum(map(len, names)) <= _LETTERS_AT_MOST:
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
    return f"{_RANKED} {_listed(spans)}"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def _rounded(count: int) -> int:
    """To two digits, as a forecast of this kind has no more."""
    step = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
