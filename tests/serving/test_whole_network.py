"""A served network under requests that come at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import nn

from src.serving.whole_network import network_describer


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
