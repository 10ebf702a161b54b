"""A real `mlflow models serve`, and what `python -m src.predict` says to compare it with."""

from __future__ import annotations

import base64
import csv
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.entries.commands import free_port
from tests.serving.conftest import Typed

__all__ = ["ask", "predicted", "same", "served", "text"]


@contextmanager
def served(model: str, uri: str, environment: dict[str, str], folder: Path) -> Iterator[str]:
    """Where a model answers: a server on a free port, ended by its own process group."""
    port = free_port()
    overrides = ["models", "serve", "-m", model]
    overrides += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *overrides],
            cwd=folder,
            env=environment | {"MLFLOW_TRACKING_URI": uri},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 200
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def ask(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def predicted(typed: Typed, run: Path, pictures: Path) -> dict[str, dict[str, float]]:
    """What `python -m src.predict` says: probability by label, by the name of the file."""
    out = pictures.parent / f"labels of {run.name}.csv"
    done = typed("src.predict", f"run={run}", f"images={pictures}", f"out={out}", "top_k=10")
    assert done.returncode == 0, done.stderr
    answers = {}
    with out.open() as file:
        for row in csv.DictReader(file):
            pairs = [("label", "probability")]
            pairs += [(f"label_{k}", f"probability_{k}") for k in range(2, 11)]
            answers[Path(row["path"]).name] = {row[a]: float(row[b]) for a, b in pairs}
    assert len(answers) == len(list(pictures.iterdir()))
    return answers


def same(answer: dict[str, Any], expected: dict[str, float]) -> None:
    assert answer["probabilities"] == pytest.approx(expected, abs=2e-6)  # six digits in the CSV
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].__getitem__)
    assert answer["probability"] == max(answer["probabilities"].values())
