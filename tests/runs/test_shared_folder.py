"""An output folder that a group shares: what one member has made, the others may go on with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.data.splitting.test_usage import count_test_measurement
from src.search.storage import Journal
from src.tracking.spool import Spool

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")


@pytest.fixture
def for_the_group() -> Iterator[None]:
    """A umask that leaves the group its rights."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.usefixtures("for_the_group")
def test_what_is_appended_to_may_be_written_by_whom_the_umask_lets(tmp_path: Path) -> None:
    count_test_measurement(tmp_path, "a split", "a run")
    Journal(tmp_path / "journal.log").close()
    with Spool(tmp_path / "run"):
        pass
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) >= 3
    assert [path for path in made if not path.stat().st_mode & 0o020] == []
