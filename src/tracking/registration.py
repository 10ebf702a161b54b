"""Versions of registered models in MLflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

__all__ = ["LONGEST_DESCRIPTION", "register_version"]

LONGEST_DESCRIPTION = 5000  # of a version, in databases that check it
_CUT = "\n\n[cut here: the whole card is model_card.md among the run's artifacts]\n"
_ABOUT_MODEL = (
    "An image classifier that Bakeoff chose, for pictures of one data set. The alias `champion` is "
    "the version that was chosen last. The description of each version is its model card: what it "
    "was trained on, how it was chosen, how good it is and how to use it."
)
# Where MLflow's page of a model looks for its versions.
_VERSIONS_TAG = "mlflow.modelVersions"


def register_version(client: MlflowClient, model: LoggedModel, name: str, card: str) -> str:
    """Make `model` a version of the registered model `name`, unless it is one; return it."""
    from mlflow.exceptions import MlflowException

    if card.startswith("---\n"):  # which the Hugging Face hub reads, and is no text
        card = card.partition("\n---\n")[2]
    if len(card) > LONGEST_DESCRIPTION:
        card = card[: LONGEST_DESCRIPTION - len(_CUT)].rpartition("\n")[0] + _CUT
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
