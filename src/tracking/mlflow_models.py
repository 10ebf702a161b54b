"""Bundles (src/serving/bundle.py) as models of MLflow: packed, and registered as versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

__all__ = ["LONGEST_DESCRIPTION", "pack", "register"]

LONGEST_DESCRIPTION = 5000  # of a version, in databases that check it
_CUT = "\n\n[cut here: the whole card is model_card.md among the run's artifacts]\n"
# Where MLflow's page of a model looks for its versions.
_VERSIONS_TAG = "mlflow.modelVersions"


def pack(bundle: Path, target: Path, *, model_id: str, run_id: str | None, place: str) -> None:
    """Write the MLflow model of a bundle to a folder that does not exist.

    The model is code beside weights in safetensors: nothing in it is pickled.

    Args:
        bundle: its folder.
        target: the folder to write.
        model_id, run_id: of MLflow.
        place: URI under which the model will be stored.

    Raises:
        Exception: of any kind, as MLflow raises, if the bundle is not complete.
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


def register(client: MlflowClient, model: LoggedModel, name: str, card: str) -> str:
    """Make `model` a version of the registered model `name`, unless it is one; return the number.

    Args:
        client: of the database or server that has the model.
        model: complete.
        name: of the registered model, which is created where it is missing.
        card: Markdown, the version's description.

    Raises:
        Exception: of any kind, as MLflow raises.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    own = f"name = '{name}' AND run_id = '{model.source_run_id}'"
    known = [v for v in client.search_model_versions(own) if v.source == model.artifact_location]
    if known:
        version = str(known[0].version)
        client.update_model_version(name, version, description=_cut(card))
        return version
    made = client.create_model_version(
        name,
        # Not models:/ID, which a local registry looks up in whatever database is MLflow's default.
        model.artifact_location,
        run_id=model.source_run_id,
        model_id=model.model_id,
        description=_cut(card),
    )
    versions = json.loads(model.tags.get(_VERSIONS_TAG, "[]"))
    entry = {"name": name, "version": str(made.version)}
    if entry not in versions:  # a server has noted it itself
        tags = {_VERSIONS_TAG: json.dumps([*versions, entry])}
        client.set_logged_model_tags(model.model_id, tags)
    return str(made.version)


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import (
        AnyType,
        ColSpec,
        DataType,
        Map,
        ParamSchema,
        ParamSpec,
        Schema,
    )

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
        params=ParamSchema(
            [
                ParamSpec("coverage", DataType.double, None),
                ParamSpec("classwise", DataType.boolean, False),
                ParamSpec("max_error", DataType.double, None),
            ]
        ),
    )


def _cut(card: str) -> str:
    """Return the card, cut at the end of a line where it is too long."""
    if len(card) <= LONGEST_DESCRIPTION:
        return card
    return card[: LONGEST_DESCRIPTION - len(_CUT)].rpartition("\n")[0] + _CUT
