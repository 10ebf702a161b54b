"""Bundles of networks with a class for every pixel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from torch import nn

from src.config.checks import to_plain
from src.config.compose import compose_settings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.reporting.hub_card import usage
from src.runs.build.network import NetworkShape, build_network, rebuild_arguments
from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_bundle
from src.serving.masks import masks_of
from src.serving.mlflow_model import PictureClassifier
from src.serving.whole_network import network_classifier
from src.storage.digests import checked_line
from tests.data.pictures import encoded
from tests.serving.stranger import a_stranger_asks, a_stranger_asks_all

CPU = torch.device("cpu")
CLASSES = ("ground", "crack", "edge")
SIDE = (32, 48)
SMALL = ["model.encoder=test_efficientnet", "model.pretrained=null"]
MODELS = {"unet": SMALL, "deeplab": SMALL, "segmentation": []}
LIBRARIES = {
    "unet": ["timm", "segmentation-models-pytorch"],
    "deeplab": ["timm", "segmentation-models-pytorch"],
    "segmentation": ["torchvision"],
}


def network_and_metadata(model: str, *overrides: str) -> tuple[nn.Module, dict[str, Any]]:
    """What a training of the model on grey pictures would give, but for the training."""
    plainly = ["data.target=dense", "runtime=float32", "trainer.tta=flip"]
    settings = compose_settings(
        RunSettings, [f"model={model}", *plainly, *MODELS.get(model, []), "data=folder", *overrides]
    )
    assert isinstance(settings.model, NetworkSettings)
    torch.manual_seed(0)
    shape = NetworkShape(1, len(CLASSES), SIDE, "dense")
    network = build_network(settings.model, shape).eval()
    metadata = {
        "settings": to_plain(settings),
        "network": {
            "target": settings.model.network_class("dense"),
            "arguments": rebuild_arguments(settings.model, network),
        },
        "class_names": list(CLASSES),
        "image_size": list(SIDE),
        "channels": 1,
        "fit": settings.data.fit,
        "scale": settings.data.scale,
        "mean": [0.4],
        "std": [0.3],
    }
    return network, metadata


def pictures(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, *size), np.uint8)


@pytest.mark.slow
def test_bundles_answer_without_the_project_as_their_networks_do(tmp_path: Path) -> None:
    images = np.stack([pictures(*SIDE), pictures(*SIDE)[:, ::-1].copy()])
    expected = {}
    for model, libraries in LIBRARIES.items():
        network, metadata = network_and_metadata(model)
        bundle = tmp_path / model
        write_bundle(bundle, network, metadata, images[0])
        expected[bundle] = network_classifier(network, metadata, CPU)(images)
        assert expected[bundle].shape == (2, len(CLASSES), *SIDE) and expected[bundle].std() > 0
        np.testing.assert_array_equal(
            open_predictor(bundle, CPU).probabilities(images), expected[bundle]
        )
        lines = (bundle / "requirements.txt").read_text().splitlines()
        assert [line.partition("==")[0] for line in lines] == [
            *("torch", "numpy", "pillow", "safetensors"),
            *libraries,
        ]
    said, heavy = a_stranger_asks_all(dict.fromkeys(expected, images))
    for probs, wanted in zip(said, expected.values(), strict=True):
        np.testing.assert_allclose(probs, wanted, rtol=0, atol=1e-5)
    assert "pytorch_lightning" not in heavy and "hydra" not in heavy


def test_served_masks_refuse_what_is_about_whole_pictures(tmp_path: Path) -> None:
    network, metadata = network_and_metadata("fcn")
    bundle = tmp_path / "model" / "artifacts" / "bundle"
    write_bundle(bundle, network, metadata, pictures(*SIDE))
    # As what packs a bundle for MLflow writes it, of the files around it.
    (tmp_path / "model" / "digests.json").write_bytes(checked_line({"files": {}}))
    served = PictureClassifier()
    context: Any = SimpleNamespace(artifacts={"bundle": str(bundle)})
    served.load_context(context)
    table = pd.DataFrame({"image": [pictures(*SIDE)[0]]})
    nothing = {"coverage": None, "classwise": False, "max_error": None, "top_k": None}
    assert [*served.predict(context, table, nothing)] == ["mask", "shares"]
    for asked in ({"coverage": 0.9}, {"classwise": True}, {"max_error": 0.1}, {"top_k": 2}):
        (name,) = asked
        with pytest.raises(MlflowException, match=f"{name} is about whole pictures"):
            served.predict(context, table, nothing | asked)


def test_a_bundle_masks_large_files_window_by_window(tmp_path: Path) -> None:
    network, metadata = network_and_metadata("fcn", "data.fit=windows", "data.scale=0.5")
    image = pictures(100, 130)
    write_bundle(tmp_path / "model", network, metadata, image)
    assert Image.open(tmp_path / "model" / "example.png").size == (48, 32)
    opened = open_predictor(tmp_path / "model", CPU)
    (mask,) = masks_of(opened, [encoded(Image.fromarray(image[0]), "PNG")])
    halved = np.array(Image.fromarray(image[0]).resize((65, 50), Image.Resampling.BICUBIC))
    probs = network_classifier(network, metadata, CPU)(halved[None, None])[0]
    planes = [
        np.asarray(Image.fromarray(plane).resize((130, 100), Image.Resampling.BILINEAR))
        for plane in probs
    ]
    np.testing.assert_array_equal(mask, np.argmax(planes, axis=0))
    said, _ = a_stranger_asks(tmp_path / "model", halved[None, None])
    np.testing.assert_allclose(said[0], probs, rtol=0, atol=1e-5)


def test_the_code_on_its_card_gives_the_share_of_each_class(tmp_path: Path) -> None:
    network, metadata = network_and_metadata("fcn")
    bundle = tmp_path / "bakeoff"
    write_bundle(bundle, network, metadata, pictures(*SIDE))
    picture = tmp_path / "picture.jpg"
    Image.fromarray(pictures(70, 50)[0]).save(picture)
    lines = usage(f"local-dir:{tmp_path}", "bakeoff", "bakeoff", pixels=True)
    code = "\n".join(lines).partition("```python\n")[2].partition("```")[0]
    elsewhere = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    opened = open_predictor(bundle, CPU)
    (mask,) = masks_of(opened, [picture.read_bytes()])
    shares = {name: float((mask == k).mean()) for k, name in enumerate(CLASSES)}
    assert done.stdout == f"(70, 50) {shares}\n"
    with pytest.raises(ValueError, match="predicted_masks gives its masks"):
        next(iter(opened.label([picture])))
