"""Composition root: settings in, objects out. Nothing else turns a `_target_` into an object."""

from src.build.data import build_data, build_fold, first_batch_size, native_side
from src.build.extractors import build_extractors, frozen_network
from src.build.network import network_of
from src.build.task import build_task, load_task
from src.build.trainer import build_trainer

__all__ = [
    "build_data",
    "build_extractors",
    "build_fold",
    "build_task",
    "build_trainer",
    "first_batch_size",
    "frozen_network",
    "load_task",
    "native_side",
    "network_of",
]
