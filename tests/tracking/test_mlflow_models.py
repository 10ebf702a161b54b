"""A run's model, and its version in the registry, exist in MLflow exactly once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from src.records.champions import ALIAS, Champion
from src.storage.digests import checked_line, line_content
from src.tracking.addresses import default_uri
from src.tracking.follower import MirrorState, is_complete
from src.tracking.mlflow_models import LONGEST_DESCRIPTION
from src.tracking.mlflow_store import ServerAway, Store
from src.tracking.spool import Spool, find_runs, read_events, spool_path
from tests.serving.bundles import bundle
from tests.tracking.diary import Diary, client, run_of


def models(store: Store) -> list[Any]:
    mlflow_client = client(store)
    experiments = [e.experiment_id for e in mlflow_client.search_experiments()]
    return list(mlflow_client.search_logged_models(experiments))


def the_model(store: Store, diary: Diary) -> Any:
    """The one model, which is whole, and which the run names as its own once."""
    (model,) = models(store)
    assert str(model.status) == "READY" and model.source_run_id == store.find(diary.run_id)
    outputs = client(store).get_run(model.source_run_id).outputs.model_outputs
    assert [output.model_id for output in outputs] == [model.model_id]
    return model


def files_of(model: Any) -> dict[str, bytes]:
    place = Path(model.artifact_location.removeprefix("file://"))
    return {
        p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()
    }


def write(diary: Diary, *, seed: int = 0) -> str:
    """A finished run with a model."""
    digest = bundle(diary.run_dir / "model", seed=seed)
    with diary.open() as spool:
        spool.model(diary.run_dir / "model", digest)
        spool.metrics({"loss": 1.0}, 1)
        spool.end("FINISHED")
    return digest


def test_the_event_names_the_folder_and_stays_inside_the_run(tmp_path: Path) -> None:
    with Diary(tmp_path / "run").open() as spool:
        spool.model(tmp_path / "run" / "model", "abc")
        with pytest.raises(ValueError, match="does not lie in the run folder"):
            spool.model(tmp_path / "model", "abc")
    events = [event for event, _ in read_events(spool_path(tmp_path / "run"))]
    assert events[1:] == [{"event": "model", "path": "model", "digest": "abc", "name": "model"}]


def test_a_bundle_is_no_place_to_look_for_runs(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "a"
    Spool(run_dir).close()
    Spool(run_dir / "model" / "b").close()
    assert list(find_runs(tmp_path)) == [run_dir]


def test_it_arrives_once_however_often_it_is_sent(store: Store, diary: Diary) -> None:
    write(diary)
    assert diary.send(store).finished and diary.warnings == []
    first = the_model(store, diary)
    assert first.name == "model"
    files = files_of(first)
    stored = diary.run_dir / "model" / "network.safetensors"
    assert files["artifacts/model/network.safetensors"] == stored.read_bytes()
    assert b"cloudpickle" not in files["requirements.txt"]
    # All memory of what was sent is lost: everything goes again.
    (diary.run_dir / "tracking" / "mirror.json").unlink()
    diary.send(store)
    assert the_model(store, diary).model_id == first.model_id
    assert files_of(first) == files


STEPS = (
    "create_logged_model",
    "log_model_artifacts",
    "log_outputs",
    "finalize_logged_model",
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_around_any_step_leaves_one_whole_model(
    store: Store, diary: Diary, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(BaseException):
        """Stands for a kill: nothing after it is done."""

    real = getattr(MlflowClient, step)

    def dying(*args: Any, **kwargs: Any) -> None:
        if after:
            real(*args, **kwargs)
        raise Dying

    write(diary)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, dying)
        patch.setattr(MirrorState, "write", lambda *_: None)
        with pytest.raises(Dying):
            diary.send(store)
    assert diary.send(store).finished
    assert "MLmodel" in files_of(the_model(store, diary))


def test_a_server_that_is_away_for_it_gets_it_later(
    store: Store, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    write(diary)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_model_artifacts", away)
        with pytest.raises(ServerAway):
            diary.send(store)
    run = run_of(store, diary.run_id)
    assert run.info.status == "FINISHED" and run.data.metrics == {"loss": 1.0}
    assert diary.warnings == ["the model 'model' cannot be sent yet: no route"]
    assert not is_complete(diary.run_dir, None)
    assert diary.send(store).finished and is_complete(diary.run_dir, None)
    the_model(store, diary)


def test_a_lost_database_gets_it_again(store: Store, diary: Diary, template: Path) -> None:
    write(diary)
    diary.send(store)
    database = diary.run_dir.parents[1] / "mlflow.db"
    shutil.copy(template, database)
    fresh = Store(default_uri(database.parent))
    follower = diary.follower(fresh)
    follower.restart_if_missing(fresh)
    while follower.step(fresh):
        continue
    follower.release()
    the_model(fresh, diary)


def test_a_resumed_run_that_learnt_more_has_a_second_model(store: Store, diary: Diary) -> None:
    first = write(diary)
    diary.send(store)
    assert write(diary) == first  # nothing new was learnt
    diary.send(store)
    assert [m.tags["bakeoff.model"] for m in models(store)] == [first]
    second = write(diary, seed=1)
    diary.send(store)
    assert {m.tags["bakeoff.model"] for m in models(store)} == {first, second}
    assert {str(m.status) for m in models(store)} == {"READY"} and diary.warnings == []


def test_a_bundle_that_was_replaced_before_it_was_sent_is_not_sent_twice(
    store: Store, diary: Diary
) -> None:
    write(diary)
    second = write(diary, seed=1)
    assert diary.send(store).finished and diary.warnings == []
    assert the_model(store, diary).tags["bakeoff.model"] == second


@pytest.mark.parametrize("lost", ["digest.txt", "requirements.txt", "code", "example.png"])
def test_what_is_not_whole_is_left_out_with_a_word(store: Store, diary: Diary, lost: str) -> None:
    write(diary)
    path = diary.run_dir / "model" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    follower = diary.send(store)
    assert follower.finished and follower.status == "FINISHED"
    (warning,) = diary.warnings
    assert "MLflow refuses the model" in warning
    assert [m for m in models(store) if str(m.status) == "READY"] == []


def test_a_path_outside_of_the_run_is_left_out(store: Store, diary: Diary) -> None:
    write(diary)
    bundle(diary.run_dir.parent / "other")
    lines = spool_path(diary.run_dir).read_text().splitlines()
    event = line_content(lines[1].encode())
    lines[1] = checked_line(event | {"path": "../other"}).decode().rstrip()
    spool_path(diary.run_dir).write_text("\n".join(lines) + "\n")
    assert diary.send(store).finished and models(store) == []
    assert diary.warnings == ["the model '../other' is not inside the run folder, and is left out"]


def test_a_variant_is_a_model_of_the_run_under_its_own_name(store: Store, diary: Diary) -> None:
    first = write(diary)
    second = bundle(diary.run_dir / "exports" / "onnx", seed=1)
    with diary.open() as spool:
        spool.model(diary.run_dir / "exports" / "onnx", second, "onnx")
        spool.end("FINISHED")
    assert diary.send(store).finished and diary.warnings == []
    assert {m.name: m.tags["bakeoff.model"] for m in models(store)} == {
        "model": first,
        "onnx": second,
    }


NAME = "bakeoff-pictures"


def write_registered(diary: Diary, card: str = "# A card\n") -> None:
    """A finished run with a model that is to be registered."""
    digest = bundle(diary.run_dir / "model")
    (diary.run_dir / "model_card.md").write_text(card)
    with diary.open() as spool:
        spool.model(diary.run_dir / "model", digest)
        spool.register(
            diary.run_dir / "model_card.md",
            name=NAME,
            alias=ALIAS,
            data="pictures",
            digest=digest,
        )
        spool.end("FINISHED")


def crown(output_dir: Path, diary: Diary) -> None:
    Champion("pictures", diary.run_dir.name, diary.run_id).write(output_dir)


def versions(store: Store) -> list[str]:
    return [str(v.version) for v in client(store).search_model_versions(f"name = '{NAME}'")]


def test_a_registration_names_all_that_a_late_sender_needs(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Diary(run_dir, "0" * 32).open() as spool:
        (run_dir / "card.md").touch()
        spool.register(run_dir / "card.md", name="n", alias="a", data="d", digest="x")
        with pytest.raises(ValueError, match="does not lie in the run folder"):
            spool.register(tmp_path / "card.md", name="n", alias="a", data="d", digest="x")
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


def test_a_registered_model_is_one_version_however_often_it_is_sent(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    write_registered(diary)
    crown(output_dir, diary)
    diary.send(store)
    (diary.run_dir / "tracking" / "mirror.json").unlink()
    assert diary.send(store).finished and diary.warnings == []
    assert versions(store) == ["1"]
    found = client(store).get_model_version_by_alias(NAME, ALIAS)
    assert found.run_id == store.find(diary.run_id) and found.description == "# A card\n"
    assert MirrorState.read(diary.run_dir, None).versions == {NAME: "1"}
    (model,) = client(store).search_logged_models(["1"])
    assert NAME in model.tags["mlflow.modelVersions"]


def test_the_champion_loads_and_labels(
    store: Store, diary: Diary, output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_registered(diary)
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
    write_registered(diary)
    write_registered(later)
    crown(output_dir, later)
    later.send(store)
    diary.send(store)
    assert sorted(versions(store)) == ["1", "2"]
    found = client(store).get_model_version_by_alias(NAME, ALIAS)
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
    write_registered(diary)
    crown(output_dir, diary)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, _lost)
        with pytest.raises(ServerAway):  # tried again at the end, as in vain
            diary.send(store)
    assert "the registration 'model_card.md' cannot be sent yet: no way" in diary.warnings
    assert diary.send(store).finished
    assert versions(store) == ["1"]
    assert str(client(store).get_model_version_by_alias(NAME, ALIAS).version) == "1"


def test_no_version_without_its_model(store: Store, diary: Diary, output_dir: Path) -> None:
    write_registered(diary)
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
    write_registered(diary, "# A card\n" + "a line of it\n" * 1000)
    crown(output_dir, diary)
    diary.send(store)
    text = client(store).get_model_version(NAME, "1").description
    assert len(text) <= LONGEST_DESCRIPTION
    assert "a line of it\n\n[cut here: the whole card is model_card.md" in text


def _lost(*_: object, **__: object) -> None:
    raise ServerAway("no way")
