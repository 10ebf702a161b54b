"""A bundle as a logged model of MLflow: packed with what it needs, and registered as a version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.digests import checked_line, file_digest
from ..storage.files import write_atomically

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

__all__ = [
    "BUNDLE",
    "CODE_FILE",
    "CONTENTS",
    "LONGEST_DESCRIPTION",
    "pack",
    "register_version",
]

# In a packed model: the folder of its bundle, and the digests of all files, as MLflow keeps none.
BUNDLE = "artifacts"
CONTENTS = "digests.json"
# In a bundle: what MLflow also copies beside it, and loads.
CODE_FILE = Path("code", "src", "serving", "mlflow_model.py")

LONGEST_DESCRIPTION = 5000  # of a version, in databases that check it
_CARD_CUT = "\n\n[cut here: the whole card is model_card.md among the run's artifacts]\n"
_ABOUT_MODEL = (
    "An image classifier that Bakeoff chose, for pictures of one data set. The alias `champion` is "
    "the version that was chosen last. The description of each version is its model card: what it "
    "was trained on, how it was chosen, how good it is and how to use it."
)
# Where MLflow's page of a model looks for its versions.
_VERSIONS_TAG = "mlflow.modelVersions"


def pack(bundle: Path, target: Path, model: LoggedModel) -> None:
    """Write a bundle as MLflow stores `model`: code and safetensors, nothing that is pickled."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    # MLflow executes the code. What Python has compiled beside it has no digest, and stays there.
    code = Path(shutil.copyfile(bundle / CODE_FILE, target.parent / CODE_FILE.name))
    pyfunc.save_model(
        target,
        python_model=str(code),
        artifacts={"bundle": bundle.as_uri()},
        pip_requirements=(bundle / "requirements.txt").read_text().split(),
        signature=_signature(json.loads((bundle / "passport.json").read_bytes())),
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


def _signature(metadata: Mapping[str, Any]) -> ModelSignature:
    """Return what a model with this metadata is asked, and how it answers."""
    from mlflow.models import ModelSignature
    from mlflow.types import schema

    kinds = schema.DataType
    answers: dict[str, Any] = {"label": kinds.string, "probability": kinds.double}
    labelled_with = metadata.get("settings", {}).get("data", {}).get("target")
    if labelled_with == "multi":
        answers = {"labels": schema.Array(kinds.string)}
    if labelled_with == "dense":
        answers = {"mask": kinds.string, "shares": schema.Map(kinds.double)}
    else:
        answers["probabilities"] = schema.Map(kinds.double)
    questions = (
        ("coverage", kinds.double, None),
        ("classwise", kinds.boolean, False),
        ("max_error", kinds.double, None),
        ("top_k", kinds.long, None),
    )
    return ModelSignature(
        # Bytes or an array of any size: MLflow has no type for either-or.
        inputs=schema.Schema([schema.ColSpec(schema.AnyType(), "image")]),
        outputs=schema.Schema([schema.ColSpec(kind, name) for name, kind in answers.items()]),
        params=schema.ParamSchema([schema.ParamSpec(*one) for one in questions]),
    )


def register_version(client: MlflowClient, model: LoggedModel, name: str, card: str) -> str:
    """Make `model` a version of the registered model `name`, unless it is one; return it."""
    from mlflow.exceptions import MlflowException

    if card.startswith("---\n"):  # which the Hugging Face hub reads, and is no text
        card = card.partition("\n---\n")[2]
    if len(card) > LONGEST_DESCRIPTION:
        card = card[: LONGEST_DESCRIPTION - len(_CARD_CUT)].rpartition("\n")[0] + _CARD_CUT
    try:
        client.create_registered_model(name, description=_ABOUT_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    own = f"name = '{name}' AND run_id = '{model.source_run_id}'"
    known = [v for v in client.search_model_versions(own) if v.source == model.artifact_location]
    if known:
        version = str(known[0].version)
        client.update_model_version(name, version, description=card)
        return version
    made = client.create_model_version(
        name,
        # Not models:/ID, which a local registry looks up in whatever database is MLflow's default.
        model.artifact_location,
        run_id=model.source_run_id,
        model_id=model.model_id,
        description=card,
    )
    versions = json.loads(model.tags.get(_VERSIONS_TAG, "[]"))
    entry = {"name": name, "version": str(made.version)}
    if entry not in versions:  # a server has noted it itself
        tags = {_VERSIONS_TAG: json.dumps([*versions, entry])}
        client.set_logged_model_tags(model.model_id, tags)
    return str(made.version)
