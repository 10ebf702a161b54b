from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.runs.candidates import choose, network
from src.runs.candidates.choose import Origin, load_trained, origin_of


def origin(*overrides: str) -> Origin:
    return origin_of(compose_settings(RunSettings, overrides))


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["model=cnn"], "from scratch"),
        (["model=timm"], "from scratch"),
        (["model=handcrafted"], "hand-crafted"),
        (["model=embedding"], "frozen"),
        (["model=efficientnet_lite0"], "fine-tuned"),
        (["model=timm", "model.pretrained=true"], "fine-tuned"),
    ],
)
def test_every_kind_of_candidate_says_what_it_starts_from(overrides: list[str], start: str) -> None:
    assert origin(*overrides).start == start


@pytest.mark.parametrize(
    ("overrides", "weights"),
    [
        (["model=efficientnet_lite0"], r"tf_efficientnet_lite0 \(package, apache-2\.0\)"),
        (
            ["model=embedding", "model.networks=[tf_efficientnet_lite1,resnet18]"],
            r"tf_efficientnet_lite1 \(package, apache-2\.0\) \+ resnet18 .*",
        ),
        (["model=cnn", "model.pretrained=/w/net.pt"], "/w/net.pt"),
        (["model=embedding", "model.run=abc"], "those of abc"),
    ],
)
def test_weights_are_named_with_their_source_and_licence(
    overrides: list[str], weights: str
) -> None:
    assert re.fullmatch(weights, str(origin(*overrides).weights))
    assert origin("model=vit").weights is None


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "cpu"), ("auto", "cuda")])
def test_a_trained_network_is_loaded_where_its_run_was_told_to_compute(
    accelerator: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata: dict[str, Any] = {"settings": {"trainer": {"accelerator": accelerator}}}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(choose, "load_task", lambda file: SimpleNamespace(metadata=metadata))
    monkeypatch.setattr(
        network, "TrainedNetwork", lambda task, at: SimpleNamespace(device=at, metadata=metadata)
    )
    loaded: Any = load_trained(tmp_path / "last.ckpt")
    assert loaded.device == torch.device(device)
