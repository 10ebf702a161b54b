"""What tests of HTML pages share: their tags, a browser, and a text that tries everything."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = [
    "EVIL",
    "PAPER",
    "WIDTHS",
    "Tags",
    "Visit",
    "browser",
    "faults",
    "in_a_browser",
    "on_paper",
    "opened",
    "visit",
]

EVIL = "</script ><img src=x onerror=alert(1)>&\"'\u2028"
_FAULTS = Path(__file__).with_name("page_faults.js")
_TIGHT = re.compile(r"\S*\d%")
WIDTHS = (390, 1000, 1600)  # a phone, half a screen, a screen
_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
in_a_browser = pytest.mark.skipif(_CHROMIUM is None, reason="there is no chromium on the PATH")
Visit = Callable[..., "Page"]


class Tags(HTMLParser):
    """Every tag and attribute of a page, and what scripts and styles hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.inside: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("script", "style") and data.strip():
            self.inside.append((self.tags[-1], data))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with api.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=_CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """Opens a page's text; whatever the page complains of fails the test."""
    complaints: list[str] = []
    pages: list[Page] = []

    def open_page(text: str, width: int = 1200, scheme: str = "light") -> Page:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
        )
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    asked: list[str] = []
    yield open_page
    for page in pages:
        page.close()
    assert complaints == [], complaints
    assert all(url.startswith(("file:", "data:")) for url in asked)


def opened(page: Page) -> None:
    """Open all folded parts, which draws what is in them."""
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.wait_for_timeout(100)


PAPER = 718  # A4 between margins of a centimetre, in pixels of CSS


def faults(page: Page, width: int) -> list[str]:
    """Return what cannot be read of a page in a window of this width, in words.

    Sideways scrolling of the page, tables that scroll sideways without a sign, or on a phone though
    they could be stacked, boxes that cut their text, names of rows out of sight, arrows alone in a
    line of a header, texts of a drawing that overlap or leave it, intervals that leave their column
    for the texts beside it, shares that are not written as "98.6 %" or that
    break beside their bars, texts with a contrast below
    4.5:1 (WCAG 2.2, 1.4.3).
    """
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(100)
    found: list[str] = page.evaluate(_FAULTS.read_text())
    found += [f"written otherwise: {one}" for one in _TIGHT.findall(page.inner_text("main"))]
    return [f"{width} pixels: {fault}" for fault in found]


def on_paper(page: Page) -> list[str]:
    """Return the faults of a page as it is printed."""
    page.emulate_media(media="print")
    found = faults(page, PAPER)
    page.emulate_media(media="screen")
    return found
