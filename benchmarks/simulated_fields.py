"""Fields of candidates whose true accuracies are known.

Whether a training has a picture right is the sign of a sum of normal numbers: how good the
candidate is, how lucky its seed (another for each training, and some candidates depend more on it
than others), how difficult the picture is for everybody, for the family and for the candidate, and
what changes with each training. The true accuracy then is a value of the normal distribution.
Where nothing is repeated nobody can know of seeds, the verdict says so, and what it is held
against is the true accuracy of the trained networks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from src.statistics.candidates import Candidate
from src.statistics.screening import Screening

__all__ = [
    "BASE",
    "SETTINGS",
    "UNSTEADY",
    "Field",
    "Setting",
    "candidate_of",
    "drawn",
    "generator_of",
    "searched",
]

Floats = NDArray[np.float64]

_SEED = int(os.environ.get("SEED", "20261128"))
# Two classes as frequent as eight others: what a training that collapsed has right.
_COLLAPSED = 0.1


@dataclass(frozen=True)
class Setting:
    """What kinds of fields are drawn.

    Attributes:
        candidates: the fewest and the most.
        accuracy: the lowest and the highest centre of the true accuracies.
        gaps: standard deviations of the true accuracies, one of which is drawn; 0 for equal ones.
        ahead: how much better than all others the first one is.
        repeats: the fewest and the most of a candidate.
        mixed: the share of the fields whose candidates differ in their repeats.
        pictures: the fewest and the most.
        group: pictures of a group.
        together: of what makes a picture difficult, the share that its group has in common.
        seed_effect: median standard deviation of a training's skill, in those of one answer. At
            an accuracy of 90 %, 0.02 are 0.35 points.
        unequal: standard deviation of the logarithm of that effect among candidates.
        collapses: probability that a training collapses.
        level: whether all candidates but the first have as many right as it has.
    """

    candidates: tuple[int, int] = (2, 30)
    accuracy: tuple[float, float] = (0.6, 0.97)
    gaps: tuple[float, ...] = (0.0, 0.005, 0.03)
    ahead: float = 0.0
    repeats: tuple[int, int] = (1, 5)
    mixed: float = 0.5
    pictures: tuple[int, int] = (300, 5000)
    group: int = 1
    together: float = 0.9
    seed_effect: float = 0.02
    unequal: float = 0.3
    collapses: float = 0.0
    level: bool = False


@dataclass(frozen=True, eq=False)
class Field:
    """Candidates and what is true of them.

    Attributes:
        candidates: C of them.
        truth: (C,) accuracies that intervals should hold, of trainings that did not collapse.
        groups: (N,) of the pictures, or None.
        screening: what they were chosen from, or None.
        collapses: probability that a training collapses.
        luck: by how much the trainings of all candidates, or of all trials that a search chose
            from, have more right in the mean than is true of them. Its expectation is 0.
    """

    candidates: list[Candidate]
    truth: Floats
    groups: NDArray[np.int64] | None = None
    screening: Screening | None = None
    collapses: float = 0.0
    luck: float = 0.0

    @property
    def of_all(self) -> Floats:
        """(C,) mean accuracies of all trainings, those that collapse included."""
        return (1 - self.collapses) * self.truth + self.collapses * _COLLAPSED


def generator_of(setting: str, seed: int) -> np.random.Generator:
    """Return the generator of a field: of the setting's name, its number, and `SEED`."""
    return np.random.default_rng([_SEED, *setting.encode(), seed])


def drawn(setting: Setting, generator: np.random.Generator) -> Field:
    """Draw a field of that kind."""
    count = _between(setting.candidates, generator)
    pictures = _between(setting.pictures, generator)
    few, many = setting.repeats
    if generator.random() < setting.mixed:
        repeats = generator.integers(few, many + 1, count)
    else:
        repeats = np.full(count, generator.integers(few, many + 1))
    gaps = generator.choice(setting.gaps) * generator.standard_normal(count)
    gaps[0] += setting.ahead
    truth = np.clip(generator.uniform(*setting.accuracy) + gaps, 0.3, 0.995)
    answers = _answers(setting, truth, repeats, pictures, generator)
    if repeats.max() == 1:
        truth = np.array([float(own[1][0]) for own in answers])
    field = [candidate_of(f"c{index}", own) for index, (own, _) in enumerate(answers)]
    luck = float(np.mean([one.right.mean() for one in field] - truth))
    if setting.collapses:
        field = [_collapsed(one, setting.collapses, generator) for one in field]
    if setting.level:
        field = [_levelled(one, field[0], generator) for one in field]
    return Field(field, truth, _groups(setting, pictures), None, setting.collapses, luck)


def searched(
    setting: Setting, trials: int, finalists: int, seeds: int, generator: np.random.Generator
) -> Field:
    """Draw a search: trials by a single training, of which the best are trained again."""
    pictures = _between(setting.pictures, generator)
    gaps = generator.choice(setting.gaps) * generator.standard_normal(trials)
    # A search has its good trials close together, and a tail of bad ones.
    truth = np.clip(generator.uniform(*setting.accuracy) - np.abs(gaps), 0.3, 0.995)
    answers = _answers(setting, truth, np.full(trials, seeds + 1), pictures, generator)
    tried = [candidate_of(f"t{index}", own[:1]) for index, (own, _) in enumerate(answers)]
    order = np.argsort([-one.right.mean() for one in tried], kind="stable")[:finalists].tolist()
    field = [candidate_of(f"c{index}", answers[index][0][1:]) for index in order]
    known = truth[order]
    if seeds == 1:
        known = np.array([float(answers[index][1][1]) for index in order])
    screening = Screening(tried, {f"c{index}": index for index in order})
    luck = float(np.mean([one.right.mean() for one in tried] - truth))
    return Field(field, known, _groups(setting, pictures), screening, luck=luck)


def candidate_of(name: str, answers: NDArray[np.float32]) -> Candidate:
    """Return one that is right where (R, N) `answers` are above 0, with a log-loss to match."""
    losses = np.logaddexp(0, -2 * answers).mean(axis=1, dtype=np.float64)
    ids = tuple(f"{name}-{repeat}" for repeat in range(len(answers)))
    return Candidate(name=name, run_ids=ids, right=answers > 0, log_losses=losses)


def _answers(
    setting: Setting,
    truth: Floats,
    repeats: NDArray[np.int64],
    pictures: int,
    generator: np.random.Generator,
) -> list[tuple[NDArray[np.float32], Floats]]:
    """Return of each candidate (R, N) answers, right where above 0, and (R,) true accuracies."""
    count = len(truth)
    seed_effect = setting.seed_effect * np.exp(setting.unequal * generator.standard_normal(count))
    skill = norm.ppf(truth) * np.sqrt(1 + seed_effect**2)
    shared = generator.uniform(0.4, 0.8)
    parts = generator.dirichlet([2.0, 2.0, 4.0]) * (1 - shared)
    of_family, of_candidate, of_training = np.sqrt(parts).astype(np.float32)

    def noise(*shape: int) -> NDArray[np.float32]:
        """Standard normal numbers; within a group they go together."""
        own = generator.standard_normal((*shape, pictures), np.float32)
        if setting.group == 1:
            return own
        groups = -(-pictures // setting.group)
        common = generator.standard_normal((*shape, groups), np.float32)
        common = np.repeat(common, setting.group, axis=-1)[..., :pictures]
        return np.sqrt(np.float32(1 - setting.together)) * own + (
            np.sqrt(np.float32(setting.together)) * common
        )

    everybody = np.float32(np.sqrt(shared)) * noise()
    families = of_family * noise(1 + count // 4)
    found = []
    for index in range(count):
        luck = seed_effect[index] * generator.standard_normal(repeats[index])
        answers = everybody + families[generator.integers(len(families))]
        answers = answers + of_candidate * noise()
        answers = answers + of_training * noise(int(repeats[index]))
        answers = answers + (skill[index] + luck)[:, None].astype(np.float32)
        found.append((answers, norm.cdf(skill[index] + luck)))
    return found


def _collapsed(one: Candidate, share: float, generator: np.random.Generator) -> Candidate:
    right = one.right.copy()
    for row in np.flatnonzero(generator.random(len(right)) < share):
        right[row] = generator.random(right.shape[1]) < _COLLAPSED
    return Candidate(name=one.name, run_ids=one.run_ids, right=right, log_losses=one.log_losses)


def _levelled(one: Candidate, first: Candidate, generator: np.random.Generator) -> Candidate:
    """Turn as many answers as it takes to have as many right as the first."""
    right = one.right.copy()
    for row, like in zip(right, first.right):
        missing = int(like.sum()) - int(row.sum())
        turned = generator.permutation(np.flatnonzero(row != (missing > 0)))[: abs(missing)]
        row[turned] = missing > 0
    return Candidate(name=one.name, run_ids=one.run_ids, right=right, log_losses=one.log_losses)


def _groups(setting: Setting, pictures: int) -> NDArray[np.int64] | None:
    return None if setting.group == 1 else np.arange(pictures) // setting.group


def _between(ends: Sequence[int], generator: np.random.Generator) -> int:
    low, high = np.log(ends)
    return round(float(np.exp(generator.uniform(low, high))))


BASE = Setting(
    candidates=(5, 5), accuracy=(0.88, 0.88), gaps=(0.0,), repeats=(1, 1), pictures=(600, 600)
)


def _like_base(**changes: Any) -> Callable[[np.random.Generator], Field]:
    return partial(drawn, replace(BASE, **changes))


def _kinds(**changes: Any) -> Callable[[np.random.Generator], Field]:
    return partial(drawn, Setting(**changes))


def _search(trials: int, seeds: int = 3, **changes: Any) -> Callable[..., Field]:
    setting = replace(BASE, **{"gaps": (0.01, 0.03), **changes})

    def draw(generator: np.random.Generator) -> Field:
        return searched(setting, trials, 3, seeds, generator)

    return draw


# Few trainings of candidates of which some depend on seeds several times more than others: that
# is not to be seen, and the verdict says that it takes it not to be so.
UNSTEADY: dict[str, Callable[[np.random.Generator], Field]] = {
    "five with one or two seeds, unequally unstable": _like_base(
        repeats=(1, 2), mixed=1.0, seed_effect=0.06, unequal=0.8
    ),
    "five with one or two seeds, unequally unstable, by 1.8 points": _like_base(
        repeats=(1, 2), mixed=1.0, seed_effect=0.09, unequal=0.8
    ),
    "three with three seeds, unequally unstable": _like_base(
        candidates=(3, 3), repeats=(3, 3), mixed=0.0, seed_effect=0.06, unequal=0.8
    ),
}
# That the promises of a verdict are held against.
SETTINGS: dict[str, Callable[[np.random.Generator], Field]] = {
    "five equal candidates": _like_base(),
    "groups of ten, five candidates": _like_base(group=10),
    "groups of ten, thirty candidates": _like_base(group=10, candidates=(30, 30)),
    "one seed in ten collapses, three seeds": _like_base(repeats=(3, 3), collapses=0.1),
    "one seed in ten collapses, ten seeds": _like_base(repeats=(10, 10), collapses=0.1),
    "a search of 24 trials": _search(24),
    "a search of 100 trials": _search(100),
    "a search of 200 trials": _search(200),
    "a search of 24 trials, one seed each": _search(24, seeds=1),
    "a search of 24 trials, 1.8 points": _search(24, seed_effect=0.09),
    "a search of 24 trials, one seed each, 1.8 points": _search(24, seeds=1, seed_effect=0.09),
    "one or two seeds, 0.6 points": _like_base(repeats=(1, 2), mixed=1.0, seed_effect=0.03),
    "one or two seeds, 1.8 points": _like_base(repeats=(1, 2), mixed=1.0, seed_effect=0.09),
    "one or two seeds, 1.8 points, many pictures": _like_base(
        repeats=(1, 2), mixed=1.0, seed_effect=0.09, pictures=(3000, 3000)
    ),
    "level candidates": _like_base(level=True),
    "thirty equal candidates": _like_base(candidates=(30, 30)),
    "a hundred equal candidates": _like_base(candidates=(100, 100)),
    "two equal candidates": _like_base(candidates=(2, 2)),
    "two candidates 2.5 points apart": _like_base(candidates=(2, 2), ahead=0.025),
    "rare errors": _like_base(accuracy=(0.992, 0.992)),
    "all kinds of fields": _kinds(),
    "two repeats": _kinds(repeats=(2, 2), mixed=0.0),
    "few pictures": _kinds(pictures=(300, 600)),
    "unstable trainings": _kinds(seed_effect=0.06),
    "unstable, unequally so": _kinds(seed_effect=0.06, unequal=0.8),
    **UNSTEADY,
}
