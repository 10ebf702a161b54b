"""Opens bundles: a folder with a trained model becomes a predictor, without a checkout.

`bundle_files` says what is in such a folder, and `bundle_writing` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.hardware import device_of_run
from ..machine.imports import import_object
from ..records.certainty import Certainty
from .bundle_files import (
    CERTAINTY,
    CLASSIFIER,
    DIGEST,
    DIGESTS,
    MEMBERS,
    WEIGHTS,
    check_digest,
    model_file,
    read_metadata,
)
from .exported import classifier_of, open_logits, pixel_classifier_of
from .predictor import Predictor, kind_in

if TYPE_CHECKING:  # a classifier on features needs no torch
    import torch
    from torch import nn

__all__ = ["open_network", "open_predictor"]


def open_predictor(
    folder: Path, device: torch.device | None = None, batch_size: int = 128
) -> Predictor:
    """Return a predictor with the model of a bundle.

    Args:
        folder: the bundle.
        device: for a network that torch computes as in training; None for that of
            `src.machine.hardware.device_of_run`. Exported networks compute on the CPU.
        batch_size: pictures at once.

    Raises:
        ValueError: the bundle's files are damaged, or do not belong together.
    """
    try:
        predictor = _opened(folder, device, batch_size)
    # Of metadata that were changed, or a bundle without a model.
    except (LookupError, TypeError, AttributeError, FileNotFoundError) as error:
        check_digest(folder)
        raise ValueError(f"{folder} holds no model that can be opened: {error!r}") from error
    check_digest(folder)  # last, so that what is no model at all is refused with its own reason
    predictor.certainty = Certainty.read(folder / CERTAINTY)
    return predictor


def _opened(folder: Path, device: torch.device | None, batch_size: int) -> Predictor:
    model = model_file(folder)  # the one that the digest is of, whatever else lies beside it
    if model == CLASSIFIER:
        from ..features.classifier import FeatureClassifier

        classifier = FeatureClassifier.load(folder / CLASSIFIER)
        return Predictor(
            classifier,
            read_metadata(folder),  # with thresholds, which were chosen after it was saved
            describe=None if classifier.of_pixels else classifier.describe,
            batch_size=batch_size,
        )

    if model == DIGESTS:
        return _open_ensemble(folder, device, batch_size)

    metadata = read_metadata(folder)
    if model != WEIGHTS:
        logits = open_logits(folder / model)
        if kind_in(metadata).pixels:
            classify = pixel_classifier_of(logits, tuple(metadata["image_size"]))
        else:  # as `links.link_of` reads it, which needs torch
            classify = classifier_of(logits, metadata.get("link", "softmax"))
        return Predictor(classify, metadata, batch_size=batch_size)

    from .whole_network import network_predictor

    network = open_network(folder)
    return network_predictor(network, metadata, device or device_of_run(metadata), batch_size)


def open_network(folder: Path) -> nn.Module:
    """Return the network of a bundle, in the state that it was built in.

    Raises:
        ValueError: the bundle holds no network that can be loaded.
    """
    from safetensors.torch import load_file

    from ..training.inference import require_finite

    try:
        network = _network(read_metadata(folder))
        network.load_state_dict(load_file(folder / WEIGHTS))
        require_finite(network)
    except Exception as error:  # safetensors and torch have many exceptions
        raise ValueError(f"{folder} holds no network that can be loaded: {error}") from error
    return network


def _open_ensemble(folder: Path, device: torch.device | None, batch_size: int) -> Predictor:
    from .ensemble_predictor import ensemble_predictor

    try:
        metadata = read_metadata(folder)
        method = metadata["ensemble"]["way"]
        weights = [float(member["weight"]) for member in metadata["ensemble"]["members"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no ensemble that can be loaded: {error!r}") from error
    places = [folder / MEMBERS / str(number) for number in range(len(weights))]
    members = [open_predictor(place, device) for place in places]
    found = [(place / DIGEST).read_text().strip() for place in places]
    if (folder / DIGESTS).read_text().split() != found:
        raise ValueError(f"{folder} was written with other members than it has")
    return ensemble_predictor(members, method, weights, metadata, batch_size=batch_size)


def _network(metadata: Mapping[str, Any]) -> nn.Module:
    from ..training.links import link_of, outputs_of

    channels = metadata["channels"]
    classes = outputs_of(link_of(metadata), len(metadata["class_names"]))
    make = import_object(metadata["network"]["target"], within="src.models.")
    return make(
        channels, classes, tuple(metadata["image_size"]), **metadata["network"]["arguments"]
    )
