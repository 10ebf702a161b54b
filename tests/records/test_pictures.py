from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from src.records.pictures import Guess, GuessSample, Suspect, write_suspects


def sample_of(probabilities: list[float], limit: int = 30) -> GuessSample:
    sample = GuessSample(["cat", "dog"], limit)
    for index, probability in enumerate(probabilities):
        sample.add(Guess(probability, f"/pictures/{index}.jpg", "cat"))
    return sample


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.99]) | st.floats(0, 1), max_size=60))
def test_the_least_certain_are_the_least_certain_and_the_others_are_not(
    probabilities: list[float],
) -> None:
    sample = sample_of(probabilities, limit=5)
    unsure, others = sample.least_certain, sample.others
    guesses = [Guess(p, f"/pictures/{i}.jpg", "cat") for i, p in enumerate(probabilities)]
    assert [g.probability for g in unsure] == sorted(probabilities)[:5]
    assert len(others) == max(0, min(5, len(guesses) - 5))
    assert set(unsure) | set(others) <= set(guesses)
    assert not set(unsure) & set(others)
    assert others == sorted(others)
    assert sample.count == len(guesses)


def test_the_sample_depends_on_the_pictures_and_not_on_their_order() -> None:
    rng = np.random.default_rng(0)
    guesses = [Guess(float(p), f"{i}.jpg", "cat") for i, p in enumerate(rng.random(500))]
    shown = []
    for order in (range(500), rng.permutation(500)):
        sample = GuessSample(["cat"])
        for index in order:
            sample.add(guesses[index])
        shown.append((sample.least_certain, sample.others))
    assert shown[0] == shown[1]
    # A fair sample: not the beginning of the folder, and of the whole range above the unsure ones.
    indices = sorted(int(g.path.split(".")[0]) for g in shown[0][1])
    assert indices[0] < 100 and indices[-1] > 400
    assert 0.4 < np.mean([g.probability for g in shown[0][1]]) < 0.65


@given(st.integers(0, 70), st.integers(0, 7))
def test_a_few_are_the_least_certain_and_some_of_all_the_others(count: int, odd: int) -> None:
    sample = sample_of([i / 100 for i in range(count)])
    few = sample.few(limit=24 + odd)
    assert len(few) == len(set(few)) == min(24 + odd, count)
    assert few == sorted(few) and few[:12] == sample.least_certain[:12]
    if len(sample.others) == 30:
        drawn = [sample.others.index(guess) for guess in few if guess in sample.others]
        assert len(drawn) >= 12 and drawn[0] < 3 and drawn[-1] > 24


def test_the_table_reads_back(tmp_path: Path) -> None:
    suspects = [
        Suspect("test", 7, 'a, "b"/ü.png', "cat", "near-duplicate", 0.98765, "dog", "c/d.png"),
        Suspect("train", 1, None, "dog", "dark", 0.5),
    ]
    write_suspects(tmp_path / "suspects.csv", suspects)
    with (tmp_path / "suspects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "part", "index", "path", "label", "kind", "score", "suggested_label", "like",
    ]  # fmt: skip
    first = ["test", "7", 'a, "b"/ü.png', "cat", "near-duplicate", "0.9877", "dog", "c/d.png"]
    assert list(rows[0].values()) == first
    assert list(rows[1].values()) == ["train", "1", "", "dog", "dark", "0.5000", "", ""]
