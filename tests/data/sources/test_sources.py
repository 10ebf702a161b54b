from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from numpy.typing import NDArray

from src.config.checks import ConfigError, from_plain
from src.config.data import DataSettings
from src.data.sources import cifar10, cifar100, digits, fashion_mnist, folder, mnist
from src.data.sources.idx import read_idx
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source, natural_order
from tests.data.pictures import settings_of

CONF = Path(__file__).parents[3] / "conf" / "data"
LOADERS = {
    f"src.data.sources.{module.__name__.rpartition('.')[2]}.load": module.load
    for module in (cifar10, cifar100, digits, fashion_mnist, folder, mnist)
}


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_is_valid_and_names_a_source(file: Path) -> None:
    settings = from_plain(DataSettings, yaml.safe_load(file.read_text()), "data")
    assert settings.name == file.stem
    assert settings._target_ in LOADERS
    assert file.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_size", 7, "data.image_size is 7: it must be at least 8"),
        ("image_size", [32], r"data.image_size is \[32\]: it must be one number, or \[height, w"),
        ("channels", 2, "data.channels is 2: it must be one of 1, 3"),
        ("val_fraction", 0.9, "data.val_fraction 0.9 and test_fraction 0.15 leave nothing"),
        ("on_bad_image", "skipp", "did you mean skip"),
        ("_target_", "pathlib.Path.unlink", "not on the project's allowlist"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: Any, message: str) -> None:
    plain = yaml.safe_load((CONF / "folder.yaml").read_text())
    with pytest.raises(ConfigError, match=message):
        from_plain(DataSettings, plain | {key: value}, "data")


# ---- Source


def test_a_source_checks_itself() -> None:
    arrays = np.zeros((2, 1, 8, 8), np.uint8)
    targets = np.array([0, 1])
    assert len(Source("set", ("a", "b"), targets, arrays)) == 2
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"arrays": None}, "either arrays or files"),
        ({"sample_paths": ("a", "b")}, "either arrays or files"),
        ({"root": Path()}, "go together"),
        ({"targets": np.array([0, 2])}, "targets reach from 0 to 2 with 2 classes"),
        ({"targets": np.array([0])}, "2 arrays for 1 targets"),
        ({"arrays": arrays.astype(str)}, "not numbers"),
        ({"groups": ("a",)}, "1 groups for 2 targets"),
        ({"targets": np.zeros(0, int), "arrays": arrays[:0]}, "no pictures"),
    ]
    for change, message in wrong:
        fields: dict[str, Any] = {"class_names": ("a", "b"), "targets": targets, "arrays": arrays}
        with pytest.raises(ValueError, match=message):
            Source("set", **(fields | change))


def test_numbers_inside_names_count() -> None:
    names = ["b", "class10", "A", "class2", "class02", "10", "9", "²", "a"]
    assert sorted(names, key=natural_order) == [
        *("9", "10", "A", "a", "b", "class02", "class2", "class10", "²"),
    ]


@given(st.data())
def test_any_names_have_one_order(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text(st.sampled_from("aB0129²É"))))
    shuffled = data.draw(st.permutations(names))
    assert sorted(shuffled, key=natural_order) == sorted(names, key=natural_order)


# ---- digits


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    source = digits.load(None, tmp_path, False)
    bunch = load_digits()
    assert source.arrays is not None and source.arrays.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(source.targets, bunch.target)
    np.testing.assert_allclose(source.arrays[:, 0] / 255 * 16, bunch.images, atol=0.04)
    assert source.arrays.max() == 255
    assert source.class_names == tuple("0123456789") and source.published
    with pytest.raises(ConfigError, match="own set data="):
        digits.load(tmp_path, tmp_path, False)


def test_digits_do_without_importing_scikit_learn() -> None:
    code = (
        "import sys; from src.data.sources.digits import load; load(None, None, False); "
        "print([m for m in ('sklearn', 'torch', 'torchvision') if m in sys.modules])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=CONF.parents[1])
    assert said.strip() == "[]"


# ---- idx files: MNIST and Fashion-MNIST


def idx(array: NDArray[np.uint8]) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(array=stnp.arrays(np.uint8, stnp.array_shapes(min_dims=1, max_dims=4)))
def test_idx_files_are_read_back(
    array: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / "labels"
    path.write_bytes(idx(array))
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",
        idx(np.zeros((3, 4), np.uint8))[:-1],
        idx(np.zeros((3, 4), np.uint8)) + b"\0",
        b"\0\0\x08\x03\0\0",
        b"<html>Not found</html>",
    ],
)
def test_damaged_idx_files_say_so(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="labels is damaged or is no idx file"):
        read_idx(path)
    packed = tmp_path / "labels.gz"
    packed.write_bytes(gzip.compress(bytes(1000))[:-12])
    with pytest.raises(ConfigError, match=r"labels.gz cannot be read.*Fetch it anew"):
        read_idx(packed)


def mnist_files(folder: Path, train: int = 6, test: int = 3, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = gzip.compress(idx(array)) if packed else idx(array)
            (folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}").write_bytes(data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_from_a_folder(packed: bool, tmp_path: Path) -> None:
    root = mnist_files(tmp_path / "root" / "MNIST" / "raw", packed=packed)
    for place in (root, tmp_path / "root"):
        source = mnist.load(place, tmp_path / "cache", False)
        assert source.arrays is not None and source.arrays.shape == (9, 1, 28, 28)
        assert source.targets.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
        assert source.given_parts is not None
        assert source.given_parts.tolist() == ["train"] * 6 + ["test"] * 3
        assert len(source.class_names) == 10


def test_mnist_found_nowhere_names_the_files(tmp_path: Path) -> None:
    raw = tmp_path / "downloads" / "MNIST" / "raw"
    with pytest.raises(ConfigError) as error:
        mnist.load(None, tmp_path, False)
    for word in ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte", str(raw), "data.root="):
        assert word in str(error.value)
    with pytest.raises(ConfigError, match="there is no such file or folder") as error:
        mnist.load(Path("~/mnist"), tmp_path, False)
    assert "taken literally" in str(error.value)
    mnist_files(raw)
    assert len(mnist.load(None, tmp_path, False)) == 9


def test_mnist_is_downloaded_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(folder: Path, download: bool) -> None:
        mnist_files(folder / "MNIST" / "raw")

    monkeypatch.setattr("torchvision.datasets.MNIST", fetched)
    assert len(mnist.load(None, tmp_path, True)) == 9

    def offline(folder: Path, download: bool) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.MNIST", offline)
    assert len(mnist.load(None, tmp_path, True)) == 9
    with pytest.raises(ConfigError, match=r"could not be downloaded.*Put train-images"):
        mnist.load(None, tmp_path / "other", True)


def test_mnist_pictures_and_labels_must_belong_together(tmp_path: Path) -> None:
    root = mnist_files(tmp_path / "raw", packed=False)
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(ConfigError, match="not pictures with their labels"):
        mnist.load(root, tmp_path, False)


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_fashion_mnist_of_the_system(tmp_path: Path) -> None:
    source = fashion_mnist.load(None, tmp_path, False)
    assert source.arrays is not None and source.arrays.shape == (70_000, 1, 28, 28)
    assert np.bincount(source.targets).tolist() == [7000] * 10 and source.published
    assert source.given_parts is not None and (source.given_parts == "train").sum() == 60_000


# ---- CIFAR


def cifar_batch(count: int, key: bytes, seed: int) -> dict[bytes, Any]:
    images = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    return {b"data": images, key: [i % 2 for i in range(count)], b"batch_label": b"batch"}


def cifar10_files(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate([f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]):
        batch = cifar_batch(2, b"labels", number)
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [b"plane", b"car"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


def packed(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        tar.add(folder, folder.name)
    return file


def test_cifar10_as_folder_and_as_archive(tmp_path: Path) -> None:
    batches = cifar10_files(tmp_path / "root" / "cifar-10-batches-py")
    archive = packed(batches, tmp_path / "cifar-10-python.tar.gz")
    for root in (batches, tmp_path / "root", archive, tmp_path):
        source = cifar10.load(root, tmp_path / "cache", False)
        assert source.arrays is not None and source.arrays.shape == (12, 3, 32, 32)
        assert source.class_names == ("plane", "car")
        assert source.targets.tolist() == [0, 1] * 6
        assert source.given_parts is not None
        assert source.given_parts.tolist() == ["train"] * 10 + ["test"] * 2
        last = cifar_batch(2, b"labels", 5)[b"data"]
        np.testing.assert_array_equal(source.arrays[10:], last.reshape(-1, 3, 32, 32))


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    root = tmp_path / "cifar-100-python"
    root.mkdir()
    for seed, name in enumerate(["train", "test"]):
        batch = cifar_batch(4, b"fine_labels", seed)
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"fine_label_names": [b"apple", b"bear"], b"coarse_label_names": [b"food"]}
    (root / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    source = cifar100.load(tmp_path, tmp_path / "cache", False)
    assert source.class_names == ("apple", "bear")
    assert len(source) == 8


def test_python_2_pickles_of_numpy_arrays_are_read(tmp_path: Path) -> None:
    root = cifar10_files(tmp_path / "batches")
    modern = pickle.dumps(cifar_batch(2, b"labels", 0), protocol=2)
    assert b"cnumpy._core.multiarray\n" in modern
    old = modern.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (root / "data_batch_1").write_bytes(old)
    assert len(cifar10.load(root, tmp_path, False)) == 12


class Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_pickles_that_would_run_code_are_refused(tmp_path: Path) -> None:
    root = cifar10_files(tmp_path / "batches")
    mark = tmp_path / "was-run"
    (root / "test_batch").write_bytes(pickle.dumps({b"data": Malice(mark)}, protocol=2))
    with pytest.raises(ConfigError, match=r"test_batch .* asks for \w+\.mkdir"):
        cifar10.load(root, tmp_path, False)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["a"]}),
    ],
)
def test_damaged_cifar_batches_say_so(data: bytes, tmp_path: Path) -> None:
    root = cifar10_files(tmp_path / "batches")
    (root / "data_batch_3").write_bytes(data)
    with pytest.raises(ConfigError, match=r"data_batch_3 in .*(damaged|cannot be read)"):
        cifar10.load(root, tmp_path, False)


def test_cifar_found_nowhere_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Put cifar-10-python.tar.gz or the folder cifar-10"):
        cifar10.load(None, tmp_path, False)
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    with pytest.raises(ConfigError, match="set data=folder"):
        cifar10.load(tmp_path / "pictures", tmp_path, False)
    cut = tmp_path / "cifar-10-python.tar.gz"
    cut.write_bytes(packed(cifar10_files(tmp_path / "b"), cut).read_bytes()[:-300])
    with pytest.raises(ConfigError, match=r"cifar-10-python.tar.gz cannot be read"):
        cifar10.load(cut, tmp_path, False)
    with tarfile.open(cut, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("else"), io.BytesIO())
    with pytest.raises(ConfigError, match="has no data_batch_1, "):
        cifar10.load(cut, tmp_path, False)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "npz", "tar", "zip"])
def test_pictures_do_not_come_from_a_pipe(tmp_path: Path, ending: str) -> None:
    os.mkfifo(pipe := tmp_path / f"pets.{ending}")
    with pytest.raises(ConfigError, match="is a pipe, and no file or folder"):
        list_pictures(settings_of(tmp_path / "cache", root=str(pipe)))
