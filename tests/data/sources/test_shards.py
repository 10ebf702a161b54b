"""Sets in tar files as WebDataset has them, against the same pictures in folders."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config.checks import ConfigError
from src.data.decoding.opening import open_pictures
from src.data.loading.loaders import StreamLoader
from src.data.loading.picture_data import PictureData
from src.data.sources import shards as module
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source
from tests.data.pictures import decoded, png, tree
from tests.data.sources.test_archive import pack
from tests.data.sources.test_remote import settings, shard

Members = list[tuple[str, bytes]]


def labelled(label: str, *numbers: int, ending: str = ".cls") -> Members:
    """A picture and its label for each number."""
    content = json.dumps({"label": label, "width": 3}) if ending == ".json" else f"{label}\n"
    return [
        one
        for number in numbers
        for one in ((f"{number:05}.png", png(number)), (f"{number:05}{ending}", content.encode()))
    ]


def listed(root: Path | str, tmp_path: Path, **options: Any) -> Source:
    return list_pictures(settings(str(root), tmp_path, **options))


def test_shards_hold_what_folders_do(tmp_path: Path) -> None:
    members = labelled("cat", 0, 1, 2) + labelled("dog", 3, 4)
    shard(tmp_path / "set/train-000.tar", members)
    shard(tmp_path / "set/val-000.tar", labelled("dog", 6) + labelled("cat", 5))
    folder = tree(tmp_path / "folder", {"train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 1})
    store, other = (
        open_pictures(listed(root, tmp_path), settings(str(root), tmp_path))
        for root in (tmp_path / "set", folder)
    )
    assert store.fingerprint == other.fingerprint and store.class_names == ("cat", "dog")
    assert store.sample_paths is not None and store.sample_paths[0] == "train-000.tar/00000.png"
    assert (
        store.given_parts is not None and store.given_parts.tolist() == ["train"] * 5 + ["val"] * 2
    )
    assert store.images is not None and other.images is not None
    order = [store.content_hashes.tolist().index(one) for one in other.content_hashes.tolist()]
    np.testing.assert_array_equal(store.images[order], other.images)
    # Nothing was extracted.
    assert not list((tmp_path / "cache").rglob("*.png"))


@pytest.mark.parametrize("ending", [".cls", ".json", ".txt"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_labels_and_names_of_every_kind(tmp_path: Path, ending: str, format: int) -> None:
    deep = "a folder/" + "long" * 20 + "/"
    members = [
        (deep + name, content)
        for name, content in labelled("big cat", 1, 2, ending=ending)
        + labelled("dog", 3, ending=ending)
    ]
    shard(tmp_path / "set/0.tar", [*members, (deep + "notes.md", b"more")], format)
    source = listed(tmp_path / "set", tmp_path)
    assert source.class_names == ("big cat", "dog") and source.targets.tolist() == [0, 0, 1]
    assert source.sample_paths is not None and source.sample_paths[2] == f"0.tar/{deep}00003.png"
    assert [source.open(index).read() for index in range(3)] == [png(1), png(2), png(3)]


def test_braces_name_shards_in_their_order(tmp_path: Path) -> None:
    for number in range(9, 12):
        label = "cat" if number % 2 else "dog"
        shard(tmp_path / f"set/s-{number:03}.tar", labelled(label, number))
    source = listed(tmp_path / "set/s-{009..010}.tar", tmp_path)
    assert source.sample_paths == ("s-009.tar/00009.png", "s-010.tar/00010.png")
    with pytest.raises(ConfigError, match=r"1 of 4 shards are not there, the first s-012\.tar"):
        listed(tmp_path / "set/s-{009..012}.tar", tmp_path)
    with pytest.raises(ConfigError, match=r"\{012\.\.009\}"):
        listed(tmp_path / "set/s-{012..009}.tar", tmp_path)


def test_parts_are_folders_too_and_no_parts_are_divided(tmp_path: Path) -> None:
    shard(
        tmp_path / "set/train/0.tar", labelled("cat", *range(20)) + labelled("dog", *range(20, 40))
    )
    shard(tmp_path / "set/test/0.tar", labelled("cat", 50) + labelled("dog", 51))
    source = listed(tmp_path / "set", tmp_path)
    assert source.given_parts is not None and sorted(set(source.given_parts)) == ["test", "train"]
    shard(tmp_path / "twin/train/0.tar", labelled("cat", *range(20)) + labelled("dog", 20))
    shard(tmp_path / "twin/test/0.tar", labelled("Dog", 50) + labelled("cat", 51))
    with pytest.raises(ConfigError, match="dog in the train part and Dog in another"):
        listed(tmp_path / "twin", tmp_path)
    alone = settings(str(tmp_path / "set/train"), tmp_path)
    data = PictureData.open(list_pictures(alone), alone, native_side=None, batch_size=4, seed=0)
    assert len(data.split.train) + len(data.split.val) + len(data.split.test) == 40
    batch = next(iter(data.batches("train", training=True)))
    assert batch.images.shape == (4, 3, 12, 16)


def test_several_labels(tmp_path: Path) -> None:
    content = json.dumps({"labels": ["red", "", "round"]}).encode()
    members = [("1.png", png(1)), ("1.json", content), ("2.png", png(2)), ("2.cls", b"red;old")]
    shard(tmp_path / "set/0.tar", members)
    source = listed(tmp_path / "set", tmp_path, target="multi")
    assert source.class_names == ("old", "red", "round")
    assert source.targets.tolist() == [[0, 1, 1], [1, 1, 0]]
    with pytest.raises(ConfigError, match=r"list of labels: set data\.target=multi"):
        listed(tmp_path / "set", tmp_path)


def test_one_shard_and_one_archive_are_told_apart(tmp_path: Path) -> None:
    alone = shard(tmp_path / "one.tar", labelled("cat", 1, 2) + labelled("dog", 3))
    assert listed(alone, tmp_path).spans is not None
    root = tree(tmp_path / "folder", {"cat": 2, "dog": 2})
    archive = pack(root, tmp_path / "folder.tar")
    assert listed(archive, tmp_path).spans is None


def test_a_stray_archive_beside_class_folders_is_no_shard(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"train/cat": 2, "train/dog": 2, "val/cat": 1, "val/dog": 1})
    for place in (root, root / "train"):
        shard(place / "backup.tar", labelled("cat", 1) + labelled("dog", 2))
        assert listed(root, tmp_path).spans is None
    compressed = pack(tree(tmp_path / "folder", {"cat": 2, "dog": 2}), tmp_path / "folder.tar.gz")
    assert listed(compressed.rename(tmp_path / "named.tar"), tmp_path).class_names == ("cat", "dog")


def test_an_index_is_made_once_and_anew_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shard(tmp_path / "set/0.tar", labelled("cat", 1) + labelled("dog", 2))
    listed(tmp_path / "set", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_read_index", lambda _: pytest.fail("read again"))
        assert len(listed(tmp_path / "set", tmp_path)) == 2
    file.unlink()
    shard(file, labelled("cat", 1, 3) + labelled("dog", 2))
    source = listed(tmp_path / "set", tmp_path)
    store = open_pictures(source, settings(str(tmp_path / "set"), tmp_path))
    assert len(store) == 3


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([*labelled("cat", 1), ("2.png", png(2))], r"1 of 2 pictures have no label.*0\.tar/2\.png"),
        (labelled("cat", 1, 2), "at least 2 labels"),
        ([*labelled("\u200b", 1), *labelled("dog", 2)], "1 of 2 pictures have no label"),
        (labelled(" ", 1, 2, ending=".json"), "2 of 2 pictures have no label"),
        (labelled("cat", 1) + labelled("dog", 1), "two pictures of the key 00001"),
        ([("1.png", png(1)), ("1.json", b"{")], r"1\.json cannot be read as a label"),
        pytest.param(
            [("1.png", png(1)), ("1.json", b"[" * 100_000)], r"1\.json cannot be read", id="deep"
        ),
        ([("1.png", png(1)), ("1.json", b'"\\ud800"')], r"1\.json cannot .* half a character"),
        ([("../1.png", png(1)), ("1.cls", b"0")], "leads out of the archive"),
        ([("1.cls", b"0")], "there are no pictures in 1 shards"),
    ],
)
def test_shards_that_are_refused(tmp_path: Path, members: Members, message: str) -> None:
    shard(tmp_path / "set/0.tar", members)
    with pytest.raises(ConfigError, match=message):
        listed(tmp_path / "set", tmp_path)


def test_a_shard_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    file = shard(tmp_path / "set/0.tar", labelled("cat", *range(9)) + labelled("dog", 10))
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ConfigError, match=r"damaged|cut short"):
        listed(tmp_path / "set", tmp_path)


def test_some_shards_are_of_parts_and_others_of_none(tmp_path: Path) -> None:
    for name in ("train-0", "val-0", "more-0"):
        shard(tmp_path / f"set/{name}.tar", labelled("cat", 1) + labelled("dog", 2))
    with pytest.raises(ConfigError, match=r"more-0\.tar is not clearly one"):
        listed(tmp_path / "set", tmp_path)


def test_what_is_too_large_to_be_kept_is_streamed_and_goes_on_within_an_epoch(
    tmp_path: Path,
) -> None:
    members = labelled("cat", *range(12)) + labelled("dog", *range(12, 24))
    shard(tmp_path / "set/train-0.tar", members)
    shard(tmp_path / "set/val-0.tar", labelled("cat", 30) + labelled("dog", 31))
    own = settings(str(tmp_path / "set"), tmp_path, cache_limit_gb=0, num_workers=1)
    data = PictureData.open(list_pictures(own), own, native_side=None, batch_size=4, seed=3)
    assert data.pictures.images is None and not list((tmp_path / "cache").rglob("*.png"))
    loaders = [data.batches("train", training=True) for _ in range(2)]
    assert all(isinstance(loader, StreamLoader) for loader in loaders)
    first, second = (loader for loader in loaders if isinstance(loader, StreamLoader))
    first.set_epoch(1)
    whole = []
    for step, batch in enumerate(first):
        whole.append(batch)
        if step == 2:
            kept = first.state_dict()
    second.load_state_dict(kept)
    rest = list(second)
    assert len(rest) == len(whole) - 3 > 0
    for one, other in zip(whole[3:], rest, strict=True):
        assert one.sample_ids.tolist() == other.sample_ids.tolist()
        np.testing.assert_array_equal(one.images.numpy(), other.images.numpy())
    for index, image in zip(whole[0].sample_ids.tolist(), whole[0].images.numpy(), strict=True):
        np.testing.assert_array_equal(image, decoded(png(index), data.pictures.image_size))
    for loader in (first, second):
        loader.close()
