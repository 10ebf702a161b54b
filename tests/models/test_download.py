"""Fetching weights from servers of the test's own: none beyond this machine is asked."""

from __future__ import annotations

import hashlib
import io
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from src.models import download
from src.models.download import from_address, from_hub
from src.models.weights import fetch, find_weights, get_weights, loadable
from src.models.zoo import TimmNet
from tests.models.caches import REVISION, timm_network, use_empty_caches

REPOSITORY = "timm/test_resnet.r160_in1k"


@contextmanager
def serving(files: dict[str, bytes], digests: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a server that has these files, with the headers that the hub sends.

    `digests` are stated in the place of the files' own.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
            else:
                self.send_header("X-Repo-Commit", REVISION)
                digest = hashlib.sha256(content).hexdigest()
                self.send_header("ETag", f'"{(digests or {}).get(self.path, digest)}"')
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body and content is not None:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def use_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    use_empty_caches(monkeypatch, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return monkeypatch


def ask(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    patch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def build(name: str = "test_resnet") -> TimmNet:
    return TimmNet(
        3,
        1000,
        (160, 160),
        name=name,
        pretrained=True,
        input_size=None,
        stem="auto",
        drop_rate=0.0,
    ).eval()


def as_torch(state: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "write"), [("model.safetensors", save), ("pytorch_model.bin", as_torch)]
)
def test_what_the_hub_has_is_fetched_once(
    name: str, write: object, use_hub: pytest.MonkeyPatch
) -> None:
    published = timm_network("test_resnet")
    content = write(published.state_dict())  # type: ignore[operator]
    images = torch.randn(1, 3, 160, 160)
    with serving({f"/{REPOSITORY}/resolve/main/{name}": content}) as address:
        ask(use_hub, address)
        torch.testing.assert_close(build()(images), published(images))
    # The server is gone, and what it had is in the cache.
    torch.testing.assert_close(build()(images), published(images))
    assert get_weights("timm", "test_resnet", True).source == "hugging face cache"


def test_weights_are_fetched_for_later_races(use_hub: pytest.MonkeyPatch) -> None:
    content = save(timm_network("test_resnet").state_dict())
    with serving({f"/{REPOSITORY}/resolve/main/model.safetensors": content}) as address:
        ask(use_hub, address)
        found, is_new = fetch("test_resnet")
    assert is_new and found.file.read_bytes() == content
    assert fetch("test_resnet") == (found, False), "without the server"
    assert "test_resnet.r160_in1k" in {one.name for one in loadable(["test_resnet"])}
    packaged = "tf_efficientnet_lite0"
    assert fetch(packaged) == (find_weights("timm", packaged), False)
    with pytest.raises(ValueError, match=r"neither timm nor torchvision knows .*'no_such'"):
        fetch("no_such")
    with pytest.raises(OSError, match="refused"):
        fetch("lcnet_050")


@pytest.mark.parametrize("fault", ["a page of a log-in", "a changed byte", "another digest"])
def test_what_is_no_weights_is_not_kept(fault: str, use_hub: pytest.MonkeyPatch) -> None:
    right = save(timm_network("test_resnet").state_dict())
    path = f"/{REPOSITORY}/resolve/main/model.safetensors"
    page, stated = b"<html>Log in</html>", hashlib.sha256(right).hexdigest()
    reason = "not kept: .* cannot be read as weights" if fault[2:6] == "page" else "damaged"
    sent = {
        "a page of a log-in": ({path: page}, {}),
        "a changed byte": ({path: right[:-1] + bytes([right[-1] ^ 1])}, {path: stated}),
        "another digest": ({path: right}, {path: hashlib.sha256(page).hexdigest()}),
    }
    files, digests = sent[fault]
    with serving(files, digests) as address:
        ask(use_hub, address)
        with pytest.raises(OSError, match=reason) as error:
            fetch("test_resnet")
        assert error.value.errno is None, "the network's fault, not the disk's"
        with pytest.raises(ValueError, match=f"cannot be fetched .*{reason}"):
            get_weights("timm", "test_resnet", True)
    assert find_weights("timm", "test_resnet") is None
    with serving({path: right}) as address:
        ask(use_hub, address)
        found, is_new = fetch("test_resnet")
    assert is_new and found.file.read_bytes() == right


def test_a_damaged_file_of_a_cache_is_named_and_fetched_once_it_is_gone(
    use_hub: pytest.MonkeyPatch,
) -> None:
    content = save(timm_network("test_resnet").state_dict())
    with serving({f"/{REPOSITORY}/resolve/main/model.safetensors": content}) as address:
        ask(use_hub, address)
        found, _ = fetch("test_resnet")
        stored = found.file.resolve()
        stored.write_bytes(content[:100])
        with pytest.raises(ValueError, match=f"weights .*; to fetch it anew, delete {stored}"):
            fetch("test_resnet")
        stored.unlink()
        assert fetch("test_resnet") == (found, True)
    assert found.file.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
def test_a_disk_without_room_keeps_nothing_of_the_weights(
    use_hub: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import resource

    content = bytes(1 << 20)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = f"/{REPOSITORY}/resolve/main/model.safetensors"
    torch_file = tmp_path / "torch" / "weights.pth"
    with serving({path: content, "/weights.pth": content}) as address:
        ask(use_hub, address)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        try:
            with pytest.raises(OSError, match="too large") as error:
                from_hub(REPOSITORY, ["model.safetensors"])
            with pytest.raises(OSError, match="too large") as error:
                from_address(f"{address}/weights.pth", torch_file)
            assert error.value.filename
            with pytest.raises(OSError, match="too large"):
                get_weights("timm", "test_resnet", True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not torch_file.exists() and find_weights("timm", "test_resnet") is None
        assert from_hub(REPOSITORY, ["model.safetensors"]).read_bytes() == content


def test_a_hub_without_the_file_is_named(use_hub: pytest.MonkeyPatch) -> None:
    with serving({}) as address:
        ask(use_hub, address)
        with pytest.raises(OSError, match=rf"{REPOSITORY} holds none of model.safetensors"):
            from_hub(REPOSITORY, ["model.safetensors"])


def test_a_hub_that_refuses_or_is_silent_is_known_within_seconds(
    use_hub: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        ask(use_hub, address)
        begun = time.monotonic()
        with pytest.raises(ValueError, match=r"cannot be fetched .*refused.*model.pretrained=PATH"):
            build()
        assert time.monotonic() - begun < 5
        use_hub.setattr(download, "_PATIENCE", 1.0)
        listening.listen()  # and never answers
        begun = time.monotonic()
        with pytest.raises(ValueError, match=r"cannot be fetched .*Timeout"):
            build()
        assert time.monotonic() - begun < 10


def test_an_address_is_fetched_and_checked_against_its_name(tmp_path: Path) -> None:
    content = as_torch({"weight": torch.ones(2)})
    digest = hashlib.sha256(content).hexdigest()[:8]
    with serving({"/right.pth": content, "/wrong.pth": content[:-1] + b"x"}) as address:
        file = tmp_path / "cache" / f"net-{digest}.pth"
        assert from_address(f"{address}/right.pth", file).read_bytes() == content
        other = tmp_path / f"other-{digest}.pth"
        with pytest.raises(OSError, match="invalid hash"):
            from_address(f"{address}/wrong.pth", other)
        with pytest.raises(OSError, match="404"):
            from_address(f"{address}/missing.pth", other)
    assert not other.exists()
    with pytest.raises(OSError, match="refused"):
        from_address(f"{address}/right.pth", other)
