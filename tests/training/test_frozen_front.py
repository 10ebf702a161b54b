"""Training on what is stored of the frozen stages against training through the whole network."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.config.augment import AugmentSettings
from src.data.augmentation.augment import Augment
from src.data.loading.loaders import Batch
from src.machine.subprocesses import ROOT
from src.models.zoo import TimmNet
from src.training import frozen_front
from src.training.freezing import Freezing, head_prefixes
from src.training.frozen_front import StoredFront, store_front
from src.training.losses import CrossEntropy
from src.training.optimizers import parameter_groups, sgd
from src.training.task import ClassificationTask

PICTURES, SIDE = 12, 32
CONTENTS = np.array([f"{i:032x}".encode() for i in range(PICTURES)])


def batches(size: int = 5) -> list[Batch]:
    images = torch.randint(
        0,
        256,
        (PICTURES, 3, SIDE, SIDE),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(1),
    )
    ids = torch.arange(PICTURES).roll(3)
    parts = ids.split(size)
    return [Batch(images[part], part % 4, part, step) for step, part in enumerate(parts)]


def task_of(
    name: str = "resnet10t",
    stages: int = 2,
    views: int = 2,
    input_size: int = 40,
) -> ClassificationTask:
    torch.manual_seed(0)
    options: dict[str, Any] = {"input_size": input_size, "stem": "keep", "drop_rate": 0.2}
    network = TimmNet(3, 4, (SIDE, SIDE), name=name, pretrained=None, **options)
    return ClassificationTask(
        network,
        {"mean": [0.5] * 3, "std": [0.5] * 3, "network": {"target": name, "arguments": {}}},
        loss=CrossEntropy(label_smoothing=0.0, class_weights=None),
        augment=Augment(AugmentSettings(flip=True, translate=0.1)),
        make_optimizer=lambda network: sgd(
            parameter_groups(network, lr=0.005, weight_decay=0.0), momentum=0.9, nesterov=True
        ),
        make_schedule=lambda steps: lambda step: 1.0,
        seed=3,
        freezing=Freezing(network, head_prefixes(network), stages=stages),
        stored_views=views,
    )


def stored(
    task: ClassificationTask,
    cache: Path,
    limit: int = 10**9,
    device: str = "cpu",
) -> StoredFront | None:
    return store_front(
        task,
        batches(),
        ids=torch.arange(PICTURES).roll(3).numpy(),
        contents=CONTENTS,
        identity={"seed": 3},
        cache_dir=cache,
        limit_bytes=limit,
        device=torch.device(device),
        precision="float32",
    )


def trained(task: ClassificationTask, steps: list[tuple[int, Batch]]) -> list[float]:
    """Losses of these (epoch, batch) steps; the task is changed."""
    optimizer = task.make_optimizer(task.network)
    losses = []
    for epoch, batch in steps:
        task.trainer = _Clock(epoch)  # type: ignore[assignment]
        loss = task.training_step(batch, batch.step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


class _Clock:
    """As much of Lightning's trainer as a training step asks for."""

    accumulate_grad_batches, num_training_batches = 1, 100

    def __init__(self, epoch: int) -> None:
        self.current_epoch = epoch


def test_training_on_what_is_stored_is_training(tmp_path: Path) -> None:
    whole, part, untrained = (task_of() for _ in range(3))
    part.front = stored(part, tmp_path)
    assert part.front is not None
    steps = [(epoch, batch) for epoch in range(3) for batch in batches()]
    right, found = trained(whole, steps), trained(part, steps)
    assert found == pytest.approx(right, rel=0.01)
    moved = [
        (a - b).norm() / max(float((a - c).norm()), 1e-6)
        for a, b, c in zip(
            whole.network.parameters(),
            part.network.parameters(),
            untrained.network.parameters(),
            strict=True,
        )
        if a.requires_grad and a.ndim > 1
    ]
    assert float(torch.stack(moved).median()) < 0.1, "of the way that the weights went"


def test_what_is_stored_is_the_view_of_its_epoch(tmp_path: Path) -> None:
    task = task_of("tf_efficientnet_lite0", stages=3)
    front = stored(task, tmp_path)
    assert front is not None
    for batch in batches(size=4):  # other batches than those that were stored
        task.network.eval()
        for view in (0, 1):
            images, _ = task.augmented(batch, view)
            right = task.network(task.normalized(images))
            torch.testing.assert_close(
                front.logits(batch.sample_ids, view), right, rtol=5e-3, atol=5e-3
            )
    first, second = (front.logits(batches()[0].sample_ids, view) for view in (0, 1))
    assert not torch.allclose(first, second, atol=5e-2)


@pytest.mark.parametrize("room", [True, False])
def test_what_is_stored_lies_on_a_gpu_with_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    gpu, to = torch.device("cpu:0"), Tensor.to  # a name of its own for the only device here
    moved: list[tuple[torch.Size, torch.device]] = []

    def noted(tensor: Tensor, place: Any, *args: Any, **options: Any) -> Tensor:
        moved.append((tensor.shape, place))
        return to(tensor, place, *args, **options)

    asked: list[tuple[torch.device, int]] = []
    monkeypatch.setattr(
        frozen_front, "has_room", lambda device, size: asked.append((device, size)) or room
    )
    monkeypatch.setattr(Tensor, "to", noted)
    front = stored(task_of(), tmp_path, device=str(gpu))
    assert front is not None and asked == [(gpu, 2 * front.activations.numel())]
    there = gpu if room else torch.device("cpu")
    assert [place for shape, place in moved if shape == front.activations.shape] == [there]
    assert moved[-1] == (front.ids.shape, there)


def test_views_come_in_turn_whether_they_are_stored_or_not(tmp_path: Path) -> None:
    """A training does not depend on whether the disk had room."""
    task = task_of(views=2)
    task.network.eval()
    for epoch, same in ((2, True), (1, False)):
        losses = []
        for at in (0, epoch):
            task.trainer = _Clock(at)  # type: ignore[assignment]
            losses.append(float(task.training_step(batches()[0], 0)))
        assert (losses[0] == losses[1]) == same


def test_it_is_found_again_by_content_and_not_made_for_other_weights(tmp_path: Path) -> None:
    def folders() -> int:
        return len([*(tmp_path / "activations").glob("*/activations.npy")])

    stored(task_of(), tmp_path)
    stored(task_of(), tmp_path)
    assert folders() == 1
    other = task_of()
    with torch.no_grad():
        other.network.backbone.fc.weight.mul_(2)  # type: ignore[union-attr]
    stored(other, tmp_path)
    assert folders() == 1, "the head has no part in it"
    with torch.no_grad():
        other.network.backbone.conv1[0].weight.mul_(2)  # type: ignore[union-attr]
    stored(other, tmp_path)
    assert folders() == 2


def test_what_a_process_has_stored_that_did_not_end_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(task_of(), tmp_path / "undisturbed")
    usual, calls = frozen_front._front, 0

    def counted(*args: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == ends:
            raise KeyboardInterrupt
        return usual(*args)

    monkeypatch.setattr(frozen_front, "_front", counted)
    ends = 6  # the first of the second view, after an example and three batches
    with pytest.raises(KeyboardInterrupt):
        stored(task_of(), tmp_path)
    calls, ends = 0, 0
    stored(task_of(), tmp_path)
    assert calls == 1 + 2, "an example and two batches: those before were kept"
    (mine,), (other,) = (
        [*place.glob("activations/*/*.npy")] for place in (tmp_path, tmp_path / "undisturbed")
    )
    assert mine.read_bytes() == other.read_bytes() and mine.parent.name == other.parent.name
    assert len([*mine.parent.iterdir()]) == 2, "the array and its entry"


def test_what_is_too_large_or_cannot_be_cut_is_not_stored(tmp_path: Path) -> None:
    assert stored(task_of(), tmp_path, limit=1000) is None
    assert not (tmp_path / "activations").exists()
    assert stored(task_of("test_vit", stages=1, input_size=160), tmp_path) is None
    task = task_of(stages=1)
    task.network.backbone = _Skipping(task.network.backbone)  # type: ignore[arg-type]
    assert stored(task, tmp_path) is None


def test_what_half_precision_cannot_hold_is_not_stored(tmp_path: Path) -> None:
    task = task_of()
    assert stored(task, tmp_path) is not None
    with torch.no_grad():  # the last frozen norm gives 100,000 and more
        for module in task.network.backbone.layer1.modules():  # type: ignore[union-attr, operator]
            if isinstance(module, nn.BatchNorm2d):
                module.bias.fill_(1e5)
    assert stored(task, tmp_path) is None
    folders = [one.name for one in (tmp_path / "activations").iterdir() if one.is_dir()]
    assert len(folders) == 1, "what was begun is left"


class _Skipping(nn.Module):
    """Adds something to the logits that does not come from the last frozen module."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network
        self.grad_checkpointing = False

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images) + images.mean(dim=(1, 2, 3), keepdim=True)[:, :, 0, 0]
        return logits


def test_the_twin_shares_what_is_trained_and_follows_its_mode(tmp_path: Path) -> None:
    task = task_of("tf_efficientnet_lite0", stages=7)
    front = stored(task, tmp_path)
    assert front is not None
    before = copy.deepcopy(task.network.state_dict())
    ids = batches()[0].sample_ids
    task.network.eval()
    assert torch.equal(front.logits(ids, 0), front.logits(ids, 0))
    with torch.no_grad():
        task.network.backbone.classifier.bias.add_(5)  # type: ignore[union-attr]
        raised = front.logits(ids, 0)
        task.network.backbone.classifier.bias.sub_(5)  # type: ignore[union-attr]
        torch.testing.assert_close(raised, front.logits(ids, 0) + 5)
    task.network.train()
    assert not torch.equal(front.logits(ids, 0), front.logits(ids, 0)), "dropout is back"
    assert before.keys() == task.network.state_dict().keys()


# As root of a namespace of its own, which sees the small disk alone.
_ON_A_SMALL_DISK = """
mount -t tmpfs -o size=200k tmpfs "$1" || exit 77
exec "$2" -c "$3" "$1"
"""
_STORE_ON = """
import sys
from pathlib import Path
from src.machine.failures import DiskRefuses
from tests.training.test_frozen_front import stored, task_of
try:
    stored(task_of(views=9), Path(sys.argv[1]))
except DiskRefuses as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_is_a_plain_error(tmp_path: Path) -> None:
    script = ["unshare", "-rm", "sh", "-c", _ON_A_SMALL_DISK, "sh", str(tmp_path)]
    command = [*script, sys.executable, _STORE_ON]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr  # mapped memory would end it with a signal
    assert done.stdout.startswith("the frozen stages' outputs cannot be kept: there is no room")
