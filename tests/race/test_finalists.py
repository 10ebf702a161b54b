from __future__ import annotations

from src.race.finalists import FinalRecord


def test_the_first_seed_that_ended_well_is_the_one_to_measure() -> None:
    refits = {7: {3: {"value": 0.9}, 1: {"value": None}, 2: {"value": 0.8}}, 4: {1: {"value": 0.7}}}
    assert FinalRecord(refits, winner=7).winning_seed == 2
    assert FinalRecord(refits, winner=4).winning_seed == 1
    assert FinalRecord(refits).winning_seed is None
    assert FinalRecord({7: {1: {"value": None}}}, winner=7).winning_seed is None


def test_finalists_are_ranked_by_their_mean_and_those_without_one_come_last() -> None:
    refits = {
        1: {1: {"value": None}},
        2: {1: {"value": 0.8}, 2: {"value": 0.6}},
        3: {1: {"value": 0.75}},
    }
    record = FinalRecord(refits)
    assert [f.trial for f in record.ranked("maximize")] == [3, 2, 1]
    assert [f.trial for f in record.ranked("minimize")] == [2, 3, 1]
