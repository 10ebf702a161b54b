"""The layout of the Hugging Face hub, read back by timm and by the code that comes with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from src.config.checks import to_plain
from src.config.compose import compose_settings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.models.zoo import TimmNet
from src.reporting.hub_card import usage
from src.serving.bundle import open_predictor
from src.serving.bundle_files import read_metadata
from src.serving.bundle_writing import write_bundle
from src.serving.hub_folder import BUNDLE, write_hub_folder
from src.serving.whole_network import WholeNetwork
from tests.features.classifiers import IMAGES, classifier
from tests.serving.bundles import CLASSES, network_and_metadata
from tests.serving.stranger import a_stranger_asks
from tests.serving.test_classifier_bundle import write as write_classifier
from tests.serving.test_ensemble_bundle import bundle as write_ensemble

SHAPE = (3, 40, 40)
PICTURES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)


def timm_network(name: str, shape: tuple[int, int, int], **changes: Any) -> tuple[nn.Module, Any]:
    """Return a network of timm with weights that were drawn, and its metadata."""
    overrides = ["model=timm", f"model.name={name}", "runtime=float32", "trainer.tta=none"]
    settings = compose_settings(RunSettings, overrides)
    arguments: dict[str, Any] = {"name": name, "pretrained": None, "input_size": None}
    arguments |= {"stem": "keep", "drop_rate": 0.1} | changes
    assert isinstance(settings.model, NetworkSettings)
    torch.manual_seed(0)
    network = TimmNet(shape[0], len(CLASSES), shape[1:], **arguments).eval()
    return network, {
        "settings": to_plain(settings),
        "network": {"target": settings.model._target_, "arguments": arguments},
        "class_names": list(CLASSES),
        "image_size": list(shape[1:]),
        "channels": shape[0],
        "mean": [0.4, 0.5, 0.6][: shape[0]],
        "std": [0.2, 0.3, 0.25][: shape[0]],
    }


@pytest.mark.parametrize(
    ("name", "shape", "changes"),
    [
        ("test_resnet", SHAPE, {}),
        ("test_resnet", (1, 40, 40), {}),
        ("test_vit", SHAPE, {"input_size": 160}),
        ("test_efficientnet", SHAPE, {"input_size": 64}),
    ],
)
def test_timm_makes_the_same_network_from_the_folder(
    name: str, shape: tuple[int, int, int], changes: dict[str, Any], tmp_path: Path
) -> None:
    network, metadata = timm_network(name, shape, **changes)
    pictures = PICTURES[:, : shape[0]]
    write_bundle(tmp_path / "bundle", network, metadata, pictures[0])
    assert write_hub_folder(tmp_path / "bundle", tmp_path / "hub") == "timm"
    loaded = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    config = timm.data.resolve_data_config(model=loaded)
    assert [list(config[key]) for key in ("mean", "std")] == [metadata["mean"], metadata["std"]]
    assert config["input_size"] == (shape[0], *(network.input_size or shape[1:]))
    assert loaded.pretrained_cfg["label_names"] == list(CLASSES)
    with torch.inference_mode():
        images = torch.from_numpy(pictures)
        expected = WholeNetwork(network, metadata)(images)
        mean, std = (torch.tensor(config[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
        taken = (images / 255 - mean) / std
        if network.input_size is not None:
            taken = nn.functional.interpolate(
                taken, network.input_size, mode="bilinear", align_corners=False, antialias=True
            )
        torch.testing.assert_close(loaded(taken), expected, rtol=1e-4, atol=1e-4)


def test_the_lines_for_timm_label_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, metadata = timm_network("test_resnet", SHAPE)
    write_bundle(tmp_path / "bundle", network, metadata, PICTURES[0])
    write_hub_folder(tmp_path / "bundle", tmp_path / "hub")
    picture = tmp_path / "picture.png"
    Image.fromarray(PICTURES[0].transpose(1, 2, 0)).save(picture)
    lines = usage(f"local-dir:{tmp_path / 'hub'}", "timm", BUNDLE)
    block = lines[lines.index("import timm") : -1]
    exec("\n".join(block).replace("picture.jpg", str(picture)), {})
    probs = open_predictor(tmp_path / "bundle").probabilities(PICTURES[:1])[0]
    label, probability = capsys.readouterr().out.rsplit(maxsplit=1)
    assert label == CLASSES[int(probs.argmax())]
    assert float(probability) == pytest.approx(float(probs.max()), abs=1e-3)


def test_a_network_that_timm_does_not_make_has_the_general_layout(tmp_path: Path) -> None:
    network, metadata = timm_network("resnet18", (3, 24, 24), stem="small")
    write_bundle(tmp_path / "bundle", network, metadata, PICTURES[0])
    assert write_hub_folder(tmp_path / "bundle", tmp_path / "hub") == "bakeoff"
    assert "architecture" not in json.loads((tmp_path / "hub" / "config.json").read_text())
    stored = load_file(tmp_path / "hub" / "model.safetensors")
    assert stored.keys() == network.state_dict().keys()


def test_an_own_network_has_classes_and_weights(tmp_path: Path) -> None:
    network, metadata = network_and_metadata(model="cnn", shape=SHAPE)
    write_bundle(tmp_path / "bundle", network, metadata, PICTURES[0])
    assert write_hub_folder(tmp_path / "bundle", tmp_path / "hub") == "bakeoff"
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["id2label"] == {str(index): name for index, name in enumerate(CLASSES)}
    assert config["label2id"] == {name: index for index, name in enumerate(CLASSES)}
    for key, tensor in load_file(tmp_path / "hub" / "model.safetensors").items():
        torch.testing.assert_close(tensor, network.state_dict()[key], rtol=0, atol=0)
    said, heavy = a_stranger_asks(tmp_path / "hub" / BUNDLE, PICTURES)
    assert heavy == {"torch"}
    expected = open_predictor(tmp_path / "bundle").probabilities(PICTURES)
    np.testing.assert_allclose(said, expected, atol=1e-6)


def test_classifiers_and_ensembles_predict_from_their_bundle(tmp_path: Path) -> None:
    made = classifier()
    write_classifier(tmp_path, made)
    write_ensemble(tmp_path / "ensemble")
    size = IMAGES[0].shape
    pictures = {"model": IMAGES, "ensemble": PICTURES[:, :, :16, :24]}
    for name in ("model", "ensemble"):
        assert write_hub_folder(tmp_path / name, tmp_path / f"{name}-hub") == "bakeoff"
        found = open_predictor(tmp_path / f"{name}-hub" / BUNDLE)
        expected = open_predictor(tmp_path / name).probabilities(pictures[name])
        np.testing.assert_array_equal(found.probabilities(pictures[name]), expected)
    config = json.loads((tmp_path / "model-hub" / "config.json").read_text())
    assert config["image_size"] == list(size[1:]) and config["num_labels"] == 10


@pytest.mark.parametrize("name", ["network.safetensors", "members/1/network.safetensors"])
def test_a_damaged_bundle_gets_no_digest_that_calls_it_whole(name: str, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    if name.startswith("members"):
        write_ensemble(bundle)
    else:
        write_bundle(bundle, *network_and_metadata(), PICTURES[0])
    content = bytearray((bundle / name).read_bytes())
    content[-100] ^= 1  # within a weight, which stays a number
    (bundle / name).write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        write_hub_folder(bundle, tmp_path / "hub")


def test_paths_of_this_machine_stay_here(tmp_path: Path) -> None:
    secret = tmp_path / "somebody's" / "photos"
    network, metadata = network_and_metadata(f"data.root={secret}", f"output_dir={secret}")
    metadata["settings"]["tracking"]["uri"] = "http://a-server.example:5000"
    classes = ["/rough", "~fine", "as://new", *CLASSES[3:]]  # no paths, and no address
    metadata["class_names"], metadata["settings"]["data"]["order"] = classes, classes
    write_bundle(tmp_path / "bundle", network, metadata, PICTURES[0])
    made = classifier()
    made.metadata["settings"]["data"]["root"] = str(secret)
    write_classifier(tmp_path, made)
    for name in ("bundle", "model"):
        write_hub_folder(tmp_path / name, tmp_path / "hub" / name)
        open_predictor(tmp_path / "hub" / name / BUNDLE)  # whole, with a digest of its own
    kept = read_metadata(tmp_path / "hub" / "bundle" / BUNDLE)
    assert kept["class_names"] == kept["settings"]["data"]["order"] == classes
    examples = list((tmp_path / "hub").rglob("example.png"))
    assert examples and all(len(np.unique(Image.open(file))) == 1 for file in examples)
    for file in (tmp_path / "hub").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert b"somebody" not in content and b"a-server" not in content, file
