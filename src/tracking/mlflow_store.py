"""A client of MLflow's tracking and registry whose errors say whether trying again can help.

Importing this module is cheap; MLflow, which takes seconds, is imported by the first `Store`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.package import command
from ..machine.text import encodable
from .addresses import sqlite_path, without_password
from .logged_models import pack, register_version
from .mlflow_database import (
    artifacts_of,
    drop_connections,
    find_artifacts,
    limit_retries,
    make_database,
    remove_decoy,
)
from .mlflow_pages import METRIC_TAG, view_tags

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric, Param, Run, RunTag

__all__ = [
    "MLFLOW_PARENT_TAG",
    "PARENT_TAG",
    "NoSuchExperiment",
    "Rejected",
    "ServerAway",
    "Store",
    "Unsupported",
]

# The project's own id of a parent that MLflow did not have yet, and MLflow's id of the parent.
PARENT_TAG, MLFLOW_PARENT_TAG = "bakeoff.parent_run_id", "mlflow.parentRunId"

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
_A_PAGE = 1000


class ServerAway(Exception):
    """The database or server cannot take this now, but perhaps later."""


class Rejected(Exception):
    """The database or server will never take this."""


class Unsupported(Rejected):
    """The server is of an earlier version of MLflow, which cannot take this; a later one can."""


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
                drop_connections(uri)
                find_artifacts(self._database)
            self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if self._database is not None:
            remove_decoy(uri, self._database)

    def find(self, run_id: str) -> str | None:
        """Return the MLflow id of the run with the project's id `run_id`, or None."""
        with self._translated():
            condition = f"tags.`bakeoff.run_id` = '{run_id}'"
            experiments = [*self._experiments_there().values()]
            runs = self._client.search_runs(experiments, condition, max_results=1)
        return runs[0].info.run_id if runs else None

    def adopt(self, mlflow_run_id: str, run_id: str) -> None:
        """Put the runs that came before their parent, tagged with its `run_id`, below it."""
        with self._translated():
            condition = f"tags.`{PARENT_TAG}` = '{run_id}'"
            places = [*self._experiments_there().values()]
            for run in _every_page(self._client.search_runs, places, condition):
                self._client.set_tag(run.info.run_id, MLFLOW_PARENT_TAG, mlflow_run_id)

    def search(self, experiment: str | None, condition: str) -> list[Path]:
        """Return the run folders of an experiment, or of all, that satisfy a filter; newest first.

        The condition is as `MlflowClient.search_runs` takes it; empty for every run.

        Raises:
            NoSuchExperiment: there is none of this name.
            Rejected: MLflow does not understand the condition.
            ServerAway: not now.
        """
        with self._translated():
            known = self._experiments_there()
            if experiment is not None and experiment not in known:
                there = ", ".join(sorted(known)) or "none"
                raise NoSuchExperiment(f"there is none in MLflow but {there}")
            places = list(known.values()) if experiment is None else [known[experiment]]
            runs = _every_page(self._client.search_runs, places, condition)
            noted = [run.data.tags.get("bakeoff.run_dir") for run in runs]
        return [Path(run_dir) for run_dir in noted if run_dir is not None]

    def _experiments_there(self) -> dict[str, str]:
        """Return the id of each active experiment by name."""
        found = _every_page(self._client.search_experiments)
        return {one.name: str(one.experiment_id) for one in found}

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

        A new experiment lists its runs by the metric that this run's tags name.

        Raises:
            Rejected: the experiment was deleted in MLflow.
            ServerAway: not now.
        """
        with self._translated():
            run = self._client.create_run(
                self._experiment_id(experiment, tags.get(METRIC_TAG, "accuracy")),
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
            from mlflow.exceptions import MlflowException

            dataset = Dataset(
                name=encodable(event["name"])[:500],
                digest=event["digest"],
                source_type="local",
                source=json.dumps({"uri": event["source"]}),
                profile=json.dumps(event["profile"]),
            )
            tags = [InputTag("mlflow.data.context", event["context"])]
            given = [DatasetInput(dataset, tags)]
            try:
                self._client.log_inputs(mlflow_run_id, datasets=given)
            except MlflowException:  # another run of these pictures has just added them
                self._client.log_inputs(mlflow_run_id, datasets=given)

    def log_artifact(self, mlflow_run_id: str, path: Path, folder: str) -> None:
        """Log a file; one of the same name is replaced."""
        with self._translated():
            self._client.log_artifact(mlflow_run_id, str(path), folder or None)

    def log_model(self, mlflow_run_id: str, bundle: Path, digest: str, name: str = "model") -> None:
        """Log the bundle as a model of the run, once; an interrupted call is completed.

        A bundle with another digest has replaced it since, and is logged in a call of its own.

        Raises:
            Rejected: the bundle cannot be packed.
            Unsupported: the server is older than MLflow 3.
            ServerAway: not now.
        """
        if _digest(bundle) != digest:
            return
        with self._translated(), _of_mlflow_3():
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
                packed, whole = Path(folder) / "model", False
                try:
                    _pack(bundle, packed, model)
                    whole = _digest(bundle) == digest  # else it was replaced meanwhile
                finally:
                    if not whole:
                        self._client.delete_logged_model(model.model_id)
                if not whole:
                    return
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
            Rejected: MLflow refuses it, or does not have the model.
            Unsupported: the server is older than MLflow 3.
            ServerAway: not now.
        """
        with self._translated(), _of_mlflow_3():
            from mlflow.entities import LoggedModelStatus

            model = self._logged(self._client.get_run(mlflow_run_id), digest)
            if model is None or model.status != LoggedModelStatus.READY:
                raise Rejected("its model is not there, and was replaced before it was sent")
            version = register_version(self._client, model, name, card)
            if alias is not None:
                self._client.set_registered_model_alias(name, alias, version)
            return version

    def take_alias(self, name: str, alias: str, version: str) -> None:
        """Take an alias from this version of a registered model, where it has it."""
        with suppress(Rejected), self._translated(), _of_mlflow_3():
            if str(self._client.get_model_version_by_alias(name, alias).version) == version:
                self._client.delete_registered_model_alias(name, alias)

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

    def _experiment_id(self, name: str, metric: str) -> str:
        if name in self._experiments:
            return self._experiments[name]
        from mlflow.exceptions import MlflowException

        # Of several processes that find it missing, one creates it and the others then find it.
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                # A server has a place of its own for artifacts.
                place = None if self._database is None else artifacts_of(self._database)
                tags = view_tags(metric, filtered=place is not None)
                self._client.create_experiment(name, artifact_location=place, tags=tags)
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


def _every_page(search: Callable[..., Any], *arguments: object) -> list[Any]:
    """Return all that a search of MLflow's finds, of which a page is no more than a part."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(*arguments, max_results=_A_PAGE, page_token=token)
        found += page
        if not (token := page.token):
            return found


@contextmanager
def _of_mlflow_3() -> Iterator[None]:
    """Raise `Unsupported` where the server lacks what is asked of it, as MLflow 2 lacks models."""
    try:
        yield
    except Exception as error:
        if getattr(error, "error_code", None) != "ENDPOINT_NOT_FOUND":
            raise
        raise Unsupported(
            "the MLflow server is older than MLflow 3 and keeps no models: the run's model is "
            "neither logged nor registered there; once the server is one of MLflow 3, "
            f"{command('replay')} sends it"
        ) from error


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
    if _is_full(error):  # SQLAlchemy may say first what else it was at
        return "there is no room on the disk of its database: make some"
    if "error code 401" in str(error):
        return (
            "it asks who is there: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, in the environment"
        )
    return without_password(str(error).strip().partition("\n")[0])[:300] or type(error).__name__


def _is_full(error: BaseException | None) -> bool:
    """Return whether an error comes from a SQLite file on a full disk."""
    while error is not None:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
