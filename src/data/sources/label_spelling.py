"""Labels as people write them, in one form, and remarks where several may be meant for one."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ...config.checks import ConfigError
from ...machine.arrays import AnyArray

__all__ = [
    "alike_remarks",
    "clean_label",
    "merged_remarks",
    "missing_remarks",
    "refuse_alike_across_parts",
]

# As Python, pandas, R, databases and spreadsheets write that there is no value.
_MISSING = ("nan", "NaN", "NAN", "None", "null", "NULL", "<NA>", "NaT", "N/A", "#N/A")

# Zero-width joiner and non-joiner: Persian and Indic words are spelled with them.
_SPELLING = "\u200c\u200d"
# Dashes of all kinds, and what chooses between the looks of one sign (variation selectors).
_HARDLY_SEEN = dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D), "-") | (
    dict.fromkeys(range(0xFE00, 0xFE10), "")
)
_DOTTED_I = "i\u0307"  # what a capital I with a dot becomes, in Turkish a plain i
# Control characters and those of format, such as byte order marks and zero-width spaces.
_UNSEEN = ("Cc", "Cf")
# Letters by their Unicode names that look like a Latin one of the same case.
_LOOK_ALIKES = {
    "CYRILLIC SMALL LETTER": "A a, IE e, O o, ER p, ES c, U y, HA x, DZE s, JE j, QA q, WE w, "
    "BYELORUSSIAN-UKRAINIAN I i, SHHA h, KOMI DE d",
    "CYRILLIC CAPITAL LETTER": "A A, VE B, IE E, KA K, EM M, EN H, O O, ER P, ES C, TE T, U Y, "
    "HA X, DZE S, JE J, BYELORUSSIAN-UKRAINIAN I I",
    "GREEK SMALL LETTER": "ALPHA a, IOTA i, NU v, OMICRON o, RHO p",
    "GREEK CAPITAL LETTER": "ALPHA A, BETA B, EPSILON E, ZETA Z, ETA H, IOTA I, KAPPA K, MU M, "
    "NU N, OMICRON O, RHO P, TAU T, UPSILON Y, CHI X",
}
_LATIN_LOOKS = {
    ord(unicodedata.lookup(f"{script} {pair[:-2]}")): pair[-1]
    for script, pairs in _LOOK_ALIKES.items()
    for pair in pairs.split(", ")
}


def clean_label(label: str) -> str:
    """Return a label in Unicode's normal form C, without invisible characters.

    A run of white space becomes one space, and there is none at the ends.
    """
    visible = (
        " " if letter.isspace() else letter
        for letter in label
        if letter.isspace() or letter in _SPELLING or unicodedata.category(letter) not in _UNSEEN
    )
    return unicodedata.normalize("NFC", " ".join("".join(visible).split())).strip(_SPELLING)


def merged_remarks(written: Iterable[str]) -> list[str]:
    """Return a sentence for each label that is written in several ways.

    Those that differ in Unicode's normal form alone count as one: which form a name has depends on
    the system.
    """
    groups: dict[str, set[str]] = {}
    for label in dict.fromkeys(written):
        clean = clean_label(label) or label
        groups.setdefault(clean, set()).add(unicodedata.normalize("NFC", label))
    return [
        f"the labels {', '.join(sorted(map(ascii, group)))} look alike and were taken for one"
        for group in groups.values()
        if len(group) > 1
    ]


def refuse_alike_across_parts(
    class_names: Sequence[str], targets: AnyArray, parts: AnyArray | None, shown: str
) -> None:
    """Refuse a class of another part that people hardly tell from one of the train part.

    Args:
        class_names: K.
        targets: (N,) int64 in [0, K), or of label sets (N, K), 0 and 1.
        parts: (N,) of "train" | "val" | "test"; None where there are none.
        shown: names the data in the message.

    Raises:
        ConfigError: there is one.
    """
    if parts is None:
        return
    rows = targets[parts == "train"]
    found = set(rows.tolist()) if rows.ndim == 1 else set(rows.any(axis=0).nonzero()[0].tolist())
    training = {class_names[number] for number in found}
    by_appearance: dict[str, list[str]] = defaultdict(list)
    for label in class_names:
        if label in training:
            by_appearance[_appearance(label)].append(label)
    for label in class_names:
        for usual in () if label in training else by_appearance.get(_appearance(label), ()):
            if _alike(label) != _alike(usual) and _of_one_alphabet([label, usual]):
                continue
            how = "differ only in capitals"
            if usual.lower() != label.lower():
                usual, label, how = ascii(usual), ascii(label), "may be meant for one"
            raise ConfigError(
                f"{shown} has the class {usual} in the train part and {label} in another: they "
                f"{how}, so give both one name."
            )


def _appearance(label: str) -> str:
    """Return what is equal for labels that look the same, of whatever alphabet they are."""
    return _alike(label.translate(_LATIN_LOOKS))


def _alike(label: str) -> str:
    """Return what is equal for labels that people hardly tell apart.

    Those that differ in capitals, in the width or the form of letters, as ﬁ and fi, in the kind of
    dashes, in marks that choose the look of a sign, and numbers that differ in leading zeros.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    folded = folded.translate(_HARDLY_SEEN).replace(_DOTTED_I, "i")
    return (folded.lstrip("0") or "0") if folded.isdecimal() else folded


def alike_remarks(labels: Iterable[str]) -> list[str]:
    """Return a sentence for each set of labels that people hardly tell apart.

    Letters of several alphabets that look the same count where the labels of a set are not all of
    the same one alphabet.
    """
    groups: dict[str, list[str]] = {}
    looks: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(_alike(label), []).append(label)
        looks.setdefault(_appearance(label), []).append(label)
    remarks = []
    for group in looks.values():
        if len({_alike(label) for label in group}) > 1 and not _of_one_alphabet(group):
            listed = ", ".join(map(ascii, group))
            remarks.append(
                f"the labels {listed} have letters of several alphabets that look the same, and "
                "are classes of their own"
            )
    for group in groups.values():
        if len(group) == 1:
            continue
        listed, how = ", ".join(group), "differ only in capitals"
        if len({label.lower() for label in group}) > 1:
            listed, how = ", ".join(map(ascii, group)), "may be meant for one"
        remarks.append(f"the labels {listed} {how}, and are classes of their own")
    return remarks


def missing_remarks(labels: Iterable[str]) -> list[str]:
    """Return a sentence for each label that programs write where a value is missing."""
    return [
        f"the label {label} may stand for a label that is missing, and is a class of its own"
        for label in labels
        if label in _MISSING
    ]


def _of_one_alphabet(labels: Iterable[str]) -> bool:
    """Return whether all letters of all labels are of one script, as Unicode names them."""
    letters = {letter for label in labels for letter in label if letter.isalpha()}
    return len({unicodedata.name(letter, "").partition(" ")[0] for letter in letters}) < 2
