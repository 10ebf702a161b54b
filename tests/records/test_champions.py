"""Who is champion, and what the word means to whoever takes a run."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from src.records.champions import Champion, champions, champions_folder, find_champion
from src.runs.folder import RunFolder


def crowned(output_dir: Path, data: str) -> RunFolder:
    """A run that is champion of its data set."""
    folder = RunFolder.create(output_dir, "mlp", data)
    Champion(data, folder.name, folder.run_id).write(output_dir)
    return folder


def test_the_word_means_the_only_champion_there_is(tmp_path: Path) -> None:
    folder = crowned(tmp_path, "digits")
    assert RunFolder.find("champion", tmp_path) == folder
    assert RunFolder.find("champion:digits", tmp_path) == folder
    later = crowned(tmp_path, "digits")
    assert RunFolder.find("champion", tmp_path) == later != folder


def test_of_several_one_must_be_named(tmp_path: Path) -> None:
    digits, pets = crowned(tmp_path, "digits"), crowned(tmp_path, "my pets, 2026")
    with pytest.raises(ValueError, match=r"use one of champion:digits, champion:my pets, 2026"):
        RunFolder.find("champion", tmp_path)
    assert RunFolder.find("champion:digits", tmp_path) == digits
    assert RunFolder.find("champion:my pets, 2026", tmp_path) == pets
    with pytest.raises(ValueError, match=r"no champion of 'cats': there is champion:digits"):
        RunFolder.find("champion:cats", tmp_path)


def test_a_champion_of_other_classes_is_not_replaced_without_a_remark(tmp_path: Path) -> None:
    """As where the folders of two sets have the same name."""
    Champion("data", "first", "1", ("cat", "dog")).write(tmp_path)
    before = Champion.read(tmp_path, "data")
    assert before is not None and before.class_names == ("cat", "dog")
    remark = Champion("data", "second", "2", ("a", "b")).replacement_remark(before)
    assert remark is not None
    assert "cat, dog" in remark and "a, b" in remark and "run=first" in remark
    assert Champion("data", "third", "3", ("dog", "cat")).replacement_remark(before) is None


def test_the_champions_of_two_sets_are_two_however_alike_their_names(tmp_path: Path) -> None:
    long = "x" * 80
    names = [
        "猫1",
        "犬1",
        "猫",
        "犬",
        "my-photos",
        "my_photos",
        "my photos",
        "a.",
        "a",
        long,
        long + "y",
    ]
    folders = {name: crowned(tmp_path, name) for name in names}
    for name, folder in folders.items():
        champion = Champion.read(tmp_path, name)
        assert champion is not None and champion.data == name and champion.run == folder.name
        assert RunFolder.find(f"champion:{name}", tmp_path) == folder
        # The name that stands for another one is no other set's.
        assert Champion.read(tmp_path, champion.registered_model.removeprefix("bakeoff-")) in (
            None,
            champion,
        )
    registered = [Champion(name, "r", "0").registered_model.lower() for name in names]
    assert len(set(registered)) == len(names)
    with pytest.raises(ValueError, match="use one of"):
        RunFolder.find("champion:my/photos", tmp_path)


def test_without_a_champion_it_says_how_to_come_by_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"python -m src\.select chooses one"):
        RunFolder.find("champion", tmp_path)
    assert find_champion("champions", tmp_path) is None
    assert find_champion("0123", tmp_path) is None


def test_a_champion_that_was_deleted_is_named(tmp_path: Path) -> None:
    folder = crowned(tmp_path, "digits")
    folder.path.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{folder.name}, the champion of digits, is not in"):
        RunFolder.find("champion", tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"data": "digits"}', '{"run": 3}'])
def test_a_damaged_record_is_none(tmp_path: Path, content: str) -> None:
    champions_folder(tmp_path).mkdir()
    (champions_folder(tmp_path) / "digits.json").write_text(content)
    assert Champion.read(tmp_path, "digits") is None


def test_a_record_that_is_a_pipe_is_none_and_not_waited_for(tmp_path: Path) -> None:
    folder = crowned(tmp_path, "digits")
    (record,) = champions_folder(tmp_path).iterdir()
    record.unlink()
    os.mkfifo(record)
    with pytest.raises(ValueError, match="there is no champion"):
        find_champion("champion", tmp_path)
    Champion("digits", folder.name, folder.run_id).write(tmp_path)
    assert RunFolder.find("champion", tmp_path) == folder


def test_a_record_does_not_lead_out_of_the_runs(tmp_path: Path) -> None:
    record = Champion("digits", "../../etc", "0").write(tmp_path)
    assert json.loads(record.read_bytes())["run"] == "../../etc"
    assert Champion.read(tmp_path, "digits") is None
    with pytest.raises(ValueError, match="no champion"):
        RunFolder.find("champion", tmp_path)


def test_the_registered_model_has_a_name_that_mlflow_takes() -> None:
    assert Champion("digits", "r", "0").registered_model == "bakeoff-digits"
    assert Champion("my-photos", "r", "0").registered_model == "bakeoff-my-photos"
    for name in ("a/b: c", "猫/犬", "👟", "猫" * 300, "x" * 300, "", ".", "\udcff"):
        registered = Champion(name, "r", "0").registered_model
        assert re.fullmatch(r"bakeoff-[\w.-]+", registered)
        assert len(registered.encode()) < 80


def test_letters_of_every_alphabet_stay_in_names_of_runs_and_models(tmp_path: Path) -> None:
    names = ("Wäsche", "Wasche", "衣服", "قميص", "हिन्दी", "Одежда-2")
    for name in names:
        assert Champion(name, "r", "0").registered_model == f"bakeoff-{name}"
    assert crowned(tmp_path, "Wäsche, weiß").name.startswith("mlp-Wäsche_weiß-")
    assert crowned(tmp_path, "Одежда-2").name.startswith("mlp-Одежда_2-")


def test_a_name_of_macos_means_the_champion_too(tmp_path: Path) -> None:
    folder = crowned(tmp_path, "Wa\u0308sche")  # folders there are in decomposed form
    assert RunFolder.find("champion:Wäsche", tmp_path) == folder


@pytest.mark.parametrize("earlier", ["W_sche-", "Wasche-"])
def test_a_champion_of_an_earlier_version_is_found_and_replaced(
    tmp_path: Path, earlier: str
) -> None:
    """Whose file had other letters for those with marks, and a digest of the name."""
    path = Champion("Wäsche", "old", "1").write(tmp_path)
    path = path.rename(path.with_name(f"{earlier}6073cb.json"))
    found = Champion.read(tmp_path, "Wäsche")
    assert found is not None and found.run == "old"
    assert Champion("Wäsche", "new", "2").write(tmp_path) == path
    assert [one.run for one in champions(tmp_path) or ()] == ["new"]
