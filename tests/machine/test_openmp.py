"""How threads wait is set before anything loads OpenMP, and the user's choice holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.machine.openmp import WAITING, wait_briefly
from src.machine.subprocesses import ROOT, import_environment

VARIABLES = ("OMP_WAIT_POLICY", *WAITING)

# Python imports this module when it starts. It writes the variables down when the first library
# with an OpenMP of its own is about to be imported, or where none is when the command leaves, which
# it does by `os._exit` or as Python does.
_SPY = """
import atexit, json, os, sys

before_numpy = []

def seen():
    names = os.environ["SPY_NAMES"].split()
    return {name: os.environ[name] for name in names if name in os.environ}

def note(how):
    if not os.path.exists(os.environ["SPY_FILE"]):
        with open(os.environ["SPY_FILE"], "w") as file:
            json.dump({"how": how, "found": seen(), "before_numpy": before_numpy}, file)

class Spy:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "numpy":
            before_numpy.append(seen())
        if name in ("torch", "sklearn"):
            note(name)
            leave(0)

sys.meta_path.insert(0, Spy)
atexit.register(note, "exit")
leave = os._exit

def end(code):
    note("exit")
    leave(code)

os._exit = end
"""

# Whether the command comes as far as importing torch or scikit-learn, and the command.
_COMMANDS = {
    "train": (True, "src.train", "model=mlp", "tracking=none"),
    "sweep": (False, "src.sweep", "--help"),
    "evaluate": (False, "src.evaluate", "run=none", "--help"),
    "predict": (False, "src.predict", "run=none", "images=none", "out=none.csv", "--help"),
    "compare": (False, "src.compare", "--help"),
    "select": (False, "src.select", "--help"),
    "export": (False, "src.export", "run=none", "--help"),
    "worker": (True, "src.search.workers.local", "{fd}", "src.sweeps.run_job.TrialRunner"),
    "a trial on several devices": (
        *(True, "src.search.workers.local", "{fd}", "src.sweeps.run_job:device_runner"),
        '{{"kind": "Job", "task": {{}}}}',
    ),
    "tests": (True, "pytest", "-q", "--collect-only", "tests/training/test_losses.py"),
    "benchmarks": (True, "benchmarks", "runtime"),
}
# They begin as "sweep" does.
_AS_SWEEP = ("evaluate", "compare", "select", "export")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *(
            pytest.param(name, {}, marks=[pytest.mark.slow] if name in _AS_SWEEP else [])
            for name in _COMMANDS
        ),
        ("train", {"OMP_WAIT_POLICY": "ACTIVE"}),
        ("worker", {"GOMP_SPINCOUNT": "77"}),
    ],
)
def test_a_process_says_how_threads_wait_before_it_loads_them(
    tmp_path: Path, name: str, own: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_SPY)
    imports, *command = _COMMANDS[name]
    reading, writing = os.pipe()
    os.close(writing)  # a worker ends once nobody can give it a job
    spy = {"SPY_FILE": str(tmp_path / "found.json"), "SPY_NAMES": " ".join(VARIABLES)}
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    environment |= import_environment() | spy | own
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    process = subprocess.run(
        [sys.executable, "-m", *(str(word).format(fd=reading) for word in command)],
        env=environment,
        cwd=ROOT,
        pass_fds=[reading],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(reading)
    seen = json.loads((tmp_path / "found.json").read_text())
    assert (seen["how"] != "exit") == imports, process.stderr
    assert seen["found"] == (own or WAITING)
    if name != "tests":  # a plugin of pytest imports NumPy, which loads OpenBLAS
        assert all(found == (own or WAITING) for found in seen["before_numpy"])


def test_any_choice_of_the_user_stands_alone() -> None:
    for name in VARIABLES:
        environment = {name: "mine"}
        wait_briefly(environment)
        assert environment == {name: "mine"}
    empty: dict[str, str] = {}
    wait_briefly(empty)
    assert empty == WAITING


_SPIN = """
import src, time
import numpy as np
matrix = np.ones((600, 600))
matrix @ matrix
began = time.process_time()
time.sleep(0.2)
print(time.process_time() - began)
"""


@pytest.mark.skipif(
    "openblas" not in np.show_config("dicts")["Build Dependencies"]["blas"]["name"]
    or (os.cpu_count() or 1) < 2,
    reason="NumPy has no OpenBLAS with several threads here",
)
def test_threads_of_openblas_do_not_spin_while_nothing_is_computed() -> None:
    """By processor time, of which they take 20 ms after each product as they come."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= import_environment() | {"OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", _SPIN]
    spent = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert float(spent.stdout) < 0.008
