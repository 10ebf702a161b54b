"""Send to MLflow what is missing there of the runs in a folder.

python -m src.tracking.replay output_dir=outputs
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.tracking.replay in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from ..config.checks import ConfigError
from ..config.command_line import run_command
from ..config.tracking import ReplaySettings
from .addresses import absolute_uri, public_uri, without_password
from .events import last_start, spool_path, tracked_runs
from .follower import FilesAway, Follower
from .mlflow_store import ServerAway, Store

__all__ = ["main", "replay"]


def replay(settings: ReplaySettings) -> bool:
    """Send every run under `output_dir`, print a line for each, return whether all are complete.

    Without `tracking.uri` each run is sent to the database or server of its own settings; with it,
    all of them are sent there.

    Raises:
        ConfigError: there is no such folder, or no run in it.
    """
    output_dir = Path(settings.output_dir).absolute()
    run_dirs = list(tracked_runs(output_dir))
    if not run_dirs:
        raise ConfigError(f"output_dir is {settings.output_dir!r}: there is no tracked run in it.")
    # Parents first, so that their runs find them in MLflow.
    starts = _parents_first([(last_start(run_dir), run_dir) for run_dir in run_dirs])
    stores: dict[str, Store] = {}
    away: dict[str, ServerAway] = {}

    def replayed(start: dict[str, Any], run_dir: Path) -> tuple[str, bool]:
        if (left_out := _left_out(start, run_dir, settings.tracking.uri)) is not None:
            return left_out
        uri = absolute_uri(settings.tracking.uri or start.get("target"), output_dir)
        try:
            if uri in away:  # do not wait for it with every run
                raise away[uri]
            store = stores.get(uri) or stores.setdefault(uri, Store(uri))
            return _send(run_dir, uri, public_uri(uri, output_dir), store)
        except ServerAway as error:
            away[uri] = error
            return f"not sent: {without_password(uri)}: {error}", False
        except OSError as error:
            return f"not sent: {error}", False

    complete = True
    for start, run_dir in starts:
        outcome, done = replayed(start, run_dir)
        print(f"{start.get('run_name', run_dir.name)}: {outcome}", flush=True)
        complete &= done
    return complete


def _left_out(start: dict[str, Any], run_dir: Path, uri: str | None) -> tuple[str, bool] | None:
    """Return why a run is not sent, and whether it need not be; None for one that is sent."""
    if not start and spool_path(run_dir).stat().st_size:
        return (
            f"not sent: the beginning of {spool_path(run_dir)} is damaged, which says where it "
            "goes: put a copy of the file back"
        ), False
    if uri is None and not start.get("mirrored"):
        return "not meant for MLflow; name a tracking.uri to send it", True
    if uri is None and "***@" in str(start.get("target")):
        return (
            "not sent: it was meant for an address with a password; set tracking.uri without it, "
            "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (for PostgreSQL: "
            "PGPASSWORD) in the environment"
        ), False
    return None


def _send(run_dir: Path, uri: str, target: str | None, store: Store) -> tuple[str, bool]:
    """Send a run; return the outcome, and whether all of it is in MLflow."""
    follower = Follower(run_dir, uri, target, lambda text: print(f"  {text}"))
    if not follower.take():
        return "another process is sending it", True
    try:
        if not follower.close_lost():
            return "still running", True
        follower.restart_if_missing(store)
        follower.retry_unsupported()
        news = not follower.finished
        try:
            while follower.step(store) and follower.given_up is None:
                continue
        except FilesAway as error:  # which is no reason to leave other runs out
            return f"sent, but not all of its files: {error}", False
        if follower.given_up is not None:
            return f"not sent: {follower.given_up}", False
        what = "sent" if news else "is there already"
        return f"{what}, MLflow run {follower.mlflow_run_id}, {follower.status}", True
    finally:
        follower.release()


def _parents_first(
    starts: list[tuple[dict[str, Any], Path]],
) -> list[tuple[dict[str, Any], Path]]:
    """Sort by generation, then by start, which a clock that was set may have put out of order."""
    parents = {start.get("run_id"): start.get("parent_run_id") for start, _ in starts}

    def generation(start: dict[str, Any]) -> int:
        parent, count = start.get("parent_run_id"), 0
        while parent is not None and count < len(parents):
            parent, count = parents.get(parent), count + 1
        return count

    return sorted(starts, key=lambda pair: (generation(pair[0]), pair[0].get("start_time_ms", 0)))


def main() -> int:
    """Run the command line; exit code 0: all is in MLflow, 1: not all, 2: the input is wrong."""
    return run_command(__doc__, ReplaySettings, lambda settings, _: replay(settings))


if __name__ == "__main__":
    sys.exit(main())
