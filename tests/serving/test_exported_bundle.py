"""The bundle of an exported network: what it answers, what it needs, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_exported_bundle
from src.serving.export_formats import exportable, outputs_note, traced, write_onnx, write_pt2
from src.serving.whole_network import network_classifier
from tests.serving.bundles import CLASSES, network_and_metadata
from tests.serving.stranger import a_stranger_asks

SHAPE = (3, 16, 24)
WITH_EXTRA = importlib.util.find_spec("onnxruntime") is not None
NAMES = ["pt2", *(["onnx"] if WITH_EXTRA else [])]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of each format, of one network that looks at its pictures mirrored, too."""
    folder = tmp_path_factory.mktemp("bundles")
    network, metadata = network_and_metadata("trainer.tta=flip", shape=SHAPE)
    program = traced(exportable(network, metadata, "contiguous"), SHAPE)
    write_pt2(program, folder / "a.pt2", outputs_note(metadata))
    if WITH_EXTRA:
        write_onnx(program, folder / "a.onnx", outputs_note(metadata))
    for name in NAMES:
        write_exported_bundle(folder / name, folder / f"a.{name}", metadata, pictures(1)[0])
    return folder


@pytest.fixture
def damaged(bundles: Path, tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """`damaged("pt2")`: a copy of the bundle, and its network's file."""

    def copied(name: str) -> tuple[Path, Path]:
        shutil.copytree(bundles / name, tmp_path / name)
        return tmp_path / name, tmp_path / name / f"network.{name}"

    return copied


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), np.uint8)


def expected(images: np.ndarray) -> np.ndarray:
    network, metadata = network_and_metadata("trainer.tta=flip", shape=SHAPE)
    return network_classifier(network, metadata, torch.device("cpu"))(images)


@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_the_run_does(name: str, bundles: Path) -> None:
    opened = open_predictor(bundles / name, batch_size=4)
    assert opened.class_names == CLASSES
    rows = list(pictures(9).transpose(0, 2, 3, 1))
    np.testing.assert_allclose(opened.answer(rows), expected(pictures(9)), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_needs_neither_the_checkout_nor_much_else(
    name: str, damaged: Callable[[str], tuple[Path, Path]]
) -> None:
    bundle, _ = damaged(name)
    said, heavy = a_stranger_asks(bundle, pictures(3))
    np.testing.assert_allclose(said, expected(pictures(3)), rtol=0, atol=1e-6)
    assert heavy == ({"torch"} if name == "pt2" else set())
    needed = (bundle / "requirements.txt").read_text().split()
    library = "torch" if name == "pt2" else "onnxruntime"
    assert [line.partition("==")[0] for line in needed] == [library, "numpy", "pillow"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\x80\x04code" * 100, None])
def test_a_damaged_file_is_refused_with_its_place(
    name: str, content: bytes | None, damaged: Callable[[str], tuple[Path, Path]]
) -> None:
    bundle, file = damaged(name)
    file.write_bytes(file.read_bytes()[:-1000] if content is None else content)
    with pytest.raises(ValueError, match=f"network.{name} holds no network that can be loaded"):
        open_predictor(bundle)


@pytest.mark.parametrize("name", NAMES)
def test_without_its_metadata_it_is_refused(
    name: str, damaged: Callable[[str], tuple[Path, Path]]
) -> None:
    bundle, _ = damaged(name)
    (bundle / "passport.json").write_text("{")
    with pytest.raises(ValueError, match=r"no readable passport\.json"):
        open_predictor(bundle)


def _call(graph: dict) -> None:
    graph["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"


def _size(graph: dict) -> None:
    values = graph["graph_module"]["graph"]["sym_int_values"]
    name = next(iter(values), "s0")
    values[name] = {"as_expr": {"expr_str": "__import__('os').getpid()", "hint": None}}


@pytest.mark.parametrize(
    ("overrides", "part", "change"),
    [
        ("is pickled", "data/sample_inputs/model.pt", b"\x80\x04"),
        ("is no part of plain data", "data/aotinductor/model/a.so", b"\x7fELF"),
        ("is no part of plain data", "data/constants/custom_obj_0", b"\x80\x04"),
        ("its weights are pickled", "data/weights/model_weights_config.json", None),
        ("it calls torch.hub.load", "models/model.json", _call),
        ("a size in it is __import__", "models/model.json", _size),
    ],
)
def test_what_torch_would_run_or_unpickle_is_not_loaded(
    overrides: str,
    part: str,
    change: bytes | Callable[[dict], None] | None,
    damaged: Callable[[str], tuple[Path, Path]],
) -> None:
    bundle, file = damaged("pt2")
    with zipfile.ZipFile(file) as archive:
        parts = {item.filename: archive.read(item) for item in archive.infolist()}
    root = next(iter(parts)).partition("/")[0]
    place = f"{root}/{part}"
    if isinstance(change, bytes):
        parts[place] = change
    elif change is None:
        parts[place] = parts[place].replace(b'"use_pickle": false', b'"use_pickle": true', 1)
        assert b'"use_pickle": true' in parts[place]
    else:
        graph = json.loads(parts[place])
        change(graph)
        parts[place] = json.dumps(graph).encode()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=overrides):
        open_predictor(bundle)
