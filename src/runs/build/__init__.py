"""Build what settings describe: pictures, network, features, training task and trainer."""

from .data import (
    COMPARED_SIDE,
    build_data,
    build_fold,
    costs_of,
    first_batch_size,
    fold_codes,
    model_metadata,
    native_side,
    remark_on_size,
    stated_batch_size,
)
from .extractors import (
    build_extractors,
    feature_table,
    foreign_descriptors,
    frozen_network,
    remark_on_network,
)
from .network import network_of
from .plugin_checks import check_metrics, check_plugins
from .start import refuse_fitted_head, start_head, start_network
from .task import build_task, load_task
from .trainer import build_trainer, check_devices

__all__ = [
    "COMPARED_SIDE",
    "build_data",
    "build_extractors",
    "build_fold",
    "build_task",
    "build_trainer",
    "check_devices",
    "check_metrics",
    "check_plugins",
    "costs_of",
    "feature_table",
    "first_batch_size",
    "fold_codes",
    "foreign_descriptors",
    "frozen_network",
    "load_task",
    "model_metadata",
    "native_side",
    "network_of",
    "refuse_fitted_head",
    "remark_on_network",
    "remark_on_size",
    "start_head",
    "start_network",
    "stated_batch_size",
]
