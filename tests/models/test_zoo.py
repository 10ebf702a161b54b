from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.models.zoo import TimmNet, TorchvisionNet, _set_dropout
from tests.models.caches import in_torch_cache, use_empty_caches


def build(
    library: type[TorchvisionNet] | type[TimmNet],
    name: str,
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 5,
    **changes: Any,
) -> TorchvisionNet | TimmNet:
    arguments: dict[str, Any] = {
        "pretrained": None,
        "input_size": None,
        "stem": "auto",
        "drop_rate": 0.0,
    }
    return library(shape[0], classes, shape[1:], name=name, **{**arguments, **changes})


# One of each kind that needs something of its own: plain, a dense one, a patch embedding, strided
# blocks with squeeze-excitation, auxiliary classifiers, a convolution for a head, timm's own.
@pytest.mark.parametrize(
    ("library", "name"),
    [
        (TorchvisionNet, "mobilenet_v3_small"),
        (TorchvisionNet, "googlenet"),
        (TorchvisionNet, "squeezenet1_1"),
        (TimmNet, "test_convnext"),
        (TimmNet, "test_efficientnet"),
        (TimmNet, "test_vit"),
    ],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 33, 47)])
def test_any_name_takes_any_picture(
    library: type[TorchvisionNet], name: str, shape: tuple[int, int, int]
) -> None:
    takes_any_picture(build(library, name, shape), shape)


TORCHVISION = [
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
    *("inception_v3", "mnasnet0_5", "mobilenet_v2", "regnet_y_400mf", "resnet50"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16"),
]
TIMM = [
    *("cspresnet50", "coat_tiny", "convnext_atto", "deit_tiny_distilled_patch16_224"),
    *("dm_nfnet_f0", "edgenext_xx_small", "efficientvit_b0", "fastvit_t8", "ghostnet_100"),
    *("hgnetv2_b0", "inception_v3", "levit_128s", "maxvit_tiny_tf_224", "mixer_s16_224"),
    *("mixnet_s", "mobilenetv4_conv_small", "mobilevit_xxs", "nf_regnet_b0", "poolformer_s12"),
    *("pvt_v2_b0", "repvgg_a0", "resnet18d", "resnetblur50", "rexnet_100"),
    *("swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "vgg11", "xcit_nano_12_p16_224"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name"),
    [(TorchvisionNet, name) for name in TORCHVISION] + [(TimmNet, name) for name in TIMM],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 33, 47)])
def test_many_names_take_any_picture(
    library: type[TorchvisionNet], name: str, shape: tuple[int, int, int]
) -> None:
    takes_any_picture(build(library, name, shape), shape)


def takes_any_picture(network: TorchvisionNet | TimmNet, shape: tuple[int, int, int]) -> None:
    logits = network.train()(torch.randn(2, *shape))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    head = [p for n, p in network.named_parameters() if n.startswith(network.head_prefixes)]
    assert head and all(p.grad is not None for p in head)
    # The classifier and nothing else knows the number of classes.
    assert {p.shape[0] for p in head} == {5}


def test_a_resnet_for_small_pictures_is_the_usual_one() -> None:
    small, kept = build(TorchvisionNet, "resnet18"), build(TorchvisionNet, "resnet18", stem="keep")
    assert small.backbone.conv1.stride == (1, 1) and kept.backbone.conv1.stride == (2, 2)
    assert isinstance(small.backbone.maxpool, nn.Identity)
    assert isinstance(kept.backbone.maxpool, nn.MaxPool2d)
    assert small.backbone.layer2[0].conv1.stride == (2, 2)
    for large in (
        build(TorchvisionNet, "resnet18", (3, 65, 40)),
        build(TorchvisionNet, "resnet18", input_size=96),
        build(TorchvisionNet, "resnet18", pretrained="weights.pt"),
    ):
        assert large.backbone.conv1.stride == (2, 2)


def test_pictures_are_resized_inside() -> None:
    network = build(TimmNet, "test_resnet", input_size=40, stem="keep").eval()
    images = torch.rand(2, 3, 32, 32)
    resized = F.interpolate(images, (40, 40), mode="bilinear", antialias=True)
    torch.testing.assert_close(network(images), network.backbone(resized))
    assert not torch.allclose(network(images), network.backbone(images))


@pytest.mark.parametrize(("side", "chosen"), [(32, 224), (224, None), (500, 224)])
def test_pictures_come_in_the_one_size_that_a_network_takes(side: int, chosen: int | None) -> None:
    network = build(TimmNet, "vit_tiny_patch16_224", (1, side, side))
    assert network.input_size == (None if chosen is None else (chosen, chosen))


@pytest.mark.slow
def test_the_size_that_the_library_names_is_tried_too() -> None:
    assert build(TimmNet, "swinv2_tiny_window8_256").input_size == (256, 256)


def test_a_transformer_can_be_made_for_another_size() -> None:
    network = build(TimmNet, "vit_tiny_patch16_224", input_size=64)
    assert network.backbone.patch_embed.grid_size == (4, 4)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(("rate", "there"), [(0.3, 0.3), (0.0, 0.0), (None, 0.2)])
def test_dropout_reaches_the_classifier(rate: float | None, there: float) -> None:
    assert build(TimmNet, "ghostnet_050", drop_rate=rate).backbone.drop_rate == there
    assert dropouts(build(TorchvisionNet, "mobilenet_v3_small", drop_rate=rate)) == [there]


def test_dropout_is_set_before_the_classifier_and_nowhere_else() -> None:
    with torch.device("meta"):  # a large one, of which the structure is enough
        network = models.vit_b_16()
    _set_dropout(network, 0.3)
    assert set(dropouts(network)) == {0.0}
    assert dropouts(build(TorchvisionNet, "squeezenet1_1", drop_rate=0.3)) == [0.3]


def dropouts(network: nn.Module) -> list[float]:
    return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]


@pytest.mark.parametrize(
    ("library", "name", "changes", "message"),
    [
        (
            TorchvisionNet,
            "resnt18",
            {},
            "torchvision has no classifier 'resnt18'; near are resnet18",
        ),
        (TimmNet, "resnt18", {}, "timm has no classifier 'resnt18'; near are resnet18"),
        (TimmNet, "resnet18.a1_in2k", {}, "no classifier .*; near are resnet18.a1_in1k"),
        (TorchvisionNet, "resnet18", {"pretrained": "package"}, "no installed package"),
        (TimmNet, "test_resnet", {"pretrained": "package"}, "no installed package"),
        (
            TorchvisionNet,
            "inception_v3",
            {"input_size": 8, "stem": "keep"},
            "none of these sizes: 8x8",
        ),
        (
            TorchvisionNet,
            "inception_v3",
            {"input_size": 8, "stem": "small"},
            "8x8 pixels with a finer",
        ),
        # Its patches have 16 pixels a side.
        (
            TimmNet,
            "test_vit",
            {"input_size": 511},
            "511x511; model.input_size must be another, such as the network's own 160",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(
    library: type[TorchvisionNet], name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(library, name, **changes)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, torch.Tensor]:
    """Weights that torch's cache holds for torchvision's resnet18."""
    from torchvision.models import resnet18

    use_empty_caches(monkeypatch, tmp_path)
    weights = resnet18().state_dict()
    in_torch_cache("resnet18-f37072fd.pth", weights)
    return weights


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_published_weights_fill_all_but_the_head(
    channels: int, published: dict[str, torch.Tensor]
) -> None:
    network = build(TorchvisionNet, "resnet18", (channels, 32, 32), pretrained=True)
    own = network.backbone.state_dict()
    assert own["fc.weight"].shape == (5, 512)
    for name, tensor in published.items():
        if not name.startswith(("fc.", "conv1.")):
            torch.testing.assert_close(own[name], tensor, rtol=0, atol=0)
    mean, std = network.input_statistics
    if channels == 3:
        torch.testing.assert_close(own["conv1.weight"], published["conv1.weight"])
        assert (mean, std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    if channels == 1:
        grey = torch.rand(2, 1, 32, 32)
        expected = F.conv2d(grey.expand(-1, 3, -1, -1), published["conv1.weight"], None, 2, 3)
        torch.testing.assert_close(network.backbone.conv1(grey), expected)
    assert len(mean) == len(std) == channels
    assert network.backbone.conv1.stride == (2, 2)


def test_googlenet_gets_the_pictures_its_weights_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision.models import googlenet

    use_empty_caches(monkeypatch, tmp_path)
    original = googlenet(transform_input=True, init_weights=False).eval()
    in_torch_cache("googlenet-1378be20.pth", original.state_dict())
    network = build(
        TorchvisionNet, "googlenet", (3, 64, 64), classes=1000, pretrained="hub", input_size=64
    ).eval()
    network.backbone.fc.load_state_dict(original.fc.state_dict())
    pixels = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in network.input_statistics)
    known_mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    known_std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    expected = original((pixels - known_mean) / known_std)
    torch.testing.assert_close(network((pixels - mean) / std), expected, rtol=1e-3, atol=1e-4)


def test_trained_weights_find_the_network_they_were_trained_in() -> None:
    overrides = ["model=timm", "model.name=test_resnet", "model.pretrained=true"]
    settings = compose_settings(RunSettings, overrides).model
    again = settings.without_weights()
    assert again.pretrained is None and again.stem == "keep"
    fresh = compose_settings(RunSettings, overrides[:2]).model
    assert fresh.without_weights() == fresh
