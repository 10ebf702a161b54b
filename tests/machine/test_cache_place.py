from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.machine.cache_place import place_for_matplotlib

_DRAWN = """
import os, sys
from src.config.command_line import run_entry
from src.config.checks import Settings

def draw(settings, overrides):
    from matplotlib.figure import Figure
    Figure().savefig(sys.argv[1])

assert run_entry("", lambda overrides: Settings(), draw, argv=[]) == 0
print(os.environ.get("MPLCONFIGDIR", ""))
"""


def drawn(tmp_path: Path, **places: Path) -> str:
    """Draw in a command of a user whose home folder is a file; return matplotlib's place."""
    home = tmp_path / "home"
    home.touch()
    hidden = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "BAKEOFF_CACHE")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"HOME": str(home)} | {key: str(place) for key, place in places.items()}
    done = subprocess.run(
        [sys.executable, "-c", _DRAWN, str(tmp_path / "drawn.png")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and (tmp_path / "drawn.png").is_file()
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other places there")
def test_matplotlib_is_quiet_where_the_home_folder_cannot_be_written(tmp_path: Path) -> None:
    assert drawn(tmp_path, BAKEOFF_CACHE=tmp_path / "cache") == str(
        tmp_path / "cache" / "matplotlib"
    )


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="other places there")
def test_its_own_places_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "/chosen")
    place_for_matplotlib(str(tmp_path))
    assert os.environ["MPLCONFIGDIR"] == "/chosen"
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    place_for_matplotlib(str(tmp_path))
    assert os.environ["MPLCONFIGDIR"] == ""
    monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)
    place_for_matplotlib(str(tmp_path))
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "matplotlib")
