"""Exported files compute what the network computes."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from src.config.finished import ExportedAs
from src.serving.export_formats import (
    VARIANTS,
    CannotExport,
    exportable,
    outputs_note,
    traced,
    write_int8,
    write_onnx,
    write_pt2,
)
from src.serving.exported import PT2_NOTE, linked, open_onnx, open_pt2
from src.serving.whole_network import WholeNetwork, network_classifier
from src.training.links import probabilities
from tests.models.test_conformance import OWN
from tests.serving.bundles import network_and_metadata
from tests.serving.test_bundle import ZOO
from tests.warm_python import ROOT

pytestmark = pytest.mark.usefixtures("shared_operations")

SHAPE = (3, 16, 24)
WITH_EXTRA = importlib.util.find_spec("onnxruntime") is not None
# Every block is traced like the first, and every stage of a CNN like the second.
SMALLER = {"vit": ["model.depth=1"], "cnn": ["model.widths=[48,96]"]}
Exported = tuple[WholeNetwork, Path, Path]


def test_whatever_settings_can_name_is_made() -> None:
    assert set(get_args(ExportedAs)) == VARIANTS.keys()


def each(*models: str, quick: tuple[str, ...]) -> list[Any]:
    """All of them, those that are not quick marked slow: each takes seconds to be traced."""
    return [m if m in quick else pytest.param(m, marks=pytest.mark.slow) for m in models]


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def whole(model: str, *overrides: str, link: str = "softmax") -> tuple[WholeNetwork, dict]:
    network, metadata = network_and_metadata(*overrides, model=model, shape=SHAPE, link=link)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():  # statistics and branches that start at 0 or 1 would hide mistakes
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=rng)
            elif tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn(tensor.shape, generator=rng))
    return exportable(network, metadata, "contiguous"), metadata


def expected(network: WholeNetwork, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(images)).numpy()


def same(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.dtype == np.float32 and wanted.std() > 0
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """`exported("cnn")`: its network and its files in both formats, written once."""

    @cache
    def written(model: str) -> Exported:
        folder = tmp_path_factory.mktemp(model)
        network, metadata = whole(model, *SMALLER.get(model, ()))
        program, note = traced(network, SHAPE), outputs_note(metadata)
        write_pt2(program, folder / "network.pt2", note)
        if WITH_EXTRA:
            write_onnx(program, folder / "network.onnx", note)
        return network, folder / "network.pt2", folder / "network.onnx"

    return written


@pytest.mark.parametrize("tta", ["none", "flip_shift"])
def test_the_whole_network_says_what_the_run_predicts(tta: str) -> None:
    network, metadata = whole("cnn", f"trainer.tta={tta}")
    probs = network_classifier(network.network, metadata, torch.device("cpu"))(pictures(5))
    logits = torch.from_numpy(expected(network, pictures(5)))
    np.testing.assert_allclose(logits.softmax(1).numpy(), probs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", [*each(*OWN, quick=("cnn", "lstm", "vit")), *ZOO])
def test_files_compute_any_batch_as_the_network_does(
    model: str, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    network, pt2, onnx = exported(model)
    opened = [open_pt2(pt2), *([open_onnx(onnx)] if WITH_EXTRA else [])]
    for count in (1, 2, 7):
        images = pictures(count, count)
        for logits in opened:
            same(logits(images), expected(network, images))
    if WITH_EXTRA:
        assert str(Path.cwd()).encode() not in onnx.read_bytes()
        if model in ("lstm", "gru"):
            with pytest.raises(CannotExport, match=f"no 8-bit kernel for {model.upper()} layers"):
                write_int8(onnx, tmp_path / "int8.onnx", list(pictures(4)))


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "corn"])
def test_files_give_the_probabilities_of_every_kind_and_say_what_they_are(
    link: str, tmp_path: Path
) -> None:
    small = ["model.hidden=[32,32]", "model.batch_norm=false"]
    network, metadata = whole("mlp", "trainer.tta=flip", *small, link=link)
    images = pictures(5)
    wanted = network_classifier(network.network, metadata, torch.device("cpu"))(images)
    program = traced(network, SHAPE)
    write_pt2(program, tmp_path / "network.pt2", outputs_note(metadata))
    notes = {PT2_NOTE: ""}
    loaded = torch.export.load(tmp_path / "network.pt2", extra_files=notes)
    with torch.inference_mode():
        logits, probs = loaded.module()(torch.from_numpy(images))
    np.testing.assert_allclose(probs, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(open_pt2(tmp_path / "network.pt2")(images), logits)
    note = json.loads(notes[PT2_NOTE])
    targets = {"softmax": "single", "sigmoid": "multi", "corn": "ordinal"}
    assert note["targets"] == targets[link]
    assert json.loads(note["class_names"]) == metadata["class_names"]
    assert ("thresholds" in note) == (link == "sigmoid")

    runtime = pytest.importorskip("onnxruntime")
    exact, rough = tmp_path / "network.onnx", tmp_path / "int8.onnx"
    write_onnx(program, exact, outputs_note(metadata))
    write_int8(exact, rough, list(pictures(40)))
    for file, tolerance in ((exact, 1e-5), (rough, 0.1)):
        session = runtime.InferenceSession(file)
        assert note.items() <= session.get_modelmeta().custom_metadata_map.items()
        logits, probs = session.run(["logits", "probabilities"], {"images": images})
        np.testing.assert_allclose(probs, wanted, rtol=0, atol=tolerance)
        np.testing.assert_allclose(probs, linked(logits, link), rtol=0, atol=1e-6)
        np.testing.assert_allclose(open_onnx(file)(images), logits, rtol=0, atol=1e-6)
    if link == "sigmoid":
        assert json.loads(note["thresholds"]) == metadata["thresholds"]


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "corn"])
def test_probabilities_without_torch_are_those_of_torch(link: str) -> None:
    raw = np.random.default_rng(0).normal(0, 30, (200, 5)).astype(np.float32)
    wanted = probabilities(torch.from_numpy(raw).double(), link).numpy()
    np.testing.assert_allclose(linked(raw, link), wanted, rtol=0, atol=1e-7)
    with pytest.raises(ValueError, match="it must be softmax"):
        linked(raw, "probit")


@pytest.mark.parametrize("model", each("cnn", "fcn", "mlp", "vit", quick=("cnn", "vit")))
def test_int8_is_near_and_smaller(
    model: str, exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    network, _, onnx = exported(model)
    write_int8(onnx, tmp_path / "int8.onnx", list(pictures(40)))
    logits = open_onnx(tmp_path / "int8.onnx")
    for count in (1, 5):
        images = pictures(count, count)
        found, wanted = logits(images), expected(network, images)
        same(found, wanted, 0.2)
        assert np.abs(found - wanted).max() > 0
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * onnx.stat().st_size


def test_what_cannot_be_traced_says_why_in_a_line() -> None:
    class Choosy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if float(images.sum()) > 0 else images.amax((2, 3))

    _, metadata = whole("mlp")
    with pytest.raises(CannotExport) as refused:
        traced(exportable(Choosy(), metadata, "contiguous"), SHAPE)
    assert str(refused.value) and "\n" not in str(refused.value)


def test_what_libraries_log_adds_no_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chatty(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logging.info("tracing")
            return images.mean((2, 3))

    _, metadata = whole("mlp")
    monkeypatch.setattr(logging.root, "handlers", [])
    traced(exportable(Chatty(), metadata, "contiguous"), SHAPE)
    assert logging.root.handlers == []


def test_half_precision_of_the_run_does_not_matter_and_test_time_views_do(tmp_path: Path) -> None:
    network, _ = whole("mlp", "runtime.precision=bfloat16", "trainer.tta=flip")
    write_pt2(traced(network, SHAPE), tmp_path / "network.pt2", {})
    logits = open_pt2(tmp_path / "network.pt2")
    images = pictures(3)
    same(logits(images), expected(network, images))
    same(logits(images[..., ::-1].copy()), expected(network, images), 1e-3)


@pytest.mark.skipif(not WITH_EXTRA, reason="the extra `export` is not installed")
def test_nothing_is_reported_to_the_makers_of_onnxruntime(
    exported: Callable[[str], Exported], tmp_path: Path
) -> None:
    """It would put a number of this user into the home folder, and send reports with it."""
    script = (
        "from pathlib import Path; import sys, numpy; from src.serving.exported import open_onnx\n"
        "open_onnx(Path(sys.argv[1]))(numpy.zeros((2, 3, 16, 24), numpy.uint8))"
    )
    home = tmp_path / "home"
    home.mkdir()
    unset = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    variables = {name: text for name, text in os.environ.items() if name not in unset}
    _, _, onnx = exported("cnn")
    subprocess.run(
        [sys.executable, "-c", script, str(onnx)],
        env=variables | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert [*home.rglob("*")] == []
