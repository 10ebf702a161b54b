"""Tracking URIs: the default one, SQLite files with any characters, URIs without passwords."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import unquote

from ..config.credentials import without_password

__all__ = [
    "absolute_uri",
    "default_uri",
    "public_uri",
    "serve_command",
    "sqlite_path",
    "sqlite_uri",
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
    if path is None:
        return uri
    _, mark, options = uri.partition("?")
    return f"{sqlite_uri(path)}{mark}{options}"


def public_uri(uri: str | None, output_dir: Path) -> str | None:
    """Return the URI to store with a run: without password, and None for the default.

    None, so that an output folder can be moved with its runs.
    """
    if uri is None or absolute_uri(uri, output_dir) == default_uri(output_dir):
        return None
    return without_password(absolute_uri(uri, output_dir))


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
