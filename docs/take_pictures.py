"""Take the README's pictures of MLflow: three short runs, the UI, and a real Chromium.

python -m docs.take_pictures [FOLDER]

FOLDER gets the pictures (this one unless given). The runs go to a temporary folder.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, ViewportSize, sync_playwright

from src.tracking.view import CURVES

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
# One color for each, far from each other: MLflow's own come from the run's id, and may be alike.
_MODELS = {"cnn": "#2b6cdf", "lstm": "#e0562b", "mlp": "#7a828c"}
_LOW, _HIGH = (ViewportSize(width=1400, height=height) for height in (520, 1130))
_NUM_CURVES = 5

# A visitor who has closed MLflow's chat panel, which opens by itself the first time.
_VISITOR = """
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
    localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
    localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
"""
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main() -> int:
    """Train, serve, and take the pictures; 1 where there is no Chromium."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("there is no chromium on the PATH: install it first.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as outputs:
        for model in _MODELS:
            words = [f"model={model}", "trainer.max_epochs=12", "trainer.progress=false"]
            _python("src.train", *words, f"output_dir={outputs}").check_returncode()
        with _served(outputs) as site, sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=chromium, args=_FLAGS)
            page = browser.new_page(viewport=_LOW)
            page.add_init_script(_VISITOR)
            _take(page, site, folder)
            browser.close()
    return 0


def _take(page: Page, site: str, folder: Path) -> None:
    experiment = _ask(site, "experiments/get-by-name?experiment_name=bakeoff")["experiment"]
    number = experiment["experiment_id"]
    runs = _ask(site, "runs/search", experiment_ids=[number])["runs"]
    for run in runs:
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        color = {"key": "mlflow.runColor", "value": _MODELS[tags["bakeoff.family"]]}
        _ask(site, "runs/set-tag", run_id=run["info"]["run_id"], **color)
    experiment_page = f"{site}/#/experiments/{number}/runs"
    seen = f"{experiment_page}?viewStateShareKey=bakeoff"

    page.goto(seen)
    page.get_by_text("3 matching runs").wait_for()
    _without_notice(page)
    page.get_by_role("columnheader", name="test/accuracy").first.wait_for()
    page.screenshot(path=folder / "mlflow-runs.png")

    page.set_viewport_size(_HIGH)
    page.goto(f"{seen}&compareRunsMode=CHART")
    _wait_for_curves(page)
    page.screenshot(path=folder / "mlflow-compare.png")

    best = max(runs, key=_validation_accuracy)["info"]["run_id"]
    page.goto(f"{experiment_page}/{best}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill(CURVES)
    _wait_for_curves(page)
    page.screenshot(path=folder / "mlflow-run.png")


def _validation_accuracy(run: dict[str, Any]) -> float:
    values = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    return float(values["val/accuracy"])


def _without_notice(page: Page) -> None:
    """Close the notice that the view is a shared one."""
    notice = page.get_by_role("alert").filter(has_text="shared view")
    notice.get_by_role("button").last.click()
    notice.wait_for(state="hidden")
    page.mouse.move(0, 0)  # a button under the pointer looks different


def _wait_for_curves(page: Page) -> None:
    """Until every chart has drawn its lines, and nothing moves any more."""
    drawn = "c => c.querySelector('.js-line')"
    page.wait_for_function(
        f"[...document.querySelectorAll('.js-plotly-plot')].filter({drawn}).length"
        f" === {_NUM_CURVES}"
    )
    before = b""
    while (now := page.screenshot()) != before:
        before = now
        page.wait_for_timeout(500)


def _ask(site: str, what: str, **body: Any) -> dict[str, Any]:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(
        f"{site}/api/2.0/mlflow/{what}", data, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _python(module: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", module, *words], cwd=_ROOT, check=False)


@contextmanager
def _served(outputs: str) -> Iterator[str]:
    """The address of the UI that shows `outputs`, until it is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["-m", "src.tracking.ui", f"output_dir={outputs}", f"port={port}"]
    server = subprocess.Popen(
        [sys.executable, *words], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        said = [server.stdout.readline(), server.stdout.readline()]
        if f"http://127.0.0.1:{port}" not in said[-1]:
            raise RuntimeError(f"the UI did not start: {said}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
