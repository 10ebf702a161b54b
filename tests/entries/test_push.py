"""A trained model that goes to a folder or to a hub, and is used from there."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, constants

from src.config.checks import ConfigError
from src.config.finished import PushSettings
from src.config.tracking import TrackingPlace
from src.runs.folder import RunFolder
from src.selection.publish import publish
from tests.entries.commands import summary_of
from tests.entries.conftest import Run

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Hub:
    """What a hub was sent."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuses: bool = False
    private: bool = True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server that answers uploads as the Hugging Face hub does, and takes every file itself."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            found.tokens.add(str(self.headers.get("Authorization")))
            status, answer = (403, {"error": "no"}) if found.refuses else (200, self._answer(body))
            self._send(status, answer)

        def do_GET(self) -> None:
            files = [{"type": "file", "path": name, "oid": "0", "size": 1} for name in found.files]
            about = {"id": "me/digits", "private": found.private}
            self._send(200, files if "/tree/" in self.path else about)

        def _send(self, status: int, answer: object) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _answer(self, body: bytes) -> object:
            if "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "deletedFile":
                        del found.files[line["value"]["path"]]
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        found.files[line["value"]["path"]] = content
                return {"commitUrl": f"{found.address}/me/digits/commit/0", "commitOid": "0" * 40}
            asked = json.loads(body)
            found.asked.append((self.path, asked))
            if "/preupload/" in self.path:
                kinds = {"uploadMode": "regular", "shouldIgnore": False}
                return {"files": [{"path": one["path"], **kinds} for one in asked["files"]]}
            return {"url": f"{found.address}/me/digits", "errors": [], "warnings": []}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Hub(f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "ENDPOINT", found.address)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


def to(place: str, **options: Any) -> PushSettings:
    return PushSettings(
        run="", changed="refuse", output_dir="", tracking=TrackingPlace(), to=place, **options
    )


@pytest.mark.slow
def test_a_folder_has_a_card_that_says_how_it_is_used(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    place = tmp_path / "digits for all"
    overrides = [f"run={trained}", f"to={place}", "license=apache-2.0"]
    done = run("src.push", *overrides)
    assert done.returncode == 0, done.stderr
    assert f"written: {place}" in done.stdout
    card, summary = ModelCard.load(place / "README.md"), summary_of(trained)
    assert str(tmp_path) not in card.content and str(trained.parents[1]) not in card.content
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "image-classification"
    (accuracy,) = (r for r in card.data.eval_results or () if r.metric_type == "accuracy")
    assert accuracy.dataset_split == "test"
    assert accuracy.metric_value == pytest.approx(summary["metrics"]["test/accuracy"], abs=1e-6)
    (block,) = _BLOCK.findall(card.text)
    example = place / "bakeoff" / "example.png"
    code = block.replace("picture.jpg", str(example))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    used = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert used.returncode == 0, used.stderr
    labelled = run("src.predict", f"run={trained}", f"images={example}")
    assert labelled.returncode == 0, labelled.stderr
    label = labelled.stdout.splitlines()[1].split(",")[1]
    assert used.stdout.startswith(f"('{label}'"), used.stdout
    assert run("src.push", *overrides).returncode == 0  # in the place of the earlier one
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


def test_a_hub_gets_the_same_files(hub: Hub, trained: Path, tmp_path: Path) -> None:
    folder = RunFolder.open(trained)
    hub.files["bakeoff/code/of_an_earlier_model.py"] = b"1 / 0"
    publish(folder, to("hf://me/digits", private=True))
    publish(folder, to(str(tmp_path / "digits")))
    path, asked = hub.asked[0]
    assert path == "/api/repos/create" and (asked["organization"], asked["name"]) == (
        "me",
        "digits",
    )
    assert asked.get("visibility") == "private" or asked.get("private") is True
    assert hub.tokens == {"Bearer hf_of_the_test"}
    local = {
        file.relative_to(tmp_path / "digits").as_posix(): file.read_bytes()
        for file in (tmp_path / "digits").rglob("*")
        if file.is_file()
    }
    sent, written = hub.files.pop("README.md"), local.pop("README.md")
    assert b"snapshot_download('me/digits')" in sent
    assert sent.partition(b"# Model card")[0] == written.partition(b"# Model card")[0]
    assert hub.files == local and {"config.json", "model.safetensors"} <= local.keys()


def test_a_public_place_gets_nothing_that_is_to_be_private(hub: Hub, trained: Path) -> None:
    hub.private = False
    with pytest.raises(ConfigError, match="hf://me/digits is public"):
        publish(RunFolder.open(trained), to("hf://me/digits", private=True))
    assert not hub.files
    publish(RunFolder.open(trained), to("hf://me/digits"))
    assert hub.files


def test_a_hub_that_refuses_is_named(hub: Hub, trained: Path) -> None:
    hub.refuses = True
    with pytest.raises(ConfigError, match=r"to: hf://me/digits could not be written: .*403"):
        publish(RunFolder.open(trained), to("hf://me/digits"))


def test_what_it_did_not_write_is_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="name a new folder"):
        publish(RunFolder.open(trained), to(str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_earlier_push_stays_where_the_new_one_cannot_take_its_place(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "earlier"
    publish(RunFolder.open(trained), to(str(place)))
    (place / "README.md").write_text("the card of before")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == place and self.name == "new":
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ConfigError, match="to"):
        publish(RunFolder.open(trained), to(str(place)))
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]
    assert (place / "README.md").read_text() == "the card of before"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork and no such kill")
def test_what_a_killed_push_left_goes_with_the_next_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "model"
    with monkeypatch.context() as changed:
        kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        changed.setattr("src.selection.publish.write_hub_folder", kill)
        if not (child := os.fork()):
            try:
                publish(RunFolder.open(trained), to(str(place)))
            finally:  # or this test would go on twice
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) and not place.exists()
    publish(RunFolder.open(trained), to(str(place)))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["to=hf://digits"], "hf://USER/NAME"),
        (["to=s3://bucket/x"], "only hf://USER/NAME is known"),
        (["to=here", "private=true"], "private is about repositories"),
        (["run=nobody", "to=here"], "there is no run 'nobody'"),
        ([], "to is missing"),
    ],
)
def test_what_cannot_be_pushed_is_refused(
    run: Run, tmp_path: Path, overrides: list[str], part: str
) -> None:
    done = run("src.push", *overrides, f"output_dir={tmp_path}")
    assert done.returncode == 2 and part in done.stderr


def test_without_a_token_nothing_is_sent(
    run: Run, trained: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    overrides = [f"run={trained}", "to=hf://me/digits"]
    kept = dict(environment)
    try:
        environment.pop("HF_TOKEN", None)
        environment["HF_HOME"] = str(tmp_path)
        environment["HF_TOKEN_PATH"] = str(tmp_path / "none")
        done = run("src.push", *overrides)
    finally:
        environment.clear()
        environment.update(kept)
    assert done.returncode == 2 and "set HF_TOKEN" in done.stderr
