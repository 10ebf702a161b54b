"""The file that lists a split, and the fingerprint of what is in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from src.data.splitting.splits import Split
from tests.data.splitting.test_splits import digests, distinct, split_of


def test_the_fingerprint_names_contents_classes_and_parts() -> None:
    targets, hashes = distinct([30, 30])
    split = split_of(targets, hashes, names=[f"a/{i}" for i in range(60)])
    assert split.fingerprint == split_of(targets, hashes).fingerprint
    nothing = np.zeros((0, 2), np.int64)
    assert split.fingerprint == split_of(targets, hashes, near=nothing).fingerprint
    assert split.fingerprint != split_of(targets, hashes, seed=1).fingerprint
    assert split.fingerprint != split_of(1 - targets, hashes).fingerprint
    assert split.fingerprint != split_of(targets, digests(list(range(1, 61)))).fingerprint


def test_a_dropped_copy_is_not_in_the_fingerprint() -> None:
    targets, hashes = distinct([30])
    given_parts = ["train"] * 20 + ["val"] * 5 + ["test"] * 5
    without = split_of(targets, hashes, given_parts=given_parts)
    copied = split_of(
        np.append(targets, 0),
        np.append(hashes, hashes[29]),
        given_parts=[*given_parts, "train"],
        on_duplicates="drop",
    )
    assert copied.dropped.tolist() == [30]
    assert copied.fingerprint == without.fingerprint


def test_the_manifest_can_be_read_by_people_and_back(tmp_path: Path) -> None:
    targets, hashes = distinct([10, 10])
    odd = ['with, comma "and quotes".png', "图片 = [1].png"]
    formulas = ["=1+1/a.png", "'-x/b.png"]
    names = [*odd, *(f"{i}.png" for i in range(16)), *formulas]
    split = split_of(targets, hashes, names=names)
    path = tmp_path / "split.csv"
    split.write(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "part,target,content_hash,path"
    assert lines[3].endswith(f",0,{hashes[2].decode()},0.png")
    read = Split.read(path)
    assert np.array_equal(read.parts, split.parts)
    assert np.array_equal(read.targets, split.targets)
    assert read.names == split.names
    assert read.fingerprint == split.fingerprint
    assert [line.rsplit(",", 1)[1] for line in lines[-2:]] == ["'=1+1/a.png", "''-x/b.png"]
    split_of(targets, hashes).write(path)
    assert Split.read(path).names is None


def test_the_manifest_and_the_fingerprint_have_masks(tmp_path: Path) -> None:
    targets, hashes = np.tile([[1, 0], [1, 1]], (10, 1)), distinct([20])[1]
    masks = np.char.add(b"0f", hashes)
    bare = split_of(targets, hashes)
    split = dataclasses.replace(bare, mask_hashes=masks)
    split.write(tmp_path / "split.csv")
    read = Split.read(tmp_path / "split.csv")
    assert read.mask_hashes is not None
    np.testing.assert_array_equal(read.mask_hashes, masks)
    assert read.fingerprint == split.fingerprint != bare.fingerprint
    changed = masks.copy()
    changed[split.test[0]] = b"changed"
    other = dataclasses.replace(bare, mask_hashes=changed)
    assert other.fingerprint != split.fingerprint
    assert other.test_fingerprint != split.test_fingerprint
    changed = masks.copy()
    changed[split.train[0]] = b"changed"
    other = dataclasses.replace(bare, mask_hashes=changed)
    assert other.test_fingerprint == split.test_fingerprint


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "part,target,content_hash,path\nhidden,0,a,b\n"]
)
def test_another_file_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(ValueError, match=r"split\.csv"):
        Split.read(tmp_path / "split.csv")


def test_the_test_part_keeps_its_name_whatever_becomes_of_the_others() -> None:
    targets, hashes = distinct([30, 30])
    split = split_of(targets, hashes)
    joined = split.with_val_training()
    assert sorted([*split.train, *split.val]) == joined.train.tolist()
    assert len(split.val) and not len(joined.val)
    assert joined.test.tolist() == split.test.tolist()
    assert joined.fingerprint != split.fingerprint
    assert joined.test_fingerprint == split.test_fingerprint
    other = split_of(targets, hashes, seed=1)
    assert other.test_fingerprint != split.test_fingerprint
    # Another label of the same picture makes it another test.
    relabelled = dataclasses.replace(split, targets=1 - split.targets)
    assert relabelled.test_fingerprint != split.test_fingerprint
