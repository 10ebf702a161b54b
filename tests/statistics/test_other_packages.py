"""Against crepes, MAPIE, baycomp and arch, by the numbers that `other_packages.py` keeps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from src.statistics.conformal import set_thresholds
from src.statistics.evidence import Evidence
from src.statistics.mcb import compare_with_best
from src.statistics.paired_tests import corrected_resampled_t
from src.statistics.resampling import resample
from tests.statistics.fields import random_field
from tests.statistics.other_packages import (
    BAND,
    COVERAGES,
    FIELDS,
    FILE,
    SHARES,
    answers,
    fold_differences,
)

KEPT: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", ["crepes", "mapie"])
@pytest.mark.parametrize("coverage", COVERAGES)
def test_label_sets_are_theirs(package: str, coverage: float) -> None:
    probs, targets, new = answers()
    of_labels = probs[np.arange(len(targets)), targets]
    thresholds = set_thresholds(of_labels, targets, coverage, num_classes=4)
    assert np.array_equal(new >= thresholds, KEPT[f"sets_of_{package}"][str(coverage)])


def test_the_test_over_folds_is_the_posterior_of_baycomp() -> None:
    """With a flat prior the correlated t-test is its own posterior (Corani & Benavoli 2015)."""
    found = corrected_resampled_t(fold_differences(), 1 / 10)
    error = (found.interval.high - found.difference) / student.ppf(0.975, 29)
    law = student(29, found.difference, error)
    kept = KEPT["correlated_t_of_baycomp"]
    assert law.cdf(-BAND) == pytest.approx(kept["less"], rel=1e-9)
    assert law.sf(BAND) == pytest.approx(kept["more"], rel=1e-9)
    assert law.cdf(BAND) - law.cdf(-BAND) == pytest.approx(kept["within"], rel=1e-9)
    assert found.p_value / 2 == pytest.approx(min(law.cdf(0), law.sf(0)), rel=1e-9)


def test_the_tied_are_mostly_the_model_confidence_set() -> None:
    """Hansen, Lunde & Nason's procedure is another one, for the same question."""
    ours = []
    for seed in range(FIELDS):
        evidence = Evidence.of(random_field(SHARES, [1] * len(SHARES), 600, seed=seed))
        ours.append(compare_with_best(evidence, resample(evidence)).tied)
    theirs = [np.isin(np.arange(len(SHARES)), kept) for kept in KEPT["confidence_sets_of_arch"]]
    assert all(tied[0] for tied in ours) and all(kept[0] for kept in theirs)
    assert np.mean(np.equal(ours, theirs)) >= 0.9
    assert not any(tied[-1] for tied in ours) and not any(kept[-1] for kept in theirs)
