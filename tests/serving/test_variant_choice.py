from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from src.serving.variant_choice import (
    fastest_within,
    largest_difference,
    pictures_timed,
    speedups,
    times_in_turns,
)

LOGITS = arrays(np.float32, (7, 4), elements=st.floats(-50, 50, width=32))


@given(LOGITS, LOGITS)
def test_the_largest_difference_is_that_of_all_logits(
    reference: np.ndarray, logits: np.ndarray
) -> None:
    rows = zip(reference.tolist(), logits.tolist())
    wanted = max(abs(x - y) for a, b in rows for x, y in zip(a, b))
    assert largest_difference(reference, logits) == pytest.approx(wanted)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_differs_infinitely(bad: float) -> None:
    reference = np.eye(4, dtype=np.float32)
    logits = reference.copy()
    logits[2, 2] = bad
    assert largest_difference(reference, logits) == np.inf


@pytest.mark.parametrize("shape", [(3, 4), (4, 5), (4,), (0, 4)])
def test_what_does_not_compare_is_refused(shape: tuple[int, ...]) -> None:
    reference = np.zeros((0, 4) if shape == (0, 4) else (4, 4))
    with pytest.raises(ValueError, match="do not compare"):
        largest_difference(reference, np.zeros(shape))


def test_the_fastest_that_agrees_is_taken_and_else_the_original() -> None:
    seconds = {"original": 3.0, "exact": 2.0, "rough": 1.0}
    equal = {"original": 1.0, "exact": 0.999, "rough": 0.99}
    assert fastest_within(seconds, equal, 0.999, "original") == "exact"
    assert fastest_within(seconds, equal, 0.99, "original") == "rough"
    assert fastest_within(seconds, equal, 0.9995, "original") == "original"
    assert fastest_within(seconds | {"exact": 4.0}, equal, 0.999, "original") == "original"


def test_everyone_has_a_turn_in_every_round_and_another_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    said: list[str] = []

    def call(name: str, seconds: float) -> None:
        clock[0] += seconds
        if not said or said[-1] != name:
            said.append(name)

    calls = {name: (lambda n=name, s=s: call(n, s)) for name, s in (("a", 0.01), ("b", 0.03))}
    seconds = times_in_turns(calls, 3)
    assert seconds == {"a": pytest.approx([0.01] * 3), "b": pytest.approx([0.03] * 3)}
    # Once each to see how often, then: a b, b a, a b.
    assert said == ["a", "b", "a", "b", "a", "b"]
    assert speedups(seconds["b"], seconds["a"]) == pytest.approx([3.0] * 3)


def test_a_long_timing_says_how_much_of_it_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    for name in ("perf_counter", "monotonic"):
        monkeypatch.setattr(f"time.{name}", lambda: clock[0])

    def call() -> None:
        clock[0] += 6.0

    with caplog.at_level("INFO"):
        times_in_turns({"a": call, "b": call}, 4)
    assert caplog.messages == [f"{n} of 4 rounds timed, {48 - 12 * n} s left" for n in (1, 2, 3)]


@pytest.mark.parametrize(("size", "turn"), [(50, 1), (49, 4), (1, 4)])
def test_the_pictures_of_a_timing_are_counted_before_it(
    size: int, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of half a second or more is a turn by itself."""
    clock, calls = [0.0], 0
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def call() -> None:
        nonlocal calls
        calls += 1
        clock[0] += 0.01 * size

    times_in_turns({"one": call}, 7)
    assert calls == 2 + 7 * turn
    assert pictures_timed(0.01, [size], 7) == size * calls
    assert pictures_timed(0.01, [size, 64], 7) == size * calls + 64 * (2 + 7)
