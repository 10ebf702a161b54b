"""What settings leave open is measured once, kept, and part of the run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from src.config.checks import ConfigError, to_plain
from src.config.compose import read_run_settings
from src.config.nested import leaves
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.runs import build, resolve
from src.runs.build.network import NetworkShape, build_network, network_of
from src.runs.experiment import run_experiment
from src.runs.resolve import Resolved
from src.runs.settings import read_resumed_settings
from src.storage.digests import checked_line, line_content
from src.training.training_plan import ChosenPlan, PlanTiming, TrainingPlan

SMALL = (
    *("model=mlp", "trainer.max_epochs=1", "tracking=none", "trainer.progress=false"),
    "tracking.figures=false",
)


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> object:
    # Other programs on the machine must not change a result.
    monkeypatch.setattr(resolve, "is_idle", lambda: False)
    monkeypatch.setattr(resolve, "others_load", lambda: 0.0)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def opened(*overrides: str) -> tuple[RunSettings, PictureData]:
    settings = read_run_settings([*SMALL, *overrides])
    return settings, build.build_data(settings)


def timed_as(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]
) -> list[list[TrainingPlan]]:
    """Let timing a plan give what `seconds` says of its precision; the plans asked for."""
    asked = []

    def stand_in(plans: list[TrainingPlan], *_: Any, **__: Any) -> ChosenPlan:
        asked.append(plans)
        timings = tuple(PlanTiming(plan, seconds[plan.precision], 32) for plan in plans)
        return ChosenPlan(min(timings, key=lambda timing: timing.seconds).plan, timings)

    monkeypatch.setattr(resolve, "time_plans", stand_in)
    monkeypatch.setattr("src.machine.hardware.has_bfloat16", lambda device: True)
    return asked


def test_the_fastest_plan_is_taken_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = timed_as(monkeypatch, {"float32": 2.0, "bfloat16": 1.0})
    settings, data = opened()
    first = resolve.resolve(settings, data)
    assert first.settings.runtime.precision == "bfloat16"
    assert "runtime: bfloat16" in first.notes[0] and "earlier" not in first.notes[0]
    again = resolve.resolve(*opened())
    assert len(asked) == 1, "the second start measures nothing"
    assert again.settings == first.settings and again.timings == first.timings
    assert again.notes[0].endswith("as measured at an earlier start")
    # Another network is another question, another seed is not.
    resolve.resolve(*opened("seed=1"))
    assert len(asked) == 1
    resolve.resolve(*opened("model.hidden=[32]"))
    assert len(asked) == 2
    # So is one with weights, which may take pictures at another size; which weights is not.
    model = network_of(first.settings)
    network = build_network(model, NetworkShape(1, 10, (8, 8)))
    for file in (tmp_path / "some.pt", tmp_path / "other.pt"):
        torch.save(network.state_dict(), file)
        resolve.resolve(*opened(f"model.pretrained={file}"))
    assert len(asked) == 3


def test_what_was_measured_with_other_targets_or_of_whole_pictures_is_not_taken(
    tmp_path: Path,
) -> None:
    settings, data = opened("data=digits", f"data.cache_dir={tmp_path}", "model=fcn")
    measured: list[dict[str, Any]] = []

    def kept(**changes: Any) -> bool:
        changed = replace(settings, data=replace(settings.data, **changes))
        measure = lambda: measured.append(changes) or {"seconds": 1}  # noqa: E731
        return resolve._kept("plan", {}, changed, data=data, measure=measure, needed="seconds")[1]

    others = [{"target": "ordinal"}, {"target": "dense"}, {"target": "dense", "fit": "windows"}]
    assert not kept() and kept()
    for changes in others:
        assert not kept(**changes) and kept(**changes)
    assert measured == [{}, *others]


def test_what_was_measured_on_a_busy_machine_is_measured_again_on_an_idle_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = timed_as(monkeypatch, {"float32": 2.0, "bfloat16": 1.0})
    resolve.resolve(*opened())
    (kept,) = (tmp_path / "cache" / "plans").iterdir()
    record = line_content(kept.read_bytes())
    for disturbed, idle, measured in ((False, True, 1), (True, False, 1), (True, True, 2)):
        kept.write_bytes(checked_line(record | {"disturbed": disturbed}))
        monkeypatch.setattr(resolve, "is_idle", lambda idle=idle: idle)
        resolve.resolve(*opened())
        assert len(asked) == measured
    kept.write_text("{")
    resolve.resolve(*opened())
    assert len(asked) == 3


def test_what_is_forced_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = timed_as(monkeypatch, {"float32": 1.0, "bfloat16": 2.0})
    given = ["runtime=float32", "trainer.tta=none", "trainer.monitor=val/accuracy"]
    settings, data = opened(*given)
    assert resolve.resolve(settings, data) == Resolved(settings)
    assert asked == []
    settings, data = opened("runtime.precision=bfloat16", "runtime.threads=1")
    resolved = resolve.resolve(settings, data).settings.runtime
    assert {plan.precision for plan in asked[0]} == {"bfloat16"}
    assert (resolved.precision, resolved.threads) == ("bfloat16", 1)


def test_a_plan_that_was_not_measured_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stand_in(plans: list[TrainingPlan], *_: Any, **__: Any) -> ChosenPlan:
        asked.append(plans)
        return ChosenPlan(plans[-1], reason="bfloat16 is too inaccurate for this network")

    monkeypatch.setattr(resolve, "time_plans", stand_in)
    for count in (1, 2):
        resolved = resolve.resolve(*opened())
        assert len(asked) == count
        assert resolved.timings == ()
        assert resolved.settings.runtime.precision == asked[0][-1].precision
        assert "not measured" in resolved.notes[0] and "too inaccurate" in resolved.notes[0]


def test_what_is_measured_without_time_is_an_estimate_that_is_not_kept(tmp_path: Path) -> None:
    settings, data = opened("data.batch_size=auto", "runtime.threads=1")
    hasty = resolve.resolve(settings, data, deadline=0.0).settings
    assert hasty.data.batch_size == 16, "the first that was tried"
    assert resolve.seconds_per_epoch(hasty, data, deadline=0.0) > 0
    assert not [*(tmp_path / "cache" / "plans").glob("*.json")]
    forced = [f"runtime.{key}={value}" for key, value in to_plain(hasty.runtime).items()]
    settings, data = opened("data.batch_size=16", *forced)
    resolve.seconds_per_epoch(settings, data)
    (kept,) = (tmp_path / "cache" / "plans").glob("*.json")
    assert kept.name.startswith("step-")
    assert resolve.seconds_per_epoch(settings, data, deadline=0.0) > 0


@pytest.mark.parametrize(("threads", "times"), [(1, 3.0), (2, 1.0)])
def test_an_epoch_on_one_thread_takes_what_others_leave_it(
    monkeypatch: pytest.MonkeyPatch, threads: int, times: float
) -> None:
    """Its processor time is kept, and other threads are timed by the clock of the wall."""
    forced = ["precision=float32", "memory_format=contiguous", "compile=false"]
    overrides = ["data.batch_size=16", *(f"runtime.{one}" for one in forced)]
    settings, data = opened(*overrides, f"runtime.threads={threads}", "trainer.accelerator=cpu")
    monkeypatch.setattr(resolve, "slowdown", lambda: 1.0)
    alone = resolve.seconds_per_epoch(settings, data)
    monkeypatch.setattr(resolve, "slowdown", lambda: 3.0)
    monkeypatch.setattr(resolve, "is_idle", lambda: False)
    assert resolve.seconds_per_epoch(settings, data) == pytest.approx(times * alone)


@pytest.mark.parametrize(
    ("stated", "others", "expected"),
    [((), 0.1, 4), ((), 1.2, 3), ((), 4.0, 1), (("runtime.threads=3",), 4.0, 3)],
)
def test_threads_find_a_core_of_their_own_unless_the_user_says_how_many(
    monkeypatch: pytest.MonkeyPatch, stated: tuple[str, ...], others: float, expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(resolve, "others_load", lambda: others)
    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 4)
    torch.set_num_threads(4)
    timed_as(monkeypatch, {"float32": 2.0, "bfloat16": 1.0})
    overrides = (*stated, "trainer.accelerator=cpu")
    resolved = resolve.resolve(*opened(*overrides))
    assert resolved.settings.runtime.threads == expected
    told = f"{expected} thread" in resolved.notes[0] and "other programs" in resolved.notes[0]
    assert told == (expected < 4 and not stated)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert resolve.resolve(*opened(*overrides)).settings.runtime.threads == (3 if stated else 4)


def test_batch_size_and_rate_are_measured_for_real(tmp_path: Path) -> None:
    settings, data = opened("runtime=float32", "data.batch_size=auto", "find_lr=true")
    resolved = resolve.resolve(settings, data)
    size = resolved.settings.data.batch_size
    assert size in (16, 32, 64) and data.batch_size == size  # 1,169 pictures, at least 16 steps
    assert len(next(iter(data.batches("train", training=True))).images) >= size
    assert resolved.rates is not None
    assert resolved.settings.optimizer.lr == resolved.rates.suggestion
    assert not resolved.settings.find_lr, "a resumed run does not look again"
    assert 1e-5 < resolved.rates.suggestion < 1


def test_the_run_holds_what_was_chosen_and_takes_it_up_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # However slow the machine is and whatever it has, there are plans to be timed.
    monkeypatch.setattr("src.training.training_plan._LEAST_ALLOWANCE", 20.0)
    monkeypatch.setattr("src.machine.hardware.has_bfloat16", lambda device: True)
    overrides = [*SMALL, "model.hidden=[32]", "find_lr=true", "data.batch_size=auto"]
    overrides.append(f"output_dir={tmp_path}")
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None and summary.run_dir is not None
    folder = Path(summary.run_dir)
    plain = yaml.safe_load((folder / "config.yaml").read_text())
    assert "auto" not in str([plain["runtime"], plain["data"]["batch_size"]])
    assert (
        json.loads((folder / "choices" / "runtime.json").read_text())["chosen"]
        == (plain["runtime"])
    )
    assert (folder / "choices" / "learning_rate.png").stat().st_size > 5000
    again = read_resumed_settings([f"resume={folder}", "trainer.max_epochs=2"])
    assert to_plain(again.runtime) == plain["runtime"]
    assert resolve.resolve(again, build.build_data(again)).notes == ()
    assert summary.found == ["data.batch_size", "optimizer.lr"]
    longer = run_experiment(again)
    assert longer is not None and longer.found == summary.found


def test_the_threads_of_a_run_are_those_of_no_other(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    overrides = [*SMALL, "model.hidden=[32]", "runtime=float32", f"runtime.threads={before + 1}"]
    overrides.append(f"output_dir={tmp_path}")
    run_experiment(read_run_settings(overrides), lambda *_: seen.append(torch.get_num_threads()))
    assert {*seen} == {before + 1} and torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("pictures", "epochs"), [(1_000, 30), (25_000, 26), (54_000, 12), (1_000_000, 10)]
)
def test_more_pictures_get_fewer_epochs(
    monkeypatch: pytest.MonkeyPatch, pictures: int, epochs: int
) -> None:
    settings, data = opened("runtime=float32", "trainer.max_epochs=auto")
    monkeypatch.setattr(data, "split", SimpleNamespace(train=range(pictures)))
    assert resolve.resolve(settings, data).settings.trainer.max_epochs == epochs


def test_no_rate_to_be_found_is_the_users_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise ValueError("the loss rose from the first step on, whatever the rate")

    monkeypatch.setattr(resolve, "range_test", none)
    with pytest.raises(ConfigError, match="find_lr: the loss rose"):
        resolve.resolve(*opened("runtime=float32", "find_lr=true"))


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (("trainer.devices=2", "trainer.accelerator=cpu"), "runtime.threads", 2),  # of four
        ((), "trainer.tta", "none"),  # digits mean something else in a mirror
        (("data.mirror_ok=true",), "trainer.tta", "flip"),
        (("data.mirror_ok=true", "augment=none"), "trainer.tta", "none"),
        (("augment.flip=true",), "trainer.tta", "flip"),
        (("augment.flip=true", "trainer.tta=shift"), "trainer.tta", "shift"),
    ],
)
def test_what_follows_from_other_settings(
    overrides: tuple[str, ...], key: str, value: object
) -> None:
    torch.set_num_threads(4)
    settings, data = opened("runtime=float32", *overrides)
    assert leaves(to_plain(resolve.resolve(settings, data).settings))[key] == value
