"""A client of MLflow's tracking and registry whose errors say whether trying again can help.

Importing this module is cheap; MLflow, which takes seconds, is imported by the first `Store`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .addresses import sqlite_path, without_password
from .database import artifacts_of, limit_retries, make_database, remove_decoy
from .mlflow_pages import view_tags
from .packing import pack

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric, Param, Run, RunTag
    from mlflow.tracking import MlflowClient

__all__ = ["LONGEST_DESCRIPTION", "NoSuchExperiment", "Rejected", "ServerAway", "Store"]

# MLflow's codes of requests that will never succeed; others may.
_FINAL = {
    "INVALID_PARAMETER_VALUE",
    "BAD_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
}
_MODEL_TAG = "bakeoff.model"
# One attempt of ten seconds: the caller, which has other work, decides when to try again.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_TRUNCATE_LONG_VALUES": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_RUNS_A_PAGE = 1000
LONGEST_DESCRIPTION = 5000  # of a version, in databases that check it
_CUT = "\n\n[cut here: the whole card is model_card.md among the run's artifacts]\n"
_ABOUT_MODEL = (
    "An image classifier that Bakeoff chose, for pictures of one data set. The alias `champion` is "
    "the version that was chosen last. The description of each version is its model card: what it "
    "was trained on, how it was chosen, how good it is and how to use it."
)
# Where MLflow's page of a model looks for its versions.
_VERSIONS_TAG = "mlflow.modelVersions"


class ServerAway(Exception):
    """The database or server cannot take this now, but perhaps later."""


class Rejected(Exception):
    """The database or server will never take this."""


class NoSuchExperiment(Rejected):
    """There is no experiment of this name."""


class Store:
    """One tracking database or server, of an absolute URI.

    A missing SQLite file is created with its schema; see `make_database`.

    Raises:
        ServerAway: the database cannot be opened or made.
    """

    def __init__(self, uri: str) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self._database = sqlite_path(uri)
        self._experiments: dict[str, str] = {}
        with self._translated():
            from mlflow.tracking import MlflowClient

            limit_retries()
            if self._database is not None:
                make_database(self._database)
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if self._database is not None:
            remove_decoy(uri, self._database)

    def find(self, run_id: str) -> str | None:
        """Return the MLflow id of the run with the project's id `run_id`, or None."""
        with self._translated():
            experiments = [e.experiment_id for e in self._client.search_experiments()]
            condition = f"tags.`bakeoff.run_id` = '{run_id}'"
            runs = self._client.search_runs(experiments, condition, max_results=1)
        return runs[0].info.run_id if runs else None

    def search(self, experiment: str | None, condition: str) -> list[Path]:
        """Return the run folders of an experiment, or of all, that satisfy a filter; newest first.

        The condition is as `MlflowClient.search_runs` takes it; empty for every run.

        Raises:
            NoSuchExperiment: there is none of this name.
            Rejected: MLflow does not understand the condition.
            ServerAway: not now.
        """
        found: list[Path] = []
        with self._translated():
            known = {e.name: e.experiment_id for e in self._client.search_experiments()}
            if experiment is not None and experiment not in known:
                there = ", ".join(sorted(known)) or "none"
                raise NoSuchExperiment(f"there is none in MLflow but {there}")
            places = list(known.values()) if experiment is None else [known[experiment]]
            token: str | None = None
            while page := self._client.search_runs(
                places, condition, max_results=_RUNS_A_PAGE, page_token=token
            ):
                noted = (run.data.tags.get("bakeoff.run_dir") for run in page)
                found += [Path(run_dir) for run_dir in noted if run_dir is not None]
                token = page.token
                if not token:
                    break
        return found

    def stage(self, mlflow_run_id: str) -> str | None:
        """Return "active", "deleted", or None for a run that does not exist (any more)."""
        try:
            with self._translated():
                return str(self._client.get_run(mlflow_run_id).info.lifecycle_stage)
        except Rejected:
            return None

    def create_run(
        self, *, experiment: str, name: str, start_time_ms: int, tags: Mapping[str, str]
    ) -> str:
        """Create a run, and its experiment where that is missing; return the run's MLflow id.

        Raises:
            Rejected: the experiment was deleted in MLflow.
            ServerAway: not now.
        """
        with self._translated():
            run = self._client.create_run(
                self._experiment_id(experiment),
                start_time=start_time_ms,
                tags=dict(tags),
                run_name=name[:250],  # the width of the column in databases that check it
            )
        return str(run.info.run_id)

    def log(
        self,
        mlflow_run_id: str,
        metrics: Sequence[Metric],
        params: Sequence[Param],
        tags: Sequence[RunTag],
    ) -> None:
        """Log one batch within MLflow's limits; entries that exist already are not doubled."""
        with self._translated():
            self._client.log_batch(mlflow_run_id, metrics, params, tags)

    def log_dataset(self, mlflow_run_id: str, event: Mapping[str, Any]) -> None:
        """Log a `dataset` event of a spool as the run's dataset input."""
        with self._translated():
            from mlflow.entities import Dataset, DatasetInput, InputTag

            dataset = Dataset(
                name=event["name"][:500],
                digest=event["digest"],
                source_type="local",
                source=json.dumps({"uri": event["source"]}),
                profile=json.dumps(event["profile"]),
            )
            tags = [InputTag("mlflow.data.context", event["context"])]
            self._client.log_inputs(mlflow_run_id, datasets=[DatasetInput(dataset, tags)])

    def log_artifact(self, mlflow_run_id: str, path: Path, folder: str) -> None:
        """Log a file, or a folder with its content; one of the same name is replaced."""
        with self._translated():
            if path.is_dir():
                inside = f"{folder}/{path.name}" if folder else path.name
                self._client.log_artifacts(mlflow_run_id, str(path), inside)
            else:
                self._client.log_artifact(mlflow_run_id, str(path), folder or None)

    def log_model(self, mlflow_run_id: str, bundle: Path, digest: str, name: str = "model") -> None:
        """Log the bundle as a model of the run, once; an interrupted call is completed.

        A bundle with another digest has replaced it since, and is logged in a call of its own.

        Raises:
            Rejected: the bundle cannot be packed.
            ServerAway: not now.
        """
        if _digest(bundle) != digest:
            return
        with self._translated():
            from mlflow.entities import LoggedModelOutput, LoggedModelStatus

            run = self._client.get_run(mlflow_run_id)
            model = self._logged(run, digest) or self._client.create_logged_model(
                run.info.experiment_id,
                name=name,
                source_run_id=mlflow_run_id,
                tags={_MODEL_TAG: digest},
                model_type="image classifier",
            )
            if model.status == LoggedModelStatus.READY:
                return
            with tempfile.TemporaryDirectory() as folder:
                packed = Path(folder) / "model"
                _pack(bundle, packed, model)
                self._client.log_model_artifacts(model.model_id, str(packed))
            outputs = run.outputs.model_outputs if run.outputs else []
            if model.model_id not in [output.model_id for output in outputs]:
                output = LoggedModelOutput(model.model_id, step=0)
                self._client.log_outputs(mlflow_run_id, [output])
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def register(
        self, mlflow_run_id: str, name: str, digest: str, card: str, alias: str | None
    ) -> str:
        """Make the model of a bundle a version of a registered model, once; return the number.

        The description is the card, cut at the end of a line where it is too long.

        Raises:
            Rejected: MLflow refuses it.
            ServerAway: not now, or the model itself is not there yet.
        """
        with self._translated():
            from mlflow.entities import LoggedModelStatus

            model = self._logged(self._client.get_run(mlflow_run_id), digest)
            if model is None or model.status != LoggedModelStatus.READY:
                raise ServerAway("the model itself is not there yet")
            version = _registered(self._client, model, name, card)
            if alias is not None:
                self._client.set_registered_model_alias(name, alias, version)
            return version

    def resume(self, mlflow_run_id: str, ended: str | None = None) -> None:
        """Set the run to RUNNING, without the reason of an earlier end.

        A run that has `ended` with this status, to which something is added, goes on showing it.
        """
        with self._translated():
            run = self._client.get_run(mlflow_run_id)
            if run.info.status == ended and run.info.lifecycle_stage == "active":
                return
            self._client.update_run(mlflow_run_id, status="RUNNING")
            if "bakeoff.reason" in run.data.tags:
                self._client.delete_tag(mlflow_run_id, "bakeoff.reason")

    def finish(self, mlflow_run_id: str, status: str, end_time_ms: int) -> None:
        """Set the run's status and end time."""
        with self._translated():
            self._client.set_terminated(mlflow_run_id, status, end_time_ms)

    def _logged(self, run: Run, digest: str) -> LoggedModel | None:
        """Return the run's model from the bundle with this digest, or None."""
        found = self._client.search_logged_models(
            [run.info.experiment_id],
            f"source_run_id = '{run.info.run_id}' AND tags.`{_MODEL_TAG}` = '{digest}'",
        )
        return found[0] if found else None

    def _experiment_id(self, name: str) -> str:
        if name in self._experiments:
            return self._experiments[name]
        from mlflow.exceptions import MlflowException

        # Of several processes that find it missing, one creates it and the others then find it.
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                # A server has a place of its own for artifacts.
                place = None if self._database is None else artifacts_of(self._database)
                self._client.create_experiment(name, artifact_location=place, tags=view_tags())
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self._client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            raise Rejected(
                f"the experiment {name!r} was deleted in MLflow: restore it there, "
                "or choose another with tracking.experiment=NAME"
            )
        self._experiments[name] = str(experiment.experiment_id)
        return self._experiments[name]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (Rejected, ServerAway):
            raise
        except Exception as error:
            # Databases, HTTP and artifact stores have many exceptions of their own.
            if getattr(error, "error_code", None) in _FINAL:
                raise Rejected(_plain(error)) from error
            raise ServerAway(_plain(error)) from error


def _registered(client: MlflowClient, model: LoggedModel, name: str, card: str) -> str:
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


def _digest(bundle: Path) -> str:
    try:
        return (bundle / "digest.txt").read_text().strip()
    except OSError as error:
        raise Rejected(f"{bundle} is not whole: {error.strerror}") from error


def _pack(bundle: Path, target: Path, model: LoggedModel) -> None:
    try:
        pack(bundle, target, model)
    except OSError as error:
        if bundle.is_dir() and not isinstance(error, FileNotFoundError):
            raise  # a full disk may be emptied
        raise Rejected(f"{bundle} is not whole: {error}") from error
    except Exception as error:
        raise Rejected(f"{bundle} cannot be packed: {_plain(error)}") from error


def _plain(error: Exception) -> str:
    """Return one line for the user: MLflow wraps a missing connection in four other errors."""
    from requests.exceptions import ConnectionError, Timeout

    match error.__context__:
        case Timeout():
            return "no answer in time"
        case ConnectionError():
            return "no connection"
    if "error code 401" in str(error):
        return (
            "it asks who is there: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, in the environment"
        )
    return without_password(str(error).strip().partition("\n")[0])[:300] or type(error).__name__
