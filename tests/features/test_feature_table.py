"""Features of a data set: computed once, kept by content, the same whoever computes them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from src.config.checks import ConfigError
from src.data.decoding.picture_store import PictureStore
from src.features import embedding, fusion
from src.features import feature_table as parallel
from src.features.feature_table import FeatureTable, beside_others, described
from src.features.fusion import Described, extractors_of
from src.machine import status
from src.machine.imports import allow_module
from src.machine.parallel import TooSlow
from tests.features.pictures import pictures, split, store
from tests.warm_python import ROOT

COUNT = 300
IMAGES = pictures(COUNT, 1, (8, 8))
TARGETS = np.arange(COUNT) % 3
SCATTERING = {"scattering": {"octaves": 3, "orientations": 4, "grid": 4, "side": 8}}
LBP = {"lbp": {"radius": 1, "grid": 2}, "raw": {"side": 8}}


def table_of(opened: PictureStore, cache: Path, extractors: list, limit: int = 10**9):
    options = {"cache_dir": cache, "cache_limit_bytes": limit, "workers": 1}
    return FeatureTable(opened, split(opened), extractors, **options)


def table(tmp_path: Path, order: np.ndarray | None = None, limit: int = 10**9):
    order = np.arange(COUNT) if order is None else order
    opened = store(IMAGES[order], TARGETS[order], tmp_path / "pictures")
    made = table_of(opened, tmp_path, extractors_of(["lbp", "raw"], LBP), limit)
    return made, opened, split(opened)


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "features").glob("*/features.npy"))


@pytest.mark.parametrize("part", ["train", "val", "test"])
@pytest.mark.parametrize("limit", [10**9, 0])
def test_rows_are_those_of_the_part_in_its_order(tmp_path: Path, part: str, limit: int) -> None:
    made, opened, parts = table(tmp_path, limit=limit)
    chosen = opened.images[getattr(parts, part)]
    expected = np.concatenate([e(chosen) for e in extractors_of(["lbp", "raw"], LBP)], axis=1)
    for _ in range(2):
        np.testing.assert_array_equal(made.part(part), expected)
    assert made.sizes == (40, 64) and bool(entries(tmp_path)) == bool(limit)


def test_a_table_too_large_for_the_disk_is_computed_once_for_the_parts_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept: dict[str, tuple[np.ndarray, float]] = {}
    monkeypatch.setattr(parallel, "_in_memory", kept)
    caplog.set_level("INFO", logger=parallel.__name__)
    made, _, _ = table(tmp_path, limit=0)
    first = made.part("train")
    made.part("val")
    later, _, _ = table(tmp_path, limit=0)
    np.testing.assert_array_equal(later.part("train"), first)
    assert later.seconds == made.seconds > 0 and not entries(tmp_path)
    extractors = len(made.sizes)
    assert len(caplog.records) == extractors, "each extractor has described them once"
    room = sum(found.nbytes for found, _ in kept.values()) - 1
    kept.clear()
    monkeypatch.setattr(parallel, "_MOST_IN_MEMORY", room)
    for _ in range(2):  # there is room for one of them alone
        later.part("train")
        assert len(kept) == 1
    assert len(caplog.records) == 3 * extractors


_KILLED = """
import os, signal, sys
from pathlib import Path
from src.features.fusion import Described
from tests.features import test_feature_table as tests

usual, described = Described.__call__, []

def mortal(extractor, images):
    described.append(len(images))
    if len(described) == 2:  # the last block of lbp
        os.kill(os.getpid(), signal.SIGKILL)
    return usual(extractor, images)

Described.__call__ = mortal
tests.table(Path(sys.argv[1]))[0].part("train")
"""


def test_a_process_that_is_killed_leaves_the_rows_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, _, parts = table(tmp_path / "undisturbed")
    expected = undisturbed.part("train")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("features/*/entry.json"))
    usual, counts = Described.__call__, []

    def counted(extractor: Described, images: np.ndarray) -> np.ndarray:
        counts.append(len(images))
        return usual(extractor, images)

    monkeypatch.setattr(Described, "__call__", counted)
    caplog.set_level("INFO", logger=parallel.__name__)
    made, _, _ = table(tmp_path)
    np.testing.assert_array_equal(made.part("train"), expected)
    count = len(parts.train) + len(parts.val)
    assert sum(counts) == 2 * count - 128, "the first block of the first extractor was kept"
    assert f"128 of {count} pictures were described before" in caplog.messages
    assert made.seconds > made.seconds_here > 0
    files = [sorted(path.name for path in one.parent.iterdir()) for one in entries(tmp_path)]
    assert files == [["entry.json", "features.npy"]] * 2
    assert not list(tmp_path.glob("features/*.unfinished"))
    for mine, other in zip(entries(tmp_path), entries(tmp_path / "undisturbed"), strict=True):
        assert mine.read_bytes() == other.read_bytes() and mine.parent.name == other.parent.name


def test_rows_of_a_process_that_was_killed_count_where_a_table_has_become_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(tmp_path / "undisturbed")[0].part("train")
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False, cwd=ROOT)
    monkeypatch.setattr(parallel, "_in_memory", {})
    np.testing.assert_array_equal(table(tmp_path, limit=0)[0].part("train"), expected)


def test_mirrored_pictures_are_described_apart(tmp_path: Path) -> None:
    made, opened, parts = table(tmp_path)
    plain = made.part("train")
    chosen = opened.images[parts.train][:, :, :, ::-1].copy()
    expected = np.concatenate([e(chosen) for e in extractors_of(["lbp", "raw"], LBP)], axis=1)
    np.testing.assert_array_equal(made.part("train", mirrored=True), expected)
    np.testing.assert_array_equal(made.part("train"), plain)
    assert (plain != expected).any()


def test_mirror_images_are_told_by_scattering_of_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = store(IMAGES, TARGETS, tmp_path / "pictures")
    [extractor] = extractors_of(["scattering"], SCATTERING)
    made = table_of(opened, tmp_path, [extractor])
    plain = made.part("train")
    expected = fusion.Mirrored(extractor)(opened.images[split(opened).train])
    assert np.abs(expected - plain).max() > 0.1
    monkeypatch.setattr(Described, "__call__", never)
    np.testing.assert_allclose(made.part("train", mirrored=True), expected, atol=1e-5)
    assert len(entries(tmp_path)) == 1


def never(extractor: Described, images: np.ndarray) -> np.ndarray:
    raise AssertionError("described anew")


def test_what_is_kept_is_found_in_any_order_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, opened, parts = table(tmp_path)
    rows = dict(zip(opened.content_hashes[parts.train].tolist(), first.part("train"), strict=True))
    kept = entries(tmp_path)
    assert len(kept) == 2  # one a descriptor, and none of the test part
    monkeypatch.setattr(Described, "__call__", never)
    order = np.random.default_rng(1).permutation(COUNT)
    again, reopened, parts = table(tmp_path, order)
    for row, content in zip(
        again.part("train"), reopened.content_hashes[parts.train].tolist(), strict=True
    ):
        np.testing.assert_array_equal(row, rows[content])
    assert len(again.part("val")) == len(parts.val) and entries(tmp_path) == kept
    with pytest.raises(AssertionError, match="described anew"):
        again.part("test")


class InThisProcess(Described):
    """As frozen networks compute."""

    in_processes: ClassVar[bool] = False


def test_what_a_part_of_the_training_pictures_is_described_by_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half, a quarter ... of them may have been described before time was out."""
    expected = table(tmp_path / "at once")[0].part("train")
    made, opened, whole = table(tmp_path)
    [lbp, _], described = extractors_of(["lbp", "raw"], LBP), []
    extractor = InThisProcess(lbp.name, lbp.settings, lbp.descriptor)
    table_of(opened, tmp_path, [extractor], limit=0).part("train")  # in memory alone
    monkeypatch.setattr(made, "_extractors", (extractor,))
    usual = Described.__call__

    def counted(extractor: Described, images: np.ndarray) -> np.ndarray:
        described.append(len(images))
        return usual(extractor, images)

    monkeypatch.setattr(Described, "__call__", counted)
    train, val = len(whole.train), len(whole.val)
    for limit in (train // 4, train // 2, train, 100):
        monkeypatch.setattr(made, "_split", whole.with_less_training(limit))
        rows = made.part("train")
        of_whole = np.searchsorted(whole.train, made._split.train)
        np.testing.assert_array_equal(rows, expected[of_whole, : made.sizes[0]])
        assert sum(described) == val + (limit if limit != 100 else train)
        assert made.seconds >= made.seconds_here > 0
    assert len(entries(tmp_path)) == 3, "100 are among them all"


def test_rows_that_come_between_known_ones_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = table(tmp_path / "undisturbed")[0].part("train")
    _, opened, whole = table(tmp_path)
    [lbp, _], counts, ends = extractors_of(["lbp", "raw"], LBP), [], 0
    extractor = InThisProcess(lbp.name, lbp.settings, lbp.descriptor)
    options = {"cache_dir": tmp_path, "cache_limit_bytes": 10**9, "workers": 1}
    few = whole.with_less_training(len(whole.train) // 4)
    FeatureTable(opened, few, [extractor], **options).part("train")
    usual = Described.__call__

    def counted(extractor: Described, images: np.ndarray) -> np.ndarray:
        counts.append(len(images))
        if sum(counts) > 128 and ends:
            raise KeyboardInterrupt
        return usual(extractor, images).astype(np.float64)  # as a plugin may return

    monkeypatch.setattr(Described, "__call__", counted)
    missing, ends = len(whole.train) - len(few.train), 1
    with pytest.raises(KeyboardInterrupt):
        FeatureTable(opened, whole, [extractor], **options).part("train")
    counts.clear()
    ends = 0
    rows = FeatureTable(opened, whole, [extractor], **options).part("train")
    np.testing.assert_array_equal(rows, expected[:, :40])
    assert sum(counts) == missing - 128 > 0
    files = [sorted(path.name for path in one.parent.iterdir()) for one in entries(tmp_path)]
    assert files == [["entry.json", "features.npy"]] * 2


def test_other_settings_and_formats_have_entries_of_their_own(tmp_path: Path) -> None:
    made, opened, _ = table(tmp_path)
    made.part("val")
    other = extractors_of(["lbp"], {"lbp": {"radius": 2, "grid": 2}})
    table_of(opened, tmp_path, other).part("val")
    assert len(entries(tmp_path)) == 3
    cropped = replace(opened, format=replace(opened.format, fit="crop"))
    table_of(cropped, tmp_path, extractors_of(["lbp", "raw"], LBP)).part("train")
    assert len(entries(tmp_path)) == 5


def test_features_of_a_plugin_are_not_those_of_its_earlier_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allow_module(__name__)
    mine = {"mine": f"{__name__}.Halved"}

    def identities(code: str) -> list[dict[str, Any]]:
        monkeypatch.setattr("src.config.plugins.code_digest", lambda target: code)
        network = torch.nn.Linear(2, 2)
        network.head_prefixes = ()
        metadata = {"target": "my.Net", "arguments": {}, "mean": [0.5], "std": [0.5]}
        network.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
        frozen = embedding.NetworkFeatures(network, metadata, torch.device("cpu"))
        made = extractors_of(["mine", "raw"], {"mine": {}, "raw": {"side": 8}}, mine)
        return [one.identity for one in (*made, fusion.Mirrored(made[0]), frozen)]

    first, same, changed = identities("a"), identities("a"), identities("b")
    assert first == same
    assert [one != other for one, other in zip(first, changed)] == [True, False, True, True]


class Halved:
    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return picture.ravel() / 2


def read(index: int) -> np.ndarray:
    return IMAGES[index]


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH_PROCESSES_SECONDS", 0.0)
    (lbp,) = extractors_of(["lbp"], LBP)
    indices = np.random.default_rng(0).permutation(COUNT)
    found = np.concatenate(list(described(lbp, read, indices, workers=2)))
    np.testing.assert_array_equal(found, lbp(IMAGES[indices]))


@pytest.mark.parametrize("kept", [False, True])
def test_features_that_are_removed_before_they_are_read_are_computed_once_more(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, opened, parts = table(tmp_path)
    if kept:
        made.part("train")
    load, removed = np.load, [False]

    def load_after_a_removal(*args: Any, **options: Any) -> Any:
        if not removed[0]:
            removed[0] = True
            shutil.rmtree(tmp_path / "features")
        return load(*args, **options)

    monkeypatch.setattr(np, "load", load_after_a_removal)
    found = made.part("train")
    chosen = opened.images[parts.train]
    expected = np.concatenate([e(chosen) for e in extractors_of(["lbp", "raw"], LBP)], axis=1)
    np.testing.assert_array_equal(found, expected)
    assert removed[0] and len(entries(tmp_path)) == 2


def test_lines_on_progress_name_what_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(status, "_LATER_SECONDS", 0.0)
    caplog.set_level("INFO")
    made, _, _ = table(tmp_path)
    made.part("train", mirrored=True)
    lines = [line for line in caplog.messages if "pictures" in line]
    assert sum("described by" in line for line in lines) >= 2
    for name in ("lbp", "raw"):
        named = [line for line in lines if f" {name} (mirrored)" in line]
        assert any(line.startswith("extracting features of ") for line in named)
        assert any(" pictures described by " in line for line in named)
        lines = [line for line in lines if line not in named]
    assert lines == []


def test_a_gpu_has_the_next_pictures_while_rows_come_back() -> None:
    both = threading.Barrier(2, timeout=20)

    class OnGpu(Described):
        name, in_processes, on_gpu = "on a GPU", False, True

        def __init__(self) -> None:
            self.blocks = 0

        def __call__(self, images: np.ndarray) -> np.ndarray:
            self.blocks += 1
            if 1 < self.blocks <= 3:  # the second and the third are there together
                both.wait()
            return images.reshape(len(images), -1).astype(np.float32)

    indices = np.random.default_rng(0).integers(0, COUNT, 3 * 128)
    rows = np.concatenate(list(described(OnGpu(), read, indices, workers=2)))
    np.testing.assert_array_equal(rows, IMAGES[indices].reshape(len(indices), -1))


class Mortal:
    """Ends every process but the first."""

    name = "mortal"
    identity: ClassVar[dict[str, str]] = {}
    in_processes = True
    on_gpu = False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        return images.reshape(len(images), -1).astype(np.float32)


@pytest.mark.timeout(150)
@pytest.mark.slow
def test_a_process_that_dies_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_WORTH_PROCESSES_SECONDS", 0.0)
    with pytest.raises(BrokenProcessPool):
        list(described(Mortal(), read, np.arange(COUNT), workers=2))


@pytest.mark.parametrize("limit", [10**9, 0])
def test_the_time_that_describing_took_counts_whoever_took_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(parallel, "_in_memory", {})
    made, _, _ = table(tmp_path, limit=limit)
    assert made.seconds == 0
    made.part("train")
    took = made.seconds
    assert took > 0
    made.part("val")  # shares the entries of the training part
    assert made.seconds_here == made.seconds, "as it was computed here"
    later, _, _ = table(tmp_path, limit=limit)
    later.part("train")
    assert later.seconds_here == 0, "it was kept on disk or in memory"
    if limit:
        assert made.seconds == took and later.seconds == took
    else:
        assert later.seconds > 0


def test_describing_that_cannot_end_in_time_is_given_up_and_nothing_is_kept(tmp_path: Path) -> None:
    class Slow(Described):
        name, in_processes = "slow", False

        def __init__(self) -> None:
            self.pictures = 0

        def __call__(self, images: np.ndarray) -> np.ndarray:
            self.pictures += len(images)
            time.sleep(0.05 * len(images) / 128)
            return np.zeros((len(images), 2), np.float32)

    opened = store(IMAGES, TARGETS, tmp_path / "pictures")
    slow = Slow()
    whole = list(described(slow, opened.read, np.arange(COUNT), 1, time.perf_counter() + 60))
    assert sum(len(rows) for rows in whole) == COUNT and slow.pictures == COUNT
    slow.pictures = 0
    with pytest.raises(TooSlow) as late:
        list(described(slow, opened.read, np.arange(COUNT), 1, time.perf_counter() + 0.05))
    assert slow.pictures == 256 and late.value.seconds > 0


def test_a_network_takes_the_threads_that_have_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([2, 1, 1, 2])
    monkeypatch.setattr(parallel.ThreadCount, "now", lambda _: next(counts))
    seen: list[tuple[int, int]] = []

    class Network(Described):
        in_processes = False

        def __init__(self) -> None:
            pass

        def __call__(self, images: np.ndarray) -> np.ndarray:
            seen.append((len(images), torch.get_num_threads()))
            return images.reshape(len(images), -1).astype(np.float32)

    before = torch.get_num_threads()
    found = beside_others(Network())(IMAGES[:50])
    np.testing.assert_array_equal(found, IMAGES[:50].reshape(50, -1))
    assert seen == [(16, 2), (16, 1), (16, 1), (2, 2)] and torch.get_num_threads() == before


def test_fewer_training_pictures_are_not_described_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = store(IMAGES, TARGETS, tmp_path / "pictures")
    extractors = extractors_of(["lbp"], LBP)
    options = {"cache_dir": tmp_path, "cache_limit_bytes": 10**9, "workers": 1}
    whole = split(opened)
    less = whole.with_less_training(30)
    alone = FeatureTable(opened, less, extractors, **options).part("train")
    (tmp_path / "features").rename(tmp_path / "others")
    FeatureTable(opened, whole, extractors, **options).part("train")
    monkeypatch.setattr(parallel, "described", None)
    made = FeatureTable(opened, less, extractors, **options)
    np.testing.assert_array_equal(made.part("train"), alone)
    assert len(made.part("val")) == len(whole.val) and made.sizes == (40,)


def test_what_describes_a_picture_by_no_row_of_numbers_is_refused() -> None:
    images = pictures(2, 1)
    rows = Described("mine", {}, lambda picture: picture[0, :, 0])(images)
    assert rows.shape == (2, images.shape[3])
    lengths = iter([3, 4])
    for several, wrong in (
        ("", lambda picture: picture[..., 0]),
        (" or ", lambda picture: picture[0, : next(lengths), 0]),
    ):
        said = rf"^model\.features: mine returns an array \(.*\){several}.*\(D,\), with one D"
        with pytest.raises(ConfigError, match=said):
            Described("mine", {}, wrong)(images)
