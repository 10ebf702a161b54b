from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from src.machine.hardware import device_of
from src.serving.bundle import open_predictor
from src.serving.bundle_files import read_metadata
from src.serving.bundle_writing import write_bundle
from src.serving.bundled_code import FOR_PLUGINS, ship_modules
from src.serving.whole_network import network_classifier
from tests.models.test_conformance import OWN
from tests.serving.bundles import CLASSES, bundle, network_and_metadata
from tests.serving.stranger import a_stranger_asks

CPU = torch.device("cpu")
ZOO = [pytest.param(model, marks=pytest.mark.slow) for model in ("timm", "torchvision")]


def pictures(shape: tuple[int, int, int] = (3, 16, 24), count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("model", [*OWN, *ZOO])
def test_a_bundle_predicts_as_its_network_does_to_the_bit(model: str, tmp_path: Path) -> None:
    network, metadata = network_and_metadata(model=model)
    metadata["settings"]["trainer"]["tta"] = "flip"
    write_bundle(tmp_path / "model", network, metadata, pictures()[0])
    opened = open_predictor(tmp_path / "model", CPU)
    assert opened.class_names == CLASSES
    expected = network_classifier(network, metadata, CPU)(pictures())
    np.testing.assert_array_equal(opened.probabilities(pictures()), expected)
    assert expected.std() > 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_arithmetic_and_memory_format_are_those_of_the_run(
    precision: str, memory_format: str, tmp_path: Path
) -> None:
    network, metadata = network_and_metadata(model="cnn")
    network.to(memory_format=torch.channels_last)
    runtime = {"precision": precision, "memory_format": memory_format}
    metadata["settings"]["runtime"] |= runtime
    write_bundle(tmp_path / "model", network, metadata, pictures()[0])
    expected = network_classifier(network, metadata, CPU)(pictures())
    opened = open_predictor(tmp_path / "model", CPU)
    np.testing.assert_array_equal(opened.probabilities(pictures()), expected)


@pytest.mark.parametrize(
    ("accelerator", "gpu", "device"),
    [("auto", True, "cuda"), ("gpu", True, "cuda"), ("cpu", True, "cpu"), ("gpu", False, "cpu")],
)
def test_a_network_computes_on_a_gpu_unless_its_run_was_told_otherwise(
    accelerator: str, gpu: bool, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, metadata = network_and_metadata(f"trainer.accelerator={accelerator}")
    write_bundle(tmp_path / "model", network, metadata, pictures()[0])
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    def moved(self: torch.nn.Module, *to: torch.device, **_: object) -> torch.nn.Module:
        taken.extend(to)
        return self

    monkeypatch.setattr(torch.nn.Module, "to", moved)
    open_predictor(tmp_path / "model")
    assert torch.device(device) in taken and len({*taken}) == 1


def test_it_needs_neither_the_checkout_nor_what_trains(tmp_path: Path) -> None:
    network, metadata = network_and_metadata(model="cnn")
    write_bundle(tmp_path / "model", network, metadata, pictures()[0])
    said, heavy = a_stranger_asks(tmp_path / "model", pictures())
    assert heavy == {"torch"}
    expected = network_classifier(network, metadata, device_of("auto"))(pictures())
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-6)


def test_every_module_that_is_shipped_finds_what_it_imports(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    code = tmp_path / "model" / "code"
    ship_modules(code, FOR_PLUGINS)
    names = [
        ".".join(path.relative_to(code).with_suffix("").parts).removesuffix(".__init__")
        for path in code.rglob("*.py")
    ]
    assert {"src.models.zoo", "src.data.decoding.decode", "src.serving.mlflow_model"} <= set(names)
    names.remove("src.serving.mlflow_model")  # MLflow executes it; it takes seconds to import
    overrides = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    subprocess.run(
        [sys.executable, "-P", "-c", overrides], cwd=tmp_path, env=_only(code), check=True
    )


def _only(code: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}


def test_it_holds_weights_text_and_a_picture_and_nothing_pickled(tmp_path: Path) -> None:
    bundle(tmp_path / "model", model="cnn")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".png", ".py", ".safetensors", ".txt"}
    with safe_open(tmp_path / "model" / "network.safetensors", "pt") as weights:
        assert set(weights.keys()) == set(network_and_metadata(model="cnn")[0].state_dict())


def test_the_same_network_has_the_same_digest_and_another_has_not(tmp_path: Path) -> None:
    first = bundle(tmp_path / "first")
    assert bundle(tmp_path / "second") == first
    assert (tmp_path / "first" / "digest.txt").read_text().strip() == first
    assert bundle(tmp_path / "first", seed=1) != first  # and what was there is replaced
    network, metadata = network_and_metadata()
    renamed = metadata | {"class_names": ["w", "x", "y", "z"]}
    assert write_bundle(tmp_path / "third", network, renamed, pictures()[0]) != first


def test_a_bundle_that_is_emptied_does_not_look_whole_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(tmp_path)
    weights = tmp_path / "network.safetensors"

    def ends(*_: object, **__: object) -> None:
        weights.unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", ends)
    with pytest.raises(KeyboardInterrupt):
        bundle(tmp_path)
    assert not weights.exists() and not (tmp_path / "digest.txt").exists()


def test_tensors_that_share_memory_are_stored(tmp_path: Path) -> None:
    network, metadata = network_and_metadata()
    first = next(network.parameters())
    network.register_buffer("again", first.detach())
    write_bundle(tmp_path / "model", network, metadata, pictures()[0])
    with safe_open(tmp_path / "model" / "network.safetensors", "pt") as weights:
        torch.testing.assert_close(weights.get_tensor("again"), first.detach(), rtol=0, atol=0)


def test_settings_may_name_a_folder_that_is_no_utf_8(tmp_path: Path) -> None:
    network, metadata = network_and_metadata()
    metadata["settings"]["data"]["root"] = os.fsdecode(b"/pictures\xff")
    write_bundle(tmp_path, network, metadata, np.zeros((3, 16, 24), np.uint8))
    assert open_predictor(tmp_path).class_names == CLASSES
    assert read_metadata(tmp_path) == metadata


def test_packages_are_pinned_and_few(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    lines = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in lines] == [
        "torch", "numpy", "pillow", "safetensors"
    ]  # fmt: skip
    assert f"torch=={torch.__version__.partition('+')[0]}" in lines


@pytest.mark.parametrize(
    "target", ["os.system", "src.storage.files.write_atomically", "src.models"]
)
def test_metadata_cannot_name_other_code(target: str, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    path = tmp_path / "model" / "passport.json"
    metadata = json.loads(path.read_text())
    metadata["network"]["target"] = target
    path.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"not under src\.models"):
        open_predictor(tmp_path / "model", CPU)


@pytest.mark.parametrize("content", [b"", b"\x80\x04code", b"\xff" * 200])
def test_damaged_weights_are_refused_with_the_place(content: bytes, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    (tmp_path / "model" / "network.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="holds no network that can be loaded"):
        open_predictor(tmp_path / "model", CPU)


@pytest.mark.parametrize("name", ["classifier.skops", "network.onnx", "members/0/digest.txt"])
def test_only_the_model_that_the_digest_is_of_is_opened(name: str, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    expected = open_predictor(tmp_path / "model", CPU).probabilities(pictures())
    beside = tmp_path / "model" / name
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.write_bytes(b"another model")
    found = open_predictor(tmp_path / "model", CPU).probabilities(pictures())
    np.testing.assert_array_equal(found, expected)


def test_a_bundle_without_its_model_is_refused(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    (tmp_path / "model" / "network.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is no whole bundle: .* holds no model"):
        open_predictor(tmp_path / "model", CPU)


@pytest.mark.parametrize(
    "name", ["code/src/serving/predictor.py", "requirements.txt", "passport.json"]
)
def test_a_file_that_was_changed_afterwards_is_refused(name: str, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    assert open_predictor(tmp_path / "model", CPU)
    with (tmp_path / "model" / name).open("a") as file:
        file.write("\n")
    with pytest.raises(ValueError, match="is damaged"):
        open_predictor(tmp_path / "model", CPU)


@pytest.mark.parametrize("key", ["settings", "mean", "class_names", "image_size"])
def test_metadata_that_lack_a_key_are_refused(key: str, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    path = tmp_path / "model" / "passport.json"
    metadata = json.loads(path.read_text())
    del metadata[key]
    path.write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"is damaged|holds no"):
        open_predictor(tmp_path / "model", CPU)


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(number: float, tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    file = tmp_path / "model" / "network.safetensors"
    weights = load_file(file)
    next(one for one in weights.values() if one.is_floating_point()).view(-1)[0] = number
    save_file(weights, file)
    with pytest.raises(ValueError, match="its weights are damaged"):
        open_predictor(tmp_path / "model", CPU)


def test_answers_come_row_by_row_and_a_bad_row_is_named(tmp_path: Path) -> None:
    bundle(tmp_path / "model")
    opened = open_predictor(tmp_path / "model", CPU)
    rows = list(pictures(count=300).transpose(0, 2, 3, 1))  # more than a batch
    np.testing.assert_allclose(
        opened.answer(rows), opened.probabilities(pictures(count=300)), rtol=0, atol=1e-6
    )
    assert opened.answer([]).shape == (0, len(CLASSES))
    with pytest.raises(ValueError, match=r"the picture in row 201 is no picture"):
        opened.answer([*rows[:201], b"text", rows[0]])
    with pytest.raises(ValueError, match=r"the picture in row 0 is empty"):
        opened.answer([b""])
