from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.finished import PredictSettings
from src.data.sources.picture_paths import FoundPictures, find_pictures
from src.data.sources.source import Problem
from src.records.pictures import Pixels
from src.runs.finished.predict import label_pictures
from src.runs.finished.predict_masks import windowed_masks, write_masks
from src.serving.predictor import Predictor


def bands(images: Pixels) -> NDArray[np.float32]:
    """Three classes of brightness, each pixel by itself."""
    near = -np.abs(images.astype(np.float32) - np.array([40, 120, 220]).reshape(1, 3, 1, 1))
    found: NDArray[np.float32] = np.exp(near) / np.exp(near).sum(axis=1, keepdims=True)
    return found


def metadata_of(names: Sequence[str] = ("dark", "grey", "light")) -> dict[str, Any]:
    settings = {"data": {"target": "dense"}}
    return {"class_names": names, "channels": 1, "image_size": [16, 16], "settings": settings}


def answer_by_bands(monkeypatch: pytest.MonkeyPatch, *names: Sequence[str]) -> None:
    trained = SimpleNamespace(predictor=lambda _: Predictor(bands, metadata_of(*names)))
    monkeypatch.setattr("src.runs.candidates.choose.load_trained", lambda _: trained)


def test_large_pictures_are_answered_at_their_own_size(tmp_path: Path) -> None:
    sizes: list[tuple[int, ...]] = []

    def watched(images: Pixels) -> NDArray[np.float32]:
        sizes.append(images.shape[2:])
        return bands(images)

    pixels = np.random.default_rng(0).integers(0, 256, (50, 37)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    Image.fromarray(pixels[:9, :30]).save(tmp_path / "flat.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [tmp_path / name for name in ("large.png", "broken.png", "flat.png")]
    large, broken, flat = windowed_masks(Predictor(watched, metadata_of()), files)
    assert not isinstance(large, Problem) and not isinstance(flat, Problem)
    expected = bands(pixels[None, None]).argmax(axis=1)[0]
    np.testing.assert_array_equal(large.classes, expected)
    np.testing.assert_array_equal(flat.classes, expected[:9, :30])
    # Also of the one that is lower, as exported networks need it.
    assert isinstance(broken, Problem) and set(sizes) == {(16, 16)}


def test_windows_are_refused_where_pictures_have_labels(tmp_path: Path) -> None:
    overrides = ["run=some", f"images={tmp_path}", "windows=true"]
    settings = compose_settings(PredictSettings, overrides)
    with pytest.raises(ConfigError, match="windows"):
        label_pictures(tmp_path / "model", FoundPictures([], []), settings)


@pytest.mark.parametrize("key", ["top_k=2", "coverage=0.9", "explain=true"])
def test_what_is_about_whole_pictures_is_refused(tmp_path: Path, key: str) -> None:
    overrides = ["run=some", f"images={tmp_path}", key]
    settings = compose_settings(PredictSettings, overrides)
    with pytest.raises(ConfigError, match=rf"^{key.partition('=')[0]} is about whole pictures"):
        write_masks(tmp_path / "model", FoundPictures([], []), settings)


@pytest.mark.parametrize("out", ["file", os.devnull, "labels.csv"])
def test_masks_are_written_to_a_folder_alone(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    overrides = ["run=some", f"images={tmp_path}", f"out={tmp_path / out}"]
    settings = compose_settings(PredictSettings, overrides)
    with pytest.raises(ConfigError, match=r"^out is .*: masks are written to a folder"):
        write_masks(tmp_path / "model", FoundPictures([], []), settings)


@pytest.mark.parametrize("names", [("dark", "grey", "light"), ("path", "mask", "class path")])
def test_masks_of_an_earlier_call_do_not_stay_beside_the_new_table(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_by_bands(monkeypatch, names)
    files = [str(tmp_path / f"{name}.png") for name in "abc"]
    for number, file in enumerate(files):
        Image.fromarray(np.full((16, 16), 100 * number, np.uint8)).save(file)
    overrides = ["run=some", f"images={tmp_path}", f"out={tmp_path / 'new'}"]
    settings = compose_settings(PredictSettings, overrides)

    def written(*pictures: str) -> set[str]:
        write_masks(tmp_path / "model", FoundPictures([*pictures], []), settings)
        places = (tmp_path / "new" / kind for kind in ("masks", "overlays"))
        masks, overlays = ({file.name for file in place.iterdir()} for place in places)
        assert masks - {"own.png"} == overlays
        return masks

    assert written(*files[:2]) == {"a.png", "b.png"}
    (tmp_path / "new" / "masks" / "own.png").write_bytes(b"of somebody")
    assert written(*files[1:]) == {"b.png", "c.png", "own.png"}
    with (tmp_path / "new" / "shares.csv").open(newline="") as stream:
        (columns, first, _) = csv.reader(stream)
    assert len(set(columns)) == 5 and columns[:2] == ["path", "mask"]
    assert first[1] == "masks/b.png" and first[2:] == ["0.000000", "1.000000", "0.000000"]
    # Nor are they pictures for a call that writes elsewhere.
    elsewhere = dataclasses.replace(settings, out=str(tmp_path / "more"))
    assert write_masks(tmp_path / "model", find_pictures(str(tmp_path)), elsewhere).startswith(
        "3 masks"
    )


def test_every_picture_has_a_mask_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_by_bands(monkeypatch)
    names = ("a.png", "a.gif", "a.png.bmp", "b.png")
    for name, value in zip(names, (40, 120, 220, 40), strict=True):
        Image.fromarray(np.full((16, 16), value, np.uint8)).save(tmp_path / name)
    overrides = ["run=some", f"images={tmp_path}", f"out={tmp_path / 'new'}"]
    settings = compose_settings(PredictSettings, overrides)
    write_masks(
        tmp_path / "model", FoundPictures([str(tmp_path / name) for name in names], []), settings
    )
    with (tmp_path / "new" / "shares.csv").open(newline="") as stream:
        masks = [row["mask"] for row in csv.DictReader(stream)]
    own = ("a.png.png", "a.gif.png", "a.png.bmp.png", "b.png")
    assert masks == [f"masks/{name}" for name in own]
    classes = [int(np.array(Image.open(tmp_path / "new" / mask))[0, 0]) for mask in masks]
    assert classes == [0, 1, 2, 0]


def test_pictures_whose_pixels_lie_between_two_classes_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_by_bands(monkeypatch)
    rng, files = np.random.default_rng(0), []
    for name, share in (("a", 0.0), ("b", 0.6), ("c", 0.3), ("d", 0.9)):
        pixels = rng.choice([40, 120, 220], (16, 16)).astype(np.uint8)
        between = rng.random((16, 16)) < share
        pixels[between] = rng.choice([80, 170], between.sum())
        files.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(pixels).save(files[-1])

    def said(*options: str) -> str:
        overrides = ["run=some", f"images={tmp_path}", "label_next=3", *options]
        settings = compose_settings(PredictSettings, overrides)
        return write_masks(tmp_path / "model", FoundPictures(files, []), settings)

    for windows in ("false", "true"):
        out = tmp_path / f"new_{windows}"
        assert "to label next: 3 pictures" in said(f"out={out}", f"windows={windows}")
        with (tmp_path / f"new_{windows}_next.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [Path(row["path"]).stem for row in rows] == ["d", "b", "c"]
        assert [row["mask"] for row in rows] == [str(out / f"masks/{n}.png") for n in "dbc"]
        assert all(Path(row["mask"]).is_file() for row in rows)
        shares = [float(row["score"]) for row in rows]
        assert shares == pytest.approx([0.9, 0.6, 0.3], abs=0.1)
    with pytest.raises(ConfigError, match=r"new_true_next\.csv is there already"):
        said(f"out={tmp_path / 'new_true'}")
    with pytest.raises(ConfigError, match="set out=FOLDER too"):
        said()
