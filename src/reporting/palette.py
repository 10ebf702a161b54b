"""Which colour stands for which family, in figures and on pages."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["family_colors"]

# Of middle lightness, so that they show on white and on black; neighbours differ in lightness too.
_COLORS = (
    "#2f6bea",  # blue
    "#e08a00",  # orange
    "#0f9d76",  # green
    "#d6336c",  # pink
    "#8453d6",  # violet
    "#12a5c4",  # cyan
    "#7a9a1e",  # olive
    "#c2410c",  # rust
    "#6b7f95",  # slate
    "#b8860b",  # gold
    "#b35cc8",  # orchid
    "#8d6e63",  # brown
)


def family_colors(families: Sequence[str]) -> dict[str, str]:
    """A colour as "#rrggbb" for each family, by its place; past twelve they come again."""
    return {name: _COLORS[index % len(_COLORS)] for index, name in enumerate(families)}
