"""The package that `pip install .` makes: one name, its command, and runs that a checkout reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from src import api

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.usefixtures("brief_timings"),
]
QUICK = ["trainer.max_epochs=1", "trainer.progress=false", "tracking.log_model=false"]


def done(*line: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed and return what it prints."""
    result = subprocess.run(
        line, cwd=cwd, env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "uv", "build", "--no-build-isolation", "-o", place]
    done(*build, "--python", sys.executable, ROOT, cwd=place)
    (sdist,) = place.glob("*.tar.gz")
    (wheel,) = place.glob("*.whl")
    # From the source archive, as an index serves it, comes the same wheel.
    again = tmp_path_factory.mktemp("again")
    done(*build[:-1], again, "--wheel", "--python", sys.executable, sdist, cwd=again)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(next(again.glob("*.whl"))) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
    return wheel


@dataclass(frozen=True)
class Installed:
    """The package in a folder of its own, used in another one.

    Attributes:
        site: where it is installed.
        cwd: the folder in which it is used.
    """

    site: Path
    cwd: Path

    def typed(self, *overrides: str) -> str:
        return done(
            self.site / "bin" / "bakeoff", *overrides, cwd=self.cwd, env=self._environment()
        )

    def python(self, code: str) -> str:
        return done(sys.executable, "-P", "-c", code, cwd=self.cwd, env=self._environment())

    def _environment(self) -> dict[str, str]:
        paths = {"PYTHONPATH": str(self.site), "BAKEOFF_CACHE": str(self.site.parent / "cache")}
        return os.environ | paths | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("installed") / "site"
    install = [sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", site]
    done(*install, "--python", sys.executable, wheel, cwd=site.parent)
    return site


def beside_another(site: Path, project: Path) -> Installed:
    """Return the package in the folder of another project, which has a `src` too."""
    (project / "src").mkdir(parents=True)
    for name in ("src/__init__.py", "select.py", "bakeoff.py", "data.py"):
        (project / name).write_text("raise RuntimeError('the code of another project')\n")
    return Installed(site, project)


@pytest.fixture
def installed(site: Path, tmp_path: Path) -> Installed:
    return beside_another(site, tmp_path / "a project")


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a network that the package trained, and what it printed."""
    installed = beside_another(site, tmp_path_factory.mktemp("trained") / "a project")
    shown = installed.typed("train", "model=mlp", *QUICK)
    (run,) = (installed.cwd / "outputs" / "runs").iterdir()
    return run, shown


def test_nothing_else_becomes_importable(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"bakeoff"}
    presets = {name.removeprefix("bakeoff/presets/") for name in names if "/presets/" in name}
    for folder in ("conf", "sweeps"):
        files = {str(f.relative_to(ROOT)) for f in (ROOT / folder).rglob("*") if f.is_file()}
        assert files <= presets


def test_the_command_trains_and_goes_on_where_it_is_typed(
    site: Path, trained: tuple[Path, str]
) -> None:
    run, shown = trained
    installed = Installed(site, run.parents[2])
    assert installed.typed("--version").startswith("bakeoff ")
    assert str(run) in shown and (installed.cwd / "outputs" / "mlflow.db").is_file()
    assert "bakeoff." not in (run / "config.yaml").read_text()
    again = installed.typed("train", f"resume={run}")
    assert "bakeoff" in again or str(run) in again


@pytest.fixture
def tracked(installed: Installed, empty_database: Path) -> Installed:
    """With a database to mirror runs in."""
    (installed.cwd / "outputs").mkdir()
    shutil.copy(empty_database, installed.cwd / "outputs")
    return installed


@pytest.mark.parametrize("model", ["mlp", "handcrafted"])
def test_runs_are_the_same_wherever_they_were_made(
    installed: Installed, tmp_path: Path, model: str, request: pytest.FixtureRequest
) -> None:
    """A run of the package is loaded by the checkout, and one of the checkout by the package."""
    images = np.round(load_digits().images[:3] * 255 / 16).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    overrides = [f"model={model}", "tracking=none", "tracking.figures=false"]
    if model == "mlp":
        theirs, _ = request.getfixturevalue("trained")
        overrides += QUICK
    else:
        installed.typed("train", *overrides, f"output_dir={tmp_path / 'theirs'}")
        (theirs,) = (tmp_path / "theirs" / "runs").iterdir()
    ours = api.fit("digits", *overrides, output_dir=tmp_path / "ours").folder
    answers = tmp_path / "answers.npz"
    installed.python(
        "import bakeoff, sys, numpy as np\n"
        f"images = list(np.load({str(tmp_path / 'images.npy')!r}))\n"
        f"runs = {[str(theirs), str(ours)]}\n"
        "models = [bakeoff.load(run, output_dir=run + '/../..') for run in runs]\n"
        "assert 'src' not in sys.modules, 'another package is loaded'\n"
        f"np.savez({str(answers)!r}, *(model.probabilities(images) for model in models))\n"
    )
    with np.load(answers) as there:
        for run, probs in zip((theirs, ours), there.values(), strict=True):
            here = api.load(str(run), output_dir=run.parents[1]).probabilities(list(images))
            np.testing.assert_allclose(probs, here, atol=1e-6)


def test_the_notebook_runs_as_it_is_written_and_commands_go_on_with_it(tracked: Installed) -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    tracked.python("\n".join([*code, "assert run.folder.is_dir()"]))
    (folder,) = (tracked.cwd / "outputs" / "sweeps").iterdir()
    said = tracked.typed("sweep", f"study={folder.name}", "budget.trials=5")
    assert "5 trials (5 complete)" in said and "python -m" not in said
    shown = tracked.typed("compare", f"sweep={folder.name}")
    assert "python -m" not in shown
    tracked.typed("select", f"sweep={folder.name}")
