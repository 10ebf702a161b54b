"""The command `bakeoff`: its entries, its version, and what a shell completes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from src.__main__ import main
from src.config.completion import completions
from src.machine.package import ENTRIES, command, package_version
from src.sweep import main as sweep_main

ROOT = Path(__file__).resolve().parents[1]


Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Give the command arguments: its exit code, output and messages."""

    def typed(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bakeoff", *arguments])
        return main(), *capsys.readouterr()

    return typed


def test_help_and_version(typed: Typed) -> None:
    code, shown, _ = typed()
    assert code == 0 and shown == typed("--help")[1]
    assert all(f"  {command(name)} " in shown for name in ENTRIES)
    assert "bakeoff " not in shown  # no command of a checkout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert typed("--version")[1] == f"bakeoff {project['version']}\n"
    assert package_version() == project["version"]


def test_a_reader_that_has_seen_enough_is_no_fault() -> None:
    """`bakeoff --help | head -1`; the pipe has no reader from the beginning here."""
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "src", "--help"]
    done = subprocess.run(line, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 1 and done.stderr == b""


def test_an_unknown_command_is_refused_with_the_nearest(typed: Typed) -> None:
    code, _, message = typed("trian", "model=cnn")
    assert code == 2 and "did you mean train?" in message
    assert typed("completion", "tcsh")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [(["model=mlp", "--cfg", "job"], 0, "src.models.mlp.MLP"), (["model=none"], 2, "")],
)
def test_an_entry_gets_its_arguments_and_gives_its_exit_code(
    arguments: list[str], code: int, shown: str
) -> None:
    line = [sys.executable, "-m", "src", "train", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code and shown in done.stdout


def test_every_entry_is_a_module_with_a_command() -> None:
    for name, (module, _) in ENTRIES.items():
        assert (ROOT / "src" / f"{module.replace('.', '/')}.py").is_file()
        assert command(name, "a=b c") == f"python -m src.{module} 'a=b c'"


@pytest.mark.parametrize("module", ["__main__", *sorted(module for module, _ in ENTRIES.values())])
def test_an_entry_that_is_given_as_a_file_says_how_it_is_typed(module: str, tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "src" / f"{module.replace('.', '/')}.py"), "model=cnn"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    name = "src" if module == "__main__" else f"src.{module}"
    assert done.stderr.count("\n") == 1 and f"run python -m {name} in" in done.stderr


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_shows_help_and_settings_without_any(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = importlib.import_module(f"src.{ENTRIES[name][0]}")
    for flags in (["--help"], ["--cfg", "job"]):
        monkeypatch.setattr(sys, "argv", [name, *flags])
        assert entry.main() == 0
        shown = capsys.readouterr().out
        assert shown and ("optimizer  " in shown) == (name in ("train", "sweep") and len(flags) < 2)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_has_a_version_and_refuses_what_it_does_not_know(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = importlib.import_module(f"src.{ENTRIES[name][0]}")
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    assert entry.main() == 0 and capsys.readouterr().out == f"bakeoff {package_version()}\n"
    monkeypatch.setattr(sys, "argv", [name, "--wrong=1"])
    assert entry.main() == 2
    refused = capsys.readouterr().err
    assert "there is no flag --wrong=1" in refused and "--version" in refused
    assert ("--multirun" not in refused and "--config-name" in refused) == (name == "sweep")
    monkeypatch.setattr(sys, "argv", [name, "zq.xj=1"])
    assert entry.main() == 2 and "zq.xj: there is no such key; --help" in capsys.readouterr().err


def test_the_help_of_a_sweep_lists_what_it_chooses_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", "--help"])
    assert sweep_main() == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("--config-name", "pareto", "nsga2", "wilcoxon", "ray"))
    monkeypatch.setattr(sys, "argv", ["sweep", "--multirun", "families=[cnn],[vit]"])
    assert sweep_main() == 2 and "study=NAME" in capsys.readouterr().err


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
        ("bakeoff train -m optimizer.lr=0.1,0.2 optimizer.l", ["optimizer.lr="], []),
        ("bakeoff train --config-dir x model=mlp model.h", ["model.hidden="], []),
        ("bakeoff train bogus=1 --bogus model=mlp model.h", ["model.hidden="], []),
        ("bakeoff sweep --config-name dense bud", ["budget.minutes="], []),
        ("bakeoff sweep --config-name de", ["default", "dense"], ["budget.minutes="]),
        ("bakeoff predict top", ["top_k="], ["run="]),
        ("bakeoff predict changed=", ["changed=refuse", "changed=use"], []),
        ("bakeoff compare metric=m", ["metric=mae"], ["metric=kappa"]),
        ("bakeoff train data.fit=c", ["data.fit=crop"], ["data.fit=pad"]),
        ("bakeoff train model=timm model.head_start=", ["model.head_start=random"], []),
        ("bakeoff train model=timm model.bogus=", [], ["model.head_start=random"]),
        ("bakeoff sweep runtime.compile=", ["runtime.compile=true"], ["runtime.compile=True"]),
        ("bakeoff train data.batch_size=", [], ["data.batch_size=auto"]),
        ("bakeoff export variants=", ["variants=onnx"], []),
        ("bakeoff push ", ["to=", "run=", "license="], ["model="]),
        ("bakeoff verify ", ["run="], []),
        ("bakeoff weights fil", ["filter="], []),
        ("bakeoff ui ", ["port="], []),
        ("bakeoff bogus ", [], ["run="]),
    ],
)
def test_what_a_shell_completes(line: str, some: list[str], others: list[str]) -> None:
    found = completions(line)
    assert set(some) <= set(found) and not set(others) & set(found)


@pytest.mark.parametrize("entry", ENTRIES)
def test_keys_of_every_entry_are_completed(entry: str) -> None:
    found = completions(f"bakeoff {entry} ")
    assert found and all(one.endswith("=") and "_target_" not in one for one in found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_get_a_script(shell: str, typed: Typed) -> None:
    code, script, _ = typed("completion", shell)
    assert code == 0 and "bakeoff complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_make_refuses_settings_that_it_would_lose() -> None:
    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-n", "train", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    refused = make("model=mlp", "trainer.max_epochs=1")
    assert refused.returncode == 2
    assert 'ARGS="model=mlp trainer.max_epochs=1"' in refused.stderr
    taken = make("ARGS=model=mlp seed=1", "BAKEOFF_GPU_CHECKS=epoch")
    assert taken.returncode == 0 and "-m src.train model=mlp seed=1" in taken.stdout
