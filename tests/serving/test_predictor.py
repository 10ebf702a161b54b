from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_format import PictureFormat
from src.serving.inputs import check_request
from src.serving.predictor import DamagedModel, Labelled, Predictor
from tests.data.pictures import claiming, encoded

ROOT = Path(__file__).resolve().parents[2]
METADATA = {"class_names": ["dark", "light"], "image_size": [8, 8], "channels": 3}


def by_light(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    light = images.mean(axis=(1, 2, 3), dtype=np.float32) / 255
    return np.stack([1 - light, light], axis=1)


def png(width: int, height: int, grey: int = 0) -> bytes:
    return encoded(Image.new("L", (width, height), grey), "PNG")


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(by_light, METADATA, batch_size=4)


def test_large_and_small_pictures_are_answered_in_their_order(
    predictor: Predictor, tmp_path: Path
) -> None:
    levels = [0, 255, 30, 200, 90, 255]
    sizes = [5, 3000, 8, 3100, 2, 9]  # those of nine megapixels are decoded apart
    rows = [png(size, size, level) for size, level in zip(sizes, levels, strict=True)]
    probs = predictor.answer(rows)
    np.testing.assert_allclose(probs[:, 1], np.array(levels) / 255, atol=1e-6)
    files = []
    for index, row in enumerate([*rows, b"text"]):
        files.append(tmp_path / f"{index}.png")
        files[-1].write_bytes(row)
    *labelled, problem = predictor.label(files, top_k=1)
    assert [one.path for one in labelled] == [str(file) for file in files[:-1]]
    assert [one.labels[0] for one in labelled if isinstance(one, Labelled)] == [
        "light" if level > 127 else "dark" for level in levels
    ]
    assert "is no picture" in str(problem)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_fork_answers_after_its_parent_has() -> None:
    """As processes of a pool do, which have the model from a variable and none of its threads."""

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch.tanh(torch.zeros(1_000_000))  # by all threads
        return by_light(images)

    threads, predictor = torch.get_num_threads(), Predictor(classify, METADATA)
    torch.set_num_threads(2)
    try:
        predictor.answer([png(3000, 3000), png(8, 8)])  # the larger one by a thread that stays
        if not (child := os.fork()):
            try:
                predictor.answer([png(3000, 3000), png(8, 8)])
                os._exit(7)
            finally:
                os._exit(1)
        late = threading.Timer(120, os.kill, (child, signal.SIGKILL))
        late.start()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        late.cancel()
    finally:
        torch.set_num_threads(threads)


def test_what_waits_behind_a_picture_that_is_none_is_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = []

    def watched(data: bytes, form: PictureFormat) -> NDArray[np.uint8]:
        decoded.append(data)
        return decode_picture(data, form)

    monkeypatch.setattr("src.serving.predictor.decode_picture", watched)
    predictor = Predictor(by_light, METADATA, batch_size=60)
    with pytest.raises(ValueError, match="row 0 is no picture"):
        predictor.answer([b"none", *[png(3000, 3000)] * 50])
    assert len(predictor.answer([png(3000, 3000)])) == 1
    assert len(decoded) < 45, "and not 52"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_answers_that_are_no_numbers_are_refused(number: float, tmp_path: Path) -> None:
    def damaged(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        probs = by_light(images)
        probs[-1, 1] = number
        return probs

    predictor = Predictor(damaged, METADATA)
    (tmp_path / "a.png").write_bytes(png(8, 8))
    with pytest.raises(DamagedModel, match="no number"):
        predictor.answer([png(8, 8)])
    with pytest.raises(DamagedModel, match="no number"):
        list(predictor.label([tmp_path / "a.png"]))


def test_a_request_may_not_ask_too_much(predictor: Predictor) -> None:
    small, large = png(8, 8), claiming(7000, 7000)
    with pytest.raises(ValueError, match=r"row 1 has 49 megapixels; the limit is 40"):
        predictor.judge([small, large], None)
    with pytest.raises(ValueError, match="ask for at most 2,000 at once"):
        predictor.judge([small] * 2001, None)
    with pytest.raises(ValueError, match="megapixels; the limit for a request is 2,000"):
        predictor.judge([claiming(6000, 6000)] * 60, None)
    with pytest.raises(ValueError, match="at most 256 MB at once"):
        predictor.judge(["A" * 1_000_000] * 300, None)
    with pytest.raises(ValueError, match="at most 256 MB at once"):
        predictor.judge([memoryview(np.zeros((10, 10_000_000), np.uint8))] * 3, None)
    with pytest.raises(ValueError, match="have 432 megapixels; the limit for a request is 400"):
        check_request([claiming(6000, 6000)] * 12, masks=True)


def test_a_photo_may_have_100_megapixels_and_not_more(predictor: Predictor) -> None:
    data = encoded(Image.new("L", (8, 8)), "JPEG")
    at = data.index(b"\xff\xc0") + 5  # height and width in the header of a frame
    check_request([data[:at] + struct.pack(">HH", 9900, 9900) + data[at + 4 :]])
    with pytest.raises(ValueError, match="row 0 has 101 megapixels; the limit is 100"):
        predictor.judge([data[:at] + struct.pack(">HH", 10_100, 10_000) + data[at + 4 :]], None)


def in_lists(height: int, width: int) -> list[list[int]]:
    return [[0] * width] * height


def of_objects(height: int, width: int) -> NDArray[np.object_]:
    rows = np.empty(height, object)
    rows[:] = [np.zeros((width, 3), np.uint8)] * height
    return rows


@pytest.mark.parametrize(
    "value",
    [
        np.broadcast_to(np.uint8(0), (7000, 7000)),
        np.broadcast_to(np.uint8(0), (7000, 7000, 3)),
        np.broadcast_to(np.uint8(0), (700, 700, 300)),
        in_lists(7000, 7000),
        of_objects(7000, 7000),
    ],
    ids=["grey", "colour", "bands", "lists", "objects"],
)
def test_arrays_count_by_their_shape(predictor: Predictor, value: object) -> None:
    with pytest.raises(ValueError, match=r"row 0 has 49 megapixels; the limit is 40"):
        predictor.judge([value], None)
    with pytest.raises(ValueError, match="MB in one request are too many: ask for at most 256 MB"):
        predictor.judge([value] * 6, None)


def test_ordinary_arrays_are_answered(predictor: Predictor) -> None:
    rows = [np.zeros((9, 9, 3), np.uint8), in_lists(9, 9), of_objects(9, 9)]
    assert len(predictor.judge(rows, None)[0]) == 3


@pytest.mark.parametrize(
    ("classes", "scale", "most"), [(3, 1.0, 39), (30, 1.0, 10), (30, 0.5, 31)], ids=str
)
def test_a_model_that_keeps_the_pixels_of_a_picture_takes_fewer_of_them(
    classes: int, scale: float, most: int
) -> None:
    metadata = {
        "class_names": [f"class {k}" for k in range(classes)],
        "image_size": [64, 64],
        "channels": 3,
        "fit": "windows",
        "scale": scale,
        "settings": {"data": {"target": "dense"}},
    }
    windowed = Predictor(lambda _: pytest.fail("nothing is answered"), metadata)
    assert 4 * windowed.values * most * 1e6 <= 1.5e9, "bytes"
    # A quarter, were it reduced.
    too_large = encoded(Image.new("L", (8000, (most + 1) * 125)), "JPEG")
    with pytest.raises(ValueError, match=f"{most + 1} megapixels; the limit is {most}"):
        windowed.judge([too_large], None)


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(2), nested(70), nested(900), [[10**400]], [[1], [2, 3]], [["a", "b"]], [[None]],
        [[[1] * 5] * 5] * 5, [], [[]], "A", "====", "\ud800", "é", {"b64": "AAAA"}, True, 1j,
        [[-1, 2]] * 9, [[1e308, 2]] * 9, np.zeros((9, 9, 3, 1)), np.zeros((9, 9), "M8[s]"),
        np.zeros((9, 9), complex), np.array([{}]), b"\x89PNG\r\n\x1a\n", b"GIF89a",
    ],
    ids=str,
)  # fmt: skip
def test_whatever_is_no_picture_is_named(predictor: Predictor, value: object) -> None:
    with pytest.raises(ValueError, match=r"^the picture in row 1 "):
        predictor.answer([png(8, 8), value])


def test_transparent_pictures_are_white_in_every_band(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for mode, channels in (("RGBA", 4), ("LA", 2)):
        values = rng.integers(0, 256, (23, 17, channels), np.uint8)
        picture = Image.fromarray(values, mode)
        for wanted in (1, 3):
            monkeypatch.setattr("src.data.decoding.decode._BAND_PIXELS", 10_000)
            whole = decode_picture(picture, PictureFormat((23, 17), wanted))
            monkeypatch.setattr("src.data.decoding.decode._BAND_PIXELS", 40)  # two lines
            bands = decode_picture(picture, PictureFormat((23, 17), wanted))
            np.testing.assert_array_equal(whole, bands)
        white = Image.new("RGBA", picture.size, "white")
        over = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        np.testing.assert_array_equal(whole, np.asarray(over).transpose(2, 0, 1))


HOSTILE = """
import io, resource, sys
import numpy as np
from PIL import Image
from src.serving.predictor import Predictor

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def png(mode, *size):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG", compress_level=1)
    return stream.getvalue()

predictor = Predictor(
    lambda images: np.full((len(images), 2), 0.5, np.float32),
    {"class_names": ["a", "b"], "image_size": [8, 8], "channels": 3},
)
for size in ((6000, 6000), (65_535, 610)):  # 36 and 40 megapixels
    assert predictor.judge([png("RGBA", *size)] * 8, None)[0].shape == (8, 2)
for picture, reason in (
    (png("1", 9900, 9900), "98 megapixels; the limit is 40"),
    (png("L", 1, 39_000_000), "the limit of a side is 65,535"),
    (np.zeros((1, 65_536, 3), np.uint8), "the limit of a side is 65,535"),
):
    try:
        predictor.judge([picture] * 8, None)
    except ValueError as error:
        assert reason in str(error), error
    else:
        raise SystemExit(f"accepted in spite of {reason}")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_stays_bounded_whatever_a_request_holds() -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, 2_000_000_000))

    done = subprocess.run(
        [sys.executable, "-c", HOSTILE],
        cwd=ROOT,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # KiB; four bytes a pixel twice, in what Pillow decodes to and what the model sees.
    assert int(done.stdout) < 700_000
