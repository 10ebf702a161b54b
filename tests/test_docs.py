"""The pages name files that exist: code, tests, pictures, and headings of each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.__main__ import measurements

ROOT = Path(__file__).resolve().parents[1]
# A changelog names what is no longer there.
PAGES = [
    page
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if page.name != "CHANGELOG.md"
]
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_ANCHOR = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"`((?:(?:src|conf|sweeps|benchmarks|docs)/(?!(?:\w+/)*test_)|tests/)[\w./-]*)`")
_TEST = re.compile(r"`((?!tests/)(?:\w+/)*test_\w+\.py)`")
# A module in the text, such as `runs.single`: two names at least, the first of a room.
_DOTTED = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)`")
_MODULE = re.compile(r"-m ((?:src|benchmarks)(?:\.\w+)*)")


def _names(page: Path, pattern: re.Pattern[str]) -> set[str]:
    return set(pattern.findall(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    named = {
        *(page.parent / name for name in _names(page, _LINK)),
        *(ROOT / name for name in _names(page, _CODE)),
        *(ROOT / "tests" / name for name in _names(page, _TEST)),
    }
    assert [str(path) for path in named if not path.exists()] == []


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    outside = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(outside)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_headings_that_a_page_links_to_are_there(page: Path) -> None:
    found = _ANCHOR.findall(page.read_text(encoding="utf-8"))
    missing = [
        f"{name}#{anchor}"
        for name, anchor in found
        if anchor not in _anchors(page.parent / name if name else page)
    ]
    assert missing == []


def test_the_readme_leads_to_every_page() -> None:
    seen, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page not in seen:
            seen.add(page)
            if page.suffix == ".md":
                todo += [page.parent / name for name in _LINK.findall(page.read_text("utf-8"))]
    assert {path.resolve() for path in (ROOT / "docs").glob("*.*")} - seen == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_modules_that_a_page_runs_are_there(page: Path) -> None:
    for module in _names(page, _MODULE):
        path = ROOT.joinpath(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_the_measurements_that_the_figures_name_can_be_repeated() -> None:
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    named = {*re.findall(r"\| `(\w+)` \|$", page, re.MULTILINE)} | {
        *re.findall(r"\(`([a-z_]+)`\)", page)
    }
    assert len(named) > 20 and named <= {*measurements()}


def test_the_tutorial_says_which_parts_are_drawn() -> None:
    drawn = (ROOT / "conf" / "data" / "folder.yaml").read_text(encoding="utf-8")
    shares = {key: float(share) for key, share in re.findall(r"(val|test)_fraction: (\S+)", drawn)}
    said = " ".join((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").split())
    assert (
        f"{shares['val']:.0%} of the pictures for validation and {shares['test']:.0%} for the test"
    ).replace("%", " %") in said


def _rooms() -> Iterator[Path]:
    return (ROOT / "src").glob("*/__init__.py")


def test_the_modules_of_the_architecture_are_there() -> None:
    rooms = {path.parent.name for path in _rooms()}
    named = _names(ROOT / "docs" / "architecture.md", _DOTTED)
    modules = [name for name in named if name.partition(".")[0] in rooms]
    missing = [
        name
        for name in modules
        if not (ROOT / "src").joinpath(*name.split(".")).with_suffix(".py").exists()
    ]
    assert len(modules) > 30 and missing == []


def test_the_drawing_of_the_architecture_names_every_entry_and_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    boxes = dict(re.findall(r'^    (\w+)\["<b>\w+</b><br/>(.+)"\]$', page, re.MULTILINE))
    entries = {path.stem for path in (ROOT / "src").glob("[!_]*.py")} - {"api"}
    assert {*re.findall(r"\w+", boxes["entries"].replace("<br/>", " "))} == entries
    assert boxes.keys() - {"entries"} == {path.parent.name for path in _rooms()}


# A module, or a name in one, in a comment or docstring.
_IN_CODE = re.compile(r"`src\.((?:[a-z_0-9]+\.)*\w+)`|\bsrc/((?:\w+/)*\w+)\.py\b")


def test_the_modules_that_code_names_are_there() -> None:
    named = [
        (path, dotted or slashed.replace("/", "."))
        for root in ("src", "benchmarks")
        for path in (ROOT / root).rglob("*.py")
        for dotted, slashed in _IN_CODE.findall(path.read_text(encoding="utf-8"))
    ]
    missing = [(str(path), name) for path, name in named if not _is_there(name)]
    assert len(named) > 50 and missing == []


def _is_there(name: str) -> bool:
    """Whether src has this module or package, or in one a text with the last part of the name."""
    place = (ROOT / "src").joinpath(*name.split("."))
    if place.is_dir() or place.with_suffix(".py").exists():
        return True
    holder = (
        place.parent / "__init__.py" if place.parent.is_dir() else place.parent.with_suffix(".py")
    )
    return holder.exists() and place.name in holder.read_text(encoding="utf-8")


# A walk of the architecture: its counted modules, and those that it passes strictly.
_WALK = re.compile(
    r"^\*\*(.+?)\*\*,(.+?\b(\d+) modules: .+?)\nStrictly (\d+): (.+?)\n\n", re.M | re.S
)


def _walks() -> dict[str, tuple[list[str], list[str], int, int]]:
    """Return of each walk its counted modules, the others, and the two numbers of the page."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = {}
    for title, counted, count, strictly, others in _WALK.findall(page):
        lists = [
            [*dict.fromkeys(filter(_file, re.findall(r"`([a-z_.]+)`", text)))]
            for text in (counted, others)
        ]
        found[title] = (lists[0], lists[1], int(count), int(strictly))
    return found


def _file(module: str) -> Path | None:
    path = (ROOT / "src").joinpath(*module.split(".")).with_suffix(".py")
    return path if path.exists() else None


@cache
def _led_to(module: str) -> frozenset[str]:
    """Return the modules that one imports, itself or through a package, or starts by name."""
    path = _file(module) or (ROOT / "src").joinpath(*module.split("."), "__init__.py")
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    return frozenset(_imports(ast.parse(path.read_text(encoding="utf-8")), package))


def _imports(tree: ast.Module, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) + 1 - node.level]
            base = ".".join([*above, *filter(None, [node.module])])
            for name in {base, *(f"{base}.{one.name}" for one in node.names)}:
                if _file(name):
                    yield name
                elif (ROOT / "src").joinpath(*name.split("."), "__init__.py").exists() and base:
                    yield from _led_to(name)
            if any(one.name == "import_object" for one in node.names):
                yield from _targets()  # what a `_target_` names


@cache
def _targets() -> frozenset[str]:
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "conf").rglob("*.yaml"))
    return frozenset(one for text in texts for one in re.findall(r"src\.([a-z_.]+)\.\w+", text))


@pytest.mark.parametrize("title", _walks())
def test_a_walk_of_the_architecture_leads_from_module_to_module(title: str) -> None:
    counted, others, count, strictly = _walks()[title]
    assert (len(counted), len({*counted, *others})) == (count, strictly)
    everything = [*counted, *others]
    for place, module in enumerate(everything[1:], start=1):
        known = {*everything[:place], *others} - {module}
        assert known & _led_to(module) or any(module in _led_to(one) for one in known), module


def test_the_architecture_has_four_walks() -> None:
    assert len(_walks()) == 4
