"""Bundles and exported networks of models of many bands and of more than 8 bits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_format import PictureFormat
from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_bundle, write_exported_bundle
from src.serving.export_formats import exportable, traced, write_pt2
from src.serving.whole_network import network_classifier
from tests.serving.bundles import network_and_metadata

CPU = torch.device("cpu")
FORM = PictureFormat(
    (16, 24), 2, value_range=(0.0, 4095.0), dtype="float32", bands=(6, 1), band_count=7
)


def tiff(seed: int) -> bytes:
    array = np.random.default_rng(seed).integers(0, 4096, (7, 20, 30)).astype(np.uint16)
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, array, photometric="minisblack", planarconfig="separate", metadata=None
    )
    return stream.getvalue()


def made() -> tuple[torch.nn.Module, dict[str, Any], NDArray[np.float32]]:
    """A network, its metadata, and three pictures as it takes them."""
    network, metadata = network_and_metadata(model="cnn", shape=(2, 16, 24))
    images = np.stack([decode_picture(tiff(seed), FORM) for seed in range(3)])
    return network, metadata | FORM.plain(), images.astype(np.float32)


@pytest.mark.parametrize("kind", ["network", "pt2"])
def test_bands_are_answered_as_the_network_does(kind: str, tmp_path: Path) -> None:
    network, metadata, images = made()
    folder = tmp_path / "model"
    if kind == "network":
        write_bundle(folder, network, metadata, images[0])
    else:
        whole = exportable(network, metadata, "contiguous")
        write_pt2(traced(whole, images.shape[1:], "float32"), tmp_path / "a.pt2", {})
        write_exported_bundle(folder, tmp_path / "a.pt2", metadata, images[0])
    expected = network_classifier(network, metadata, CPU)(images)
    opened = open_predictor(folder, CPU)
    assert opened.formats == (FORM,)
    answers = opened.answer([tiff(seed) for seed in range(3)])
    np.testing.assert_allclose(answers, expected, rtol=1e-4)
    assert np.abs(expected[0] - expected[1]).max() > 1e-6
    assert "tifffile==" in (folder / "requirements.txt").read_text()
    # The example is a file of as many bands, which the model takes.
    (example,) = folder.glob("example.*")
    assert opened.answer([example.read_bytes()]).shape == expected[:1].shape
    with pytest.raises(ValueError, match="row 0 has 3 bands, where pictures of 7 are taken"):
        opened.answer([np.zeros((9, 9, 3), np.uint8)])
