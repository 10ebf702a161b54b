"""Shards in the layout of WebDataset: tar files of KEY.jpg beside KEY.cls, KEY.json or KEY.txt.

Nothing is extracted: of each shard an index is made once, and pictures are read where they lie.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import Int64Array
from ...machine.parallel import available_cores, in_order
from ...machine.text import text_fault
from ...storage.array_files import load_arrays, packed_texts, unpacked_texts
from ...storage.cache import key_of, opened
from ...storage.digests import file_state
from ..decoding.picture_files import PICTURE_ENDINGS
from .archive import tar_index
from .class_folders import part_named
from .label_sets import named_classes, split_labels
from .label_spelling import clean_label
from .source import Problem, Source, is_left_behind

__all__ = ["SHARD_ENDING", "expanded", "find_shards", "list_shards"]

SHARD_ENDING = ".tar"
_VERSION = 3
_FILE = "index.npz"
# Of what stands beside a picture, the first that is there has its label.
_LABELS = (".cls", ".json", ".txt")
_KEYS = ("cls", "label", "labels", "class", "class_name", "target", "category")
_MAX_LABEL_BYTES = 1 << 20
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_SHARDS = 100_000
# Members of a single .tar by which it is a shard or an archive of class folders.
_MEMBERS_LOOKED_AT = 16


def expanded(name: str) -> list[str]:
    """Return the names that `shard-{000..123}.tar` stands for; a name without braces is itself.

    Raises:
        ConfigError: the range is empty, or stands for more than 100,000 names.
    """
    if (found := _BRACES.search(name)) is None:
        return [name]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    if not 0 < len(numbers) <= _MAX_SHARDS:
        raise ConfigError(f"{name}: {{{first}..{last}}} are not 1 to {_MAX_SHARDS:,} numbers.")
    start, end = name[: found.start()], name[found.end() :]
    return [one for n in numbers for one in expanded(f"{start}{n:0{len(first)}}{end}")]


def find_shards(root: Path) -> list[str]:
    """Return the shards that a root stands for, by their paths relative to its folder; [] for none.

    They are named by braces; or lie in the folder, or in folders of it that are called as parts
    are, without other folders or pictures beside them; or are a single .tar with labels as its
    files, or with pictures and no folders in it.

    Raises:
        ConfigError: one of the names is no file.
    """
    with suppress(OSError):  # which whatever reads the root says better
        if root.is_dir():
            return _shards_of_folder(root)
        if not root.name.endswith(SHARD_ENDING):
            return []
        if root.exists():
            return [root.name] if root.is_file() and _is_shard(root) else []
        names = expanded(root.name)
        lacking = [name for name in names if not (root.parent / name).is_file()]
        if lacking and names != [root.name]:
            raise ConfigError(
                f"data.root is {str(root)!r}: {len(lacking)} of {len(names)} shards are not there, "
                f"the first {lacking[0]}."
            )
        return [] if lacking else names
    return []


def _shards_of_folder(root: Path) -> list[str]:
    parts = [one for one in root.iterdir() if part_named(one.name) and one.is_dir()]
    inside = [
        path
        for folder in (root, *parts)
        for path in folder.iterdir()
        if path not in parts and not is_left_behind(path.name)
    ]
    found = [path for path in inside if path.name.endswith(SHARD_ENDING) and path.is_file()]
    if not found or any(path.suffix.lower() in PICTURE_ENDINGS for path in inside):
        return []
    if any(path.is_dir() for path in inside):
        return []
    return sorted(path.relative_to(root).as_posix() for path in found)


def _is_shard(file: Path) -> bool:
    try:
        first = [name for name, *_ in tar_index(file, most=_MEMBERS_LOOKED_AT)]
    except ConfigError:  # compressed, or not to be read at all
        return False
    endings = {_key_and_ending(name)[1] for name in first}
    flat = all(len(PurePosixPath(name).parts) == 1 for name in first)
    return ".cls" in endings or (flat and bool(endings & PICTURE_ENDINGS))


class _Index(NamedTuple):
    """The pictures of a shard: names, (N, 2) offset and bytes, and labels as JSON."""

    names: list[str]
    spans: Int64Array
    labels: list[str]


def list_shards(
    root: Path,
    shards: Sequence[str],
    cache_dir: Path,
    *,
    shown: str,
    several: bool = False,
    separator: str | None = None,
) -> Source:
    """Return the pictures in shards, with the labels that stand beside them.

    The label is the text of KEY.cls, else the value of `cls`, `label`, `labels`, `class`, `target`
    or `category` in KEY.json, else the text of KEY.txt. Where the name of every shard, or of the
    folder that it is in, says train, val or test, those are the parts.

    Args:
        root: the folder of the shards.
        shards: their names in it.
        cache_dir: folder of indexes.
        shown: the root in messages.
        several: whether a picture has a set of labels.
        separator: between the labels of a text, as of `split_labels`.

    Raises:
        ConfigError: a shard is damaged, a picture has no label or stands there twice, there are no
            two classes, or some shards are of parts and others are not.
    """
    indexes = [*in_order(lambda name: _indexed(root / name, cache_dir), shards, available_cores())]
    counts = [len(index.names) for index in indexes]
    names = [f"{shard}/{name}" for shard, index in zip(shards, indexes) for name in index.names]
    labels = [json.loads(label) for index in indexes for label in index.labels]
    if not names:
        raise ConfigError(f"{shown}: there are no pictures in {len(shards)} shards.")
    if bare := [name for name, label in zip(names, labels) if label is None]:
        raise ConfigError(
            f"{shown}: {len(bare):,} of {len(names):,} pictures have no label, the first is "
            f"{bare[0]}: put KEY.cls, or KEY.json with the key label, beside each KEY.jpg."
        )
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise ConfigError(f"{shown}: {repeated} is there twice: leave one of them out.")
    chosen = _label_sets(names, labels, several, separator, shown)
    parts = _parts(shards, shown)
    given = None if parts is None else np.repeat(parts, counts)
    written = None if several else map(str, labels)
    class_names, targets, remarks = named_classes(shown, chosen, given, written)
    return Source(
        "folder",
        class_names,
        targets,
        root=root,
        sample_paths=tuple(names),
        spans=np.concatenate([index.spans for index in indexes]),
        given_parts=given,
        kind="multi" if several else "single",
        problems=tuple(Problem(shown, remark) for remark in remarks),
    )


def _label_sets(
    names: Sequence[str], labels: Sequence[Any], several: bool, separator: str | None, shown: str
) -> list[tuple[str, ...]]:
    """Return the labels of each picture, one unless it has `several`, from texts and lists."""
    if not several:
        if wrong := [name for name, label in zip(names, labels) if isinstance(label, list)]:
            raise ConfigError(
                f"{shown}: {wrong[0]} has a list of labels: set data.target=multi, or name one."
            )
        return [(clean_label(str(label)),) for label in labels]
    texts = ["" if isinstance(label, list) else str(label) for label in labels]
    divided = split_labels(texts, separator, names)
    return [
        tuple(dict.fromkeys(clean_label(str(one)) for one in label))
        if isinstance(label, list)
        else found
        for label, found in zip(labels, divided)
    ]


def _parts(shards: Sequence[str], shown: str) -> list[str] | None:
    """Return the part of each shard, by the words of its name and folder; None without parts."""
    found = []
    for shard in shards:
        words = re.split(r"[^a-zA-Z]+", shard.removesuffix(SHARD_ENDING))
        kinds = {part for word in words if word and (part := part_named(word))}
        found.append(kinds.pop() if len(kinds) == 1 else "")
    if set(found) <= {"", "train"}:
        return None
    if "" in found or "train" not in found:
        at = shards[found.index("")] if "" in found else shards[0]
        raise ConfigError(
            f"{shown}: some shards are called as parts are, and {at} is not clearly one: call them "
            "train-..., val-... and test-..., or give none such a name."
        )
    return found


def _indexed(shard: Path, cache_dir: Path) -> _Index:
    """Return the index of a shard, made now or when it was as it is."""
    try:
        state = file_state(shard.stat())
    except OSError as error:
        raise ConfigError(f"{shard} cannot be read: {error.strerror}.") from None

    def build(unfinished: Path) -> dict[str, Any]:
        index = _read_index(shard)
        texts = {name: packed_texts(getattr(index, name)) for name in ("names", "labels")}
        np.savez(unfinished / _FILE, spans=index.spans, allow_pickle=False, **texts)
        return {}

    key = key_of([_VERSION, str(shard), *state])
    stored = opened(
        cache_dir / key,
        build,
        lambda entry: load_arrays(entry.folder / _FILE),
        what=f"the index of {shard}",
    )
    names, labels = (unpacked_texts(stored[name]) for name in ("names", "labels"))
    return _Index(names, stored["spans"], labels)


def _read_index(shard: Path) -> _Index:
    pictures: dict[str, tuple[str, int, int]] = {}
    beside: dict[str, dict[str, Any]] = {}
    for name, offset, size, read in tar_index(shard):
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise ConfigError(f"{shard} holds a name that is no valid UTF-8, {name!a}: rename it.")
        key, ending = _key_and_ending(name)
        if ending in PICTURE_ENDINGS:
            if key in pictures:
                raise ConfigError(
                    f"{shard} holds two pictures of the key {key}, {pictures[key][0]} and {name}: "
                    "leave one of them out."
                )
            pictures[key] = name, offset, size
        elif ending in _LABELS:
            if size > _MAX_LABEL_BYTES:
                raise ConfigError(f"{shard} holds {name} of {size} bytes, which is no label.")
            beside.setdefault(key, {})[ending] = _label(shard, name, ending, read)
    labels = []
    for key in pictures:
        found = beside.get(key, {})
        label = next((found[end] for end in _LABELS if found.get(end) is not None), None)
        labels.append(json.dumps(label))
    return _Index(
        [name for name, *_ in pictures.values()],
        np.array([span for _, *span in pictures.values()], np.int64).reshape(-1, 2),
        labels,
    )


def _label(shard: Path, name: str, ending: str, read: Callable[[], bytes]) -> Any:
    """Return the text, number or list that is a label; None where there is none."""
    try:
        text = read().decode("utf-8-sig").strip()
        if ending != ".json":
            return text if clean_label(text) else None
        stated = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shard}: {name} cannot be read as a label: {error}.") from None
    if isinstance(stated, dict):
        stated = next((stated[key] for key in _KEYS if stated.get(key) is not None), None)
    if stated is None or isinstance(stated, dict):
        return None
    names = [str(one) for one in (stated if isinstance(stated, list) else [stated])]
    if fault := next(filter(None, map(text_fault, names)), None):
        raise ConfigError(f"{shard}: {name} cannot be read as a label: it has {fault}.")
    names = [one for one in names if clean_label(one)]
    return names if isinstance(stated, list) else next(iter(names), None)


def _key_and_ending(name: str) -> tuple[str, str]:
    """Return a member's key, up to the first dot of its name, and the ending after the last."""
    path = PurePosixPath(name)
    if is_left_behind(path.name):
        return name, ""
    return str(path.parent / path.name.partition(".")[0]), path.suffix.lower()
