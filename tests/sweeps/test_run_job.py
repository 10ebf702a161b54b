"""The runner of a sweep's workers: too little memory, a hundred trainings, several devices."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from src.config.compose import read_run_settings
from src.config.overrides import changed
from src.config.schema import RunSettings
from src.data.decoding.picture_store import PictureLost
from src.data.loading.loaders import Batch
from src.data.splitting.splits import Split
from src.machine.failures import OutOfMemory, RunFailed
from src.records.run import Predictions, RunSummary
from src.runs.candidates.classical import ClassicalCandidate
from src.runs.candidates.network import NetworkCandidate
from src.runs.folder import RunFolder
from src.search.jobs import Ending, Job, NoReports, Note
from src.search.pool import Pool
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from src.sweeps import race
from src.sweeps import run_job as runners
from src.sweeps.families import load_families
from src.sweeps.prepared import Prepared
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import MeasureTest, Prepare, Train, plain_task, read_task
from src.tracking.events import read_events, spool_path
from src.training.task import ClassificationTask
from tests.search.workers.pools import answered, endings, wait_free

pytestmark = pytest.mark.usefixtures("brief_timings")

RUNNER = "src.sweeps.run_job:TrialRunner"

OVERRIDES = ["model=mlp", "data.batch_size=256", "trainer.max_epochs=1", "runtime=float32"]
DEVICES = [
    *("model=mlp", "data.batch_size=32", "runtime=float32", "runtime.threads=1"),
    *("trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=3"),
]


def processes(argument: str) -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile, or an earlier test's has
            if argument in " ".join(one.cmdline()):
                found.append(one)
    return found


def places(output_dir: Path) -> list[str]:
    given = [f"output_dir={output_dir}", "tracking.enabled=false", "evaluate_test=false"]
    return [*given, "tracking.log_model=false", "tracking.figures=false", "trainer.progress=false"]


def job(output_dir: Path, overrides: list[str], resume: str | None = None) -> Job:
    train = Train(
        places(output_dir), "mlp", 0, "n", {}, "0" * 32, "val/accuracy", "maximize", resume
    )
    return Job(plain_task(train), overrides=overrides)


def test_too_little_memory_asks_for_the_same_step_in_smaller_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[RunSettings] = []

    def experiment(settings: RunSettings, *_: Any, **__: Any) -> RunSummary:
        tried.append(settings)
        raise OutOfMemory("there is not enough memory")

    monkeypatch.setattr(runners, "run_experiment", experiment)
    overrides, run = [*OVERRIDES, "trainer.accumulate_batches=3"], TrialRunner()
    ending = run(job(tmp_path, overrides), NoReports())
    assert (ending.state, ending.reason) == ("failed", "there is not enough memory")
    assert ending.again is not None
    smaller = changed(overrides, ending.again["changes"])
    assert len(smaller) == len(overrides), "a key is there twice"
    run(job(tmp_path, smaller), NoReports())
    sizes = [(s.data.batch_size, s.trainer.accumulate_batches) for s in tried]
    assert sizes == [(256, 3), (128, 6)]
    # Everything else is as before, and a person may type it.
    assert read_run_settings(smaller).optimizer == read_run_settings(overrides).optimizer
    single = run(job(tmp_path, changed(overrides, ["data.batch_size=1"])), NoReports())
    assert single.again is None, "there is nothing smaller than one picture"


@pytest.mark.parametrize(
    ("overrides", "advice", "again"),
    [
        (
            ["model=handcrafted"],
            ": choose a smaller data.image_size or a smaller model",
            None,  # there are no batches to halve, and their size may not be given
        ),
        (
            ["model=mlp", "data.batch_size=64", "runtime=float32"],
            " for batches of 64 pictures: try data.batch_size=32",
            {"changes": ["data.batch_size=32", "trainer.accumulate_batches=2"]},
        ),
    ],
)
def test_what_is_advised_and_tried_for_lack_of_memory_may_be_given_to_the_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    advice: str,
    again: dict[str, Any] | None,
) -> None:
    def no_memory(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ClassicalCandidate, "fit", no_memory)
    monkeypatch.setattr(NetworkCandidate, "fit", no_memory)
    ending = TrialRunner()(job(tmp_path, overrides), NoReports())
    assert (ending.state, ending.reason) == ("failed", f"there is not enough memory{advice}")
    assert ending.again == again
    read_run_settings(changed(overrides, (ending.again or {}).get("changes", ())))


def test_a_trial_of_a_copied_study_goes_on_in_the_copy(tmp_path: Path) -> None:
    class Lost(Exception):
        pass

    class Ends(NoReports):
        def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
            if step == 2:
                raise Lost
            return None

    overrides = [*OVERRIDES[:2], "trainer.max_epochs=3", "runtime=float32"]
    with pytest.raises(Lost):
        TrialRunner()(job(tmp_path / "old", overrides), Ends())
    (begun,) = (tmp_path / "old" / "runs").iterdir()
    assert (begun / "checkpoints" / "last.ckpt").is_file()
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    before = {path: path.stat().st_mtime_ns for path in begun.rglob("*")}
    ending = TrialRunner()(job(tmp_path / "new", overrides, str(begun)), NoReports())
    assert ending.state == "complete", ending.reason
    assert ending.result["run_dir"] == str(tmp_path / "new" / "runs" / begun.name)
    assert {path: path.stat().st_mtime_ns for path in begun.rglob("*")} == before
    shutil.rmtree(tmp_path / "new")  # of a run that is not there with the study, nothing is taken
    anew = TrialRunner()(job(tmp_path / "new", overrides, str(begun)), NoReports())
    assert Path(anew.result["run_dir"]).name != begun.name


def test_a_lost_picture_ends_the_sweep_and_costs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise PictureLost("cat/3.png cannot be opened: No such file or directory")

    monkeypatch.setattr(NetworkCandidate, "fit", lose)
    ending = TrialRunner()(job(tmp_path, OVERRIDES), NoReports())
    assert ending.state == "starved" and str(ending.reason).startswith("cat/3.png cannot be opened")


@pytest.mark.parametrize(
    ("size", "fits", "left", "note"),
    [
        (2, 1, [], "left out: there is not enough memory for batches of 2 pictures"),
        (
            256,
            64,
            ["data.batch_size=64", "trainer.accumulate_batches=4"],
            "data.batch_size=64, trainer.accumulate_batches=4, for lack of memory",
        ),
        (
            1,
            0,
            [],
            "left out: there is not enough memory for a single picture: choose a smaller "
            "data.image_size or a smaller model",
        ),
    ],
)
def test_a_family_that_memory_is_too_small_for_is_measured_in_smaller_batches_or_left_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    fits: int,
    left: list[str],
    note: str,
) -> None:
    def step(self: ClassificationTask, batch: Batch, batch_index: int) -> torch.Tensor:
        if len(batch.images) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, batch, batch_index)

    original = ClassificationTask.training_step
    monkeypatch.setattr(ClassificationTask, "training_step", step)
    overrides = changed(OVERRIDES, [f"data.batch_size={size}", "runtime.threads=1"])
    overrides += ["model.batch_norm=false"] if size == 1 else []
    ending = TrialRunner()(
        Job(plain_task(Prepare(places(tmp_path))), overrides=overrides), NoReports()
    )
    assert ending.state == "complete", ending.reason
    known = Prepared(**ending.result)
    assert (known.overrides, known.notes[0]) == (left, note)
    assert known.affordable is (size > 2)


def test_pictures_that_cannot_be_used_are_the_fault_of_no_family(tmp_path: Path) -> None:
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-200])  # its size can be read
    overrides = ["model=mlp", "data=folder", f"data.root={tmp_path / 'pictures'}"]
    overrides += ["data.test_fraction=0", f"data.cache_dir={tmp_path / 'cache'}"]
    task = plain_task(Prepare(places(tmp_path)))
    ending = TrialRunner()(Job(task, overrides=overrides), NoReports())
    assert ending.result == {"wrong_input": "pictures"}
    assert ending.reason.startswith("1 of 6 pictures cannot be used: b/5.png")
    job = Job(task, overrides=[*overrides, "data.on_bad_image=skip", "data.channels=7"])
    assert TrialRunner()(job, NoReports()).result == {"wrong_input": "settings"}


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, not even that of pytest's output: within a test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# The folder's first file, its settings, and the list of the folds.
@pytest.mark.usefixtures("capsys")  # what is printed is in memory
@pytest.mark.parametrize(("further", "size"), [([], 0), ([], 200), (["cv.folds=2"], 200)], ids=str)
def test_a_disk_that_is_full_when_a_trial_begins_does_not_fail_the_trial(
    tmp_path: Path, further: list[str], size: int
) -> None:
    with no_file_above(size):
        ending = TrialRunner()(
            job(tmp_path, [*OVERRIDES, "runtime.threads=1", *further]), NoReports()
        )
    assert ending.state == "starved" and "may not become that large" in str(ending.reason)


def test_a_trial_without_epochs_is_a_run_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    overrides = ["model=handcrafted", "data=digits", "runtime.threads=1", "model.rbf_svm.gamma=0.7"]
    runner, heard = TrialRunner(), Mock()
    heard.report.return_value = None
    kinds = [{}, {"model.classifier": "nearest_mean"}, {"model.classifier": "auto"}]
    task = Prepare(places(tmp_path), seconds=40.0, kinds=kinds)
    ending = runner(Job(plain_task(task), overrides=overrides), heard)
    assert ending.state == "complete", ending.reason
    said = [call.kwargs.get("doing", "") for call in heard.note.call_args_list]
    assert any("timing 2 kinds of classifiers" in line for line in said)
    known = Prepared(**ending.result)
    # What a classifier takes, but for the search, which has a time of its own.
    assert known.fit_seconds.keys() == {"", "model.classifier=nearest_mean"}
    assert 0 < known.fit_seconds["model.classifier=nearest_mean"] < known.fit_seconds[""] < 60
    # About what describing all pictures takes, estimated from a few of them.
    assert 0 < known.seconds_per_epoch < 60
    assert known.epochs == 1 and not known.published and known.all_cores
    # A trial that searches has a quarter of the time for it, and is not begun with less.
    assert known.overrides == ["model.auto.seconds=10.0"]
    assert (known.side, known.search_seconds) == (8, 10.0)
    ending = runner(job(tmp_path, overrides), heard)
    assert ending.state == "complete", ending.reason
    ((epoch, metrics),) = (call.args for call in heard.report.call_args_list)
    assert epoch == 1 and metrics["val/accuracy"] > 0.97
    assert ending.metrics["val/accuracy"] == metrics["val/accuracy"]
    run_dir = heard.note.call_args.kwargs["run_dir"]
    assert (Path(run_dir) / "predictions" / "val.parquet").is_file()


def test_a_training_after_cross_validation_keeps_to_its_limit_of_pictures(tmp_path: Path) -> None:
    runner, channel = TrialRunner(), Mock()
    channel.report.return_value = None
    own = ["model=mlp", "data=digits", "data.train_limit=300", "trainer.max_epochs=1"]
    found = {}
    for overrides in ([*own, "cv.folds=3"], own):
        ending = runner(job(tmp_path, overrides), channel)
        assert ending.state == "complete", ending.reason
        split = Split.read(Path(ending.result["run_dir"]) / "split.csv")
        found[len(overrides)] = len(split.train)
    assert found == {5: 1169, 4: 300}


@pytest.mark.parametrize(("share", "kept"), [("0.25", [(0.25, 0), (0.25, 1)]), ("1.0", [])])
def test_a_worker_keeps_to_its_share_of_each_gpu(
    monkeypatch: pytest.MonkeyPatch, share: str, kept: list[tuple[float, int]]
) -> None:
    monkeypatch.setenv("BAKEOFF_GPU_SHARE", share)
    found: list[tuple[float, int]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: found.append((share, device)),
    )
    TrialRunner()
    assert found == kept


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    pool = Pool(LocalEngine([Slot(None, 1)], RUNNER, tmp_path / "logs"))
    pool.start()
    yield pool
    pool.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_warm_worker_stays_flat_in_memory(pool: Pool, tmp_path: Path) -> None:
    wait_free(pool, 1)  # a worker that has only begun is not to be found by its command
    (worker,) = processes(RUNNER)
    sizes: list[int] = []
    for number in range(101):
        wait_free(pool, 1)
        overrides = changed(
            OVERRIDES, [f"model.hidden=[{64 + 8 * (number % 16)}]", f"seed={number}"]
        )
        pool.give(0, job(tmp_path, overrides))
        stop = "behind" if number % 3 == 2 else None
        ending = endings(pool, stop=lambda _, stop=stop: stop)[0]
        assert ending.state in ("complete", "pruned"), ending.reason
        sizes.append(worker.memory_info().rss)
    assert sizes[100] <= 1.05 * sizes[10], [size >> 20 for size in sizes[::10]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_on_two_devices_is_stopped_killed_and_gone_on_with(
    forking: None, pool: Pool, tmp_path: Path
) -> None:
    facts: dict[str, Any] = {}
    epochs: list[int] = []

    def run(at_report: Callable[[int], None]) -> Ending:
        def go_on(step: int) -> None:
            epochs.append(step)
            at_report(step)

        wait_free(pool, 1)
        pool.give(0, job(tmp_path, DEVICES, facts.get("run_dir")))
        heard = answered(
            pool, lambda heard: any(isinstance(e.message, Ending) for e in heard), go_on
        )
        for event in heard:
            if isinstance(event.message, Note):
                facts.update(event.message.facts)
        ending = heard[-1].message
        assert isinstance(ending, Ending)
        return ending

    def interrupt(epoch: int) -> None:
        pool.interrupt([0])

    def kill(epoch: int) -> None:
        first, *_ = processes("run_job:device_runner")
        first.kill()

    def status() -> str:
        return str(json.loads((Path(facts["run_dir"]) / "summary.json").read_text())["status"])

    assert run(interrupt).state == "interrupted"
    assert epochs == [1], "its run was not told to end"
    assert processes("run_job:device_runner") == []
    ending = run(kill)
    assert (ending.state, ending.reason) == ("interrupted", "its process ended by signal 9")
    assert processes("run_job:device_runner") == [], "the other device trains on"
    ending = run(lambda epoch: None)
    assert ending.state == "complete", ending.reason
    assert status() == "FINISHED" and sorted(set(epochs)) == [1, 2, 3]


def test_parts_are_measured_by_the_costs_of_the_sweep_after_each_epoch_and_at_the_end(
    tmp_path: Path,
) -> None:
    names = [str(digit) for digit in range(10)]
    # Of no symmetry, and in another order than the classes.
    costs = {
        a: {b: float(abs(int(a) - int(b)) + (a > b)) for b in names[::-1]} for a in names[::-1]
    }
    overrides = [
        *OVERRIDES,
        "trainer.accelerator=cpu",
        "trainer.final_weights=last",
        "trainer.ema_decay=0",
        "trainer.monitor=val/cost",
        # Of which the sweep has kept the table: nobody reads the file again.
        "costs=nowhere.csv",
    ]
    train = read_task(job(tmp_path, overrides).task)
    assert isinstance(train, Train)
    reported: list[dict[str, float]] = []

    class Reports(NoReports):
        def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
            reported.append(dict(metrics))
            return None

    task = plain_task(replace(train, costs=costs))
    ending = TrialRunner()(Job(task, overrides=overrides), Reports())
    assert ending.state == "complete", ending.reason
    folder = Path(ending.result["run_dir"])
    held_out = Predictions.read(folder / "predictions" / "val.parquet")
    preds = held_out.probs.argmax(axis=1)
    each = [costs[str(t)][str(p)] for t, p in zip(held_out.targets, preds, strict=True)]
    expected = pytest.approx(sum(each) / len(each))
    assert sum(each) > 0 and ending.metrics["val/cost"] == expected
    assert reported[-1]["val/cost"] == expected
    assert reported[-1]["val/accuracy"] == pytest.approx(ending.metrics["val/accuracy"])
    assert RunSummary.read(folder / "summary.json").metrics["val/cost"] == expected
    # The test part as well, with an interval.
    measure = MeasureTest([], str(folder), train.parent_run_id, costs=costs)
    ending = TrialRunner()(Job(plain_task(measure)), NoReports())
    assert ending.state == "complete", ending.reason
    tested = Predictions.read(folder / "predictions" / "test.parquet")
    preds = tested.probs.argmax(axis=1)
    each = [costs[str(t)][str(p)] for t, p in zip(tested.targets, preds, strict=True)]
    assert sum(each) > 0 and ending.metrics["test/cost"] == pytest.approx(sum(each) / len(each))
    half = 1.96 * np.std(each, ddof=1) / len(each) ** 0.5
    low, high = (ending.metrics[f"test/cost_{end}"] for end in ("low", "high"))
    assert low < ending.metrics["test/cost"] < high
    assert (high - low) / 2 == pytest.approx(half, rel=0.3)
    assert RunSummary.read(folder / "summary.json").metrics["test/cost"] == pytest.approx(
        sum(each) / len(each)
    )


@pytest.mark.parametrize("folds", [None, 3])
def test_what_the_sweep_goes_by_has_an_interval(folds: int | None, tmp_path: Path) -> None:
    own = ["model=handcrafted", "model.features=[raw]", "model.classifier=nearest_mean"]
    overrides = [*own, "data.limit=400", *([] if folds is None else [f"cv.folds={folds}"])]
    train = read_task(job(tmp_path, overrides).task)
    assert isinstance(train, Train)
    task = plain_task(replace(train, metric="val/log_loss", direction="minimize"))
    ending = TrialRunner()(Job(task, overrides=overrides), NoReports())
    assert ending.state == "complete", ending.reason
    folder = RunFolder.open(Path(ending.result["run_dir"]))
    summary = RunSummary.read(folder.summary)
    figure, low, high = (ending.metrics[f"val/log_loss{end}"] for end in ("", "_low", "_high"))
    assert figure == summary.metrics["val/log_loss"]
    if folds is None:
        held_out = Predictions.read(folder.predictions / "val.parquet")
        losses = -np.log(held_out.probs[np.arange(len(held_out.targets)), held_out.targets])
        # A bit more, as few pictures with large losses decide the variance.
        half = 1.1 * 1.96 * losses.std(ddof=1) / len(losses) ** 0.5
    else:
        assert summary.folds is not None
        values = np.array(summary.folds["val/log_loss"])
        # Student's with two degrees of freedom, and the variance of folds that share pictures.
        half = 4.303 * values.std(ddof=1) * (1 / 3 + 1 / 2) ** 0.5
    assert (figure - low, high - figure) == pytest.approx(
        (half, half), rel=0.1 if folds is None else 1e-3
    )
    usual = ("accuracy", "log_loss") if folds else ("accuracy", "auc", "log_loss")
    found = [key for key in ending.metrics if key.endswith("_low")]
    assert found == [f"val/{name}_low" for name in usual]
    assert "val/log_loss_low" not in summary.metrics


def test_what_the_test_part_adds_to_a_run_is_mirrored_by_the_sweep(tmp_path: Path) -> None:
    """The worker may be on another host: with an MLflow and a count of measurements of its own."""
    given = [one.replace("enabled=false", "enabled=true") for one in places(tmp_path)]
    train = Train(given, "mlp", 0, "n", {}, "0" * 32, "val/accuracy", "maximize")
    ending = TrialRunner()(Job(plain_task(train), overrides=OVERRIDES), NoReports())
    assert ending.state == "complete", ending.reason
    folder = RunFolder.open(Path(ending.result["run_dir"]))
    noted: list[Mapping[str, Any]] = []

    class Notes(NoReports):
        def note(self, **facts: Any) -> None:
            noted.append(facts)

    measure = MeasureTest([], str(folder.path), train.parent_run_id)
    ending = TrialRunner()(Job(plain_task(measure)), Notes())
    assert ending.state == "complete", ending.reason
    assert noted == [{"run_dir": str(folder.path)}]
    assert not (tmp_path / "mlflow.db").exists()
    assert not (folder.path / "tracking" / "mirror.json").exists()
    events = [event for event, _ in read_events(spool_path(folder.path))]
    starts = [event["parent_run_id"] for event in events if event["event"] == "start"]
    assert starts == [train.parent_run_id] * 2 and events[-1]["status"] == "FINISHED"
    (line,) = (tmp_path / "test_measurements.jsonl").read_text().splitlines()
    counted = json.loads(line)
    assert ending.result["measured"] == {
        "fingerprint": counted["split"],
        "run_id": counted["run_id"],
    }


def test_workers_import_lightning_before_their_first_job_where_networks_race() -> None:
    """It is half of what they import, or would be in the time of the first network otherwise."""
    races = (["handcrafted", "embedding"], ["handcrafted", "mlp"])
    paths = [race._runner_of(load_families(names, (), None), ()) for names in races]
    code = (
        "import sys; from src.search.workers.worker import factory_of\n"
        f"for path in {paths!r}:\n"
        "    print(factory_of(path).__name__, 'pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["TrialRunner", "False", "TrialRunner", "True"]


def test_a_plugin_is_imported_before_the_files_of_a_run_that_goes_on_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is composed for it, and its settings may name what the plugin registers."""
    (tmp_path / "of_a_worker.py").write_text("")
    monkeypatch.setenv("BAKEOFF_PLUGINS", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def read(_: Any) -> Any:
        assert "of_a_worker" in sys.modules
        raise RunFailed("that is all")

    monkeypatch.setattr(runners, "read_task", read)
    ending = TrialRunner()(job(tmp_path, OVERRIDES), NoReports())
    assert ending.reason == "that is all"


@pytest.mark.parametrize("lost", ["of_a_race.py", "conf/model/thin.yaml", "."])
def test_a_lost_plugin_ends_the_sweep_and_costs_no_trial(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugin"
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "thin.yaml").write_text("defaults: [mlp]\n")
    (folder / "of_a_race.py").write_text("")
    monkeypatch.delitem(sys.modules, "of_a_race", raising=False)  # of the case before
    monkeypatch.setenv("BAKEOFF_PLUGINS", str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def read(_: Any) -> Any:
        raise RunFailed("that is all")

    monkeypatch.setattr(runners, "read_task", read)
    run = TrialRunner()
    assert run(job(tmp_path, OVERRIDES), NoReports()).state == "failed"
    (folder / lost).rename(tmp_path / "aside")
    ending = run(job(tmp_path, OVERRIDES), NoReports())
    place = folder if lost == "." else folder / lost
    assert ending.state == "starved"
    assert (
        ending.reason
        == f"plugins: {place} was removed meanwhile: put it back, and the same command goes on."
    )
    (tmp_path / "aside").rename(folder / lost)
    assert run(job(tmp_path, OVERRIDES), NoReports()).state == "failed"
