"""Which picture files a person means by a path."""

from __future__ import annotations

from pathlib import Path

from src.data.decode import PICTURE_ENDINGS

__all__ = ["find_pictures"]


def find_pictures(images: Path) -> list[Path]:
    """The picture files that `images` means: itself, or all below a folder, hidden ones aside.

    Raises:
        ValueError: there is nothing there, or no picture in it.
    """
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise ValueError(f"{images} does not exist (paths are taken literally)")
    found = sorted(
        path
        for path in images.rglob("*")
        if path.suffix.lower() in PICTURE_ENDINGS
        and path.is_file()
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(images).parts)
    )
    if not found:
        raise ValueError(f"{images} holds no picture ({', '.join(sorted(PICTURE_ENDINGS))})")
    return found
