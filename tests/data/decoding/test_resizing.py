from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.data.decoding import resizing
from src.data.decoding.resizing import fitted, resized_by_numpy, resized_pixels
from src.machine.subprocesses import ROOT

sides = st.integers(1, 300)
# Torch's code for processors without vector instructions; and what NumPy does where torch was not
# imported. Both print the sum of what they made.
_COUNTED = """
import zlib, sys
import numpy as np
from src.data.decoding.resizing import resized_pixels
{first}
found = 0
for old, new, extent in {cases}:
    random = np.random.default_rng(7)
    picture = random.integers(0, 256, (*old, 3)).astype(np.uint8)
    made = np.ascontiguousarray(resized_pixels(picture, new, extent))
    found = zlib.crc32(made.tobytes(), found)
assert ("torch" in sys.modules) == {torch}
print(found)
"""
CASES = [
    ((400, 600), (224, 224), None),
    ((30, 20), (64, 64), None),
    ((90, 70), (11, 1), None),
    ((90, 70), (1, 11), None),
    ((90, 1), (30, 20), None),
    ((1, 90), (20, 30), None),
    ((300, 375), (100, 100), (299.25, 374.125)),
    ((300, 375), (100, 100), (300, 374.5)),
]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, channels)).astype(np.uint8)


@given(old=st.tuples(sides, sides), new=st.tuples(sides, sides), channels=st.integers(1, 4))
def test_numpy_and_torch_make_the_same_bytes(
    old: tuple[int, int], new: tuple[int, int], channels: int
) -> None:
    picture = noise(*old, channels)
    picture[::3] = np.where(picture[::3] > 127, 255, 0)  # where results are cut off
    made = resized_pixels(picture, new)
    assert made.shape == (*new, channels) and made.dtype == np.uint8
    np.testing.assert_array_equal(resized_by_numpy(picture, new), made)


@given(
    old=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    cut=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    new=st.tuples(st.integers(1, 10), st.integers(1, 10)),
)
def test_so_they_do_of_pictures_whose_last_pixels_are_cut(
    old: tuple[int, int], cut: tuple[int, int], new: tuple[int, int]
) -> None:
    picture, extent = noise(*old), (old[0] - cut[0] / 8, old[1] - cut[1] / 8)
    made = resized_pixels(picture, new, extent)
    assert made.shape == (*new, 3)
    np.testing.assert_array_equal(resized_by_numpy(picture, new, extent), made)


def test_sums_that_single_precision_would_round_are_exact() -> None:
    picture = noise(300, 2000, seed=7)
    small = resized_pixels(picture, (300, 110))
    np.testing.assert_array_equal(resized_by_numpy(picture, (300, 110)), small)
    tall, narrow = picture.swapaxes(0, 1).copy(), small.swapaxes(0, 1)
    np.testing.assert_array_equal(resized_by_numpy(tall, (110, 300)), narrow)


def test_bytes_are_the_same_on_other_processors_and_without_torch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exec(_COUNTED.format(first="import torch", cases=CASES, torch=True), {})  # on this one
    found = {capsys.readouterr().out}
    for first, capability in (("import torch", "default"), ("", "")):
        code = _COUNTED.format(first=first, cases=CASES, torch=bool(first))
        environment = os.environ | ({"ATEN_CPU_CAPABILITY": capability} if capability else {})
        run = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(run.stdout)
    assert len(found) == 1


@given(old=st.tuples(sides, sides), new=st.tuples(sides, sides))
def test_floats_and_pillow_make_nearly_the_same(old: tuple[int, int], new: tuple[int, int]) -> None:
    # Away from black and white: what overshoots is cut off after each of the two passes.
    picture = noise(*old) // 2 + 64
    made = resized_pixels(picture, new).astype(int)
    if new[1] > 1:  # of a single column torch makes all rows alike
        planes = torch.from_numpy(picture).permute(2, 0, 1)[None].double()
        exact = torch.nn.functional.interpolate(planes, new, mode="bicubic", antialias=True)
        assert np.abs(made - exact[0].permute(1, 2, 0).numpy()).max() <= 1.6
    theirs = np.asarray(Image.fromarray(picture).resize(new[::-1], Image.Resampling.BICUBIC))
    assert np.abs(made - theirs).max() <= 2


@given(old=st.tuples(sides, sides), new=st.tuples(sides, sides), value=st.integers(0, 255))
def test_one_colour_stays_one(old: tuple[int, int], new: tuple[int, int], value: int) -> None:
    picture = np.full((*old, 3), value, np.uint8)
    assert (resized_pixels(picture, new) == value).all()


def test_an_extent_ends_inside_the_last_pixel() -> None:
    # Of a photo of 806 pixels that was decoded at an eighth, 100.75 are taken.
    ramp = np.arange(101, dtype=np.uint8)[None, :, None].repeat(101, axis=0)
    made = resized_pixels(ramp, (20, 20), (101, 100.75))[10, :, 0]
    centers = (np.arange(20) + 0.5) * 100.75 / 20 - 0.5
    assert np.abs(made[2:-2] - centers[2:-2]).max() <= 0.51


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("extent", [None, (119.5, 79.25)])
def test_strips_make_what_the_whole_makes(
    mode: str, extent: tuple[float, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(noise(120, 80)).convert(mode)
    whole = resized_pixels(np.array(image).reshape(120, 80, -1), (30, 20), extent)
    for pixels in (79, 80, 1000, 80 * 120):
        monkeypatch.setattr(resizing, "_STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(resized_pixels(image, (30, 20), extent), whole)


def test_a_large_photo_takes_no_copy_of_itself() -> None:
    code = (
        "import resource\n"
        "import numpy as np\n"
        "from PIL import Image\n"
        "from src.data.decoding.resizing import resized_pixels\n"
        "image = Image.new('RGB', (8000, 8000), 'red')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "made = resized_pixels(image, (224, 224))\n"
        "assert (made == (255, 0, 0)).all()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 100_000, "kilobytes; the photo has 192 MB"


@given(
    old=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    new=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(["squeeze", "crop", "pad"]),
)
def test_every_fit_fills_the_array(old: tuple[int, int], new: tuple[int, int], fit: str) -> None:
    picture = np.full((*old, 3), 200, np.uint8)
    made = fitted(picture, new, fit, fill=128)
    assert made.shape == (*new, 3)
    if fit == "pad":
        rows, columns = ((made == 200).all(axis=2).any(axis=axis).sum() for axis in (1, 0))
        assert (made == 200).sum() == 3 * rows * columns and rows * columns > 0
        assert rows == new[0] or columns == new[1]
        scale = min(new[0] / old[0], new[1] / old[1])
        assert abs(rows - scale * old[0]) < 1 and abs(columns - scale * old[1]) < 1
        made = np.where(made == 128, 200, made)
    assert (made == 200).all()
    made = fitted(picture, new, fit, fill=128)
    image = Image.fromarray(picture)
    np.testing.assert_array_equal(fitted(image, new, fit, fill=128), made)


def test_torch_is_what_resizes_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "torch" in sys.modules and torch.__version__
    asked: list[tuple[int, int]] = []
    own = resizing._resized_by_torch
    noted = lambda pixels, size, extent: (asked.append(size), own(pixels, size, extent))[1]  # noqa: E731
    monkeypatch.setattr(resizing, "_resized_by_torch", noted)
    resized_pixels(noise(20, 20), (10, 10))
    assert asked == [(10, 10)]
