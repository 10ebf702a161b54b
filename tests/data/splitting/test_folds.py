from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from src.data.splitting.folds import assign_folds, hold_out, training_seed
from src.data.splitting.splits import Split

TRAIN, VAL, TEST, DROPPED = range(4)


def split_of(targets: np.ndarray, parts: np.ndarray | None = None) -> Split:
    if parts is None:
        parts = np.where(np.arange(len(targets)) % 4 == 0, VAL, TRAIN)
    hashes = np.array([f"{i:032x}" for i in range(len(targets))], "S")
    return Split(parts.astype(np.int8), targets.astype(np.int64), hashes)


def folds_of(split: Split, count: int, **changes: object) -> np.ndarray:
    names = [f"class {k}" for k in range(int(split.targets.max()) + 1)]
    usual: dict[str, object] = {"seed": 0, "repeat": 0, "class_names": names}
    return assign_folds(split, count, **usual | changes)  # type: ignore[arg-type]


def counts(folds: np.ndarray, targets: np.ndarray, count: int) -> np.ndarray:
    """(folds, classes): pictures."""
    classes = int(targets.max()) + 1
    return np.array([np.bincount(targets[folds == f], minlength=classes) for f in range(count)])


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Classes of at least as many pictures as there are folds, in any order."""
    count = draw(st.integers(2, 7))
    sizes = draw(st.lists(st.integers(count, 40), min_size=1, max_size=5))
    targets = np.repeat(np.arange(len(sizes)), sizes)
    return np.array(draw(st.permutations(targets.tolist()))), count


@settings(max_examples=40)
@given(labelled(), st.integers(0, 2**31 - 1), st.integers(0, 3))
def test_single_pictures_are_dealt_as_evenly_as_scikit_learn_deals_them(
    case: tuple[np.ndarray, int], seed: int, repeat: int
) -> None:
    targets, count = case
    folds = folds_of(split_of(targets), count, seed=seed, repeat=repeat)
    assert folds.min() >= 0 and folds.max() < count, "every picture is held out once"
    found = counts(folds, targets, count)
    assert (np.ptp(found, axis=0) <= 1).all(), "a class differs by more than one between folds"
    assert np.ptp(found.sum(axis=1)) <= 1, "folds differ by more than one picture"
    theirs = np.empty(len(targets), int)
    for fold, (_, held_out) in enumerate(StratifiedKFold(count).split(targets, targets)):
        theirs[held_out] = fold
    # The same numbers, whichever fold has which.
    same = [np.sort(c, axis=0) for c in (found, counts(theirs, targets, count))]
    np.testing.assert_array_equal(same[0], same[1])


@settings(max_examples=40)
@given(
    arrays.arrays(np.int64, st.integers(40, 200), elements=st.integers(0, 2)),
    st.integers(2, 5),
    st.integers(0, 2**31 - 1),
    st.data(),
)
def test_groups_stay_whole_and_none_would_be_better_elsewhere(
    targets: np.ndarray, count: int, seed: int, data: st.DataObject
) -> None:
    groups = data.draw(
        arrays.arrays(np.int64, len(targets), elements=st.integers(0, 30)), label="groups"
    )
    for group in range(count):  # so that each class has enough groups, whatever was drawn
        targets = np.append(targets, [0, 1, 2])
        groups = np.append(groups, [100 + group] * 3)
    names = [f"g{g}" for g in groups.tolist()]
    folds = folds_of(split_of(targets), count, seed=seed, groups=names)
    assert set(folds.tolist()) == set(range(count))
    for group in np.unique(groups):
        assert len(set(folds[groups == group].tolist())) == 1, "a group is torn apart"
    totals = np.bincount(targets)
    squares = ((counts(folds, targets, count) / totals) ** 2).sum()
    for group in np.unique(groups):  # nowhere else would a group make the folds more even
        for fold in range(count):
            moved = np.where(groups == group, fold, folds)
            found = counts(moved, targets, count)
            without = (found == 0) & (counts(folds, targets, count) > 0)
            assert without.any() or ((found / totals) ** 2).sum() > squares - 1e-9


def test_of_many_groupings_ours_is_the_more_even_on_average() -> None:
    rng, ours, theirs = np.random.default_rng(0), [], []
    for seed in range(40):
        groups = rng.integers(0, 25, 300)
        targets = (groups % 3 + rng.integers(0, 2, 300)) % 3
        names = [str(g) for g in groups.tolist()]
        folds = folds_of(split_of(targets), 5, seed=seed, groups=names)
        other = np.empty(300, int)
        for fold, (_, held_out) in enumerate(
            StratifiedGroupKFold(5).split(targets, targets, groups)
        ):
            other[held_out] = fold
        for dealt, kept in ((folds, ours), (other, theirs)):
            shares = counts(dealt, targets, 5) / np.bincount(targets)
            kept.append(shares.std(axis=0).mean())
    assert np.mean(ours) <= np.mean(theirs)


def test_only_training_and_validation_are_dealt() -> None:
    rng = np.random.default_rng(0)
    targets, parts = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    split = split_of(targets, parts)
    folds = folds_of(split, 4)
    np.testing.assert_array_equal(folds >= 0, parts <= VAL)
    for fold in range(4):
        held_out = hold_out(split, folds, fold)
        np.testing.assert_array_equal(held_out.test, split.test)
        np.testing.assert_array_equal(held_out.dropped, split.dropped)
        np.testing.assert_array_equal(held_out.val, np.flatnonzero(folds == fold))
        both = np.union1d(held_out.train, held_out.val)
        np.testing.assert_array_equal(both, np.flatnonzero(parts <= VAL))
        assert held_out.fingerprint != split.fingerprint
    np.testing.assert_array_equal(split.parts, parts)


def test_repeats_and_seeds_have_folds_of_their_own_and_order_plays_no_part() -> None:
    targets = np.arange(300) % 3
    split = split_of(targets)
    first = folds_of(split, 5)
    np.testing.assert_array_equal(first, folds_of(split, 5))
    for changes in ({"repeat": 1}, {"seed": 1}):
        # Of two independent divisions a fifth of the pictures agree.
        assert (folds_of(split, 5, **changes) == first).mean() < 0.4
    turned = Split(split.parts[::-1], split.targets[::-1], split.content_hashes[::-1])
    np.testing.assert_array_equal(folds_of(turned, 5)[::-1], first)


def test_copies_and_what_is_nearly_equal_stay_together() -> None:
    targets = np.arange(60) % 2
    split = split_of(targets)
    hashes = split.content_hashes.copy()
    hashes[2] = hashes[40]
    near = np.array([[4, 10], [10, 52], [7, 6]])
    with_copies = Split(split.parts, split.targets, hashes)
    for seed in range(20):
        folds = folds_of(with_copies, 5, seed=seed, near=near)
        assert folds[2] == folds[40] and folds[7] == folds[6]
        assert folds[4] == folds[10] == folds[52]
        # So does what a picture of the test part joins: the middle one of three shots in a row.
        joined = Split(np.where(np.arange(60) == 10, TEST, split.parts), split.targets, hashes)
        folds = folds_of(joined, 5, seed=seed, near=near)
        assert folds[10] == -1 and folds[4] == folds[52]


@settings(max_examples=60)
@given(
    st.integers(2, 6),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 2**31 - 1),
    st.data(),
)
def test_every_class_trains_in_all_folds_however_rare_it_is(
    count: int, sizes: list[int], seed: int, data: st.DataObject
) -> None:
    targets = np.repeat(np.arange(1 + len(sizes)), [20, *sizes])
    order = np.array(data.draw(st.permutations(range(len(targets)))))
    parts = data.draw(arrays.arrays(np.int8, len(targets), elements=st.integers(TRAIN, VAL)))
    split = split_of(targets[order], parts)
    folds = folds_of(split, count, seed=seed)
    lone = np.bincount(split.targets)[split.targets] == 1
    np.testing.assert_array_equal(folds < 0, lone)
    assert (np.ptp(counts(folds, split.targets, count), axis=0) <= 1).all()
    for fold in range(count):
        held_out = hold_out(split, folds, fold)
        assert set(split.targets[held_out.train].tolist()) == set(targets.tolist())
        np.testing.assert_array_equal(held_out.val, np.flatnonzero(folds == fold))
        assert len(held_out.train) + len(held_out.val) == len(targets)


def test_the_only_group_of_a_class_trains_in_all_folds() -> None:
    targets = np.array([0] * 20 + [1] * 4)
    names = [*map(str, range(20)), "g", "g", "g", "g"]
    folds = folds_of(split_of(targets), 5, groups=names)
    assert (folds[20:] == -1).all() and set(folds[:20].tolist()) == set(range(5))
    # One that only the test part has is nobody's loss here.
    parts = np.where(targets == 1, TEST, TRAIN)
    assert set(folds_of(split_of(targets, parts), 5)[:20].tolist()) == set(range(5))


def test_the_only_picture_with_a_label_trains_and_any_number_has_none() -> None:
    targets = np.zeros((12, 2), np.int64)
    targets[:10, 0] = 1
    targets[3, 1] = 1  # the rest of this label set is not rare
    split = Split(np.zeros(12, np.int8), targets, np.array([f"{i:032x}" for i in range(12)], "S"))
    for last in (12, 11):  # two pictures without any label, and one
        some = Split(split.parts[:last], targets[:last], split.content_hashes[:last])
        folds = assign_folds(some, 3, seed=0, repeat=0, class_names=["a", "b"])
        np.testing.assert_array_equal(folds < 0, np.arange(last) == 3)


def test_fewer_pictures_than_folds_are_refused() -> None:
    targets = np.array([0] * 4 + [1])
    with pytest.raises(ValueError, match=r"5 folds, but only 4 .* can be held out"):
        folds_of(split_of(targets), 5)
    assert folds_of(split_of(targets), 4)[4] == -1


def test_every_fold_trains_with_a_seed_of_its_own() -> None:
    assert training_seed(7, None) == 7
    seeds = [training_seed(seed, fold) for seed in range(20) for fold in range(1, 21)]
    assert len(set(seeds)) == 400 and all(0 <= seed < 2**31 for seed in seeds)
