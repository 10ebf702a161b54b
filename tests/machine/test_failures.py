"""What memory and disks refuse, in words."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from src.machine.failures import (
    DiskRefuses,
    NotLoaded,
    OutOfMemory,
    ProcessLost,
    explained,
)


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


def _killed(_: int = 0) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


class _Killed(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return _killed()

    def __len__(self) -> int:
        return 2


def loads_batches() -> None:
    list(DataLoader(_Killed(), num_workers=1))


def uses_a_pool() -> None:
    with ProcessPoolExecutor(1) as pool:
        list(pool.map(_killed, range(2)))


@pytest.mark.skipif(os.name != "posix", reason="this system has no SIGKILL")
@pytest.mark.parametrize("work", [loads_batches, uses_a_pool])
def test_a_process_that_was_killed_is_no_fault_of_the_code(
    work: Callable[[], None], tmp_path: Path
) -> None:
    with pytest.raises(ProcessLost, match="was killed"), explained(tmp_path):
        work()


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ImportError("libtorch.so: failed to map segment from shared object", name="torch._C"),
            "there is not enough memory to load the package torch: ",
        ),
        (
            OSError("/lib/libgomp.so.1: failed to map segment from shared object"),
            "there is not enough memory to load /lib/libgomp.so.1: ",
        ),
        (
            ImportError(
                "x.so: failed to map segment from shared object: Operation not permitted", name="x"
            ),
            "the package x cannot be loaded (x.so: failed to map",
        ),
        (ModuleNotFoundError("No module named 'x'", name="x.y"), "the package x cannot be loaded"),
        (ImportError("cannot import name 'a' from 'src.b'", name="src.b"), None),
        (ImportError("of its own"), None),
        (OSError(errno.ENOENT, "No such file", "x.so"), None),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named(
    error: ImportError | OSError, said: str | None, tmp_path: Path
) -> None:
    with pytest.raises(type(error) if said is None else NotLoaded) as failed, explained(tmp_path):
        raise error
    assert failed.value is error if said is None else str(failed.value).startswith(said)
