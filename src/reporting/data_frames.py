"""Records as tables of pandas, for who goes on in Python."""

from __future__ import annotations

import pandas as pd

from ..records.comparison import Comparison
from ..records.data_scaling import DataScalingRecord
from ..records.standings import leaderboard
from ..records.trials import SweepRecord

__all__ = ["candidates_frame", "scaling_frame", "trials_frame"]


def trials_frame(record: SweepRecord) -> pd.DataFrame:
    """Return the trials of a study in the order of its page, a row each."""
    rows = [
        {
            "candidate": one.name,
            "trial": one.number,
            "family": one.family,
            "state": one.state,
            record.metrics[0]: one.value,
            "seconds": one.seconds,
            **one.values,
        }
        for one in leaderboard(record)
    ]
    return pd.DataFrame(rows)


def candidates_frame(comparison: Comparison) -> pd.DataFrame:
    """Return the candidates of a comparison, the best first, a row each."""
    rows = [
        {
            "rank": one.rank,
            "candidate": one.name,
            "family": entrant.family,
            "measure": comparison.verdict.measure,
            "figure": one.figure,
            "low": one.interval.low,
            "high": one.interval.high,
            "tied": one.tied,
            "accuracy": None if comparison.pixels else one.accuracy,
            "log_loss": one.log_loss,
            "cost": one.cost,
            "command": entrant.command,
        }
        for entrant in comparison.entrants
        for one in [entrant.standing]
    ]
    return pd.DataFrame(rows)


def scaling_frame(record: DataScalingRecord) -> pd.DataFrame:
    """Return the measured figures of a forecast, then those that it expects, a row each."""
    rows: list[tuple[float | str | None, ...]]
    rows = [(o.pictures, o.figure, o.low, o.high, o.run) for o in record.measured]
    rows += [(o.pictures, o.figure, o.low, o.high, None) for o in record.forecasts]
    return pd.DataFrame(rows, columns=["pictures", "figure", "low", "high", "run"])
