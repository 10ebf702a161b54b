"""What memory and disks refuse, in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from src.machine.failures import DiskRefuses, OutOfMemory, explained


def gpu_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def memory_is_full() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)


def python_is_full() -> None:
    bytearray(1 << 60)


def cublas_is_full() -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")


@pytest.mark.parametrize("fill", [gpu_is_full, memory_is_full, python_is_full, cublas_is_full])
@pytest.mark.parametrize(
    ("batch_size", "advice"),
    [
        (65, r"batches of 65 pictures: try data\.batch_size=32$"),
        (1, r"for a single picture: choose a smaller data\.image_size or"),
        (None, r"there is not enough memory: choose a smaller data\.image_size or"),
    ],
)
def test_memory_that_is_full_is_told_with_what_to_try(
    fill, batch_size: int | None, advice: str, tmp_path: Path
) -> None:
    with pytest.raises(OutOfMemory, match=advice), explained(tmp_path, batch_size):
        fill()


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ENOSPC, r"no room for another file (in|.*that of) {}"),
        (errno.EDQUOT, r"your quota on the disk of {} is used up"),
        (errno.EFBIG, r"a file in {} may not become that large"),
    ],
)
@pytest.mark.parametrize(("named", "folder"), [(["deep/file"], "/deep"), ([], "")])
def test_the_folder_of_the_file_is_named(
    number: int, what: str, named: list[str], folder: str, tmp_path: Path
) -> None:
    said = what.format(f"{tmp_path}{folder}")
    with pytest.raises(DiskRefuses, match=said), explained(tmp_path):
        raise OSError(number, os.strerror(number), *(str(tmp_path / name) for name in named))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), OSError(errno.EACCES, "no"), ValueError("no")]
)
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, explained(tmp_path, 8):
        raise error
    assert caught.value is error
