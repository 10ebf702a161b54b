from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from src.config.checks import ConfigError, from_plain
from src.config.compose import CONF
from src.config.sweep import DashboardSettings
from src.search.study import SweepStudy
from src.sweeps.dashboard import show
from tests.entries.commands import free_port
from tests.search.studies import NUMBERS, family, plan, run

pytest.importorskip("optuna_dashboard", reason="the extra `dashboard` is not installed")
_ROOT = Path(__file__).resolve().parents[2]


def _settings(output_dir: Path, port: int = 8080, study: str = "default") -> DashboardSettings:
    plain = yaml.safe_load((CONF / "dashboard.yaml").read_text())
    given = {"output_dir": str(output_dir), "port": port, "study": study}
    return from_plain(DashboardSettings, plain | given)


def _study(output_dir: Path) -> None:
    with SweepStudy(output_dir / "sweeps" / "s", plan(family(NUMBERS))) as study:
        run(study, 4)


def test_a_study_that_is_not_there_is_the_users_mistake(tmp_path: Path) -> None:
    _study(tmp_path)
    with pytest.raises(ConfigError, match="there are s;"):
        show(_settings(tmp_path))


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    _study(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
            show(_settings(tmp_path, port, "s"))


@pytest.mark.slow
def test_the_pages_show_the_study_until_ctrl_c(tmp_path: Path) -> None:
    _study(tmp_path)
    port = free_port()
    overrides = ["study=s", f"output_dir={tmp_path}", f"port={port}"]
    with subprocess.Popen(
        [sys.executable, "-m", "src.sweeps.dashboard", *overrides],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert str(tmp_path / "sweeps" / "s") in process.stdout.readline()
            page = f"http://127.0.0.1:{port}/dashboard/studies/0"
            assert page in process.stdout.readline()
            with urllib.request.urlopen(page, timeout=20) as answer:
                assert answer.status == 200 and b"Optuna" in answer.read()
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and errors == ""
