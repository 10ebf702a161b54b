"""A bundle as a model of MLflow: its signature, an example, and what it needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..storage.digests import checked_line, file_digest
from ..storage.files import write_atomically

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

__all__ = ["BUNDLE", "CODE_FILE", "CONTENTS", "pack"]

# In a packed model: the folder of its bundle, and the digests of all files, as MLflow keeps none.
BUNDLE = "artifacts"
CONTENTS = "digests.json"
# In a bundle: what MLflow also copies beside it, and loads.
CODE_FILE = Path("code", "src", "serving", "mlflow_model.py")


def pack(bundle: Path, target: Path, model: LoggedModel) -> None:
    """Write a bundle as MLflow stores `model`: code and safetensors, nothing that is pickled."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import (
        AnyType,
        Array,
        ColSpec,
        DataType,
        Map,
        ParamSchema,
        ParamSpec,
        Schema,
    )

    metadata = json.loads((bundle / "passport.json").read_bytes())
    answers: dict[str, DataType | Map | Array] = {
        "label": DataType.string,
        "probability": DataType.double,
    }
    labelled_with = metadata.get("settings", {}).get("data", {}).get("target")
    if labelled_with == "multi":
        answers = {"labels": Array(DataType.string)}
    if labelled_with == "dense":
        answers = {"mask": DataType.string, "shares": Map(DataType.double)}
    else:
        answers["probabilities"] = Map(DataType.double)
    questions = (
        ("coverage", DataType.double, None),
        ("classwise", DataType.boolean, False),
        ("max_error", DataType.double, None),
        ("top_k", DataType.long, None),
    )
    signature = ModelSignature(
        # Bytes or an array of any size: MLflow has no type for either-or.
        inputs=Schema([ColSpec(AnyType(), "image")]),
        outputs=Schema([ColSpec(kind, name) for name, kind in answers.items()]),
        params=ParamSchema([ParamSpec(*one) for one in questions]),
    )
    # MLflow executes the code. What Python has compiled beside it has no digest, and stays there.
    code = Path(shutil.copyfile(bundle / CODE_FILE, target.parent / CODE_FILE.name))
    pyfunc.save_model(
        target,
        python_model=str(code),
        artifacts={"bundle": bundle.as_uri()},
        pip_requirements=(bundle / "requirements.txt").read_text().split(),
        signature=signature,
        input_example=pd.DataFrame({"image": [next(bundle.glob("example.*")).read_bytes()]}),
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=model.source_run_id,
            model_id=model.model_id,
        ),
    )
    for compiled in [*target.rglob("__pycache__")]:
        shutil.rmtree(compiled)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    digests = {path.relative_to(target).as_posix(): file_digest(path) for path in files}
    write_atomically(target / CONTENTS, checked_line({"files": digests, "bundle": str(bundle)}))
