"""Families that suit the pictures, and studies that go on with the pictures they began with."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import t as student

from src.config.checks import ConfigError
from src.config.sweep import SweepSettings, read_sweep_settings
from src.data.sources.source import Source
from src.sweeps import study_pictures
from src.sweeps.study_pictures import check_pictures, choose_families, describe_judging
from tests.data.pictures import png, tree, write


def settings(tmp_path: Path, *overrides: str) -> SweepSettings:
    given = [f"data.cache_dir={tmp_path / 'cache'}", f"output_dir={tmp_path / 'out'}", *overrides]
    return read_sweep_settings(given, "default")


def folder(tmp_path: Path, sizes: list[tuple[int, int]]) -> Path:
    generator = np.random.default_rng(len(sizes))
    for number, (height, width) in enumerate(sizes):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def test_photos_race_published_networks_first(tmp_path: Path) -> None:
    root = folder(tmp_path, [(300, 400), (400, 300), (200, 350), (90, 120)])
    chosen = choose_families(settings(tmp_path, "data=folder", f"data.root={root}"))
    assert chosen.names[:2] == ("embedding", "finetuned")
    assert {"handcrafted", "cnn", "fcn"} <= set(chosen.names)
    first, second, *_ = chosen.reason.splitlines()
    assert "4 pictures, about 250 pixels" in first and second.startswith("families: ")


def test_pictures_that_cannot_be_used_are_named_before_anything_else_is_done(
    tmp_path: Path,
) -> None:
    root = folder(tmp_path, [(300, 400)] * 4)
    (root / "a" / "0.jpg").write_bytes(b"no picture")
    given = settings(tmp_path, "data=folder", f"data.root={root}")
    with pytest.raises(ConfigError, match=r"^1 of 4 .*a/0\.jpg .*data\.on_bad_image=skip"):
        choose_families(given)
    with pytest.raises(ConfigError, match=r"^1 of 4 .*a/0\.jpg"):
        study_pictures.shorter_side(given)
    choose_families(replace(given, data=replace(given.data, on_bad_image="skip")))


def test_given_parts_that_share_a_picture_are_refused_before_anything_else_is_done(
    tmp_path: Path,
) -> None:
    root = tree(tmp_path / "root", {"train/a": 3, "train/b": 3, "test/a": 2, "test/b": 2})
    given = settings(tmp_path, "data=folder", f"data.root={root}")
    assert choose_families(given).names
    shutil.copy(root / "train/a/000.png", root / "test/b/copy.png")
    write(root / "train/a/damaged.png", b"")
    write(root / "test/a/damaged.png", b"")  # which are no copies of each other
    given = replace(given, data=replace(given.data, on_bad_image="skip"))
    said = r"data: the given parts overlap.*\n  train/a/000.png \(train\) equals test/b/copy.png"
    with pytest.raises(ConfigError, match=f"{said} \\(test\\).$"):
        choose_families(given)
    choose_families(replace(given, data=replace(given.data, on_duplicates="drop")))


def test_small_pictures_race_networks_from_scratch_few_a_frozen_one_as_well(tmp_path: Path) -> None:
    usual = ("mlp", "cnn", "fcn", "gru", "handcrafted")
    root = folder(tmp_path, [(32, 32)] * 4)
    chosen = choose_families(settings(tmp_path, "data=folder", f"data.root={root}"))
    assert set(chosen.names) == {"embedding", *usual}
    assert choose_families(settings(tmp_path)).names == usual, "the digits"


@pytest.mark.parametrize(("overrides", "pictures"), [(["cv.folds=null"], 50), ([], 100)])
def test_a_limit_of_pictures_limits_the_judges(
    tmp_path: Path, overrides: list[str], pictures: int
) -> None:
    overrides = ["data.limit=50", *overrides]
    said = choose_families(settings(tmp_path, *overrides), overrides).reason
    folds = pictures == 100
    judges = "held-out" if folds else "validation"
    assert f"{pictures} {judges} pictures detect" in said
    assert ("5-fold cross-validation" in said) == folds
    assert said.startswith("1,797 pictures, about 8 pixels a side; 20 minutes or 24 trials at most")


@pytest.mark.parametrize(
    ("overrides", "pictures"), [([], 269), (["cv.folds=5", "pruner=none"], 1437)]
)
def test_the_first_lines_say_which_difference_the_pictures_show(
    tmp_path: Path, overrides: list[str], pictures: int
) -> None:
    """Of the 1,797 digits; held against simulated pairs that are judged as a pair is."""
    last = choose_families(settings(tmp_path, *overrides)).reason.splitlines()[-1]
    named = describe_judging(settings(tmp_path, *overrides, "families=[cnn]"), overrides)
    assert last == f"  {named}", "whoever names the families reads it as well"
    found = re.search(
        r"^  ([\d,]+) (?:validation|held-out) pictures detect .* of (\d+\.\d) points", last
    )
    assert found and int(found[1].replace(",", "")) == pictures
    gap, generator = float(found[2]) / 100, np.random.default_rng(0)
    ahead = generator.multinomial(pictures, [0.05 + gap / 2, 0.05 - gap / 2, 0.9], 4000)
    shown = []
    for first, second, _ in ahead:
        mean = (first - second) / pictures
        shown.append(mean > 1.96 * np.sqrt(((first + second) / pictures - mean**2) / pictures))
    assert 0.77 < np.mean(shown) < 0.83


def test_pictures_in_groups_show_what_groups_do_at_the_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By simulated groups that each of two candidates has wholly right or wrong."""
    names = tuple(f"patient {index // 10}" for index in range(4000))
    arrays = np.zeros((4000, 1, 8, 8), np.uint8)
    listed = Source("x", ("a", "b"), np.arange(4000) % 2, arrays=arrays, groups=names)
    monkeypatch.setattr(study_pictures, "list_pictures", lambda _: listed)
    overrides = ["cv.folds=5", "pruner=none"]
    said = describe_judging(settings(tmp_path, *overrides, "families=[cnn]"), overrides)
    found = re.fullmatch(
        r"3,200 held-out pictures detect .* (\d+\.\d) points with 80 % power \(1 point: 7,900\); "
        r"(\d+\.\d) points if each of about 320 groups is answered as one",
        said,
    )
    assert found and float(found[1]) == pytest.approx(1.6, abs=0.1)
    gap, generator = float(found[2]) / 100, np.random.default_rng(0)
    ahead = generator.multinomial(320, [0.05 + gap / 2, 0.05 - gap / 2, 0.9], 4000)
    mean = (ahead[:, 0] - ahead[:, 1]) / 320
    error = np.sqrt(((ahead[:, 0] + ahead[:, 1]) / 320 - mean**2) / 319)
    assert 0.77 < np.mean(mean > student.ppf(0.975, 319) * error) < 0.83
    alone = replace(listed, groups=tuple(map(str, range(4000))))
    monkeypatch.setattr(study_pictures, "list_pictures", lambda _: alone)
    assert describe_judging(settings(tmp_path, *overrides), overrides).endswith("(1 point: 7,900)")
    # So many do show it: by simulation of pairs that are judged as a pair is.
    ahead = generator.multinomial(7900, [0.055, 0.045, 0.9], 4000)
    mean = (ahead[:, 0] - ahead[:, 1]) / 7900
    error = np.sqrt(((ahead[:, 0] + ahead[:, 1]) / 7900 - mean**2) / 7900)
    assert 0.77 < np.mean(mean > 1.96 * error) < 0.83


def test_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        choose_families(settings(tmp_path, "data=folder", f"data.root={tmp_path / 'nowhere'}"))


def test_auto_is_a_word_of_its_own_and_a_list_overrules_it(tmp_path: Path) -> None:
    assert settings(tmp_path).families == "auto"
    assert settings(tmp_path, "families=[cnn]").families == ["cnn"]
    with pytest.raises(ConfigError, match=r"it must be auto or a list, each text, as in \[cnn\]"):
        settings(tmp_path, "families=cnn")


@pytest.mark.parametrize("metric", ["auto", "balanced_accuracy"])
def test_a_small_validation_part_is_replaced_by_folds(tmp_path: Path, metric: str) -> None:
    root = folder(tmp_path, [(32, 32)] * 20)
    overrides = ["data=folder", f"data.root={root}", f"metric={metric}"]
    chosen = choose_families(settings(tmp_path, *overrides), overrides)
    assert chosen.overrides == ("cv.folds=5", "pruner=wilcoxon")
    assert "3 validation pictures are too few" in chosen.reason.splitlines()[3]
    named = describe_judging(settings(tmp_path, *overrides, "families=[cnn]"), overrides)
    assert "only 3 pictures" in named and "on all 17 that" in named
    judged = settings(tmp_path, *overrides, *chosen.overrides)
    assert judged.cv.is_whole and judged.pruner.name == "wilcoxon"


@pytest.mark.parametrize(
    "said", ["cv.folds=null", "cv.folds=3", "pruner=asha", "pruner=none", "pruner.min_epochs=3"]
)
def test_who_says_how_candidates_are_judged_is_heeded(tmp_path: Path, said: str) -> None:
    root = folder(tmp_path, [(32, 32)] * 20)
    overrides = ["data=folder", f"data.root={root}", said]
    if said == "cv.folds=3":
        overrides.append("pruner=none")
    assert choose_families(settings(tmp_path, *overrides), overrides).overrides == ()
    assert "has only" not in describe_judging(
        settings(tmp_path, *overrides, "families=[cnn]"), overrides
    )


def test_a_validation_part_that_is_large_enough_stays(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("val", 200)):
        made = folder(tmp_path / part, [(8, 8)] * count)
        (tmp_path / "set").mkdir(exist_ok=True)
        made.rename(tmp_path / "set" / part)
    overrides = ["data=folder", f"data.root={tmp_path / 'set'}"]
    assert choose_families(settings(tmp_path, *overrides), overrides).overrides == ()
    named = describe_judging(settings(tmp_path, *overrides, "families=[cnn]"), overrides)
    assert named.startswith("200 validation pictures detect ") and "\n" not in named


def test_other_pictures_end_a_study_and_the_same_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pets", {"cat": 6, "dog": 6})
    overrides = ["study=s", "data=folder", f"data.root={root}", "families=[mlp]"]
    settings = read_sweep_settings(overrides, "default")
    known: dict[str, Any] = {}
    study: Any = SimpleNamespace(recall=known.get, remember=known.__setitem__)
    check_pictures(settings, study)
    first = dict(known)
    check_pictures(settings, study)
    assert known == first
    first_cat = min((root / "cat").iterdir())
    content = first_cat.read_bytes()
    changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: write(root / "cat" / "x.png", png(900)), (root / "cat" / "x.png").unlink),
        (first_cat.unlink, lambda: write(first_cat, content)),
        (lambda: write(first_cat, png(901)), lambda: write(first_cat, content)),
        (
            lambda: first_cat.rename(root / "dog" / "x.png"),
            lambda: (root / "dog" / "x.png").rename(first_cat),
        ),
        (
            lambda: first_cat.rename(root / "cat" / "z.png"),
            lambda: (root / "cat" / "z.png").rename(first_cat),
        ),
        (
            lambda: tree(root, {"bird": 3}, seed=800),
            lambda: shutil.rmtree(root / "bird"),
        ),
    ]
    for change, undo in changes:
        change()
        with pytest.raises(ConfigError, match="that the study s began with"):
            check_pictures(settings, study)
        assert known == first
        undo()
        check_pictures(settings, study)
    (root / "dog").rename(root / "eel")
    with pytest.raises(ConfigError, match="that the study s began with"):
        check_pictures(settings, study)
