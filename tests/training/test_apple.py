"""What Apple's GPU cannot do is not asked of it; a stand-in refuses as it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from src.targets import kind_of
from src.training.pixels import answers_of
from src.training.totals import CollectedAnswers, ValidationMetrics


class OnApple(Tensor):
    """A tensor that is on Apple's GPU, as far as double precision goes, until it is moved."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs or {})
        if func is Tensor.cpu:
            return found.as_subclass(Tensor)
        if isinstance(found, OnApple) and found.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return found


def on_apple(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(OnApple)


def test_the_stand_in_refuses() -> None:
    with pytest.raises(TypeError, match="float64"):
        on_apple(torch.zeros(2)).double()
    assert on_apple(torch.zeros(2)).cpu().double().dtype == torch.float64


def test_metrics_of_an_epoch_are_computed_elsewhere() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(12, 3), torch.randint(0, 2, (12, 3))
    found = []
    for place in (on_apple, Tensor.clone):
        metrics = ValidationMetrics(kind_of("multi"), ["a", "b", "c"], "val/map")
        totals = CollectedAnswers(metrics, "sigmoid")
        totals._answers.append((place(logits), place(targets)))
        totals._sums, totals.samples = torch.ones(2), 12
        found.append(totals.read())
    assert found[0] == found[1] and "map" in found[0]


def test_answers_about_pixels_are_summed_elsewhere() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    found = answers_of(on_apple(logits), on_apple(targets))
    np.testing.assert_array_equal(found, answers_of(logits, targets))
