"""MLflow's pages for this machine alone, as an application that `mlflow server --app-name` finds.

MLflow itself answers whatever page on this machine asks it: of another program's server on another
port, say, whose pages may come from anywhere. What a browser sends on behalf of another page than
its own is refused here before MLflow sees it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["APP_NAME", "HOSTS", "OwnPages", "app", "found_by_mlflow"]

APP_NAME = "bakeoff"
# The variable with the names, separated by commas, under which the pages are asked for.
HOSTS = "BAKEOFF_UI_HOSTS"

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class OwnPages:
    """An ASGI application that passes on what its own pages ask for, and refuses the rest.

    Args:
        load: gives the application behind it when the first message comes, for it takes seconds to
            import.
    """

    def __init__(self, load: Callable[[], Application]) -> None:
        self._load = load
        self._behind: Application | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one connection."""
        if scope["type"] in ("http", "websocket"):
            headers = {name.lower(): value for name, value in scope.get("headers", ())}
            if not _is_own(headers, scope.get("method", "GET"), os.environ.get(HOSTS, "")):
                await _refuse(scope["type"], send)
                return
        if self._behind is None:
            self._behind = self._load()
        await self._behind(scope, receive, send)


@contextmanager
def found_by_mlflow() -> Iterator[Path]:
    """A folder that makes `app` an application of MLflow where it is on the path of a Python.

    MLflow knows applications by the entry points of installed packages, and this one is none.
    """
    with TemporaryDirectory() as place:
        metadata = Path(place, f"{APP_NAME}_pages-0.dist-info")
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {APP_NAME}-pages\nVersion: 0\n"
        )
        (metadata / "entry_points.txt").write_text(f"[mlflow.app]\n{APP_NAME} = {__name__}:app\n")
        yield Path(place)


def _is_own(headers: dict[bytes, bytes], method: str, hosts: str) -> bool:
    own = [host.encode() for host in hosts.split(",")]
    if headers.get(b"host") not in own:  # another name that leads here: DNS rebinding
        return False
    origin = headers.get(b"origin")
    if origin is not None and origin not in [b"http://" + host for host in own]:
        return False
    # What browsers say of requests without an origin, such as those for an <img>; a link on another
    # page may lead here.
    if headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin"):
        return True
    return method == "GET" and headers.get(b"sec-fetch-mode") == b"navigate"


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
