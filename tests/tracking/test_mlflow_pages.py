from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from src.tracking.mlflow_pages import HOSTS, OwnPages

OWN = {"host": "127.0.0.1:5000"}


async def _behind(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def status(headers: Mapping[str, str], method: str = "GET") -> int:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "headers": encoded}
    asyncio.run(OwnPages(lambda: _behind)(scope, receive, send))
    return int(sent[0]["status"])


@pytest.fixture(autouse=True)
def _port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOSTS, "127.0.0.1:5000,localhost:5000")


FOREIGN = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:5000"},
        {"origin": "http://localhost:5000", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        FOREIGN,  # a link to them
    ],
)
def test_its_own_pages_and_programs_are_answered(headers: dict[str, str]) -> None:
    assert status(OWN | headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.com"},
        {"host": "127.0.0.1:5000.evil.com"},
        {"host": "127.0.0.1"},
        {"origin": "http://evil.com"},
        {"origin": "http://localhost:9999"},  # of another program on this machine
        {"origin": "https://127.0.0.1:5000"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    ],
)
def test_pages_of_others_are_refused(headers: dict[str, str]) -> None:
    assert status(OWN | headers) == 403


def test_a_form_on_another_page_and_a_request_without_a_host_are_refused() -> None:
    assert status(OWN | FOREIGN, "POST") == status({}) == 403
