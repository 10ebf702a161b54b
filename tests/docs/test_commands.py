"""Every command and every line of Python of the pages, run as it is written.

What a page takes for granted is put in place of its placeholders: `/path/to/clothing`,
`/path/to/pictures`, `/path/to/grades` and `/path/to/new` are folders of photographs, `RUN` and
`RUN_2` are finished runs. Trainings and races are cut short (`blocks.shortened`). The blocks of a
page run in their order, in one folder for nearly all pages, where the checkout's own parts lie, and
MLflow's tables; what was run for a page before is not run again. Commands that the shell is given
are forked from a Python that has imported what they do (`tests/warm_python.py`); what `make`, a
server or the package starts begins from nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from skimage import data as photographs

from tests.docs.blocks import PAGES, ROOT, Block, blocks_of, shortened
from tests.entries.commands import free_port
from tests.warm_python import WarmPython

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
PARTS = ("src", "conf", "sweeps", "docs", "benchmarks", "Makefile", "pyproject.toml")
# Make would compare the ages of files, and install anew.
MAKE = 'make() { command make -o .venv/.core -o .venv/.made "$@"; }\n'
SECONDS = 600
# Pages that need a champion of their own, or leave champions and runs of plugins that others with
# `run=champion` or without the plugin could not use.
ALONE = (
    *("certainty.md", "more_pictures.md", "several_labels.md", "ordered_classes.md", "masks.md"),
    "extending.md",
)
RUNNABLE = {
    page: [one for one in blocks_of(page) if one.language in ("bash", "python") and not one.skipped]
    for page in PAGES
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, each of crops of one photograph."""
    place = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    sources = {
        "cat": photographs.chelsea(),
        "cup": photographs.coffee(),
        "person": photographs.astronaut(),
    }
    for label, pixels in sources.items():
        for number in range(80):  # enough test pictures for a promise after two looks at them
            side = int(rng.integers(100, 160))
            top, left = (int(rng.integers(0, n - side)) for n in pixels.shape[:2])
            crop = Image.fromarray(pixels[top : top + side, left : left + side]).resize((96, 96))
            folder = place / "clothing" / label if number < 76 else place / "new"
            folder.mkdir(parents=True, exist_ok=True)
            crop.save(folder / f"{label}{number}.jpg", quality=95)
    for grade, label in {"none": "cat", "mild": "cup", "severe": "person"}.items():
        shutil.copytree(place / "clothing" / label, place / "grades" / grade)
    (place / "new" / "cat79.jpg").rename(place / "new" / "photo.jpg")
    scenes = place / "scenes"
    scenes.mkdir()
    rows = [
        f"../clothing/{file.parent.name}/{file.name},"
        + ";".join([file.parent.name, *(["even"] if number % 2 else [])] * (number % 9 > 0))
        for number, file in enumerate(sorted((place / "clothing").rglob("*.jpg")))
    ]
    (scenes / "labels.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    for file in sorted((place / "clothing").rglob("*.jpg")):
        picture = Image.open(file)
        for folder in ("images", "masks"):
            (place / "tiles" / folder).mkdir(parents=True, exist_ok=True)
        picture.save(place / "tiles" / "images" / file.name)
        bright = np.asarray(picture.convert("L")) > 128
        mask = Image.fromarray(bright.astype(np.uint8) * 255)
        mask.save(place / "tiles" / "masks" / f"{file.stem}.png")
    return place


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package `bakeoff`, with its command."""
    place = tmp_path_factory.mktemp("site")
    install = ["uv", "pip", "install", "--no-deps", "--no-build-isolation", "--target", place, ROOT]
    subprocess.run(
        [sys.executable, "-m", *install, "--python", sys.executable],
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    return place


class Workshop:
    """A folder in which a person types what a page says, with the servers that were started."""

    def __init__(
        self, place: Path, photos: Path, cache: Path, database: Path, python: WarmPython
    ) -> None:
        self.place = place
        self._python = python
        for part in PARTS:
            (place / part).symlink_to(ROOT / part)
        (place / ".venv").symlink_to(sys.prefix)
        (place / "outputs").mkdir()
        shutil.copy(database, place / "outputs")
        self._replacements = {
            "/path/to/clothing": str(photos / "clothing"),
            "/path/to/pictures": str(photos / "clothing"),
            "/path/to/new": str(photos / "new"),
            "/path/to/grades": str(photos / "grades"),
            "/path/to/scenes": str(photos / "scenes"),
            "/path/to/tiles": str(photos / "tiles"),
        }
        self.environment = os.environ | {
            "BAKEOFF_CACHE": str(cache),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self._servers: list[subprocess.Popen[bytes]] = []
        self._done: set[tuple[str, str]] = set()

    def use_package(self, site: Path) -> None:
        path = f"{site / 'bin'}{os.pathsep}{self.environment['PATH']}"
        self.environment |= {"PATH": path, "PYTHONPATH": str(site)}

    def train(self, name: str, seed: int) -> None:
        """Train what a page calls RUN or RUN_2, unless that was done."""
        if name in self._replacements:
            return
        line = f"python -m src.train model=cnn data=digits seed={seed}\n"
        printed = self.type(shortened(line))
        summary = re.search(r"^summary: (.*)$", printed, re.MULTILINE)
        assert summary is not None, printed
        self._replacements[name] = json.loads(Path(summary[1]).read_text())["run_id"]

    def filled(self, block: Block) -> str:
        """Return the text of a block without placeholders."""
        text = block.text
        if block.swap is not None:
            old, new = block.swap
            assert old in text, f"{block.place}: {old} is not in it"
            text = text.replace(old, new)
        return self.filled_text(shortened(text))

    def filled_text(self, text: str) -> str:
        places = "|".join(map(re.escape, sorted(self._replacements, key=len, reverse=True)))
        return re.sub(rf"(?<!\w)({places})\b", lambda found: self._replacements[found[1]], text)

    def type(self, text: str) -> str:
        """Run lines of a shell, which have to succeed, and return what they print."""
        number, python = self._python.in_a_shell()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", MAKE + python + text],
            cwd=self.place,
            env=self.environment,
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, text: str) -> None:
        """Run lines of Python, which have to succeed."""
        script = self.place / "block.py"
        script.write_text(text)
        self.type("python block.py")

    def has_done(self, block: Block) -> bool:
        """Whether a page before had the same."""
        return (block.text, block.note) in self._done

    def run(self, block: Block) -> None:
        """Run a block, or start its server."""
        if block.port is not None:  # which another program may have
            free = free_port()
            self._replacements[str(block.port)] = str(free)
            text = self.filled(block).rstrip()
            self.serve(text if str(free) in text else f"{text} port={free}", free)
        else:
            (self.python if block.language == "python" else self.type)(self.filled(block))
        self._done.add((block.text, block.note))

    def serve(self, text: str, port: int) -> None:
        """Start a server, and wait until it answers."""
        with (self.place / "server.log").open("wb") as log:
            server = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=self.place,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._servers.append(server)
        deadline = time.monotonic() + 400
        while not _answers(port):
            said = (self.place / "server.log").read_text()
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)

    def close(self) -> None:
        for server in self._servers:
            _end_group(server)
        self._servers.clear()
        lines = (" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))
        assert not [line for line in lines if f"{self.place}/" in line], "a server lives on"


def _end_group(server: subprocess.Popen[bytes]) -> None:
    """End a server as one is meant to end, so that it ends what it has started itself."""
    deadline = time.monotonic() + 60
    with suppress(ProcessLookupError):  # nobody is left in its group
        os.killpg(server.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            server.poll()  # else it stays in the group as a zombie
            os.killpg(server.pid, 0)
            time.sleep(0.05)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
    except urllib.error.HTTPError:
        return True  # it has no such page
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def opened(
    photos: Path, empty_database: Path, warm_python: WarmPython
) -> Callable[[Path, Path], Workshop]:
    """`opened(place, cache)` makes a workshop."""
    return lambda place, cache: Workshop(place, photos, cache, empty_database, warm_python)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, opened: Callable[[Path, Path], Workshop]
) -> Workshop:
    place = tmp_path_factory.mktemp("typed")
    return opened(place, place / "cache")


@pytest.fixture
def workshop(
    page: Path, shared: Workshop, opened: Callable[[Path, Path], Workshop], tmp_path: Path
) -> Iterator[Workshop]:
    """The folder of a page: that of all, or one of its own."""
    found = opened(tmp_path, shared.place / "cache") if page.name in ALONE else shared
    yield found
    found.close()


@pytest.mark.parametrize(
    "page",
    [page for page, blocks in RUNNABLE.items() if blocks],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_a_page_does_what_it_says(
    page: Path, workshop: Workshop, request: pytest.FixtureRequest
) -> None:
    blocks = RUNNABLE[page]
    text = "".join(block.text for block in blocks)
    if "bakeoff " in text or "import bakeoff" in text:
        workshop.use_package(request.getfixturevalue("site"))
    for seed, name in enumerate(("RUN", "RUN_2")):
        if re.search(rf"\b{name}\b", text):
            workshop.train(name, seed)
    prepare(page, workshop)
    for number, block in enumerate(blocks):
        # A server is there for the block behind it.
        wanted = blocks[number : number + (1 if block.port is None else 2)]
        if not all(map(workshop.has_done, wanted)):
            workshop.run(block)


def prepare(page: Path, workshop: Workshop) -> None:
    """Put in place what a page names and no block of it makes."""
    if page.name == "extending.md":
        images = np.random.default_rng(0).integers(0, 256, (200, 1, 12, 12), np.uint8)
        labels = np.where(images.mean(axis=(1, 2, 3)) > 127.5, "light", "dark")
        np.savez(workshop.place / "pictures.npz", images=images, labels=labels)
    if page.name in ("certainty.md", "more_pictures.md"):
        photos = "data=folder data.root=/path/to/clothing"
        workshop.type(workshop.filled_text(f"python -m src.train model=handcrafted {photos}"))
        workshop.type("python -m src.select data=clothing")
