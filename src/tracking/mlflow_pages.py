"""MLflow's pages: the view of an experiment's runs, and an application that guards the pages.

MLflow itself answers requests from every page on this machine, such as one of another program's
server on another port, whose pages may come from anywhere. The application, which
`mlflow server --app-name` finds, refuses what a browser sends on behalf of other pages than
MLflow's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..config.metrics import direction_of, key_of_metric, metrics_of
from ..machine.own_pages import is_own

__all__ = [
    "APP_NAME",
    "CURVES",
    "HOSTS",
    "METRIC_TAG",
    "WHOLE_RUNS",
    "OwnPages",
    "app",
    "found_by_mlflow",
    "link",
    "view_tags",
    "with_curves",
]

APP_NAME = "bakeoff"
# The environment variable with the host names of the pages, separated by commas.
HOSTS = "BAKEOFF_UI_HOSTS"

# The tag of a run with the plain name of the metric that it is judged by.
METRIC_TAG = "bakeoff.metric"

_VIEW = "bakeoff"
# MLflow draws charts in sections by what is before the last "/", in the order of the alphabet: this
# one comes before "cost" and "test", whose metrics have one value.
_SECTION = "by epoch"
# A filter over the runs: all but folds of a cross-validation.
WHOLE_RUNS = "tags.`bakeoff.fold` IS NULL"
# A filter over the charts.
CURVES = f"^{_SECTION}/"

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


def view_tags(metric: str, *, filtered: bool) -> dict[str, str]:
    """Return the tags of an experiment whose "Views" have this view, best run first.

    They are those of MLflow's "Save as new view"; without one MLflow lists names and dates only.

    Args:
        metric: plain name of the validation metric that ranks the runs, or key of a model's cost.
        filtered: whether folds are left out, which earlier servers cannot do. A fold is judged on
            few pictures, so that the luckiest of them would come before all whole runs.
    """
    key = key_of_metric(metric)
    widths = {
        "attributes.`Run Name`": 270,
        f"metrics.`{key}`": 120,
        f"metrics.`{key.replace('val/', 'test/')}`": 120,
        "params.`model.name`": 110,
        "tags.`bakeoff.data`": 110,
        "metrics.`cost/latency_ms`": 120,
        "metrics.`val/loss`": 120,
        "params.`seed`": 70,
        "tags.`bakeoff.state`": 90,
        "duration": 90,
    }
    shown = ("params", "metrics", "tags")
    state = {
        "selectedColumns": [column for column in widths if column.startswith(shown)],
        "columnOrder": list(widths),
        "columnWidths": widths,
        "orderByKey": f"metrics.`{key}`",
        "orderByAsc": key in metrics_of() and direction_of(key) == "minimize",
        "chartsSearchFilter": CURVES,
    }
    if filtered:
        state["searchFilter"] = WHOLE_RUNS
    view = {"name": "Bakeoff", "createdAt": 0, "state": json.dumps(state)}
    return {f"mlflow.sharedViewState.{_VIEW}": json.dumps(view)}


def with_curves(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return metrics of one step, those of an epoch once more for MLflow's first section of charts.

    There `val/accuracy` is `by epoch/accuracy val`, beside `by epoch/accuracy train`.
    """
    if "train/lr" not in values:  # which the end of an epoch alone has
        return values
    parts = [(key, *key.partition("/")) for key in values if not key.endswith("images_per_second")]
    curves = {f"{_SECTION}/{name} {split}": values[key] for key, split, _, name in parts}
    return {**values, **curves}


def link(site: str, experiment_id: str | None) -> str:
    """Return the address of an experiment's runs in that view, or of all experiments.

    Without `workflowType` MLflow opens its pages for language models, which list no runs.
    """
    if experiment_id is None:
        return f"{site}/#/experiments?workflowType=machine_learning"
    return (
        f"{site}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={_VIEW}"
    )


class OwnPages:
    """An ASGI application that passes on requests of its own pages, and refuses others.

    `load` returns the application behind it, whose import takes seconds.
    """

    def __init__(self, load: Callable[[], Application]) -> None:
        self._load = cache(load)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one connection."""
        if scope["type"] in ("http", "websocket"):
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in scope.get("headers", ())
            }
            hosts = os.environ.get(HOSTS, "").split(",")
            if not is_own(headers, scope.get("method", "GET"), hosts):
                await _refuse(scope["type"], send)
                return
        await self._load()(scope, receive, send)


@contextmanager
def found_by_mlflow() -> Iterator[Path]:
    """Yield a folder that makes `app` known to MLflow in a Python that has it on its path.

    MLflow finds applications by the entry points of installed packages, and this code is none.
    """
    with TemporaryDirectory() as place:
        metadata = Path(place, f"{APP_NAME}_pages-0.dist-info")
        metadata.mkdir()
        about = f"Metadata-Version: 2.1\nName: {APP_NAME}-pages\nVersion: 0\n"
        (metadata / "METADATA").write_text(about)
        (metadata / "entry_points.txt").write_text(f"[mlflow.app]\n{APP_NAME} = {__name__}:app\n")
        yield Path(place)


async def _refuse(kind: str, send: Callable[[Message], Awaitable[None]]) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"these pages are for this machine alone"})


def _mlflow() -> Application:
    from mlflow.server.fastapi_app import app as behind

    return behind


app = OwnPages(_mlflow)
