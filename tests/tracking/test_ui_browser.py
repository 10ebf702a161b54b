"""MLflow's pages of real runs, as a visitor sees them in a real browser."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tracking.diary import python

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
_PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Trained:
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
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("some outputs")


@pytest.fixture(scope="module")
def runs(outputs: Path) -> list[Trained]:
    return [trained(outputs, seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def site(outputs: Path, runs: list[Trained]) -> Iterator[str]:
    """The address of the UI, which ends with Ctrl-C as it should."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["-m", "src.tracking.ui", f"output_dir={outputs}", f"port={port}"]
    process = python(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline(), process.stdout.readline()]
        assert f"http://127.0.0.1:{port}" in said[-1], said
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def trained(outputs: Path, seed: int) -> Trained:
    words = ["model=mlp", "trainer.max_epochs=2", "trainer.progress=false", f"seed={seed}"]
    process = python(
        *("-m", "src.train", *words, f"output_dir={outputs}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, err
    label, _, summary = out.strip().splitlines()[-1].partition(": ")
    assert label == "summary"
    told: dict[str, Any] = json.loads(Path(summary).read_text())
    return Trained(Path(summary).parent.name, told["metrics"])


@contextmanager
def run_list(browser: Browser, site: str, tmp_path: Path) -> Iterator[Page]:
    """A new visitor's page with the list of runs; what it looked like if something fails."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(_PATIENCE_MS)
    try:
        page.goto(site)
        page.get_by_text("Model training", exact=True).click()
        page.get_by_role("link", name="bakeoff", exact=True).click()
        page.get_by_text("matching runs").wait_for()
        yield page
    except BaseException as error:
        picture = tmp_path / "page.png"
        page.screenshot(path=picture, full_page=True)
        error.add_note(f"{page.url} looked like {picture}")
        raise
    finally:
        page.close()


def test_the_list_shows_every_run(
    browser: Browser, site: str, runs: list[Trained], tmp_path: Path
) -> None:
    with run_list(browser, site, tmp_path) as page:
        for run in runs:
            playwright_api.expect(page.get_by_role("link", name=run.name)).to_be_visible()
        playwright_api.expect(page.get_by_text("2 matching runs")).to_be_visible()


def test_a_run_shows_its_settings_its_measures_and_its_figures(
    browser: Browser, site: str, runs: list[Trained], tmp_path: Path
) -> None:
    first = runs[0]
    with run_list(browser, site, tmp_path) as page:
        page.get_by_role("link", name=first.name).click()
        page.get_by_placeholder("Search parameters").fill("optimizer.lr")
        cells = page.get_by_role("row").filter(has_text="optimizer.lr").get_by_role("cell")
        playwright_api.expect(cells).to_have_text(["optimizer.lr", "0.002"])
        page.get_by_placeholder("Search metrics").fill("val/accuracy")
        rows = page.get_by_role("row").filter(has=page.get_by_text("val/accuracy", exact=True))
        shown = rows.filter(has_text=str(first.metrics["val/accuracy"]))
        playwright_api.expect(shown).to_be_visible()

        page.get_by_role("tab", name="Artifacts").click()
        page.get_by_text("figures", exact=True).click()
        page.get_by_text("learning_curves.png", exact=True).click()
        figure = page.get_by_alt_text("figures/learning_curves.png")
        playwright_api.expect(figure).to_be_visible()
        page.wait_for_function("image => image.naturalWidth > 100", arg=figure.element_handle())


def test_two_runs_are_compared(
    browser: Browser, site: str, runs: list[Trained], tmp_path: Path
) -> None:
    with run_list(browser, site, tmp_path) as page:
        for run in runs:
            row = page.get_by_role("row").filter(has=page.get_by_role("link", name=run.name))
            row.get_by_role("checkbox").first.check()
        page.get_by_role("button", name="Compare").click()
        playwright_api.expect(page.get_by_text("Comparing 2 Runs")).to_be_visible()
        for run in runs:
            rounded = f"{round(run.metrics['test/accuracy'], 3):g}"
            for text in (run.name, "test/accuracy", rounded):
                shown = page.get_by_text(text, exact=True).filter(visible=True)
                playwright_api.expect(shown.first).to_be_visible()
