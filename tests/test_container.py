"""The image and the development container: what they copy and call is there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from src.config.sweep import read_sweep_settings
from src.machine.package import ENTRIES

ROOT = Path(__file__).resolve().parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments, lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def copied() -> list[str]:
    return [
        source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]
    ]


def test_what_the_image_copies_is_there_and_sent_to_it() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(sent) == sorted(copied()), "what is sent and what is copied differ"
    for pattern in copied():
        assert list(ROOT.glob(pattern)), pattern
    for needed in ("pyproject.toml", "src/__main__.py", "conf/config.yaml"):
        assert any(fnmatch(needed, one) or needed.startswith(f"{one}/") for one in copied())


def test_the_package_in_the_image_has_all_that_it_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    built = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert set(built) <= set(copied())
    assert project["project"]["readme"] in copied()
    calls = dict(instructions())
    assert json.loads(calls["ENTRYPOINT"]) == list(project["project"]["scripts"])


@pytest.mark.parametrize("file", ["Dockerfile", ".devcontainer/devcontainer.json"])
def test_what_is_called_of_make_is_there(file: str) -> None:
    text = (ROOT / file).read_text().replace('\\"', '"')
    targets = re.findall(r"make (install|ui|dashboard|[a-z]+)\b(?= [A-Z]+=|\))", text)
    assert "install" in targets
    assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in targets)
    extras = re.findall(r'EXTRAS="([a-z ]+)"', text)
    assert extras
    for extra in extras[0].split():
        assert (ROOT / f"requirements-{extra}.lock").is_file()


def test_every_extra_has_its_lock_and_stands_in_the_page_on_installing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"dev"}
    locks = {path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.lock")}
    page = (ROOT / "docs" / "install.md").read_text()
    assert extras == locks == {extra for extra in locks if f"`{extra}`" in page}


def test_the_command_of_the_image_is_one() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (line,) = re.findall(r"^#\s+-v bakeoff-cache:/cache bakeoff (.+)$", text, re.MULTILINE)
    entry, *overrides = shlex.split(line)
    assert entry in ENTRIES
    settings = read_sweep_settings(overrides, "default")
    assert settings.data.root == "/photos"


def test_the_development_container_is_json_with_forwarded_ports() -> None:
    found = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert {str(port) for port in found["forwardPorts"]} == set(found["portsAttributes"])
    assert found["postCreateCommand"].startswith("make install")


@pytest.mark.parametrize(
    ("overrides", "part", "other", "announced"),
    [
        ([], "--require-hashes -r requirements.lock", "", "6 GB in .venv, of which 4 are for GPUs"),
        (
            ["TORCH=cpu"],
            "--torch-backend",
            "cpu",
            "with torch for cpu (for cpu some 2 GB in .venv)",
        ),
    ],
)
def test_make_installs_the_lock_and_another_torch_where_asked(
    overrides: list[str], part: str, other: str, announced: str, tmp_path: Path
) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).symlink_to(ROOT / name)
    said = tmp_path / "said.txt"
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\necho "$@" >> "{said}"\nmkdir -p .venv\n')
    uv.chmod(0o755)
    environment = {"PATH": f"{uv.parent}:/usr/local/bin:/usr/bin:/bin"}
    told: list[str] = []
    for _ in range(2):  # the second time there is nothing to do
        done = subprocess.run(
            ["make", "install", *overrides],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert announced in told[0] and "GB" not in told[1], "what is fetched is told before it is"
    calls = [line for line in said.read_text().splitlines() if "pip install" in line]
    assert len(calls) == 1 and part in calls[0] and other in calls[0]
    if other:
        assert "--require-hashes" not in calls[0]
        versions = (tmp_path / ".venv" / "versions.txt").read_text()
        assert "torch==" in versions and "--hash" not in versions
        again = subprocess.run(
            ["make", "install", "TORCH=cu130"], cwd=tmp_path, env=environment, check=False
        )
        assert again.returncode == 0 and "cu130" in said.read_text()


def test_make_says_so_where_another_torch_is_not_to_be_had(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / name).symlink_to(ROOT / name)
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\nmkdir -p .venv\ncase "$*" in *--torch-backend*) exit 1;; esac\n')
    uv.chmod(0o755)
    done = subprocess.run(
        ["make", "install", "TORCH=cpu"],
        cwd=tmp_path,
        env={"PATH": f"{uv.parent}:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith(
        "torch for cpu is not to be had here: it comes from PyTorch's own"
    )
    assert "rm .venv/.torch; make install" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_image_is_built_and_answers() -> None:
    base = dict(instructions())["FROM"]
    for tool in filter(shutil.which, ("docker", "podman")):
        pulled = subprocess.run([tool, "pull", "-q", base], capture_output=True, check=False)
        if pulled.returncode == 0:
            break
    else:
        pytest.skip(f"no docker or podman that can have {base}")
    build = [tool, "build", "-q", "--build-arg", "EXTRAS=", "."]
    image = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    run = [tool, "run", "--rm", "--user", "4321", image.strip().splitlines()[-1]]
    for overrides, said in ((["--version"], "bakeoff "), ([], "bakeoff sweep")):
        done = subprocess.run([*run, *overrides], capture_output=True, text=True, check=True)
        assert said in done.stdout
