"""Filters of runs as SQL find what MLflow's own client finds, or are left to it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag

from src.tracking.addresses import sqlite_uri
from src.tracking.filters import as_sql
from src.tracking.mlflow_database import run_folders
from src.tracking.mlflow_store import Rejected, Store
from tests.conftest import Outputs
from tests.tracking.diary import client

VALUES = [0.5, -1.0, 0.0, math.nan, math.inf, 1e-3]


@pytest.fixture(scope="module")
def known(outputs: Outputs) -> tuple[Store, Path, str]:
    """Twelve runs of two experiments, the first of which was deleted; and the id of the last."""
    database = outputs("filters") / "mlflow.db"
    store = Store(sqlite_uri(database))
    made = ""
    for i in range(12):
        name = f"{'Net' if i % 2 else 'net'}-{i}_%"
        tags = {"bakeoff.run_dir": f"/runs/{name}", "bakeoff.data": "Digits" if i % 3 else "digits"}
        made = store.create_run(
            # Two of one start: their order is MLflow's.
            experiment="ab"[i % 2],
            name=name,
            start_time_ms=1000 + i // 2,
            tags=tags,
        )
        metrics = [Metric("val/accuracy", VALUES[i % 6], 1, 0), Metric("loss", i / 4, 1, 0)]
        texts = ["adam", "Adam", "größe", "GRÖSSE", "a_b", "a;b -- c"]
        params = [Param("optimizer", texts[i % 6])] + ([Param("model.name", "x")] if i > 5 else [])
        store.log(made, metrics[: 1 + i % 2], params, [RunTag("group", "10"), RunTag("a b", "c d")])
        if i % 4:
            store.finish(made, "FINISHED" if i % 4 == 1 else "FAILED", 5000 + i)
        if i == 0:
            client(store).delete_run(made)
    return store, database, made


PLAIN = [
    "",
    "metrics.`val/accuracy` > 0.5",
    "metrics.`val/accuracy` != 0",
    "metric.loss >= 1 AND tags.bakeoff.data = 'digits' and params.optimizer LIKE '%a%'",
    "  parameters.optimizer = 'a;b -- c'\n",
    'run.status = "FINISHED" AND attributes.start_time > 1002',
    "attr.created <= 1003 AND attribute.end_time != 5005",
    "attributes.run_name LIKE 'Net%'",
    "attributes.run_name ILIKE 'nEt-1_%'",
    "tags.`a b` != 'x' AND tag.group = '10' AND param.model.name = 'x'",
    "params.optimizer ILIKE 'GRÖSSE'",
    "metrics.missing < 1",
]
# Refused by MLflow, or taken as something that the grammar does not have.
LEFT = [
    "metrics.loss > '1'",
    "metrics.loss > 1 OR metrics.loss < 0",
    "metrics.loss > 1 AND",
    "metrics.loss > 1AND metrics.loss < 2",
    "metrics.val/accuracy > 0.5",
    "params.optimizer = adam",
    "params.optimizer > 'adam'",
    "params.optimizer = 'it''s'",
    "params.optimizer IS NULL",
    "params.in = 'a'",
    "attributes.start_time > 1.5",
    "attributes.color = 'red'",
    "status = 'FINISHED'",
    "attributes.run_id IN ('a', 'b')",
    "METRICS.loss > 1",
    "metrics.loss > 1; DROP TABLE runs",
]


def drawn(count: int) -> Iterator[str]:
    """Filters of one to three clauses, many of which make no sense."""
    draw = random.Random(0)
    groups = [
        "metrics",
        "metric",
        "params",
        "param",
        "tags",
        "tag",
        "attributes",
        "run",
        "datasets",
    ]
    keys = ["`val/accuracy`", "loss", "optimizer", "model.name", "bakeoff.data", "`a b`", "group"]
    keys += ["run_id", "run_name", "status", "start_time", "created", "end_time", "artifact_uri"]
    signs = ["=", "!=", " > ", "<", " >=", "<= ", " LIKE ", " ilike ", " = ", "\n!=\t"]
    values = ["1", "-1", "0.5", "1e-3", "1002", "'10'", "'%a%'", '"c d"', "'FINISHED'", "'net%'"]
    values += ["'digits'", "'größe'", "'x'", "0", "'a_b'"]
    for _ in range(count):
        clauses = [
            f"{draw.choice(groups)}.{draw.choice(keys)}{draw.choice(signs)}{draw.choice(values)}"
            for _ in range(draw.choice([1, 1, 1, 2]))
        ]
        yield draw.choice([" AND ", "  and\n", " And "]).join(clauses)


def test_the_runs_are_those_that_mlflow_finds(known: tuple[Store, Path, str]) -> None:
    store, database, last = known
    own = [f"attributes.run_id = '{last}'", f"attributes.run_id != '{last}'"]
    understood = [one for one in drawn(200) if as_sql(one) is not None]
    assert len(understood) >= 40
    for number, text in enumerate([*PLAIN, *own, *understood]):
        assert as_sql(text) is not None, text
        experiment = ("a", None)[number % 2]
        assert run_folders(database, experiment, text) == store.search(experiment, text)[::-1], text


def test_filters_that_only_mlflow_reads_are_left_to_it(known: tuple[Store, Path, str]) -> None:
    store, database, _ = known
    for text in LEFT:
        assert as_sql(text) is None, text
        assert run_folders(database, None, text) == []
    with pytest.raises(Rejected):
        store.search(None, "metrics.loss > 1 OR metrics.loss < 0")
