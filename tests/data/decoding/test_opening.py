from __future__ import annotations

import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding import opening
from src.data.decoding.picture_files import NotReadHere, PictureError
from src.data.decoding.picture_store import PictureStore
from src.data.quality.audit import content_hash
from src.data.sources.source import Source
from tests.data.pictures import age, decoded, encoded, opened, pixels, png, settings_of, tree, write
from tests.warm_python import ROOT


def forbid(patch: pytest.MonkeyPatch) -> None:
    """Whoever decodes or checks a whole set from now on, fails."""
    patch.setattr(opening, "_decode_all", lambda *_, **__: pytest.fail("decoded again"))


def expected(store: PictureStore, root: Path) -> np.ndarray:
    assert store.sample_paths is not None
    form = store.image_size, store.channels
    return np.stack([decoded(root / path, *form) for path in store.sample_paths])


def images_file(cache: Path) -> Path:
    (file,) = cache.glob("pictures/*/images.bin")
    return file


def test_a_folder_becomes_an_array(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"train/cat": 4, "train/dog": 3, "test/cat": 2, "test/dog": 1})
    store = opened(root, tmp_path / "cache", image_size=[10, 8], channels=1)
    assert isinstance(store.images, np.memmap)
    assert store.images.shape == (10, 1, 10, 8) and store.images.dtype == np.uint8
    assert not store.images.flags.writeable
    assert len(store) == 10 and (store.image_size, store.channels) == ((10, 8), 1)
    np.testing.assert_array_equal(store.images, expected(store, root))
    np.testing.assert_array_equal(store.read(3), store.images[3])
    assert store.targets.tolist() == [0] * 4 + [1] * 3 + [0, 0, 1]
    assert store.given_parts is not None and store.given_parts.tolist()[-1] == "test"
    assert store.class_names == ("cat", "dog")
    assert store.content_hashes[0] == content_hash((root / "train/cat/000.png").read_bytes())
    assert store.problems == () and not store.from_cache


def test_a_cache_that_is_removed_before_it_is_mapped_is_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 4, "dog": 3}), tmp_path / "cache"
    mapped, removals = opening._mapped, [1]

    def mapped_after_a_removal(folder: Path, **options: Any) -> Any:
        if removals[0] > 0:
            removals[0] -= 1
            shutil.rmtree(cache)
        return mapped(folder, **options)

    monkeypatch.setattr(opening, "_mapped", mapped_after_a_removal)
    store = opened(root, cache)
    np.testing.assert_array_equal(store.images, expected(store, root))
    assert images_file(cache).is_file() and not store.from_cache
    removals[0] = 2
    with pytest.raises(ConfigError, match="another program removes the decoded pictures in"):
        opened(root, cache)


def test_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 4, "dog": 3}), tmp_path / "cache"
    first = opened(root, cache)
    with monkeypatch.context() as patch:
        forbid(patch)
        second = opened(root, cache)
        assert second.from_cache and second.fingerprint == first.fingerprint
        # Only times differ; then only the place.
        for path in root.rglob("*.png"):
            age(path, 77)
        assert opened(root, cache).from_cache
        root = root.rename(tmp_path / "elsewhere")
        moved = opened(root, cache)
        assert moved.from_cache and moved.fingerprint == first.fingerprint
    assert first.images is not None and moved.images is not None
    np.testing.assert_array_equal(first.images, moved.images)
    # Another size, another picture: decoded anew.
    assert not opened(root, cache, image_size=9).from_cache
    write(root / "cat" / "new.png", png(50))
    more = opened(root, cache)
    assert not more.from_cache and len(more) == 8
    assert more.fingerprint != first.fingerprint


_KILLED = """
import os, signal, sys
from pathlib import Path
from src.data.decoding import opening
from tests.data.pictures import opened

usual, blocks = opening._decode_block, []

def mortal(*args):
    blocks.append(args)
    if len(blocks) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(*args)

opening._decode_block, opening._BLOCK_BYTES = mortal, 4096
opened(Path(sys.argv[1]), Path(sys.argv[2]), on_bad_image="skip", cache_limit_gb=float(sys.argv[3]))
"""


@pytest.mark.parametrize("limit", [0, 1])
def test_a_process_that_is_killed_leaves_the_pictures_that_it_had_decoded(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache, other = (tmp_path / name for name in ("root", "cache", "other"))
    tree(root, {"cat": 30, "dog": 10})
    write(root / "cat" / "0005.png", png(100)[:-40])
    write(root / "cat" / "0010.png", encoded(Image.new("RGB", (16, 12)), "PNG"))
    options = {"on_bad_image": "skip", "cache_limit_gb": limit}
    undisturbed = opened(root, other, **options)
    words = [sys.executable, "-c", _KILLED, *map(str, (root, cache, limit))]
    assert subprocess.run(words, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    assert not list(cache.glob("pictures/*/entry.json"))
    usual, counts = opening._decode_block, []

    def counted(*args: Any) -> Any:
        counts.append(len(args[-1]))
        return usual(*args)

    monkeypatch.setattr(opening, "_decode_block", counted)
    monkeypatch.setattr(opening, "_BLOCK_BYTES", 4096)
    caplog.set_level("INFO", logger=opening.__name__)
    store = opened(root, cache, **options)
    assert sum(counts) <= 42 - 2 * 7, "at least two blocks were kept"
    (line,) = [line for line in caplog.messages if " once, with " in line]
    assert line.endswith(f" ({42 - sum(counts)} were before)")
    assert len(store.problems) >= 2 and store.problems == undisturbed.problems
    for index in range(len(store)):
        np.testing.assert_array_equal(store.read(index), undisturbed.read(index))
    mine, theirs = (
        {path.relative_to(place): path.read_bytes() for path in place.glob("pictures/*/*")}
        for place in (cache, other)
    )
    assert mine == theirs


def test_pictures_that_a_killed_process_could_not_read_for_a_lack_are_decoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    usual, lacking = opening._decode_block, NotReadHere("needs a package")

    def lacks(reader: Any, source: Any, found: Any, form: Any, indices: list[int]) -> Any:
        block = usual(reader, source, found, form, indices)
        block.images.pop()
        block.reasons.append((indices[-1], str(lacking)))
        block.not_read_here[str(lacking)] = indices[-1]
        return block

    with monkeypatch.context() as patch:
        patch.setattr(opening, "_decode_block", lacks)
        patch.setattr(opening.GrowingFile, "close", interrupt)
        with pytest.raises(KeyboardInterrupt):
            opened(root, cache)
    store = opened(root, cache)
    assert len(store) == 6 and store.images is not None
    np.testing.assert_array_equal(store.images, expected(store, root))


def interrupt(file: Any) -> None:
    raise KeyboardInterrupt


def test_the_fingerprint_is_of_pictures_and_labels_alone(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = opened(tree(tmp_path / "a", {"cat": 3, "dog": 2}), cache)
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "around")
    os.rename(tmp_path / "b/around/cat/000.png", tmp_path / "b/around/cat/zzz.png")
    renamed = opened(tmp_path / "b", cache, image_size=9)
    assert renamed.fingerprint == store.fingerprint
    os.rename(tmp_path / "b/around/cat/zzz.png", tmp_path / "b/around/dog/zzz.png")
    assert opened(tmp_path / "b", cache).fingerprint != store.fingerprint
    os.rename(tmp_path / "a/cat", tmp_path / "a/lion")
    assert opened(tmp_path / "a", cache).fingerprint != store.fingerprint


def test_pictures_are_kept_once_for_each_way_of_fitting_them(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "root", {"a": 2, "b": 2}, height=20, width=40), tmp_path / "cache"
    seen = set()
    for fit in ("squeeze", "crop", "pad"):
        first = opened(root, cache, image_size=16, fit=fit).read(0)
        np.testing.assert_array_equal(first, decoded(root / "a" / "000.png", (16, 16), fit=fit))
        assert opened(root, cache, image_size=16, fit=fit).from_cache
        seen.add(first.tobytes())
    assert len(seen) == 3


def spoiled(root: Path) -> Path:
    """Of 9 pictures 4 cannot be used; two of these are found out only by decoding them."""
    tree(root, {"cat": 3, "dog": 2, "emu": 0})
    write(root / "cat" / "empty.jpg", b"")
    write(root / "dog" / "text.jpg", b"no picture " * 9)
    write(root / "dog" / "cut.png", png(70, 40, 40)[:2500])
    write(root / "dog" / "half.png", png(71, 40, 40)[:2500])
    return root


@pytest.mark.parametrize("limit", [1, 0])
def test_bad_pictures(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = spoiled(tmp_path / "root"), tmp_path / "cache"
    with monkeypatch.context() as patch:
        forbid(patch)  # it would be for nothing, as without them the set is another
        with pytest.raises(ConfigError, match="2 of 9 pictures cannot be used") as error:
            opened(root, cache, cache_limit_gb=limit)
    for part in (
        "cat/empty.jpg is empty (0 bytes); dog/text.jpg is no picture",
        "set data.on_bad_image=skip to leave them out. Decoding the others may show more.",
    ):
        assert part in str(error.value)
    store = opened(root, cache, cache_limit_gb=limit, on_bad_image="skip")
    assert not store.from_cache and len(store) == 5
    assert store.class_names == ("cat", "dog")
    assert store.targets.tolist() == [0, 0, 0, 1, 1]
    assert store.sample_paths == tuple(f"{'cat' if n < 3 else 'dog'}/00{n}.png" for n in range(5))
    images = np.stack([store.read(index) for index in range(5)])
    np.testing.assert_array_equal(images, expected(store, root))
    assert [str(problem) for problem in store.problems] == [
        "cat/empty.jpg: is empty (0 bytes); left out",
        "dog/cut.png: is cut short; left out",
        "dog/half.png: is cut short; left out",
        "dog/text.jpg: is no picture, or of a kind that is not read; left out",
    ]
    forbid(monkeypatch)
    assert opened(root, cache, cache_limit_gb=limit, on_bad_image="skip").from_cache


def test_a_picture_found_out_by_decoding_is_refused_after_it(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 3, "dog": 2})
    write(root / "dog" / "half.png", png(71, 40, 40)[:2500])
    with pytest.raises(ConfigError, match=r"1 of 6 .*: dog/half\.png is cut short\..*out\.$"):
        opened(root, tmp_path / "cache")


@pytest.mark.parametrize("bad", [b"", png(1, 40, 40)[:2500]])  # the header of the second is fine
def test_nothing_left(bad: bytes, tmp_path: Path) -> None:
    for number in range(26):
        write(tmp_path / "root" / ("cat", "dog")[number % 2] / f"{number}.png", bad)
    with pytest.raises(ConfigError, match=r"26 of 26 .* cannot be used.*no picture left") as error:
        opened(tmp_path / "root", tmp_path / "cache", on_bad_image="skip")
    assert str(error.value).count(" is ") == 2 and "and 23 more: each is" in str(error.value)
    tree(tmp_path / "root", {"cat": 2})
    with pytest.raises(ConfigError, match=r"no picture of the class dog can be used \(13\)"):
        opened(tmp_path / "root", tmp_path / "cache", on_bad_image="skip")


def test_pictures_that_become_readable_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the package that reads HEIC is installed between two runs."""
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    write(root / "cat" / "0.heic", b"\0\0\0\x18ftypheic" + bytes(99))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pillow_heif", None)
        assert len(opened(root, cache, on_bad_image="skip")) == 6
    image = Image.fromarray(pixels(99))
    monkeypatch.setattr("src.data.decoding.picture_files._opened_heic", lambda stream: image)
    store = opened(root, cache, on_bad_image="skip")
    assert len(store) == 7
    np.testing.assert_array_equal(store.read(0), pixels(99).transpose(2, 0, 1))


CHANGES: dict[str, Callable[[Path, int], object]] = {
    "has been changed since": lambda file, seed: file.write_bytes(png(seed)),
    "cannot be opened: No such file": lambda file, seed: file.unlink(missing_ok=True),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_changes_whenever_it_is_decoded_is_not_kept(
    message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    file = root / "cat" / "001.png"
    seeds = itertools.count(99)

    def late(*args: Any, **options: Any) -> object:
        CHANGES[message](file, next(seeds))
        return decode_all(*args, **options)

    decode_all = opening._decoded
    with monkeypatch.context() as patch:
        patch.setattr(opening, "_decoded", late)
        with pytest.raises(ConfigError, match=f"cat/001.png .*{message}"):
            opened(root, cache)
    write(file, png(1))
    store = opened(root, cache)
    assert len(store) == 6 and not store.from_cache
    assert store.images is not None
    np.testing.assert_array_equal(store.images, expected(store, root))


def test_a_picture_that_is_not_what_was_found_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a file system keeps size, times and inode of a file that has changed."""
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    time.sleep(0.03)
    opened(root, cache)
    monkeypatch.setattr("src.data.quality.audit.file_state", lambda status: (1, 2, 3, 4))
    opened(root, cache)
    write(root / "cat" / "001.png", png(99))
    store = opened(root, cache, image_size=8)
    assert store.content_hashes[1] == content_hash(png(99))
    # In the size that was decoded before, nothing tells the change but the content.
    write(root / "cat" / "001.png", png(98))
    assert opened(root, cache, image_size=8).content_hashes[1] == content_hash(png(99))
    checked = opened(root, cache, image_size=8, check_content=True)
    assert checked.content_hashes[1] == content_hash(png(98))


def test_checking_content_reads_what_was_decoded_as_well(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    good = np.array(opened(root, cache).images)
    (file,) = cache.glob("pictures/*/images.bin")
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    np.testing.assert_array_equal(opened(root, cache, check_content=True).images, good)


def test_copies_and_single_colours_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 2, "dog": 2})
    write(root / "dog" / "same.png", png(0))
    write(root / "dog" / "white.png", encoded(Image.new("RGB", (16, 12), "white"), "PNG"))
    for _ in range(2):
        store = opened(root, tmp_path / "cache")
        assert [str(problem) for problem in store.problems] == [
            "dog/white.png: is of a single colour",
            "dog/same.png: is an exact copy of cat/000.png, but is labelled dog, not cat",
        ]


@pytest.mark.parametrize("limit", [1, 0])
def test_a_store_can_be_pickled_without_its_pixels(limit: int, tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 4, "dog": 4})
    store = opened(root, tmp_path / "cache", image_size=512, cache_limit_gb=limit)
    data = pickle.dumps(store)
    assert len(data) < 10_000
    other: PictureStore = pickle.loads(data)
    assert isinstance(other.images, np.memmap) == (limit > 0)
    assert (other.read(5) == store.read(5)).all() and other.fingerprint == store.fingerprint
    reading = pickle.loads(pickle.dumps(store.read))
    assert (reading(7) == store.read(7)).all()


def test_a_limit_is_a_whole_number_of_bytes(tmp_path: Path) -> None:
    for hundredths in range(1, 500):
        settings = settings_of(tmp_path, cache_limit_gb=hundredths / 100)
        assert settings.cache_limit_bytes == hundredths * 10_000_000


def test_what_is_too_large_is_decoded_on_the_fly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    size = 6 * 3 * 12 * 16
    store = opened(root, cache, cache_limit_gb=(size - 1) / 1e9)
    assert store.images is None and not store.from_cache
    assert images_file(cache).stat().st_size == 0
    images = np.stack([store.read(index) for index in range(6)])
    np.testing.assert_array_equal(images, expected(store, root))
    with monkeypatch.context() as patch:
        forbid(patch)
        again = opened(root, cache, cache_limit_gb=(size - 1) / 1e9)
        assert again.from_cache and again.fingerprint == store.fingerprint
    # With more room the pixels are kept after all, and without a warning.
    stored = opened(root, cache, cache_limit_gb=(size + 0.5) / 1e9)
    assert stored.images is not None and not stored.from_cache
    np.testing.assert_array_equal(stored.images, images)
    assert opened(root, cache, cache_limit_gb=0).from_cache
    (root / "cat" / "001.png").write_bytes(b"")
    with pytest.raises(PictureError, match=r"cat/001.png has been changed since"):
        store.read(1)


def array_source(**options: Any) -> Source:
    arrays = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), np.uint8)
    arrays[4] = 7
    targets = np.array([0, 1, 0, 1, 0, 1])
    return Source("set", ("a", "b"), targets, arrays, **options)


def open_arrays(cache: Path, **options: Any) -> PictureStore:
    return opening.open_pictures(array_source(), settings_of(cache, **options))


def test_arrays_stay_in_memory(tmp_path: Path) -> None:
    store = open_arrays(tmp_path / "cache")
    source = array_source()
    assert store.images is not None and source.arrays is not None
    np.testing.assert_array_equal(store.images, source.arrays)
    assert not store.images.flags.writeable and not store.from_cache
    assert (store.image_size, store.channels) == ((8, 8), 1)
    assert [str(problem) for problem in store.problems] == ["picture 4: is of a single colour"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("limit", [1, 0])
def test_arrays_are_resized_like_files(limit: int, tmp_path: Path) -> None:
    store = open_arrays(tmp_path, image_size=16, channels=3, cache_limit_gb=limit)
    assert (store.images is None) == (limit == 0)
    for index in range(6):
        image = store.read(index)
        assert image.shape == (3, 16, 16) and (image[0] == image[2]).all()
    assert (store.read(4) == 7).all()
    assert store.fingerprint == open_arrays(tmp_path).fingerprint
    assert open_arrays(tmp_path, image_size=16, channels=3, cache_limit_gb=limit).from_cache


def test_the_readers_of_a_replaced_array_keep_theirs(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 3, "dog": 3}), tmp_path / "cache"
    store = opened(root, cache)
    images_file(cache).with_name("entry.json").unlink()
    assert not opened(root, cache).from_cache
    assert store.images is not None
    np.testing.assert_array_equal(store.images, expected(store, root))
