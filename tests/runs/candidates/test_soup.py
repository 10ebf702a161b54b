"""The mean of networks' weights, before it is asked whether it is better than the best of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.runs import build
from src.runs.candidates.members import Member
from src.runs.candidates.network import TrainedNetwork
from src.runs.candidates.soup import _Averaged, networks_of

OVERRIDES = ["data=digits", "data.limit=60", "data.batch_size=8", "model=cnn", "trainer.tta=none"]
OVERRIDES += ["runtime=float32"]
_ALONE = cast(Any, SimpleNamespace(probs=None))


def trained(settings: RunSettings, seed: int) -> TrainedNetwork:
    """A network as training leaves it, but for its weights and statistics, which are drawn."""
    task = build.build_task(settings, build.build_data(settings))
    task.metadata["epochs"] = 1
    generator = torch.Generator().manual_seed(seed)
    for module in task.evaluated.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None
            module.running_mean.normal_(generator=generator)
    return TrainedNetwork(task.eval(), torch.device("cpu"))


@pytest.mark.parametrize("kept", [(True, True), (False, False), (True, False)])
def test_norms_that_no_training_measured_keep_their_statistics(
    tmp_path: Path, kept: tuple[bool, bool]
) -> None:
    file = tmp_path / "weights.pt"
    settings = read_run_settings(OVERRIDES)
    data = build.build_data(settings)
    torch.save(build.build_task(settings, data).network.state_dict(), file)
    networks = [
        trained(
            read_run_settings([*OVERRIDES, f"model.pretrained={file}", f"model.freeze_norm={f}"]), i
        )
        for i, f in enumerate(map(str.lower, map(str, kept)))
    ]
    states = [network.task.evaluated.state_dict() for network in networks]
    norms = [name for name in states[0] if name.endswith("running_mean")]
    means = {name: (states[0][name] + states[1][name]) / 2 for name in norms}

    averaged = _Averaged(networks, [_ALONE, _ALONE], data)
    averaged.predictions((0, 1))

    found = networks[0].task.evaluated.state_dict()
    stays = [torch.allclose(found[name], mean) for name, mean in means.items()]
    assert stays and all(stays) == all(kept) and any(stays) == all(kept)
    assert not networks[0].task.evaluated.training


def test_other_questions_have_no_mean() -> None:
    labels = "data.order=['0','1','2','3','4','5','6','7','8','9']"
    models, members = [], []
    for loss in ("corn", "cross_entropy"):
        overrides = [*OVERRIDES, "data.target=ordinal", labels, f"loss={loss}"]
        models.append([trained(read_run_settings(overrides), 0)])
        members.append(cast(Member, SimpleNamespace(name=loss)))
    with pytest.raises(ConfigError, match=r"different architectures \(link differs\)"):
        networks_of(members, models)
