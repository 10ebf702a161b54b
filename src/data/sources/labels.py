"""Labels as people write them, and which of them are one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping

__all__ = ["case_remarks", "clean_label", "merged_remarks"]

# Zero-width joiner and non-joiner: Persian and Indic words are spelled with them.
_SPELLING = "\u200c\u200d"

# Control characters and those of format, such as byte order marks and zero-width spaces.
_UNSEEN = ("Cc", "Cf")


def clean_label(label: str) -> str:
    """Return a label without what nobody sees.

    It is brought into Unicode's normal form C, invisible characters and controls are taken out, a
    run of white space becomes one space, and there is none at the ends.
    """
    visible = (
        " " if letter.isspace() else letter
        for letter in label
        if letter.isspace() or letter in _SPELLING or unicodedata.category(letter) not in _UNSEEN
    )
    return unicodedata.normalize("NFC", " ".join("".join(visible).split())).strip(_SPELLING)


def merged_remarks(spellings: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence for each label that stands there in several spellings.

    Args:
        spellings: clean label -> the labels that it was made of. Those that differ in Unicode's
            normal form alone count as one: which form a name has depends on the system.
    """
    groups = [{unicodedata.normalize("NFC", one) for one in made} for made in spellings.values()]
    return [
        f"the labels {', '.join(sorted(map(ascii, group)))} look alike and were taken for one"
        for group in groups
        if len(group) > 1
    ]


def case_remarks(labels: Iterable[str]) -> list[str]:
    """Return a sentence for each set of labels that differ in nothing but capitals."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(label.casefold(), []).append(label)
    return [
        f"the labels {', '.join(group)} differ only in capitals, and are classes of their own"
        for group in alike.values()
        if len(group) > 1
    ]
