"""Masks of a predictor: resized strip by strip, within memory, in the order of the pictures."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.data.decoding.mask_files import LEFT_OUT
from src.data.decoding.picture_format import PictureFormat
from src.data.sources.source import Problem
from src.serving.masks import PredictedMask, class_shares, masks_of, predicted_masks, restored
from src.serving.predictor import Predictor
from tests.data.pictures import encoded

ROOT = Path(__file__).resolve().parents[2]
METADATA = {
    "class_names": ["ground", "crack", "edge"],
    "image_size": [16, 16],
    "channels": 1,
    "settings": {"data": {"target": "dense"}},
}


def by_thirds(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities that are highest for the third of 0 to 255 that a pixel is in."""
    light = images[:, 0].astype(np.float32)
    return np.stack([1 / (1 + abs(light - middle)) for middle in (0, 128, 255)], axis=1)


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "PNG")


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad", "windows"])
@pytest.mark.parametrize("size", [(97, 53), (9, 7), (16, 16), (31, 200)], ids=str)
def test_strips_are_those_of_the_whole(
    fit: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    form = PictureFormat((16, 16), 1, fit)
    shape = form.array_size(size) if fit == "windows" else (16, 16)
    probs = np.random.default_rng(0).dirichlet([1] * 4, shape).astype(np.float32)
    probs = np.ascontiguousarray(probs.transpose(2, 0, 1))
    whole = restored(probs, size, form)
    if fit == "squeeze":
        planes = [
            np.asarray(Image.fromarray(p).resize(size[::-1], Image.Resampling.BILINEAR))
            for p in probs
        ]
        np.testing.assert_array_equal(whole, np.argmax(planes, axis=0))
    for pixels in (1, 150, 1000):
        monkeypatch.setattr("src.serving.masks._STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(restored(probs, size, form), whole)
    assert (whole == LEFT_OUT).any() == (fit == "crop" and size != (16, 16))


@pytest.mark.parametrize("fit", ["squeeze", "crop", "pad", "windows"])
def test_what_is_added_to_a_picture_leaves_its_uncertainty_as_it_is(
    fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((7, 40), 200, np.uint8)).save(tmp_path / "flat.png")

    def unsure_of_padding(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        picture = images[:, 0] == 200
        return np.stack(
            [np.where(picture, 0.7, 0.5), np.where(picture, 0.2, 0.5), 0.1 * picture], 1
        )

    predictor = Predictor(unsure_of_padding, METADATA | {"fit": fit})
    for pixels in (50, 1_000_000):
        monkeypatch.setattr("src.serving.masks._STRIP_PIXELS", pixels)
        (found,) = predicted_masks(predictor, [tmp_path / "flat.png"])
        assert isinstance(found, PredictedMask) and found.uncertainty == pytest.approx(0.5)


def test_what_cannot_be_read_is_named_among_the_masks_of_others(tmp_path: Path) -> None:
    levels = [0, 130, 250, 120, 3, 255, 127, 9, 240, 131, 0]
    rows: list[object] = [png(np.full((20, 30), level, np.uint8)) for level in levels]
    files = [tmp_path / f"{index}.png" for index in range(len(rows))]
    for file, row in zip(files, rows, strict=True):
        file.write_bytes(row if isinstance(row, bytes) else b"")
    files[9].write_bytes(b"no picture")
    predictor = Predictor(by_thirds, METADATA)
    found = list(predicted_masks(predictor, files))
    assert isinstance(found[9], Problem) and str(files[9]) in str(found[9])
    expected = [0, 1, 2, 1, 0, 2, 1, 0, 2, None, 0]
    for one, file, label in zip(found, files, expected, strict=True):
        if label is not None:
            assert isinstance(one, PredictedMask) and one.path == str(file)
            assert one.classes.shape == (20, 30) and (one.classes == label).all()
    answers = masks_of(predictor, [*rows[:9], b"no picture", "no base64!"])
    assert [int(next(answers)[0, 0]) for _ in range(9)] == expected[:9]
    with pytest.raises(ValueError, match="the picture in row 9 is no picture"):
        next(answers)


def test_masks_alone_compute_no_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    def unexpected(*_: object) -> float:
        raise AssertionError("nobody reads it")

    monkeypatch.setattr("src.serving.masks.mask_uncertainty", unexpected)
    (mask,) = masks_of(Predictor(by_thirds, METADATA), [png(np.full((20, 30), 130, np.uint8))])
    assert (mask == 1).all()


def test_shares_leave_out_what_was_not_seen() -> None:
    mask = np.array([[0, 0, 2], [LEFT_OUT, 2, 2]], np.uint8)
    np.testing.assert_array_equal(class_shares(mask, 3), [0.4, 0.0, 0.6])
    assert class_shares(np.full((2, 2), LEFT_OUT, np.uint8), 3).sum() == 0


def test_threads_do_not_keep_several_large_pictures_at_once() -> None:
    running = most = expected = 0
    lock, together = threading.Lock(), threading.Event()

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                together.set()
        together.wait(30 if expected == 3 else 0.1)
        with lock:
            running -= 1
        return by_thirds(images)

    # 306 values are said to be kept of each pixel: 1.2 GB of a picture.
    predictor = Predictor(classify, METADATA | {"fit": "windows"}, maps=100)
    for side, expected in ((1000, 1), (30, 3)):
        most, row = 0, png(np.zeros((side, side), np.uint8))
        ask = partial(lambda rows: list(masks_of(predictor, rows)), [row])
        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        assert most == expected


HOSTILE = """
import io, resource, threading
import numpy as np
from PIL import Image
from src.serving.masks import class_shares, masks_of
from src.serving.predictor import Predictor

stream = io.BytesIO()
Image.new("L", (6300, 6300)).save(stream, "PNG", compress_level=1)  # 39.7 megapixels
metadata = {"class_names": ["a", "b"], "image_size": [8, 8], "channels": 3}
predictor = Predictor(
    lambda images: np.full((len(images), 2, 8, 8), 0.5, np.float32),
    metadata | {"settings": {"data": {"target": "dense"}}},
)
def ask():
    for mask in masks_of(predictor, [stream.getvalue()]):
        assert mask.shape == (6300, 6300)
        class_shares(mask, 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
asking = [threading.Thread(target=ask) for _ in range(4)]
for thread in asking:
    thread.start()
for thread in asking:
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")
def test_memory_stays_bounded_where_threads_ask_for_masks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # KiB: a picture that is decoded, 5 bytes a pixel, and of each thread a mask.
    assert int(done.stdout) < 600_000
