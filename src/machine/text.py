"""Text for people: shares in percent, and untrusted text made safe for terminals and tables.

A name may hold anything but a slash: an escape sequence that recolours or retitles a terminal, a
line break that forges a line of its own, marks that turn the reading direction, bytes that are no
UTF-8, or a formula that a spreadsheet would compute.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

__all__ = [
    "counted",
    "csv_cell",
    "csv_text",
    "duration",
    "encodable",
    "fixed",
    "from_csv_cell",
    "nearest",
    "percent",
    "plain",
    "share_meant",
    "text_fault",
    "visible",
    "visible_lines",
    "without_quotes",
]

# Control characters, line separators, marks of direction, and surrogates.
_UNSAFE = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINES = re.compile(f"[{_UNSAFE}]")
_IN_NAMES = re.compile(f"[{_UNSAFE}\t\n]")
_NOT_ENCODABLE = re.compile("[\ud800-\udfff]")
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Python stores a byte 0xNN of a file name that is no UTF-8 as U+DCNN.
_UNDECODED_BYTES = range(0xDC80, 0xDD00)

# Beginnings of what Excel, LibreOffice and Google Sheets compute (OWASP: CSV injection).
_FORMULA = "[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_COMPUTED = re.compile(rf"'*{_FORMULA}|'+\\")
_MARKED = re.compile(rf"'+{_FORMULA}|''+\\")
# The beginning of a cell whose invisible characters, and backslashes, are written as escapes.
_ESCAPED = "'\\"
_ESCAPES = re.compile(r"\\(?:([\\r])|x([0-9a-f]{2})|u([0-9a-f]{4}))")
_LEAST_LETTERS_HELD = 2  # letters of a word, at least, that a longer one may hold
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# What closes the quotes that documents, chats and shells put around a text.
_CLOSING = {
    **{"'": "'", '"': '"', "`": "`´'", "´": "´", "＂": "＂", "＇": "＇"},  # noqa: RUF001
    **{"“": "”“", "„": "“”", "”": "”", "‘": "’‘", "‚": "‘’", "’": "’"},  # noqa: RUF001
    **{"«": "»", "»": "«", "‹": "›", "›": "‹", "「": "」", "『": "』"},  # noqa: RUF001
}
# Blanks, and what is invisible at the ends of a text that was copied from a page or a message.
_AROUND = " \t\r\n\v\f\x85\xa0\u200b\u200e\u200f\u2028-\u202f\u2060\u2066-\u2069\u3000\ufeff"
_ENDS = re.compile(f"^[{_AROUND}]+|[{_AROUND}]+$")


def duration(seconds: float) -> str:
    """Return a duration, as in "8.4 s", "42 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def without_quotes(text: str) -> str:
    """Return a text without blanks, invisible characters and pairs of quotes around it."""
    text = _ENDS.sub("", text)
    while len(text) > 2 and text[-1] in _CLOSING.get(text[0], ""):
        text = _ENDS.sub("", text[1:-1])
    return text


def plain(text: str, most: int, also: str = "._") -> str:
    """Return a text with an underscore for each run of what is no letter or digit of any alphabet.

    The marks of letters, such as vowel signs, stay with them. Letters are in composed form (NFC),
    which names of folders on macOS are not. Where names of files are not in UTF-8 (see
    `src.machine.file_names`), the letters are those of ASCII.

    Args:
        text: any.
        most: bytes of UTF-8 that the result has at most; file systems allow 255 in a name.
        also: further characters that stay.
    """
    kept, known = "", sys.getfilesystemencoding() == "utf-8"
    for character in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(character)[0]
        marks = kind == "M" and unicodedata.category(kept[-1:] or " ")[0] in "LM"
        if character in also or ((kind in "LN" or marks) and (known or character.isascii())):
            kept += character
        elif not kept.endswith("\0"):
            kept += "\0"
    return kept.replace("\0", "_").encode()[:most].decode(errors="ignore")


def percent(share: float, digits: int = 1) -> str:
    """Return a share in [0, 1] in percent, as in "98.6 %"; "none" for NaN."""
    return "none" if math.isnan(share) else f"{fixed(100 * share, digits)} %"


def fixed(value: float, digits: int, sign: str = "") -> str:
    """Return a number with so many digits after the point; what is rounded to 0 has no minus.

    `sign` is "+" to show that of others as well.
    """
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def nearest(word: Any, options: Iterable[Any]) -> str:
    """Return " (did you mean ...?)" with the option nearest to `word`, or an empty text.

    Capitals count for nothing. Where none is alike, it is the shortest that holds the word, or that
    the word holds.

    Args:
        word: as it was typed.
        options: what it may have meant.
    """
    folded = {str(option).casefold(): str(option) for option in options}
    meant = str(word).casefold()
    close = difflib.get_close_matches(meant, folded, n=1)
    if not close and len(meant) >= _LEAST_LETTERS_HELD:
        holding = [
            one
            for one in folded
            if meant in one or (len(one) > _LEAST_LETTERS_HELD and one in meant)
        ]
        close = sorted(holding, key=lambda one: (len(one), one))
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def counted(number: int, one: str, several: str | None = None, *, begins: bool = False) -> str:
    """Return a number of things, as in "1 trial", "1,200 trials" or "2 families".

    Where it `begins` a sentence, a single one is as in "One trial".
    """
    if number == 1:
        return f"{'One' if begins else '1'} {one}"
    return f"{number:,} {several or one + 's'}"


def share_meant(value: float) -> str:
    """Return how the refusal of a share ends that seems to be in percent: "; 90 % is 0.9"."""
    return f"; {value:g} % is {value / 100:g}" if 2 <= value <= 100 else ""


def visible(name: str) -> str:
    r"""Return a name as one line of plain text, with escapes for invisible characters.

    Control characters become `\x1b` or `\n`, a byte that is no UTF-8 `\xe9`, marks that turn the
    reading direction `\u202e`.
    """
    return _IN_NAMES.sub(_escape, _decoded(name))


def visible_lines(text: str) -> str:
    """Return a text of several lines as `visible` does, with its line breaks and tabs."""
    return _IN_LINES.sub(_escape, _decoded(text))


def text_fault(text: str) -> str | None:
    """Return what is in a text that no file and no path can hold; None for nothing."""
    if "\0" in text:
        return "a NUL character"
    return "half a character (a lone surrogate)" if _NOT_ENCODABLE.search(text) else None


def encodable(text: str) -> str:
    r"""Return a text that UTF-8 can write: a byte of a file name that is none becomes `\xe9`."""
    return _NOT_ENCODABLE.sub(_escape, _decoded(text))


def csv_cell(text: str) -> str:
    """Return a text as a cell of a CSV file that a spreadsheet shows and does not compute.

    A text that looks like a formula gets an apostrophe in front, which `from_csv_cell` removes; a
    plain number is not changed. One with characters that a terminal would obey, or that turn the
    reading direction, becomes an apostrophe, a backslash and the text with escapes.
    """
    text = encodable(text)
    if _IN_LINES.search(text):
        return _ESCAPED + _IN_LINES.sub(_escape, text.replace("\\", "\\\\"))
    computed = _COMPUTED.match(text) and not _NUMBER.fullmatch(text)
    return f"'{text}" if computed else text


def csv_text(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, texts as of `csv_cell`, None as nothing."""
    stream = io.StringIO(newline="")
    out = csv.writer(stream)  # with \r\n at the end of a row, so that a \r within a cell is quoted
    for row in (header, *rows):
        out.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in row])
        stream.seek(stream.tell() - 2)
        stream.write("\n")
        stream.truncate()
    return stream.getvalue()


def from_csv_cell(cell: str) -> str:
    """Return the text of a cell of `csv_cell`."""
    if cell.startswith(_ESCAPED):
        return _ESCAPES.sub(_unescape, cell.removeprefix(_ESCAPED))
    return cell[1:] if _MARKED.match(cell) else cell


def _decoded(text: str) -> str:
    """Return the text, with names in UTF-8 decoded where the system's encoding is ASCII."""
    if not _NOT_ENCODABLE.search(text):
        return text
    try:
        return os.fsencode(text).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it is more than the name of a file
        return text


def _unescape(match: re.Match[str]) -> str:
    short, byte, code = match.groups()
    return {"\\": "\\", "r": "\r"}[short] if short else chr(int(byte or code, 16))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code in _UNDECODED_BYTES:
        code -= 0xDC00
    if code < 0x100:
        return _SHORT_ESCAPES.get(match[0], f"\\x{code:02x}")
    return f"\\u{code:04x}"
