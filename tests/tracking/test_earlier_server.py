"""Servers of an MLflow before version 3, which have no endpoint for models."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow.tracking import MlflowClient
from mlflow.utils.rest_utils import verify_rest_response

from src.config.checks import from_plain
from src.config.tracking import ReplaySettings
from src.tracking.addresses import default_uri
from src.tracking.mirror_state import MirrorState, is_mirrored
from src.tracking.mlflow_store import ServerAway, Store
from src.tracking.replay import replay
from tests.entries.commands import free_port, mlflow_server
from tests.tracking.diary import Diary, run_of
from tests.tracking.test_mlflow_store import the_model, versions, write_registered

_SENTENCE = (
    "the MLflow server is older than MLflow 3 and keeps no models: the run's model is neither "
    "logged nor registered there; once the server is one of MLflow 3, "
    "python -m src.tracking.replay sends it"
)
_PAGE = b"<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n"
# Before the application: what Flask answers where it has no such address.
_WITHOUT_MODELS = f"""
async def application(scope, receive, send):
    if "/logged-models" not in scope.get("path", ""):
        return await app(scope, receive, send)
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    await send({{"type": "http.response.start", "status": 404, "headers": headers}})
    await send({{"type": "http.response.body", "body": {_PAGE!r}}})
"""


def not_found(*_: Any, **__: Any) -> None:
    """What MLflow's client makes of that answer."""
    answer = requests.Response()
    answer.status_code, answer.raw = 404, io.BytesIO(_PAGE)
    verify_rest_response(answer, "/api/2.0/mlflow/logged-models/search")


def test_a_model_is_left_out_with_one_sentence_until_the_server_is_a_later_one(
    store: Store, diary: Diary, output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_registered(diary)
    settings = from_plain(ReplaySettings, {"output_dir": str(output_dir)})
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_logged_models", not_found)
        follower = diary.send(store)
        assert follower.finished and is_mirrored(diary.run_dir, None)
        assert diary.warnings == [_SENTENCE]
        assert run_of(store, diary.run_id).info.status == "FINISHED"
        assert replay(settings)  # it is no later one
        assert is_mirrored(diary.run_dir, None)
    assert versions(store) == []
    assert replay(settings)
    assert MirrorState.read(diary.run_dir, None).unsupported == []
    the_model(store, diary)
    assert versions(store) == ["1"]


def test_a_missing_address_of_anything_else_is_waited_for(
    store: Store, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy whose server is just starting knows no address at all."""
    write_registered(diary)
    follower = diary.follower(store)
    with monkeypatch.context() as patch:
        for name in ("search_logged_models", "get_run"):
            patch.setattr(MlflowClient, name, not_found)
        with pytest.raises(ServerAway):
            follower.step(store)
    follower.release()
    assert diary.send(store).finished and diary.warnings == []
    the_model(store, diary)


@pytest.mark.slow
def test_a_real_server_without_models_has_the_run_and_later_its_model(
    tmp_path: Path, empty_database: Path
) -> None:
    folder, port = tmp_path / "server", free_port()
    uri = f"http://127.0.0.1:{port}"
    diary = Diary(tmp_path / "outputs" / "runs" / "first")
    write_registered(diary)
    plain = {"output_dir": str(tmp_path / "outputs"), "tracking": {"uri": uri}}
    for without, found in ((_WITHOUT_MODELS, []), ("", ["1"])):
        with mlflow_server(folder, port, empty_database, without):
            assert replay(from_plain(ReplaySettings, plain))
        beside = Store(default_uri(folder))
        assert is_mirrored(diary.run_dir, uri)
        assert run_of(beside, diary.run_id).info.status == "FINISHED"
        assert versions(beside) == found
    the_model(beside, diary)
