"""From run folders to a verdict: which runs, which of them repeat each other, what they said."""

from __future__ import annotations

from src.selection.comparison.judge import compared

__all__ = ["compared"]
