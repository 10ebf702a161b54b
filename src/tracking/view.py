"""How MLflow's list of runs shows an experiment of ours: its columns, their order, its curves."""

from __future__ import annotations

import json

__all__ = ["CURVES", "link", "view_tags"]

_KEY = "bakeoff"
# Both curves of both parts, and the learning rate: a filter over the charts.
CURVES = "^(train|val)/(accuracy|loss|lr)$"
_WIDTHS = {
    "attributes.`Run Name`": 270,
    "params.`model.name`": 110,
    "metrics.`val/accuracy`": 120,
    "metrics.`val/loss`": 120,
    "metrics.`test/accuracy`": 120,
    "params.`optimizer.lr`": 110,
    "params.`seed`": 70,
    "duration": 90,
}
_STATE = {
    "selectedColumns": [column for column in _WIDTHS if column.startswith(("params", "metrics"))],
    "columnOrder": list(_WIDTHS),
    "columnWidths": _WIDTHS,
    "orderByKey": "metrics.`val/accuracy`",
    "orderByAsc": False,
    "chartsSearchFilter": CURVES,
}


def view_tags() -> dict[str, str]:
    """Tags of an experiment that has this view, best run first, among its saved "Views".

    It is what "Save as new view" stores; without one MLflow lists names and dates only.
    """
    view = {"name": "Bakeoff", "createdAt": 0, "state": json.dumps(_STATE)}
    return {f"mlflow.sharedViewState.{_KEY}": json.dumps(view)}


def link(site: str, experiment_id: str | None) -> str:
    """The address of an experiment's runs in that view, or of all experiments.

    Without `workflowType` MLflow shows a visitor its pages for language models, where no run is.
    """
    if experiment_id is None:
        return f"{site}/#/experiments?workflowType=machine_learning"
    return (
        f"{site}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={_KEY}"
    )
