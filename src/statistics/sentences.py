"""The verdict in plain words that a statistician would sign."""

from __future__ import annotations

from collections.abc import Sequence

from src.statistics.verdict import Standing, Verdict

__all__ = ["sentences_of"]

# A longer list of names helps nobody: the leaderboard has them all, by rank.
_NAMED_AT_MOST, _LETTERS_AT_MOST = 5, 120
# Half of the last digit that is shown.
_NOT_WORTH_SAYING = 0.0005
_TRAININGS = ("the trained networks", "these folds and trainings")
_ONCE = ("Trained once", "Cross-validated once")


def sentences_of(verdict: Verdict, folds: int | None = None) -> tuple[str, ...]:
    """Winner, doubt, choice, need for data, and what all of it is about, a sentence or two each.

    Args:
        verdict: on the candidates.
        folds: of the cross-validations that it is about; None where it is about trained networks.
    """
    said = [_winner(verdict, folds), _corrected(verdict)]
    if len(verdict.standings) > 1:
        said += [_tied(verdict), _difference(verdict, folds), _choice(verdict), _need(verdict)]
    return tuple(
        sentence for sentence in (*said, _seeds(verdict), _about(verdict, folds)) if sentence
    )


def _winner(verdict: Verdict, folds: int | None) -> str:
    winner, repeats = verdict.winner, len(verdict.winner.run_ids)
    field = len(verdict.standings)
    first = "is the only candidate" if field == 1 else f"comes first of {field} candidates"
    trained = "trained once" if repeats == 1 else f"the mean of {repeats} trainings"
    if folds is not None:
        trained = f"each when it was held out as one of {folds} folds"
        trained += "" if repeats == 1 else f", the mean of {repeats} repeats"
    return (
        f"{winner.name} {first}: {_percent(winner.accuracy)} of {verdict.pictures:,} pictures "
        f"right, {trained}."
    )


def _corrected(verdict: Verdict) -> str:
    winner = verdict.winner
    within = f"{100 * winner.interval.low:.1f} and {_percent(winner.interval.high)} (95 % interval)"
    if winner.accuracy - verdict.winner_accuracy < _NOT_WORTH_SAYING:
        return f"Its true accuracy lies between {within}."
    return (
        f"The first of many is partly first by luck: corrected for that its accuracy is "
        f"{_percent(verdict.winner_accuracy)}, and the true one lies between {within}."
    )


def _tied(verdict: Verdict) -> str:
    others = [one for one in verdict.tied if one.name != verdict.winner.name]
    if not others:
        return "It is better than every other candidate, with 95 % confidence for all at once."
    return (
        f"It cannot be told from {_which(others)}: with 95 % confidence the truly best is one of "
        f"these {len(verdict.tied)}."
    )


def _difference(verdict: Verdict, folds: int | None) -> str:
    # Of two cross-validations the folds themselves tell (see `folds`).
    if verdict.difference is None or folds is not None:
        return ""
    ahead = verdict.standings[0].accuracy - verdict.standings[1].accuracy
    measured = f"It is {100 * ahead:.1f} points ahead" if ahead else "The two are level"
    return (
        f"{measured}; the true difference lies between "
        f"{100 * verdict.difference.low:.1f} and {100 * verdict.difference.high:.1f} points "
        "(95 % interval)."
    )


def _choice(verdict: Verdict) -> str:
    cheapest = verdict.cheapest
    if cheapest is None or len(verdict.tied) == 1:
        return ""
    if cheapest.name == verdict.winner.name:
        return "It is also the cheapest of them."
    if cheapest.name == verdict.choice.name:
        return f"The cheapest of them is {cheapest.name}, within one standard error of it."
    behind = 100 * (verdict.winner.accuracy - cheapest.accuracy)
    near = verdict.choice.name
    if near == verdict.winner.name:
        near = f"{near} itself"
    return (
        f"The cheapest of them is {cheapest.name}, {behind:.1f} points behind; of those within one "
        f"standard error of the winner it is {near}."
    )


def _need(verdict: Verdict) -> str:
    enough = verdict.enough
    if enough is None or len(verdict.tied) == 1:
        return ""
    reach = (
        f"With the pictures and repeats there are, a difference of "
        f"{100 * enough.smallest_gap:.1f} points between the best two would be found four times "
        "out of five"
    )
    if enough.pictures is None:
        return f"{reach}; on these pictures they are level."
    repeats = f" and {enough.repeats} repeats of each" if enough.repeats > 1 else ""
    return (
        f"{reach}; theirs is {100 * enough.gap:.2f} points, and if that is the true one, some "
        f"{_rounded(enough.pictures):,} pictures{repeats} are needed to find it."
    )


def _seeds(verdict: Verdict) -> str:
    if verdict.seed_share is None or verdict.seed_share <= 0.5:
        return ""
    return (
        f"Seeds make most of what is unsure about {verdict.winner.name} "
        f"({100 * verdict.seed_share:.0f} %): more repeats would tell more than more pictures."
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
    return f"those ranked {_listed(spans)}"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _rounded(count: int) -> int:
    """To two digits, as a forecast of this kind has no more."""
    step = 10 ** max(0, len(str(count)) - 2)
    return -(-count // step) * step
