"""The MLflow model of a run, as code: MLflow keeps this file and executes it when it loads.

It imports no other module at first. The modules that predict come with the model, as a package
`src` that is visible only while it loads: the program may have a `src` of its own, or another
run's model.
"""

from __future__ import annotations

import base64
import logging
import os
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

if TYPE_CHECKING:
    from src.machine.arrays import Float32Array
    from src.serving.trust import Trust

__all__ = ["PictureClassifier"]

_PACKAGE = "src"
_logger = logging.getLogger(__name__)


class PictureClassifier(PythonModel):
    """Pictures in the column `image`; label, probability and all probabilities for each."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle among the model's artifacts.

        Raises:
            ValueError: a file of the model is not what was packed.
        """
        bundle = Path(context.artifacts["bundle"]).absolute()
        with _package_of(bundle / "code"):
            from src.data.decoding.mask_files import mask_png
            from src.serving.bundle import open_predictor
            from src.serving.bundle_files import check_packed
            from src.serving.inputs import check_request
            from src.serving.masks import class_shares, masks_of
            from src.serving.predictor import DamagedModel
            from src.serving.trust import Promise, Trust

            self._predictor = open_predictor(bundle)
            check_packed(bundle)
            self._damaged = DamagedModel
            self._promise, self._trust = Promise, Trust
            self._check_request = check_request
            self._masks_of, self._shares, self._png = masks_of, class_shares, mask_png

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Predict a table row by row.

        Args:
            model_input: the column `image`: bytes of picture files (over JSON in base64), or arrays
                (H, W) or (H, W, C) of whole numbers from 0 to 255, of any size.
            params: `coverage`, `classwise`, `max_error` and `top_k`, as `src.predict` takes them;
                None for those that are not asked for.

        Returns:
            `label`, its `probability`, and `probabilities`, those of every class by name; of a
            model that names several labels `labels` in the place of the first two. With `top_k`
            `most_probable`, the names of so many classes, the most probable first. With a
            coverage `label_set`, the names of the classes one of which is the true one; with a
            largest error `answered`, whether the label counts as an answer; of a calibrated model
            with features `novelty`, how probable so unusual a picture is among those like the
            training pictures, and `unlike`, whether it is flagged. Of a model with a class for
            every pixel `mask`, a PNG in base64, and `shares`, that of each class, and nothing else.

        Raises:
            MlflowException: names the row that is no picture, the parameter that cannot be met, or
                the fault of the model.
        """
        try:
            rows, asked = _pictures_of(model_input), dict(params or {})
            if self._predictor.kind.pixels:
                _refuse_what_labels_have(asked)
                return pd.DataFrame(self._masks(rows))
            trust, top_k = self._asked(asked), asked.get("top_k")
            if top_k is not None and top_k < 1:
                raise ValueError(f"top_k is {top_k}: it must be at least 1")
            probs, judged = self._predictor.judge(rows, trust)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        except self._damaged as error:
            raise MlflowException(str(error)) from error
        except MemoryError as error:
            raise MlflowException("there is not enough memory for these pictures") from error
        except Exception as error:
            # MLflow would send the traceback, with paths of this machine, to the client.
            _logger.exception("these pictures cannot be answered")
            raise MlflowException("these pictures cannot be answered: see the log") from error
        columns = self._labels(probs)
        if top_k is not None:
            columns["most_probable"] = self._predictor.most_probable(probs, top_k)
        if trust is not None:
            columns |= trust.table(judged)
        return pd.DataFrame(columns)

    def _masks(self, rows: Sequence[object]) -> dict[str, list[Any]]:
        """Return the columns of a model with a class for every pixel."""
        names = self._predictor.class_names
        self._check_request(rows, self._predictor.values, masks=True)
        columns: dict[str, list[Any]] = {"mask": [], "shares": []}
        for mask in self._masks_of(self._predictor, rows):  # one at a time: they are large
            columns["mask"].append(base64.b64encode(self._png(mask)).decode())
            shares = self._shares(mask, len(names)).tolist()
            columns["shares"].append(dict(zip(names, shares, strict=True)))
        return columns

    def _labels(self, probs: Float32Array) -> dict[str, list[Any]]:
        """Return the columns that every model of whole pictures has, of (N, K) probabilities."""
        names = self._predictor.class_names
        every = [dict(zip(names, map(float, row), strict=True)) for row in probs]
        if self._predictor.kind.sets:
            sets = self._predictor.label_sets(probs)
            return {"labels": [[names[k] for k in one] for one in sets], "probabilities": every}
        best = self._predictor.decided(probs).tolist()
        return {
            "label": [names[k] for k in best],
            "probability": [float(row[k]) for row, k in zip(probs, best, strict=True)],
            "probabilities": every,
        }

    def _asked(self, params: dict[str, Any]) -> Trust | None:
        """Return what judges by these parameters; None without calibration and promise.

        Raises:
            ValueError: a clause that says which one cannot be met.
        """
        promise = self._promise(
            params.get("coverage"), bool(params.get("classwise")), params.get("max_error")
        )
        certainty = self._predictor.certainty
        if certainty is None and promise == self._promise():
            return None
        return self._trust(certainty, promise)


def _refuse_what_labels_have(params: Mapping[str, Any]) -> None:
    """Raise a ValueError for parameters that masks do not have; None and False ask for nothing."""
    for name, value in params.items():
        if value is not None and value is not False:
            raise ValueError(f"{name} is about whole pictures, and here pixels have classes")


def _pictures_of(table: pd.DataFrame) -> list[Any]:
    """Return the pictures of a request.

    Of `{"inputs": {"image": [...]}}` MLflow makes a single row with the list of all files.

    Raises:
        ValueError: the list is empty.
    """
    rows = list(table["image"])
    if len(rows) == 1 and isinstance(rows[0], list):
        listed: list[Any] = rows[0]
        if not listed:
            raise ValueError("image is an empty list: it needs one picture at least")
        if all(isinstance(one, str | bytes) for one in listed):
            return listed
    return rows


class _Compiling(SourceFileLoader):
    """Compiles a module whenever it is imported: what Python keeps beside it has no digest."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


@contextmanager
def _package_of(folder: Path) -> Iterator[None]:
    """Let imports of `src` and of plugins find those of `folder`; restore modules afterwards."""
    own = {path.stem for path in folder.iterdir()} | {_PACKAGE}
    others = _taken_out(own)
    finder = _finder(str(folder))
    sys.path.insert(0, str(folder))
    sys.path_hooks.insert(0, finder)
    try:
        yield
    finally:
        sys.path_hooks.remove(finder)
        sys.path.remove(str(folder))
        _taken_out(own)
        sys.modules.update(others)


def _finder(folder: str) -> Callable[[str], FileFinder]:
    """Return what finds the modules in a folder and below it, for `sys.path_hooks`."""
    inside = os.path.join(folder, "")
    for path in [path for path in sys.path_importer_cache if f"{path}{os.sep}".startswith(inside)]:
        del sys.path_importer_cache[path]  # of an earlier import, by Python's own finder

    def find(path: str) -> FileFinder:
        if not f"{path}{os.sep}".startswith(inside):
            raise ImportError(path)
        return FileFinder(path, (_Compiling, SOURCE_SUFFIXES))

    return find


def _taken_out(packages: Container[str]) -> dict[str, Any]:
    names = [name for name in sys.modules if name.partition(".")[0] in packages]
    return {name: sys.modules.pop(name) for name in names}


def _forget_compiled() -> None:
    """Remove what Python has just compiled of this file, and would run the next time unseen."""
    if __spec__ is not None and __spec__.cached is not None:
        with suppress(OSError):
            Path(__spec__.cached).unlink()


_forget_compiled()
set_model(PictureClassifier())
