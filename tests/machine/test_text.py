from __future__ import annotations

import csv
import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.machine.text import (
    counted,
    csv_cell,
    csv_text,
    encodable,
    from_csv_cell,
    plain,
    visible,
    visible_lines,
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("猫 café (1).jpg", "猫 café (1).jpg"),
        ("\x1b]0;title\x07\x1b[31mred", r"\x1b]0;title\x07\x1b[31mred"),
        ("a\nerror: b", r"a\nerror: b"),
        ("a\r\tb", r"a\r\tb"),
        ("\x9b31m", r"\x9b31m"),  # the escape sequence of eight bits
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
    ],
)
def test_a_name_is_one_line_of_plain_text(name: str, shown: str) -> None:
    assert visible(name) == shown


def test_one_thing_is_in_the_singular_and_many_have_their_thousands() -> None:
    assert [counted(n, "trial") for n in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
    assert counted(1200, "study", "studies") == "1,200 studies"
    assert counted(1, "run is", "runs are", begins=True) == "One run is"
    assert counted(3, "run is", "runs are", begins=True) == "3 runs are"


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_can_be_written_and_moves_no_cursor(name: str) -> None:
    shown = visible(name)
    shown.encode()
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)
    assert visible_lines(name).count("\n") == name.count("\n")


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\uff1d", "'=1"])
def test_no_formula_begins_a_cell(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert from_csv_cell(csv_cell(text)) == text


@pytest.mark.parametrize("text", ["-5", "+1.5e-3", "-.5", "cat", "a=b", "it's", "'quoted'", ""])
def test_numbers_and_plain_names_stay(text: str) -> None:
    assert csv_cell(text) == text == from_csv_cell(text)


@given(st.lists(st.text(st.sampled_from("'=+-@\t\r\n ,\"1aé"), max_size=6), min_size=1))
def test_a_table_gives_every_text_back(texts: list[str]) -> None:
    _, row = csv.reader(io.StringIO(csv_text(["a"], [texts]), newline=""))
    assert [from_csv_cell(cell) for cell in row] == texts


def test_numbers_are_no_texts_in_a_row() -> None:
    assert csv_text(["a", "b", "c"], [(-0.5, "-x", None)]) == "a,b,c\n-0.5,'-x,\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Röcke weiß", "Röcke_weiß"),
        ("Ro\u0308cke", "Röcke"),  # as macOS writes ö
        ("衣服 / フク", "衣服_フク"),
        ("قميص", "قميص"),
        ("हिन्दी 1.0", "हिन्दी_1.0"),  # whose vowels are marks
        ("👟\ufe0f, €\u0301", "_"),  # marks of what is left out
        ("a\u202eb\u200b\udcff", "a_b_"),
        ("plain-1", "plain_1"),
    ],
)
def test_letters_of_every_alphabet_are_plain(text: str, expected: str) -> None:
    assert plain(text, 60) == expected


def test_a_plain_text_is_ascii_where_names_of_files_are_not_in_utf8(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    assert plain("Größe 2", 60) == "Gr_e_2"


def test_a_plain_text_is_cut_between_letters() -> None:
    assert plain("衣" * 30, 8) == "衣衣"
    assert plain("a-b" * 30, 8, also="-") == "a-ba-ba-"


def test_a_name_that_is_no_utf8_can_be_written() -> None:
    assert encodable(os.fsdecode(b"\xff=\xe9")) == r"\xff=\xe9"
    csv_cell(os.fsdecode(b"\xff")).encode()


@pytest.mark.parametrize(
    "text",
    [
        "a\x1b[31mb", "=1\x1b", "\x9b2J", "a\\x1b\x07", "\u202egpj.exe", "\r", "\x7f\\\\r", "'\x1b",
        "'\\x1b", "''\\", "a\\x1b", "'\\",
    ],
)  # fmt: skip
def test_a_cell_holds_nothing_that_a_terminal_obeys_and_reads_as_it_was(text: str) -> None:
    cell = csv_cell(text)
    assert visible(cell) == cell
    assert from_csv_cell(cell) == text
    assert from_csv_cell(csv_cell(f"{text}\n\t")) == f"{text}\n\t"
