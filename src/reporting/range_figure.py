"""The picture of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from src.reporting.style import ACCENT, GRID, MUTED, WARNING, new_figure, tidy

__all__ = ["range_figure"]


def range_figure(
    rates: Sequence[float], losses: Sequence[float], chosen: float, given: float
) -> Figure:
    """Smoothed loss over the learning rate, with the rate that was chosen and the one given.

    Args:
        rates: learning rates, all above 0, growing.
        losses: smoothed training loss after each.
        chosen, given: learning rates that get a line each.
    """
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    axes.plot(rates, losses, color=ACCENT, lw=1.8)
    axes.set_xscale("log")
    axes.axvline(chosen, color=WARNING, lw=1.4, label=f"chosen: {chosen:g}")
    axes.axvline(given, color=MUTED, lw=1.4, ls="--", label=f"set before: {given:g}")
    tidy(axes, title="Learning-rate range test", x="learning rate", y="smoothed training loss")
    axes.grid(color=GRID, lw=0.8)
    axes.legend(frameon=False, fontsize=8)
    return figure
