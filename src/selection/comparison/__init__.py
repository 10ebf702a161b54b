"""Compare finished runs: find and read them, judge their candidates, report and record it."""

from __future__ import annotations

from .judge import compared

__all__ = ["compared"]
