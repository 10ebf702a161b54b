"""MLflow's pages of real runs, as a visitor sees them in a real browser.

The README's pictures are what these tests see: `make test TESTS=tests/tracking/test_ui_browser.py
ARGS="-m slow --pictures docs"` takes them anew.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from src.tracking.mlflow_pages import CURVES
from tests.entries.commands import free_port
from tests.tracking.diary import ENVIRONMENT, ui
from tests.warm_python import WarmPython

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(_CHROMIUM is None, reason="there is no chromium on the PATH"),
]

# No sandbox, for containers whose user is root; and nothing but the page is asked for.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# A visitor who has closed MLflow's chat panel, which opens by itself the first time,
_NEWCOMER = """
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
    localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
"""
# and has once chosen "Model training", which MLflow keeps.
_REGULAR = _NEWCOMER + """localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');"""
_PATIENCE_MS = 60_000
_NUM_CURVES = 5
# Colors far from each other: MLflow's own come from the run's id, and may be alike.
_MODELS = {"cnn": "#2b6cdf", "lstm": "#e0562b", "mlp": "#7a828c"}


@dataclass(frozen=True)
class Trained:
    model: str
    name: str
    metrics: dict[str, float]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright_api.expect.set_options(timeout=_PATIENCE_MS)
    with playwright_api.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("some outputs")
    shutil.copy(empty_database, folder)
    return folder


@pytest.fixture(scope="module")
def runs(outputs: Path, warm_python: WarmPython, request: pytest.FixtureRequest) -> list[Trained]:
    # Curves of four epochs are curves; those of the README are longer.
    epochs = 4 if request.config.getoption("--pictures") is None else 12
    return [trained(warm_python, outputs, model, epochs) for model in _MODELS]


@pytest.fixture(scope="module")
def link(outputs: Path, runs: list[Trained]) -> Iterator[str]:
    """The address that the UI prints."""
    port = free_port()
    with ui(outputs, port) as line:
        found = re.search(r"MLflow: (\S+)", line)
        assert found is not None and f"http://127.0.0.1:{port}/" in found[1], line
        color(f"http://127.0.0.1:{port}", runs)
        yield found[1]


def trained(warm_python: WarmPython, outputs: Path, model: str, epochs: int) -> Trained:
    overrides = [f"model={model}", f"trainer.max_epochs={epochs}", "trainer.progress=false"]
    overrides.append("tracking.system_metrics_seconds=1")  # a curve of even so short a run
    done = warm_python.run("src.train", [*overrides, f"output_dir={outputs}"], ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    label, _, summary = done.stdout.strip().splitlines()[-1].partition(": ")
    assert label == "summary"
    record: dict[str, Any] = json.loads(Path(summary).read_text())
    return Trained(model, Path(summary).parent.name, record["metrics"])


def color(site: str, runs: list[Trained]) -> None:
    found = ask(site, "runs/search", experiment_ids=["1"])["runs"]
    ids = {run["info"]["run_name"]: run["info"]["run_id"] for run in found}
    for run in runs:
        tag = {"key": "mlflow.runColor", "value": _MODELS[run.model]}
        ask(site, "runs/set-tag", run_id=ids[run.name], **tag)


def ask(site: str, what: str, **body: Any) -> dict[str, Any]:
    address = f"{site}/api/2.0/mlflow/{what}"
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, json.dumps(body).encode(), kind)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@dataclass
class Visitor:
    """Opens pages in a browser, and keeps what they show where `--pictures FOLDER` was given."""

    browser: Browser
    link: str
    folder: Path
    pictures: Path | None

    @contextmanager
    def visit(self, height: int, view: str = "", visitor: str = _REGULAR) -> Iterator[Page]:
        """A visitor's page; what it looked like if something fails."""
        page = self.browser.new_page(viewport={"width": 1400, "height": height})
        page.set_default_timeout(_PATIENCE_MS)
        page.add_init_script(visitor)
        try:
            page.goto(self.link + view)
            yield page
        except BaseException as error:
            picture = self.folder / "page.png"
            page.screenshot(path=picture, full_page=True)
            error.add_note(f"{page.url} looked like {picture}")
            raise
        finally:
            page.close()

    def take(self, page: Page, name: str) -> None:
        if self.pictures is not None:
            page.mouse.move(0, 0)  # a button under the pointer looks different
            page.screenshot(path=self.pictures / f"{name}.png")


@pytest.fixture
def visitor(browser: Browser, link: str, tmp_path: Path, request: pytest.FixtureRequest) -> Visitor:
    return Visitor(browser, link, tmp_path, request.config.getoption("--pictures"))


def close_notice(page: Page) -> None:
    """Close the notice that the view is a shared one."""
    notice = page.get_by_role("alert").filter(has_text="shared view")
    notice.get_by_role("button").last.click()
    notice.wait_for(state="hidden")


def wait_for_curves(page: Page) -> None:
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


def test_the_printed_link_lists_every_run_best_first(visitor: Visitor, runs: list[Trained]) -> None:
    with visitor.visit(520, visitor=_NEWCOMER) as page:
        page.get_by_text("3 matching runs").wait_for()
        close_notice(page)
        for column in ("model.name", "val/accuracy", "test/accuracy", "latency_ms", "seed"):
            header = page.get_by_role("columnheader", name=column).first
            playwright_api.expect(header).to_be_visible()
        best_first = sorted(runs, key=lambda run: -run.metrics["val/accuracy"])
        names = page.get_by_role("link", name=re.compile(r"-digits-"))
        playwright_api.expect(names).to_have_text([run.name for run in best_first])
        visitor.take(page, "mlflow-runs")


def test_a_run_opens_on_its_five_curves(visitor: Visitor, runs: list[Trained]) -> None:
    with visitor.visit(1130) as page:
        page.get_by_role("link", name=runs[0].name).click()
        page.get_by_role("tab", name="Model metrics").click()
        first = f"[...document.querySelectorAll('.js-plotly-plot')].slice(0, {_NUM_CURVES})"
        drawn = "chart => chart.querySelector('.js-line')"
        page.wait_for_function(f"{first}.filter({drawn}).length === {_NUM_CURVES}")
        visitor.take(page, "mlflow-run")
        page.get_by_placeholder("Search metric charts").fill(CURVES)
        wait_for_curves(page)


def test_a_comparison_of_runs_opens_on_the_accuracy(visitor: Visitor, runs: list[Trained]) -> None:
    site = visitor.link.partition("/#")[0]
    ids = [run["info"]["run_id"] for run in ask(site, "runs/search", experiment_ids=["1"])["runs"]]
    with visitor.visit(900) as page:
        page.goto(f'{site}/#/compare-runs?runs={json.dumps(ids)}&experiments=["1"]')
        axes = page.locator(".axis-title")
        playwright_api.expect(axes.last).to_have_text("val/accuracy")


def test_a_run_shows_what_it_took_of_its_machine(visitor: Visitor, runs: list[Trained]) -> None:
    with visitor.visit(1130) as page:
        page.get_by_role("link", name=runs[0].name).click()
        page.get_by_role("tab", name="System metrics").click()
        for name in ("cpu_utilization_percentage", "system_memory_usage_percentage"):
            page.get_by_placeholder("Search metric charts").fill(f"system/{name}")
            chart = page.locator(".js-plotly-plot").filter(has=page.locator(".js-line"))
            playwright_api.expect(chart).to_have_count(1)
            path = chart.locator(".js-line").first.get_attribute("d")
            assert path is not None and path.count("L") + path.count("C") >= 1  # two points or more
        page.get_by_placeholder("Search metric charts").fill("")
        playwright_api.expect(page.get_by_text("run_memory_usage_megabytes").first).to_be_visible()
        visitor.take(page, "mlflow-system")


def test_learning_curves_stand_side_by_side(visitor: Visitor, runs: list[Trained]) -> None:
    with visitor.visit(1130, "&compareRunsMode=CHART") as page:
        wait_for_curves(page)
        visitor.take(page, "mlflow-compare")
        colors = "lines => lines.map(line => getComputedStyle(line).stroke)"
        shown = page.locator(".js-plotly-plot").first.locator(".js-line").evaluate_all(colors)
        assert {shade for shade in shown if shade != "none"} == {
            f"rgb{tuple(bytes.fromhex(_MODELS[run.model][1:]))}" for run in runs
        }
