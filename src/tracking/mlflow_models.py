"""A run's bundle (src/serving/bundle.py) as a folder in MLflow's format, packed by MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

__all__ = ["pack"]


def pack(bundle: Path, target: Path, *, model_id: str, run_id: str | None, place: str) -> None:
    """Write the MLflow model of a bundle to a folder that is not there yet.

    The model is code beside weights in safetensors: nothing in it is pickled.

    Args:
        model_id, run_id: of MLflow.
        place: URI of where the model will lie.

    Raises:
        Exception: what is in the bundle is not whole; MLflow has many.
    """
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    pyfunc.save_model(
        target,
        python_model=str(bundle / "code" / "src" / "serving" / "mlflow_model.py"),
        artifacts={"bundle": bundle.as_uri()},
        pip_requirements=(bundle / "requirements.txt").read_text().split(),
        signature=_signature(),
        input_example=pd.DataFrame({"image": [(bundle / "example.png").read_bytes()]}),
        mlflow_model=Model(
            artifact_path=place, model_uuid=model_id, run_id=run_id, model_id=model_id
        ),
    )


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Map, Schema

    return ModelSignature(
        # Bytes or an array of any size: MLflow has no type for either-or.
        inputs=Schema([ColSpec(AnyType(), "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "label"),
                ColSpec(DataType.double, "probability"),
                ColSpec(Map(DataType.double), "probabilities"),
            ]
        ),
    )
