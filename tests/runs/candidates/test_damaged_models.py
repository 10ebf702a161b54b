"""Model files of every kind that are something else: one sentence, whatever stands in them."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from src.config.checks import ConfigError
from src.runs.candidates.choose import load_trained


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in members.items():
            opened.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


def saved(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def other_files() -> Iterator[bytes]:
    yield from (b"", b"hello\n" * 100, b"<html>404</html>", bytes(500), b"[" * 100_000, b"[]")
    yield b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
    yield from (archive(), archive(a=b"hello"), archive(x__data_pkl=b"hello"))
    yield from (b"PK\3\4" + bytes(500), archive(a=bytes(3000))[:1500])
    yield archive(**{"schema.json": b'{"__class__": "dict", "__module__": "builtins"}'})
    yield from (saved({"something": 1}), saved([1, 2]), pickle.dumps({"a": 1}, 2))
    yield saved({"bakeoff": {"network": 3}, "state_dict": {}})
    yield b"\x80\x04\x8e" + (2**40).to_bytes(8, "little")  # a text of a terabyte, says the pickle
    members = {"way": "mean", "members": [{"file": "gone.ckpt", "weight": "x"}]}
    yield json.dumps({"ensemble": members, "settings": {"a": 1}, "class_names": ["a"]}).encode()
    yield json.dumps({"ensemble": {"way": "mean", "members": []}}).encode()
    drawn = random.Random(0)
    for _ in range(60):
        yield drawn.randbytes(drawn.randrange(1, 300))
        yield b"\x80\x02" + bytes(drawn.choice(b"}q\0(X.c]uK)R\x85be\x86tN") for _ in range(60))


@pytest.mark.parametrize("name", ["last.ckpt", "model.skops", "ensemble.json"])
def test_what_is_no_model_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in other_files():
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            load_trained(path)
