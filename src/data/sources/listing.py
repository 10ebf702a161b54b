"""From the settings of a data set to its labelled pictures, of which nothing is decoded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError, own_fields
from ...config.data import DataSettings, FolderSettings
from ...machine.imports import import_object
from ...machine.parallel import in_order
from ...storage.cache import cache_folder
from ...targets import kind_of
from ...targets.labels import has_class
from ..decoding.picture_files import PictureError, pages_of
from .archive import forget_archive
from .label_sets import ordered
from .masked_pictures import CLASSES
from .remote import fetched, is_address
from .roots import existing_root
from .source import Problem, Source
from .table import named_paths

__all__ = ["check_root", "list_pictures", "root_here", "without"]

_MOST_NAMED = 20


def list_pictures(data: DataSettings) -> Source:
    """Return the labelled pictures of a data set; nothing is decoded.

    Raises:
        ConfigError: they are not there, or not what they should be.
    """
    if data.root is None:
        return _listed(data, None)
    root = root_here(data)
    with _said_of(data.root, root):
        return _listed(data, root)


def root_here(data: DataSettings) -> Path:
    """Return the file or folder of this machine with the pictures at `data.root`.

    What lies at an address is fetched unless it was before.

    Raises:
        ConfigError: the address cannot be read, or a table at it.
    """
    address = str(data.root)
    if not is_address(address):
        return _local(address).absolute()
    columns = data.columns if isinstance(data, FolderSettings) else None

    def named(table: Path) -> list[str]:
        with _said_of(address, table):
            return named_paths(table, columns, target=data.target)

    return fetched(
        address,
        cache_folder(data.cache_dir).absolute(),
        named=named,
        beside=[CLASSES] if data.target == "dense" else [],
        videos=isinstance(data, FolderSettings) and data.frames is not None,
        look_again=data.check_content,
    )


@contextmanager
def _said_of(address: str, here: Path) -> Iterator[None]:
    """Have messages name the address instead of the place that it was fetched to."""
    try:
        yield
    except ConfigError as error:
        if not is_address(address):
            raise
        text = str(error).replace(str(here), address)
        raise ConfigError(text.replace(str(here.parent), address.rpartition("/")[0])) from error


def _listed(data: DataSettings, root: Path | None) -> Source:
    load = import_object(data._target_)
    cache = cache_folder(data.cache_dir).absolute()
    if data.check_content and root is not None and root.is_file():
        forget_archive(root, cache / "archives")
    own = own_fields(data, DataSettings)
    if isinstance(data, FolderSettings):
        own["target"] = data.target
    try:
        inspect.signature(load).bind(root, cache, data.download, **own)
    except TypeError as error:  # of a plugin
        raise ConfigError(
            f"data: {data._target_}: {error}; write it as load(root, cache_dir, download, ...), "
            "which returns a Source."
        ) from error
    source: Source = load(root, cache, data.download, **own)
    if not hasattr(source, "class_names"):
        raise ConfigError(f"data: {data._target_} returned {type(source).__name__}, no Source.")
    wanted = "single" if data.target == "ordinal" else data.target
    if source.kind != wanted:
        raise ConfigError(
            f"data.target is {data.target}, but the pictures of {source.name} have "
            f"{kind_of(source.kind).described}: set data.target={source.kind}, or name pictures of "
            "your own, data=PATH."
        )
    if data.target == "ordinal":
        source = ordered(source, data.order)
    source = _present(source, data)
    frames = data.frames if isinstance(data, FolderSettings) else None
    return _with_pages(source, data, frames) if data.pages == "all" or frames else source


def _with_pages(source: Source, data: DataSettings, frames: int | None) -> Source:
    """Return the source with the pages of its files; what is no picture is left to the audit."""
    if source.sample_paths is None:
        return source

    def pages(index: int) -> range:
        try:
            with source.open(index) as stream:
                return pages_of(stream, all_pages=data.pages == "all", frames=frames)
        except (PictureError, OSError):
            return range(1)

    return source.with_pages(list(in_order(pages, range(len(source)), data.worker_count)))


def _present(source: Source, data: DataSettings) -> Source:
    """Return the source without the samples that are missing, where these are to be skipped."""
    missing = source.missing
    if not missing:
        return source
    if data.on_bad_image == "error" or len(missing) == len(source):
        named = "; ".join(list(missing.values())[:_MOST_NAMED])
        more = f"; and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        advice = "Correct them, or set data.on_bad_image=skip to leave them out."
        raise ConfigError(
            f"{data.root} names {len(missing)} of {len(source)} pictures that are no files "
            f"(relative paths start at {source.root}): {named}{more}."
            + (f" {advice}" if len(missing) < len(source) else "")
        )
    problems = [
        Problem(
            source.sample_name(i),
            f"is no file ({where.partition(':')[0]}); left out",
            "pictures are no files, and were left out",
        )
        for i, where in missing.items()
    ]
    usable = without(source, dict.fromkeys(missing, "is no file"))
    return replace(usable, problems=(*usable.problems, *problems))


def check_root(data: DataSettings) -> None:
    """Check that `data.root` holds what it should, without decoding and without torch.

    Of a person's own pictures all are listed; of another set the root must be there.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(data, FolderSettings) or (data.root and data.name == "digits"):
        list_pictures(data)
    elif data.root is not None:
        existing_root(_local(data.root))


def _local(root: str) -> Path:
    return Path(root.removeprefix("file://"))


def without(source: Source, reasons: Mapping[int, str]) -> Source:
    """Return a source without pictures that cannot be used; some others are left.

    `reasons` says of these, by their indices, why.

    Raises:
        ConfigError: no picture of a class is left.
    """
    kept = [index for index in range(len(source)) if index not in reasons]
    usable = source.only(np.array(kept, np.int64))
    for label in sorted(set(source.class_names) - set(usable.class_names)):
        members = np.flatnonzero(has_class(source.targets, source.class_names.index(label)))
        first = int(members[0])
        raise ConfigError(
            f"no picture of the class {label} can be used ({len(members)}), for "
            f"{source.sample_name(first)} {reasons[first]}. Repair them, or take the class out of "
            "the data."
        )
    return usable
