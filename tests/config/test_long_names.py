"""Names that are longer than the file system takes."""

from __future__ import annotations

import sys

import pytest

from src.verify import main


@pytest.mark.parametrize("override", [f"run={'a' * 300}", f"output_dir=/tmp/{'a' * 300}"])
def test_a_name_too_long_for_the_file_system_is_wrong_input(
    override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify", override])
    assert main() == 2
    message = capsys.readouterr().err
    assert "the name is longer than the file system takes" in message
    assert "Traceback" not in message
