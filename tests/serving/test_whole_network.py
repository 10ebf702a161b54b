"""A served network under requests that come at the same time, and with many pictures."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from src.serving.whole_network import network_classifier, network_describer
from src.training import inference


def test_requests_at_the_same_time_get_the_features_of_their_own_pictures() -> None:
    """Some ask for features, others for probabilities alone; all are within the network at once."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    together = threading.Barrier(4)

    def classify(images: Any) -> Any:
        for _ in range(50):  # in which the others register their hooks, and pass
            with torch.inference_mode():
                found = network(torch.from_numpy(images)).softmax(1).numpy()
        return found

    describe = network_describer(network, classify, outputs=2)
    assert describe is not None

    def ask(value: int) -> bool:
        images = np.full((value, 1, 2, 2), value, np.float32)
        together.wait()
        for _ in range(20):
            if value == 4:
                classify(images)
            elif not np.array_equal(describe(images)[1], images.reshape(value, 4)):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, (1, 2, 3, 4)))


@pytest.mark.parametrize("tta", ["none", "flip"])
def test_pictures_that_are_computed_in_pieces_have_their_own_features(
    monkeypatch: pytest.MonkeyPatch, tta: str
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    runtime = {"memory_format": "contiguous", "precision": "float32"}
    metadata = {
        "mean": [0.0],
        "std": [1.0],
        "settings": {"runtime": runtime, "trainer": {"tta": tta}},
    }
    classify = network_classifier(network, metadata, torch.device("cpu"))
    describe = network_describer(network, classify, outputs=2)
    assert describe is not None
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 2, 2), np.uint8)
    probs, features = describe(images)
    np.testing.assert_allclose(features, images.reshape(7, 4) / np.float32(255), rtol=1e-6)
    monkeypatch.setattr(inference, "_PIXELS_A_CORE", 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    in_pieces, the_same = describe(images)
    np.testing.assert_allclose(in_pieces, probs, rtol=1e-6)
    np.testing.assert_array_equal(the_same, features)
