from __future__ import annotations

import re

import pytest

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.runs.candidates.choose import Origin, origin_of


def origin(*words: str) -> Origin:
    return origin_of(compose_settings(RunSettings, words))


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["model=cnn"], "from scratch"),
        (["model=timm"], "from scratch"),
        (["model=handcrafted"], "hand-crafted"),
        (["model=embedding"], "frozen"),
        (["model=efficientnet_lite0"], "fine-tuned"),
        (["model=timm", "model.pretrained=true"], "fine-tuned"),
    ],
)
def test_every_kind_of_candidate_says_what_it_starts_from(words: list[str], start: str) -> None:
    assert origin(*words).start == start


@pytest.mark.parametrize(
    ("words", "weights"),
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
def test_weights_are_named_with_their_source_and_licence(words: list[str], weights: str) -> None:
    assert re.fullmatch(weights, str(origin(*words).weights))
    assert origin("model=vit").weights is None
