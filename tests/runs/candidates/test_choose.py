from __future__ import annotations

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


def test_published_weights_are_named_with_their_source_and_licence() -> None:
    one = origin("model=efficientnet_lite0").weights
    assert one == "tf_efficientnet_lite0 (package, apache-2.0)"
    two = origin("model=embedding", "model.networks=[tf_efficientnet_lite1,resnet18]").weights
    assert two is not None and two.startswith("tf_efficientnet_lite1 (package, apache-2.0) + resn")


def test_a_file_of_weights_and_an_earlier_run_are_named_as_they_were_given() -> None:
    assert origin("model=cnn", "model.pretrained=/w/net.pt").weights == "/w/net.pt"
    assert origin("model=embedding", "model.run=abc").weights == "those of abc"


def test_without_published_weights_there_are_none_to_name() -> None:
    assert origin("model=vit").weights is None
