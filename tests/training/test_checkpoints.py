from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.training.checkpoints import read_checkpoint
from tests.models.code import Code


def test_tensors_and_plain_values_come_back(tmp_path: Path) -> None:
    content = {"epoch": 3, "state_dict": {"w": torch.arange(4)}, "bakeoff": {"a": [1, None, "b"]}}
    torch.save(content, tmp_path / "last.ckpt")
    read = read_checkpoint(tmp_path / "last.ckpt")
    torch.testing.assert_close(read.pop("state_dict"), content.pop("state_dict"))
    assert read == content


@pytest.mark.parametrize("legacy", [False, True], ids=["archive", "bare pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(legacy: bool, tmp_path: Path) -> None:
    path, ran = tmp_path / "last.ckpt", tmp_path / "ran"
    hostile = {"epoch": 3, "state_dict": {}, "bakeoff": Code(ran)}
    if legacy:
        path.write_bytes(pickle.dumps(hostile))
    else:
        torch.save(hostile, path)
    with pytest.raises(ValueError, match=r"last.ckpt .*it could run code.* not loaded"):
        read_checkpoint(path)
    assert not ran.exists()
    torch.load(path, weights_only=False) if not legacy else pickle.loads(path.read_bytes())
    assert ran.exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 broken archive"])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match="is not a checkpoint of a run"):
        read_checkpoint(tmp_path / "list.ckpt")


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_says_so_and_the_one_before_it_loads(tmp_path: Path) -> None:
    """The limit on the size of files refuses in the middle of the file, as a full disk does."""
    code = """
import resource, signal, sys
import torch
from pathlib import Path
from src.training.checkpoints import write_checkpoint
from src.machine.failures import DiskRefuses
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
write_checkpoint({"epoch": 1, "state_dict": {"w": torch.ones(1000)}}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    write_checkpoint({"epoch": 2, "state_dict": {"w": [torch.ones(1_000_000)]}}, path)
except DiskRefuses as full:
    print(full)
"""
    path = tmp_path / "last.ckpt"
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert f"a file in {tmp_path} may not" in said.stdout
    assert "some 4.0 MB are needed" in said.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(path)["epoch"] == 1
