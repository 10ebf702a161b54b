"""A byte flipped anywhere: no wrong answer comes without a word, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.faults import flip_bytes, own_cache
from benchmarks.recorded_world import World


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_flipped_byte_gives_a_wrong_answer_silently(tmp_path: Path) -> None:
    with own_cache(tmp_path / "cache"):
        world = World.made(tmp_path)
        tally = flip_bytes(world, 80, seed=3)
    assert tally.wrong == tally.crashed == tally.unnamed == []
    assert tally.counts["refused"] > 10 and tally.counts["said"] > 3
