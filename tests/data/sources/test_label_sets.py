"""Label sets and ordered classes from tables, JSON lines and folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError, from_plain
from src.config.compose import compose_plain
from src.config.data import DataSettings
from src.data.sources.folder import load
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source

NAMES = ("0.png", "1.png", "2.png", "3.png")
SETS = [{"cat", "dog"}, {"dog"}, set(), {"bird", "cat", "dog"}]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with four pictures."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def listed(root: Path, separator: str | None = None) -> Source:
    return load(root, root.parent / "cache", False, separator=separator, target="multi")


def table(folder: Path, *lines: str, name: str = "labels.csv") -> Path:
    file = folder / name
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def sets_of(source: Source) -> dict[str, set[str]]:
    assert source.sample_paths is not None
    names = np.array(source.class_names)
    pairs = zip(source.sample_paths, source.targets, strict=True)
    return {path: set(names[row > 0].tolist()) for path, row in pairs}


EXPECTED = dict(zip(NAMES, SETS, strict=True))


@pytest.mark.parametrize("mark", [";", "|", ","])
def test_a_cell_holds_all_labels_of_a_picture(pictures: Path, mark: str) -> None:
    rows = [f'{name},"{mark.join(sorted(one))}"' for name, one in EXPECTED.items()]
    assert sets_of(listed(table(pictures, "path,labels", *rows))) == EXPECTED


def test_a_line_may_repeat_another_with_its_labels_in_another_order(pictures: Path) -> None:
    rows = [f"{name},{';'.join(sorted(one))}" for name, one in EXPECTED.items()]
    found = listed(table(pictures, "path,labels", *rows, "0.png,dog;cat"))
    assert sets_of(found) == EXPECTED and "repeats lines (1)" in str(found.problems[0])


def test_a_separator_may_be_named(pictures: Path) -> None:
    rows = [f"{name},{' + '.join(sorted(one))}" for name, one in EXPECTED.items()]
    assert sets_of(listed(table(pictures, "path,labels", *rows), separator="+")) == EXPECTED


def test_each_label_may_be_a_column_of_0_and_1(pictures: Path) -> None:
    classes = ("bird", "cat", "dog", "fish")
    rows = [
        f"{name},{','.join(str(int(c in one)) for c in classes)},x"
        for name, one in EXPECTED.items()
    ]
    source = listed(table(pictures, f"path,{','.join(classes)},note", *rows))
    assert sets_of(source) == EXPECTED
    said = " ".join(map(str, source.problems))
    assert "fish" in said and "note" in said


@pytest.mark.parametrize("name", ["labels", "target", "label"])
def test_a_label_that_is_called_as_their_column_is_not_taken_for_it(
    pictures: Path, name: str
) -> None:
    rows = ["0.png,x,1,0,1", "1.png,y,0,1,yes", "2.png,x,0,0,0"]
    file = table(pictures, f"path,note,cat,{name},dog", *rows)
    with pytest.raises(ConfigError, match=rf"{name} holds 0 and 1, as cat does.*\[path,{name}\]"):
        listed(file)
    source = load(file, pictures / "c", False, columns=["path", name], target="multi")
    assert source.class_names == ("0", "1")
    file = table(pictures, f"path,{name},cat", "0.png,tall,1", "1.png,1,0")
    assert set(listed(file).class_names) == {"tall", "1"}, "one cell that is neither is enough"
    file = table(pictures, f"path,{name},height", "0.png,1,1", "1.png,0,180")
    assert listed(file).class_names == ("0", "1")


def test_a_file_of_json_lines_has_lists_of_labels(pictures: Path) -> None:
    lines = [
        json.dumps({"path": name, "labels": sorted(one), "split": split})
        for (name, one), split in zip(EXPECTED.items(), ("train", "train", "val", "test"))
    ]
    lines[0] = f"\ufeff{lines[0]}"  # the mark that Windows puts at the start
    source = listed(table(pictures, *lines, name="labels.jsonl"))
    assert sets_of(source) == EXPECTED
    assert source.given_parts is not None
    assert source.given_parts.tolist() == ["train", "train", "val", "test"]


def test_a_line_of_json_says_that_a_picture_has_no_label(pictures: Path) -> None:
    said = [{"labels": ["a", "b"]}, {"labels": []}, {"label": None}, {"label": "a"}]
    lines = [json.dumps({"path": f"{n}.png"} | one) for n, one in enumerate(said)]
    source = listed(table(pictures, *lines, name="labels.jsonl"))
    assert [len(one) for one in sets_of(source).values()] == [2, 0, 0, 1]


def test_a_picture_in_several_class_folders_has_all_their_labels(pictures: Path) -> None:
    root = pictures / "tree"
    for name, one in EXPECTED.items():
        for label in one:
            (root / label).mkdir(parents=True, exist_ok=True)
            (root / label / f"{label}{name}").write_bytes((pictures / name).read_bytes())
    found = sets_of(listed(root))
    assert sorted(map(sorted, found.values())) == sorted(sorted(one) for one in SETS if one)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,cat,dog", "0.png,1,0", "1.png,2,0"], r"line 3: cat is '2'"),
        (["path,cat,cat", "0.png,1,0"], "two columns cat"),
        (["path,note", "0.png,a", "1.png,b"], "no column labels"),
        (["path,labels", "0.png,a;b", '1.png,"a|c"'], r"line 3: labels are divided by"),
        (["path,labels", "0.png,a", "0.png,b"], "lines 2 and 3 name the same file.* into one line"),
        (["path,label,category", "0.png,a,b"], "could each be the labels|label"),
        (["path,labels,label", "0.png,a,b", "1.png,b,a"], "label and labels could each be"),
        (["path,labels", "0.png,a", "1.png,a"], "at least 2 labels"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(
    pictures: Path, lines: list[str], said: str
) -> None:
    if "category" in lines[0]:
        lines = [line.replace("label,", "class,") for line in lines]
    with pytest.raises(ConfigError, match=said):
        listed(table(pictures, *lines))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"path": "0.png", "labels": 3}', "line 1: labels is 3"),
        ('{"path": "0.png", "labels": "a;b"}', "line 1: labels is 'a;b'.*write a list"),
        ('{"path": "0.png", "labels": ["a"], "label": "a"}', "leave one out"),
        (
            '{"path": "0.png", "lables": ["a"]}',
            r"line 1: there is no key labels \(did you mean lab",
        ),
        ('["0.png"]', r"labels\.jsonl, line 1: it is no object of JSON, such as"),
        ('{"path": ', "no JSON"),
        ('{"labels": ["a"]}', "path is None"),
        ('{"path": "x\\u0000/0.png", "labels": []}', "line 1: path is .* a NUL"),
        ('{"path": "x\\ud800/0.png", "labels": []}', "line 1: path is .* half a character"),
        ('{"path": "0.png", "labels": ["a", "b\\ud83d"]}', "line 1: labels is .* half a char"),
        pytest.param(
            '{"path": "0.png", "labels": ' + "[" * 100_000, "1: it has too many", id="deep"
        ),
        pytest.param(
            '\n{"path": "0.png", "label": ' + "1" * 5000, "line 2: it is no JSON", id="long"
        ),
    ],
)
def test_what_is_wrong_with_a_line_of_json_is_said(pictures: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        listed(table(pictures, line, name="labels.jsonl"))


def settings(root: Path, **values: object) -> DataSettings:
    plain = compose_plain(["data=folder"], "config")["data"]
    return from_plain(DataSettings, {**plain, "root": str(root), **values})


@pytest.fixture
def grades(pictures: Path) -> Path:
    rows = [f"{name},{grade}" for name, grade in zip(NAMES, ("mild", "none", "severe", "mild"))]
    return table(pictures, "path,label", *rows)


def test_ordered_classes_come_in_the_order_that_is_given(grades: Path) -> None:
    source = list_pictures(settings(grades, target="ordinal", order=["none", "mild", "severe"]))
    assert source.class_names == ("none", "mild", "severe")
    assert source.targets.tolist() == [1, 0, 2, 1] and source.kind == "ordinal"
    kept = source.only(np.array([0, 2]))
    assert kept.class_names == ("mild", "severe") and kept.targets.tolist() == [0, 1]


def test_numbers_have_an_order_of_their_own(pictures: Path) -> None:
    rows = [f"{name},{grade}" for name, grade in zip(NAMES, ("10", "2", "-1", "2"))]
    source = list_pictures(settings(table(pictures, "path,label", *rows), target="ordinal"))
    assert source.class_names == ("-1", "2", "10") and source.targets.tolist() == [2, 1, 0, 1]


def test_an_order_may_be_written_in_another_unicode_form(pictures: Path) -> None:
    rows = [f"{name},{grade}" for name, grade in zip(NAMES, ["caf\u00e9", "b"] * 2, strict=True)]
    order = [" cafe\u0301", "b"]
    source = list_pictures(
        settings(table(pictures, "path,label", *rows), target="ordinal", order=order)
    )
    assert source.class_names == ("caf\u00e9", "b") and source.targets.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("named", "sign"), [("space", " "), ("tab", "\t"), ("\\t", "\t"), (".", ".")]
)
def test_separators_that_a_command_line_can_hardly_say_have_names(
    pictures: Path, named: str, sign: str
) -> None:
    rows = [f'{name},"{sign.join(sorted(one))}"' for name, one in EXPECTED.items()]
    assert sets_of(listed(table(pictures, "path,labels", *rows), separator=named)) == EXPECTED


def test_a_separator_that_no_cell_has_is_refused(pictures: Path) -> None:
    rows = [f"{name},{';'.join(sorted(one))}" for name, one in EXPECTED.items()]
    with pytest.raises(ConfigError, match=r"data\.separator is '\+', and no cell has it"):
        listed(table(pictures, "path,labels", *rows), separator="+")
    with pytest.raises(ConfigError, match=r"data\.separator is empty"):
        listed(table(pictures, "path,labels", *rows), separator="")


def test_labels_of_missing_pictures_alone_are_named(pictures: Path) -> None:
    lines = [
        json.dumps({"path": "gone.png", "labels": ["a", "b"]}),
        '{"path": "0.png", "label": []}',
    ]
    root = table(pictures, *lines, name="labels.jsonl")
    with pytest.raises(ConfigError, match="no picture of the class a can be used"):
        list_pictures(settings(root, target="multi", on_bad_image="skip"))


@pytest.mark.parametrize("write", [repr, json.dumps])
def test_a_cell_may_hold_a_list(pictures: Path, write: Callable[[list[str]], str]) -> None:
    cells = [write(sorted(one)).replace('"', '""') for one in EXPECTED.values()]
    rows = [f'{name},"{cell}"' for name, cell in zip(EXPECTED, cells, strict=True)]
    assert sets_of(listed(table(pictures, "path,labels", *rows))) == EXPECTED
    for damaged in ("[cat]", "[1;2]", "['cat'; 'dog']"):
        file = table(pictures, "path,labels", rows[0], f"{NAMES[1]},{damaged}")
        with pytest.raises(ConfigError, match=r"line 3: the labels are .* no list of texts"):
            listed(file)


def test_a_column_of_labels_with_another_number_is_not_taken_for_none(pictures: Path) -> None:
    """As where -1 says that nobody knows; an age beside them is no label."""
    rows = [f"{name},{first},1,0,{30 + first}" for name, first in zip(NAMES, (-1, 0, 1, 0))]
    with pytest.raises(ConfigError, match="line 2: cat is '-1'"):
        listed(table(pictures, "path,cat,dog,bird,age", *rows))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target": "ordinal"}, r"the classes are no numbers .*mild, none, severe.*data\.order="),
        ({"target": "ordinal", "order": ["none", "mild"]}, "lacks severe, which pictures have"),
        (
            {"target": "ordinal", "order": ["none", "mild", "severe", "worse"]},
            "worse, which no picture has",
        ),
        ({"target": "ordinal", "order": ["none", "mild", "mild"]}, "each once"),
        ({"order": ["none", "mild", "severe"]}, "target=ordinal"),
        ({"separator": ";"}, "target=multi"),
        ({"threshold": "half"}, "target=multi"),
    ],
)
def test_an_order_that_is_none_is_refused(grades: Path, values: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list_pictures(settings(grades, **values))


@pytest.mark.parametrize("third", ["nan", "inf", "1e0"])
def test_numbers_without_a_place_of_their_own_need_an_order(grades: Path, third: str) -> None:
    text = grades.read_text()
    for name, number in (("none", "1"), ("mild", "2"), ("severe", third)):
        text = text.replace(name, number)
    grades.write_text(text)
    with pytest.raises(ConfigError, match=rf"no numbers that differ: .*{third}"):
        list_pictures(settings(grades, target="ordinal"))
    given = settings(grades, target="ordinal", order=["1", "2", third])
    assert list_pictures(given).class_names == ("1", "2", third)


def test_a_set_with_one_label_a_picture_is_not_taken_for_label_sets() -> None:
    plain = compose_plain(["data=digits"], "config")["data"]
    with pytest.raises(ConfigError, match=r"set data\.target=single"):
        list_pictures(from_plain(DataSettings, {**plain, "target": "multi"}))
