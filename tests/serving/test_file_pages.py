"""Pages of files with several pictures, read in order and out of order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.data.sources.source import Problem
from src.serving import file_pages
from src.serving.file_pages import Page, page_of
from src.serving.predictor import Labelled, Predictor


def light(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    share = images.mean(axis=(1, 2, 3)) / 255
    return np.stack([share, 1 - share], axis=1).astype(np.float32)


@pytest.fixture
def predictor() -> Predictor:
    metadata = {"class_names": ["light", "dark"], "image_size": [8, 8], "channels": 1}
    return Predictor(light, metadata | {"settings": {"data": {"pages": "all"}}}, batch_size=3)


def write(file: Path, levels: list[int]) -> Path:
    first, *others = [Image.fromarray(np.full((8, 8), one, np.uint8)) for one in levels]
    first.save(file, save_all=True, append_images=others)
    return file


def levels_of(predictor: Predictor, some: list[Path | Page]) -> list[int]:
    found = []
    for item in predictor.label(some):
        assert isinstance(item, Labelled)
        shares = dict(zip(item.labels, item.probabilities, strict=True))
        found.append(round(255 * shares["light"]))
    return found


@pytest.mark.parametrize("kind", ["tif", "gif"])
def test_a_file_is_opened_once_for_all_its_pages(
    kind: str, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = list(range(0, 250, 25))
    first, second = (write(tmp_path / f"{n}.{kind}", levels[n:]) for n in (0, 1))
    some = [*predictor.pages_in(first), *predictor.pages_in(second)]
    assert [str(page) for page in some[9:11]] == [f"{first}#10", f"{second}#1"]
    opened = []
    real = file_pages.PictureFile
    monkeypatch.setattr(file_pages, "PictureFile", lambda s: opened.append(s) or real(s))
    assert levels_of(predictor, some) == [*levels, *levels[1:]]
    assert len(opened) == 2 and all(stream.closed for stream in opened)
    assert levels_of(predictor, some[::-1]) == [*levels, *levels[1:]][::-1]


def test_a_file_that_was_replaced_is_read_anew(predictor: Predictor, tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", [10, 20, 30])
    some = predictor.pages_in(file)
    assert levels_of(predictor, some[:2]) == [10, 20], "and the third is never asked for"
    write(tmp_path / "b.tif", [40, 50, 60]).replace(file)
    assert levels_of(predictor, some) == [40, 50, 60]
    assert levels_of(predictor, [some[2], some[0], Page(file, 1)]) == [60, 40, 50]


def test_a_damaged_page_is_named_and_the_others_are_read(
    predictor: Predictor, tmp_path: Path
) -> None:
    file = write(tmp_path / "a.tif", [10, 20, 30])
    some = predictor.pages_in(file)
    some[1] = Page(file, 7, followed=True)
    found = list(predictor.label(some))
    assert isinstance(found[1], Problem) and f"{file}#8" in str(found[1])
    assert isinstance(found[0], Labelled) and isinstance(found[2], Labelled)
    assert round(255 * dict(zip(found[2].labels, found[2].probabilities))["light"]) == 30
    assert predictor.pages_in(tmp_path / "none.tif") == [tmp_path / "none.tif"]


def test_what_a_page_is_called_leads_back_to_it(tmp_path: Path) -> None:
    file = tmp_path / "stack #1.tif"
    assert page_of(str(Page(file, 2))) == Page(file, 2)
    assert page_of(str(file)) == file
    odd = tmp_path / "photo#3"  # a file's own name
    odd.touch()
    assert page_of(str(odd)) == odd
