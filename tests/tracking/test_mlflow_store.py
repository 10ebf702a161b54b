"""Databases in odd places and broken ones, what is read of them, and models that exist once."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import mlflow.store.db.utils as databases
import pandas as pd
import pytest
import sqlalchemy
from mlflow.tracking import MlflowClient

import src.tracking.mlflow_store as mlflow_store
from src.records.champions import ALIAS, Champion, withdraw_champion
from src.tracking.addresses import default_uri, sqlite_uri
from src.tracking.logged_models import LONGEST_DESCRIPTION
from src.tracking.mirror_state import MirrorState, is_mirrored
from src.tracking.mlflow_database import make_database, run_folders
from src.tracking.mlflow_pages import METRIC_TAG
from src.tracking.mlflow_store import MLFLOW_PARENT_TAG, PARENT_TAG, ServerAway, Store
from tests.serving.bundles import bundle
from tests.tracking.diary import Diary, client, run_of


def test_a_broken_database_is_said_to_be_away_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(ServerAway, match="not a database"):
        Store(default_uri(tmp_path))


def test_a_place_that_cannot_be_written_is_said_to_be_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ServerAway):
        Store(default_uri(tmp_path / "file" / "below"))


def test_a_password_is_not_in_the_error() -> None:
    store = Store("http://me:secret@127.0.0.1:9")
    with pytest.raises(ServerAway, match="no connection") as caught:
        store.find("a" * 32)
    assert "secret" not in str(caught.value)


def test_a_locked_database_is_away_and_not_broken(
    store: Store, output_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = databases.sql.text  # MLflow itself waits 20 s for the lock
    monkeypatch.setattr(
        databases.sql, "text", lambda overrides: text(overrides.replace("20000", "20"))
    )
    writer = sqlite3.connect(output_dir / "mlflow.db", isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(ServerAway, match="locked"):
        store.create_run(experiment="e", name="n", start_time_ms=1, tags={})
    writer.execute("rollback")
    assert store.create_run(experiment="e", name="n", start_time_ms=1, tags={})


def test_a_database_deleted_meanwhile_is_made_anew(store: Store, output_dir: Path) -> None:
    """As a notebook does that removes its outputs and goes on."""
    store.create_run(experiment="e", name="first", start_time_ms=1, tags={})
    shutil.rmtree(output_dir)
    again = Store(default_uri(output_dir))
    run = again.create_run(experiment="e", name="second", start_time_ms=2, tags={})
    assert client(again).get_run(run).info.run_name == "second"


@pytest.mark.parametrize(
    ("tags", "metric", "lowest"),
    [
        ({}, "val/accuracy", False),
        ({METRIC_TAG: "kappa"}, "val/kappa", False),
        ({METRIC_TAG: "cost"}, "val/cost", True),
        ({METRIC_TAG: "cost/latency_ms"}, "cost/latency_ms", True),
    ],
)
def test_an_experiment_lists_its_runs_by_the_metric_of_the_first(
    store: Store, tags: dict[str, str], metric: str, lowest: bool
) -> None:
    store.create_run(experiment="e", name="first", start_time_ms=1, tags=tags)
    store.create_run(experiment="e", name="second", start_time_ms=2, tags={METRIC_TAG: "map"})
    (view,) = (
        json.loads(json.loads(text)["state"])
        for key, text in client(store).get_experiment_by_name("e").tags.items()
        if key.startswith("mlflow.sharedViewState.")
    )
    assert view["orderByKey"] == f"metrics.`{metric}`" and view["orderByAsc"] == lowest
    columns = view["selectedColumns"]
    assert columns[0] == f"metrics.`{metric}`"
    assert f"metrics.`{metric.replace('val/', 'test/')}`" in columns


def test_a_database_on_a_full_disk_is_said_to_need_room(store: Store) -> None:
    """SQLite meets a limit of its own for pages as it meets a full disk."""

    def create() -> str:
        tags = {f"tag{number}": "x" * 500 for number in range(50)}
        return store.create_run(experiment="e", name="n", start_time_ms=1, tags=tags)

    def fill(connection: sqlite3.Connection, *_: Any) -> None:
        connection.execute("pragma max_page_count = 1")  # no more pages than there are

    create()
    sqlalchemy.event.listen(sqlalchemy.Pool, "checkout", fill)
    try:
        with pytest.raises(ServerAway, match="no room on the disk of its database: make some"):
            create()
    finally:
        sqlalchemy.event.remove(sqlalchemy.Pool, "checkout", fill)


def test_two_runs_that_log_the_same_pictures_at_once_both_have_them(
    store: Store, output_dir: Path
) -> None:
    """MLflow looks for a dataset, and then adds it: here the other run comes in between."""
    other = Store(default_uri(output_dir))
    about = {"name": "d", "digest": "abc", "source": "s", "profile": {}, "context": "training"}
    runs = [
        one.create_run(experiment="e", name="n", start_time_ms=1, tags={}) for one in (store, other)
    ]
    between: list[str] = []

    def come_between(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO datasets") and not between:
            between.append(statement)
            other.log_dataset(runs[1], about)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", come_between)
    try:
        store.log_dataset(runs[0], about)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", come_between)
    assert between
    found = [client(store).get_run(run).inputs.dataset_inputs for run in runs]
    assert [[one.dataset.digest for one in inputs] for inputs in found] == [["abc"], ["abc"]]


@pytest.mark.slow
def test_a_fresh_database_in_an_odd_place(tmp_path: Path) -> None:
    folder = tmp_path / "a b=#?c%20,[图片]~'\""
    store = Store(default_uri(folder))
    run = store.create_run(experiment="größe", name="图" * 400, start_time_ms=1, tags={})
    (tmp_path / "f.txt").write_text("x")
    store.log_artifact(run, tmp_path / "f.txt", "sub")
    assert (folder / "mlartifacts" / run / "artifacts" / "sub" / "f.txt").read_text() == "x"
    left = {path.name for path in folder.iterdir()}
    assert left == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "f.txt"}
    default = client(store).get_experiment_by_name("Default")
    assert default.artifact_location.startswith((folder / "mlartifacts").as_uri())


def test_an_experiments_runs_are_those_that_mlflow_finds_the_oldest_first(tmp_path: Path) -> None:
    database = tmp_path / "a b?.db"
    store = Store(sqlite_uri(database))
    made = {}
    for time, (experiment, name) in enumerate(
        [("mine", "first"), ("other", "x"), ("mine", "deleted"), ("mine", "second"), ("gone", "y")]
    ):
        tags = {"bakeoff.run_dir": f"/runs/{name}", "other": "/no"}
        made[name] = store.create_run(
            experiment=experiment, name=name, start_time_ms=time + 1, tags=tags
        )
    store.create_run(experiment="mine", name="not ours", start_time_ms=9, tags={})
    client(store).delete_run(made["deleted"])
    gone = client(store).get_experiment_by_name("gone")
    client(store).delete_experiment(gone.experiment_id)
    assert run_folders(database, "mine") == [Path("/runs/first"), Path("/runs/second")]
    assert store.search("mine", "")[::-1] == run_folders(database, "mine")
    assert run_folders(database, "gone") == run_folders(database, "never") == []


def test_all_experiments_of_a_server_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lists a thousand of them at a time."""
    monkeypatch.setattr("src.tracking.mlflow_store._A_PAGE", 1)
    made = {}
    for name in "abc":
        tags = {"bakeoff.run_id": name, "bakeoff.run_dir": f"/runs/{name}", PARENT_TAG: "p"}
        made[name] = store.create_run(experiment=name, name=name, start_time_ms=1, tags=tags)
    assert {name: store.find(name) for name in made} == made
    assert {*store.search(None, "")} == {Path(f"/runs/{name}") for name in made}
    assert store.search("a", "") == [Path("/runs/a")]
    store.adopt("parent", "p")
    for run in made.values():
        assert client(store).get_run(run).data.tags[MLFLOW_PARENT_TAG] == "parent"


def test_of_a_file_with_other_tables_nothing_is_read_and_nothing_made(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    assert run_folders(other, "mine") == []
    assert run_folders(tmp_path / "none.db", "mine") == []
    assert not (tmp_path / "none.db").exists()


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


def test_a_lost_database_gets_it_again(store: Store, diary: Diary, empty_database: Path) -> None:
    write(diary)
    diary.send(store)
    database = diary.run_dir.parents[1] / "mlflow.db"
    shutil.copy(empty_database, database)
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


def test_what_replaces_a_bundle_while_that_is_packed_is_not_taken_for_it(
    store: Store, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(diary)
    real = mlflow_store.pack

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(mlflow_store, "pack", real)
        write(diary, seed=1)
        real(*arguments)

    monkeypatch.setattr(mlflow_store, "pack", late)
    assert diary.send(store).finished and diary.warnings == []
    model = the_model(store, diary)
    packed = files_of(model)["artifacts/model/digest.txt"].decode().strip()
    assert packed == model.tags["bakeoff.model"]


@pytest.mark.parametrize("lost", ["digest.txt", "requirements.txt", "code", "example.png"])
def test_what_is_not_whole_is_left_out_with_a_word(store: Store, diary: Diary, lost: str) -> None:
    write(diary)
    path = diary.run_dir / "model" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    follower = diary.send(store)
    assert follower.finished and follower.status == "FINISHED"
    (warning,) = diary.warnings
    assert "MLflow refuses the model" in warning
    assert models(store) == []


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


def write_registered(diary: Diary, card: str = "# A card\n", seed: int = 0) -> None:
    """A finished run with a model that is to be registered."""
    digest = bundle(diary.run_dir / "model", seed=seed)
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


def test_a_registered_model_is_one_version_however_often_it_is_sent(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    write_registered(diary, "---\nlicense: unknown\n---\n# A card\n")
    crown(output_dir, diary)
    diary.send(store)
    (diary.run_dir / "tracking" / "mirror.json").unlink()
    assert diary.send(store).finished and diary.warnings == []
    assert versions(store) == ["1"]
    found = client(store).get_model_version_by_alias(NAME, ALIAS)
    assert found.run_id == store.find(diary.run_id) and found.description == "# A card\n"
    assert "alias `champion`" in client(store).get_registered_model(NAME).description
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


@pytest.mark.parametrize("lost", ["folder", "record", "copied"])
def test_the_alias_stays_where_nothing_tells_who_is_champion(
    store: Store, diary: Diary, output_dir: Path, lost: str
) -> None:
    write_registered(diary)
    crown(output_dir, diary)
    diary.send(store)
    if lost == "folder":  # as beside a run that was copied alone
        shutil.rmtree(output_dir / "champions")
    elif lost == "copied":  # to where others are champions
        summary = {"run_dir": str(diary.run_dir)}
        (diary.run_dir / "summary.json").write_text(json.dumps(summary))
        copy = output_dir / "others" / "runs" / "copy"
        shutil.copytree(diary.run_dir, copy)
        (output_dir / "others" / "champions").mkdir()
        diary = Diary(copy, diary.run_id)
    else:
        (record,) = (output_dir / "champions").iterdir()
        record.write_text("{")
    diary.ended()
    assert diary.send(store).finished and diary.warnings == []
    assert str(client(store).get_model_version_by_alias(NAME, ALIAS).version) == "1"


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


def test_a_run_that_goes_on_and_is_champion_no_more_has_not_the_alias(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    def holder() -> str:
        aliases = client(store).get_registered_model(NAME).aliases
        return str(aliases.get(ALIAS, "nobody"))

    def goes_on(one: Diary) -> str:
        one.ended()
        assert one.send(store).finished and one.warnings == []
        return holder()

    write_registered(diary)
    crown(output_dir, diary)
    diary.send(store)
    assert goes_on(diary) == "1"  # still the champion, as where its test part is measured
    assert withdraw_champion(output_dir, diary.run_id) == ["pictures"]
    assert goes_on(diary) == "nobody" and versions(store) == ["1"]
    later = Diary(output_dir / "runs" / "second")
    write_registered(later)
    crown(output_dir, later)
    later.send(store)
    assert goes_on(diary) == "2"


def test_a_version_whose_model_was_replaced_before_it_was_sent_is_not_waited_for(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    write_registered(diary)
    write_registered(diary, seed=1)
    crown(output_dir, diary)
    assert diary.send(store).finished and is_mirrored(diary.run_dir, None)
    (warning,) = diary.warnings
    assert "refuses the registration" in warning and "was replaced before it was sent" in warning
    the_model(store, diary)
    assert versions(store) == ["1"]


@pytest.mark.parametrize(
    "step",
    [
        *("log_model_artifacts", "create_registered_model", "create_model_version"),
        "set_registered_model_alias",
    ],
)
def test_what_cannot_be_sent_is_sent_later(
    store: Store, diary: Diary, output_dir: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    write_registered(diary)
    crown(output_dir, diary)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, away)
        with pytest.raises(ServerAway):  # tried again at the end, as in vain
            diary.send(store)
    run = run_of(store, diary.run_id)
    assert run.info.status == "FINISHED" and not is_mirrored(diary.run_dir, None)
    of_model = step == "log_model_artifacts"
    assert ("the model 'model' cannot be sent yet: no route" in diary.warnings) == of_model
    reason = "the model itself is not there yet" if of_model else "no route"
    assert f"the registration 'model_card.md' cannot be sent yet: {reason}" in diary.warnings
    assert versions(store) == ([] if step != "set_registered_model_alias" else ["1"])
    assert diary.send(store).finished and is_mirrored(diary.run_dir, None)
    the_model(store, diary)
    assert versions(store) == ["1"]
    assert str(client(store).get_model_version_by_alias(NAME, ALIAS).version) == "1"


def test_a_database_that_fails_is_told_in_one_sentence(
    store: Store, diary: Diary, output_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    diary.ended()
    with closing(sqlite3.connect(output_dir / "mlflow.db")) as connection:
        connection.execute("ALTER TABLE runs RENAME TO gone")  # at once, unlike a lock
    with pytest.raises(ServerAway, match="no such table"):
        diary.send(store)
    assert capfd.readouterr().err == ""


def test_a_long_card_is_cut_at_the_end_of_a_line(
    store: Store, diary: Diary, output_dir: Path
) -> None:
    write_registered(diary, "# A card\n" + "a line of it\n" * 1000)
    crown(output_dir, diary)
    diary.send(store)
    text = client(store).get_model_version(NAME, "1").description
    assert len(text) <= LONGEST_DESCRIPTION
    assert "a line of it\n\n[cut here: the whole card is model_card.md" in text


@pytest.mark.parametrize("moved", [False, True])
def test_the_artifacts_of_a_copied_or_moved_folder_lie_in_it(tmp_path: Path, moved: bool) -> None:
    """MLflow keeps absolute places, of an experiment and of what was logged."""
    original, copy = tmp_path / "original", tmp_path / "a copy of it"
    made = {"name": "n", "start_time_ms": 1, "tags": {}}
    first = Store(default_uri(original))
    earlier = first.create_run(experiment="e", **made)
    (file := tmp_path / "note.txt").write_text("x")
    first.log_artifact(earlier, file, "")
    (shutil.move if moved else shutil.copytree)(original, copy)
    store = Store(default_uri(copy))
    for run in (earlier, store.create_run(experiment="e", **made)):
        # MLflow's client goes on with the places of runs that it knows in this process.
        place = copy / "mlartifacts" / run / "artifacts"
        assert client(store).get_run(run).info.artifact_uri == place.as_uri()
    store.log_artifact(run, file, "later")
    assert (place / "later" / "note.txt").is_file()
    assert (copy / "mlartifacts" / earlier / "artifacts" / "note.txt").is_file()
    assert original.exists() != moved and not [*original.glob("**/later")]


def test_one_folder_under_two_names_keeps_its_places(tmp_path: Path) -> None:
    original, link = tmp_path / "original", tmp_path / "link"
    made = {"name": "n", "start_time_ms": 1, "tags": {}}
    run = Store(default_uri(original)).create_run(experiment="e", **made)
    before = client(Store(default_uri(original))).get_run(run).info.artifact_uri
    (original / "mlartifacts").mkdir(exist_ok=True)
    link.symlink_to(original)
    assert client(Store(default_uri(link))).get_run(run).info.artifact_uri == before


@pytest.mark.skipif(os.name != "posix", reason="this system has no umask")
def test_a_group_that_shares_the_folder_may_write_the_database(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    before = os.umask(0o007)
    try:
        make_database(database)
    finally:
        os.umask(before)
    assert database.stat().st_mode & 0o777 == 0o660
    run_id = Store(sqlite_uri(database)).create_run(
        experiment="shared", name="one", start_time_ms=0, tags={}
    )
    assert run_id
