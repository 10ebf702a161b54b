from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from src.tracking.addresses import (
    absolute_uri,
    default_uri,
    public_uri,
    serve_command,
    sqlite_path,
    sqlite_uri,
    without_password,
)

# What a folder may be called: anything but a slash and the zero byte.
_NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))


@given(_NAMES)
def test_sqlalchemy_reads_the_path_that_was_meant(name: str) -> None:
    path = Path("/data", name, "mlflow.db")
    assert make_url(sqlite_uri(path)).database == str(path)
    assert sqlite_path(sqlite_uri(path)) == path


@pytest.mark.parametrize("name", ["a b", "100%", "%20", "a?b", "a#b", "a=b,[c]~", "图片", "'\""])
def test_the_database_lies_where_it_was_meant(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    engine = create_engine(default_uri(folder))
    with engine.begin() as connection:
        connection.execute(text("create table t (a int)"))
    engine.dispose()
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_relative_uris_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///runs.db", Path("out")) == f"sqlite:///{tmp_path}/runs.db"
    assert absolute_uri("sqlite:///a?b=3&c", Path("o")) == f"sqlite:///{tmp_path}/a?b=3&c"
    assert absolute_uri(None, Path("out")) == f"sqlite:///{tmp_path}/out/mlflow.db"
    assert absolute_uri("http://host:5000", Path("out")) == "http://host:5000"


def test_the_default_is_written_down_without_its_place(tmp_path: Path) -> None:
    assert public_uri(None, tmp_path) is None
    assert public_uri(default_uri(tmp_path), tmp_path) is None
    assert public_uri("sqlite:////other/x.db", tmp_path) == "sqlite:////other/x.db"
    assert public_uri("http://me:secret@host:1/x", tmp_path) == "http://me:***@host:1/x"


def test_passwords_are_taken_out_of_any_text() -> None:
    assert without_password("python x uri=https://a:b@c d") == "python x uri=https://a:***@c d"
    assert without_password("http://:b@c") == "http://:***@c"
    for harmless in ("http://host:5000/a@b", "no uri", "a:b@c", "postgresql://user@host"):
        assert without_password(harmless) == harmless


def test_other_databases_have_no_file() -> None:
    for uri in ("postgresql://h/d", "http://h", "sqlite://", "sqlite:///:memory:"):
        assert sqlite_path(uri) is None


def test_the_command_that_serves_names_where_the_model_is_and_no_password(tmp_path: Path) -> None:
    told = serve_command("models:/a@champion", None, tmp_path / "a b")
    assert told == (
        f"MLFLOW_TRACKING_URI='sqlite:///{tmp_path}/a b/mlflow.db' mlflow models serve "
        "-m models:/a@champion --env-manager local -p 5001"
    )
    told = serve_command("runs:/1/onnx", "postgresql://me:secret@host/name", tmp_path)
    assert told.startswith("MLFLOW_TRACKING_URI='postgresql://me:***@host/name' ")
