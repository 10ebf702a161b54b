from __future__ import annotations

import os
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.config.checks import ConfigError
from src.data.sources.class_folders import is_held_out, part_named
from src.data.sources.folder import list_tree, load
from src.data.sources.label_spelling import clean_label
from src.data.sources.source import Source, is_left_behind
from tests.data.pictures import png, tree, write


def listed(root: Path) -> Source:
    return load(root, root.parent / "cache", False)


def reasons(source: Source) -> dict[str, str]:
    return {problem.path: problem.reason for problem in source.problems}


def test_class_folders_in_natural_order(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", {"class10": 1, "class2": 2, "Class1": 1})
    source = listed(root)
    assert source.class_names == ("Class1", "class2", "class10")
    assert source.targets.tolist() == [0, 1, 1, 2]
    assert source.targets.dtype == np.int64
    assert source.sample_paths == (
        "Class1/003.png",
        "class2/001.png",
        "class2/002.png",
        "class10/000.png",
    )
    assert source.given_parts is None
    assert source.problems == ()
    assert all(os.path.isfile(source.file(index)) for index in range(4))


@pytest.mark.parametrize(
    "counts",
    [
        # A train is a class among vehicles.
        {"train": 2, "bus": 1, "test": 1},
        {"train/steam": 2, "bus/red": 2},
        {"train/steam": 2, "train station": 1, "bus": 1},
        {"train": 2, "test_tube": 1, "blood_test": 1},
        {"test_positive": 2, "test_negative": 1},
        {"pred": 1, "prey": 2},
        {"fold1": 1, "fold2": 1},
        {"dev": 1, "ops": 1, "train": 1},
        {"letters/A": 2, "digits/1": 1},
    ],
)
def test_names_of_parts_may_be_names_of_classes(counts: dict[str, int], tmp_path: Path) -> None:
    source = listed(tree(tmp_path / "pictures", counts))
    assert source.given_parts is None
    assert set(source.class_names) == {folder.partition("/")[0] for folder in counts}


PARTED = {
    "plain": (["train/%s", "val/%s", "test/%s"], ["train", "val", "test"]),
    "whole words": (["Training/%s", "VALID/%s", "Testing/%s"], ["train", "val", "test"]),
    "two": (["train/%s", "validation/%s"], ["train", "val"]),
    "wrapped": (["seg_train/seg_train/%s", "seg_test/seg_test/%s"], ["train", "test"]),
    "sets": (["training_set/%s", "test_set/%s"], ["train", "test"]),
    "dev": (["train/%s", "dev/%s"], ["train", "val"]),
    "images": (["train_images/%s", "val_images/%s"], ["train", "val"]),
    "deeper images": (["train/images/%s", "test/images/%s"], ["train", "test"]),
    "years": (["train2017/%s", "val2017/%s", "test2017/%s"], ["train", "val", "test"]),
    "capitals": (["TrainSet/%s", "Valid/%s"], ["train", "val"]),
    "joined": (["trainset/%s", "testset/%s"], ["train", "test"]),
    "prefix": (["birds-train/%s", "birds-validation/%s"], ["train", "val"]),
    "both in one": (["trainval/%s", "test/%s"], ["train", "test"]),
    "inside": (["%s/train", "%s/test"], ["train", "test"]),
    "inside, three": (["%s/Train", "%s/valid", "%s/test"], ["train", "val", "test"]),
}


@pytest.mark.parametrize("kind", PARTED)
def test_parts_under_other_names(kind: str, tmp_path: Path) -> None:
    places, parts = PARTED[kind]
    counts = {place % label: 2 for place in places for label in ("forest", "sea")}
    source = listed(tree(tmp_path / "root", counts))
    assert source.class_names == ("forest", "sea") and source.problems == ()
    assert source.given_parts is not None and source.sample_paths is not None
    found = zip(source.given_parts.tolist(), source.targets, source.sample_paths, strict=True)
    of_place = {place.replace("%s", ""): part for place, part in zip(places, parts, strict=True)}
    for part, target, path in found:
        label = ("forest", "sea")[target]
        assert label in path
        assert of_place[path.rpartition("/")[0].replace(label, "")] == part
    assert sorted(set(source.given_parts)) == sorted(parts) and len(source) == 4 * len(parts)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["fold0/%s", "fold1/%s", "fold2/%s"], "fold0, fold1, fold2 .*cv.folds=3"),
        (["Split 1/%s", "Split 2/%s"], "Split 1, Split 2 .*cv.folds=2"),
        (["train/%s", "eval/%s"], "train and eval .*call it val or test"),
        (["train/%s", "query/%s", "gallery/%s"], "train and gallery .*call it"),
        (["Training/%s", "PublicTest/%s", "PrivateTest/%s"], "Training and P.*Test"),
        (["train/%s", "test1/%s", "test2/%s"], "two folders for test: test1 and test2"),
        (["train/%s", "training/%s", "test/%s"], "two folders for train: train and training"),
        (["val/%s", "test/%s"], "test, val and no train part"),
        (["%s/train", "%s/test", "%s/masks"], "nothing but train, val and test"),
    ],
)
def test_folders_that_may_be_parts_are_refused(
    places: list[str], message: str, tmp_path: Path
) -> None:
    counts = {place % label: 1 for place in places for label in ("forest", "sea")}
    with pytest.raises(ConfigError, match=message):
        listed(tree(tmp_path / "root", counts))


@pytest.mark.parametrize("names", [("train", "test"), ("seg_train", "seg_test")])
def test_parts_without_classes_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folders of classes"):
        listed(tree(tmp_path / "root", dict.fromkeys(names, 2)))


@pytest.mark.parametrize(
    ("folder", "left_out"),
    [
        ("seg_pred/seg_pred", "pictures without labels; left out (3 pictures)"),
        ("docs/figures", "is no part; left out (3 pictures)"),
        ("seg_test", "lies in no class folder (3 such pictures)"),
        ("seg_test/unknown", "without labels, they were left out"),
    ],
)
def test_pictures_without_labels_are_named_and_left_out(
    folder: str, left_out: str, tmp_path: Path
) -> None:
    counts = {f"seg_train/seg_train/{label}": 2 for label in ("forest", "sea")}
    counts |= {f"seg_val/{label}": 1 for label in ("forest", "sea")}
    source = listed(tree(tmp_path / "root", counts | {folder: 3}))
    assert source.class_names == ("forest", "sea") and len(source) == 6
    (reason,) = reasons(source).values()
    assert left_out in reason


def test_a_train_folder_beside_pictures_without_labels_gives_the_classes(tmp_path: Path) -> None:
    counts = {"train/cat": 2, "train/dog": 2, "test_unlabeled": 3}
    source = listed(tree(tmp_path / "root", counts))
    assert source.class_names == ("cat", "dog") and source.given_parts is None
    assert "without labels" in reasons(source)["test_unlabeled"]


def test_folders_alike_in_every_class_are_mentioned(tmp_path: Path) -> None:
    counts = {f"{site}/{label}": 1 for site in ("north", "south") for label in ("cat", "dog")}
    source = listed(tree(tmp_path / "root", counts))
    assert source.class_names == ("north", "south")
    assert "cat, dog" in reasons(source)["north"]


def test_labels_that_look_alike(tmp_path: Path) -> None:
    source = listed(tree(tmp_path / "one", {"cat\u200b": 1, "cat ": 1, "Cat": 1, "dog": 1}))
    assert source.class_names == ("Cat", "cat", "dog")
    said = [problem.reason for problem in source.problems]
    assert said == [
        "the labels 'cat ', 'cat\\u200b' look alike and were taken for one",
        "the labels Cat, cat differ only in capitals, and are classes of their own",
    ]
    with pytest.raises(ConfigError, match=r"only one \(cat\).* look alike"):
        listed(tree(tmp_path / "three", {"cat": 1, "cat ": 1}))
    counts = {"train/cat": 1, "train/dog": 1, "test/Cat": 1, "test/dog": 1}
    with pytest.raises(ConfigError, match="class cat in the train part and Cat in another"):
        listed(tree(tmp_path / "two", counts))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("cat", "\uff43\uff41\uff54"), r"the labels 'cat', '\\uff43\\uff41\\uff54' may be meant"),
        (("stra\u00dfe", "strasse"), r"'strasse', 'stra\\xdfe' may be meant for one"),
        (("\ufb01g", "FIG"), r"'FIG', '\\ufb01g' may be meant for one"),
        (("1", "01", "\uff11"), r"'01', '1', '\\uff11' may be meant for one"),
        (("00", "0"), r"may be meant for one"),
        (("\u2764", "\u2764\ufe0f"), r"may be meant for one"),
        (("t-shirt", "t\u2013shirt", "t\u2212shirt"), r"may be meant for one"),
        (("inek", "\u0130nek"), r"may be meant for one"),
        (("1", "10", "img1", "img01", "c\u0430t", "cot"), None),  # a Cyrillic letter is another
    ],
)
def test_labels_that_may_be_meant_for_one(
    tmp_path: Path, labels: tuple[str, ...], said: str | None
) -> None:
    source = listed(tree(tmp_path / "root", dict.fromkeys(labels, 1)))
    assert set(source.class_names) == set(labels)
    remarks = [problem.reason for problem in source.problems]
    if said is None:
        assert remarks == []
        return
    (remark,) = remarks
    assert re.search(said, remark) and remark.endswith("and are classes of their own")
    counts = {f"train/{labels[0]}": 1, "train/dog": 1, f"test/{labels[1]}": 1, "test/dog": 1}
    with pytest.raises(ConfigError, match="in another: they may be meant for one"):
        listed(tree(tmp_path / "parts", counts))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("cat", "c\u0430t"), [r"'cat', 'c\u0430t'"]),
        (("\u0441\u0430\u0440", "Cap", "cap"), [r"Cap, cap differ", r"'Cap', 'cap', '\u0441"]),
        (("\u039f\u039d", "ON"), [r"'ON', '\u039f\u039d'"]),
        # One script: not even letters that look like the same Latin one are taken for one.
        (("\u043d\u043e", "\u04bb\u043e", "\u0441\u043e\u0440", "\u0432\u043e\u0440"), []),
        (("\u03bd\u03b1", "\u03bd\u03bf", "\u039d"), []),
        (("A", "B", "c", "1", "_"), []),
        (("kot", "\u043a\u043e\u0442", "dog", "\u043f\u0451\u0441"), []),  # a pair of languages
    ],
)
def test_letters_of_several_alphabets_that_look_the_same(
    tmp_path: Path, labels: tuple[str, ...], said: list[str]
) -> None:
    source = listed(tree(tmp_path / "root", dict.fromkeys(labels, 1)))
    assert set(source.class_names) == set(labels)
    remarks = [problem.reason for problem in source.problems]
    assert len(remarks) == len(said)
    for part in said:
        (remark,) = [one for one in remarks if part in one]
        assert remark.endswith("and are classes of their own")
    # One that is in the test part alone cannot be learnt.
    first, last = min(labels), max(labels)
    places = ("train/zebra", "test/zebra", f"train/{first}", f"test/{last}")
    parts = tree(tmp_path / "parts", dict.fromkeys(places, 1))
    if said:
        with pytest.raises(ConfigError, match=r"in another: they may be meant for one"):
            listed(parts)
    else:
        assert len(listed(parts).class_names) == 3


def test_one_folder_around_all_is_looked_through(tmp_path: Path) -> None:
    counts = {"pets/data/train/cat": 1, "pets/data/train/dog": 1, "pets/data/test/cat": 1}
    source = listed(tree(tmp_path / "root", counts))
    assert source.class_names == ("cat", "dog")
    assert source.sample_paths is not None
    assert source.sample_paths[0] == "pets/data/train/cat/000.png"
    # A train folder alone gives no parts.
    source = listed(tree(tmp_path / "other", {"train/cat": 1, "train/dog": 1}))
    assert source.given_parts is None


def test_pictures_may_lie_deeper_and_behind_links(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat/indoor/day": 1, "cat": 1, "dog": 1})
    tree(tmp_path / "elsewhere", {"more": 2}, seed=50)
    (root / "dog" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "dog" / "loop").symlink_to(root / "dog")
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nothing.png")
    for name in ("dog/itself.png", "itself"):
        (root / name).symlink_to(root / name)
    source = listed(root)
    assert source.targets.tolist() == [0, 0, 1, 1, 1]
    assert "cat/indoor/day/000.png" in (source.sample_paths or ())
    assert reasons(source) == {
        "dog/gone.png": "is a broken link or no regular file; left out",
        **dict.fromkeys(("dog/itself.png", "itself"), "is a link to itself; left out"),
    }


def test_a_class_of_several_folders_is_named(tmp_path: Path) -> None:
    folders = {"animals/cats": 2, "animals/dogs": 1, "plants/trees": 1, "things": 1, "things/a": 1}
    source = listed(tree(tmp_path / "root", folders))
    assert source.class_names == ("animals", "plants", "things")
    assert list(reasons(source)) == ["animals"]
    assert "2 folders (cats, dogs)" in reasons(source)["animals"]
    # Whoever names the folders of all classes alike knows of them.
    alike = listed(tree(tmp_path / "alike", {f"{a}/{b}": 1 for a in "xy" for b in "pq"}))
    assert len(reasons(alike)) == 1


def test_all_endings_in_any_case(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 1, "b": 1})
    endings = ["jpg", "JPEG", "Png", "bmp", "GIF", "webp", "tif", "TIFF", "ppm", "PGM"]
    endings += ["jfif", "JPE", "mpo", "avif", "jp2", "HEIC"]
    for ending in endings:
        write(root / "a" / f"picture.{ending}", png(0))
    source = listed(root)
    assert (source.targets == 0).sum() == 1 + len(endings)


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 2, "dog": 2, ".ipynb_checkpoints": 3, "__MACOSX": 1})
    for name in (".DS_Store", "Thumbs.db", "._0.png"):
        write(root / "cat" / name, b"x")
    write(root / "cat" / "notes.txt", b"x")
    write(root / "dog" / "list.json", b"x")
    write(root / "dog" / "README", b"x")
    write(root / "stray.png", png(99))
    (root / "empty").mkdir()
    source = listed(root)
    assert source.class_names == ("cat", "dog")
    assert len(source) == 4
    found = reasons(source)
    for name in (".ipynb_checkpoints", "__MACOSX"):
        assert found.pop(name) == "is a hidden folder; left out"
    assert found.pop("empty") == "holds no pictures; this folder was left out"
    assert found.pop("stray.png").startswith("lies in no class folder (1 such")
    ((_, reason),) = found.items()
    assert "no picture by its name" in reason
    assert all(kind in reason for kind in ("1 .txt", "1 .json", "1 without ending"))
    write(root / "dog" / "scan.pdf", b"x")
    assert reasons(listed(root))["dog/scan.pdf"] == (
        "is a PDF file: save its pages as PNG; such files were left out "
        "(1 .txt, 1 without ending, 1 .json, 1 .pdf)"
    )


def test_a_class_of_pictures_that_are_not_read_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 2, "dog": 2})
    write(root / "notes" / "labels.xml", b"x")  # no class, and no loss
    assert listed(root).class_names == ("cat", "dog")
    write(root / "owl" / "night" / "1.CR2", b"x")
    write(root / "owl" / "2.jxl", b"x")
    with pytest.raises(ConfigError, match=r"class folder owl holds 2 files .*2\.jxl is a picture"):
        listed(root)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.PDF", "save its pages as PNG"),
        ("a.svg", "save it as PNG"),
        ("a.nef", "with a raw converter"),
        ("a.b.nii.gz", "a volume: save its slices"),
        ("a.tar.gz", "unpack it"),
        ("a.mp4", "set data.frames=25"),
    ],
)
def test_files_that_are_not_read_have_a_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    write(tmp_path / "root" / "cat" / name, b"x")
    write(tmp_path / "root" / "dog" / "a.jpg", b"x")
    with pytest.raises(ConfigError, match=rf"folder cat holds 1 file .*: {name} is .*{remedy}"):
        listed(tmp_path / "root")
    if name.endswith(("gz", "zip")):  # which may hold the classes
        return
    with pytest.raises(ConfigError, match=rf"has none\..* It holds 1 file .*{name} is .*{remedy}"):
        listed(tmp_path / "root" / "cat")


def test_parts_that_do_not_match_are_named(tmp_path: Path) -> None:
    counts = {"train/cat": 1, "train/dog": 1, "test/cat": 1, "test/cow": 1, "docs/a": 1}
    source = listed(tree(tmp_path / "root", counts))
    assert source.class_names == ("cat", "cow", "dog")
    found = reasons(source)
    assert found["cow"] == "is a class without pictures in the train part"
    assert "is no part" in found["docs"]


def test_one_letter_in_two_encodings_is_one_class(tmp_path: Path) -> None:
    composed, split = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    counts = {f"train/{composed}": 1, "train/tea": 1, f"test/{split}": 1}
    source = listed(tree(tmp_path / "root", counts))
    assert source.class_names == (composed, "tea")
    assert source.problems == ()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_unicode_are_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 1, "b": 1})
    with open(os.path.join(os.fsencode(root), b"a", b"\xff.png"), "wb") as file:
        file.write(png(0))
    source = listed(root)
    assert len(source) == 2
    ((path, reason),) = reasons(source).items()
    assert path.isascii() and "no valid UTF-8" in reason


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_classes_whose_names_are_no_unicode_are_named_where_too_few_are_left(
    tmp_path: Path,
) -> None:
    root = tree(tmp_path / "root", {"milk": 1})
    for name in (b"caf\xe9", b"th\xe9"):  # as an archive of another system has them
        shutil.copytree(os.path.join(os.fsencode(root), b"milk"), os.fsencode(root) + b"/" + name)
    with pytest.raises(ConfigError, match=r"caf\\xe9, th\\xe9: .*UTF-8"):
        listed(root)


ODD = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\\", exclude_categories=("Cs", "Cc")),
    min_size=1,
    max_size=20,
).filter(
    # Names of what systems leave behind, and of parts, are no classes.
    lambda name: (
        name.strip() == name
        and not is_left_behind(name)
        and part_named(name) is None
        and not is_held_out(name)
    )
)


@settings(max_examples=40)
@given(folder=ODD, first=ODD, second=ODD)
def test_paths_are_taken_literally(
    folder: str, first: str, second: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    labels = {clean_label(name) or name for name in (first, second)}
    if len(labels) < 2 or len({name.casefold() for name in labels}) < 2:
        return
    root = tmp_path_factory.mktemp("odd") / folder
    source = listed(tree(root, {first: 1, second: 1}))
    assert set(source.class_names) == labels
    assert all(os.path.isfile(source.file(index)) for index in range(2))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "has none"),
        ({"": 3}, r"The \d pictures directly in it .* CSV file path,label"),
        ({"cat": 2}, r"has only one \(cat\)"),
        ({"train/cat": 1, "test/cat": 1}, r"has only one \(cat\)"),
        ({"images/cat": 1, "images/dog": 1, "docs": 0}, r"set data.root=.*root/images\.$"),
    ],
)
def test_fewer_than_two_classes_are_refused(
    counts: dict[str, int], message: str, tmp_path: Path
) -> None:
    root = tree(tmp_path / "root", counts)
    for folder in counts:
        (root / folder).mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    write(root / "a.png", png(0))
    with pytest.raises(ConfigError, match=message):
        listed(root)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (None, "data.root is missing: set data.root=PATH"),
        (Path("nowhere"), "data.root is 'nowhere': there is no such file or folder.$"),
        (Path("~/pets"), "write out what ~ stands for"),
        (Path(r"C:\photos\pets"), "in WSL, C:.photos is /mnt/c/photos"),
        (Path(__file__), "neither a folder, nor a CSV or .npz file, nor an archive"),
    ],
)
def test_no_root(root: Path | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(root, tmp_path, False)


def test_the_folder_of_one_class_is_answered_with_the_one_around_it(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", {"cat": 2, "dog": 2})
    with pytest.raises(ConfigError, match=rf"has none\. .* a class, set data\.root={root}\.$"):
        list_tree(root / "cat", shown=str(root / "cat"))
    with pytest.raises(ConfigError, match=r"name them in a CSV file path,label\.$"):
        list_tree(root / "cat", shown="pets.zip")


@pytest.mark.parametrize("name", ["labels.csv", "Set.NPZ", "shards.zip"])
def test_a_folder_of_a_table_or_of_arrays_names_them(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    write(root / "a.png", png(0))
    write(root / name, b"")
    with pytest.raises(ConfigError, match=re.escape(f"in {name}, set data.root={root / name}.")):
        listed(root)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    with pytest.raises(ConfigError, match=f"in {name}, extract the archive and set data.root to"):
        listed(Path(packed))
