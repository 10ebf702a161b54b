"""Which files are, by their names, masks of others: the rules for pictures and masks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ..decoding.videos import VIDEO_ENDINGS

__all__ = [
    "MASK_FOLDERS",
    "PICTURE_FOLDERS",
    "are_pairs",
    "by_key",
    "in_mask_folder",
    "key_of_pair",
    "marked_as_masks",
    "masks_among",
]

PICTURE_FOLDERS = frozenset(("images", "image", "imgs", "img", "pictures", "photos", "jpegimages"))
MASK_FOLDERS = frozenset(("masks", "mask", "labels", "annotations", "segmentations", "gt")) | {
    *("segmentationclass", "ground_truth", "groundtruth"),
}
_SUFFIX = "_mask"
# In the paths of several files, a line each.
_MASK_NAME = re.compile(rf"{_SUFFIX}\.|(?:^|/)(?:{'|'.join(MASK_FOLDERS)})/", re.MULTILINE)


def are_pairs(folders: Mapping[str, Sequence[str]]) -> bool:
    """Return whether two folders hold pictures and masks of the same names, and not two classes.

    Args:
        folders: paths of the pictures in each folder, by its name.
    """
    keys = {name.lower(): {*map(key_of_pair, paths)} for name, paths in folders.items()}
    pictures, masks = (keys.keys() & names for names in (PICTURE_FOLDERS, MASK_FOLDERS))
    if len(keys) != 2 or not pictures or not masks:
        return False
    one, other = keys.values()
    return 2 * len(one & other) > max(len(one), len(other))


def masks_among(folders: Mapping[str, Sequence[str]], *, by_kind: bool = True) -> set[str]:
    """Return the files of class folders that are by their names masks of others in their folder.

    Of each sign (a folder of masks, a name, a kind of file) none where most of the files that bear
    it have no other one beside them, and so are pictures of their own.

    Args:
        folders: paths of the pictures of each class, by its folder.
        by_kind: whether PNG files are masks of other files of the same name, too.
    """
    found, alone = tuple(set[str]() for _ in _SIGNS), Counter[int]()
    for folder, files in folders.items():
        # Without the name of the class, which may be that of a folder of masks.
        inside = [path.removeprefix(f"{folder}/") for path in files]
        # Sets of a million pictures have none as a rule, and pairing takes as long as listing.
        text = "\n".join((*inside, "")).lower()
        named_png = text.count(".png\n")
        if named_png in (0, len(files)) and not _MASK_NAME.search(text):
            alone[_BY_KIND] += named_png
            continue
        for group in by_key(inside).values():
            sign, marked = _surest_sign(group)
            # Beside a video lies a still of it.
            videos = any(os.path.splitext(path)[1].lower() in VIDEO_ENDINGS for path in group)
            others = len(group) - len(marked)
            # Of two kinds of files, and a third, any may be what the others were made of.
            paired = others == 1 or (others and sign < _BY_KIND)
            if paired and len(marked) == 1 and not videos:
                found[sign].add(f"{folder}/{marked[0]}")
            else:
                alone[sign] += len(marked)
    counted = found if by_kind else found[:_BY_KIND]
    return set().union(*(some for sign, some in enumerate(counted) if len(some) > alone[sign]))


def by_key(files: Sequence[str]) -> dict[str, list[str]]:
    """Return files by what a picture and its mask have in common, in the order given."""
    together: dict[str, list[str]] = {}
    for path in files:
        together.setdefault(key_of_pair(path), []).append(path)
    return together


def marked_as_masks(files: Sequence[str]) -> list[str]:
    """Return those files of one key that are called as masks, by the surest sign there is."""
    return _surest_sign(files)[1]


def _surest_sign(files: Sequence[str]) -> tuple[int, list[str]]:
    """Return the first sign that some files bear, by its number, and these; else the last."""
    found = [[path for path in files if bears(path)] for bears in _SIGNS]
    return next(((sign, some) for sign, some in enumerate(found) if some), (_BY_KIND, []))


def in_mask_folder(path: str) -> bool:
    """Return whether a folder that a file is in, of its path, is called as one of masks."""
    return not MASK_FOLDERS.isdisjoint(path.lower().split("/")[:-1])


def _stem(path: str) -> str:
    return os.path.splitext(path)[0]


def key_of_pair(path: str) -> str:
    """Return what a picture and its mask have in common."""
    *folders, name = _stem(path).removesuffix(_SUFFIX).split("/")
    named = PICTURE_FOLDERS | MASK_FOLDERS
    return "/".join([*(one for one in folders if one.lower() not in named), name])


# Signs of a mask, the surest first.
_SIGNS: tuple[Callable[[str], bool], ...] = (
    in_mask_folder,
    lambda path: _stem(path).endswith(_SUFFIX),
    lambda path: path.lower().endswith(".png"),
)
_BY_KIND = len(_SIGNS) - 1
