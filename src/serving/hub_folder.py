"""The files of a model in the layout of the Hugging Face hub, made from its bundle.

    config.json           classes (id2label), size and statistics of the pictures
    model.safetensors     a network's weights
    bakeoff/              the bundle, which decodes and predicts as the run did, without a checkout

A network of timm has the names and the configuration of timm, so that timm makes it from the folder
or from the hub. Ensembles and classifiers on features have their files in the bundle alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.decoding.picture_format import PictureFormat
from ..storage.files import copy_folder, write_atomically
from .bundle import open_network
from .bundle_files import MEMBERS, WEIGHTS, read_metadata
from .bundle_writing import change_metadata, write_example

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BUNDLE", "write_hub_folder"]

# The folder of the bundle among the files.
BUNDLE = "bakeoff"
_MODEL, _CONFIG = "model.safetensors", "config.json"
# Keys whose values are names of classes, bands and columns: no paths, whatever they look like.
_NAMES = ("class_names", "order", "band_names", "columns")
# timm's names for what becomes of other proportions.
_CROP_MODES = {"squeeze": "squash", "crop": "center", "pad": "border"}
_TOLERANCE = 1e-4
_GREY = 128


def write_hub_folder(bundle: Path, folder: Path) -> str:
    """Write all files of a hub repository but its README.md.

    Paths and addresses of this machine are taken out of the metadata, and a grey picture takes the
    place of the example, which is one of the training pictures.

    Args:
        bundle: a complete bundle.
        folder: to write to; its files of the same names are replaced.

    Returns:
        The library that loads the model: "timm", or "bakeoff" for the code in the bundle.

    Raises:
        OSError: the folder cannot be written.
        ValueError: the bundle is damaged, or holds no model that can be loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy_folder(bundle, folder / BUNDLE)
    change_metadata(folder / BUNDLE, _shortened)
    for place in (folder / BUNDLE, *(folder / BUNDLE / MEMBERS).glob("*/")):
        form = PictureFormat.of(read_metadata(place))
        grey = np.full((form.channels, *form.image_size), _GREY, np.uint8)
        write_example(place, grey, form)
    metadata = read_metadata(bundle)
    if (bundle / WEIGHTS).is_file():
        backbone = getattr(open_network(bundle), "backbone", None)
        # timm's programs read grey and colour alone, and take logits to be of one class of several.
        ordinary = PictureFormat.of(metadata).ordinary
        usual = ordinary and metadata.get("link", "softmax") == "softmax"
        if metadata["network"]["target"].endswith(".TimmNet") and usual and backbone is not None:
            if _written_by_timm(backbone, metadata, folder):
                return "timm"
            (folder / _MODEL).unlink(missing_ok=True)
        shutil.copyfile(bundle / WEIGHTS, folder / _MODEL)
    config = {"model_type": BUNDLE, **_described(metadata)}
    write_atomically(folder / _CONFIG, json.dumps(config, ensure_ascii=False, indent=1) + "\n")
    return BUNDLE


def _shortened(value: Any) -> Any:
    """Return nested containers with the last part of absolute paths and without addresses."""
    if isinstance(value, dict):
        return {key: one if key in _NAMES else _shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shortened(one) for one in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        return None
    return Path(value).name if os.path.isabs(value) or value.startswith("~") else value


def _described(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = list(metadata["class_names"])
    found = {
        "num_labels": len(names),
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }
    if "image_size" in metadata:  # members of an ensemble may have formats of their own
        found |= {"image_size": metadata["image_size"], "num_channels": metadata["channels"]}
    if "mean" in metadata:
        found |= {"image_mean": metadata["mean"], "image_std": metadata["std"]}
    return found


def _written_by_timm(backbone: nn.Module, metadata: Mapping[str, Any], folder: Path) -> bool:
    """Write weights and configuration as timm does, and return whether it makes the same network.

    It does not where the first layers were changed for small pictures.
    """
    import timm
    import torch
    from timm.models import save_for_hf

    size = metadata["network"]["arguments"].get("input_size")
    height, width = metadata["image_size"] if size is None else (size, size)
    shape = (metadata["channels"], height, width)
    preprocessing = {
        "input_size": shape,
        "mean": tuple(metadata["mean"]),
        "std": tuple(metadata["std"]),
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": _CROP_MODES[metadata.get("fit", "squeeze")],
    }
    config = {"label_names": list(metadata["class_names"]), **_described(metadata)}
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, *shape, generator=generator)
    try:
        save_for_hf(
            backbone,
            str(folder),
            model_config=config,
            safe_serialization=True,
            data_config=preprocessing,
        )
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.inference_mode():
            expected, found = backbone.eval()(pictures), loaded(pictures)
    except Exception:  # timm refuses what it cannot describe or make with any kind of error
        return False
    return bool(torch.allclose(expected, found, rtol=_TOLERANCE, atol=_TOLERANCE))
