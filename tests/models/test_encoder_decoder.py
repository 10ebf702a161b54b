from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.models.deeplab import DeepLab
from src.models.unet import UNet
from src.models.weights import find_weights, package_state
from src.runs.build.network import NetworkShape, build_network, rebuild_arguments
from src.training.freezing import Freezing, parameter_depths
from tests.models.caches import in_hub_cache, timm_network, use_empty_caches

LITE = "tf_efficientnet_lite0"


def unet(encoder: str, pretrained: bool | str | None = None, **changes: Any) -> UNet:
    arguments: dict[str, Any] = {"decoder_channels": [16, 8, 8, 4, 4], **changes}
    return UNet(3, 2, (64, 64), encoder=encoder, pretrained=pretrained, **arguments)


def deeplab(encoder: str, pretrained: bool | str | None = None, **changes: Any) -> DeepLab:
    arguments: dict[str, Any] = {"output_stride": 16, "rates": [1, 2, 3], "decoder_channels": 8}
    arguments |= {"dropout": 0.0, **changes}
    return DeepLab(3, 2, (64, 64), encoder=encoder, pretrained=pretrained, **arguments)


@pytest.mark.parametrize("make", [unet, deeplab])
def test_published_weights_give_the_maps_that_timm_gives(make: Any) -> None:
    found = find_weights("timm", LITE)
    assert found is not None
    state = package_state(found, iter(timm.create_model(LITE).state_dict()))
    options = {"output_stride": 16} if make is deeplab else {}
    reference = timm.create_model(
        LITE,
        features_only=True,
        pretrained=True,
        pretrained_cfg_overlay={"state_dict": state},
        **options,
    ).eval()
    network = make(LITE, "package").eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = network.network.encoder(images)[1:]
        torch.testing.assert_close(maps, reference(images))
    assert network.input_statistics == ([0.5] * 3, [0.5] * 3)


# Names of modules that timm changes for maps: none, and those of stages.
@pytest.mark.parametrize("encoder", ["resnet18", "test_convnext"])
def test_weights_of_the_hub_reach_the_encoder(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    published = timm_network(encoder)
    identity = timm.get_pretrained_cfg(encoder).hf_hub_id
    in_hub_cache(identity, {n: t.contiguous() for n, t in published.state_dict().items()})
    network = unet(encoder, "hub").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last = network.network.encoder(images)[-1]
        torch.testing.assert_close(last, published.forward_features(images))


def test_the_decoders_are_those_of_the_library() -> None:
    theirs = smp.Unet(
        "tu-resnet18",
        encoder_weights=None,
        encoder_depth=4,
        decoder_channels=(16, 8, 8, 4),
        classes=2,
    )
    ours = unet("resnet18", decoder_channels=[16, 8, 8, 4])
    ours.network.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize("make", [unet, deeplab])
def test_odd_sizes_are_answered_as_with_repeated_borders(make: Any) -> None:
    network = make("test_efficientnet").eval()
    images = torch.randn(2, 3, 64, 32)
    images[..., 50:, :] = images[..., 49:50, :]
    with torch.no_grad():
        torch.testing.assert_close(network(images[..., :50, :]), network(images)[..., :50, :])


@pytest.mark.parametrize(
    ("encoder", "pretrained", "named"),
    [
        ("resnet81", None, "resnet18"),
        ("vit_tiny_patch16_224", None, "size"),
        ("resnet18", "package", LITE),
    ],
)
def test_what_cannot_be_an_encoder_is_named(
    encoder: str, pretrained: str | None, named: str
) -> None:
    with pytest.raises(ValueError, match=encoder) as raised:
        unet(encoder, pretrained)
    assert named in str(raised.value).replace(encoder, "")


@pytest.mark.parametrize("model", ["unet", "deeplab"])
def test_a_trained_network_is_rebuilt_without_its_first_weights(model: str) -> None:
    settings = compose_settings(RunSettings, ["data.target=dense", f"model={model}"]).model
    assert isinstance(settings, NetworkSettings) and settings.pretrained is True
    network = build_network(settings, NetworkShape(1, 3, (40, 40)))
    arguments = rebuild_arguments(settings, network)
    again = type(network)(1, 3, (40, 40), **arguments)
    again.load_state_dict(network.state_dict())
    images = torch.randn(1, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(images), network.eval()(images))
    assert arguments["pretrained"] is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=unet", "model.decoder_channels=[8,8]"],
        ["model=deeplab", "model.rates=[6,12]"],
        ["model=deeplab", "model.output_stride=4"],
    ],
)
def test_shapes_that_no_decoder_has_are_refused(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=overrides[1].partition("=")[0].rpartition(".")[2]):
        compose_settings(RunSettings, ["data.target=dense", *overrides])


# Names of modules as in the classifier, flattened ones, and a network in a member.
@pytest.mark.parametrize("encoder", [LITE, "resnet18", "test_convnext", "tf_mobilenetv3_small_075"])
@pytest.mark.parametrize("make", [unet, deeplab])
def test_depths_are_those_of_the_encoder(make: Any, encoder: str) -> None:
    classifier, network = timm.create_model(encoder), make(encoder)
    for stages in (True, False):
        of_classifier = parameter_depths(classifier, stages=stages)
        found = parameter_depths(network, stages=stages)
        assert found.keys() == {name for name, _ in network.named_parameters()}
        body = {n: d for n, d in found.items() if not n.startswith(network.head_prefixes)}
        # Several depths of the classifier become none in an encoder that ends before.
        same = {}
        for name, depth in body.items():
            plain = name.removeprefix("network.encoder.model.").removeprefix("model.")
            (own,) = (n for n in of_classifier if n.replace(".", "_") == plain.replace(".", "_"))
            assert same.setdefault(depth, of_classifier[own]) == of_classifier[own]
        assert sorted(same) == [*range(len(same))]
        assert [same[depth] for depth in sorted(same)] == sorted(same.values())
        assert len(same) >= (5 if stages else 6)
        heads = {d for n, d in found.items() if n.startswith(network.head_prefixes)}
        assert heads == {len(same)}


def test_stages_of_the_encoder_are_frozen() -> None:
    network = unet("resnet18")
    Freezing(network, network.head_prefixes, stages=2)
    frozen = {n.split(".")[3] for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert not network.get_submodule("network.encoder.model.layer1").training
    with pytest.raises(ValueError, match="the network has 5 before its head"):
        Freezing(network, network.head_prefixes, stages=5)
