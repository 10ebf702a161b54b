"""A bundle as a model of MLflow: its signature, an example, and what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

__all__ = ["pack"]


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
    pyfunc.save_model(
        target,
        python_model=str(bundle / "code" / "src" / "serving" / "mlflow_model.py"),
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
