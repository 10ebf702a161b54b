"""The pictures that the settings of a data set name, listed and not decoded."""

from __future__ import annotations

from pathlib import Path

from src.config.checks import ConfigError, own_fields
from src.config.data import DataSettings
from src.data.archive import forget_archive
from src.data.sources.source import Source
from src.machine.imports import import_object
from src.storage.cache import cache_folder

__all__ = ["list_pictures"]


def list_pictures(data: DataSettings) -> Source:
    """Return the labelled pictures of a data set; nothing is decoded.

    Raises:
        ConfigError: they are not there, or not what they should be.
    """
    load = import_object(data._target_)
    root = None if data.root is None else Path(data.root).absolute()
    cache = cache_folder(data.cache_dir).absolute()
    if data.check_content and root is not None and root.is_file():
        forget_archive(root, cache / "archives")
    source: object = load(root, cache, data.download, **own_fields(data, DataSettings))
    if not isinstance(source, Source):
        raise ConfigError(f"data: {data._target_} returned {type(source).__name__}, not a Source.")
    return source
