"""A run's model in MLflow's registry: a version of a registered model, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

__all__ = ["register"]

_LONGEST_DESCRIPTION = 5000  # what databases that check it have room for
_CUT = "\n\n[cut here: the whole card is model_card.md among the run's artifacts]\n"
# Where MLflow's page of a model looks for the versions that it is.
_VERSIONS_TAG = "mlflow.modelVersions"


def register(client: MlflowClient, model: LoggedModel, name: str, card: str) -> str:
    """Make `model` a version of the registered model `name`, unless it is one; returns its number.

    Args:
        client: of the database or server that has the model.
        model: complete.
        name: of the registered model, which is made where it is missing.
        card: Markdown, the version's description.

    Raises:
        Exception: MLflow has many.
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


def _cut(card: str) -> str:
    """The card's beginning, up to a line's end, where it is too long."""
    if len(card) <= _LONGEST_DESCRIPTION:
        return card
    return card[: _LONGEST_DESCRIPTION - len(_CUT)].rpartition("\n")[0] + _CUT
