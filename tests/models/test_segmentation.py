from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from src.config.compose import compose_settings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.models.segmentation import SegmentationNet, backbone_of
from src.runs.build.network import NetworkShape, build_network, rebuild_arguments
from tests.models.caches import in_torch_cache, use_empty_caches

LRASPP = "lraspp_mobilenet_v3_large"


def published(name: str) -> nn.Module:
    """A classifier of torchvision in torch's cache, with weights of a seed."""
    torch.manual_seed(1)
    network: nn.Module = models.get_model(name).eval()
    url = models.get_model_weights(name).DEFAULT.url
    in_torch_cache(url.rpartition("/")[2], network.state_dict())
    return network


@pytest.mark.parametrize("name", models.list_models(module=models.segmentation))
def test_every_name_of_the_library_is_built_and_answers_as_its_own(name: str) -> None:
    assert backbone_of(name) in models.list_models(module=models)
    if "resnet101" in name:  # no other code, and a second of building
        return
    theirs = models.get_model(name, weights=None, weights_backbone=None, num_classes=4).eval()
    ours = SegmentationNet(3, 4, (64, 64), name=name, pretrained=None).eval()
    ours.network.load_state_dict(theirs.state_dict(), strict=False)
    images = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images)["out"])


@pytest.mark.parametrize("name", [LRASPP, "fcn_resnet50"])
def test_weights_in_the_cache_reach_the_backbone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    classifier = published(backbone_of(name))
    network = SegmentationNet(3, 2, (64, 64), name=name, pretrained=True).eval()
    # Strides beyond the dilated ones change nothing before them: the first layers are compared.
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        backbone = network.network.get_submodule("backbone")
        if name == LRASPP:
            first = backbone.get_submodule("0")
            expected = classifier.get_submodule("features.0")
        else:
            layers = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2")
            first, expected = (
                nn.Sequential(*(one.get_submodule(layer) for layer in layers))
                for one in (backbone, classifier)
            )
        torch.testing.assert_close(first(images), expected(images))
    prefix = "features." if name == LRASPP else ""
    stored = classifier.state_dict()
    for n, tensor in backbone.state_dict().items():
        torch.testing.assert_close(tensor, stored[prefix + n], rtol=0, atol=0)
    assert network.input_statistics == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_a_grey_picture_is_answered_as_it_was_in_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    published(backbone_of(LRASPP))
    grey, colour = (
        SegmentationNet(channels, 2, (64, 64), name=LRASPP, pretrained=True).eval()
        for channels in (1, 3)
    )
    images = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        maps = [
            network.network.get_submodule("backbone")(pictures)["high"]
            for network, pictures in ((grey, images), (colour, images.expand(1, 3, 64, 64)))
        ]
    torch.testing.assert_close(maps[0], maps[1], rtol=1e-3, atol=1e-4)


def test_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    monkeypatch.setattr("src.models.weights.from_address", _no_download)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", _no_download)
    for pretrained in (True, "hub", "package"):
        with pytest.raises(ValueError, match=r"backbone of lraspp.*not on this machine") as raised:
            SegmentationNet(3, 2, (64, 64), name=LRASPP, pretrained=pretrained)
        assert str(tmp_path / "torch") in str(raised.value)
        assert "mobilenet_v3_large-" in str(raised.value)


def _no_download(*arguments: object, **options: object) -> None:
    raise AssertionError("something is fetched")


def test_other_weights_in_the_cache_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    url = models.get_model_weights(backbone_of(LRASPP)).DEFAULT.url
    in_torch_cache(url.rpartition("/")[2], {"features.0.0.weight": torch.zeros(3, 3)})
    with pytest.raises(ValueError, match=r"does not hold the weights of mobilenet_v3_large"):
        SegmentationNet(3, 2, (64, 64), name=LRASPP, pretrained=True)


def test_an_unknown_name_is_answered_with_those_near_it() -> None:
    with pytest.raises(ValueError, match=r"fcn_resnet18.*fcn_resnet50"):
        SegmentationNet(3, 2, (64, 64), name="fcn_resnet18", pretrained=None)


def test_a_trained_network_is_rebuilt_without_its_first_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    published(backbone_of(LRASPP))
    overrides = ["data.target=dense", "model=segmentation", "model.pretrained=true"]
    settings = compose_settings(RunSettings, overrides).model
    assert isinstance(settings, NetworkSettings)
    network = build_network(settings, NetworkShape(1, 3, (40, 40)))
    arguments = rebuild_arguments(settings, network)
    assert arguments == {"name": LRASPP, "pretrained": None}
    again = SegmentationNet(1, 3, (40, 40), **arguments)
    again.load_state_dict(network.state_dict())
    images = torch.randn(1, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(images), network.eval()(images))
