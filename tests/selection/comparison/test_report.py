from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from src.config.checks import ConfigError, to_plain
from src.config.compose import read_run_settings
from src.config.tracking import TrackingSettings
from src.data.quality.audit import content_hash
from src.data.sources import digits, folder
from src.data.sources.source import Source
from src.data.splitting.splits import make_split
from src.metrics.probabilistic import reliability_bins
from src.metrics.share_intervals import wilson_interval
from src.records.run import Predictions
from src.runs.folder import RunFolder
from src.selection.comparison import compared, report
from src.selection.comparison.report import (
    PicturesGone,
    gather,
    leaders_of,
    read_pictures,
    with_pictures,
)
from src.tracking.tracker import Tracker
from tests.reporting.comparisons import comparison
from tests.selection.comparison.runs import TARGETS, compare_settings, finished_run


def test_the_leaders_are_the_best_of_the_best_families() -> None:
    entrants = comparison(30, families=5).entrants
    leaders = leaders_of(entrants)
    assert leaders[0] is entrants[0] and len({one.family for one in leaders}) == 3
    for one in leaders:
        better = [other for other in entrants if other.standing.rank < one.standing.rank]
        assert all(other.family != one.family for other in better)


def test_of_a_single_family_they_are_the_best_candidates() -> None:
    entrants = comparison(5, families=1).entrants
    assert leaders_of(entrants) == list(entrants[:3])
    assert leaders_of(entrants[:1]) == list(entrants[:1])


def test_counts_are_over_all_repeats_of_a_leader(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        finished_run(tmp_path, "cnn", 10, seed=seed)
    (leader,) = gather(compared(compare_settings(tmp_path)), compare_settings(tmp_path)).leaders
    for recall, interval in zip(leader.recall, leader.recall_intervals, strict=True):
        assert interval is not None and recall in interval
        # Of three trainings that hardly differ: about Wilson's of one.
        ends = wilson_interval(round(200 * recall), 200)
        assert (interval.low, interval.high) == pytest.approx(ends, abs=5e-3)
    assert leader.groups == ()
    assert leader.matrix.sum() == 3 * len(TARGETS)
    assert np.trace(leader.matrix) == 3 * (len(TARGETS) - 10)
    probs = np.full((len(TARGETS), 2), 0.1, np.float32)
    right = np.arange(len(TARGETS)) >= 10
    probs[np.arange(len(TARGETS)), np.where(right, TARGETS, 1 - TARGETS)] = 0.9
    assert leader.calibration_error == pytest.approx(
        reliability_bins(probs, TARGETS).calibration_error
    )


def test_of_a_repeated_cross_validation_the_answers_that_it_was_judged_by_are_counted(
    tmp_path: Path,
) -> None:
    folder = finished_run(tmp_path, "cnn", 12, cv={"folds": 5, "repeats": 3}, repeats=3)
    mean = folder.predictions / "val.parquet"
    said = Predictions.read(mean)
    right = np.where(np.eye(2, dtype=bool)[TARGETS], 0.9, 0.1).astype(np.float32)
    dataclasses.replace(said, probs=right).write(mean)  # as if every error averaged out
    found = compared(compare_settings(tmp_path))
    (leader,) = gather(found, compare_settings(tmp_path)).leaders
    assert leader.trainings == 3 and leader.matrix.sum() == 3 * len(TARGETS)
    shown = np.trace(leader.matrix) / leader.matrix.sum()
    assert shown == pytest.approx(found.verdict.winner.accuracy) and shown < 1
    assert leader.calibration_error == pytest.approx(found.verdict.winner.calibration_error)


def test_predictions_that_are_removed_meanwhile_are_named(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "cnn", 10)
    comparison = compared(compare_settings(tmp_path))
    (folder.predictions / "val.parquet").unlink()
    with pytest.raises(ConfigError, match=r"val\.parquet is gone .*: run it again"):
        gather(comparison, compare_settings(tmp_path))


def test_they_disagree_where_their_answers_differ_and_the_surest_come_first(
    tmp_path: Path,
) -> None:
    one, other = finished_run(tmp_path, "cnn", 4), finished_run(tmp_path, "mlp", 9)
    unsure = other.predictions / "val.parquet"
    said = Predictions.read(unsure)
    probs = said.probs.copy()
    probs[6] = probs[6].clip(0.45, 0.55)  # wrong still, but less sure
    dataclasses.replace(said, probs=probs).write(unsure)
    asked = compare_settings(tmp_path)
    found = with_pictures(gather(compared(asked), asked))
    assert found.agreement is not None
    assert found.agreement.agree == pytest.approx(1 - 5 / len(TARGETS))
    assert found.agreement.any_right == pytest.approx(1 - 4 / len(TARGETS))
    shown = [one.shown for one in found.disagreements]
    assert shown == [f"picture {i}" for i in (4, 5, 7, 8, 6)]
    for disagreement in found.disagreements:
        assert [answer.right for answer in disagreement.answers] == [True, False]
        assert disagreement.picture is None
    assert found.no_pictures is not None and one.name != other.name


def test_the_groups_that_are_least_right_are_listed_and_widen_the_classes(tmp_path: Path) -> None:
    groups = np.arange(400) // 20
    alone = finished_run(tmp_path / "alone", "cnn", 30)
    finished_run(tmp_path / "grouped", "cnn", 30, groups=groups)
    finished_run(tmp_path / "copies", "cnn", 30, groups=groups, copies=True)
    found = {}
    for kind in ("alone", "grouped", "copies"):
        asked = compare_settings(tmp_path / kind)
        (found[kind],) = gather(compared(asked), asked).leaders
    assert alone.run_id and found["alone"].groups == ()
    assert found["copies"].groups == ()  # nobody named them, and nobody knows them
    assert found["copies"].recall_intervals == found["grouped"].recall_intervals
    first, second, third = found["grouped"].groups[:3]
    assert (first.shown, first.pictures, first.accuracy) == ("picture 0", 20, 0.0)
    assert (second.shown, second.accuracy) == ("picture 20", 0.5) and third.accuracy == 1.0
    assert 0.5 in second.interval
    for one, other in zip(found["alone"].recall_intervals, found["grouped"].recall_intervals):
        assert one is not None and other is not None
        assert other.high - other.low > 1.5 * (one.high - one.low)


def test_subgroups_are_those_of_the_pictures_that_were_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fourth picture is of the scanner; the first 30 are wrong."""
    finished_run(tmp_path, "cnn", 30)
    finished_run(tmp_path, "mlp", 60)

    def values(run_dir: Path, column: str, ids: np.ndarray) -> tuple[str, ...]:
        assert column == "camera"
        return tuple("phone" if one % 4 else "scanner" for one in ids.tolist())

    monkeypatch.setattr(report, "subgroup_values", values)
    asked = compare_settings(tmp_path, subgroup="camera")
    found = gather(compared(asked), asked)
    assert found.subgroup == "camera"
    for leader, wrong in zip(
        found.leaders, ({"scanner": 8, "phone": 22}, {"scanner": 15, "phone": 45})
    ):
        assert {one.shown: one.pictures for one in leader.subgroups} == {
            "scanner": 100,
            "phone": 300,
        }
        for one in leader.subgroups:
            right = one.pictures - wrong[one.shown]
            assert one.accuracy == pytest.approx(right / one.pictures) and one.interval is not None
            ends = wilson_interval(right, one.pictures)
            assert (one.interval.low, one.interval.high) == pytest.approx(ends, abs=1e-4)
    plain = compare_settings(tmp_path)
    assert gather(compared(plain), plain).leaders[0].subgroups == ()


def test_curves_are_read_from_the_runs_and_importances_from_the_study(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 20)
    tracker = Tracker.start(
        folder.path,
        TrackingSettings(enabled=False, system_metrics_seconds=None),
        output_dir=tmp_path,
        run_id=folder.run_id,
        run_name=folder.name,
    )
    for epoch, value in ((1, 0.5), (2, float("nan")), (3, 0.9)):
        tracker.metrics({"val/accuracy": value}, step=epoch)
    tracker.finish("FINISHED")
    shares = {"cnn": {"optimizer.lr": 1.0}}
    record = {
        "trials": [{"run_dir": str(folder.path)}],
        "finalists": [],
        "metrics": ["val/loss"],
        "importances": shares,
    }
    (tmp_path / "sweeps" / "s").mkdir(parents=True)
    (tmp_path / "sweeps" / "s" / "sweep.json").write_text(json.dumps(record))
    found = gather(compared(compare_settings(tmp_path)), compare_settings(tmp_path))
    assert list(found.curves) == [1] and not found.importances
    assert [epoch for epoch, _ in found.curves[1]] == [1, 2, 3]
    assert found.curves[1][2][1] == 0.9 and np.isnan(found.curves[1][1][1])
    of_study = compare_settings(tmp_path, sweep="s")
    found = gather(compared(of_study), of_study)
    assert found.importances == shares and found.importance_of == "val/loss"


def run_on(output_dir: Path, source: Source, overrides: list[str]) -> Path:
    """A run folder with the settings and the manifest of a run on these pictures."""
    run = RunFolder.create(output_dir, "cnn", source.name)
    run.config.write_text(yaml.safe_dump(to_plain(read_run_settings(overrides))))
    content = (
        [Path(source.file(i)).read_bytes() for i in range(len(source))]
        if source.arrays is None
        else list(source.arrays)
    )
    hashes = np.array([content_hash(one) for one in content])
    make_split(
        source.targets, hashes, seed=0, val_fraction=0.3, test_fraction=0.0,
        on_duplicates="drop", names=source.sample_paths,
    ).write(run.split)  # fmt: skip
    return run.path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("a b", "ö"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 256, (40, 60, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / label / f"{number}.png")
    return tmp_path / "own"


def test_pictures_of_arrays_are_what_they_were(tmp_path: Path) -> None:
    source = digits.load(None, tmp_path, False)
    assert source.arrays is not None
    run = run_on(tmp_path, source, ["data=digits"])
    found = read_pictures(run, [5, 1000])
    assert list(found) == [5, 1000]
    for index, picture in found.items():
        assert np.array_equal(picture, source.arrays[index])


def test_files_are_shown_in_their_own_proportions(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    found = read_pictures(run, [0, 11])
    assert {picture.shape for picture in found.values()} == {(3, 40, 60)}
    with Image.open(source.file(11)) as image:
        assert np.array_equal(found[11], np.asarray(image).transpose(2, 0, 1))


def test_a_changed_file_is_left_out_and_new_ones_move_nothing(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    before = read_pictures(run, [2, 3, 4])
    Image.new("RGB", (5, 5)).save(source.file(3))
    Path(source.file(4)).unlink()
    Image.new("RGB", (5, 5)).save(files / "a b" / "00.png")
    after = read_pictures(run, [2, 3, 4])
    assert list(after) == [2] and np.array_equal(after[2], before[2])


def test_what_is_gone_is_said(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    files.rename(tmp_path / "elsewhere")
    with pytest.raises(PicturesGone, match="there is no such file or folder"):
        read_pictures(run, [0])
    (tmp_path / "elsewhere").rename(files)
    for path in files.rglob("*.png"):
        path.write_bytes(b"another")
    with pytest.raises(PicturesGone, match="not those that the run was trained on"):
        read_pictures(run, [0, 1])


def test_a_lister_that_is_not_on_the_list_is_not_called(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("src.data.sources.folder.load", "os.remove"))
    with pytest.raises(PicturesGone, match="allowlist"):
        read_pictures(run, [0])
    assert files.is_dir()
