"""Which of many pictures come onto the list of those to label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src.machine.arrays import UInt8Array
from src.runs.finished import shortlist
from src.runs.finished.shortlist import Shortlist

SCENES, SHOTS = 30, 50
PICTURES = np.random.default_rng(0).integers(0, 256, (SCENES, 3, 40, 40)).astype(np.uint8)


def shown(path: str) -> UInt8Array:
    """A scene, a little lighter with each shot of it."""
    scene, _, shot = Path(path).stem.partition("_")
    lighter = PICTURES[int(scene)] * 0.9 + int(shot or 0) / SHOTS
    return lighter.astype(np.uint8)


def test_a_burst_of_the_least_certain_pictures_leaves_the_others_their_places() -> None:
    found: Shortlist[None] = Shortlist(5)
    for scene in range(SCENES):
        for shot in range(SHOTS):  # whole scenes come before the next ones
            found.add(f"{scene}_{shot}.png", 1 - scene / SCENES - shot / 1e6, None)
    chosen = found.chosen(shown)
    assert [one.path for one in chosen] == [f"{scene}_0.png" for scene in range(5)]


def test_of_a_long_file_the_least_certain_page_is_on_the_list_beside_other_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortlist, "_AT_LEAST", 8)
    found: Shortlist[int] = Shortlist(2)
    for scene in range(4):
        for page in range(20):
            uncertainty = 0.9 - scene / 10 - abs(page - 13) / 1000
            found.add(f"{scene}.tif#{page + 1}", uncertainty, page)
    chosen = found.chosen(lambda path: shown(path.partition("#")[0]))
    assert [(one.path, one.answer) for one in chosen] == [("0.tif#14", 13), ("1.tif#14", 13)]
    assert [str(one.file) for one in chosen] == ["0.tif", "1.tif"]


def test_where_even_the_kept_ones_are_alike_it_does_not_say_that_there_are_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortlist, "_AT_LEAST", 8)
    few: Shortlist[None] = Shortlist(3)
    many: Shortlist[None] = Shortlist(3)
    for shot in range(20):
        for one in (few, many)[shot >= 4 :]:
            one.add(f"0_{shot}.png", 0.9, None)
    one_of_few, one_of_many = few.chosen(shown), many.chosen(shown)
    assert len(one_of_few) == len(one_of_many) == 1
    assert "label_next=3 is more than there are" in few.remarks(one_of_few)[0]
    assert "The 12 least certain ones" in many.remarks(one_of_many)[0]
    assert not many.remarks(one_of_many * 3)


def test_pictures_unlike_the_training_pictures_come_after_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortlist, "_AT_LEAST", 8)
    found: Shortlist[None] = Shortlist(17)
    for scene in range(SCENES):  # the less certain half
        unlike = scene % 2 == 0
        found.add(f"{scene}.png", 0.9 if unlike else scene / 100, None, unlike=unlike)
    chosen = found.chosen(shown)
    assert [one.path for one in chosen[:15]] == [f"{scene}.png" for scene in range(29, 0, -2)]
    assert [one.familiar for one in chosen] == [True] * 15 + [False] * 2
    (remark,) = found.remarks(chosen)
    assert "15 of 30, 2 of them named. They come after" in remark


def test_where_most_are_unlike_the_training_pictures_they_count_as_all_others() -> None:
    found: Shortlist[None] = Shortlist(SCENES)
    for scene in range(SCENES):
        found.add(f"{scene}.png", scene / 100, None, unlike=scene % 3 != 0)
    chosen = found.chosen(shown)
    assert [one.path for one in chosen] == [f"{scene}.png" for scene in reversed(range(SCENES))]
    (remark,) = found.remarks(chosen)
    assert "20 of 30, 20 of them named" in remark and "after" not in remark


@pytest.mark.parametrize("count", [10, 37])
def test_equally_certain_pictures_are_taken_from_all_over(count: int) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1000, 3, 32, 32)).astype(np.uint8)
    found: Shortlist[None] = Shortlist(count)
    for place in range(1000):
        found.add(f"{place}.png", 0.0, None)
    places = sorted(one.place for one in found.chosen(lambda path: pixels[int(Path(path).stem)]))
    gaps = np.diff([0, *places, 1000])
    assert len(places) == count and gaps.max() < 3 * 1000 / count
