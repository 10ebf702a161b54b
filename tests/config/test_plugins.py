"""What of a plugin's code decides whether something that is kept is still the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_DIGESTS = """
import json
from src.config.plugins import code_digest
print(json.dumps([code_digest("my_plugin.Mine"), code_digest("src.features.Raw", "my_plugin.Mine"),
                  code_digest("src.features.Raw"), code_digest()]))
"""


def digests(plugin: Path) -> list[str]:
    environment = {**os.environ, "BAKEOFF_PLUGINS": str(plugin)}
    command = [sys.executable, "-B", "-c", _DIGESTS]
    found: list[str] = json.loads(subprocess.check_output(command, env=environment, text=True))
    return found


def test_the_code_of_a_plugin_is_told_from_its_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "my_plugin.py").write_text("class Mine: pass\n")
    (tmp_path / "inner").mkdir()
    first = digests(tmp_path)
    assert digests(tmp_path) == first
    assert first[0] and first[1] == first[0] and first[2:] == ["", ""]
    (tmp_path / "my_plugin.py").write_text("class Mine: other = 1\n")
    second = digests(tmp_path)
    (tmp_path / "inner" / "further.py").write_text("VALUE = 1\n")
    third = digests(tmp_path)
    assert len({first[0], second[0], third[0]}) == 3
