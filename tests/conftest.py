"""What all tests share, and how files are dealt to processes."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import scipy.special  # noqa: F401  (before torch, as in src/data/loading: skops is imported sooner)
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

import src  # noqa: F401  (says how OpenMP's threads wait, before a test imports torch)
from tests.warm_python import BRIEF_TIMINGS, WarmPython

Outputs = Callable[[str], Path]

# A file system of Linux that is in memory, and more than the quick tests keep at a time.
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 2 << 30

# Tests start a hundred processes, and each would compile all that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# They compare with what a CPU computes, bit by bit, and `trainer.accelerator=auto` takes a GPU.
# BAKEOFF_TEST_GPU=1 leaves it that, which shows what is wrong there.
if os.environ.get("BAKEOFF_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Where quick tests fork commands: of `WarmPython`, or by the fixture `forking`.
_OF_COMMANDS = ("tests/entries/", "tests/sweeps/test_race.py", "tests/tracking/test_tracker.py")

# A busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="where tests/tracking/test_ui_browser.py leaves the README's pictures of MLflow",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Keep what quick tests write in memory, where there is room: a run waits for a disk 50 times.

    The tests of `make test-all` write to the disk.
    """
    if _is_quick(config) and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


def _is_quick(config: pytest.Config) -> bool:
    return config.option.markexpr == "not slow"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt the modules of all tests from garbage collection, which takes seconds of looking."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests: a long one at the end would keep one core busy."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class _Scheduling(LoadFileScheduling):
    """A file in one process; quick tests of commands, which share runs and a server, all in one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "commands" if _is_quick(self.config) and file.startswith(_OF_COMMANDS) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Scheduling:
    return _Scheduling(config, log)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite file without runs, made once for all processes: its schema takes seconds."""
    from src.tracking.addresses import default_uri
    from src.tracking.mlflow_store import Store

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "empty database"
    folder.mkdir(exist_ok=True)
    Store(default_uri(folder))
    return folder / "mlflow.db"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and no run of a first device to join."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BAKEOFF_RUN_FOLDER", raising=False)


@pytest.fixture(scope="module")
def brief_timings() -> Iterator[None]:
    """Runs in this process that time their networks for thousandths of a second, not for one."""
    with pytest.MonkeyPatch.context() as patch:
        for path, value in BRIEF_TIMINGS.items():
            patch.setattr(path, value)
        yield


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[None]:
    """Figures of this process are made, but not rendered: their files hold a white pixel.

    To render those of a short run takes as long as its training; tests/reporting looks at them.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from PIL import Image

    def blank(figure: Figure, path: Path, **_: object) -> None:
        Image.new("L", (1, 1), 255).save(path, format="png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", blank)
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    """An interpreter that has imported what commands do; it starts with the first command."""
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture
def forking(warm_python: WarmPython) -> Iterator[None]:
    """Workers and mirrors that a test starts in this process are forked, as those of commands."""
    with warm_python.forking():
        yield


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Outputs:
    """`outputs("name")` makes an output folder with a database to mirror runs in."""

    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copy(empty_database, folder)
        return folder

    return made
