"""The head of a model card for the Hugging Face hub, and how the model is used from there."""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics.registry import METRICS
from ..metrics.summary import metric_name
from ..records.run import RunSummary

__all__ = ["front_matter", "usage"]

# Data sets with their names on the hub.
_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}
_TASK, _TASK_OF_PIXELS = "image-classification", "image-segmentation"
_METRICS = {name: one.hub for name, one in METRICS.items() if one.hub}
_PARTS = {"test": "test", "val": "validation"}


def front_matter(summary: RunSummary, *, library: str, license: str) -> str:
    """Return the YAML block that a card on the hub begins with, figures included.

    The figures are those of the test part, without one those of the validation part. Its keys are
    those of https://huggingface.co/docs/hub/model-cards.

    Args:
        summary: of the run.
        library: that loads the model, such as "timm".
        license: in the hub's words.
    """
    from huggingface_hub import EvalResult, ModelCardData

    known = _DATASETS.get(summary.data)
    known_parts = (p for p in _PARTS for key in _METRICS if f"{p}/{key}" in summary.metrics)
    part = next(known_parts, "test")
    task = _TASK_OF_PIXELS if f"{part}/miou" in summary.metrics else _TASK
    sets = f"{part}/map" in summary.metrics
    results = [
        EvalResult(
            task_type=task,
            dataset_type=known or summary.data,
            dataset_name=summary.data,
            dataset_split=_PARTS[part],
            metric_type=kind,
            metric_name=metric_name(key, sets=sets),
            metric_value=round(summary.metrics[f"{part}/{key}"], 6),
        )
        for key, kind in _METRICS.items()
        if f"{part}/{key}" in summary.metrics
    ]
    data = ModelCardData(
        license=license,
        library_name=library,
        pipeline_tag=task,
        tags=[task, "bakeoff"],
        datasets=None if known is None else [known],
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        model_name=summary.name,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def usage(
    address: str,
    library: str,
    bundle: str,
    *,
    pixels: bool = False,
    thresholds: Sequence[float] | None = None,
    classes: int = 0,
) -> list[str]:
    """Return Markdown lines with the Python that labels a picture, or its pixels.

    Args:
        address: as timm takes it: "hf-hub:USER/NAME" or "local-dir:FOLDER", the folder as it is
            named where it lies.
        library: "timm", or another for the code that comes with the model.
        bundle: name of the folder with that code.
        pixels: whether each pixel has a class.
        thresholds: of the model's answers, see `TargetKind.decide`; None for the most probable
            class.
        classes: that there are.
    """
    source, _, place = address.partition(":")
    fetched = source == "hf-hub"
    folder = f"{place!r}  # that of this file"
    if fetched:
        folder = f"snapshot_download({place!r})"
    answers = [
        'for answer in predictor.label([Path("picture.jpg")]):',
        "    print(answer.labels, answer.probabilities)",
    ]
    if pixels:
        answers = [
            'for answer in predicted_masks(predictor, [Path("picture.jpg")]):',
            "    shares = class_shares(answer.classes, len(predictor.class_names))",
            "    print(answer.classes.shape, dict(zip(predictor.class_names, shares.tolist())))",
        ]
    lines = [
        *("With the code that comes with it, exactly as it was measured:", "", "```python"),
        *("import sys", "from pathlib import Path"),
        *(["from huggingface_hub import snapshot_download"] if fetched else []),
        "",
        f"folder = {folder}",
        f'sys.path.insert(0, f"{{folder}}/{bundle}/code")',
        "from src.serving.bundle import open_predictor",
        *(["from src.serving.masks import class_shares, predicted_masks"] if pixels else []),
        "",
        f'predictor = open_predictor(Path(folder, "{bundle}"))',
        *answers,
        "```",
    ]
    if library == "timm":
        lines += [
            *("", "With timm, from a single view of the picture:", "", "```python"),
            *("import timm", *(["import torch"] if thresholds else []), "from PIL import Image"),
            "",
            f"model = timm.create_model({address!r}, pretrained=True).eval()",
            "config = timm.data.resolve_data_config(model=model)",
            "transform = timm.data.create_transform(**config, is_training=False)",
            'picture = transform(Image.open("picture.jpg").convert("RGB"))[None]',
            "probs = model(picture).softmax(dim=1)[0]",
            f"answer = int({_decision(thresholds, classes)})",
            'print(model.pretrained_cfg["label_names"][answer], float(probs[answer]))',
            "```",
        ]
    return lines


def _decision(thresholds: Sequence[float] | None, classes: int) -> str:
    """Return the Python that decides for a class by `probs`, a tensor (K,), as the model does."""
    if not thresholds:
        return "probs.argmax()"
    values = [*thresholds]
    if len(values) == classes**2:  # of two classes or more, so that it is more than K
        rows = [values[row * classes : (row + 1) * classes] for row in range(classes)]
        return f"(probs @ torch.tensor({rows})).argmin()"  # the least mean cost
    if len(values) == classes:
        return f"(probs / torch.tensor({values})).argmax()"
    if len(values) == 1:
        return f"(probs.flip(0).cumsum(0).flip(0)[1:] >= {values[0]}).sum()"
    return f"((probs * torch.arange({classes})).sum() >= torch.tensor({values})).sum()"
