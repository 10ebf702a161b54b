"""Files of arrays: archives (.npz), whoever wrote them, and single ones (.npy)."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib.npyio import NpzFile

from ..machine.arrays import AnyArray, UInt8Array
from ..machine.disk import named_file

__all__ = [
    "array_header",
    "header_bytes",
    "load_arrays",
    "open_arrays",
    "packed_texts",
    "save_array",
    "unpacked_texts",
]

# What numpy and zipfile raise for an archive that is damaged anywhere: in a member, in a header
# (which numpy reads as Python), or in the directory of members.
_DAMAGED = (
    *(KeyError, EOFError, RuntimeError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, TokenError),
)


@contextmanager
def open_arrays(file: Path) -> Iterator[NpzFile]:
    """Yield the arrays of an .npz file, each read when it is asked for by its name.

    Raises:
        ValueError: the file is damaged, or an array asked for is missing or holds Python objects,
            which are not read.
        OSError: it cannot be opened or read.
        MemoryError: there is too little memory for it.
    """
    try:
        stored = np.load(file, allow_pickle=False)
        if not isinstance(stored, NpzFile):
            raise ValueError("it is a single array and no archive of arrays")
        with stored:
            yield stored
    except _DAMAGED as error:
        raise ValueError(str(error)) from error


def load_arrays(file: Path) -> dict[str, AnyArray]:
    """Return all arrays of an .npz file by name.

    Raises:
        ValueError, OSError, MemoryError: as `open_arrays`.
    """
    with open_arrays(file) as stored:
        return {name: stored[name] for name in stored.files}


def save_array(file: Path, array: AnyArray) -> None:
    """Write an array of one dimension or more as an .npy file.

    `numpy.save` raises an error without a number where the disk is full.

    Raises:
        OSError: the file cannot be written; with its name where the disk is full.
    """
    array = np.ascontiguousarray(array)
    with named_file(file), file.open("wb") as stream:
        stream.write(header_bytes(array.shape, array.dtype))
        stream.write(array.data)


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the beginning of an .npy file, which the array's own bytes follow, row by row."""
    stream = io.BytesIO()
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def array_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the type of an array from the beginning of its .npy file.

    Raises:
        ValueError: it does not begin so.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read = np.lib.format.read_array_header_1_0
    shape, _, dtype = read(stream)
    return shape, dtype


def packed_texts(texts: Iterable[str]) -> UInt8Array:
    """Return texts without NUL as bytes: in an array of texts each would be as long as any."""
    joined = "".join(f"{text}\0" for text in texts)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)


def unpacked_texts(packed: UInt8Array) -> list[str]:
    """Return the texts of `packed_texts`.

    Raises:
        ValueError: they are no UTF-8.
    """
    return packed.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
