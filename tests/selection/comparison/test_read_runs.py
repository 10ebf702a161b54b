"""Runs that MLflow finds, in a real database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from src.config.checks import ConfigError
from src.config.tracking import TrackingSwitch
from src.machine.failures import RunFailed
from src.records.data_scaling import DATA_SCALING, scaling_text
from src.runs.folder import RunFolder
from src.selection.comparison import compared
from src.selection.comparison.candidate_settings import read_settings
from src.selection.comparison.find_runs import find_runs
from src.tracking.addresses import default_uri
from src.tracking.mlflow_store import Store
from tests.selection.comparison.runs import compare_settings, finished_run


@pytest.fixture(scope="module")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> tuple[Path, dict[str, RunFolder]]:
    """Two runs in one experiment and one in another, with a sweep and a run that is not here."""
    output_dir = tmp_path_factory.mktemp("outputs")
    folders = {name: finished_run(output_dir, name, 10) for name in ("cnn", "mlp", "vit")}
    shutil.copy(empty_database, output_dir)
    store = Store(default_uri(output_dir))

    def create(experiment: str, name: str, run_dir: Path) -> None:
        tags = {"bakeoff.run_dir": str(run_dir), "bakeoff.family": name}
        store.create_run(experiment=experiment, name=name, start_time_ms=1, tags=tags)

    create("mine", "cnn", folders["cnn"].path)
    create("mine", "mlp", Path("/moved since/runs") / folders["mlp"].name)
    create("other", "vit", folders["vit"].path)
    create("mine", "sweep", output_dir / "sweeps" / "s")
    create("mine", "gone", Path("/another machine/runs/gone"))
    return output_dir, folders


def found(output_dir: Path, **asked: object) -> set[str]:
    runs = find_runs(compare_settings(output_dir, **asked), output_dir)
    return {folder.name.partition("-")[0] for folder in runs.folders}


def test_an_experiment_is_its_runs_that_are_here(
    tracked: tuple[Path, dict[str, RunFolder]],
) -> None:
    output_dir, _ = tracked
    assert found(output_dir, experiment="mine") == {"cnn", "mlp"}
    comparison = compared(compare_settings(output_dir, experiment="mine"))
    assert comparison.runs == 2
    assert comparison.remarks == (
        "One run left out that MLflow knows and this machine does not have.",
    )


def test_trainings_of_a_forecast_are_no_candidates_unless_they_are_named(tmp_path: Path) -> None:
    names = ("whole", "half", "other")
    whole, half, _ = (finished_run(tmp_path, name, 10) for name in names)
    assert found(tmp_path) == set(names)
    (whole.path / DATA_SCALING).write_text(scaling_text({5: half.name}))
    assert found(tmp_path) == {"whole", "other"}
    assert found(tmp_path, runs=[str(half.path), str(whole.path)]) == {"whole", "half"}


def test_a_filter_goes_alone_or_with_an_experiment(
    tracked: tuple[Path, dict[str, RunFolder]],
) -> None:
    output_dir, _ = tracked
    others = "tags.`bakeoff.family` != 'mlp'"
    assert found(output_dir, filter=others) == {"cnn", "vit"}
    assert found(output_dir, filter=others, experiment="mine") == {"cnn"}


def test_what_mlflow_does_not_understand_is_one_sentence(
    tracked: tuple[Path, dict[str, RunFolder]],
) -> None:
    output_dir, _ = tracked
    with pytest.raises(ConfigError, match="filter is 'accuracy is good': "):
        found(output_dir, filter="accuracy is good")
    with pytest.raises(ConfigError, match="experiment is 'mien': there is none in MLflow but "):
        found(output_dir, experiment="mien")
    with pytest.raises(ConfigError, match="none of the 1 runs"):
        found(output_dir, filter="attributes.run_name = 'gone'")


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no tracking database"):
        found(tmp_path, experiment="mine")
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_answer_is_no_fault_of_the_overrides(tmp_path: Path) -> None:
    place = TrackingSwitch(enabled=True, uri="http://127.0.0.1:9")
    with pytest.raises(RunFailed, match=r"http://127.0.0.1:9 does not answer"):
        found(tmp_path, experiment="mine", tracking=place)


def test_a_sweeps_runs_are_found_where_the_folder_was_moved_to(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "before", "cnn", 10)
    study = tmp_path / "before" / "sweeps" / "s"
    study.mkdir(parents=True)
    (study / "sweep.json").write_text(
        f'{{"trials": [{{"run_dir": "{folder.path}"}}], "finalists": []}}'
    )
    shutil.move(tmp_path / "before", tmp_path / "after")
    assert found(tmp_path / "after", sweep="s") == {"cnn"}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), _VALUES, min_size=1))
def test_settings_are_read_as_yaml_reads_them(plain: dict[str, object]) -> None:
    written = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    assert read_settings(written)[0] == yaml.safe_load(written)


def test_groups_that_share_a_list_and_files_that_hold_none() -> None:
    shared = [1, 2]
    written = yaml.safe_dump({"a": shared, "b": {"c": shared}})
    assert "*" in written and read_settings(written)[0] == {"a": [1, 2], "b": {"c": [1, 2]}}
    for text in ("", "- 1", "word"):
        with pytest.raises(ValueError, match="no settings"):
            read_settings(text)
