"""Archives of arrays: what is in them comes back, and every flipped byte is named or harmless."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src.machine.failures import DiskRefuses, explained
from src.storage.array_files import load_arrays, open_arrays, save_array


def _arrays() -> dict[str, np.ndarray]:
    return {
        # So large that zipfile hands out the header before it has checked all of the member.
        "rows": np.zeros(600, np.dtype([("low", "f8"), ("name", "S4")])),
        "paths": np.frombuffer(b"a.png\0b.png", np.uint8),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_bit_that_is_flipped_anywhere_raises_a_value_error_or_none(
    save: object, tmp_path: Path
) -> None:
    file = tmp_path / "found.npz"
    save(file, **_arrays())  # type: ignore[operator]
    whole = file.read_bytes()
    for name, array in load_arrays(file).items():
        np.testing.assert_array_equal(array, _arrays()[name])
    seen = set()
    of_header, of_directory = range(8 * 300), range(8 * (len(whole) - 400), 8 * len(whole), 3)
    for bit in (*of_header, *of_directory):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            load_arrays(file)
        except (ValueError, OSError) as error:
            seen.add(type(error.__cause__ or error).__name__)
    assert {"BadZipFile", "ValueError"} <= seen


def test_what_is_no_archive_of_arrays_is_named(tmp_path: Path) -> None:
    single = tmp_path / "single.npz"
    with single.open("wb") as stream:
        np.save(stream, np.zeros(3))
    objects = tmp_path / "objects.npz"
    np.savez(objects, images=np.zeros(2), notes=np.array([{}, {}], object))
    with pytest.raises(ValueError, match="it is a single"):
        load_arrays(single)
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        load_arrays(objects)
    with open_arrays(objects) as stored:  # those that nobody asks for are left alone
        assert len(stored["images"]) == 2


@pytest.mark.parametrize("array", [np.zeros((3, 2), np.uint8), np.arange(6.0).reshape(3, 2).T])
def test_a_single_array_comes_back(array: np.ndarray, tmp_path: Path) -> None:
    save_array(tmp_path / "one.npy", array)
    found = np.load(tmp_path / "one.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_an_array_for_which_there_is_no_room_is_refused_as_every_other_file() -> None:
    with pytest.raises(DiskRefuses, match="no room for another file in /dev"), explained(Path()):
        save_array(Path("/dev/full"), np.zeros(100_000))
