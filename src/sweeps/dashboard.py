"""Show a sweep's study in Optuna's dashboard, on this machine alone.

python -m src.sweeps.dashboard study=NAME output_dir=outputs port=8080
"""

from __future__ import annotations

import signal
import sys
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.sweeps.dashboard in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from ..config.checks import ConfigError, input_of
from ..config.command_line import run_command
from ..config.sweep import DashboardSettings
from ..machine.interruption import Interrupted
from ..machine.own_pages import HOST, own_hosts

__all__ = ["main", "show"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Write no line for each request."""


def show(settings: DashboardSettings) -> None:
    """Serve until Ctrl-C; ConfigError if the port is taken, or there is no such study."""
    from ..search.pages import study_pages

    hosts = own_hosts(settings.port)
    with input_of():
        pages, path = study_pages(
            settings.study, settings.study_folder, settings.storage, hosts=hosts
        )
    try:
        server = make_server(HOST, settings.port, pages, _Server, _Handler)
    except OSError as error:
        raise ConfigError(
            f"port {settings.port} cannot be used ({error.strerror}): set port=NUMBER."
        ) from error
    where = settings.study_folder if settings.storage is None else "its database"
    with server:
        print(f"showing the study {settings.study} from {where}, which it only reads")
        print(f"Optuna: http://{hosts[0]}{path}  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except Interrupted as stop:
            if stop.signum != signal.SIGINT:  # Ctrl-C is how this is meant to end
                raise


def main() -> int:
    """Return the exit code of the command line: 0 after Ctrl-C."""
    return run_command(__doc__, DashboardSettings, lambda settings, _: show(settings))


if __name__ == "__main__":
    sys.exit(main())
