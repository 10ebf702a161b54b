from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from src.data.splitting.folds import assign_folds, hold_out
from src.data.splitting.splits import Split, make_split


def digests(names: list[object]) -> NDArray[np.bytes_]:
    return np.array([hashlib.sha256(str(n).encode()).hexdigest() for n in names], "S64")


def distinct(counts: list[int], tag: str = "") -> tuple[NDArray[np.int64], NDArray[np.bytes_]]:
    """Targets and hashes of `counts[k]` different pictures of each class k."""
    targets = np.repeat(np.arange(len(counts)), counts)
    return targets, digests([f"{tag}{i}" for i in range(len(targets))])


def split_of(targets: NDArray[np.int64], hashes: NDArray[np.bytes_], **options: object) -> Split:
    arguments = {"seed": 0, "val_fraction": 0.2, "test_fraction": 0.2, **options}
    return make_split(targets, hashes, **arguments)  # type: ignore[arg-type]


@st.composite
def listings(draw: st.DrawFn) -> dict[str, object]:
    """Pictures with copies, conflicting labels and maybe groups, in any order."""
    n, names = draw(st.integers(20, 80)), st.sampled_from([f"g{i}" for i in range(30)])
    contents = draw(st.lists(st.integers(0, n), min_size=n, max_size=n))
    return {
        "targets": np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))),
        "content_hashes": digests(list(contents)),
        "groups": draw(st.none() | st.lists(names, min_size=n, max_size=n)),
        "seed": draw(st.integers(0, 2**31 - 1)),
        "order": np.array(draw(st.permutations(range(n)))),
    }


def try_split(listing: dict[str, object], **options: object) -> Split | None:
    """The split, or None where the listing is one lump that cannot be divided."""
    fractions = {"val_fraction": 0.2, "test_fraction": 0.15}
    try:
        return make_split(**{**fractions, **listing, **options})  # type: ignore[arg-type]
    except ValueError as error:
        if "part would be empty" not in str(error):
            raise
        return None


@settings(deadline=None, max_examples=60)
@given(listings())
def test_parts_are_disjoint_complete_and_tear_nothing_apart(listing: dict[str, object]) -> None:
    hashes, groups, order = listing["content_hashes"], listing["groups"], listing.pop("order")
    split = try_split(listing)
    if split is None:
        return
    everything = np.concatenate([split.train, split.val, split.test])
    assert sorted(everything.tolist()) == list(range(len(hashes)))
    assert len(split.dropped) == 0
    for column in [hashes] if groups is None else [hashes, np.array(groups)]:
        inside = [set(column[part].tolist()) for part in (split.train, split.val, split.test)]
        assert not (inside[0] & inside[1] or inside[0] & inside[2] or inside[1] & inside[2])

    mixed = {"targets": listing["targets"][order], "content_hashes": hashes[order]}
    mixed["groups"] = None if groups is None else [groups[i] for i in order]
    shuffled = try_split(listing | mixed)
    assert shuffled is not None
    assert np.array_equal(shuffled.parts, split.parts[order])
    assert shuffled.fingerprint == split.fingerprint


@settings(deadline=None, max_examples=60)
@example(counts=[3, 100], val=0.145, test=0.5, seed=0)
@given(
    counts=st.lists(st.integers(1, 120), min_size=1, max_size=5),
    val=st.sampled_from([0.05, 0.1, 0.25, 0.145]),
    test=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 1000),
)
def test_every_class_is_dealt_by_its_fractions(
    counts: list[int], val: float, test: float, seed: int
) -> None:
    targets, hashes = distinct(counts)
    fractions = {"val_fraction": val, "test_fraction": test}
    split = try_split({"targets": targets, "content_hashes": hashes, "seed": seed}, **fractions)
    if split is None:
        assert max(counts) < 10
        return
    for k, n in enumerate(counts):
        train, tested, vals = (
            int((targets[p] == k).sum()) for p in (split.train, split.test, split.val)
        )
        assert train >= 1
        if n == 1:
            continue
        for got, fraction in ((vals, val), (tested, test)):
            # Rounded half up, in whole numbers of a thousandth.
            wanted = (round(fraction * 1000) * n + 500) // 1000
            if n >= 3 and fraction:
                wanted = max(wanted, 1)
            if n > 10:
                assert got == wanted
            else:
                assert abs(got - wanted) <= 1
            if n >= 3 and fraction:
                assert got >= 1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(20, 200))
def test_one_picture_more_moves_at_most_one_across_each_border(seed: int, n: int) -> None:
    targets, hashes = distinct([n, 30], tag=str(seed))
    before = split_of(targets, hashes)
    more = split_of(np.append(targets, 0), np.append(hashes, digests(["new"])))
    moved = np.flatnonzero(more.parts[:-1] != before.parts)
    assert len(moved) <= 2
    assert (targets[moved] == 0).all()


def test_the_seed_chooses_the_split() -> None:
    targets, hashes = distinct([500, 500])
    shared = np.intersect1d(split_of(targets, hashes).test, split_of(targets, hashes, seed=1).test)
    assert 20 < len(shared) < 60  # 40 by chance, were the two independent


def test_a_class_of_one_trains_and_a_class_of_three_is_everywhere() -> None:
    targets, hashes = distinct([100, 1, 3])
    for seed in range(20):
        split = split_of(targets, hashes, seed=seed, val_fraction=0.01, test_fraction=0.01)
        assert split.parts[100] == 0
        assert sorted(split.parts[101:].tolist()) == [0, 1, 2]


def test_groups_are_dealt_by_pictures_not_by_number() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{i}" for i in range(200)], rng.integers(1, 12, 200))
    targets = np.zeros(len(groups), np.int64)
    split = split_of(targets, digests(list(range(len(groups)))), groups=groups.tolist())
    for part in (split.val, split.test):
        assert abs(len(part) - 0.2 * len(groups)) <= 11 / 2 + 0.5


def test_groups_joined_by_a_copy_stay_together() -> None:
    # a and b share a picture, b and c another one: the three are one group.
    groups = ["a", "a", "b", "b", "c", "c"] + [f"solo{i}" for i in range(30)]
    hashes = digests([0, 1, 1, 2, 2, 3, *range(10, 40)])
    for seed in range(20):
        split = split_of(np.zeros(36, np.int64), hashes, groups=groups, seed=seed)
        assert len(set(split.parts[:6].tolist())) == 1


def test_a_group_of_two_classes_is_dealt_with_the_rarer_one() -> None:
    # Ten groups hold a common class, three of them a rare one too: the rare one is in each part.
    targets = np.array([0] * 40 + [1] * 3)
    groups = [f"g{i % 10}" for i in range(40)] + ["g0", "g1", "g2"]
    for seed in range(10):
        split = split_of(targets, digests(list(range(43))), groups=groups, seed=seed)
        assert sorted(split.parts[40:].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given_parts", "sizes"),
    [
        (["train"] * 100, (60, 20, 20)),
        (["train"] * 80 + ["test"] * 20, (64, 16, 20)),
        (["train"] * 80 + ["val"] * 20, (64, 20, 16)),
        (["train"] * 70 + ["val"] * 20 + ["test"] * 10, (70, 20, 10)),
    ],
)
def test_what_is_not_given_is_cut_from_train(
    given_parts: list[str], sizes: tuple[int, int, int]
) -> None:
    targets, hashes = distinct([100])
    split = split_of(targets, hashes, given_parts=given_parts)
    assert (len(split.train), len(split.val), len(split.test)) == sizes
    settled = np.array(given_parts) != "train"
    assert (np.array(["train", "val", "test"])[split.parts] == given_parts)[settled].all()


def test_given_parts_that_overlap_are_refused_with_names() -> None:
    contents = [*range(30), 3, 4, 40]
    names = [f"train/{i}.png" for i in range(30)] + ["test/x.png", "test/y.png", "test/z.png"]
    parts = ["train"] * 30 + ["test"] * 3
    arguments = {"given_parts": parts, "names": names, "test_fraction": 0.0}
    with pytest.raises(ValueError, match=r"overlap.* data\.on_duplicates=drop") as caught:
        split_of(np.zeros(33, np.int64), digests(contents), **arguments)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "  train/3.png (train) equals test/x.png (test)",
        "  train/4.png (train) equals test/y.png (test)",
    ]

    split = split_of(np.zeros(33, np.int64), digests(contents), on_duplicates="drop", **arguments)
    assert split.dropped.tolist() == [3, 4]
    assert split.test.tolist() == [30, 31, 32]
    # Of three copies the one in test stays.
    contents = [*range(20), 0, 1, 0, 22]
    given_parts = ["train"] * 20 + ["val"] * 2 + ["test"] * 2
    split = split_of(
        np.zeros(24, np.int64), digests(contents), given_parts=given_parts, on_duplicates="drop"
    )
    assert split.dropped.tolist() == [0, 1, 20]
    assert split.val.tolist() == [21]


def test_a_group_in_two_given_parts_is_refused_and_the_list_is_short() -> None:
    groups = [f"g{i}" for i in range(20)] * 2
    given_parts = ["train"] * 20 + ["test"] * 20
    with pytest.raises(ValueError, match="shares its group with") as caught:
        split_of(
            np.zeros(40, np.int64), digests(list(range(40))), given_parts=given_parts, groups=groups
        )
    lines = str(caught.value).splitlines()
    assert lines[1] == "  picture 0 (train) shares its group with picture 20 (test)"
    assert lines[-1] == "  and 10 more"
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "validation part would be empty"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "sum must be below 1"),
        ({"val_fraction": -0.1}, "below 0"),
        ({"given_parts": ["test"] * 10}, "all 10 pictures are given as test, and none as train"),
        ({"given_parts": ["test", "val"] * 5}, "given as val and test, and none as train"),
        ({"given_parts": ["training"] * 10}, "'training'"),
        ({"on_duplicates": "ignore"}, "ignore"),
    ],
)
def test_bad_input_is_refused(options: dict[str, object], message: str) -> None:
    targets, hashes = distinct([10])
    with pytest.raises(ValueError, match=message):
        split_of(targets, hashes, **options)


def test_many_pictures_in_groups_of_three() -> None:
    n = 200_000
    hashes = np.random.default_rng(0).integers(97, 123, (n, 32), np.uint8).view("S32").ravel()
    groups = np.arange(n) // 3
    split = split_of(np.arange(n) % 100, hashes, groups=groups.astype(str))
    # Half a group, at most, at the border of each of the 100 classes.
    assert len(split.test) == pytest.approx(n * 0.2, abs=150)
    assert (split.parts[1:] == split.parts[:-1])[groups[1:] == groups[:-1]].all()


@settings(deadline=None, max_examples=60)
@given(listings(), st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=15))
def test_near_pairs_are_not_torn_apart(
    listing: dict[str, object], pairs: list[tuple[int, int]]
) -> None:
    del listing["order"]
    split = try_split(listing, near=np.array(pairs, np.int64).reshape(-1, 2))
    if split is not None:
        assert all(split.parts[one] == split.parts[other] for one, other in pairs)


def test_near_pairs_do_not_move_given_parts() -> None:
    targets, hashes = distinct([30, 30])
    given = ["train"] * 40 + ["test"] * 20
    near = np.array([[0, 45], [1, 2], [2, 50], [31, 32]])
    split = split_of(targets, hashes, given_parts=given, near=near)
    assert split.test.tolist() == list(range(40, 60))
    assert len(split.dropped) == 0 and len(split.val) == 8
    for pair in ((1, 2), (31, 32)):
        assert split.parts[pair[0]] == split.parts[pair[1]]


def test_a_limit_takes_alike_from_all_classes_and_never_from_another_part() -> None:
    split = split_of(*distinct([100, 40, 10]))
    limited = split.limited(12)
    for part in ("train", "val", "test"):
        kept = getattr(limited, part)
        assert len(kept) == 12 and set(kept) <= set(getattr(split, part))
        counts = np.bincount(split.targets[kept], minlength=3)
        present = np.bincount(split.targets[getattr(split, part)], minlength=3)
        assert counts.tolist() == _in_turns(present.tolist(), 12)
    assert limited.fingerprint != split.fingerprint
    whole = split.limited(1000)
    np.testing.assert_array_equal(whole.parts, split.parts)


def test_less_training_is_the_same_division() -> None:
    """So that runs that learn from fewer pictures and from more are compared."""
    split = split_of(*distinct([100, 40, 10]))
    less, least = split.with_less_training(30), split.with_less_training(30).with_less_training(10)
    assert len({split.fingerprint, less.fingerprint, least.fingerprint}) == 3
    assert split.division == less.division == split.fingerprint
    assert split.with_val_training().division == less.with_val_training().division
    assert split.limited(20).with_less_training(10).division != split.division
    other = split_of(*distinct([100, 40, 10]), seed=1).with_less_training(30)
    assert other.division != split.division
    first, second = (
        hold_out(one, assign_folds(one, 3, seed=0, repeat=0, class_names="abc"), 0)
        for one in (split, less)
    )
    assert first.division != second.division, "other pictures are held out"


def _in_turns(present: list[int], most: int) -> list[int]:
    taken = [0] * len(present)
    while sum(taken) < most:
        for index, count in enumerate(present):
            if taken[index] < count and sum(taken) < most:
                taken[index] += 1
    return taken


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(3, 60), min_size=1, max_size=5), st.integers(1, 200))
def test_less_training_keeps_the_proportions_of_classes_and_the_other_parts(
    sizes: list[int], most: int
) -> None:
    split = split_of(*distinct(sizes))
    less = split.with_less_training(most)
    assert less.val.tolist() == split.val.tolist() and less.test.tolist() == split.test.tolist()
    assert len(less.train) == min(most, len(split.train)) and set(less.train) <= set(split.train)
    whole = np.bincount(split.targets[split.train], minlength=len(sizes))
    counts = np.bincount(split.targets[less.train], minlength=len(sizes))
    if most >= len(sizes):
        assert (counts[whole > 0] >= 1).all()
    share = len(less.train) / len(split.train)
    # The one picture that each class has takes some from the others.
    assert (np.abs(counts - share * whole) <= 1 + len(sizes) / 2).all()
    fewer = split.with_less_training(max(1, most // 2))
    assert set(fewer.train) <= set(less.train), "a curve over their number adds pictures"


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(60)), st.integers(2, 12))
def test_a_sample_is_drawn_from_each_class_by_contents(order: list[int], most: int) -> None:
    targets, hashes = distinct([20, 40])
    one, other = split_of(targets, hashes), split_of(targets[order], hashes[order])
    for part, whole in (("train", one.train), ("val", one.val)):
        ids = one.sample(part, most)
        assert len(ids) == min(most, len(whole)) and set(ids) <= set(whole)
        shares = [(one.targets[some] == 1).mean() for some in (ids, whole)]
        assert abs(shares[0] - shares[1]) * len(ids) <= 1.5
        drawn = other.content_hashes[other.sample(part, most)]
        assert set(drawn) == set(one.content_hashes[ids])


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(30)), st.integers(1, 12))
def test_a_limit_depends_on_contents_alone(order: list[int], most: int) -> None:
    targets, hashes = distinct([15, 15])
    one = split_of(targets, hashes).limited(most)
    other = split_of(targets[order], hashes[order]).limited(most)
    assert one.fingerprint == other.fingerprint
    less = [split.with_less_training(most).fingerprint for split in (one, other)]
    assert less[0] == less[1]
