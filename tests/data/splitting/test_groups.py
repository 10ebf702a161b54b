from __future__ import annotations

import numpy as np

from src.data.splitting.folds import assign_folds
from src.data.splitting.groups import deal_iteratively
from src.data.splitting.splits import Split, make_split

SHARES = (0.7, 0.15, 0.15)


def label_sets(count: int = 400, labels: int = 8) -> np.ndarray:
    """Sets of labels from common to rare, some of them empty."""
    rng = np.random.default_rng(0)
    return (rng.random((count, labels)) < np.geomspace(0.4, 0.02, labels)).astype(np.uint8)


def hashes(count: int) -> np.ndarray:
    return np.array([f"{i:032x}".encode() for i in range(count)])


def test_each_part_has_its_share_of_every_label_and_of_the_pictures() -> None:
    sets = label_sets()
    ranks = np.random.default_rng(1).permutation(len(sets))
    parts = deal_iteratively(sets.astype(np.int64), np.ones(len(sets), np.int64), ranks, SHARES)
    for part, share in enumerate(SHARES):
        own = parts == part
        assert abs(own.mean() - share) < 0.02
        assert np.abs(sets[own].sum(axis=0) - share * sets.sum(axis=0)).max() <= 2


def test_groups_are_dealt_as_a_whole_and_still_even() -> None:
    sets = label_sets()
    names = [str(i // 4) for i in range(len(sets))]
    split = make_split(
        sets, hashes(len(sets)), seed=0, val_fraction=0.2, test_fraction=0.0, groups=names
    )
    assert not len(split.test)
    assert all(len(set(split.parts[i : i + 4])) == 1 for i in range(0, len(sets), 4))
    assert abs(len(split.val) / len(sets) - 0.2) < 0.03
    shares = sets[split.val].sum(axis=0) / sets.sum(axis=0)
    assert np.abs(shares[:4] - 0.2).max() < 0.05


def test_given_parts_stay_and_the_rest_is_cut_from_the_training_pictures() -> None:
    sets = label_sets()
    given = ["test"] * 100 + ["train"] * 300
    split = make_split(
        sets, hashes(400), seed=0, val_fraction=0.25, test_fraction=0.5, given_parts=given
    )
    np.testing.assert_array_equal(split.test, np.arange(100))
    assert abs(len(split.val) - 75) <= 3


def test_a_split_of_label_sets_is_read_as_it_was_written(tmp_path) -> None:
    sets = label_sets(50)
    split = make_split(sets, hashes(50), seed=0, val_fraction=0.2, test_fraction=0.2)
    split.write(tmp_path / "split.csv")
    again = Split.read(tmp_path / "split.csv")
    assert again.fingerprint == split.fingerprint
    np.testing.assert_array_equal(again.targets, sets)


def test_the_fingerprint_sees_a_label_more() -> None:
    sets = label_sets(50)
    split = make_split(sets, hashes(50), seed=0, val_fraction=0.2, test_fraction=0.2)
    changed = sets.astype(np.int64)
    changed[0, 0] = 1 - changed[0, 0]
    assert Split(split.parts, changed, split.content_hashes).fingerprint != split.fingerprint


def test_folds_hold_out_every_picture_once_and_share_the_labels() -> None:
    sets = label_sets()
    split = make_split(sets, hashes(400), seed=0, val_fraction=0.2, test_fraction=0.2)
    names = [str(k) for k in range(sets.shape[1])]
    folds = assign_folds(split, 3, seed=0, repeat=0, class_names=names)
    assert (folds[split.test] == -1).all()
    pool = np.concatenate([split.train, split.val])
    assert (folds[pool] >= 0).all()
    counts = np.array([sets[folds == fold].sum(axis=0) for fold in range(3)])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 3


def test_the_only_picture_with_a_label_trains_in_all_folds() -> None:
    sets = (np.random.default_rng(0).random((60, 8)) < 0.4).astype(np.uint8)
    sets[:, 7] = 0
    sets[0, 7] = 1
    split = make_split(sets, hashes(60), seed=0, val_fraction=0.2, test_fraction=0.0)
    folds = assign_folds(split, 3, seed=0, repeat=0, class_names=[*"abcdefg", "rare"])
    assert np.flatnonzero(folds < 0).tolist() == [0]
