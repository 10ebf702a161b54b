from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from src.search.samplers import check_sampler
from src.search.study import SweepStudy
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
        ("gp", [NUMBERS], 2, "sampler=gp takes one metric: say sampler=nsga2 or sampler=tpe"),
        ("cmaes", [NUMBERS], 2, "sampler=cmaes takes one metric"),
    ],
)
def test_what_a_sampler_cannot_do_is_refused(
    sampler: str, spaces: list[dict[str, Any]], objectives: int, message: str
) -> None:
    families = [family(space, f"f{i}") for i, space in enumerate(spaces)]
    with pytest.raises(ValueError, match=message):
        check_sampler(sampler, families, objectives)
