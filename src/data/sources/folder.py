"""A person's own pictures: a folder of class folders, an archive of one, or a CSV file."""

from __future__ import annotations

from pathlib import Path

from src.config.checks import ConfigError
from src.data.sources.archive import ARCHIVE_ENDINGS, extract_archive
from src.data.sources.places import existing_root
from src.data.sources.source import Source
from src.data.sources.table import list_table
from src.data.sources.tree import list_tree

__all__ = ["load"]


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """The pictures below, in or named by `root`, taken literally (no ~, no $, no patterns).

    Args:
        root: one of
            a folder root/class/..., root/{train,test}/class/... or root/{train,val,test}/class/...
            (see `list_tree`), a .zip or .tar (.gz, .xz, .bz2) of such a folder, which is extracted
            into the cache once, or a CSV file path,label[,split[,group]] (see `list_table`).
        cache_dir: the project's cache folder.
        download: not needed, as with every set that is no published one.

    Raises:
        ConfigError: there is nothing at root, or not what it should be.
    """
    if root is None:
        raise ConfigError(
            "data.root is not set: say data.root=PATH, a folder with one folder of pictures a "
            "class, a .zip or .tar of it, or a CSV file with the columns path and label."
        )
    existing_root(root)
    if root.is_dir():
        return list_tree(root, shown=str(root))
    name = root.name.lower()
    if name.endswith(".csv"):
        return list_table(root)
    if name.endswith(ARCHIVE_ENDINGS):
        return list_tree(extract_archive(root, cache_dir / "archives"), shown=str(root))
    raise ConfigError(
        f"data.root is {str(root)!r}, which is neither a folder, nor a CSV file, nor an archive "
        f"({', '.join(ARCHIVE_ENDINGS)})."
    )
