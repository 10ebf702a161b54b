"""Losses against torch's own, a direct formula, and exact reductions."""

from __future__ import annotations

import pydoc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from src.config.checks import ConfigError, from_plain, to_plain
from src.config.training import LossSettings
from src.training.losses import CrossEntropy, Focal, balanced_weights, weights_of

CONF = Path(__file__).resolve().parents[2] / "conf" / "loss"
B, K = 7, 4


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(B, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 3, 1, 0])


@pytest.fixture
def probabilities() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, K, generator=generator, dtype=torch.float64).softmax(dim=1)


WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
KINDS = [
    partial(CrossEntropy, label_smoothing=0.0),
    partial(Focal, gamma=2.0, label_smoothing=0.0),
]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_of_class_numbers_is_that_of_torch(
    logits: Tensor, targets: Tensor, smoothing: float, weights: Tensor | None
) -> None:
    ours = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    reference = nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(ours(logits, targets), reference(logits, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities_is_that_of_torch(
    logits: Tensor, probabilities: Tensor, smoothing: float
) -> None:
    ours = CrossEntropy(label_smoothing=smoothing)(logits, probabilities)
    reference = nn.CrossEntropyLoss(label_smoothing=smoothing)(logits, probabilities)
    torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("gamma", [None, 0.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_one_hot_row_counts_as_its_class_number(
    logits: Tensor, targets: Tensor, gamma: float | None, smoothing: float, weights: Tensor | None
) -> None:
    loss: nn.Module = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    if gamma is not None:
        loss = Focal(gamma=gamma, label_smoothing=smoothing, class_weights=weights)
    one_hot = F.one_hot(targets, K).double()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("soft", [False, True])
def test_focal_with_gamma_zero_is_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    probabilities: Tensor,
    smoothing: float,
    weights: Tensor | None,
    soft: bool,
) -> None:
    wanted = probabilities if soft else targets
    results = []
    for loss in (
        Focal(gamma=0, label_smoothing=smoothing, class_weights=weights),
        CrossEntropy(label_smoothing=smoothing, class_weights=weights),
    ):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, wanted)
        value.backward()
        results.append((value, leaf.grad))
    torch.testing.assert_close(results[0], results[1])


@given(gamma=st.floats(0, 10), seed=st.integers(0, 1000))
def test_focal_is_the_published_formula(gamma: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits, targets = generator.standard_normal((B, K)), generator.integers(0, K, B)
    right = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))[np.arange(B), targets]
    expected = np.mean(-((1 - right) ** gamma) * np.log(right))
    ours = Focal(gamma=gamma, label_smoothing=0.0)(
        torch.from_numpy(logits), torch.from_numpy(targets)
    )
    assert ours.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5, 1.0, 2.0])
def test_extreme_logits_give_finite_losses_and_slopes(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0], [17.0, 0.0]], requires_grad=True)
    loss = Focal(gamma=gamma, label_smoothing=0.0)(logits, torch.tensor([0, 0, 0]))
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite() and logits.grad.isfinite().all()
    assert loss.item() == pytest.approx(200 / 3, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(
    kind: Callable[..., nn.Module], dtype: torch.dtype, logits: Tensor, probabilities: Tensor
) -> None:
    low = logits.to(dtype)
    result = kind()(low, probabilities)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, kind()(low.float(), probabilities.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_class_weights_move_with_the_module_but_stay_out_of_checkpoints(
    kind: Callable[..., nn.Module],
) -> None:
    loss = kind(class_weights=torch.ones(K))
    assert loss.state_dict() == {}
    assert loss.to("meta").class_weights.device.type == "meta"


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=20))
def test_balanced_classes_weigh_alike_and_a_picture_one_on_average(counts: list[int]) -> None:
    weights = balanced_weights(torch.tensor(counts)).double().numpy()
    total = np.array(counts) * weights
    np.testing.assert_allclose(total, total[0], rtol=1e-5)
    assert total.sum() == pytest.approx(sum(counts), rel=1e-5)


def test_roots_of_weights_lie_between_equal_and_balanced_ones() -> None:
    counts = torch.tensor([900, 90, 10])
    assert weights_of("none", counts) is None
    balanced, root = weights_of("balanced", counts), weights_of("root", counts)
    assert balanced is not None and root is not None
    torch.testing.assert_close(balanced, balanced_weights(counts))
    torch.testing.assert_close(root / root[0], (balanced / balanced[0]).sqrt())
    torch.testing.assert_close(root[2] / root[0], torch.tensor(90.0).sqrt())
    absent = weights_of("root", torch.tensor([4, 0]))
    assert absent is not None and absent.isfinite().all()


def test_a_class_without_pictures_cannot_be_balanced() -> None:
    with pytest.raises(ConfigError, match="class number 1, 3"):
        balanced_weights(torch.tensor([4, 0, 2, 0]))


@pytest.mark.parametrize("option", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_option_of_conf_makes_a_loss(option: Path, logits: Tensor, targets: Tensor) -> None:
    chosen = from_plain(LossSettings, yaml.safe_load(option.read_text()))
    base = ("_target_", "name", "class_weights")
    own = {k: v for k, v in to_plain(chosen).items() if k not in base}
    loss = pydoc.locate(chosen._target_)(class_weights=WEIGHTS, **own)
    assert chosen.name == option.stem
    given = {"asymmetric": (logits, F.one_hot(targets, len(WEIGHTS)))}
    given["corn"] = logits[:, :-1], targets  # a question fewer than classes
    for of_pixels in ("dice", "cross_entropy_dice"):
        given[of_pixels] = logits[:, :, None, None], targets[:, None, None]
    assert loss(*given.get(chosen.name, (logits, targets))) > 0
    assert {key: getattr(loss, key) for key in own} == own
