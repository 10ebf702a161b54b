"""A real MLflow on SQLite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from src.tracking.addresses import default_uri
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


@pytest.fixture
def diary(output_dir: Path) -> Diary:
    return Diary(output_dir / "runs" / "first")
