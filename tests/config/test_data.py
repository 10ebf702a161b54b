from __future__ import annotations

from pathlib import Path

import pytest

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings, read_run_settings
from src.config.overrides import override_of
from src.config.schema import RunSettings, stored_settings
from src.config.sweep import read_sweep_settings
from src.data.sources.archive import ARCHIVE_ENDINGS
from src.records.champions import Champion


def named(*overrides: str) -> str:
    return compose_settings(RunSettings, ["data=folder", *overrides]).data.name


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/photos/Cats & dogs/", "Cats_dogs"),
        ("pets.v2", "pets.v2"),
        ("/a/cats.CSV", "cats"),
        ("/a/cats.tsv", "cats"),
        ("/a/labels.CSV", "a_labels"),
        ("/first/data", "first_data"),
        ("/second/Images/", "second_Images"),
        ("/data", "data"),
        ("/a/b/..", "a"),
        ("/图片", "图片"),
        ("/", "folder"),
        *((f"/a/pets{ending}", "pets") for ending in ARCHIVE_ENDINGS),
    ],
)
def test_a_persons_own_pictures_are_called_as_their_folder_is(root: str, name: str) -> None:
    assert named(f"data.root={root}") == name


def test_a_name_that_is_given_counts_and_a_root_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my pics").mkdir()
    monkeypatch.chdir(tmp_path / "my pics")
    assert named("data.root=.") == "my_pics"
    assert named("data.root=.", "data.name=pets") == "pets"
    assert named() == "folder"


@pytest.mark.parametrize("name", ["衣服", "قميص", "हिन्दी", "Röcke", "Одежда-2.1"])
def test_letters_of_every_alphabet_stay_in_the_name(name: str) -> None:
    assert named(f"data.root=/a/{name}") == name
    assert named(f"data.root=/a/{name} 👟.zip") == name
    assert named("data.root=/a/Ro\u0308cke") == "Röcke"  # as macOS writes ö


def test_two_sets_have_a_champion_each(tmp_path: Path) -> None:
    roots = ("/a/cats", "/a/dogs", "/a/猫", "/a/犬")
    champions = [Champion(named(f"data.root={root}"), "run", "id") for root in roots]
    models = [one.registered_model for one in champions]
    assert models[:2] == ["bakeoff-cats", "bakeoff-dogs"] and len(set(models)) == 4
    assert len({one.write(tmp_path) for one in champions}) == 4


def test_stored_runs_keep_the_name_that_they_had() -> None:
    plain = to_plain(compose_settings(RunSettings, ["data=folder", "data.root=/a/cats"]))
    plain["data"]["name"] = "folder"
    assert stored_settings(plain).data.name == "folder"
    assert stored_settings(to_plain(stored_settings(plain))).data.name == "folder"


@pytest.mark.parametrize("mark", ["'", '"', ""])
@pytest.mark.parametrize("key", ["data.root", "output_dir"])
def test_paths_may_be_pasted_with_their_quotes_and_begin_at_home(
    key: str, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = read_run_settings([f"{key}={mark}~/my pets, 1{mark}"])
    assert tmp_path / "my pets, 1" == Path(
        settings.output_dir if key == "output_dir" else settings.data.root or ""
    )
    # What is called so in the present folder is meant.
    (path := Path(f"{mark}~/my pets, 1{mark}")).mkdir(parents=True)
    settings = read_run_settings([f"{key}={path}"])
    assert (settings.output_dir if key == "output_dir" else settings.data.root) == str(path)


@pytest.mark.parametrize(
    "around",
    [
        *("{} ", "\n{}\n", "'\"{}\"'", '" {}"'),
        *("\u201c{}\u201d", "\u201e{}\u201c", "\u2018{}\u2019", "\xab\xa0{}\xa0\xbb", "`{}`"),
        *("{}\u200b", "\u202a{}\u202c", "\u300c{}\u300d", "\u2018\u201c{}\u201d\u2019"),
    ],
)
def test_what_exists_is_found_with_what_was_pasted_around_it(around: str, tmp_path: Path) -> None:
    (place := tmp_path / "my pets, 1").mkdir()
    pasted = around.format(place)
    assert read_run_settings([f"data.root={pasted}"]).data.root == str(place)
    assert read_run_settings([f"data.root={place.as_uri()}"]).data.root == str(place)
    # What does not exist yet may have blanks in its name.
    assert read_run_settings([f"output_dir={place}/new "]).output_dir == f"{place}/new "


@pytest.mark.parametrize("blank", ["", "  ", '""'])
@pytest.mark.parametrize("key", ["data.root", "data.cache_dir", "output_dir", "resume"])
def test_an_empty_path_is_refused_and_is_not_the_present_folder(key: str, blank: str) -> None:
    """As a shell variable that is not set would give it."""
    with pytest.raises(ConfigError, match=rf"^{key} is empty"):
        read_run_settings([f"{key}={blank}"])


def test_an_empty_study_is_refused_and_is_not_the_default_one() -> None:
    with pytest.raises(ConfigError, match=r"^study is empty"):
        read_sweep_settings(["study="], "default")


def test_a_study_is_called_as_its_data_set_or_its_file() -> None:
    assert read_sweep_settings([], "default").study == "digits"
    assert read_sweep_settings([], "fashion").study == "fashion"
    for root, name in (("/my odd: photos.zip", "my_odd_photos"), (f"/{'a' * 300}", "a" * 100)):
        own = ["data=folder", f"data.root={root}"]
        assert read_sweep_settings(own, "default").study == name
        assert read_sweep_settings([*own, "study=mine"], "default").study == "mine"
    nameless = ["data=folder", "data.root=/x", "data.name=..."]
    assert read_sweep_settings(nameless, "default").study == "default"


def test_frames_of_videos_have_no_masks() -> None:
    overrides = ["data=folder", "data.root=x", "data.target=dense", "model=fcn", "data.frames=5"]
    with pytest.raises(ConfigError, match="frames"):
        read_run_settings(overrides)


@pytest.mark.parametrize(
    ("target", "answer", "fault"),
    [
        ("single", "kappa", "set target=ordinal"),
        ("single", "mae", "set target=ordinal"),
        ("multi", "balanced_accuracy", "one class a picture"),
        ("single", "balanced_accuracy", None),
        ("ordinal", "balanced_accuracy", None),
    ],
)
def test_answers_are_for_targets_that_have_such(
    target: str, answer: str, fault: str | None
) -> None:
    overrides = ["data=folder", "data.root=x", f"data.target={target}", f"data.answer={answer}"]
    if fault is None:
        assert read_run_settings(overrides).data.best_for == answer
        return
    with pytest.raises(ConfigError, match=fault):
        read_run_settings(overrides)


def test_classes_that_are_numbers_are_named_without_quotes() -> None:
    graded = ["data=folder", "data.target=ordinal", "model=cnn", "data.order=[2,1,0.5,x]"]
    settings = read_run_settings(graded)
    assert settings.data.order == ["2", "1", "0.5", "x"]
    # The command that a run keeps says the same again.
    override = override_of("data.order", settings.data.order)
    assert read_run_settings([*graded[:-1], override]).data.order == settings.data.order
    masks = ["data=folder", "data.target=dense", "model=fcn", "data.class_names=[0,1]"]
    assert getattr(read_run_settings(masks).data, "class_names") == ["0", "1"]  # noqa: B009
    with pytest.raises(ConfigError, match="a list, each text"):
        read_run_settings([*graded[:-1], "data.order=[true,1]"])
