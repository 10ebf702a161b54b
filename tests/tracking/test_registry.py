"""A run's model in a real registry: one version, whatever happens on the way, and one champion."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from src.records.champions import ALIAS, Champion
from src.tracking.mirror_state import MirrorState
from src.tracking.mlflow_store import ServerAway, Store
from src.tracking.registry import _LONGEST_DESCRIPTION
from src.tracking.spool import read_events, spool_path
from tests.serving.bundles import bundle
from tests.tracking.diary import Diary

NAME = "bakeoff-pictures"


def write(diary: Diary, card: str = "# A card\n") -> None:
    """A finished run with a model that is to be registered."""
    digest = bundle(diary.run_dir / "model")
    (diary.run_dir / "model_card.md").write_text(card)
    with diary.open() as spool:
        spool.model(diary.run_dir / "model", digest)
        spool.registration(
            diary.run_dir / "model_card.md",
            name=NAME,
            alias=ALIAS,
            data="pictures",
            digest=digest,
        )
        spool.finish("FINISHED")


def crown(output_dir: Path, diary: Diary) -> None:
    Champion("pictures", diary.run_dir.name, diary.run_id).write(output_dir)


def versions(store: Store) -> list[str]:
    return [str(v.version) for v in store._client.search_model_versions(f"name = '{NAME}'")]


def test_the_event_names_all_that_a_late_sender_needs(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Diary(run_dir, "0" * 32).open() as spool:
        (run_dir / "card.md").touch()
        spool.registration(run_dir / "card.md", name="n", alias="a", data="d", digest="x")
        with pytest.raises(ValueError, match="does not lie in the run folder"):
            spool.registration(tmp_path / "card.md", name="n", alias="a", data="d", digest="x")
    last, _ = read_events(spool_path(run_dir))[-1]
    assert last == {
        "event": "registration",
        "path": "card.md",
        "name": "n",
        "alias": "a",
        "data": "d",
        "digest": "x",
        "run_id": "0" * 32,
    }


def test_it_is_one_version_however_often_it_is_sent(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    write(diary)
    crown(output_dir, diary)
    diary.send(store)
    (diary.run_dir / "tracking" / "mirror.json").unlink()
    assert diary.send(store).finished and diary.warnings == []
    assert versions(store) == ["1"]
    found = store._client.get_model_version_by_alias(NAME, ALIAS)
    assert found.run_id == store.find(diary.run_id) and found.description == "# A card\n"
    assert MirrorState.read(diary.run_dir, None).versions == {NAME: "1"}
    (model,) = store._client.search_logged_models(["1"])
    assert NAME in model.tags["mlflow.modelVersions"]


def test_the_champion_loads_and_labels(
    store: Store, diary: Diary, output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(diary)
    crown(output_dir, diary)
    diary.send(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@{ALIAS}")
    picture = (diary.run_dir / "model" / "example.png").read_bytes()
    answer = model.predict(pd.DataFrame({"image": [picture]}))
    assert len(answer) == 1 and 0 < answer["probability"][0] <= 1


def test_what_is_sent_late_does_not_take_the_alias_from_a_later_champion(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    later = Diary(output_dir / "runs" / "second")
    write(diary)
    write(later)
    crown(output_dir, later)
    later.send(store)
    diary.send(store)
    assert sorted(versions(store)) == ["1", "2"]
    found = store._client.get_model_version_by_alias(NAME, ALIAS)
    assert found.run_id == store.find(later.run_id)


@pytest.mark.parametrize(
    "step", ["create_registered_model", "create_model_version", "set_registered_model_alias"]
)
def test_a_database_that_goes_away_gets_the_rest_later(
    store: Store,
    diary: Diary,
    output_dir: Path,
    step: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(diary)
    crown(output_dir, diary)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, _lost)
        with pytest.raises(ServerAway):  # tried again at the end, as in vain
            diary.send(store)
    assert "the registration 'model_card.md' cannot be sent yet: no way" in diary.warnings
    assert diary.send(store).finished
    assert versions(store) == ["1"]
    assert str(store._client.get_model_version_by_alias(NAME, ALIAS).version) == "1"


def test_no_version_without_its_model(store: Store, diary: Diary, output_dir: Path) -> None:
    write(diary)
    crown(output_dir, diary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", _lost)
        with pytest.raises(ServerAway):
            diary.send(store)
    assert versions(store) == []
    assert any("the model itself is not there yet" in text for text in diary.warnings)
    assert diary.send(store).finished and versions(store) == ["1"]


def test_a_long_card_is_cut_at_the_end_of_a_line(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    write(diary, "# A card\n" + "a line of it\n" * 1000)
    crown(output_dir, diary)
    diary.send(store)
    text = store._client.get_model_version(NAME, "1").description
    assert len(text) <= _LONGEST_DESCRIPTION
    assert "a line of it\n\n[cut here: the whole card is model_card.md" in text


def _lost(*_: object, **__: object) -> None:
    raise ServerAway("no way")
