"""Settings of the data group: which pictures, in what size, in which parts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..machine.text import plain
from .checks import ConfigError, Settings, distinct, positive, positive_int, setting, variant

__all__ = ["DataSettings", "FolderSettings", "PictureFit"]

# How a picture of other proportions is fitted into a square.
PictureFit = Literal["squeeze", "crop", "pad", "windows"]

_ENDINGS = re.compile(r"(\.(csv|tsv|npz|zip|tar|tgz|txz|tbz2?|gz|xz|bz2))+$", re.IGNORECASE)

_MOST_BYTES_OF_NAME = 255

# Names of folders and tables that many projects have.
_COMMON = frozenset(("data", "dataset", "datasets", "images", "imgs", "pictures", "photos")) | {
    *("train", "training", "labels", "metadata", "annotations", "archive", "raw", "input"),
}


def _size(value: int | list[int]) -> str | None:
    fine = isinstance(value, int) or len(value) == 2
    return None if fine else "it must be one number, or [height, width]"


def _bands(value: list[int | str]) -> str | None:
    if any(isinstance(band, int) and band < 1 for band in value):
        return "bands are counted from 1"
    return distinct(value)


def _two_values(value: list[float]) -> str | None:
    fine = len(value) == 2 and value[0] < value[1]
    return None if fine else "it must be two numbers, black below white"


def _named_after(root: str | None) -> str:
    """Return the last part of a path, in plain characters, without an archive's or table's ending.

    Where that says only that there are pictures, the part before it comes first.
    """
    if root is None:
        return "folder"
    path = Path(os.path.abspath(root.partition("?")[0] if "://" in root else root))
    name, before = (
        plain(one, _MOST_BYTES_OF_NAME, "._-").strip("._-")
        for one in (_ENDINGS.sub("", path.name), path.parent.name)
    )
    return f"{before}_{name}" if name.lower() in _COMMON and before else name or "folder"


@dataclass(frozen=True)
class DataSettings(Settings):
    """The pictures of a run. All sources have these fields; `_target_` tells them apart."""

    _target_: str = setting("import path of the function that lists the pictures")
    name: str = setting(
        "the data set's name in run names, tables and plots, and of its champion in MLflow; auto "
        "for that of data.root"
    )
    root: str | None = setting(
        "where the pictures are: a folder, an archive, a table (CSV, JSON lines) or an .npz file, "
        "taken literally, on this machine or at an address (s3://, https://); null for the data "
        "set's own places",
        None,
        literal=True,
    )
    target: Literal["single", "multi", "ordinal", "dense"] = setting(
        "what a picture is labelled with: one class, a set of labels (also none), one of ordered "
        "classes, or a mask with a class for every pixel",
        "single",
    )
    order: list[str] | None = setting(
        "for target=ordinal, the names of all classes from the lowest to the highest; null where "
        "they are numbers",
        None,
        check=distinct,
    )
    threshold: Literal["macro_f1", "micro_f1", "half"] = setting(
        "for target=multi, what the thresholds of the labels are best for on the validation part, "
        "or half for one half each",
        "micro_f1",
    )
    answer: Literal["most_probable", "balanced_accuracy", "cost", "kappa", "mae"] = setting(
        "the class that is answered: the most probable one; with balanced_accuracy the one whose "
        "probability is the largest multiple of its share of the pictures, so that rare classes "
        "are found as often as frequent ones; with cost the one of the least mean cost by the "
        "model's probabilities and the table of costs; for target=ordinal, with kappa the one that "
        "the mean of the classes lies in, which has a better kappa and often a lower accuracy, and "
        "with mae the median, which has the least mean distance by the model's probabilities",
        "most_probable",
    )
    image_size: int | list[int] | None = setting(
        "pixels of a side, or [height, width], that every picture is resized to; null for the size "
        "that the model was made for, and for a model of any size the pictures' own where they "
        "agree, of 128x128 pixels at most",
        None,
        at_least=8,
        at_most=1024,
        check=_size,
    )
    channels: int | None = setting(
        "1 for grey, 3 for colour, null for what the pictures are",
        None,
        check=lambda n: None if n in (1, 3) else "it must be one of 1, 3",
    )
    bands: list[int | str] | None = setting(
        "the bands of the files that are read, by number from 1 or by name, in this order; null "
        "for grey or colour, and for all where files have other bands than these",
        None,
        check=_bands,
    )
    band_names: list[str] | None = setting(
        "names of all bands of the files; null for those that a TIFF states", None, check=distinct
    )
    value_range: list[float] | None = setting(
        "the values [black, white] of pixels of more than 8 bits (integers or floating point); "
        "null for 0 and the largest number of 8, 10, 12, 14 or 16 bits where the training part "
        "uses half of that or more, else the least and the largest that it has",
        None,
        check=_two_values,
    )
    pages: Literal["first", "all"] = setting(
        "of a TIFF, GIF, WebP or PNG file of several pictures, the first one, or all of them, "
        "which then stay in one part together",
        "first",
    )
    fit: PictureFit = setting(
        "what becomes of a picture of other proportions: squeeze distorts it, crop cuts off what "
        "sticks out, pad adds grey bars; alike in training, prediction and the served model. For "
        "target=dense, windows keeps pictures large: training sees random pieces of image_size, "
        "and all else goes over the whole picture in windows of that size",
        "squeeze",
    )
    scale: float = positive(
        "for fit=windows, the size that pictures are taken in, as a multiple of their own",
        1.0,
        at_most=1,
    )
    mirror_ok: bool = setting(
        "whether a picture mirrored left to right still is what it was (not for text or digits)",
        True,
    )
    batch_size: int | Literal["auto"] = positive_int(
        "pictures a training step and device; auto for the smallest that keeps the device busy",
        256,
        at_most=65536,
    )
    on_bad_image: Literal["error", "skip"] = setting(
        "what to do about pictures that cannot be read: stop and name them, or leave them out",
        "error",
    )
    on_duplicates: Literal["error", "drop"] = setting(
        "what to do where given parts share a picture: stop and name it, or drop the copy that "
        "stands nearer to training",
        "drop",
    )
    split_seed: int = setting(
        "seed of the split into parts; independent of `seed`, so repeats share their parts",
        0,
        at_least=0,
        below=2**31,
    )
    val_fraction: float = positive(
        "share of the pictures for validation, where the data set brings no such part", 0.1, below=1
    )
    test_fraction: float = setting(
        "share of the pictures for the test, where the data set brings no such part",
        0.1,
        at_least=0,
        below=1,
    )
    limit: int | None = positive_int(
        "pictures of each part at most, drawn alike from all classes, for a quick look; null for "
        "all",
        None,
    )
    train_limit: int | None = positive_int(
        "training pictures at most, drawn from all classes in proportion; the other parts stay "
        "whole, so that runs that learn from fewer and from more compare; null for all",
        None,
    )
    train_on_val: bool = setting(
        "train on the validation part as well, as a last training does: nothing is left to choose "
        "by, so its length and all else must be given",
        False,
    )
    cache_dir: str | None = setting(
        "folder of decoded, extracted and downloaded pictures; null for $BAKEOFF_CACHE, or else "
        "the user's cache folder",
        None,
        literal=True,
    )
    cache_limit_gb: float = setting(
        "largest array of decoded pictures kept on disk, in 10^9 bytes; a larger set is decoded "
        "anew whenever it is read",
        20.0,
        at_least=0,
    )
    check_content: bool = setting(
        "read every picture at every start, and what archives and addresses left in the cache; "
        "without, a file whose path, size, times and inode are what they were is taken to be what "
        "it was",
        False,
    )
    num_workers: int | None = positive_int(
        "threads that decode into the cache, processes that decode what is too large for it, and "
        "processes that compute features; null for the number of CPU cores",
        None,
        at_most=256,
    )
    download: bool = setting("fetch the data set where it is not on this machine", True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "auto":
            object.__setattr__(self, "name", _named_after(self.root))
        if self.threshold != "micro_f1" and self.target != "multi":
            raise ConfigError(f"threshold is given, but target is {self.target}: set target=multi.")
        if self.answer in ("kappa", "mae") and self.target != "ordinal":
            raise ConfigError(
                f"answer is {self.answer}, but target is {self.target}: set target=ordinal."
            )
        if self.answer != "most_probable" and self.target in ("multi", "dense"):
            raise ConfigError(
                f"answer is given, but target is {self.target}: it is for one class a picture."
            )
        if self.fit == "windows" and self.target != "dense":
            raise ConfigError(f"fit is windows, but target is {self.target}: set target=dense.")
        if self.scale != 1 and self.fit != "windows":
            raise ConfigError(f"scale is given, but fit is {self.fit}: set fit=windows.")
        if self.order is not None and self.target != "ordinal":
            raise ConfigError(f"order is given, but target is {self.target}: set target=ordinal.")
        if self.val_fraction + self.test_fraction >= 1:
            raise ConfigError(
                f"val_fraction {self.val_fraction:g} and test_fraction {self.test_fraction:g} "
                "leave nothing to train on: their sum must be below 1."
            )

    @property
    def worker_count(self) -> int:
        """`num_workers`, or the number of cores."""
        from ..machine.parallel import available_cores  # which a served model does without

        return self.num_workers or available_cores()

    @property
    def cache_limit_bytes(self) -> int:
        """Size of the largest array that is kept on disk."""
        return round(self.cache_limit_gb * 1e9)  # 2.01 * 1e9 is a little below 2,010,000,000

    @property
    def best_for(self) -> str | None:
        """The metric that the thresholds of answers are best for; None where there are none."""
        if self.target == "multi":
            return None if self.threshold == "half" else self.threshold
        return None if self.answer == "most_probable" else self.answer

    @property
    def chosen_for(self) -> str | None:
        """The metric that held-out pictures choose these thresholds for; None where none do."""
        return None if self.best_for in ("cost", "mae") else self.best_for


def _columns(value: list[str | None]) -> str | None:
    named = [name for name in value if name is not None]
    fine = 2 <= len(value) <= 4 and None not in value[:2] and len(set(named)) == len(named)
    return None if fine else "it must be [PATH,LABEL], [PATH,LABEL,SPLIT] or with GROUP as a fourth"


@variant(DataSettings, "src.data.sources.folder.load")
@dataclass(frozen=True)
class FolderSettings(DataSettings):
    """A person's own pictures."""

    columns: list[str | None] | None = setting(
        "names of the columns of a CSV file that hold path, label and, if wanted, split (null for "
        "none) and group; null for path, label, split, group and usual other names of these",
        None,
        check=_columns,
    )
    separator: str | None = setting(
        "for target=multi, what stands between the labels in a cell of a CSV file; null for the "
        "one of ; | and , that does; also space and tab",
        None,
        literal=True,
    )
    frames: int | None = positive_int(
        "of videos in class folders or a table (extra video), every so manyth frame is a picture, "
        "all of a video in one part; null leaves videos in folders out",
        None,
    )
    class_names: list[str] | None = setting(
        "for target=dense, the names of the classes 0, 1, 2, ... of masks; null for the lines of "
        "a file classes.txt beside the pictures, else background and foreground of two classes, "
        "and of more the numbers that occur",
        None,
        check=distinct,
    )
    ignore: int | None = setting(
        "for target=dense, the value in masks of pixels that no loss and no metric counts",
        None,
        at_least=0,
        at_most=255,
    )
    mask_threshold: int | None = setting(
        "for target=dense, of masks in shades of grey, the least value of foreground; null where "
        "values are classes",
        None,
        at_least=1,
        at_most=255,
    )
    mask_class: Literal["value", "folder"] = setting(
        "for target=dense, what says the class of a mask's pixels: their value, or for the "
        "foreground the name of the folder that the picture lies in",
        "value",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator is not None and self.target != "multi":
            raise ConfigError(f"separator is given, but target is {self.target}: set target=multi.")
        for key in ("class_names", "ignore", "mask_threshold"):
            if getattr(self, key) is not None and self.target != "dense":
                raise ConfigError(f"{key} is given, but target is {self.target}: set target=dense.")
        if self.mask_class == "folder" and self.target != "dense":
            raise ConfigError(f"mask_class is folder, but target is {self.target}.")
        if self.mask_class == "folder" and self.class_names is not None:
            raise ConfigError(
                "class_names is given, but mask_class=folder names classes after their folders."
            )
        if self.target == "dense" and self.frames is not None:
            raise ConfigError("frames is given, and frames of videos have no masks: leave it out.")
        if self.target == "dense" and self.pages == "all":
            raise ConfigError("pages is all, and a mask belongs to one picture: set pages=first.")


for _source in ("digits", "fashion_mnist", "mnist", "cifar10", "cifar100"):
    variant(DataSettings, f"src.data.sources.{_source}.load")(DataSettings)
