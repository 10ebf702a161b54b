from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from src.tracking import provenance
from src.tracking.provenance import Git, Provenance, command_line, read_git


def git(root: Path, *overrides: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *who, *overrides], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "größe"
    root.mkdir()
    git(root, "init")
    (root / "a.txt").write_text("one\n")
    git(root, "add", "a.txt")
    git(root, "commit", "-m", "x")
    return root


def test_commit_and_changes_are_those_of_git(checkout: Path) -> None:
    clean = read_git(checkout)
    assert clean == Git(git(checkout, "rev-parse", "HEAD"), "") and not clean.dirty
    (checkout / "a.txt").write_text("two\n")
    (checkout / "unknown.txt").write_text("not added")
    dirty = read_git(checkout)
    assert dirty is not None and dirty.dirty and dirty.commit == clean.commit
    assert "-one\n+two\n" in dirty.diff and "not added" not in dirty.diff


def test_a_huge_or_binary_difference_is_cut(checkout: Path) -> None:
    (checkout / "a.txt").write_bytes(b"\xff\xfe line\n" * 300_000)
    got = read_git(checkout)
    assert got is not None and len(got.diff.encode()) < 4_000_000
    assert "bytes in all]" in got.diff[-100:]


def test_no_checkout_no_commit_no_git_is_none(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_git(tmp_path) is None
    (checkout / "below").mkdir()
    assert read_git(checkout / "below") is None  # somebody else's repository around ours
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init")
    assert read_git(empty) is None
    assert read_git(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", str(empty))
    assert read_git(checkout) is None


def test_a_hooks_environment_does_not_mislead(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    got = read_git(checkout)
    assert got is not None and got.commit == commit


def test_the_command_line_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/venv/bin/python3.11", "-m", "src.train", "data.root=my pictures", "a=[1, 2]"]
    monkeypatch.setattr(sys, "orig_argv", argv)
    assert command_line() == "python -m src.train 'data.root=my pictures' 'a=[1, 2]'"
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "x", "tracking.uri=http://me:pw@host"])
    assert "pw" not in command_line()


def test_tags_carry_mlflows_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "python -m src.train model=cnn"
    tags = Provenance(command, Git("c" * 40, "diff"), {}, {}).tags()
    assert tags["mlflow.source.name"] == "src.train"
    assert tags["mlflow.source.git.commit"] == "c" * 40
    assert tags["bakeoff.command"] == command and tags["bakeoff.git.dirty"] == "true"
    for line, name in (
        ("python -u -m src.train -m", "src.train"),
        ("python -X importtime -W ignore -um src.tracking.replay", "src.tracking.replay"),
        ("python -Wignore -msrc.train x", "src.train"),
        ("python -u '/my venv/bin/bakeoff' train model=mlp", "bakeoff"),
        ("bakeoff train -m", "bakeoff"),
        ("python -Bc 'print(1)' x.py", "python"),
        ("python", "python"),
    ):
        assert Provenance(line, None, {}, {}).tags()["mlflow.source.name"] == name
    assert "mlflow.source.git.commit" not in Provenance("python", None, {}, {}).tags()

    def nobody() -> str:
        raise KeyError("uid 12345")

    monkeypatch.setattr(provenance.getpass, "getuser", nobody)
    assert Provenance(command, None, {}, {}).tags()["mlflow.user"] == "unknown"


def test_reading_imports_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; from src.tracking.provenance import Provenance; Provenance.read()\n"
        "print([m for m in ('torch', 'mlflow', 'numpy', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_files_hold_it_all_and_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush-hush")
    got = Provenance.read()
    assert got.packages["mlflow"] == version("mlflow")
    assert got.packages["python"] == ".".join(map(str, sys.version_info[:3]))
    assert got.machine["cores"] == len(os.sched_getaffinity(0))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert got.machine["memory_gb"] == pytest.approx(pages / 1e9, rel=0.05)
    files = Provenance(got.command, Git("c" * 40, "+x\n"), got.packages, got.machine).write(
        tmp_path
    )
    assert [file.name for file in files] == ["provenance.json", "changes.diff"]
    content = json.loads(files[0].read_text())
    assert content["git"] == {"commit": "c" * 40, "dirty": True}
    assert content["machine"] == got.machine and content["packages"] == got.packages
    assert all("hush-hush" not in file.read_text() for file in files)
    clean = Provenance("python", None, {}, {}).write(tmp_path / "clean")
    assert [file.name for file in clean] == ["provenance.json"]
    assert json.loads(clean[0].read_text())["git"] is None


def test_a_password_in_changed_code_is_not_kept(tmp_path: Path) -> None:
    diff = "-uri: null\n+uri: postgresql://me:p@ss/w0rd@host/db\n+x: http://h/?token=w0rd\n"
    files = Provenance("python", Git("c" * 40, diff), {}, {}).write(tmp_path)
    kept = files[1].read_text()
    assert "w0rd" not in kept and "postgresql://me:***@host/db" in kept
