"""What trials of a family take, as its worker measures or foresees it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from src.config.compose import read_run_settings
from src.data.decoding import opening
from src.data.quality import audit
from src.runs.build import build_data
from src.search.jobs import Job
from src.sweeps import measuring
from src.sweeps.families import name_of_kind
from src.sweeps.measuring import search_seconds
from src.sweeps.prepared import Prepared
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import Prepare, plain_task
from tests.data.pictures import tree
from tests.sweeps.stand_in import Clock
from tests.sweeps.test_run_job import places


@pytest.mark.parametrize(
    ("overrides", "kinds", "seconds"),
    [
        (["model=embedding", "model.auto.seconds=7"], [], 7),
        (["model=embedding", "model.auto.seconds=7", "cv.folds=5"], [], 35),
        (["model=embedding", "model.classifier=rbf_svm"], [], 0),
        # The family's own configuration does not search, and trials of one kind do.
        (["model=handcrafted"], [{"model.classifier": "ridge"}, {"model.classifier": "auto"}], 60),
        (["model=handcrafted"], [{"model.classifier": "ridge"}, {}], 0),
        (["model=mlp"], [{}], 0),
    ],
)
def test_the_search_for_a_classifier_is_a_part_of_what_a_trial_takes(
    overrides: list[str], kinds: list[dict[str, Any]], seconds: float
) -> None:
    assert search_seconds(read_run_settings(overrides), kinds) == seconds


def test_networks_of_other_widths_and_sizes_are_told_by_their_operations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    overrides = ["model=cnn", "data=digits", "runtime=float32", "runtime.threads=1"]
    own = [*overrides, "data.batch_size=64", "trainer.max_epochs=1", "model.widths=[8,16]"]
    variants = [{"model.widths": [8 * n, 16 * n], "model.blocks": 1} for n in (1, 4)]
    few = {"model.widths": [4, 8], "model.blocks": 1}
    large = {**variants[0], "data.image_size": 16}
    task = Prepare(places(tmp_path), seconds=40.0, variants=[*variants, few, large])
    ending = TrialRunner()(Job(plain_task(task), overrides=own), Mock())
    assert ending.state == "complete", ending.reason
    known = Prepared(**ending.result)
    same, wide, narrow, larger = known.longer.values()
    # Sixteen times as much in all convolutions but the first.
    assert same == narrow == 1 and 12 < wide < 16
    assert larger == pytest.approx(4, rel=0.01), "the digits have 8 x 8 pixels"
    assert not known.all_cores


@pytest.mark.parametrize(("allowed", "opened"), [(1e-9, False), (1e9, True)])
def test_pictures_are_not_opened_for_a_network_that_a_few_steps_show_to_be_too_dear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: float, opened: bool
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pictures", {"a": 20, "b": 20})
    seen: list[object] = []
    decode = opening._decode_all
    monkeypatch.setattr(
        opening, "_decode_all", lambda *given, **how: (seen.append(given), decode(*given, **how))[1]
    )
    overrides = ["model=cnn", "data=folder", f"data.root={root}", "runtime=float32"]
    overrides += ["runtime.threads=1", "data.batch_size=8", "trainer.max_epochs=12"]

    def measured(*more: str) -> Prepared:
        given = Prepare(places(tmp_path), 40.0, trial_seconds=allowed, least_epochs=3)
        ending = TrialRunner()(Job(plain_task(given), overrides=[*overrides, *more]), Mock())
        assert ending.state == "complete", ending.reason
        return Prepared(**ending.result)

    known = measured("data.image_size=48")
    assert bool(seen) is opened and known.epochs == 12
    if not opened:
        assert known.seconds > 3 * allowed and known.side == 48 and known.limit == 40.0
        assert "by a few steps" in known.notes[-1]
        # Of a few of the pictures an epoch takes less, and folds are as many trainings.
        monkeypatch.setattr(measuring, "_minimal_seconds", lambda *_: 0.01)  # a picture
        for limit in ("data.train_limit=4", "data.limit=4"):
            few = measured("data.image_size=48", limit)
            assert few.seconds_per_epoch == pytest.approx(4 * 0.01)
        assert measured("data.image_size=48", "cv.folds=5").trainings == 5
    # Published weights have their price by the frozen networks that were measured before.
    assert opened or not seen


def test_a_sweep_is_told_what_was_remarked_about_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they were open already, in another format."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pictures", {"a": 12, "b": 12})
    shutil.copy(root / "a" / "000.png", root / "b" / "copy.png")
    overrides = ["model=handcrafted", "data=folder", f"data.root={root}", "runtime.threads=1"]
    ending = TrialRunner()(Job(plain_task(Prepare(places(tmp_path))), overrides=overrides), Mock())
    assert ending.state == "complete", ending.reason
    copy = "b/copy.png: is an exact copy of a/000.png, but is labelled b, not a"
    assert copy in Prepared(**ending.result).data[3]
    open_already = build_data(read_run_settings(overrides))
    larger = replace(open_already.pictures.format, image_size=(24, 24))
    assert copy in open_already.formatted(larger).remarks[0]


def test_a_stated_size_that_is_not_the_networks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    root = tree(tmp_path / "pictures", {"a": 8, "b": 8}, height=64, width=64)
    overrides = ["model=efficientnet_lite0", "data=folder", f"data.root={root}", "runtime=float32"]
    overrides += ["data.image_size=48", "data.batch_size=2", "trainer.max_epochs=1"]
    ending = TrialRunner()(Job(plain_task(Prepare(places(tmp_path))), overrides=overrides), Mock())
    assert ending.state == "complete", ending.reason
    (note,) = Prepared(**ending.result).notes
    assert "48x48, are enlarged within the network to the 224x224 of its weights" in note


def test_the_sizes_of_pictures_that_would_not_be_known_in_time_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its steps cost is not told then: with more time it is tried again."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(audit, "_FILES_AT_A_TIME", 1)
    root = tree(tmp_path / "pictures", {"a": 20, "b": 20})
    overrides = ["model=cnn", "data=folder", f"data.root={root}", "data.num_workers=1"]
    given = Prepare(places(tmp_path), 1e-3, trial_seconds=1e-9, least_epochs=3)
    ending = TrialRunner()(Job(plain_task(given), overrides=overrides), Mock())
    assert ending.state == "complete", ending.reason
    late = Prepared(**ending.result)
    assert not late.affordable and late.limit == 1e-3
    assert "left out: opening the pictures would take" in late.notes[-1]


def test_other_features_are_told_by_their_number_and_by_what_describing_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    own = ["model=handcrafted", "model.features=[raw]", "model.selection=none", "data=digits"]
    kinds = [{"model.classifier": "logistic"}, {"model.classifier": "auto"}]
    wide = {"model.features": ["scattering"], "model.scattering.orientations": 8}
    same = {"model.features": ["raw"]}
    task = Prepare(places(tmp_path), seconds=40.0, kinds=kinds, variants=[same, wide])
    ending = TrialRunner()(Job(plain_task(task), overrides=own), Mock())
    assert ending.state == "complete", ending.reason
    known = Prepared(**ending.result)
    wider, alike = name_of_kind(wide), name_of_kind(same)
    # Some twenty times as long on an idle machine; a moment's load decides how many, and whether.
    assert known.longer[alike] == 1 and known.longer[wider] > 0
    # The digits have 64 pixels, and 4 x 4 cells of 1 + 8 planes.
    linear, search = ("model.classifier=logistic", "model.classifier=auto")
    fits, times = known.fit_seconds, 16 * 9 / 64
    assert fits[f"{linear} {wider}"] == pytest.approx(times * fits[f"{linear} {alike}"])
    assert fits[f"{linear} {alike}"] == pytest.approx(fits[linear])
    assert fits[f"{search} {wider}"] == pytest.approx(times * known.search_seconds)


def test_pictures_whose_opening_would_not_end_in_time_are_given_up_and_open_ones_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(opening, "_BLOCK_BYTES", 1)  # a picture at a time
    root = tree(tmp_path / "pictures", {"a": 20, "b": 20})
    overrides = ["model=handcrafted", "model.features=[raw]", "data=folder", f"data.root={root}"]
    kinds = [{"model.classifier": "logistic"}]
    runner = TrialRunner()

    def measured(seconds: float | None) -> Prepared:
        task = Prepare(places(tmp_path), seconds, kinds=kinds)
        ending = runner(Job(plain_task(task), overrides=[*overrides, "data.num_workers=1"]), Mock())
        assert ending.state == "complete", ending.reason
        return Prepared(**ending.result)

    late = measured(1e-6)
    assert not late.affordable and late.limit == 1e-6
    assert re.match(r"left out: opening the pictures would take \d+ s", late.notes[-1])
    assert measured(None).affordable
    # Nothing is timed in what is not left, and the trial is known all the same.
    known = measured(1e-6)
    assert known.affordable and known.seconds > 0 and known.fit_seconds == {}
    assert measured(60.0).fit_seconds.keys() == {"model.classifier=logistic"}


class _Stepping(torch.nn.Module):
    """A network whose step takes as long for any number of pictures, or for each of them."""

    def __init__(self, clock: Clock, step: float, picture: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.clock, self.step, self.picture = clock, step, picture
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        self.clock.now += self.step + self.picture * len(images)
        return images.flatten(1).mean(1) * self.weight


@pytest.mark.parametrize(
    ("step", "picture", "most", "expected"),
    [(0.008, 0.0, 128, 0.008 / 128), (0.0, 0.02, 8, 0.02), (0.02, 0.003, 32, 0.02 / 32 + 0.003)],
)
def test_what_a_step_takes_however_few_its_pictures_is_no_bound_of_each(
    monkeypatch: pytest.MonkeyPatch, step: float, picture: float, most: int, expected: float
) -> None:
    clock = Clock()
    both = SimpleNamespace(thread_time=clock, perf_counter=clock)
    monkeypatch.setattr(measuring, "time", both)
    monkeypatch.setattr(measuring, "slowdown", lambda: 1.0)
    network = _Stepping(clock, step, picture)
    settings = read_run_settings(["model=mlp", "trainer.accelerator=cpu"])
    found = measuring._minimal_seconds(network, (1, 8, 8), settings)
    assert found == pytest.approx(expected) and max(network.batches) == most
