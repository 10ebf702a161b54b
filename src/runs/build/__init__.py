"""Composition root: settings in, objects out. Nothing else turns a `_target_` into an object."""

from src.runs.build.data import build_data, build_fold, first_batch_size, native_side
from src.runs.build.extractors import build_extractors, feature_table, frozen_network
from src.runs.build.network import network_of
from src.runs.build.task import build_task, load_task
from src.runs.build.trainer import build_trainer

__all__ = [
    "build_data",
    "build_extractors",
    "build_fold",
    "build_task",
    "build_trainer",
    "feature_table",
    "first_batch_size",
    "frozen_network",
    "load_task",
    "native_side",
    "network_of",
]
