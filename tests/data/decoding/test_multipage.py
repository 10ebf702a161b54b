"""Files of several pages or frames, each a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_files import PictureFile, read_header
from src.data.decoding.picture_format import PictureFormat
from src.data.sources.source import Source
from tests.data.decoding.test_rasters import BANDS, HEIGHT, WIDTH, values
from tests.data.pictures import data_of, encoded, opened, png, write


def test_pages_become_pictures_of_one_group(tmp_path: Path) -> None:
    stacks = {}
    for number in range(12):
        pages = np.stack([values(100 * number + page, np.uint16) for page in range(3)])
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            for page in pages:
                writer.write(page, photometric="minisblack", planarconfig="contig", metadata=None)
        path = f"{'ab'[number % 2]}/{number:02}.tif"
        write(tmp_path / "set" / path, stream.getvalue())
        stacks[path] = pages
    first = data_of(tmp_path / "set")
    assert len(first.pictures) == 12
    data = data_of(tmp_path / "set", "data.pages=all")
    pictures, names = data.pictures, data.pictures.sample_paths
    assert len(pictures) == 36 and names is not None and pictures.groups is not None
    assert len(np.unique(pictures.content_hashes)) == 36
    assert pictures.format.value_range == (0, 255)
    for index, name in enumerate(names):
        path, _, number = name.partition("#")
        expected = stacks[path][int(number) - 1].transpose(2, 0, 1)
        np.testing.assert_allclose(pictures.read(index), expected, rtol=1e-6)
        assert pictures.groups[index] == path
    parts = {
        path: {data.split.parts[names.index(f"{path}#{n}")] for n in (1, 2, 3)} for path in stacks
    }
    assert all(len(one) == 1 for one in parts.values())


@pytest.mark.parametrize("big", [False, True])
def test_pages_that_a_cut_file_has_lost_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], big: bool
) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, bigtiff=big, byteorder="<" if big else ">") as writer:
        for page in range(4):
            writer.write(values(page, np.uint8)[..., :3], photometric="rgb", contiguous=False)
    stream.seek(0)
    with tifffile.TiffFile(stream) as whole:
        ends = [page.offset for page in whole.pages][1:]
    for number, name in enumerate("abab"):
        write(tmp_path / "set" / name / f"{number}.tif", stream.getvalue())
    write(tmp_path / "set" / "a" / "cut.tif", stream.getvalue()[: ends[1]])  # between two pages
    with pytest.raises(ConfigError, match=r"1 of 19 pictures .*: a/cut\.tif#3 is cut short"):
        opened(tmp_path / "set", tmp_path / "cache", pages="all")
    store = opened(tmp_path / "set", tmp_path / "cache", pages="all", on_bad_image="skip")
    assert store.sample_paths is not None and len(store) == 4 * 4 + 2
    cut = [name for name in store.sample_paths if "cut" in name]
    assert cut == ["a/cut.tif#1", "a/cut.tif#2"]
    assert "tifffile" not in capfd.readouterr().err


def test_frames_of_an_animation_are_pages(tmp_path: Path) -> None:
    for number, kind in enumerate(("GIF", "WEBP", "PNG", "GIF")):
        frames = [Image.new("RGB", (16, 12), (60 * page, 9 * number, 7)) for page in range(4)]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.{kind.lower()}", data)
    write(tmp_path / "set" / "a" / "alone.png", png(0))
    store = opened(tmp_path / "set", tmp_path / "cache", pages="all")
    assert store.sample_paths is not None and len(store) == 17
    for index, name in enumerate(store.sample_paths):
        if name != "a/alone.png":
            red = store.read(index)[0]
            assert np.abs(red - 60.0 * (int(name[-1]) - 1)).max() <= 4


def test_files_of_many_pages_are_read_and_opened_once_for_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = dict.fromkeys(("files", "Pillow", "TIFF"), 0)

    def counted(name: str, function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return function(*given, **named)

        return call

    monkeypatch.setattr(Source, "open", counted("files", Source.open))
    monkeypatch.setattr(Image, "open", counted("Pillow", Image.open))
    monkeypatch.setattr(tifffile, "TiffFile", counted("TIFF", tifffile.TiffFile))
    found = {}
    for pages in (3, 40):
        for label in "ab":
            for kind, bands in ((np.uint16, 1), (np.uint8, 1), (np.uint8, BANDS)):
                folder = tmp_path / f"{pages}" / f"{kind.__name__} {bands}" / label
                stack = np.stack(
                    [values(ord(label) * 99 + n, kind, 200, bands) for n in range(pages)]
                )
                options = {"photometric": "minisblack", "planarconfig": "contig"}
                stream = io.BytesIO()
                with tifffile.TiffWriter(stream) as writer:
                    for page in stack if bands > 1 else stack[..., 0]:
                        writer.write(page, metadata=None, compression="zlib", **options)
                write(folder / "0.tif", stream.getvalue())
        for folder in sorted((tmp_path / f"{pages}").iterdir()):
            counts.update(dict.fromkeys(counts, 0))
            cache = tmp_path / "cache" / f"{pages} {folder.name}"
            store = opened(folder, cache, pages="all", num_workers=1)
            assert len(store) == 2 * pages and store.images is not None
            found[pages, folder.name] = dict(counts)
            assert store.sample_paths is not None
            for index in range(0, len(store), 7):
                path, _, number = store.sample_paths[index].partition("#")
                alone = decode_picture(folder / path, store.format, page=int(number) - 1)
                np.testing.assert_array_equal(store.images[index], alone)
    for (pages, name), one in found.items():
        assert one == found[3, name], (pages, name)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_frames_are_the_same_after_others_and_alone(kind: str) -> None:
    rng = np.random.default_rng(3)
    frames = []
    for number in range(12):
        frame = Image.fromarray(values(2, bands=3)).convert("RGBA")
        spot = Image.fromarray(rng.integers(0, 256, (4, 5, 4), np.uint8), "RGBA")
        frame.paste(spot, (number % 9, number % 7))
        frames.append(frame)
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "GIF": {"disposal": 2}}.get(kind, {})
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    file = PictureFile(io.BytesIO(data))
    form = PictureFormat((HEIGHT, WIDTH), 3)
    for page in (0, 1, 2, 4, 5, 5, 11, 3, 4):
        read_header(file, page)
        kept, alone = (decode_picture(one, form, page=page) for one in (file, data))
        np.testing.assert_array_equal(kept, alone)
