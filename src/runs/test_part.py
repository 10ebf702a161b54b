"""The number of measurements of the test part; repeating a run's own is not counted."""

from __future__ import annotations

import numpy as np

from ..data.splitting.test_usage import count_test_measurement, past_test_measurements
from ..machine.arrays import AnyArray
from ..records.run import Predictions
from .candidates.candidate import Answers
from .folder import RunFolder

__all__ = ["counted_measurement"]

# Of probabilities: other threads add in another order, while other weights differ by far more.
_TOLERANCE = 1e-3


def counted_measurement(folder: RunFolder, test_fingerprint: str, answers: Answers) -> int:
    """Return how often the test part of a split has been measured, this measurement included.

    It is counted before anything is computed from the answers. Answers that the run's folder
    holds already, as of a run that was resumed after it had measured, show nothing new and are not
    counted again.

    Args:
        folder: of the run that measures.
        test_fingerprint: of the split's test part.
        answers: of the run's model on that part.
    """
    past = past_test_measurements(folder.output_dir, test_fingerprint)
    if past and _is_stored(folder, answers):
        return past
    return count_test_measurement(folder.output_dir, test_fingerprint, folder.run_id)


def _is_stored(folder: RunFolder, answers: Answers) -> bool:
    probs, targets, ids = answers
    try:
        stored = Predictions.read(folder.predictions / "test.parquet", with_paths=False)
    except (OSError, ValueError):
        return False
    return (
        np.array_equal(stored.sample_ids, ids)
        and np.array_equal(stored.targets, targets)
        and stored.probs.shape == probs.shape
        and _equal(stored.probs, probs)
    )


def _equal(stored: AnyArray, found: AnyArray) -> bool:
    """Return whether answers are those of the same weights."""
    if found.dtype.names is None:
        return np.allclose(stored, found, rtol=0.0, atol=_TOLERANCE)
    differing = np.abs(stored["matrix"] - found["matrix"]).sum()
    return bool(differing <= _TOLERANCE * found["matrix"].sum())
