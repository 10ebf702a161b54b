from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["torch.py", "torch/__init__.py"])
def test_a_file_that_hides_a_package_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("x = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "src.train", "model=mlp", f"output_dir={tmp_path}/out"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert str(tmp_path / name.partition("/")[0]) in sentence
    assert "instead of the package torch" in sentence


def test_what_skops_looks_for_is_imported_before_torch() -> None:
    """Else skops, by which classifiers are kept, takes twice as long to be imported."""
    code = "import sys, src.data.loading; print(*({'scipy.special', 'torch'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "scipy.special\n"
