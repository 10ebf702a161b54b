"""What more training pictures would bring, against curves that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from src.statistics.data_scaling import (
    _DRIFTS,
    _EXPONENT,
    _EXPONENT_SD,
    _FLATTENING,
    _STRAYING,
    DataScaling,
    data_scaling,
    measured_losses,
)
from src.statistics.evidence import Evidence
from tests.statistics.fields import candidate

FRACTIONS = (0.125, 0.25, 0.5, 1.0)


def power_law(exponent: float, level: float = 0.1) -> np.ndarray:
    return level * np.array(FRACTIONS) ** -exponent


@pytest.mark.parametrize("exponent", [0.1, 0.3, 0.6])
def test_a_power_law_goes_on_a_little_flatter(exponent: float) -> None:
    found = data_scaling(FRACTIONS, power_law(exponent), 1e-8 * np.eye(4))
    for factor in (2, 4):
        loss, ends = found.loss(factor)
        law = 0.1 * factor**-exponent
        assert loss == pytest.approx(law, rel=0.1) and law in ends
        gain, gains = found.gain(factor)
        assert 0.5 * (0.1 - law) < gain < 1.05 * (0.1 - law)
        assert 0 <= gains.low < gain < gains.high
    assert (
        found.loss(4)[1].high - found.loss(4)[1].low > found.loss(2)[1].high - found.loss(2)[1].low
    )


def test_intervals_hold_what_the_law_draws() -> None:
    """Curves by small steps of a drifting exponent, their errors drawn with shared pictures."""
    rng = np.random.default_rng(0)
    steps, count = 100, 200
    held = {2: 0, 4: 0}
    gained = {2: 0, 4: 0}
    shared = 0.03**2 * (0.7 * np.ones((4, 4)) + 0.3 * np.eye(4))  # of logarithms
    for _ in range(count):
        drift, straying = rng.choice(_DRIFTS), rng.choice(_STRAYING)
        exponent = rng.normal(_EXPONENT, _EXPONENT_SD)
        while exponent < 0:
            exponent = rng.normal(_EXPONENT, _EXPONENT_SD)
        scale = drift * math.sqrt(1 / steps)

        def fall(doublings: int, sign: int, exponent=exponent, scale=scale) -> np.ndarray:
            """By how much the log loss falls in so many doublings from here on."""
            times = sign * np.arange(1, doublings * steps + 1) / steps
            walk = exponent - _FLATTENING * times + np.cumsum(rng.normal(0, scale, len(times)))
            return np.cumsum(walk) * math.log(2) / steps

        before, after = fall(3, -1), fall(2, 1)
        level = math.log(0.1)
        truth = level + np.array(
            [before[3 * steps - 1], before[2 * steps - 1], before[steps - 1], 0]
        )
        noise = rng.multivariate_normal(np.zeros(4), shared) + rng.normal(0, straying, 4)
        losses = np.exp(truth + noise)
        found = data_scaling(FRACTIONS, losses, shared * np.outer(losses, losses))
        for factor, end in ((2, steps - 1), (4, 2 * steps - 1)):
            later = math.exp(level - max(0.0, float(after[: end + 1].max())))
            held[factor] += later in found.loss(factor)[1]
            gained[factor] += 0.1 - later in found.gain(factor)[1]
    for holds in (*held.values(), *gained.values()):
        # Three standard errors around 95 %.
        assert 0.904 <= holds / count <= 0.996


def test_errors_that_all_fractions_share_say_little_about_the_gain() -> None:
    losses = power_law(0.3)
    own = data_scaling(FRACTIONS, losses, np.diag((0.1 * losses) ** 2))
    common = data_scaling(
        FRACTIONS, losses, 0.99 * np.outer(losses, losses) * 0.01 + 1e-8 * np.eye(4)
    )
    widths = [one.gain(2)[1].high - one.gain(2)[1].low for one in (own, common)]
    assert widths[1] < widths[0] / 1.3


def test_more_pictures_make_no_model_worse() -> None:
    rising = data_scaling(FRACTIONS, np.array([0.1, 0.1, 0.101, 0.102]), 1e-6 * np.eye(4))
    factors = np.geomspace(1, 64, 20)
    losses = np.stack([rising.losses(factor) for factor in factors])
    assert (np.diff(losses, axis=0) <= 1e-12).all()
    assert rising.gain(2)[1].low >= 0


def test_how_many_pictures_a_loss_takes() -> None:
    certain = DataScaling(np.full(9, math.log(0.1)), np.full(9, 0.5), np.zeros(9))
    needed, ends = certain.needed(0.05)
    doublings = (0.5 - math.sqrt(0.25 - 2 * _FLATTENING)) / _FLATTENING
    assert needed == pytest.approx(2**doublings, rel=0.03) and ends.low == ends.high == needed
    assert certain.needed(0.2)[0] == 1
    assert certain.needed(0.1 / 8.1)[0] == math.inf
    losses = data_scaling(FRACTIONS, power_law(0.3), 1e-4 * np.eye(4))
    needed, ends = losses.needed(0.1 * 4**-0.3)
    assert 4 < needed < 8 and 1 <= ends.low < needed < ends.high


@pytest.mark.parametrize(
    ("fractions", "losses", "why"),
    [
        ((1.0,), [0.1], "two at least"),
        ((0.5, 0.25, 1.0), [0.1, 0.1, 0.1], "ascend to 1"),
        ((0.25, 0.5), [0.1, 0.1], "ascend to 1"),
        ((0.0, 1.0), [0.1, 0.1], "ascend to 1"),
        ((0.5, 1.0), [0.1, 0.0], "above 0"),
        ((0.5, 1.0), [0.1, math.nan], "above 0"),
    ],
)
def test_what_makes_no_curve_is_refused(
    fractions: tuple[float, ...], losses: list[float], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        data_scaling(fractions, np.array(losses), 1e-6 * np.eye(len(losses)))


def test_losses_of_measured_figures() -> None:
    """A perfect one may err in half a picture; of a figure that hardly varies nothing is added."""
    rng = np.random.default_rng(0)
    scores = np.stack([np.ones(40), 0.95 + rng.normal(0, 0.002, 40)]).astype(np.float32)
    right = np.ones((1, 40), np.bool_)

    def evidence(sign: int, lowest: float | None) -> Evidence:
        fields = [
            candidate(f"c{i}", right, scores=sign * one[None]) for i, one in enumerate(scores)
        ]
        return Evidence.of(fields, lowest=lowest)

    losses, covariance = measured_losses(evidence(1, 0.0))
    assert losses == pytest.approx([0.5 / 40, 0.05], rel=0.02)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.5 / 40, 0.002 / math.sqrt(40)], rel=0.3)
    assert measured_losses(evidence(-1, None))[0] == pytest.approx([1, 0.95], rel=0.01)
