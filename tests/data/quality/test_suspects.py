from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding.opening import open_pictures
from src.data.loading.picture_data import PictureData
from src.data.quality import suspects as module
from src.data.sources.folder import load
from src.data.sources.source import Source
from tests.data.pictures import encoded, settings_of, write
from tests.data.quality.test_near_duplicates import photos, saved_anew, shots


def gathered(source: Source, cache: Path, **options: Any) -> PictureData:
    fractions = {"val_fraction": 0.25, "test_fraction": 0.25}
    settings = settings_of(cache, **fractions, on_duplicates="error", **options)
    return PictureData.open(source, settings, native_side=None, batch_size=16, seed=0)


def album(root: Path, folders: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Twenty different pictures in each folder, named so that their numbers are no neighbours."""
    pictures = {}
    images = photos(20 * len(folders), seed)
    for number, image in enumerate(images):
        path = f"{folders[number // 20]}/{'abcdefghij'[number % 10]}{number}.png"
        write(root / path, encoded(Image.fromarray(image), "PNG"))
        pictures[path] = image
    return pictures


def part_of(data: PictureData, path: str) -> int:
    assert data.pictures.sample_paths is not None
    return int(data.split.parts[data.pictures.sample_paths.index(path)])


def test_what_is_nearly_equal_is_dealt_to_one_part(tmp_path: Path) -> None:
    root = tmp_path / "root"
    pictures = album(root, ["cat", "dog"])
    paths = list(pictures)
    for path in paths[:12]:
        copy = saved_anew(pictures[path], 85)
        write(root / f"{path[:-4]}-small copy.jpg", encoded(Image.fromarray(copy), "JPEG"))
    data = gathered(load(root, tmp_path, False), tmp_path / "cache")
    for path in paths[:12]:
        assert part_of(data, path) == part_of(data, f"{path[:-4]}-small copy.jpg")
    assert len({part_of(data, path) for path in paths[:12]}) > 1
    assert data.suspects == ()
    assert data.remarks == ("12 pairs of nearly equal pictures were kept in one part each",)
    # In another size the network sees other pixels, and the split stays.
    other = gathered(load(root, tmp_path, False), tmp_path / "other", image_size=20)
    streamed = gathered(load(root, tmp_path, False), tmp_path / "third", cache_limit_gb=0)
    assert other.split.fingerprint == data.split.fingerprint == streamed.split.fingerprint


def test_a_label_that_most_of_the_nearly_equal_pictures_contradict_is_odd(tmp_path: Path) -> None:
    """Of five shots of one object one has another label, and of two shots of another as well."""
    root = tmp_path / "root"
    pictures = album(root, ["cat", "dog"])
    first, second = list(pictures)[:2]
    for number, quality in enumerate((95, 90, 85, 80)):
        copy = encoded(Image.fromarray(saved_anew(pictures[first], quality)), "JPEG")
        write(root / ("dog" if number == 0 else "cat") / f"x{number}y.jpg", copy)
    copy = encoded(Image.fromarray(saved_anew(pictures[second], 85)), "JPEG")
    write(root / "dog" / "unclear.jpg", copy)
    data = gathered(load(root, tmp_path, False), tmp_path / "cache")
    odd, unclear = data.suspects
    assert (odd.kind, odd.path, odd.label, odd.suggested) == (
        "odd label",
        "dog/x0y.jpg",
        "dog",
        "cat",
    )
    assert odd.score == 1.0 and odd.like == ""
    assert unclear.kind == "near-duplicate" and {unclear.name, unclear.like} == {
        second,
        "dog/unclear.jpg",
    }
    assert data.remarks[0] == (
        "1 picture has another label than most of the pictures nearly equal to it, most of all "
        "dog/x0y.jpg (dog, and the others cat): check its label; see suspects.csv"
    )
    assert not any("suspicious" in remark for remark in data.remarks)


def test_bursts_are_dealt_to_one_part(tmp_path: Path) -> None:
    root = tmp_path / "root"
    album(root, ["cat", "dog"])
    rng = np.random.default_rng(0)
    frames = photos(10, 5, side=36)
    for number in range(40):
        top, left = rng.integers(0, 3, 2)
        frame = frames[number // 4, top : top + 32, left : left + 32]
        frame = np.asarray(Image.fromarray(frame).resize((8, 8), 2).resize((32, 32), 2))
        write(root / "cat" / f"IMG_{number:03d}.png", encoded(Image.fromarray(frame), "PNG"))
    data = gathered(load(root, tmp_path, False), tmp_path / "cache")
    bursts = [
        {part_of(data, f"cat/IMG_{4 * burst + shot:03d}.png") for shot in range(4)}
        for burst in range(10)
    ]
    assert all(len(parts) == 1 for parts in bursts) and len(set.union(*bursts)) > 1


def test_given_parts_stay_and_what_they_share_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    pictures = album(root, ["train/cat", "train/dog", "test/cat", "test/dog"])
    original = next(iter(pictures))
    copy = saved_anew(pictures[original], 80)
    write(root / "test/dog/again.jpg", encoded(Image.fromarray(copy), "JPEG"))
    data = gathered(load(root, tmp_path, False), tmp_path / "cache")
    assert len(data.split.test) == 41
    (suspect,) = data.suspects
    assert (suspect.part, suspect.path, suspect.like) == ("test", "test/dog/again.jpg", original)
    assert (suspect.kind, suspect.label, suspect.suggested) == ("near-duplicate", "dog", "cat")
    assert 0.9 < suspect.score <= 1
    (remark,) = data.remarks
    assert remark.startswith("1 of 41 test pictures nearly equal one of another part or label")
    assert f"test/dog/again.jpg and {original}" in remark


def test_published_sets_are_reported_but_their_split_does_not_move(tmp_path: Path) -> None:
    images = photos(60)[:, None]
    images[1::2] = [[saved_anew(image[0], 90)] for image in images[::2]]
    source = Source("set", ("a", "b"), np.repeat([0, 1], 30), images, published=True)
    data = gathered(source, tmp_path / "cache")
    parts = data.split.parts
    apart = [pair for pair in range(0, 60, 2) if parts[pair] != parts[pair + 1]]
    assert len(apart) > 3
    assert {max(s.index, int(s.like.split()[1])) // 2 * 2 for s in data.suspects} == set(apart)
    assert all(s.path is None and s.kind == "near-duplicate" for s in data.suspects)


def test_faults_of_pictures_are_listed_with_their_part(tmp_path: Path) -> None:
    root = tmp_path / "root"
    album(root, ["cat", "dog"])
    write(root / "dog/black.png", encoded(Image.new("L", (32, 32), 9), "PNG"))
    data = gathered(load(root, tmp_path, False), tmp_path / "cache")
    (suspect,) = data.suspects
    assert (suspect.path, suspect.kind, suspect.score) == ("dog/black.png", "blank", 1.0)
    assert suspect.part == ("train", "val", "test")[part_of(data, "dog/black.png")]
    assert data.remarks[-1] == "suspicious pictures: 1 blank; see suspects.csv"


def test_a_class_that_a_part_lacks_is_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    album(root, ["cat", "dog"])
    write(root / "emu/only.png", encoded(Image.fromarray(photos(1, 9)[0]), "PNG"))
    data = gathered(load(root, tmp_path, False), tmp_path / "cache")
    assert data.remarks == (
        "no picture of emu in the val part: it cannot be measured there",
        "no picture of emu in the test part: it cannot be measured there",
    )


def test_pictures_are_examined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    album(root, ["cat", "dog"])
    first = gathered(load(root, tmp_path, False), tmp_path / "cache")
    with monkeypatch.context() as patch:
        for name in ("near_pairs", "burst_pairs", "quality_measures", "_prints"):
            patch.setattr(module, name, lambda *_: pytest.fail("examined again"))
        again = gathered(load(root, tmp_path, False), tmp_path / "cache")
    assert again.split.fingerprint == first.split.fingerprint
    files = sorted((tmp_path / "cache" / "examined").glob("*/found.npz"))
    assert len(files) == 2
    for file in files:  # damaged: found anew
        file.write_bytes(file.read_bytes()[:50])
    assert gathered(load(root, tmp_path, False), tmp_path / "cache").suspects == first.suspects


def test_pictures_are_not_read_again_where_their_comparison_did_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album(tmp_path / "album", ["a", "b"])
    source = load(tmp_path / "album", tmp_path, False)
    pictures = open_pictures(source, settings_of(tmp_path / "cache"))

    def examined(cache: Path) -> module.Examination:
        return module.examine(pictures, cache_dir=cache, workers=1)

    expected = examined(tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(module, "near_pairs", interrupt)
        with pytest.raises(KeyboardInterrupt):
            examined(tmp_path / "cache")
    monkeypatch.setattr(module, "grey", interrupt)
    monkeypatch.setattr(module.PageReader, "picture", interrupt)
    found = examined(tmp_path / "cache")
    np.testing.assert_array_equal(found.near.pairs, expected.near.pairs)
    np.testing.assert_array_equal(found.near.likeness, expected.near.likeness)
    files = [path.name for path in (tmp_path / "cache" / "examined").glob("near-*/*")]
    assert sorted(files) == ["entry.json", "found.npz"]


def interrupt(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_bursts_across_folders_are_those_of_given_parts_whatever_was_examined_before(
    tmp_path: Path,
) -> None:
    rows = []
    for number, frame in enumerate(shots(10, 4)):
        path, label = f"{'xy'[number % 2]}/IMG_{number:03}.png", "cat" if number < 20 else "dog"
        write(tmp_path / path, encoded(Image.fromarray(frame), "PNG"))
        rows.append(f"{path},{label},{('train', 'test')[number % 2]}")
    (tmp_path / "parts.csv").write_text("\n".join(["path,label,split", *rows]))
    plain = [row.rpartition(",")[0] for row in ("path,label,split", *rows)]
    (tmp_path / "plain.csv").write_text("\n".join(plain))

    def pairs(name: str, cache: str) -> list[list[int]]:
        source = load(tmp_path / f"{name}.csv", tmp_path, False)
        store = open_pictures(source, settings_of(tmp_path / cache))
        found = module.examine(store, cache_dir=tmp_path / cache, workers=1)
        return found.bursts.pairs.tolist()

    for names in (("plain", "parts"), ("parts", "plain")):
        counts = {name: len(pairs(name, f"cache of {names[0]}")) for name in names}
        assert counts == {"plain": 0, "parts": 30}


def test_arrays_do_without_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    source = Source("set", ("a", "b"), np.repeat([0, 1], 20), photos(40)[:, None])
    assert gathered(source, tmp_path / "cache").suspects == ()
    album(tmp_path / "root", ["cat", "dog"])
    with pytest.raises(ConfigError, match="cache/findings cannot be made"):
        gathered(load(tmp_path / "root", tmp_path, False), tmp_path / "cache")


@pytest.mark.parametrize(("odd_one", "side"), [(None, 24), (40, 32)])
def test_files_are_compared_in_one_size_whatever_the_network_sees(
    odd_one: int | None, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    coloured = photos(120, side=24).reshape(40, 3, 24, 24).transpose(0, 2, 3, 1)
    for number, image in enumerate(coloured):
        content = encoded(Image.fromarray(np.ascontiguousarray(image)), "PNG")
        write(root / "ab"[number % 2] / f"{number}.png", content)
    if odd_one is not None:
        write(root / "a/odd.png", encoded(Image.new("L", (odd_one, 30), 50), "PNG"))
    seen: list[np.ndarray] = []
    near_pairs = module.near_pairs

    def noted(prints: np.ndarray) -> object:
        seen.append(np.array(prints))
        return near_pairs(prints)

    monkeypatch.setattr(module, "near_pairs", noted)
    in_its_size = {"image_size": side}
    ways = (
        {},
        {"image_size": 16},
        {"cache_limit_gb": 0},
        in_its_size,
        in_its_size | {"fit": "crop"},
    )
    for number, options in enumerate(ways):
        gathered(load(root, tmp_path, False), tmp_path / f"cache{number}", **options)
    assert [prints.shape[1:] for prints in seen] == [(side, side)] * 5
    for prints in seen[1:]:
        np.testing.assert_array_equal(seen[0], prints)
