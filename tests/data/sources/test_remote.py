"""What is fetched from addresses: of a web server, and of fsspec's own system in memory."""

from __future__ import annotations

import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.data import FolderSettings
from src.data.decoding.opening import open_pictures
from src.data.sources import file_notes, remote
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source
from src.machine.failures import DiskRefuses
from src.storage.digests import checked_line, line_content
from tests.data.pictures import age, encoded, flip, png, tree, write
from tests.data.sources.test_archive import pack
from tests.data.videos import video


class Server:
    """A web server on a folder, which keeps the paths that were read."""

    def __init__(self, folder: Path) -> None:
        self.read: list[str] = []
        self.refused: set[str] = set()
        self.forbidden: set[str] = set()
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.read.append(self.path)
                if self.path in outer.refused:
                    self.send_error(503)
                elif self.path in outer.forbidden:
                    self.send_error(403)
                else:
                    super().do_GET()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Handler, directory=str(folder))
        )
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    started = Server(tmp_path / "served")
    yield started
    started.close()


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system of memory://, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def listed(address: str, tmp_path: Path, **options: Any) -> Source:
    """The pictures at an address as a run lists them."""
    return list_pictures(settings(address, tmp_path, **options))


def settings(address: str, tmp_path: Path, **options: Any) -> FolderSettings:
    given: dict[str, Any] = {"_target_": "src.data.sources.folder.load", "name": "auto"}
    given |= {"num_workers": 2, "root": address, "cache_dir": str(tmp_path / "cache")}
    return FolderSettings(**(given | options))


def shard(file: Path, members: list[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> Path:
    """Write a .tar of these files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=format) as opened:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    age(file)
    return file


def assert_same(source: Source, other: Source) -> None:
    """Check that two sources have the same pictures, labels and parts."""
    assert source.sample_paths == other.sample_paths
    assert source.class_names == other.class_names
    np.testing.assert_array_equal(source.targets, other.targets)
    assert (source.given_parts is None) == (other.given_parts is None)
    for index in range(len(source)):
        assert Path(source.file(index)).read_bytes() == Path(other.file(index)).read_bytes()


def test_a_served_folder_is_what_it_is_on_the_disk(server: Server, tmp_path: Path) -> None:
    root = tree(tmp_path / "served/my pets", {"train/cat#1 & 50%": 3, "train/dog": 2, "val/dog": 1})
    write(root / "notes.txt", b"no picture")
    write(root / ".hidden/cat/1.png", png(9))
    there = listed(f"{server.address}/my%20pets", tmp_path)
    assert_same(there, listed(str(root), tmp_path))
    assert there.given_parts is not None
    store = open_pictures(there, settings(f"{server.address}/my%20pets", tmp_path))
    assert len(store) == 6
    read = len(server.read)
    listed(f"{server.address}/my%20pets", tmp_path)
    assert len(server.read) == read and not any("notes" in path for path in server.read)


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar"])
def test_a_served_archive(server: Server, tmp_path: Path, name: str) -> None:
    root = tree(tmp_path / "pets", {"cat": 2, "dog": 2})
    pack(root, tmp_path / "served" / name)
    assert_same(
        listed(f"{server.address}/{name}?download=1", tmp_path), listed(str(root), tmp_path)
    )


def test_a_served_table_brings_the_files_that_it_names(server: Server, tmp_path: Path) -> None:
    root = tree(tmp_path / "served/deep", {"a": 2, "b": 2})
    write(root / "c/unnamed.png", png(7))
    lines = ["path,label,split", "a/000.png,cat,train", "a/001.png,dog,train"]
    lines += ["b/002.png,cat,val", "../../secret.png,dog,val", "gone.png,dog,train"]
    write(root / "list.csv", "\n".join(lines).encode())
    write(tmp_path / "secret.png", png(8))
    address = f"{server.address}/deep/list.csv"
    with pytest.raises(ConfigError, match=r"line 5: .*line 6: gone\.png") as caught:
        listed(address, tmp_path)
    assert str(tmp_path) not in str(caught.value) and f"{server.address}/deep" in str(caught.value)
    there = listed(address, tmp_path, on_bad_image="skip")
    assert there.sample_paths == ("a/000.png", "a/001.png", "b/002.png")
    assert not any("unnamed" in path or "secret" in path for path in server.read)


def test_a_table_that_was_refused_brings_its_files_once_it_is_understood(
    server: Server, tmp_path: Path
) -> None:
    root = tree(tmp_path / "served/deep", {"a": 2, "b": 2})
    files = [f"{folder}/00{n}.png,{folder}" for n, folder in enumerate("aabb")]
    write(root / "list.csv", "\n".join(["where,what", *files]).encode())
    address = f"{server.address}/deep/list.csv"
    with pytest.raises(ConfigError) as caught:
        listed(address, tmp_path)
    assert address in str(caught.value) and str(tmp_path) not in str(caught.value)
    # The table stays; this time its columns are named.
    assert len(listed(address, tmp_path, columns=["where", "what"])) == 4


@pytest.mark.parametrize(
    "root",
    [
        "shards",
        "shards/train-{000..001}.tar",
        "shards/train-{000..000}.tar",
        "shards/train-000.tar",
    ],
)
def test_served_shards(server: Server, tmp_path: Path, root: str) -> None:
    for number in range(2):
        members = [(f"{n}.{end}", data) for n in range(2) for end, data in sample(2 * number + n)]
        shard(tmp_path / f"served/shards/train-{number:03}.tar", members)
    there = listed(f"{server.address}/{root}", tmp_path)
    assert there.spans is not None and there.class_names == ("cat", "dog")
    assert there.sample_paths == listed(f"{tmp_path}/served/{root}", tmp_path).sample_paths
    assert there.open(1).read() == png(1)


def sample(number: int) -> list[tuple[str, bytes]]:
    return [("png", png(number)), ("cls", b"cat" if number % 2 else b"dog")]


def test_a_fetch_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    tree(tmp_path / "served/pets", {"cat": 3, "dog": 3})
    server.refused.add("/pets/dog/005.png")
    with pytest.raises(ConfigError, match=r"503"):
        listed(f"{server.address}/pets", tmp_path)
    server.refused.clear()
    before = len(server.read)
    assert len(listed(f"{server.address}/pets", tmp_path)) == 6
    again = server.read[before:]
    assert "/pets/dog/005.png" in again and "/pets/cat/000.png" not in again
    # Systems clean up caches file by file.
    (removed,) = (tmp_path / "cache/remote").glob("*/content/cat/000.png")
    removed.unlink()
    before = len(server.read)
    assert len(listed(f"{server.address}/pets", tmp_path)) == 6
    assert server.read[before:] == ["/pets/cat/000.png"]


def test_what_changes_there_is_seen_when_content_is_checked(memory: Any, tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "cat", "dog", "dog")):
        memory.pipe_file(f"/pets/{label}/{number}.png", png(number))
    assert len(listed("memory://pets", tmp_path)) == 4
    memory.pipe_file("/pets/dog/3.png", png(33))
    memory.rm_file("/pets/cat/0.png")
    memory.pipe_file("/pets/cat/5.png", png(5))
    assert len(listed("memory://pets", tmp_path)) == 4
    again = listed("memory://pets", tmp_path, check_content=True)
    assert again.sample_paths == ("cat/1.png", "cat/5.png", "dog/2.png", "dog/3.png")
    assert Path(again.file(3)).read_bytes() == png(33)


@pytest.mark.parametrize("place", ["", "/scenes", "/scenes/set.csv"])
@pytest.mark.parametrize("noted_before", [False, True])
def test_names_of_classes_beside_pictures_with_masks_are_fetched(
    memory: Any, tmp_path: Path, place: str, noted_before: bool
) -> None:
    mask = encoded(Image.fromarray(np.tile(np.uint8([0, 1]), (12, 8))), "PNG")
    for number in range(3):
        memory.pipe_file(f"/all/scenes/images/{number}.png", png(number))
        memory.pipe_file(f"/all/scenes/masks/{number}.png", mask)
    lines = ["path,mask", *(f"images/{n}.png,masks/{n}.png" for n in range(3))]
    memory.pipe_file("/all/scenes/set.csv", "\n".join(lines).encode())
    memory.pipe_file("/all/scenes/classes.txt", b"road\nsky\n")
    address = f"memory://all{place}"
    if noted_before:  # by an earlier version, which did not look for them
        memory.mv("/all/scenes/classes.txt", "/away.txt")
        assert listed(address, tmp_path, target="dense").class_names[0] == "background"
        memory.mv("/away.txt", "/all/scenes/classes.txt")
        (file,) = (tmp_path / "cache/remote").glob("*/listing.json")
        content = line_content(file.read_bytes())
        del content["files"]["classes.txt"]
        file.write_bytes(checked_line(content))
    assert listed(address, tmp_path, target="dense").class_names == ("road", "sky")
    memory.store.clear()
    assert listed(address, tmp_path, target="dense").class_names == ("road", "sky")


def test_names_of_classes_may_be_forbidden_and_nothing_else(server: Server, tmp_path: Path) -> None:
    mask = encoded(Image.fromarray(np.tile(np.uint8([0, 1]), (12, 8))), "PNG")
    for number in range(3):
        write(tmp_path / "served" / f"{number}.png", png(number))
        write(tmp_path / "served" / f"{number}_mask.png", mask)
    lines = ["path,mask", *(f"{n}.png,{n}_mask.png" for n in range(3))]
    write(tmp_path / "served/set.csv", "\n".join(lines).encode())
    server.forbidden = {"/classes.txt"}  # as a bucket has it that lists nothing
    address = f"{server.address}/set.csv"
    assert listed(address, tmp_path, target="dense").class_names[0] == "background"
    server.forbidden = {"/1.png"}
    with pytest.raises(ConfigError, match="403"):
        listed(address, tmp_path, target="dense", cache_dir=str(tmp_path / "another"))


def test_videos_below_an_address_are_fetched_where_their_frames_are_wanted(
    memory: Any, tmp_path: Path
) -> None:
    for number, label in enumerate(("cat", "cat", "dog", "dog")):
        memory.pipe_file(f"/pets/{label}/{number}.png", png(number))
        memory.pipe_file(f"/pets/{label}/{number}.mp4", video(frames=4))
    assert len(listed("memory://pets", tmp_path)) == 4
    assert len(listed("memory://pets", tmp_path, frames=2)) == 4 + 4 * 2
    assert len(listed("memory://pets", tmp_path)) == 4


@pytest.mark.parametrize("name", ["pets", "pets.tar"])
def test_what_is_not_as_it_came_is_fetched_anew(
    memory: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    root = tree(tmp_path / "pets", {"cat": 2, "dog": 2})
    for path in (*root.rglob("*.png"), pack(root, tmp_path / "pets.tar")):
        memory.pipe_file(f"/{path.relative_to(tmp_path)}", path.read_bytes())
    address = f"memory://{name}"
    listed(address, tmp_path)
    assert_same(listed(address, tmp_path), listed(str(root), tmp_path))
    assert not caplog.records
    for file in (tmp_path / "cache/remote").glob("*/content/**/*.*"):
        flip(file)
    assert_same(listed(address, tmp_path), listed(str(root), tmp_path))
    assert "is fetched anew" in caplog.text and len(caplog.records) == 1


def test_checking_content_reads_what_was_fetched_as_well(
    memory: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a disk that changes bytes without a word."""
    monkeypatch.setattr(file_notes, "file_state", lambda status: (1, 2, 3, 4))
    for number, label in enumerate(("cat", "cat", "dog", "dog")):
        memory.pipe_file(f"/pets/{label}/{number}.png", png(number))
    file = Path(listed("memory://pets", tmp_path).file(3))
    flip(file)
    assert listed("memory://pets", tmp_path) and file.read_bytes() != png(3)
    for _ in range(2):
        listed("memory://pets", tmp_path, check_content=True)
        assert file.read_bytes() == png(3)
    assert "dog/3.png" in caplog.text and len(caplog.records) == 1


def test_a_large_file_comes_in_parts_and_goes_on_where_it_ended(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_PART_BYTES", 1000)
    root = tree(tmp_path / "pets", {"cat": 3, "dog": 3})
    content = pack(root, tmp_path / "pets.zip").read_bytes()
    memory.pipe_file("/pets.zip", content)
    starts: list[int] = []
    whole = type(memory).cat_file

    def cut_short(self: Any, path: str, start: int, end: int) -> bytes:
        starts.append(start)
        if start == 3000 and len(starts) < 6:
            raise OSError("the line went dead")
        return bytes(whole(self, path, start=start, end=end))

    monkeypatch.setattr(type(memory), "cat_file", cut_short)
    with pytest.raises(ConfigError, match="the line went dead"):
        listed("memory://pets.zip", tmp_path)
    (partial_file,) = (tmp_path / "cache/remote").glob("*/partial/*")
    assert partial_file.read_bytes() == content[:3000]
    starts[:] = [0] * 6
    assert_same(listed("memory://pets.zip", tmp_path), listed(str(root), tmp_path))
    assert min(starts[6:]) == 3000


def test_a_local_address_is_read_in_place(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets", {"cat": 2, "dog": 2})
    source = listed(f"file://{root}", tmp_path)
    assert source.root == root and not (tmp_path / "cache/remote").exists()


def test_more_than_the_disk_has_room_for(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/pets/cat/1.png", png(1))
    full = replace_usage(10)
    monkeypatch.setattr(shutil, "disk_usage", full)
    with pytest.raises(DiskRefuses, match=r"has 0.0 kB free: make room, or name another folder"):
        listed("memory://pets", tmp_path)
    assert not list((tmp_path / "cache").rglob("*.png"))


def replace_usage(free: int) -> Any:
    usage = shutil.disk_usage(".")
    return lambda _: usage._replace(free=free)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://nothing", "no such file or folder"),
        ("memory://nothing.zip", "no such file or folder"),
        ("weird://bucket/pets", "s3://, gs://, hf://, https:// or a path"),
        ("http://127.0.0.1:9/pets", "cannot be read"),
        # fsspec names no package of its own accord that the project has.
        ("abfs://box/pets", "pip install adlfs"),
    ],
)
def test_addresses_that_are_refused(
    address: str, message: str, memory: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        listed(address, tmp_path)
    assert address in str(caught.value)


def test_paths_that_lead_elsewhere_are_left(memory: Any, tmp_path: Path) -> None:
    for number, label in enumerate(("cat", "dog")):
        memory.pipe_file(f"/pets/{label}/{number}.png", png(number))
    ls = type(memory).ls

    def with_more(self: Any, path: str, detail: bool = True, **options: Any) -> Any:
        found = ls(self, path, detail=detail, **options)
        bad = (f"{path}/../../x.png", f"{path}/..\\x.png", "/elsewhere/x.png", path)
        return [*found, *({"name": name, "type": "file", "size": 3} for name in bad)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(memory), "ls", with_more)
        assert listed("memory://pets", tmp_path).sample_paths == ("cat/0.png", "dog/1.png")


def test_the_name_of_an_address() -> None:
    assert replace(settings("https://host/a/pets.zip?x=1", Path())).name == "pets"
    assert replace(settings("s3://bucket/pets/", Path())).name == "pets"
