"""Names that are longer than the file system takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

__all__: list[str] = []


@pytest.mark.parametrize("override", [f"run={'a' * 300}", f"output_dir=/tmp/{'a' * 300}"])
def test_a_name_too_long_for_the_file_system_is_wrong_input(override: str) -> None:
    command = [sys.executable, "-m", "src.verify", override]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "the name is longer than the file system takes" in ended.stderr
    assert "Traceback" not in ended.stderr
