"""Optimizers against torch's own, numpy's singular values, and themselves after a round trip."""

from __future__ import annotations

import copy
import io
import pydoc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from src.config.checks import ConfigError, from_plain, to_plain
from src.config.training import OptimizerSettings
from src.data.loading.loaders import Batch
from src.training.optimizers import Muon, MuonSGD, adamw, orthogonalize, sgd
from src.training.task import ClassificationTask
from tests.training.test_parameter_groups import Small, groups_of, names_by_group

Factory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
FACTORIES: dict[str, Factory] = {
    "adamw": lambda groups: adamw(groups, betas=[0.9, 0.99], eps=1e-8),
    "sgd": lambda groups: sgd(groups, momentum=0.9, nesterov=True),
    "muon": lambda groups: Muon(groups, momentum=0.95, betas=[0.9, 0.99], eps=1e-8),
    "muon_sgd": lambda groups: MuonSGD(
        groups, momentum=0.85, matrix_momentum=0.6, vectors_lr_scale=1.0, head_lr_scale=1.0
    ),
}


def set_gradients(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def backward(network: nn.Module, seed: int) -> None:
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    network.zero_grad()
    network(images).square().mean().backward()


@pytest.fixture
def network() -> Small:
    torch.manual_seed(0)
    return Small()


@pytest.mark.parametrize("kind", FACTORIES)
def test_rates_by_layer_scale_each_step(kind: str) -> None:
    """With the levels' own rates, a step is the one that each level would take alone."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    for layer in network:
        nn.init.orthogonal_(layer.weight)  # of the norm that MuonSGD gives them
    steps = []
    for decay in (1.0, 0.5):
        copied = copy.deepcopy(network)
        groups = groups_of(
            copied, lr=0.01, weight_decay=0.0, layer_decay=decay, head_prefixes=["2"]
        )
        optimizer = FACTORIES[kind](groups)
        set_gradients(copied, 0)
        optimizer.step()
        steps.append(
            [p - q for p, q in zip(copied.parameters(), network.parameters(), strict=True)]
        )
    for plain, scaled, factor in zip(*steps, (0.25, 0.25, 0.5, 0.5, 1.0, 1.0), strict=True):
        torch.testing.assert_close(scaled, factor * plain, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("option", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_option_of_conf_makes_an_optimizer(option: Path, network: Small) -> None:
    chosen = from_plain(OptimizerSettings, yaml.safe_load(option.read_text()))
    base = ("_target_", "name", "lr", "weight_decay")
    own = {k: v for k, v in to_plain(chosen).items() if k not in base}
    groups = groups_of(network, lr=chosen.lr, weight_decay=chosen.weight_decay)
    optimizer = pydoc.locate(chosen._target_)(params=groups, **own)
    assert chosen.name == option.stem
    assert isinstance(optimizer, torch.optim.Optimizer)
    for key, value in own.items():
        assert optimizer.param_groups[-1][key] == (tuple(value) if key == "betas" else value)


@pytest.mark.parametrize(
    ("option", "change", "message"),
    [
        ("adamw", {"lr": -5.0}, "lr is -5.0"),
        ("adamw", {"betas": [0.9]}, "two numbers"),
        ("adamw", {"betas": [0.9, 1.0]}, "below 1"),
        ("sgd", {"momentum": 0.0}, "needs a momentum"),
        ("muon", {"momentum": 1.0}, "momentum is 1.0"),
        ("muon_sgd", {"momentum": 0.0}, "momentum is 0.0"),
        ("muon_sgd", {"head_lr_scale": 0.0}, "head_lr_scale is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(
    option: str, change: dict[str, Any], message: str
) -> None:
    plain = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    with pytest.raises(ConfigError, match=message):
        from_plain(OptimizerSettings, plain | change)


def test_adamw_equals_torch_with_its_single_tensor_path(network: Small) -> None:
    other = copy.deepcopy(network)
    ours = adamw(groups_of(network), betas=[0.8, 0.95], eps=1e-6)
    reference = torch.optim.AdamW(
        groups_of(other), betas=(0.8, 0.95), eps=1e-6, foreach=False, fused=False
    )
    for seed in range(5):
        set_gradients(network, seed)
        set_gradients(other, seed)
        ours.step()
        reference.step()
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_sgd_follows_the_published_recursion() -> None:
    network = nn.Linear(3, 2, bias=False).double()
    weight = network.weight.detach().numpy().copy()
    optimizer = sgd(groups_of(network, head_prefixes=[]), momentum=0.9, nesterov=True)
    velocity = np.zeros_like(weight)
    for step in range(4):
        gradient = np.full_like(weight, 0.5 + step)
        network.weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        gradient += 0.1 * weight
        velocity = 0.9 * velocity + gradient
        weight -= 0.01 * (gradient + 0.9 * velocity)
    np.testing.assert_allclose(network.weight.detach().numpy(), weight, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4)])
def test_muon_equals_torch_on_a_matrix(shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    ours, reference = nn.Linear(*shape, bias=False), nn.Linear(*shape, bias=False)
    reference.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    optimizer = Muon(groups_of(ours, head_prefixes=[]), momentum=0.9, betas=[0.9, 0.99], eps=1e-8)
    torch_muon = torch.optim.Muon(
        reference.parameters(),
        lr=0.01,
        weight_decay=0.1,
        momentum=0.9,
        adjust_lr_fn="match_rms_adamw",
    )
    for seed in range(3):
        set_gradients(ours, seed)
        set_gradients(reference, seed)
        optimizer.step()
        torch_muon.step()
    moved = (ours.weight - start).abs().max().item()
    # Equal but for bfloat16: the two multiply in another order.
    torch.testing.assert_close(ours.weight, reference.weight, atol=0.03 * moved, rtol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_a_kernel_as_a_matrix(layout: torch.memory_format) -> None:
    torch.manual_seed(2)
    for channels in ((3, 16), (1, 16)):  # wide (16, 27) and tall (16, 9)
        conv = nn.Conv2d(*channels, 3, bias=False)
        linear = nn.Linear(9 * channels[0], 16, bias=False)
        with torch.no_grad():
            linear.weight.copy_(conv.weight.flatten(1))
        conv.to(memory_format=layout)
        for module in (conv, linear):
            set_gradients(module, seed=3)
            groups = groups_of(module, head_prefixes=[])
            Muon(groups, momentum=0.9, betas=[0.9, 0.99], eps=1e-8).step()
        assert torch.equal(conv.weight.flatten(1), linear.weight)
        assert conv.weight.is_contiguous(memory_format=layout)


def test_muon_leaves_everything_else_to_adamw(network: Small) -> None:
    other = copy.deepcopy(network)
    muon = FACTORIES["muon"](groups_of(network))
    reference = FACTORIES["adamw"](groups_of(other))
    for seed in range(3):
        set_gradients(network, seed)
        set_gradients(other, seed)
        muon.step()
        reference.step()
    matrices = names_by_group(network)["backbone.matrices"]
    others = dict(other.named_parameters())
    for name, p in network.named_parameters():
        assert torch.equal(p, others[name]) == (name not in matrices), name


def test_muon_sgd_moves_kernels_of_a_norm_by_the_rate(network: Small) -> None:
    names = {p: n for n, p in network.named_parameters()}
    groups = groups_of(network)
    optimizer = MuonSGD(
        groups, momentum=0.85, matrix_momentum=0.6, vectors_lr_scale=3.0, head_lr_scale=2.0
    )
    assert [g["weight_decay"] > 0 for g in optimizer.param_groups] == [False, False, True, False]
    hidden = names_by_group(network)["backbone.matrices"]
    averages = {name: torch.zeros(()) for name in hidden}
    for seed in range(3):
        before = {name: p.detach().clone() for p, name in names.items()}
        set_gradients(network, seed)
        optimizer.step()
        for p, name in names.items():
            if name not in hidden:
                continue
            start = before[name] * len(p) ** 0.5 / before[name].norm()
            averages[name] = 0.6 * averages[name] + 0.4 * p.grad
            ahead = 0.4 * p.grad + 0.6 * averages[name]
            left, _, right = torch.linalg.svd(ahead.flatten(1), full_matrices=False)
            step = (start - p.detach()).flatten(1)
            values = torch.linalg.svdvals(step) / groups[0]["lr"]
            # Five steps of the quintic leave the smallest ones below 1.
            assert values.median() > 0.6 and values.max() < 1.3, name
            # The steps' own singular vectors are those of the averaged gradient.
            along = torch.diag(left.T @ step @ right.T)
            torch.testing.assert_close(along.norm(), step.norm(), rtol=0.03, atol=0)


def test_muon_sgd_leaves_everything_else_to_sgd_by_rates_of_their_own(network: Small) -> None:
    other = copy.deepcopy(network)
    ours = MuonSGD(
        groups_of(network),
        momentum=0.8,
        matrix_momentum=0.6,
        vectors_lr_scale=3.0,
        head_lr_scale=2.0,
    )
    groups = groups_of(other)
    for group in groups:
        group["lr"] *= 3.0 if group["name"].endswith("vectors") else 2.0
    reference = torch.optim.SGD(groups, momentum=0.8, nesterov=True, fused=False)
    for seed in range(3):
        set_gradients(network, seed)
        set_gradients(other, seed)
        ours.step()
        reference.step()
    hidden = names_by_group(network)["backbone.matrices"]
    others = dict(other.named_parameters())
    for name, p in network.named_parameters():
        if name not in hidden:
            torch.testing.assert_close(p, others[name])


def test_muon_sgd_does_not_see_the_size_of_a_kernel(network: Small) -> None:
    other = copy.deepcopy(network)
    hidden = names_by_group(network)["backbone.matrices"]
    with torch.no_grad():
        for name, p in other.named_parameters():
            if name in hidden:
                p.mul_(8)
    for one in (network, other):
        set_gradients(one, 0)
        FACTORIES["muon_sgd"](groups_of(one)).step()
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_muon_sgd_leaves_a_kernel_of_zeros_finite() -> None:
    conv = nn.Conv2d(3, 4, 3, bias=False)
    nn.init.zeros_(conv.weight)
    optimizer = FACTORIES["muon_sgd"](groups_of(conv, head_prefixes=[]))
    for seed in range(2):
        set_gradients(conv, seed)
        optimizer.step()
    assert conv.weight.isfinite().all() and conv.weight.any()


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 1000))
def test_orthogonalize_maps_singular_values_by_the_quintic(
    rows: int, columns: int, seed: int
) -> None:
    matrices = np.random.default_rng(seed).standard_normal((2, rows, columns))
    result = orthogonalize(torch.from_numpy(matrices).float()).double().numpy()
    for matrix, ours in zip(matrices, result, strict=True):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        values = values / np.linalg.norm(values)
        kept = values > 0.02
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        # bfloat16 has 8 bits, and each of five steps stretches an error in small values 3.4-fold:
        # directions of less than a fiftieth of the norm may be anything, as long as they are small.
        error = left.T @ ours @ right.T - np.diag(values)
        error = error[np.ix_(kept, kept)]
        assert np.linalg.norm(error) < 0.15 * np.linalg.norm(values)
        assert np.linalg.norm(ours, 2) < 1.3


def test_orthogonalize_of_zero_is_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 5)).float(), torch.zeros(1, 3, 5))


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_reloaded_optimizer_continues_bit_for_bit(kind: str, network: Small) -> None:
    optimizer = FACTORIES[kind](groups_of(network))
    for seed in range(3):
        backward(network, seed)
        optimizer.step()
    file = io.BytesIO()
    torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = Small()
    again.load_state_dict(saved["network"])
    resumed = FACTORIES[kind](groups_of(again))
    resumed.load_state_dict(saved["optimizer"])
    for seed in range(3, 6):
        for one, stepper in ((network, optimizer), (again, resumed)):
            backward(one, seed)
            stepper.step()
    for p, q in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", FACTORIES)
def test_state_is_loaded_into_another_memory_layout(kind: str) -> None:
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3))
    optimizer = FACTORIES[kind](groups_of(network, head_prefixes=["1"]))
    set_gradients(network, 0)
    optimizer.step()
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    moved = FACTORIES[kind](groups_of(other, head_prefixes=["1"]))
    moved.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    set_gradients(network, 1)
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        q.grad = torch.empty_like(q).copy_(p.grad)  # laid out as backward() lays it out
    optimizer.step()
    moved.step()
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_schedule_scales_the_rate_of_every_group(kind: str, network: Small) -> None:
    optimizer = FACTORIES[kind](groups_of(network, backbone_lr_scale=0.1))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    before = [p.detach().clone() for p in network.parameters()]
    backward(network, 0)
    optimizer.step()
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([5e-4, 5e-4, 5e-3, 5e-3])
    first = [(p - q).abs().max() for p, q in zip(network.parameters(), before, strict=True)]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in network.parameters()]
    backward(network, 1)
    optimizer.step()
    assert max(first) > 0
    hidden = names_by_group(network)["backbone.matrices"] if kind == "muon_sgd" else ()
    for (name, p), q in zip(network.named_parameters(), before, strict=True):
        if name in hidden:  # which have their norm anew
            torch.testing.assert_close(p / p.norm(), q / q.norm())
        else:
            assert torch.equal(p, q), name


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_closure_is_run_with_gradients_and_its_loss_returned(kind: str, network: Small) -> None:
    other = copy.deepcopy(network)
    optimizer, plain = (FACTORIES[kind](groups_of(n)) for n in (network, other))
    images = torch.randn(4, 1, 8, 8)

    def closure() -> float:
        network.zero_grad()
        loss = network(images).square().mean()
        loss.backward()
        return loss.item()

    expected = other(images).square().mean()
    expected.backward()
    plain.step()
    assert optimizer.step(closure) == pytest.approx(expected.item())
    for p, q in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", FACTORIES)
def test_parameters_without_gradient_stay(kind: str, network: Small) -> None:
    network.requires_grad_(False).head.requires_grad_(True)
    before = copy.deepcopy(network.state_dict())
    optimizer = FACTORIES[kind](groups_of(network))
    network.eval()
    backward(network, 0)
    optimizer.step()
    changed = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_and_clips_under_autocast(kind: str) -> None:
    import pytorch_lightning as pl
    from torch.utils.data import DataLoader

    torch.manual_seed(5)
    images, ids = torch.randint(0, 256, (64, 1, 4, 4), dtype=torch.uint8), torch.arange(64)
    targets = (images[:, 0, 0, 0] > 127).long()
    task = ClassificationTask(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)),
        {"mean": [0.5], "std": [0.3]},
        loss=nn.CrossEntropyLoss(),
        augment=None,
        make_optimizer=lambda network: FACTORIES[kind](groups_of(network, head_prefixes=["3"])),
        make_schedule=lambda steps: lambda step: 1.0,
        seed=0,
    )
    before = float(nn.functional.cross_entropy(task(images), targets))
    trainer = pl.Trainer(
        max_epochs=15,
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=0.5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [Batch(images[half], targets[half], half, 0) for half in ids.split(32)]
    trainer.fit(task, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert float(nn.functional.cross_entropy(task(images), targets)) < 0.9 * before


@pytest.mark.parametrize("kind", FACTORIES)
def test_a_step_does_not_look_for_gpus(
    kind: str, network: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look() -> bool:
        raise AssertionError("every step would pay for it")

    optimizer = FACTORIES[kind](groups_of(network))
    backward(network, 0)
    before = copy.deepcopy(network.state_dict())
    monkeypatch.setattr(torch.cuda, "is_available", look)
    optimizer.step()
    assert not all(torch.equal(before[n], value) for n, value in network.state_dict().items())
