"""The command `bakeoff`: its entries, its version, and what a shell completes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from src.config.completion import completions
from src.machine.package import ENTRIES, command, package_version

ROOT = Path(__file__).resolve().parents[1]


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "src", *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_and_version() -> None:
    shown = typed()
    assert shown.returncode == 0 and shown.stdout == typed("--help").stdout
    assert all(f"bakeoff {name} " in shown.stdout for name in ENTRIES)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert typed("--version").stdout == f"bakeoff {project['version']}\n"
    assert package_version() == project["version"]


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    refused = typed("trian", "model=cnn")
    assert refused.returncode == 2 and "did you mean train?" in refused.stderr
    assert typed("completion", "tcsh").returncode == 2


def test_an_entry_gets_its_words_and_gives_its_exit_code() -> None:
    shown = typed("train", "model=mlp", "--cfg", "job")
    assert shown.returncode == 0 and "src.models.mlp.MLP" in shown.stdout
    assert typed("train", "model=none").returncode == 2


def test_every_entry_is_a_module_with_a_command() -> None:
    for name, (module, _) in ENTRIES.items():
        assert (ROOT / "src" / f"{module.replace('.', '/')}.py").is_file()
        assert command(name, "a=b c") == f"python -m src.{module} 'a=b c'"


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("bakeoff ", ["train", "completion"], ["model="]),
        ("bakeoff pre", ["predict"], ["train"]),
        ("bakeoff train ", ["model=", "optimizer.lr="], ["train"]),
        ("bakeoff train model=c", ["model=cnn"], ["model=mlp"]),
        ("bakeoff train model=cnn model.w", ["model.widths="], ["model.hidden="]),
        ("bakeoff sweep bud", ["budget.minutes="], ["model="]),
        ("bakeoff train 'op", [], ["optimizer.lr="]),
    ],
)
def test_what_a_shell_completes(line: str, some: list[str], others: list[str]) -> None:
    found = completions(line)
    assert set(some) <= set(found) and not set(others) & set(found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_get_a_script(shell: str) -> None:
    shown = typed("completion", shell)
    assert shown.returncode == 0 and "bakeoff complete" in shown.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=shown.stdout, text=True, check=True)
