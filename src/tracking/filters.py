"""MLflow's filters of runs as SQL over its SQLite tables, for those that are plainly written.

MLflow's parser is in a package that takes two seconds to import. What it understands beyond the
grammar here, and what it refuses, is left to it: tests hold that both find the same runs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Condition", "as_sql"]

# The words are keywords to MLflow's parser wherever they stand.
_NAME = r"(?!(?:AS|CASE|FROM|IN|USING|VALUES)\b)[A-Z][A-Z0-9_]*"
# Neither quotes within quotes, which can be escaped in several ways, nor empty ones.
_TEXT = r"""'[^'"`\\]+'|"[^'"`\\]+\""""
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?"
_CLAUSE = re.compile(
    rf"\s*(?P<group>{_NAME})\.(?:`(?P<quoted>[^'\"`\\]+)`|(?P<key>{_NAME}(?:\.{_NAME})*))"
    rf"(?:\s*(?P<sign>[<>]=?|!=|=)\s*|\s+(?P<like>I?LIKE)\s+)"
    rf"(?:(?P<text>{_TEXT})|(?P<number>{_NUMBER}))\s*",
    re.IGNORECASE | re.ASCII,
)
_AND = re.compile(r"(?<=\s)AND(?=\s)", re.IGNORECASE)
_METRICS = {"metric", "metrics"}
_TEXTS = dict.fromkeys(("parameter", "parameters", "param", "params"), "params")
_TEXTS |= dict.fromkeys(("tag", "tags"), "tags")
_ATTRIBUTES = {"attribute", "attributes", "attr", "run"}
_TEXT_COLUMNS = {"run_id": "run_uuid", "status": "status", "artifact_uri": "artifact_uri"}
_NUMBER_COLUMNS = {"start_time": "start_time", "created": "start_time", "end_time": "end_time"}
_TEXT_SIGNS = ("=", "!=", "LIKE", "ILIKE")


class Condition(NamedTuple):
    """An SQL condition on the table `runs`, and the values of its placeholders in their order."""

    sql: str
    values: tuple[str | float, ...]


def as_sql(text: str) -> Condition | None:
    """Return a filter as SQL, true for every run where it is empty; None for what is not plain.

    Plain are clauses joined by AND, each of a metric, parameter, tag or attribute and one value.
    `LIKE` is as SQLite has it with `PRAGMA case_sensitive_like`.
    """
    if not text:
        return Condition("TRUE", ())
    found, end = [], 0
    while clause := _CLAUSE.match(text, end):
        one = _clause(clause)
        if one is None:
            return None
        found.append(one)
        end = clause.end()
        if end == len(text):
            sql = " AND ".join(each.sql for each in found)
            return Condition(sql, tuple(value for each in found for value in each.values))
        conjunction = _AND.match(text, end)
        if conjunction is None:
            return None
        end = conjunction.end()
    return None


def _clause(clause: re.Match[str]) -> Condition | None:
    group, key = clause["group"], clause["quoted"] or clause["key"]
    sign, number = (clause["sign"] or clause["like"]).upper(), clause["number"]
    if number is not None:
        if sign in ("LIKE", "ILIKE"):
            return None
        if group in _METRICS:
            # What is no number is kept as 0: only "!=" holds for it.
            nan = "OR is_nan" if sign == "!=" else "AND NOT is_nan"
            return _exists("latest_metrics", f"(value {sign} ? {nan})", key, float(number))
        if group in _ATTRIBUTES and key in _NUMBER_COLUMNS and number.lstrip("-").isdigit():
            return Condition(f"runs.{_NUMBER_COLUMNS[key]} {sign} ?", (int(number),))
        return None
    value = clause["text"][1:-1]
    if sign not in _TEXT_SIGNS:
        return None
    if group in _TEXTS:
        return _exists(_TEXTS[group], _compared("value", sign), key, value)
    if group in _ATTRIBUTES and key == "run_name":
        return _exists("tags", _compared("value", sign), "mlflow.runName", value)
    if group in _ATTRIBUTES and key in _TEXT_COLUMNS:
        return Condition(_compared(f"runs.{_TEXT_COLUMNS[key]}", sign), (value,))
    return None


def _compared(column: str, sign: str) -> str:
    if sign == "ILIKE":
        return f"lower({column}) LIKE lower(?)"
    return f"{column} {sign} ?"


def _exists(table: str, compared: str, key: str, value: str | float) -> Condition:
    own = f"SELECT 1 FROM {table} WHERE run_uuid = runs.run_uuid AND key = ? AND {compared}"
    return Condition(f"EXISTS ({own})", (key, value))
