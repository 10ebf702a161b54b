"""What Windows lacks is not asked of it on the ways that docs/install.md promises.

Windows is not there to be tried: it is stood for by a Python without the modules and functions of
which its documentation says "Availability: Unix", once other packages have taken what they find.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm_python import ROOT

_MODULES = (
    *("curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog"),
    *("termios", "tty"),
)
_FUNCTIONS = {
    "os": (
        *("chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getgroups", "getloadavg"),
        *("getpgid", "getpgrp", "getsid", "getuid", "initgroups", "killpg", "lchown", "mkfifo"),
        *("mknod", "nice", "openpty", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread"),
        *("preadv", "pwrite", "register_at_fork", "sched_getaffinity", "sched_setaffinity"),
        *("setgid", "setpgid", "setpriority", "setsid", "setuid", "statvfs", "sync"),
        *("tcgetpgrp", "uname", "wait", "wait3", "wait4", "waitid"),
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "ST_RDONLY"),
    ),
    "select": ("epoll", "poll"),
    "signal": (
        *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGPIPE", "SIGQUIT"),
        *("SIGUSR2", "alarm", "pause", "pthread_sigmask", "setitimer", "siginterrupt", "sigwait"),
    ),
    "socket": ("AF_UNIX", "recv_fds", "send_fds"),
}
# Entries that docs/install.md lists for Windows, with the module of each.
_PROMISED = ("train", "predict", "evaluate", "export", "push", "verify")


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported."""
    for one in body:
        yield one
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from _at_import(getattr(one, name, []))


def test_no_module_needs_unix_to_be_imported() -> None:
    found = []
    for file in (ROOT / "src").rglob("*.py"):
        for one in _at_import(ast.parse(file.read_bytes()).body):
            names = [alias.name for alias in one.names] if isinstance(one, ast.Import) else []
            names += [str(one.module)] if isinstance(one, ast.ImportFrom) else []
            found += [f"{file.name}: {name}" for name in names if name in _MODULES]
    assert found == []


_CODE = """
import os, select, shutil, signal, socket, sys
# What other packages take of Unix where they find it, they have by now.
import filelock, matplotlib.figure, pandas, psutil, pyarrow.parquet, pytorch_lightning
import rich.progress
import scipy.stats, skimage.feature, sklearn.ensemble, timm, torch, torchvision
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10**12, 0, 10**12)  # it has another there
for name in {modules!r}:
    sys.modules[name] = None
for name, lacking in {functions!r}.items():
    for one in lacking:
        sys.modules[name].__dict__.pop(one, None)
import importlib
for entry in {entries!r}:
    importlib.import_module("src." + entry)
def typed(entry, *words):
    sys.argv = [entry, *words]
    assert importlib.import_module("src." + entry).main() == 0, (entry, words)
out = "output_dir=" + {out!r}
typed("train", "model=mlp", "data=folder", "data.root=" + {root!r}, "trainer.max_epochs=1",
      "tracking=none", out)
run, = os.listdir({out!r} + "/runs")
typed("evaluate", "run=" + run, out)
typed("predict", "run=" + run, "images=" + {root!r}, "out=" + {out!r} + "/labels.csv", out)
typed("export", "run=" + run, "variants=[pt2]", "rounds=1", out)
typed("verify", out)
"""


@pytest.mark.slow
def test_a_model_is_trained_used_and_exported_without_what_windows_lacks(tmp_path: Path) -> None:
    from tests.data.pictures import tree

    root = tree(tmp_path / "pets", {"cat": 30, "dog": 30})
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert all(f"`{entry}`" in page for entry in _PROMISED)
    code = _CODE.format(
        modules=_MODULES,
        functions=_FUNCTIONS,
        entries=(*_PROMISED, "tracking.ui", "compare", "select"),
        root=str(root),
        out=str(tmp_path / "out"),
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "labels.csv").is_file()
