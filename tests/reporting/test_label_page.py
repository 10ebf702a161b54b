from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from src.records.pictures import LabelReview, Suspect
from src.reporting.label_page import label_page
from tests.reporting.pages import EVIL, WIDTHS, Visit, browser, faults, in_a_browser, visit

__all__ = ["browser", "visit"]  # fixtures


def review(count: int, label: str = "dress") -> LabelReview:
    suspects = tuple(
        Suspect(
            "val", i, f"/data/clothing/train/{label}/{i:04d}.jpg", label, "label", 0.9, "long skirt"
        )
        for i in range(count)
    )
    return LabelReview(suspects, 341, agreement=0.9)


def read(index: int) -> NDArray[np.uint8]:
    return np.full((3, 40, 30), index, np.uint8)


def test_every_picture_stands_beside_its_file_and_both_labels() -> None:
    page = label_page(review(3), read, ("/data/labels.csv", "train data.root=/data/labels.csv"))
    assert page.count("<figure>") == page.count('src="data:image/png;base64,') == 3
    for number in range(3):
        assert f">val: <bdi>dress</bdi>/<bdi>{number:04d}.jpg</bdi><" in page
        assert f'title="/data/clothing/train/dress/{number:04d}.jpg"' in page
    both = "<strong><bdi>dress</bdi></strong>, rather <strong><bdi>long skirt</bdi></strong>"
    assert page.count(both) == 3
    assert "data.root=/data/labels.csv</code>" in page
    assert "labels.csv" not in label_page(review(3), read, None)


def test_how_far_the_model_can_be_believed_is_said_before_its_suspects_are_shown() -> None:
    few = dataclasses.replace(review(3), agreement=0.4)
    page = label_page(few, read, None)
    assert 0 < page.index('class="caution"') < page.index("<figure>") and "40.0 %" in page
    assert "3 of them with a score of 0.9 or more" in page
    unsure = tuple(dataclasses.replace(one, score=0.89) for one in few.suspects)
    assert "none with a score" in label_page(dataclasses.replace(few, suspects=unsure), read, None)


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("label", ["dress", EVIL.replace("/", "")], ids=["plain", "evil"])
def test_every_width_and_scheme_can_be_read(visit: Visit, label: str, scheme: str) -> None:
    shown = review(7, label)
    page = visit(
        label_page(shown, read, ("/data/a folder/labels.csv", "train data.root=X")), scheme=scheme
    )
    for width in WIDTHS:
        assert faults(page, width) == []
    page.locator("#suspects button").first.click()
    assert page.locator("#suspects img").first.bounding_box()["width"] > 300  # type: ignore[index]


@pytest.mark.slow
@in_a_browser
def test_a_folder_from_right_to_left_stands_before_its_file(visit: Visit) -> None:
    page = visit(label_page(review(3, "שלום עולם"), read, None))
    for line in page.locator("figcaption .quiet").all():
        folder, file = (part.bounding_box() for part in line.locator("bdi").all())
        assert folder is not None and file is not None
        assert file["y"] > folder["y"] + 5 or file["x"] >= folder["x"] + folder["width"]
