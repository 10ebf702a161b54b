"""The classifier on features, from pictures to probabilities, and its file.

The file is of skops' format: arrays and names of classes, no pickle. Only what a model of this
project is made of is read back; anything else is refused before it is built.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..machine.arrays import BoolArray, Float32Array, IntegerArray
from ..machine.hardware import device_of_run
from ..machine.imports import import_object, is_allowed
from ..records.pictures import Pixels
from ..storage.array_files import array_header
from ..storage.files import write_atomically
from .binary import BinaryModels
from .calibration import CalibratedModel
from .fusion import Extractor, extractors_of
from .pixels import PixelFeatures, blocks_of

__all__ = ["FeatureClassifier", "check_trees", "numbers_in"]

_FORMAT = 2
_METADATA = "passport"  # the key that the files of users have
# Each costs a classifier up to a kilobyte meanwhile.
_PIXELS_AT_ONCE = 100_000
_STEPS = {
    *("BlockScaler", "KeepBest", "PCA", "PartWhitening", "Normalizer"),
    *("LinearSVC", "RbfMachine", "LogisticRegression", "NearestMean", "RidgeClassifier"),
    *("RandomForestClassifier", "HistGradientBoostingClassifier", "KNeighborsClassifier"),
}
# In files the project is called `src`, whatever this package is called.
_OWN, _PACKAGE = "src", __name__.partition(".")[0]
# What skops does not take for harmless by itself.
_TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.linear_model._ridge.RidgeClassifier",
    "sklearn.preprocessing._data.Normalizer",
    "sklearn.preprocessing._label.LabelBinarizer",
    f"{_PACKAGE}.features.means.NearestMean",
    f"{_PACKAGE}.features.scaling.BlockScaler",
    f"{_PACKAGE}.features.scaling.PartWhitening",
    f"{_PACKAGE}.features.selection.KeepBest",
    f"{_PACKAGE}.features.rbf.RbfMachine",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
)


@dataclass(frozen=True, eq=False)
class FeatureClassifier:
    """A fitted model together with the extractors of its features.

    Attributes:
        extractors, model: the features that the fitted model takes, one after another.
        metadata: plain containers: settings of the run, `class_names`, `image_size`, `channels`,
            and `pixels`, the arguments of `PixelFeatures`, of a model of single pixels.
    """

    extractors: tuple[Extractor, ...]
    model: CalibratedModel | BinaryModels
    metadata: dict[str, Any]

    @property
    def of_pixels(self) -> bool:
        """Whether each pixel has features and probabilities of its own."""
        return "pixels" in self.metadata

    def __call__(self, images: Pixels) -> Float32Array:
        """Return (N, K) float32 of pictures (N, C, H, W), N at least 1; of pixels (N, K, H, W)."""
        if self.of_pixels:
            return np.stack([self._of_pixels(picture) for picture in images])
        return self.describe(images)[0]

    def _of_pixels(self, picture: Pixels) -> Float32Array:
        """Return (K, H, W) of a picture (C, H, W), block by block."""
        extractor = self.extractors[0]
        assert isinstance(extractor, PixelFeatures)
        classes = len(self.metadata["class_names"])
        probs = np.empty((classes, *picture.shape[1:]), np.float32)
        for rows, columns in blocks_of(*picture.shape[1:]):
            features = extractor.of_block(picture, rows, columns)
            flat = features.reshape(-1, features.shape[-1])
            parts = range(0, len(flat), _PIXELS_AT_ONCE)
            found = [self.model.probabilities(flat[i : i + _PIXELS_AT_ONCE]) for i in parts]
            probs[:, rows, columns] = np.concatenate(found).T.reshape(-1, *features.shape[:2])
        return probs

    def describe(self, images: Pixels) -> tuple[Float32Array, Float32Array]:
        """Return probabilities (N, K) and features (N, F), float32, of pictures (N, C, H, W)."""
        features = self.features(images)
        return self.model.probabilities(features), features

    def features(self, images: Pixels) -> Float32Array:
        """Return features (N, F) float32 of pictures (N, C, H, W)."""
        found = np.concatenate([extractor(images) for extractor in self.extractors], axis=1)
        return found.astype(np.float32, copy=False)

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        skops_io = _skops_io()
        networks: list[Any] = [e for e in self.extractors if hasattr(e, "weights")]
        content = {
            "format": _FORMAT,
            _METADATA: json.dumps(self.metadata),
            "networks": json.dumps([network.metadata for network in networks]),
            "weights": [network.weights() for network in networks],
        }
        if isinstance(self.model, BinaryModels):
            content |= {"kind": self.model.kind, "problems": self.model.plain()}
        else:
            content |= {**self.model.plain(), "classes": self.model.classes}
        write_atomically(path, _renamed(skops_io.dumps(content), _PACKAGE, _OWN))

    @classmethod
    def load(cls, path: Path) -> FeatureClassifier:
        """Read what `save` wrote; runs no code of the file.

        Raises:
            ValueError: the file is missing, damaged, or holds anything else.
        """
        content = _content(path)
        try:
            metadata = json.loads(content[_METADATA])
            model: CalibratedModel | BinaryModels
            if "problems" in content:
                model = BinaryModels.restored(content["kind"], content["problems"])
            else:
                classes, count = np.asarray(content["classes"]), len(metadata["class_names"])
                model = CalibratedModel.restored(content, classes, count)
            extractors = _extractors(metadata, content)
            for pipeline in _pipelines(content):
                check_trees(pipeline.steps[-1][1])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not the model of a run: {error!r}") from error
        return cls(tuple(extractors), model, metadata)


def numbers_in(path: Path) -> int:
    """Return how many numbers the arrays of a saved model hold: thresholds, weights, pictures."""
    count = 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as stream:
                    shape, dtype = array_header(stream)
                count += math.prod(shape) * max(1, len(dtype.names or ()))
    return count


def _renamed(content: bytes, old: str, new: str) -> bytes:
    """Return a file of skops' format with a package's modules under another name."""
    if old == new:
        return content
    renamed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(renamed, "w") as out:
        for entry in archive.infolist():
            data = archive.read(entry)
            if entry.filename == "schema.json":
                key = '"__module__": "'
                data = data.replace(f"{key}{old}.".encode(), f"{key}{new}.".encode())
            out.writestr(entry, data)
    return renamed.getvalue()


def _skops_io() -> Any:
    """Return the module `skops.io`, imported without torch.

    skops looks for estimators in every package of scikit-learn. One of these is for torch's tensors
    and imports it, which takes longer than all else that a classifier needs.
    """
    of_torch = "sklearn.externals.array_api_compat.torch"
    sys.modules.setdefault(of_torch, None)  # type: ignore[arg-type]  # None is taken for missing
    try:
        import skops.io
    finally:
        if sys.modules[of_torch] is None:
            del sys.modules[of_torch]
    return skops.io


def _content(path: Path) -> dict[str, Any]:
    skops_io = _skops_io()
    try:
        stored = _renamed(path.read_bytes(), _OWN, _PACKAGE)
        if not stored:
            raise ValueError(f"{path} cannot be read as a model: it is empty")
        unknown = set(skops_io.get_untrusted_types(data=stored)) - set(_TRUSTED)
        plugins = {name for name in unknown if is_allowed(name)}
        if unknown - plugins:
            held = ", ".join(sorted(unknown - plugins))
            raise ValueError(f"{path} holds {held}, so it is not loaded")
        content = skops_io.loads(stored, trusted=[*_TRUSTED, *plugins])
        pipelines = _pipelines(content)
        made_by = json.loads(content[_METADATA]).get("classifier_target")
    except FileNotFoundError:
        raise ValueError(f"there is no model {path}") from None
    except ValueError:
        raise
    # zipfile, json and skops each have words of their own for a damaged file.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a model: {error!r}") from error
    steps = [[type(step) for _, step in pipeline.steps] for pipeline in pipelines]
    if made_by is not None:
        import_object(made_by)  # refused unless its plugin is allowed
        for own in steps:
            own.pop()  # whatever the plugin's estimator is, skops takes all in it for harmless
    strange = [step for own in steps for step in own if step.__name__ not in _STEPS]
    if strange or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not the model of a run")
    return content


def _pipelines(content: dict[str, Any]) -> list[Any]:
    """Return the fitted pipelines in a file: one, or one of each binary problem that has one."""
    if "problems" not in content:
        return [content["pipeline"]]
    return [one["pipeline"] for one in content["problems"] if "constant" not in one]


def _extractors(metadata: dict[str, Any], content: dict[str, Any]) -> Sequence[Extractor]:
    if "pixels" in metadata:
        return [PixelFeatures(**metadata["pixels"])]
    networks = json.loads(content["networks"])
    if not networks:
        settings = metadata["settings"]["model"]
        return extractors_of(settings["features"], settings, metadata.get("descriptors"))
    from .embedding import NetworkFeatures

    device = device_of_run(metadata)
    pairs = zip(networks, content["weights"], strict=True)
    return [NetworkFeatures.restored(metadata, weights, device) for metadata, weights in pairs]


def check_trees(classifier: Any) -> None:
    """Check that every walk down a tree ends and stays within its arrays.

    Args:
        classifier: a random forest or gradient boosting of scikit-learn; others have no trees.

    Raises:
        ValueError: a branch leads back or outside, or tests a feature that does not exist.
    """
    count = getattr(classifier, "n_features_in_", 0)  # what a prediction insists on
    for estimator in getattr(classifier, "estimators_", ()):
        tree = estimator.tree_
        inner = tree.children_left != -1
        _check_tree(inner, tree.children_left, tree.children_right, tree.feature, count)
    for predictors in getattr(classifier, "_predictors", ()):
        for predictor in predictors:
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            if nodes["is_categorical"].any():
                raise ValueError("a tree tests categories, which features do not have")
            _check_tree(inner, nodes["left"], nodes["right"], nodes["feature_idx"], count)


def _check_tree(
    inner: BoolArray,
    left: IntegerArray,
    right: IntegerArray,
    feature: IntegerArray,
    features: int,
) -> None:
    own = np.flatnonzero(inner)
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        # Children come after their parents, in the order in which trees grow.
        if not ((child > own) & (child < len(inner))).all():
            raise ValueError("a branch of a tree leads nowhere")
    asked = feature[inner].astype(np.int64)
    if not ((asked >= 0) & (asked < features)).all() or not len(inner):
        raise ValueError("a tree tests a feature that does not exist")
