from __future__ import annotations

import os
import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.sources.folder import load
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source
from tests.data.pictures import png, settings_of, tree, write


def listed(root: Path) -> Source:
    return load(root, root.parent / "cache", False)


def reasons(source: Source) -> dict[str, str]:
    return {problem.path: problem.reason for problem in source.problems}


def table(folder: Path, text: str, **options: str) -> Path:
    path = folder / "pictures.csv"
    path.write_text(text, **options)
    return path


def test_csv_of_path_and_label(tmp_path: Path) -> None:
    root = tree(tmp_path / "pictures", {"a b": 2, "c": 1})
    outside = write(tmp_path / "elsewhere" / "x.png", png(9))
    text = (
        f'path,label\n"a b/000.png",dog\na b/001.png,"cat, big"\n\n./c/002.png,dog\n{outside},dog\n'
    )
    # As spreadsheets write it: with a mark at the start, and other ends of lines.
    file = table(root, text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    source = listed(file)
    assert source.class_names == ("cat, big", "dog")
    assert source.targets.tolist() == [1, 0, 1, 1]
    assert source.sample_paths == ("a b/000.png", "a b/001.png", "./c/002.png", str(outside))
    assert source.given_parts is None and source.groups is None
    assert all(os.path.isfile(source.file(index)) for index in range(4))


def test_csv_with_parts_and_groups(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    text = (
        "Group, Split ,LABEL,path,camera\n"
        "p1,train,a,x/000.png,7\np1,val,b,x/001.png,8\np2,test,a,x/002.png,9\n"
    )
    source = listed(table(tmp_path, text))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == ["train", "val", "test"]
    assert source.groups == ("p1", "p1", "p2")
    assert [problem.reason for problem in source.problems] == [
        "has columns that training does not use: camera"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there is no column path"),
        ("x/7.png,a\nx/001.png,b\n", "line 1: there is no column path; the columns are x/7.png, a"),
        ("name,label\nx/000.png,a\n", r"there is no column path; .*data.columns=\[NAME,NAME\]"),
        ("image,class,category\nx/000.png,a,b\n", r"data.columns=\[image,class\]"),
        ("path;label\nx/000.png;a;b\n", "line 2: there are 3 values .*contains a semicolon"),
        ("path,label,is_valid\n0,a,1\n000,b\n", "line 3: there are 2 values"),
        ("path,label\n", "no line after its header"),
        ("path,label,label\nx/000.png,a,a\n", "two columns label"),
        ("path,label\nx/000.png,a\nx/001.png,\n", "line 3: label is empty: .*target=multi"),
        ("path,label\nx/000.png,a\nx/001.png\n", "line 3: there is 1 value for 2 columns"),
        ("path,label\nx/000.png,bird, small\n", "line 2: there are 3 values for 2 columns"),
        ("path,label\nx/000.png,a\nx/001.png,b,\n", "line 3: there are 3 values for 2 columns"),
        ("label,path,group\na,x/000.png,g\nb, c,x/001.png,g\n", "line 3: there are 4 values"),
        ('path,label\n"x/000.png","a\nb"\nx/001.png\n', "line 4: there is 1 value"),
        ("path,label\nx/000.png,a\nx/001.png,\u200b\n", "line 3: label is empty"),
        ("path,label\nx/000.png,a\0\nx/001.png,b\n", "line 2: there is a NUL character"),
        ("path,label,group\nx/000.png,a,g\nx/001.png,b,\ufeff \n", "line 3: group is empty"),
        ("path,label\nx/000.png,a\nx/001.png,a\n", "at least 2 labels"),
        (
            "path,label\nx/000.png,a\nx/../x/000.png,b\n",
            "lines 2 and 3 name the same file.*labels a and b: leave one of them out",
        ),
        (
            "path,label,group\nx/000.png,a,g\nx/000.png,a,h\nx/001.png,b,g\n",
            "lines 2 and 3 name the same file.*different values",
        ),
        ("path,label,split\nx/000.png,a,train\nx/001.png,b,tset\n", "line 3: .*did you mean test"),
        ("path,label,split\nx/000.png,a,train\nx/001.png,b,\n", "line 3: split is empty"),
        (
            'path,label\nx/000.png,"a\nx/001.png,b\n',
            "line 3: the file ends within a value in double",
        ),
        ("path,label\nx/000.png,a\n\0\0\0\0", "line 3: there is a NUL character"),
        pytest.param(
            f"path,label\nx/000.png,{'x' * 140_000}\n", "line 2: a value is longer", id="value"
        ),
        pytest.param("x" * 140_000, "line 1: it has no names of columns: field", id="long"),
        pytest.param(f"sep=;\n{'x' * 140_000}", "line 2: it has no names of", id="sep and long"),
    ],
)
def test_csv_mistakes_are_named_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    with pytest.raises(ConfigError, match=message) as error:
        listed(table(tmp_path, text))
    assert "pictures.csv" in str(error.value)


@pytest.mark.parametrize(("disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_another_unicode_form_and_other_capitals_are_found(
    tmp_path: Path, disk: Literal["NFC", "NFD"], written: Literal["NFC", "NFD"]
) -> None:
    """As where a table comes from a Mac and the files lie on Linux, or the other way around."""
    names = [f"Fotos é/Café {number}.png" for number in range(4)]
    for number, name in enumerate(names):
        write(tmp_path / unicodedata.normalize(disk, name), png(number))
    rows = [f"{unicodedata.normalize(written, name)},{label}" for name, label in zip(names, "abab")]
    rows[3] = rows[3].replace("Fotos", "FOTOS").replace("Caf", "CAF").replace(".png", ".PNG")
    source = listed(table(tmp_path, "\n".join(["path,label", *rows]) + "\n"))
    assert source.missing == {} and all(os.path.isfile(source.file(n)) for n in range(4))
    remark = reasons(source)["pictures.csv"]
    assert "names pictures otherwise than their files are" in remark and "Unicode form" in remark


def test_a_folder_that_could_be_several_is_not_guessed(tmp_path: Path) -> None:
    for number, folder in enumerate(("Dogs", "dogs")):
        write(tmp_path / folder / "0.png", png(number))
    source = listed(table(tmp_path, "path,label\nDOGS/0.png,a\nDogs/0.png,b\n"))
    assert list(source.missing) == [0]


PLAIN = "path,label\nx/000.png,a\nx/001.png,b\nx/002.png,a\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", " | "),
        f"sep=;\r\n{PLAIN.replace(',', ';')}",
        "label;path\na;x/000.png\nb;x/001.png\na;x/002.png\n",
        PLAIN.replace("path,label", "Filename,Class"),
        PLAIN.replace("path,label", "image,label"),
        PLAIN.replace("path,label\n", ""),
        PLAIN.replace("x/", "x\\"),
        PLAIN.replace(".png", ""),
        PLAIN.replace(".png", ".PNG"),
        PLAIN.replace("path,label", "id_code,diagnosis").replace("x/", "").replace(".png", ""),
        PLAIN.replace("path,label", "image_id, class_name").replace("x/", ""),
        f"{PLAIN}x/000.png,a\n./x/001.png,b\n",
        PLAIN.replace("x/", "/home/another/pets/x/"),
        PLAIN.replace("x/", "C:\\Users\\another\\x\\"),
        f",{PLAIN}".replace("\n", "\n7,").removesuffix("7,"),
    ],
)
def test_csv_as_it_is_usually_written(text: str, tmp_path: Path) -> None:
    """Each says what `PLAIN` says."""
    tree(tmp_path, {"x": 3})
    expected, source = listed(table(tmp_path, PLAIN)), listed(table(tmp_path, text, newline=""))
    assert source.class_names == expected.class_names == ("a", "b")
    assert source.targets.tolist() == expected.targets.tolist() == [0, 1, 0]
    assert source.sample_paths == expected.sample_paths
    assert not source.missing


@pytest.mark.parametrize(
    "column",
    [
        ["split", "train", "val", "test"],
        ["split", "Train", "Valid", "TEST"],
        ["set", "training set", "dev", "testing"],
        ["Subset", "training", "validation", "test"],
    ],
)
def test_csv_parts_under_other_names(column: list[str], tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    head, *words = column
    rows = "".join(f"x/00{n}.png,{'aba'[n]},{word}\n" for n, word in enumerate(words))
    source = listed(table(tmp_path, f"path,label,{head}\n{rows}"))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == ["train", "val", "test"]


def test_chosen_pictures_without_a_validation_part_are_remarked_upon(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})

    def said(*parts: str) -> bool:
        rows = [f"x/00{n}.png,{'ab'[n % 2]},{part},a,0.9" for n, part in enumerate(parts)]
        text = "\n".join(["path,label,split,suggested,score", *rows])
        return any("chose" in one.reason for one in listed(table(tmp_path, text)).problems)

    assert said("train", "train", "test")
    assert not said("train", "val", "train")


def test_labels_that_stand_for_none_are_remarked_upon(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 4})
    labels = ["cat", "NaN", "none", "dog"]
    rows = [f"x/00{n}.png,{label}" for n, label in enumerate(labels)]
    said = listed(table(tmp_path, "\n".join(["path,label", *rows]))).problems
    assert ["missing" in one.reason for one in said] == [True] and "NaN" in said[0].reason


def test_csv_with_a_column_for_the_validation_part(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    text = "path,label,is_valid\nx/000.png,a,False\nx/001.png,b,0\nx/002.png,a,True\n"
    source = listed(table(tmp_path, text))
    assert source.given_parts is not None
    assert source.given_parts.tolist() == ["train", "train", "val"]


def test_csv_columns_that_are_no_parts_after_all_are_left_alone(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    text = "path,label,set,is_valid\nx/000.png,a,1,maybe\nx/001.png,b,2,yes\nx/002.png,a,,no\n"
    source = listed(table(tmp_path, text))
    assert source.given_parts is None
    assert [problem.reason for problem in source.problems] == [
        "has columns that training does not use: set, is_valid"
    ]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (",filename,grade,split", "7,x/00{0}.png,{0},train"),
        ("number of stars,image,phase,patient", "{0},x/00{0}.png,train,p"),
    ],
)
def test_the_only_column_of_another_name_holds_the_labels(
    header: str, row: str, tmp_path: Path
) -> None:
    tree(tmp_path, {"x": 2})
    source = listed(table(tmp_path, "\n".join([header, row.format(0), row.format(1)])))
    assert source.class_names == ("0", "1") and source.given_parts is not None
    assert any("for label (data.columns says" in one.reason for one in source.problems)


def test_of_several_columns_of_other_names_none_is_taken_for_the_labels(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 2})
    with pytest.raises(ConfigError, match="no column label; the columns are image, a, b"):
        listed(table(tmp_path, "image,a,b\nx/000.png,1,2\nx/001.png,2,1\n"))


def test_csv_columns_that_are_named(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    text = (
        "path,label,where,finding,half,patient\n"
        "q,7,x/000.png,a,train,p1\nq,7,x/001.png,b,val,p1\nq,8,x/002.png,a,test,p2\n"
    )
    file = table(tmp_path, text)
    source = load(file, tmp_path, False, columns=["where", "Finding", "half", "patient"])
    assert source.sample_paths == ("x/000.png", "x/001.png", "x/002.png")
    assert source.class_names == ("a", "b")
    assert source.given_parts is not None
    assert source.given_parts.tolist() == ["train", "val", "test"]
    assert source.groups == ("p1", "p1", "p2")
    source = load(file, tmp_path, False, columns=["where", "finding", None, "patient"])
    assert source.given_parts is None and source.groups == ("p1", "p1", "p2")
    with pytest.raises(ConfigError, match=r"a column findings, .*did you mean finding\?"):
        load(file, tmp_path, False, columns=["where", "findings"])
    with pytest.raises(
        ConfigError, match=r"data.columns is about a CSV file, and data.root is .*leave it out"
    ):
        load(tmp_path, tmp_path, False, columns=["where", "finding"])


@pytest.mark.parametrize("column", ["patient_id", "Patient ID", "patient", "lesion_id", "GroupID"])
def test_csv_columns_of_patients_are_groups(tmp_path: Path, column: str) -> None:
    tree(tmp_path, {"x": 3})
    text = f"path,label,{column}\nx/000.png,a,p1\nx/001.png,b,p1\nx/002.png,a,p2\n"
    source = listed(table(tmp_path, text))
    assert source.groups == ("p1", "p1", "p2")
    (said,) = source.problems
    assert f"took the column {column} for groups" in said.reason


@pytest.mark.parametrize(
    ("text", "columns", "remedy"),
    [
        ("path,label,patient\nx/000.png,a,p1\nx/001.png,b,\n", None, "call it group"),
        (
            "path,label,split,patient\nx/000.png,a,train,p1\nx/001.png,b,val,p1\n",
            None,
            "call it group",
        ),
        (
            "File,Finding,patient\nx/000.png,a,p1\nx/001.png,b,p1\n",
            ["file", "finding"],
            "data.columns=[File,Finding,null,patient] keeps",
        ),
        (
            "file,finding,half,patient\nx/000.png,a,train,p1\nx/001.png,b,val,p1\n",
            ["file", "finding", "half"],
            "data.columns=[file,finding,half,patient] keeps",
        ),
    ],
)
def test_csv_columns_of_patients_that_are_not_used_are_named(
    tmp_path: Path, text: str, columns: list[str | None] | None, remedy: str
) -> None:
    tree(tmp_path, {"x": 2})
    source = load(table(tmp_path, text), tmp_path, False, columns=columns)
    assert source.groups is None
    unused, *_, leak = (problem.reason for problem in source.problems)
    assert unused == "has columns that training does not use: patient"
    assert leak.startswith("may have pictures of one patient in several parts: ") and remedy in leak


def test_keys_of_patients_in_lines_of_json_are_named(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 2})
    lines = tmp_path / "set.jsonl"
    lines.write_text(
        '{"path": "x/000.png", "label": "a", "patient_id": 7}\n'
        '{"path": "x/001.png", "label": "b", "camera": null}\n'
    )
    source = load(lines, tmp_path, False)
    assert source.groups is None
    unused, leak = (problem.reason for problem in source.problems)
    assert unused.endswith("does not use: patient_id, camera")
    assert "one patient_id in several parts: call it group" in leak


def test_csv_whole_numbers_are_labels_whatever_their_decimals(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    text = "path,label\nx/000.png,{}\nx/001.png,{}\nx/002.png,{}\n"
    assert listed(table(tmp_path, text.format("0", "1.0", "0.0"))).class_names == ("0", "1")
    assert listed(table(tmp_path, text.format("0.5", "1.0", "1"))).class_names == (
        *("0.5", "1", "1.0"),
    )


def test_csv_names_that_could_be_several_pictures_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 2, "y": 1})
    write(tmp_path / "y" / "000.png", png(7))
    with pytest.raises(ConfigError, match=r"line 2: 000 could be x/000\.png or y/000\.png"):
        listed(table(tmp_path, "path,label\n000,a\n001,b\n"))


def test_csv_pictures_that_are_no_files_are_named_or_left_out(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    file = table(tmp_path, f"{PLAIN.replace('x/002', 'x/9')}y.png,b\n")
    settings = settings_of(tmp_path / "cache", root=str(file))
    with pytest.raises(ConfigError, match=r"2 of 4 .*line 4: x/9.png; line 5: y.png") as error:
        list_pictures(settings)
    assert "pictures.csv" in str(error.value)
    source = list_pictures(replace(settings, on_bad_image="skip"))
    assert source.sample_paths == ("x/000.png", "x/001.png")
    assert source.targets.tolist() == [0, 1]
    assert reasons(source) == {
        "x/9.png": "is no file (line 4); left out",
        "y.png": "is no file (line 5); left out",
    }


@pytest.mark.parametrize("missing", ["/old/x/9.png", "/old/y/9.png"])
def test_csv_from_elsewhere_is_found_though_its_first_picture_is_missing(
    missing: str, tmp_path: Path
) -> None:
    tree(tmp_path, {"x": 30})
    write(tmp_path / "9.png", png(7))  # not the one that is meant
    lines = [f"/old/x/{number:03}.png,{'ab'[number % 2]}\n" for number in range(30)]
    file = table(tmp_path, f"path,label\n{missing},a\n{''.join(lines)}")
    settings = settings_of(tmp_path / "cache", root=str(file), on_bad_image="skip")
    source = list_pictures(settings)
    assert source.sample_paths == tuple(f"x/{number:03}.png" for number in range(30))
    assert missing.removeprefix("/old/") in reasons(source)


def test_csv_that_loses_a_class_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 3})
    file = table(tmp_path, f"{PLAIN}gone.png,c\n")
    settings = settings_of(tmp_path / "cache", root=str(file), on_bad_image="skip")
    with pytest.raises(
        ConfigError, match=r"no picture of the class c can be used .* gone\.png is no file"
    ):
        list_pictures(settings)


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "mac-roman", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]
)
def test_csv_in_another_encoding_says_so(encoding: str, tmp_path: Path) -> None:
    # Without a mark at the start, UTF-16 may be UTF-8 with a NUL in every second place.
    marked = not encoding.endswith(("le", "be"))
    text = "path,label\nä.png,ö\n" if marked else "path,label\nx/000.png,a\n"
    with pytest.raises(ConfigError, match="not written in UTF-8" if marked else "column path|NUL"):
        listed(table(tmp_path, text, encoding=encoding))


@pytest.mark.skipif(shutil.which("iconv") is None, reason="iconv is missing")
@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis"])
def test_the_command_that_is_named_converts_a_table(encoding: str, tmp_path: Path) -> None:
    root = tmp_path / "my tables"
    tree(root, {"x": 2})
    file = table(root, "path,label\nx/000.png,猫\nx/001.png,犬\n", encoding=encoding)
    with pytest.raises(ConfigError) as refused:
        listed(file)
    found = re.search("iconv .* NEW.csv", str(refused.value))
    assert found is not None
    line = found[0].replace("ENCODING", encoding).replace("NEW", "table")
    subprocess.run(line, shell=True, check=True, cwd=tmp_path)
    converted = file.with_name("new.csv")
    (tmp_path / "table.csv").rename(converted)
    assert set(listed(converted).class_names) == {"猫", "犬"}


def test_columns_are_named_in_every_alphabet(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 2})
    file = table(tmp_path, "图像,标签\nx/000.png,a\nx/001.png,b\n", encoding="utf-8")
    given = ["data=folder", f"data.root={file}", "data.columns=[图像,标签]"]
    source = list_pictures(compose_settings(RunSettings, given).data)
    assert source.class_names == ("a", "b")


def test_csv_labels_that_nobody_can_tell_apart_are_one(tmp_path: Path) -> None:
    tree(tmp_path, {"x": 8})
    composed, split = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    labels = [composed, split, f"{composed} ", f"{composed}\u200b"]
    labels += ["\ufefftea", "tea", "Tea", "a\xa0b"]
    rows = "".join(f"x/00{n}.png,{label},g{n}\u200e\n" for n, label in enumerate(labels))
    source = listed(table(tmp_path, f"path,label,group\n{rows}", encoding="utf-8"))
    assert source.class_names == ("a b", composed, "Tea", "tea")
    assert source.targets.tolist() == [1, 1, 1, 1, 3, 3, 2, 0]
    assert source.groups == tuple(f"g{n}" for n in range(8))
    assert [problem.reason for problem in source.problems] == [
        r"the labels 'caf\xe9', 'caf\xe9\u200b' look alike and were taken for one",
        r"the labels '\ufefftea', 'tea' look alike and were taken for one",
        "the labels Tea, tea differ only in capitals, and are classes of their own",
    ]


def test_a_class_of_the_test_part_that_is_hardly_told_from_another_is_refused(
    tmp_path: Path,
) -> None:
    tree(tmp_path, {"x": 4})
    rows = "x/000.png,Tea,train\nx/001.png,oil,train\nx/002.png,{},test\nx/003.png,oil,test\n"
    for label in ("tea", "T\u0435a"):
        with pytest.raises(ConfigError, match=r"s\.csv has the class .* another: they .* one name"):
            listed(table(tmp_path, "path,label,split\n" + rows.format(label), encoding="utf-8"))
    file = table(tmp_path, "path,labels,split\n" + rows.format("oil;tea"))
    with pytest.raises(ConfigError, match="Tea in the train part and tea in another"):
        load(file, tmp_path, False, target="multi")


def test_tables_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"x": 4})
    lines = "".join(f"x/00{row}.png,{'ab'[row % 2]}\n" for row in range(4))
    file = write(tmp_path / "x.csv", f"path,label\n{lines}".encode())
    monkeypatch.setattr("src.data.sources.csv_lines._MAX_ROWS", 3)
    with pytest.raises(ConfigError, match="names more than 3 pictures"):
        load(file, tmp_path, False)
    with file.open("ab") as stream:
        stream.truncate(10**9)
    with pytest.raises(ConfigError, match="1,000 MB"):
        load(file, tmp_path, False)


@pytest.mark.parametrize("around", ["'{}'", "\u201c{}\u201d", "\u201e{}\u201c", "\xab{}\xbb"])
def test_quotes_around_all_values_of_a_column_are_no_part_of_them(
    around: str, tmp_path: Path
) -> None:
    tree(tmp_path, {"x": 3})
    expected = listed(table(tmp_path, PLAIN))
    rows = [line.split(",") for line in PLAIN.split()[1:]]
    lines = [",".join(map(around.format, row)) for row in rows]
    source = listed(table(tmp_path, "\n".join(["path,label", *lines]), encoding="utf-8"))
    assert source.class_names == expected.class_names and not source.missing
    assert source.sample_paths == expected.sample_paths
    assert "has quotes around each label" in " ".join(one.reason for one in source.problems)
    # One that some lack is a part of the others.
    lines = [
        f"{path},{around.format(label) if n else label}" for n, (path, label) in enumerate(rows)
    ]
    source = listed(table(tmp_path, "\n".join(["path,label", *lines]), encoding="utf-8"))
    assert around.format("b") in source.class_names
