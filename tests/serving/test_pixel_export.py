"""Exported networks with a class for every pixel answer as the networks themselves."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_exported_bundle
from src.serving.export_formats import (
    exportable,
    outputs_note,
    traced,
    write_int8,
    write_onnx,
    write_pt2,
)
from src.serving.exported import open_onnx, open_pt2
from src.serving.masks import masks_of
from src.serving.whole_network import WholeNetwork, network_classifier
from tests.data.pictures import encoded
from tests.serving.stranger import a_stranger_asks
from tests.serving.test_pixel_bundle import CLASSES, SIDE, network_and_metadata, pictures

pytestmark = pytest.mark.usefixtures("shared_operations")

CPU = torch.device("cpu")
WITH_EXTRA = importlib.util.find_spec("onnxruntime") is not None
Exported = Callable[[str], tuple[WholeNetwork, dict, Path]]
SHAPE = (1, *SIDE)


def whole(model: str, *overrides: str) -> tuple[WholeNetwork, dict]:
    network, metadata = network_and_metadata(model, *overrides)
    with torch.no_grad():  # what starts at zero would hide mistakes
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return exportable(network, metadata, "contiguous"), metadata


def batch(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *SHAPE), np.uint8)


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape and wanted.std() > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """`exported("fcn")`: its network, metadata and a file; in its folder is one of each format.

    The file is ONNX where that is installed. They are made once, of pictures that are taken window
    by window, at half their size.
    """

    @cache
    def made(model: str) -> tuple[WholeNetwork, dict, Path]:
        folder = tmp_path_factory.mktemp(model)
        network, metadata = whole(model, "data.fit=windows", "data.scale=0.5")
        program, note = traced(network, SHAPE), outputs_note(metadata)
        write_pt2(program, folder / "network.pt2", note)
        if WITH_EXTRA:
            write_onnx(program, folder / "network.onnx", note)
        return network, metadata, folder / f"network.{'onnx' if WITH_EXTRA else 'pt2'}"

    return made


@pytest.mark.parametrize(
    "model", ["fcn", *(pytest.param(m, marks=pytest.mark.slow) for m in ("unet", "deeplab"))]
)
def test_files_answer_windows_in_batches_of_any_size(
    model: str, exported: Exported, tmp_path: Path
) -> None:
    network, metadata, exact = exported(model)
    note = outputs_note(metadata)
    assert note["targets"] == "dense" and json.loads(note["class_names"]) == list(CLASSES)
    assert "(pictures, classes, height, width)" in note["outputs"]
    assert "windows" in note["outputs"] and "0.5" in note["outputs"]
    opened = [open_pt2(exact.with_suffix(".pt2")), *([open_onnx(exact)] if WITH_EXTRA else [])]
    for count in (1, 2, 5):
        with torch.inference_mode():
            wanted = network.at_once(torch.from_numpy(batch(count))).numpy()
        for logits in opened:
            same(logits(batch(count)), wanted)
    runtime, rough = pytest.importorskip("onnxruntime"), tmp_path / "int8.onnx"
    session = runtime.InferenceSession(exact)
    logits, probs = session.run(["logits", "probabilities"], {"images": batch(3)})
    same(probs, torch.from_numpy(logits).softmax(dim=1).numpy())
    write_int8(exact, rough, list(batch(20)))
    assert 0 < np.abs(open_onnx(rough)(batch(5)) - wanted).max() < 0.3 * np.abs(wanted).max()
    assert rough.stat().st_size < 0.6 * exact.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "fcn_resnet50"])
def test_networks_of_torchvision_are_exported(name: str, tmp_path: Path) -> None:
    network, metadata = whole("segmentation", f"model.name={name}")
    pytest.importorskip("onnxruntime")
    write_onnx(traced(network, SHAPE), tmp_path / "network.onnx", outputs_note(metadata))
    with torch.inference_mode():
        wanted = network(torch.from_numpy(batch(3))).numpy()
    same(open_onnx(tmp_path / "network.onnx")(batch(3)), wanted)


@pytest.fixture(scope="module")
def bundle(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, metadata, file = exported("fcn")
    folder = tmp_path_factory.mktemp("bundle") / "model"
    write_exported_bundle(folder, file, metadata, batch(1)[0])
    return folder


@pytest.mark.parametrize("size", [SIDE, (75, 101), (32, 49), (20, 90), (9, 11)])
def test_a_bundle_answers_pictures_of_any_size_as_its_network_does(
    bundle: Path, exported: Exported, size: tuple[int, int]
) -> None:
    network, metadata, _ = exported("fcn")
    images = np.full((2, 1, max(size[0], SIDE[0]), max(size[1], SIDE[1])), 128, np.uint8)
    images[..., : size[0], : size[1]] = np.stack([pictures(*size), 255 - pictures(*size)])
    wanted = network_classifier(network.network, metadata, CPU)(images)[..., : size[0], : size[1]]
    found = open_predictor(bundle).probabilities(images[..., : size[0], : size[1]])
    same(found, wanted)
    assert wanted.std() > 0.01


def test_masks_of_a_file_are_those_of_the_network_and_need_no_torch(
    bundle: Path, exported: Exported
) -> None:
    network, metadata, _ = exported("fcn")
    image = pictures(100, 130)
    (mask,) = masks_of(open_predictor(bundle), [encoded(Image.fromarray(image[0]), "PNG")])
    halved = np.array(Image.fromarray(image[0]).resize((65, 50), Image.Resampling.BICUBIC))
    probs = network_classifier(network.network, metadata, CPU)(halved[None, None])[0]
    planes = [
        np.asarray(Image.fromarray(plane).resize((130, 100), Image.Resampling.BILINEAR))
        for plane in probs
    ]
    assert (mask == np.argmax(planes, axis=0)).mean() > 0.999 and len(np.unique(mask)) > 1
    said, heavy = a_stranger_asks(bundle, halved[None, None])
    np.testing.assert_allclose(said[0], probs, rtol=0, atol=1e-5)
    assert heavy == (set() if WITH_EXTRA else {"torch"})
