from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from src.config.checks import ConfigError
from src.config.compose import compose_plain
from src.data.sources.costs import CostTable
from src.data.splitting.splits import Split
from src.data.splitting.test_usage import count_test_measurement
from src.records.run import Predictions, RunSummary
from src.reporting.comparison_report import format_comparison
from src.reporting.comparison_verdict import verdict_sentences
from src.runs.folder import RunFolder
from src.selection.comparison import compared
from src.selection.comparison.judge import differing_settings, pair_of
from tests.selection.comparison import runs
from tests.selection.comparison.runs import TARGETS, compare_settings, finished_run


def test_seeds_are_repeats_and_settings_are_candidates(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        finished_run(tmp_path, "cnn", 10, seed=seed, trial=12)
        finished_run(tmp_path, "mlp", 120, seed=seed, lr=0.1, trial=3)
        finished_run(tmp_path, "mlp", 130, seed=seed, lr=0.2, trial=0)
    found = compared(compare_settings(tmp_path))
    assert [one.name for one in found.verdict.standings] == ["cnn-12", "mlp-3", "mlp-0"]
    assert [one.settings for one in found.entrants] == ["", "lr=0.1", "lr=0.2"]
    assert [len(one.run_ids) for one in found.verdict.standings] == [3, 3, 3]
    assert [one.name for one in found.verdict.tied] == ["cnn-12"]
    assert found.verdict.winner.accuracy == pytest.approx(1 - 10 / len(TARGETS))
    assert "cnn-12 comes first of 3 candidates" in format_comparison(found)


def amended(folder: RunFolder, metrics: dict[str, float], found: list[str] | None = None) -> None:
    summary = RunSummary.read(folder.summary)
    metrics = summary.metrics | metrics
    dataclasses.replace(summary, metrics=metrics, found=found).write(folder.summary)


def test_what_each_seed_finds_by_itself_makes_no_candidate(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        folder = finished_run(tmp_path, "cnn", 10, seed=seed, lr=0.1 * seed, trial=12)
        amended(folder, {}, ["optimizer.lr"])
    finished_run(tmp_path, "cnn", 10, seed=1, lr=0.1, trial=3)
    found = compared(compare_settings(tmp_path))
    runs = {one.name: len(one.run_ids) for one in found.verdict.standings}
    assert runs == {"cnn-12": 3, "cnn-3": 1}


def test_a_named_run_that_did_not_finish_is_refused(tmp_path: Path) -> None:
    whole, stopped = finished_run(tmp_path, "cnn", 10), finished_run(tmp_path, "mlp", 20)
    summary = RunSummary.read(stopped.summary)
    dataclasses.replace(summary, status="KILLED", reason="Ctrl-C").write(stopped.summary)
    with pytest.raises(ConfigError, match=rf"runs: {stopped.name} did not finish \(Ctrl-C\): .*re"):
        compared(compare_settings(tmp_path, runs=[whole.name, stopped.name]))
    assert len(compared(compare_settings(tmp_path)).entrants) == 1  # of all there are, it is none


@pytest.mark.parametrize("disturbed", [False, True])
def test_a_latency_beside_other_programs_is_marked_where_it_decides(
    tmp_path: Path, disturbed: bool
) -> None:
    """The three are tied; the last is told from them, and decides nothing."""
    for number, wrong in enumerate((10, 11, 120)):
        folder = finished_run(tmp_path, "cnn", wrong, lr=0.1 * (1 + number), trial=number)
        others = {"cost/latency_others": 1.5} if disturbed or number == 2 else {}
        amended(folder, {"cost/latency_ms": 5.0 - number, **others})
    compared_runs = compared(compare_settings(tmp_path))
    text = format_comparison(compared_runs)
    assert compared_runs.verdict.cheapest is not None and len(compared_runs.verdict.tied) == 2
    assert " 3* " in text and (" 4* " in text) == disturbed
    assert "Latencies marked * were measured under load" in text
    said = " ".join(verdict_sentences(compared_runs))
    assert ("The latency of cnn-0 and cnn-1 was measured under load" in said) == disturbed


def test_a_candidate_outside_of_a_sweep_has_the_name_of_its_first_run(tmp_path: Path) -> None:
    first = finished_run(tmp_path, "cnn", 10, trial=None)
    finished_run(tmp_path, "cnn", 11, seed=1, trial=None)
    named = compared(compare_settings(tmp_path, runs=[first.name])).verdict.winner
    assert named.name == first.name
    (both,) = compared(compare_settings(tmp_path)).verdict.standings
    assert both.name in {folder.name for folder in (tmp_path / "runs").iterdir()}


def test_the_family_of_a_sweep_counts_and_not_its_kind_of_model(tmp_path: Path) -> None:
    finished_run(tmp_path, "timm", 10, trial=4, family="resnet")
    (entrant,) = compared(compare_settings(tmp_path)).entrants
    assert (entrant.standing.name, entrant.family) == ("resnet-4", "resnet")


def test_other_pictures_unfinished_runs_and_other_data_are_left_out(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10, tests=2)
    finished_run(tmp_path, "mlp", 20)
    finished_run(tmp_path, "vit", 1, split="another")
    finished_run(tmp_path, "fcn", 1, status="KILLED")
    found = compared(compare_settings(tmp_path))
    assert (found.runs, found.test_measurements) == (2, 2)
    printed = format_comparison(found)
    assert "One run on other pictures left out." in printed and "measured 2 times" in printed
    said = r"'picture', and the finished runs are on pictures \(did you mean pictures\?\)"
    with pytest.raises(ConfigError, match=said):
        compared(compare_settings(tmp_path, data="picture"))
    with pytest.raises(ConfigError, match="no finished run"):
        compared(compare_settings(tmp_path / "elsewhere", data="pictures"))
    with pytest.raises(ConfigError, match=r"of the test part\): .*evaluate run=RUN split=test"):
        compared(compare_settings(tmp_path, part="test"))


def test_named_runs_of_two_splits_are_refused(tmp_path: Path) -> None:
    one, other = (
        finished_run(tmp_path, "cnn", 10),
        finished_run(tmp_path, "mlp", 20, split="another"),
    )
    with pytest.raises(ConfigError, match="measured on different pictures"):
        compared(compare_settings(tmp_path, runs=[one.run_id, str(other.path)]))
    with pytest.raises(ConfigError, match="there is no run 'nobody'"):
        compared(compare_settings(tmp_path, runs=["nobody"]))
    with pytest.raises(
        ConfigError, match="sweep is 'none': there is no finished sweep of this name"
    ):
        compared(compare_settings(tmp_path, sweep="none"))
    (tmp_path / "sweeps" / "begun").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"not come to its end: .* -m src\.sweep study=begun"):
        compared(compare_settings(tmp_path, sweep="begun"))


def test_the_test_part_is_counted_in_the_ledger_too(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "cnn", 10)
    hashes = np.array([b"a" * 64, b"b" * 64, b"c" * 64])
    split = Split(np.array([0, 1, 2], np.int8), np.array([0, 1, 0]), hashes)
    split.write(run.split)
    for _ in range(3):
        count_test_measurement(tmp_path, split.test_fingerprint, "somebody")
    assert compared(compare_settings(tmp_path)).test_measurements == 3


def test_runs_of_one_split_on_other_pictures_are_left_out(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 12)
    finished_run(tmp_path, "cnn", 1, seed=5, shift=1000)
    found = compared(compare_settings(tmp_path))
    assert found.runs == 2 and found.remarks == ("One run on other pictures left out.",)


@pytest.mark.parametrize(("wrong", "said"), [(190, True), (150, False)])
def test_a_choice_that_may_know_nothing_is_called_so(
    wrong: int, said: bool, tmp_path: Path
) -> None:
    """Half of the pictures are of each class."""
    finished_run(tmp_path, "cnn", wrong)
    finished_run(tmp_path, "mlp", wrong + 5)
    found = compared(compare_settings(tmp_path))
    assert found.verdict.baseline == 0.5 and found.verdict.beats_baseline is not said
    sentences = verdict_sentences(found)
    assert any("the same answer for everything), whose" in one for one in sentences) is said


def test_a_damaged_run_is_named_and_left_out_unless_it_was_asked_for(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    damaged = finished_run(tmp_path, "mlp", 12)
    (damaged.predictions / "val.parquet").write_bytes(b"nothing")
    (remark,) = compared(compare_settings(tmp_path)).remarks
    assert str(damaged.path) in remark
    with pytest.raises(ConfigError, match="holds no predictions"):
        compared(compare_settings(tmp_path, runs=[damaged.run_id]))


def test_two_runs_have_a_difference_and_the_pictures_behind_it(tmp_path: Path) -> None:
    """20 pictures only the one has right, and none the other."""
    one, other = finished_run(tmp_path, "cnn", 10), finished_run(tmp_path, "mlp", 30)
    found = compared(compare_settings(tmp_path, runs=[other.name, one.name]))
    assert found.pair is not None and (found.pair.first, found.pair.second) == ("cnn-0", "mlp-0")
    assert (found.pair.first_alone, found.pair.second_alone) == (20, 0)
    assert found.verdict.difference is not None and found.verdict.difference.low > 0
    assert [one.name for one in found.verdict.tied] == ["cnn-0"]
    assert "20 are right only with" in format_comparison(found)
    finished_run(tmp_path, "vit", 5)
    assert compared(compare_settings(tmp_path)).pair is None


@pytest.mark.parametrize("target", ["single", "dense"])
def test_masks_are_no_pictures_that_are_right_or_wrong(target: str) -> None:
    measured = SimpleNamespace(right=np.array([True, False]), configuration="one")
    one: Any = SimpleNamespace(folds=None, target=target, measured=measured)
    one.summary = SimpleNamespace(seed=0)
    assert (pair_of([one, one], ["cnn-0", "mlp-0"]) is None) == (target == "dense")


def test_the_power_is_at_the_gap_that_matters_to_the_user(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 20)
    finished_run(tmp_path, "mlp", 22, seed=3)
    needed = {}
    for gap in (0.01, 0.04):
        found = compared(compare_settings(tmp_path, gap=gap, band=gap / 2))
        power, said = found.verdict.power, " ".join(verdict_sentences(found))
        assert power is not None and power.pictures is not None and len(found.verdict.tied) == 2
        assert f"Power: a true difference of {100 * gap:.1f} points between" in said
        assert f"within {50 * gap:.1f} points of the best (practically equivalent)" in said
        needed[gap] = power.pictures
    # Of single trainings the pictures go with the inverse square of the gap.
    assert needed[0.01] == pytest.approx(16 * needed[0.04], rel=0.01)


def test_the_unit_of_costs_changes_nothing_but_the_figures(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 20)
    finished_run(tmp_path, "mlp", 22, seed=3)
    verdicts = []
    for unit in (1, 1000):
        file = tmp_path / f"costs_{unit}.csv"
        file.write_text(f",a,b\na,0,{unit}\nb,{unit},0\n")
        settings = compare_settings(tmp_path, metric="cost", costs=str(file))
        verdicts.append(compared(settings).verdict)
    one, thousand = verdicts
    assert one.power is not None and thousand.power is not None
    assert (one.power.gap, one.band) == (0.01, 0.005)
    assert thousand.power.gap == pytest.approx(10) and thousand.band == pytest.approx(5)
    assert one.power.probability == pytest.approx(thousand.power.probability, rel=1e-3)
    assert one.winner.equal == pytest.approx(thousand.winner.equal, abs=1e-3)


def test_a_difference_is_one_that_two_figures_can_have(tmp_path: Path) -> None:
    for model, wrong in (("cnn", 20), ("mlp", 40)):
        finished_run(tmp_path, model, wrong)
    for key in ("gap", "band"):
        with pytest.raises(ConfigError, match=rf"^{key} is 1: of accuracy it must be below 1, wh"):
            compared(compare_settings(tmp_path, **{key: 1.0}))
        # Losses have no end.
        compared(compare_settings(tmp_path, metric="log_loss", **{key: 1.0}))


def test_pictures_of_one_group_are_one_piece_of_evidence(tmp_path: Path) -> None:
    groups = np.arange(len(TARGETS)) // 20
    for model, wrong in (("cnn", 20), ("mlp", 40)):
        finished_run(tmp_path / "alone", model, wrong)
        finished_run(tmp_path / "grouped", model, wrong, groups=groups)
    alone = compared(compare_settings(tmp_path / "alone")).verdict
    grouped = compared(compare_settings(tmp_path / "grouped")).verdict
    assert (alone.groups, grouped.groups) == (None, 20)
    assert len(alone.tied) == 1 and len(grouped.tied) == 2
    for one, other in zip(alone.standings, grouped.standings):
        assert other.interval.low < one.interval.low and one.interval.high < other.interval.high
    assert (
        "400 pictures in 20 groups"
        in verdict_sentences(compared(compare_settings(tmp_path / "grouped")))[0]
    )
    finished_run(tmp_path / "copies", "cnn", 20, groups=groups, copies=True)
    assert compared(compare_settings(tmp_path / "copies")).verdict.copies and not grouped.copies


def test_a_class_of_one_picture_is_remarked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TARGETS", np.array([0] * 399 + [1]))
    for model, wrong in (("cnn", 20), ("mlp", 40)):
        finished_run(tmp_path, model, wrong)
    for metric, lone in (("balanced_accuracy", 1), ("accuracy", 0)):
        found = compared(compare_settings(tmp_path, metric=metric))
        assert found.verdict.lone == lone
        said = any("1 class has a single picture" in one for one in verdict_sentences(found))
        assert said == bool(lone)


def test_pictures_of_one_class_cannot_be_judged_by_auc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TARGETS", np.zeros(400, np.int64))
    for model, wrong in (("cnn", 20), ("mlp", 40)):
        finished_run(tmp_path, model, wrong)
    with pytest.raises(ConfigError, match="metric is auc, and each class has all pictures"):
        compared(compare_settings(tmp_path, metric="auc"))


def test_candidates_are_ranked_by_the_metric_that_is_asked_for(tmp_path: Path) -> None:
    """Of class a the one is always right, the other always of class b and half of the time of a."""
    finished_run(tmp_path, "cnn", 10)
    costly = finished_run(tmp_path, "mlp", 4)
    for metric in ("balanced_accuracy", "macro_f1", "auc", "log_loss"):
        found = compared(compare_settings(tmp_path, metric=metric))
        assert found.verdict.measure == metric and found.verdict.winner.name == "mlp-0"
    file = tmp_path / "costs.csv"
    file.write_text(",b,a\nb,0,1\na,5,0\n")
    verdict = compared(compare_settings(tmp_path, metric="cost", costs=str(file))).verdict
    # Two pictures of each class are wrong: five for each of a, one for each of b.
    (found,) = (one for one in verdict.standings if one.run_ids == (costly.run_id,))
    assert found.figure == pytest.approx((2 * 5 + 2 * 1) / len(TARGETS))
    assert verdict.baseline == 0.5  # class a for all: 1 for each b, and 5 the other way round
    file.write_text(",b,c\nb,0,1\nc,5,0\n")
    with pytest.raises(ConfigError, match="a, c is on one side alone"):
        compared(compare_settings(tmp_path, metric="cost", costs=str(file)))
    with pytest.raises(ConfigError, match="go together"):
        compare_settings(tmp_path, metric="cost")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line"),
        (",a,a\na,0,1\na,1,0\n", "each once"),
        (",a,b\nb,0,1\na,1,0\n", "same order"),
        (",a,b\na,0,1\nb,1\n", "the line 'b' of .* has 1 cost for 2 classes"),
        (",a,b\na,0,1\nb,1,0,2\n", "the line 'b' of .* has 3 costs for 2 classes"),
        (';a;b\na;0;"1.250,5"\nb;1;0\n', "such as 1250.5, without marks between thousands"),
        (";a;b\na;0;1.000\nb;2,5;0\n", r"1\.000 in .*costs.csv may be 1000 or 1: write which"),
        (",a,b\na,0,x\nb,1,0\n", "'x' in the line 'a'"),
        (",a,b\na,0,inf\nb,1,0\n", "'inf' in the line 'a'"),
    ],
)
def test_a_table_of_costs_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    finished_run(tmp_path, "cnn", 10)
    file = tmp_path / "costs.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        compared(compare_settings(tmp_path, metric="cost", costs=str(file)))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_costs_may_be_written_in_other_dialects(tmp_path: Path, mark: str) -> None:
    names = ("caf\u00e9", "b")
    text = ",cafe\u0301 ,b\r\n\r\ncafe\u0301,0,2.5\r\nb,1,0\r\n,,\r\n".replace(",", mark)
    file = tmp_path / "costs.csv"
    file.write_bytes((text if mark == "," else text.replace("2.5", "2,5")).encode("utf-8-sig"))
    np.testing.assert_array_equal(CostTable.read(file).of(names), [[0, 2.5], [1, 0]])
    file.write_bytes(text.replace("e\u0301", "\u00e9").encode("cp1252"))
    with pytest.raises(ConfigError, match="in Excel as CSV UTF-8"):
        CostTable.read(file)


@pytest.mark.parametrize("cell", ["0.125", "1.0000", "2.5"])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_number_shows_that_a_point_is_a_decimal_one(
    tmp_path: Path, mark: str, cell: str
) -> None:
    file = tmp_path / "costs.csv"
    file.write_text(f",a,b\na,0,1.000\nb,{cell},0\n".replace(",", mark))
    np.testing.assert_array_equal(CostTable.read(file).matrix, [[0, 1], [float(cell), 0]])


def test_two_seeds_of_one_configuration_are_a_pair_as_well(tmp_path: Path) -> None:
    for seed in (1, 2):
        finished_run(tmp_path, "cnn", 10, seed=seed)
    found = compared(compare_settings(tmp_path))
    assert len(found.entrants) == 1 and found.pair is not None and found.pair.repeats
    assert {name.partition(",")[0] for name in (found.pair.first, found.pair.second)} == {
        "cnn-0 (seed 1",
        "cnn-0 (seed 2",
    }


def test_of_two_runs_that_repeat_each_other_one_is_left_out_with_a_remark(tmp_path: Path) -> None:
    ran = [finished_run(tmp_path, "cnn", wrong, seed=0) for wrong in (10, 30)]
    ran.sort(key=lambda one: one.name)  # where models are alike, by the second they began in
    found = compared(compare_settings(tmp_path, runs=[str(one.path) for one in ran]))
    (entrant,) = found.entrants
    assert entrant.standing.run_ids == (ran[1].run_id,)
    assert any(f"{ran[0].name} for {ran[1].name}" in one for one in found.remarks)
    assert found.pair is not None and not found.pair.repeats, "not another seed"


def test_where_the_pictures_lie_makes_no_candidate(tmp_path: Path) -> None:
    for seed, root in enumerate(["photos", str(tmp_path / "photos")]):
        folder = finished_run(tmp_path, "cnn", 10, seed=seed)
        plain = yaml.safe_load(folder.config.read_text())
        folder.config.write_text(yaml.safe_dump(plain | {"data": {"root": root}}))
    assert len(compared(compare_settings(tmp_path)).entrants) == 1


def test_the_settings_with_the_most_values_are_named() -> None:
    own = {
        "a": {"optimizer.name": "muon", "optimizer.lr": 0.1, "x": 1, "y": 1, "same": 0},
        "b": {"optimizer.name": "sgd", "optimizer.lr": 0.2, "x": 1, "y": 2, "same": 0},
        "c": {"optimizer.name": "sgd", "optimizer.lr": 0.3, "x": 2, "y": 3, "same": 0},
        "d": {"optimizer.name": "sgd", "optimizer.lr": 0.4, "x": 2, "same": 0},
    }
    differing = differing_settings(dict.fromkeys(own, "cnn"), own)
    assert differing["a"] == "lr=0.1 y=1 optimizer=muon x=1"
    assert differing["d"] == "lr=0.4 optimizer=sgd x=2"


def test_the_only_candidate_of_a_family_differs_from_no_other() -> None:
    families = {"a": "cnn", "b": "mlp"}
    differing = differing_settings(families, {"a": {"lr": 0.1}, "b": {"lr": 0.2}})
    assert differing == {"a": "", "b": ""}


@pytest.mark.parametrize("model", ["embedding", "handcrafted"])
def test_settings_without_effect_neither_name_nor_separate_candidates(
    tmp_path: Path, model: str
) -> None:
    """Under `classifier=auto` the search chooses selection and whitening itself."""
    changes = {
        "as it is": ["model.keep=200", "model.knn.neighbours=5"],
        "without effect": ["model.keep=100", "model.knn.neighbours=9", "optimizer=sgd"],
        "another": ["model.classifier=logistic", "model.keep=100"],
    }
    names = {}
    for seed, (kind, overrides) in enumerate(changes.items()):
        run = finished_run(tmp_path, model, 10, seed=seed)
        settings = compose_plain([f"model={model}", "model.classifier=auto", *overrides], "config")
        run.config.write_text(yaml.safe_dump(settings))
        names[run.run_id] = kind
    found = compared(compare_settings(tmp_path))
    repeats = {frozenset(names[one] for one in c.standing.run_ids) for c in found.entrants}
    assert repeats == {frozenset({"as it is", "without effect"}), frozenset({"another"})}
    (auto,) = (one.settings for one in found.entrants if len(one.standing.run_ids) == 2)
    assert "classifier=auto" in auto
    assert not any(key in auto for key in ("keep", "whitening", "neighbours", "optimizer"))


def test_a_run_that_cannot_be_judged_by_the_measure_is_left_out_unless_it_is_named(
    tmp_path: Path,
) -> None:
    """The folder holds runs on ordered classes, one on plain classes, and one on other classes."""
    folders = [finished_run(tmp_path, name, 10) for name in ("cnn", "mlp", "vit", "fcn")]
    for folder in (folders[0], folders[1]):
        file = folder.predictions / "val.parquet"
        dataclasses.replace(Predictions.read(file), kind="ordinal").write(file)
    found = compared(compare_settings(tmp_path, metric="kappa"))
    assert found.verdict.measure == "kappa" and len(found.entrants) == 2
    assert any(
        "2 runs left out" in remark and "metric is kappa" in remark for remark in found.remarks
    )
    names = [folder.name for folder in folders]
    with pytest.raises(ConfigError, match="metric is kappa"):
        compared(compare_settings(tmp_path, metric="kappa", runs=names))
    with pytest.raises(ConfigError, match="metric is miou"):
        compared(compare_settings(tmp_path, metric="miou"))
    table = tmp_path / "costs.csv"
    table.write_text("true,a,b\na,0,1\nb,5,0\n")
    file = folders[3].predictions / "val.parquet"
    dataclasses.replace(Predictions.read(file), class_names=("a", "c")).write(file)
    by_costs = compared(compare_settings(tmp_path, metric="cost", costs=str(table)))
    assert len(by_costs.entrants) == 3 and any("One run left out" in r for r in by_costs.remarks)


def test_thresholds_that_these_pictures_chose_for_another_measure_are_remarked_on(
    tmp_path: Path,
) -> None:
    targets = np.random.default_rng(0).integers(0, 2, (300, 2)).astype(np.uint8)

    def remarks(threshold: str, metric: str, part: str = "val") -> list[str]:
        place = tmp_path / f"{threshold}-{metric}-{part}"
        for seed, name in enumerate(("cnn", "mlp")):
            folder = finished_run(place, name, 10)
            plain = yaml.safe_load(folder.config.read_text())
            plain["data"] = {"target": "multi", "threshold": threshold}
            folder.config.write_text(yaml.safe_dump(plain))
            noise = np.random.default_rng(seed).random(targets.shape)
            probs = (0.4 * targets + 0.6 * noise).astype(np.float32)
            ids = np.arange(len(targets))
            Predictions(ids, None, targets, probs, ("a", "b"), kind="multi").write(
                folder.predictions / f"{part}.parquet"
            )
        found = compared(compare_settings(place, metric=metric, part=part))
        return [one for one in found.remarks if "data.threshold" in one]

    (remark,) = remarks("macro_f1", "hamming_loss")
    assert "chosen on these pictures for macro F1" in remark and "threshold=half" in remark
    (remark,) = remarks("macro_f1", "micro_f1")
    assert "threshold=micro_f1" in remark
    assert len(remarks("micro_f1", "accuracy")) == 1
    # They are best for it, or not chosen at all, or chosen on other pictures, or not used.
    assert not remarks("macro_f1", "macro_f1") and not remarks("half", "hamming_loss")
    assert not remarks("macro_f1", "hamming_loss", "test") and not remarks("macro_f1", "map")


def test_the_order_in_which_runs_are_named_changes_nothing(tmp_path: Path) -> None:
    seeds = [finished_run(tmp_path, "cnn", 10 + seed, seed=seed, trial=None) for seed in range(2)]
    again = finished_run(tmp_path, "cnn", 30, trial=None)  # the same settings and seed once more
    runs = [*seeds, again, finished_run(tmp_path, "mlp", 20, trial=None)]
    names = sorted(one.name for one in runs)
    found = {
        format_comparison(compared(compare_settings(tmp_path, runs=order)))
        for order in (names, names[::-1], [*names[2:], *names[:2]])
    }
    assert len(found) == 1
