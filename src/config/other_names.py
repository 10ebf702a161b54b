"""Names that people know from other tools: settings, flags, options, and networks of libraries.

Networks of timm and torchvision are found in the source text of the libraries, whose import takes
seconds.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..machine.text import nearest

__all__ = [
    "hint_for_argument",
    "hint_for_hydra",
    "hint_for_key",
    "hint_for_option",
    "known_as",
    "library_networks",
    "library_of",
    "nearest_network",
    "stored_networks",
    "with_libraries",
]

_log = logging.getLogger(__name__)

# What settings and groups are called in Lightning, Keras, timm, Ultralytics, fastai, Optuna and
# common templates.
_KEYS = {
    "resume": "ckpt_path ckpt checkpoint resume_from resume_from_checkpoint",
    "run": "ckpt_path ckpt checkpoint weights arch model",
    "runs": "run",
    "sweep": "study study_name",
    "trainer.max_epochs": "epochs epoch num_epochs n_epochs",
    "data.batch_size": "batch bs train_batch_size",
    "batch_size": "batch bs",
    "optimizer.lr": "learning_rate lr0 base_lr max_lr",
    "optimizer.weight_decay": "wd l2",
    "data.image_size": "imgsz img_size input_shape size",
    "trainer.devices": "gpus num_gpus",
    "trainer.accelerator": "device gpu cuda",
    "runtime.precision": "amp fp16 bf16 half use_amp",
    "trainer.early_stopping": "patience early_stop",
    "trainer.gradient_clip": "gradient_clip_val clip_grad grad_clip",
    "trainer.accumulate_batches": "accumulate_grad_batches grad_accum",
    "trainer.ema_decay": "ema model_ema use_ema",
    "trainer.progress": "verbose progress_bar enable_progress_bar",
    "loss": "criterion loss_fn loss_func",
    "loss.label_smoothing": "smoothing",
    "loss.class_weights": "class_weight weight",
    "optimizer": "opt",
    "scheduler": "sched lr_scheduler cos_lr",
    "augment": (
        "aa aug augmentation augmentations auto_augment randaugment transforms tfms item_tfms "
        "batch_tfms"
    ),
    "augment.erase_probability": "reprob random_erasing erasing",
    "model.dropout": "drop drop_rate",
    "data.num_workers": "workers",
    "data.target": "task problem_type",
    "data.columns": (
        "group groups group_column patient_id x_col y_col label_col label_column path_column"
    ),
    "data.root": "dir data_dir data_path dataset_dir train_dir path folder images image_dir",
    "data.val_fraction": (
        "valid_pct val_pct val_split validation_split val_size train_val_test_split"
    ),
    "data.test_fraction": "test_split test_size",
    "data": "dataset",
    "model": "arch architecture backbone network",
    "model.pretrained": "weights pretrained_weights",
    "model.freeze_epochs": "freeze freeze_backbone",
    "recipe": "fine_tune finetune freeze_until",
    "tracking.experiment": "project experiment_name",
    "tracking": "logger wandb",
    "output_dir": "out_dir save_dir log_dir logdir output",
    "evaluate_test": "test run_test",
    "images": "source input image path folder file files img",
    "out": "output csv save save_dir dest",
    "top_k": "k topk",
    "split": "part subset",
    "part": "split subset",
    "metric": "metrics objective eval_metric optimized_metric",
    "trainer.monitor": "eval_metric optimized_metric metric monitor_metric",
    "costs": "cost_matrix",
    "cv.folds": "kfold k_folds n_splits",
    "study": "study_name name",
    "families": "models candidates",
    "budget.trials": "n_trials max_trials num_samples",
    "budget.minutes": "timeout time_limit time hours",
    "trainer.max_time": "timeout time_limit time minutes hours",
    "finalist_seeds": "seeds n_seeds num_seeds",
    "workers.count": "n_jobs",
    "variants": "format formats",
    "repair": "fix",
    "filter": "name pattern",
    "to": "repo repo_id destination dest out output folder path",
}
# Settings of other tools that are not needed here, with what replaces them.
_WITHOUT_KEY = {
    "num_classes": "classes are counted from the pictures",
    "print_config": "--cfg job prints the settings",
    **dict.fromkeys(("fast_dev_run", "limit_train_batches"), "debug=batch trains on one batch"),
    "out": "what is written goes to the folder of the run or study",
    "overfit_batches": "debug=overfit learns one batch by heart",
    **dict.fromkeys(
        ("callbacks", "cbs"), "trainer does their work (trainer.early_stopping, trainer.monitor)"
    ),
    "strategy": "trainer.devices=2 trains on several GPUs",
    **dict.fromkeys(
        ("preset", "presets", "quality"), "budget.minutes and families=[...] set how much is tried"
    ),
    **dict.fromkeys(
        ("conf", "conf_thres", "confidence", "threshold"),
        "predict max_error=0.05 answers only where that keeps the share of mistakes",
    ),
    "direction": "the metric says whether more of it is better",
}
# Options of a group that are values of a key here, and other names of an option.
_OPTIONS = {
    ("trainer", "gpu"): "trainer.accelerator=gpu",
    ("trainer", "cuda"): "trainer.accelerator=gpu",
    ("trainer", "cpu"): "trainer.accelerator=cpu",
    ("trainer", "mps"): "trainer.accelerator=mps",
    ("trainer", "ddp"): "trainer.devices=auto",
    ("optimizer", "adam"): "optimizer=adamw",
    ("scheduler", "step"): "scheduler=linear",
    ("scheduler", "onecycle"): "scheduler=one_cycle",
    ("loss", "ce"): "loss=cross_entropy",
    ("data", "imagefolder"): "data=FOLDER",
    ("data", "image_folder"): "data=FOLDER",
    ("debug", "true"): "debug=batch",
    ("debug", "default"): "debug=batch",
    ("debug", "fdr"): "debug=batch",
}
# Replacements of Hydra's own settings, by the beginning of their names.
_HYDRA = {
    "launcher": (
        "-m runs jobs one after another, and src.sweep several at the same time "
        "(workers.count=4, or workers=ray on a cluster)"
    ),
    "sweeper": "src.sweep searches (sampler=tpe, budget.trials=50)",
    "sweep": "output_dir=FOLDER says where runs are kept",
    "run": "output_dir=FOLDER says where runs are kept",
    "searchpath": "--config-dir FOLDER adds config groups",
}
_MOST_NAMED = 3  # in a hint, at most
_BEGINS = 3  # letters that many networks begin with
_LIBRARIES = ("timm", "torchvision")
# Both libraries register a network under the name of the function that makes it.
_REGISTERED = re.compile(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)\(", re.MULTILINE)
_NETWORK = re.compile(r"model=([A-Za-z]\w*(?:\.\w+)?)")
_HUB_FOLDER = re.compile(r"models--timm--([\w.-]+)")
_TORCH_FILE = re.compile(r"(\w+)-[0-9a-f]{8}\.pth")


def hint_for_key(key: str, known: Collection[str]) -> str | None:
    """Return what a setting is called here; None for a name that no other tool has.

    Args:
        key: as it was typed; the groups that it was looked for in count for nothing.
        known: keys and groups that may be set.
    """
    name = key.rpartition(".")[2].replace("-", "_").lower()
    ours = [one for one, others in _KEYS.items() if one in known and name in others.split()]
    # A key with the same name comes first, unless several groups have that name.
    same = [one for one in known if one.rpartition(".")[2] == name]
    ours = [*same, *ours] if len(same) < _MOST_NAMED or not ours else ours
    if ours:
        return f"{key} is {' or '.join([*dict.fromkeys(ours)][:_MOST_NAMED])} here"
    return _WITHOUT_KEY.get(name) or _WITHOUT_KEY.get(key.partition(".")[0])


def hint_for_argument(argument: str, plain: Mapping[str, Any]) -> str | None:
    """Return how to give an argument without a `=`: as a setting, or as the value of one.

    Args:
        argument: as it was typed.
        plain: values of all keys of the command, by dotted key.
    """
    if argument in plain:
        return f"set {argument}={'true' if isinstance(plain[argument], bool) else 'VALUE'}"
    if not os.path.exists(argument):
        # A command on studies or runs gets one of them, and a list what is in the names.
        keys = ["run"] if argument.startswith("champion") else ["sweep", "study", "run"]
        found = [key for key in keys if key in plain] or [key for key in ["filter"] if key in plain]
        return f"set {' or '.join(f'{key}={argument}' for key in found)}" if found else None
    if "images" in plain and not os.path.exists(os.path.join(argument, "run.json")):
        return f"set {shlex.quote(f'images={argument}')}"
    if "data.root" in plain:
        return f"set {shlex.quote(f'data={argument}')}"
    return f"set {shlex.quote(f'run={argument}')}" if "run" in plain else None


def known_as(name: str) -> str:
    """Return the key that does what another tool calls so; the name itself where there is none."""
    alike = (key for key, others in _KEYS.items() if "." in key and name in others.split())
    same = (key for key in _KEYS if key.rpartition(".")[2] == name)
    return next(same, next(alike, name))


def hint_for_option(group: str, option: str) -> str | None:
    """Return the override that does what an unknown option of a group stands for elsewhere."""
    if group == "workers" and option.isdigit():
        return f"workers.count={option}"
    return _OPTIONS.get((group, option.lower()))


def hint_for_hydra(argument: str) -> str:
    """Return what replaces one of Hydra's own settings."""
    part = re.split(r"[./=@]", argument.lstrip("+~"))[1:2]
    return _HYDRA.get(
        part[0] if part else "",
        "output_dir says where a run is kept, -m runs several, and src.sweep searches",
    )


def with_libraries(overrides: Sequence[str], options: Collection[str]) -> list[str]:
    """Return the overrides with `model=timm model.name=NAME` for `model=NAME`.

    torchvision's network is taken where timm has none of this name.

    Args:
        overrides: of a run.
        options: of the group `model`, whose names come first.
    """
    found: list[str] = []
    for argument in overrides:
        match = _NETWORK.fullmatch(argument)
        library = None if match is None or match[1] in options else library_of(match[1])
        if match is None or library is None:
            found.append(argument)
            continue
        found += [f"model={library}", f"model.name={match[1]}"]
        starts = any(one.startswith("model.pretrained=") for one in overrides)
        _note(match[1], library, starts)
    return found


@cache  # once a process
def _note(name: str, library: str, starts: bool) -> None:
    weights = "" if starts else "; model.pretrained=true starts from its published weights"
    _log.info("model: %s is %s's (model=%s model.name=%s)%s", name, library, library, name, weights)


def library_of(name: str) -> str | None:
    """Return the library that has a network of this name, timm before torchvision, or None."""
    architecture, _, tag = name.partition(".")
    for library in _LIBRARIES:
        if architecture in _registered(library) and (library == "timm" or not tag):
            return library
    return None


def library_networks() -> list[str]:
    """Return the names of all networks of timm and torchvision, without timm's tags of weights."""
    return sorted(set().union(*map(_registered, _LIBRARIES)))


def nearest_network(name: str, options: Iterable[str]) -> str:
    """Return what `nearest` returns, or the shortest names of networks that begin like this one."""
    known = library_networks()
    begins = name.casefold()
    longer = sorted((one for one in known if one.startswith(begins)), key=lambda o: (len(o), o))
    if longer and len(name) >= _BEGINS:
        return f" (did you mean {', '.join(longer[:_MOST_NAMED])}?)"
    return nearest(name, [*options, *known])


def stored_networks() -> list[str]:
    """Return the networks of the libraries whose weights lie in a local cache.

    The files are not looked into; `python -m src.weights` does that.
    """
    return sorted({name for name in _cached() if library_of(name) is not None})


@cache
def _registered(library: str) -> frozenset[str]:
    spec = importlib.util.find_spec(library)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = (file for folder in folders for file in Path(folder, "models").glob("*.py"))
    return frozenset(
        name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8"))
    )


def _cached() -> Iterator[str]:
    from huggingface_hub import constants

    for folder in Path(constants.HF_HUB_CACHE).glob("models--timm--*"):
        if match := _HUB_FOLDER.fullmatch(folder.name):
            yield match[1]
    home = os.environ.get("TORCH_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"
    )
    for file in Path(os.path.expanduser(home), "hub", "checkpoints").glob("*.pth"):
        if match := _TORCH_FILE.fullmatch(file.name):
            yield match[1]
