"""The author's own code of the CIFAR-10 speedrun, where the package `airbench` is installed.

Keller Jordan's package (MIT) reads its pictures from two files, and its training prints what it
measures: seconds of training by the device's clock, and the accuracy with several views.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from src.data.loading.picture_data import PictureData

__all__ = ["Airbench"]


class Airbench:
    """Trainings of `airbench.train94` on pictures of one's own.

    Args:
        data: CIFAR-10, or as many colour pictures of that size.
        folder: for its files.
    """

    def __init__(self, data: PictureData, folder: Path) -> None:
        self._folder = folder
        # The package looks for its pictures in this folder below the current one.
        place = folder / "cifar10"
        place.mkdir(parents=True)
        pictures = data.pictures
        assert pictures.images is not None
        for part, ids in (("train", data.split.train), ("test", data.split.test)):
            images = np.asarray(pictures.images)[ids].transpose(0, 2, 3, 1)
            torch.save(
                {
                    "images": torch.from_numpy(np.ascontiguousarray(images)),
                    "labels": torch.from_numpy(pictures.targets[ids]),
                    "classes": list(pictures.class_names),
                },
                place / f"{part}.pt",
            )

    @staticmethod
    def name() -> str | None:
        """Return the package's name and version; None where it is not installed."""
        if importlib.util.find_spec("airbench") is None:
            return None
        try:
            return f"airbench {version('airbench')}"
        except PackageNotFoundError:  # a folder on the path
            return "airbench"

    def __call__(self, seed: int) -> tuple[float, float]:
        """Return seconds of one training and its test accuracy.

        Args:
            seed: of weights, order, flips and shifts.
        """
        before = torch.backends.cudnn.benchmark
        lines: list[Mapping[str, Any]] = []

        def note(variables: Mapping[str, Any], is_final_entry: bool) -> None:
            lines.append(dict(variables))

        try:
            import airbench.utils  # which turns cuDNN's search for the fastest kernels on

            torch.backends.cudnn.benchmark = True
            torch.manual_seed(seed)
            with (
                contextlib.chdir(self._folder),
                mock.patch.object(airbench.utils, "print_training_details", note),
            ):
                airbench.train94(run=seed + 1)  # number 0 prints a heading
        finally:
            torch.backends.cudnn.benchmark = before
        # The last line is of the final evaluation, whose time counts in it.
        return lines[-2]["total_time_seconds"], lines[-1]["tta_val_acc"]
