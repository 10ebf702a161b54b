"""Which kinds of trials a study proposes, where not all of them may begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.search.samplers import Proposer
from src.search.space import Kind
from src.search.study import SweepStudy
from tests.search.studies import CHOICES, NUMBERS, family, plan


def test_families_that_are_left_out_are_not_proposed(tmp_path: Path) -> None:
    three = plan(*(family(NUMBERS, name) for name in ("mlp", "cnn", "fcn")))
    with SweepStudy(tmp_path, three) as study:
        study.enqueue("cnn", {"a": 0.5, "b": 7})
        others = [study.ask([Kind("mlp"), Kind("fcn")]) for _ in range(8)]
        found = [trial.family for trial in others if trial is not None]
        assert set(found) == {"mlp", "fcn"} and len(found) == 8
        assert all(trial is not None and trial.values for trial in others)
        study.enqueue("fcn", {"a": 0.25, "b": 6})
        turn = study.ask([Kind("fcn")])
        assert turn is not None and (turn.is_default, turn.values["a"]) == (True, 0.25)
        # What waits goes on waiting, and comes first where it fits.
        last = study.ask()
        assert last is not None and (last.family, last.values["b"]) == ("cnn", 7)
        assert len(study.trials()) == 10


@pytest.mark.parametrize("names", [("handcrafted", "cnn"), ("handcrafted",)])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_only_the_kinds_of_trials_that_may_begin_are_proposed(
    tmp_path: Path, names: tuple[str, ...], sampler: str
) -> None:
    space = {
        "kind": {"choices": ["auto", "slow", "fast"]},
        "reduced": {"when": {"kind": ["slow", "fast"]}, "choices": [True, False]},
        "strength": {"when": {"kind": "fast"}, "low": 0.0, "high": 1.0},
    }
    fast = [{"kind": "fast", "reduced": False}, {"kind": "fast", "reduced": True}]
    kinds = [Kind("handcrafted", values) for values in fast]
    with SweepStudy(tmp_path, plan(*(family(space, n) for n in names), sampler=sampler)) as study:
        study.enqueue("handcrafted", {"kind": "auto"})
        for _ in range(6):
            trial = study.ask(kinds)
            assert trial is not None and trial.family == "handcrafted" and not trial.is_default
            assert trial.values["kind"] == "fast" and 0 <= float(str(trial.values["strength"])) <= 1
            study.complete(trial.number, [0.5])
        assert {bool(trial.values["reduced"]) for trial in study.trials()} == {True, False}
        # What waits is tried once it may be, and then the sampler is free again.
        waited = study.ask([*kinds, Kind("handcrafted", {"kind": "auto"})])
        assert waited is not None and waited.is_default
        free = [study.ask([Kind(name) for name in names]) for _ in range(20)]
        assert {"slow", "auto"} & {trial.values["kind"] for trial in free if trial is not None}


def test_kinds_without_a_trial_come_first_and_then_the_best_has_every_second_turn(
    tmp_path: Path,
) -> None:
    space = {"kind": {"choices": ["x", "y", "z"]}, "b": {"low": 0.0, "high": 1.0}}
    kinds = [Kind("mlp", {"kind": "x"}), Kind("mlp", {"kind": "y"}), Kind("cnn", {"kind": "x"})]
    worth = {"x": 0.1, "y": 0.9}
    with SweepStudy(tmp_path, plan(family(space), family(space, "cnn"))) as study:
        found = []
        for _ in range(15):
            trial = study.ask(kinds)
            assert trial is not None
            found.append((trial.family, trial.values["kind"]))
            study.complete(trial.number, [worth[str(trial.values["kind"])]])
        assert found[:3] == [("mlp", "x"), ("mlp", "y"), ("cnn", "x")]
        assert set(found[3::2]) == {("mlp", "y")}
        assert {*found[4::2]} == {("mlp", "x"), ("mlp", "y"), ("cnn", "x")}


def test_a_kind_that_may_have_some_values_of_further_keys_gets_one_of_them(tmp_path: Path) -> None:
    space = {
        "kind": {"choices": ["x", "y"]},
        "of": {"choices": [["a"], ["b"], ["a", "b"]]},
        "width": {"when": {"of": [["a"], ["a", "b"]]}, "low": 1, "high": 5},
    }
    among = [{"of": ["a"], "width": 2}, {"of": ["a"], "width": 3}, {"of": ["b"]}]
    kinds = [Kind("mlp", {"kind": "y"}, among), Kind("cnn", {"kind": "x"})]
    with SweepStudy(tmp_path, plan(family(space), family(space, "cnn"))) as study:
        study.enqueue("mlp", {"kind": "y", "of": ["a"], "width": 3})
        study.enqueue("cnn", {"kind": "y", "of": ["b"]})
        asked = [trial for trial in (study.ask(kinds) for _ in range(16)) if trial is not None]
        # Each of them once, and of the other family all that there is: 5 widths twice, and one.
        assert [trial.is_default for trial in asked] == [True] + 13 * [False]
        found = [{**trial.values} for trial in asked if trial.family == "mlp"]
        assert len(found) == 3 and all({"kind": "y", **one} in found for one in among)


def test_a_proposal_that_is_of_no_kind_is_an_error_and_not_made_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SweepStudy(tmp_path, plan(family(CHOICES))) as study:
        begun = []

        def without_its_key(self: Proposer, kinds: object, tried: object) -> bool:
            begun.append(kinds)
            assert len(begun) < 5
            self.study.enqueue_trial({"mlp/b": 0.5}, user_attrs={"family": "mlp"})
            return True

        monkeypatch.setattr(Proposer, "prepare", without_its_key)
        with pytest.raises(RuntimeError, match="none of the kinds that may begin"):
            study.ask([Kind("mlp", {"a": "y"})])
        assert len(begun) == 1


def test_points_of_a_grid_wait_until_their_kind_may_begin(tmp_path: Path) -> None:
    with SweepStudy(tmp_path, plan(family(CHOICES), sampler="grid")) as study:
        asked = [study.ask([Kind("mlp", {"a": "y"})]) for _ in range(4)]
        values = [trial.values["a"] for trial in asked if trial is not None]
        assert values == ["y", "y", "y"] and asked[-1] is None
        rest = [study.ask() for _ in range(7)]
        assert {t.values["a"] for t in rest if t is not None} == {"x", "z"} and rest[-1] is None


@pytest.mark.parametrize("names", [("mlp", "cnn"), ("mlp",)])
def test_a_choice_that_leaves_nothing_else_to_choose_is_proposed_once(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """It is the best, so that TPE alone would propose it for ever. Then the next best leads."""
    space = {
        "kind": {"choices": ["auto", "x", "y", "z"]},
        "strength": {"when": {"kind": ["x", "y", "z"]}, "low": 0.0, "high": 1.0},
    }
    worth = {"auto": 0.9, "x": 0.1, "y": 0.8, "z": 0.2}
    with SweepStudy(tmp_path, plan(*(family(space, n) for n in names), sampler="tpe")) as study:
        study.enqueue("mlp", {"kind": "auto"})
        for _ in range(30):
            trial = study.ask()
            assert trial is not None
            study.complete(trial.number, [worth[str(trial.values["kind"])]])
        found = [t.values["kind"] for t in study.trials() if t.family == "mlp"]
        assert found.count("auto") == 1 and len(found) > 8
        assert found.count("y") > max(found.count("x"), found.count("z")) > 1
