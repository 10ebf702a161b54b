"""A real MLflow on SQLite, and a mirror that sends to it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.tracking.addresses import default_uri
from src.tracking.mirror_process import MirrorProcess
from src.tracking.mlflow_store import Store
from tests.tracking.diary import Diary


@pytest.fixture
def output_dir(tmp_path: Path, empty_database: Path) -> Path:
    """A folder with a ready, empty database."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return folder


@pytest.fixture
def store(output_dir: Path) -> Store:
    return Store(default_uri(output_dir))


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MirrorProcess]:
    """One real mirror process, which serves many runs, as in a sweep."""
    process = MirrorProcess(tmp_path_factory.mktemp("mirror") / "mirror.log")
    yield process
    process.close()


@pytest.fixture
def diary(output_dir: Path) -> Diary:
    return Diary(output_dir / "runs" / "first")
