"""What tests with tensors that have a device and no data must clear before and after."""

from __future__ import annotations

from src.data import randomness
from src.data.augmentation import augment, policies, transforms

__all__ = ["forget_constants"]


def forget_constants() -> None:
    """Forget the tensors that are made once a process: those without data and those with."""
    for made_once in (
        randomness._stream_keys,
        transforms._counted,
        transforms._moves,
        augment._ranges,
        policies._most_moved,
    ):
        made_once.cache_clear()
