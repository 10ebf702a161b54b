from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from src.search import samplers
from src.search.samplers import check_sampler
from src.search.study import SweepStudy
from src.search.study_trials import StudySubset
from tests.search.studies import CHOICES, CONDITIONS, NUMBERS, family, plan, proposals, run

# Each sampler with a space that it takes.
SPACES = {
    "tpe": CONDITIONS,
    "gp": CONDITIONS,
    "random": CONDITIONS,
    "cmaes": NUMBERS,
    "grid": CHOICES,
    "qmc": NUMBERS,
    "nsga2": CONDITIONS,
}


@pytest.mark.parametrize("sampler", SPACES)
def test_every_sampler_proposes_and_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, sampler: str
) -> None:
    one = plan(family(SPACES[sampler]), sampler=sampler)
    check_sampler(sampler, one.families, 1)
    whole = proposals(tmp_path / "whole", one, 6)
    assert len(whole) == 6
    assert len({repr(values) for values in whole}) >= 5, "it proposes the same again and again"
    assert proposals(tmp_path / "interrupted", one, 1, 3, 2) == whole
    other = proposals(tmp_path / "seed", plan(*one.families, sampler=sampler, seed=1), 3)
    assert other != whole[:3]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "nsga2"])
def test_families_race_with_their_own_keys(tmp_path: Path, sampler: str) -> None:
    families = family(CONDITIONS, "cnn"), family(NUMBERS, "mlp")
    tried = proposals(tmp_path, plan(*families, sampler=sampler), 12)
    assert {values["family"] for values in tried} == {"cnn", "mlp"}
    for values in tried:
        keys = values.keys() - {"family", "momentum"}
        assert keys == ({"optimizer", "rate"} if values["family"] == "cnn" else {"a", "b"})


@pytest.mark.parametrize("names", [("mlp",), ("mlp", "cnn")])
def test_what_is_drawn_before_there_is_enough_to_learn_from_is_what_tpe_draws(
    tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = plan(*(family(CONDITIONS, one) for one in names), sampler="tpe", startup_trials=6)
    found = proposals(tmp_path / "own", space, 9)
    monkeypatch.setattr(samplers, "Counter", _Enough)  # so that TPE itself draws from the start
    assert proposals(tmp_path / "tpe", space, 9) == found


class _Enough(Counter[str | None]):
    def __missing__(self, key: str | None) -> int:
        return 100


@pytest.mark.parametrize("names", [("mlp",), ("mlp", "cnn")])
def test_what_an_attempt_reported_that_was_begun_anew_teaches_nothing(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """The proposals are those of a study in which there was no such attempt."""
    space = plan(*(family(NUMBERS, name) for name in names), sampler="tpe", startup_trials=1)

    def proposed(folder: Path, abandoned: bool) -> list[Any]:
        with SweepStudy(folder, space) as study:
            for number in range(12):
                trial = study.ask()
                assert trial is not None
                if abandoned and number % 3:  # the better, the worse they really are
                    study.report(trial.number, 9, 1.0 - 0.05 * number)
                    study.begin_anew(trial.number)
                study.report(trial.number, 1, 0.05 * number)
                study.pruned(trial.number, "it loses")
            found = [study.ask() for _ in range(4)]
            return [(one.family, one.values) for one in found if one is not None]

    assert proposed(tmp_path / "abandoned", True) == proposed(tmp_path / "whole", False)


def noted_reads(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """A list that grows by the numbers of the trials that a sampler may read, at each draw."""
    read: list[list[int]] = []

    class Noted(StudySubset):
        def __init__(self, study: Any, trials: Any, sampler: Any = None) -> None:
            read.append([trial.number for trial in trials()])
            super().__init__(study, trials, sampler)

    monkeypatch.setattr(samplers, "StudySubset", Noted)
    return read


def test_of_many_running_trials_the_latest_are_read_with_all_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "_RUNNING_READ", 3)
    read = noted_reads(monkeypatch)
    ended = [2, 7, 11]
    families = family(NUMBERS, "cnn"), family(NUMBERS, "mlp")
    with SweepStudy(tmp_path, plan(*families, sampler="tpe")) as study:
        asked = [study.ask() for _ in range(15)]
        for number in ended:
            study.complete(number, [0.5])
        read.clear()
        last = study.ask()
    assert last is not None
    for found, group in zip(read, (None, last.family), strict=True):
        own = [one.number for one in asked if one is not None and group in (None, one.family)]
        running = [number for number in own if number not in ended]
        assert found == sorted([*running[-3:], *(n for n in ended if n in own)])


@pytest.mark.parametrize("names", [("cnn", "mlp"), ("mlp",)])
def test_in_a_long_study_the_best_and_the_latest_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(samplers, "_MOST_READ", 12)
    monkeypatch.setattr(samplers, "_BEST_READ", 4)
    read = noted_reads(monkeypatch)
    one = plan(*(family(NUMBERS, name) for name in names), sampler="tpe")
    whole = proposals(tmp_path / "whole", one, 40)
    with SweepStudy(tmp_path / "whole", one) as study:
        tried = study.trials()
        read.clear()
        last = study.ask()
    assert last is not None
    for found, group in zip(read, (None, last.family)):
        own = [trial for trial in tried if group in (None, trial.family)]
        by_value = sorted(own, key=lambda trial: (-(trial.objectives or (0.0,))[0], trial.number))
        best, latest = ([one.number for one in some] for some in (by_value[:4], own[-8:]))
        assert found == (sorted({*best, *latest}) if len(own) > 12 else [o.number for o in own])
    assert len(read) == len(names)
    assert proposals(tmp_path / "interrupted", one, 25, 15) == whole


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random", "grid", "qmc"])
def test_several_objectives(tmp_path: Path, sampler: str) -> None:
    one = plan(family(SPACES[sampler]), sampler=sampler, directions=["maximize", "minimize"])
    check_sampler(sampler, one.families, 2)
    assert len(proposals(tmp_path, one, 3, 5)) == 8


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_what_learns_comes_closer_than_chance(tmp_path: Path, sampler: str) -> None:
    def best(name: str) -> float:
        one = plan(family(NUMBERS), sampler=name, startup_trials=5)
        with SweepStudy(tmp_path / name, one) as study:
            return max(trial.objectives[0] for trial in run(study, 40) if trial.objectives)

    assert best(sampler) > best("random")


def test_generations_are_of_one_family_and_become_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents: list[set[str]] = []

    class Noted(samplers.samplers.NSGAIISampler):
        def get_parent_population(self, study: Any, generation: int) -> list[Any]:
            found: list[Any] = super().get_parent_population(study, generation)
            if generation:
                parents.append({trial.params["family"] for trial in found})
            return found

    monkeypatch.setattr(samplers.samplers, "NSGAIISampler", Noted)
    families = family(NUMBERS, "cnn"), family(NUMBERS, "mlp")
    one = plan(*families, sampler="nsga2", startup_trials=16, directions=["maximize", "maximize"])
    with SweepStudy(tmp_path, one) as study:
        values = [(trial.objectives or (0.0,))[0] for trial in run(study, 80)]
    assert sum(values[-20:]) > 1.5 * sum(values[:20])
    assert {len(found) for found in parents} == {1}, "parents are of no family, or of two"
    assert set().union(*parents) == {"cnn", "mlp"}


def test_a_grid_is_tried_once_with_the_default_in_front_and_is_over_then(tmp_path: Path) -> None:
    one = plan(family(CHOICES), sampler="grid")
    with SweepStudy(tmp_path, one) as study:
        study.enqueue("mlp", {"a": "y", "b": 0.5})
    tried = proposals(tmp_path, one, 4, 100)
    assert (tried[0]["a"], tried[0]["b"]) == ("y", 0.5)
    assert sorted((values["a"], values["b"]) for values in tried) == [
        (a, b) for a in "xyz" for b in (0.0, 0.5, 1.0)
    ]
    assert proposals(tmp_path, one, 100) == tried


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_where_floats_are_drawn_nobody_looks_for_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    """Which of ten thousand trials has some values takes longer to find than to propose others."""
    looked: list[int] = []
    found = samplers.Proposer._tried

    def counted(self: Any, *args: Any) -> Any:
        looked.append(1)
        return found(self, *args)

    monkeypatch.setattr(samplers.Proposer, "_tried", counted)
    families = family(CONDITIONS, "cnn"), family(NUMBERS, "mlp")
    assert len(proposals(tmp_path / "floats", plan(*families, sampler=sampler), 12)) == 12
    assert not looked
    proposals(tmp_path / "choices", plan(family(CHOICES), sampler=sampler), 3)
    assert looked


@pytest.mark.parametrize(
    ("sampler", "spaces", "objectives", "message"),
    [
        ("cmaes", [CONDITIONS], 1, "takes a single family whose keys have no conditions"),
        ("qmc", [CONDITIONS], 1, "takes a single family whose keys have no conditions"),
        ("grid", [CONDITIONS], 1, "takes a single family whose keys have no conditions"),
        ("grid", [CHOICES, CHOICES], 1, "takes a single family"),
        ("grid", [NUMBERS], 1, "sampler=grid needs choices or a step for a, a range of floats"),
        ("cmaes", [CHOICES], 1, "sampler=cmaes takes numbers only, and a is none"),
        ("qmc", [{}], 1, "sampler=qmc has nothing to choose: no key is searched"),
        ("gp", [NUMBERS], 2, "sampler=gp takes one metric: set sampler=tpe"),
        ("cmaes", [NUMBERS], 2, "sampler=cmaes takes one metric"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused(
    sampler: str, spaces: list[dict[str, Any]], objectives: int, message: str
) -> None:
    families = [family(space, f"f{i}") for i, space in enumerate(spaces)]
    with pytest.raises(ValueError, match=message):
        check_sampler(sampler, families, objectives)
