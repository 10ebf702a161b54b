"""The race's pick against fastai and against scikit-learn on timm's features.

All three get the same pictures in the same parts, the same published weights and the same CPU
seconds: those that the race has used. `contest` runs them and compares what they say of the test
part. The modules that rivals run in processes of their own (`protocol`, `tune_fastai`, `fit_heads`)
need none of the project's packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.table import Row

__all__ = ["measure"]


def measure() -> list[Row]:
    """Return a row for each set and rival; see `benchmarks.rivals.contest`."""
    # Here, because fastai's environment has no package of the project's.
    from benchmarks.rivals.contest import measure_rivals

    return measure_rivals()
