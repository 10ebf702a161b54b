"""Tracking URIs: the default one, SQLite files with any characters, URIs without passwords."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import unquote

from src.config.credentials import credentials_problem, without_password

__all__ = [
    "absolute_uri",
    "default_uri",
    "public_uri",
    "serve_command",
    "sqlite_path",
    "sqlite_uri",
    "unused_address",
    "without_password",
]


def default_uri(output_dir: Path) -> str:
    """Return the absolute URI of an output folder's SQLite database."""
    return sqlite_uri(output_dir.absolute() / "mlflow.db")


def absolute_uri(uri: str | None, output_dir: Path) -> str:
    """Return `uri`, or the default one, independent of the current folder."""
    if uri is None:
        return default_uri(output_dir)
    path = sqlite_path(uri)
    return uri if path is None or "?" in uri else sqlite_uri(path)


def public_uri(uri: str | None, output_dir: Path) -> str | None:
    """Return the URI to store with a run: without password, and None for the default.

    None, so that an output folder can be moved with its runs.
    """
    if uri is None or absolute_uri(uri, output_dir) == default_uri(output_dir):
        return None
    return without_password(absolute_uri(uri, output_dir))


def unused_address(uri: str | None, output_dir: Path) -> str | None:
    """Return a hint where MLFLOW_TRACKING_URI is set but not used, else None.

    The URI of a run is a setting that is stored with it, not an environment variable.
    """
    exported = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    used = absolute_uri(uri, output_dir)
    if uri is not None or not exported or absolute_uri(exported, output_dir) == used:
        return None
    named = "ADDRESS" if credentials_problem(exported, "uri") else shlex.quote(exported)
    return (
        f"MLFLOW_TRACKING_URI is set, but a run goes where its settings say, to {used}: say "
        f"tracking.uri={named} to send it there"
    )


def serve_command(model: str, uri: str | None, output_dir: Path) -> str:
    """Return the command line that serves a model, such as models:/NAME@champion, over HTTP."""
    place = shlex.quote(without_password(absolute_uri(uri, output_dir)))
    command = ["mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", "5001"]
    return f"MLFLOW_TRACKING_URI={place} {shlex.join(command)}"


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite URI's file; None for other databases and servers."""
    scheme, _, rest = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not rest or rest == ":memory:":
        return None
    return Path(unquote(rest.partition("?")[0])).absolute()


def sqlite_uri(path: Path) -> str:
    """Return the URI of a SQLite file, given an absolute path."""
    # SQLAlchemy takes % for an escape and ? for the beginning of options; all else is literal.
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")
