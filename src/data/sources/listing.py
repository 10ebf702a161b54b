"""The pictures that the settings of a data set name, listed and not decoded."""

from __future__ import annotations

import importlib
from pathlib import Path

from src.config.data import DataSettings
from src.data.sources.archive import forget_archive
from src.data.sources.source import Source
from src.storage.cache import cache_folder

__all__ = ["list_pictures"]


def list_pictures(data: DataSettings) -> Source:
    """Return the labelled pictures of a data set; nothing is decoded.

    Raises:
        ConfigError: they are not there, or not what they should be.
    """
    # The settings took `_target_` from an allowlist: it names the function `load` of a module here.
    lister = importlib.import_module(data._target_.removesuffix(".load"))
    root = None if data.root is None else Path(data.root).absolute()
    cache = cache_folder(data.cache_dir).absolute()
    if data.check_content and root is not None and root.is_file():
        forget_archive(root, cache / "archives")
    source: Source = lister.load(root, cache, data.download)
    return source
