"""Pictures in a bucket that asks for a secret."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, unquote

import pytest

from src.config.checks import ConfigError
from tests.data.pictures import tree
from tests.data.sources.test_remote import assert_same, listed


class Bucket(BaseHTTPRequestHandler):
    """What S3's protocol needs to list and read objects, for those that sign what they ask."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        asked = dict(parse_qsl(query))
        key = unquote(path).removeprefix("/bucket").lstrip("/")
        if "Credential=some-key/" not in self.headers.get("Authorization", ""):
            self.answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif "list-type" in asked:
            self.answer(200, self.page(asked.get("prefix", "")))
        elif key in self.objects:
            first, _, last = (
                self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            )
            content = self.objects[key]
            end = min(int(last) + 1, len(content)) if last else len(content)
            self.answer(206 if "Range" in self.headers else 200, content[int(first) : end])
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def page(self, prefix: str) -> bytes:
        below = [key for key in sorted(self.objects) if key.startswith(prefix)]
        files = [key for key in below if "/" not in key[len(prefix) :]]
        folders = {prefix + key[len(prefix) :].split("/")[0] for key in below if key not in files}
        items = [
            f"<Contents><Key>{key}</Key><Size>{len(self.objects[key])}</Size><ETag>e</ETag>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for key in files
        ]
        items += [f"<CommonPrefixes><Prefix>{one}/</Prefix></CommonPrefixes>" for one in folders]
        return f"<ListBucketResult>{''.join(items)}</ListBucketResult>".encode()

    def answer(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


def test_a_bucket_and_no_secret_in_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3fs = pytest.importorskip("s3fs", reason="the package s3fs is not installed")
    root = tree(tmp_path / "pets", {"train/cat": 2, "train/dog": 2, "test/cat": 1, "test/dog": 1})
    below = list(root.rglob("*.png"))
    objects = {f"some pets/{path.relative_to(root)}": path.read_bytes() for path in below}
    monkeypatch.setattr(Bucket, "objects", objects)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-x7Qz")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(ConfigError, match=r"access is denied") as caught:
            listed("s3://bucket/some pets", tmp_path)
        assert "x7Qz" not in str(caught.value)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some-key")
        s3fs.S3FileSystem.clear_instance_cache()
        assert_same(listed("s3://bucket/some pets", tmp_path), listed(str(root), tmp_path))
    finally:
        server.shutdown()
        server.server_close()
        s3fs.S3FileSystem.clear_instance_cache()
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert left and not any(b"x7Qz" in path.read_bytes() for path in left)
