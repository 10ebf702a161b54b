from __future__ import annotations

import copy
import gc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.config.compose import read_run_settings
from src.machine.interruption import Interruption
from src.runs import build
from src.training import cuda_graphs
from src.training.cuda_graphs import GraphedPasses
from src.training.epochs import EpochKeeper
from src.training.lightning_parts import FitBatches
from src.training.optimizers import Muon, MuonSGD, parameter_groups
from tests.recorded_graphs import RecordedGraph, use_recorded_graphs

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


class Net(nn.Module):
    head_prefixes = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3),
            nn.Dropout(0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


class Reading(Net):
    """It looks at what the device computes, which no graph can hold."""

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)
        return found if bool(found.isfinite().all()) else found.nan_to_num()


class Normalization(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - 128) / 64


def trained(
    device: str,
    *,
    wanted: bool,
    steps: int = 8,
    half: bool = False,
    make: type[Net] = Net,
    sgd: bool = False,
) -> nn.Module:
    """A network after some steps, among them one of a smaller batch and four with a frozen body."""
    torch.manual_seed(0)
    network = make().to(device)
    groups = parameter_groups(network, lr=0.02, weight_decay=0.1, head_prefixes=("head.",))
    optimizer = (
        MuonSGD(groups, momentum=0.85, matrix_momentum=0.6, vectors_lr_scale=2.0, head_lr_scale=3.0)
        if sgd
        else Muon(groups, momentum=0.9, betas=(0.9, 0.99), eps=1e-8)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    passes = GraphedPasses(network, Normalization(), wanted=wanted)
    generator = torch.Generator().manual_seed(1)
    for step in range(3 * steps):
        count = 4 if step == steps else 16
        images = torch.randint(256, (count, 3, 9, 9), generator=generator, dtype=torch.uint8)
        images = images.to(device)
        if step % 3 != 2:  # blended, as some batches are while others stay bytes
            images = 0.7 * images
        labels = torch.randint(5, (count,), generator=generator).to(device)
        network.body.requires_grad_(not steps < step < steps + 5)
        torch.manual_seed(step)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(passes(images).float(), labels)
        loss.backward()
        del loss  # as Lightning does: nothing of the pass may be alive when one is captured
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return network


@needs_gpu
@pytest.mark.parametrize("sgd", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_training_by_graphs_is_that_without(
    half: bool, sgd: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    plain = trained("cuda", wanted=False, half=half, sgd=sgd).state_dict()
    graphed = trained("cuda", wanted=True, half=half, sgd=sgd)
    assert "one by one" not in capsys.readouterr().err
    for name, tensor in graphed.state_dict().items():
        torch.testing.assert_close(tensor, plain[name], rtol=0, atol=0, msg=name)
    # The network itself is as it was: in eval mode, copied, on another device.
    images = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        here = copy.deepcopy(graphed).cpu().eval()(images)
        torch.testing.assert_close(graphed.eval()(images.cuda()).cpu(), here, rtol=1e-2, atol=1e-3)


@needs_gpu
def test_a_capture_that_fails_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    stream = torch.cuda.current_stream()
    plain = trained("cuda", wanted=False, make=Reading).state_dict()
    tried = trained("cuda", wanted=True, make=Reading).state_dict()
    assert capsys.readouterr().err.count("one by one") == 1
    assert torch.cuda.current_stream() == stream
    for name, tensor in tried.items():  # dropout has been drawn as without
        torch.testing.assert_close(tensor, plain[name], rtol=0, atol=0, msg=name)


@needs_gpu
def test_graphs_are_captured_and_given_back() -> None:
    network = Net().cuda()
    passes = GraphedPasses(network, Normalization(), wanted=True)
    images = torch.randn(16, 3, 9, 9, device="cuda")
    for _ in range(2):
        passes(images)
        assert passes._graphed is None
    statistics = [buffer.clone() for buffer in network.buffers()]
    passes._capture(images)
    assert passes._graphed is not None
    for buffer, before in zip(network.buffers(), statistics):
        assert torch.equal(buffer, before)
    passes.release()
    assert passes._graphed is None


@pytest.mark.parametrize("sgd", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_training_by_recorded_graphs_is_that_without(
    half: bool, sgd: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_recorded_graphs(monkeypatch)
    with monkeypatch.context() as eager:
        eager.setattr(cuda_graphs, "_EAGER", 1000)
        plain = trained("cpu", wanted=False, half=half, sgd=sgd).state_dict()
        assert RecordedGraph.replays == 0
    graphed = trained("cpu", wanted=True, half=half, sgd=sgd).state_dict()
    # Three captures, each compared once: 6 steps to the smaller batch, 2 of the frozen body, 9 to
    # the end. Muon follows two steps later, while there is a body to train.
    assert RecordedGraph.replays >= 2 * (3 + 6 + 2 + 9) + 4 + 7
    assert "one by one" not in capsys.readouterr().err
    for name, tensor in graphed.items():
        torch.testing.assert_close(tensor, plain[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    "overrides",
    [
        ["recipe=speedrun", "model.widths=[4,4,4]"],
        # Some batches are blended, and others stay bytes.
        ["model=cnn", "augment.mixup_alpha=0.4", "augment.mix_probability=0.5"],
        ["model=cnn", "runtime=bfloat16", "optimizer=adamw", "trainer.gradient_clip=0.5"],
    ],
)
def test_lightning_trains_by_recorded_graphs_as_without(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_recorded_graphs(monkeypatch)
    found, replays = [], []
    for turn, eager in enumerate((1000, 2)):
        monkeypatch.setattr(cuda_graphs, "_EAGER", eager)
        folder = tmp_path / str(turn)
        given = ["data=digits", "data.train_limit=160", "data.batch_size=16", "runtime=float32"]
        given += ["trainer.max_epochs=2", "trainer.accelerator=cpu", f"data.cache_dir={tmp_path}"]
        settings = read_run_settings([*given, *overrides])
        data = build.build_data(settings)
        task = build.build_task(settings, data)
        trainer = replace(settings.trainer, monitor="val/loss")
        keeper = EpochKeeper(folder, trainer, Interruption())
        build.build_trainer(settings, keeper, folder).fit(task, datamodule=FitBatches(data))
        found.append(task.state_dict() | {"loss": torch.tensor(keeper.history["train/loss"])})
        replays.append(RecordedGraph.replays)
    assert replays[0] == 0 and replays[1] >= 2 * 18
    for name, tensor in found[1].items():
        torch.testing.assert_close(tensor, found[0][name], rtol=0, atol=0, msg=name)


def test_without_a_gpu_the_network_is_called() -> None:
    left, right = (trained("cpu", wanted=wanted).state_dict() for wanted in (True, False))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("fault", ["raises", "lies"])
def test_what_cannot_be_captured_is_launched_as_before(
    fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A stand-in for the capture: no GPU is needed to see what comes after one that fails.
    def capture(called: nn.Module, samples: tuple[Tensor, ...], **_: object) -> nn.Module:
        if fault == "raises":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        passes = called.forward
        called.forward = lambda images: passes(images.flip(0))  # type: ignore[method-assign]
        return called

    monkeypatch.setattr(cuda_graphs, "on_gpu", lambda images: True)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    fork = torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork([]))
    plain = trained("cpu", wanted=False).state_dict()
    tried = trained("cpu", wanted=True)
    error = capsys.readouterr().err
    assert error.count("launched one by one") == 1
    assert ("not permitted" if fault == "raises" else "something else") in error
    assert "forward" not in tried.__dict__
    for name, tensor in tried.state_dict().items():
        assert torch.equal(tensor, plain[name]), name


class _Generator:
    """A stand-in for a GPU's generator in the state that a capture leaves it in."""

    state = "capturing"

    def clone_state(self) -> str:
        return "sound"

    def graphsafe_set_state(self, state: str) -> None:
        self.state = state


@pytest.mark.parametrize("fails", [True, False])
def test_generators_and_the_stream_are_put_back_after_a_failure(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, streams = _Generator(), ["capture's"]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "default_generators", (generator,))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "own")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    with suppress(RuntimeError), cuda_graphs._capturing():
        assert not gc.isenabled()
        if fails:
            raise RuntimeError
    assert gc.isenabled()
    assert generator.state == ("sound" if fails else "capturing")
    assert streams[-1] == ("own" if fails else "capture's")
