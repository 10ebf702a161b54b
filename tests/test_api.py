"""Bakeoff from Python: a candidate, its answers, a race and its verdict."""

from __future__ import annotations

import io
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from src import api
from src.config.checks import ConfigError
from src.records.run import Predictions, RunSummary
from src.records.trials import SweepRecord, TrialRecord
from src.runs.candidates.network import NetworkCandidate
from src.serving.bundle import open_predictor
from src.serving.predictor import Predictor
from src.serving.trust import Promise, Trust

pytestmark = pytest.mark.usefixtures("brief_timings", "blank_figures")
QUICK = ["model=mlp", "trainer.max_epochs=2", "trainer.progress=false"]
QUICK += ["tracking=none", "tracking.figures=false"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def run(outputs: Path) -> api.Run:
    return api.fit("digits", *QUICK, output_dir=outputs)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return np.round(load_digits().images[:6] * 255 / 16).astype(np.uint8)


def test_a_fit_is_a_run_with_its_record(run: api.Run, outputs: Path) -> None:
    assert run.folder.parent == outputs / "runs"
    stored = Predictions.read(run.folder / "predictions" / "val.parquet")
    accuracy = (stored.probs.argmax(axis=1) == stored.targets).mean()
    assert run.metrics["val/accuracy"] == pytest.approx(accuracy)
    assert repr(run) == f"Run('{run.folder}')"


def test_pictures_may_be_arrays_files_bytes_and_folders(
    run: api.Run, digits: np.ndarray, tmp_path: Path
) -> None:
    model = run.model()
    files = []
    for number, pixels in enumerate(digits):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    buffer = io.BytesIO()
    Image.fromarray(digits[0]).save(buffer, "PNG")
    expected = model.probabilities(list(digits))
    assert expected.shape == (6, 10)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
    for pictures in (files, str(tmp_path), f"{tmp_path}/*.png", [Image.open(f) for f in files]):
        np.testing.assert_array_equal(model.probabilities(pictures), expected)
    one = model.probabilities(buffer.getvalue())  # alone, it is computed in another order
    np.testing.assert_allclose(one, expected[:1], rtol=1e-5)
    table = model.predict(tmp_path)
    assert list(table["picture"]) == [str(file) for file in files]
    assert list(table["label"]) == [model.class_names[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(table["probability"], expected.max(axis=1))
    second, first = np.sort(expected)[:, -2:].T
    np.testing.assert_allclose(table["uncertainty"], 1 - (first - second), atol=1e-6)


def test_a_run_that_was_changed_is_refused_as_by_the_commands(
    run: api.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run.folder / "config.yaml"
    before = file.read_bytes()
    file.write_bytes(before + b"# changed\n")
    try:
        with pytest.raises(ConfigError, match=r"run: .*config\.yaml.*changed=use"):
            run.model()
        with pytest.raises(ConfigError, match="changed is 'yes': it must be one of refuse, use"):
            api.load(str(run.folder), changed="yes")
        api.load(run, changed="use")
        assert "it is used all the same" in capsys.readouterr().err
    finally:
        file.write_bytes(before)
    assert run.model().class_names == tuple("0123456789")


def test_a_pickled_model_is_the_path_of_its_run(
    run: api.Run, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.folder.parents[1])
    model = api.load(f"runs/{run.folder.name}", output_dir=".")
    kept = pickle.dumps(model.probabilities)  # as a pool of processes sends it
    assert len(kept) < 1_000
    monkeypatch.chdir(tmp_path)
    found, expected = pickle.loads(kept)(list(digits)), model.probabilities(list(digits))
    np.testing.assert_array_equal(found, expected)
    file = run.folder / "config.yaml"
    before = file.read_bytes()
    file.write_bytes(before + b"# changed\n")
    try:
        with pytest.raises(ConfigError, match="changed=use"):
            pickle.loads(kept)
        pickle.loads(pickle.dumps(api.load(str(run.folder), changed="use")))
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("kind", ["turned", "LA", "P"])
def test_a_picture_of_pillow_is_what_its_file_is(run: api.Run, kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 8, 2), np.uint8)
    file, more = tmp_path / "one.png", dict[str, Any]()
    if kind == "turned":
        image, more = Image.fromarray(pixels[:, :, 0]), {"exif": Image.Exif()}
        more["exif"][0x0112] = 6  # as phones write it
    elif kind == "LA":
        image = Image.fromarray(pixels, "LA")
    else:
        image, more = Image.fromarray(pixels[:, :, 0]).convert("P"), {"transparency": 0}
    image.save(file, **more)
    model = run.model()
    with Image.open(file) as opened:
        found = model.probabilities(opened)
    np.testing.assert_array_equal(found, model.probabilities(file))


def test_own_pictures_are_not_limited_as_those_of_a_request(
    run: api.Run, digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.serving.inputs._MOST_PICTURES", 2)
    for number, pixels in enumerate(digits):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    model = run.model()
    assert len(model.predict(tmp_path)) == 6
    with pytest.raises(ValueError, match="a request of 6 pictures is too large"):
        open_predictor(run.folder / "model").judge(list(digits), None)


def test_columns_of_classes_take_no_others_place() -> None:
    about = {"class_names": ["labels", "cat"], "image_size": [2, 2], "channels": 1}
    settings = {"data": {"target": "multi"}}
    probs = np.array([[0.25, 0.75]], np.float32)
    predictor = Predictor(lambda images: probs, about | {"settings": settings})
    table = api.Model(Path("run"), predictor).predict([np.zeros((2, 2), np.uint8)])
    assert list(table) == ["picture", "labels", "uncertainty", "class labels", "cat"]
    assert table["uncertainty"][0] == pytest.approx(0.5)  # a label has a probability of 1/4
    assert table["labels"][0] == ["cat"] and table["class labels"][0] == 0.25


def test_buffers_are_one_picture_and_grey_of_16_bits_may_have_any_byte_order(
    run: api.Run, digits: np.ndarray
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(digits[0]).save(buffer, "PNG")
    model, deep = run.model(), digits[0].astype(np.uint16) * 257
    expected = model.probabilities(digits[0])
    for one in (bytearray(buffer.getvalue()), memoryview(buffer.getvalue())):
        np.testing.assert_array_equal(model.probabilities(one), expected)
    images = [
        Image.frombytes(mode, (8, 8), deep.astype(order).tobytes())
        for mode, order in (("I;16", "<u2"), ("I;16B", ">u2"))
    ]
    for one in (*images, deep, deep.astype(">u2")):
        np.testing.assert_allclose(model.probabilities(one), expected, atol=1e-3)


def test_pages_of_a_file_are_pictures_where_the_model_learnt_them_so(tmp_path: Path) -> None:
    levels = [10, 120, 250]
    pages = [Image.fromarray(np.full((8, 8), level, np.uint8)) for level in levels]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[1].save(tmp_path / "b.png")

    def light(images: np.ndarray) -> np.ndarray:
        share = images.mean(axis=(1, 2, 3)) / 255
        return np.stack([share, 1 - share], axis=1).astype(np.float32)

    for kind, wanted in (("all", [*levels, 120]), ("first", [10, 120])):
        settings = {"data": {"pages": kind}}
        metadata = {"class_names": ["light", "dark"], "image_size": [8, 8], "channels": 1}
        model = api.Model(tmp_path, Predictor(light, metadata | {"settings": settings}))
        probs = model.probabilities(tmp_path)
        np.testing.assert_allclose(probs[:, 0], np.array(wanted) / 255, atol=1e-6)
        table = model.predict([tmp_path / "a.tif", str(tmp_path / "b.png")])
        files = [str(tmp_path / "a.tif"), str(tmp_path / "b.png")]
        named = [f"{files[0]}#{n}" for n in (1, 2, 3)] if kind == "all" else files[:1]
        assert list(table["picture"]) == [*named, files[1]]
        assert list(table["label"]) == ["light" if level > 127 else "dark" for level in wanted]


def test_what_is_no_picture_is_named(run: api.Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1"):
        run.model().predict([np.zeros((8, 8), np.uint8), b"text"])
    (tmp_path / "broken.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"nothing can be read: .*broken\.png: is no picture"):
        run.model().predict(tmp_path / "broken.png")


def test_files_that_cannot_be_read_are_left_out_and_named_as_by_the_command(
    run: api.Run, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, pixels in enumerate(digits):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    model = run.model()
    whole = model.predict(tmp_path)
    (tmp_path / "2.png").write_bytes(b"text")
    capsys.readouterr()
    table = model.predict(tmp_path)
    assert f"skipped {tmp_path / '2.png'}: is no picture" in capsys.readouterr().err
    assert list(table["label"]) == list(whole.drop(2)["label"])
    assert list(table["picture"]) == list(whole.drop(2)["picture"])
    beside = model.predict([digits[0], tmp_path / "2.png", tmp_path / "3.png"])
    assert list(beside["picture"].isna()) == [True, False] and len(beside) == 2
    # Its rows have no names.
    with pytest.raises(
        ValueError, match=r"2\.png: is no picture.*; of 6 pictures 1 cannot be read"
    ):
        model.probabilities(tmp_path)


def test_what_more_pictures_would_bring_is_a_table_and_a_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = api.fit("digits", *QUICK, output_dir=tmp_path)
    capsys.readouterr()
    forecast = api.scaling(run, "fractions=[0.5]", "factors=[2]", output_dir=tmp_path)
    table = forecast.table()
    assert table["pictures"][2] == 2 * table["pictures"][1]
    assert (table["low"] <= table["figure"]).all() and (table["figure"] <= table["high"]).all()
    assert table["run"][1] == run.folder.name and pd.isna(table["run"][2])
    text = "Twice as many training pictures"
    assert text in str(forecast) and text in forecast._repr_html_()
    assert text not in capsys.readouterr().out  # it is returned, not printed
    with pytest.raises(ConfigError, match="goal is 2"):
        api.scaling(run.folder, "goal=2", output_dir=tmp_path)


def test_wrong_input_is_refused_as_by_the_commands(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        api.fit("digits", "optimizer.lr=-1", output_dir=tmp_path)
    with pytest.raises(ConfigError, match="champion"):
        api.load(output_dir=tmp_path)
    with pytest.raises(ConfigError, match="changes nothing"):
        api.fit("digits", "model=handcrafted", "trainer.max_epochs=1", output_dir=tmp_path)
    with pytest.raises(ConfigError, match="the command `train`"):
        api.fit("digits", *QUICK, "trainer.devices=2", output_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "ends_as"),
    [("SIGINT", KeyboardInterrupt("stopped by SIGINT")), ("SIGTERM", SystemExit(143))],
)
def test_a_run_that_is_stopped_ends_as_other_python_does(
    name: str, ends_as: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        signal.raise_signal(signal.Signals[name])

    monkeypatch.setattr(NetworkCandidate, "fit", stop)
    with pytest.raises(type(ends_as)) as caught:
        api.fit("digits", *QUICK, output_dir=tmp_path)
    assert caught.value.args == ends_as.args
    (folder,) = (tmp_path / "runs").iterdir()
    assert RunSummary.read(folder / "summary.json").status == "KILLED"


def test_a_verdict_on_two_runs(run: api.Run, outputs: Path) -> None:
    other = api.fit("digits", *QUICK, "model.dropout=0.5", "seed=1", output_dir=outputs)
    verdict = api.compare(output_dir=outputs)
    named = api.compare(other.folder, "gap=0.02", run)
    assert str(named.leaderboard()) == str(verdict.leaderboard()) and "of 2.0 points" in str(named)
    with pytest.raises(ConfigError, match="name all of them in one way"):
        api.compare(run, f"runs=[{other.folder.name}]", output_dir=outputs)
    board = verdict.leaderboard()
    assert isinstance(board, pd.DataFrame) and len(board) == 2
    assert board["figure"].is_monotonic_decreasing and set(board["measure"]) == {"accuracy"}
    assert (board["low"] <= board["figure"]).all() and (board["figure"] <= board["high"]).all()
    by_loss = api.compare("metric=log_loss", output_dir=outputs).leaderboard()
    assert (by_loss["low"] <= by_loss["figure"]).all() and set(by_loss["measure"]) == {"log_loss"}
    np.testing.assert_allclose(by_loss["figure"], by_loss["log_loss"], rtol=1e-5)
    assert verdict.choice in set(board["candidate"]) and repr(verdict) == str(verdict)
    assert all(name in str(verdict) for name in board["candidate"])


def test_a_comparison_combines_runs_where_it_is_asked_to(tmp_path: Path) -> None:
    """As the command: the setting is not read and forgotten."""
    overrides = [*QUICK, "trainer.max_epochs=6", "evaluate_test=false"]
    runs = [api.fit("digits", *overrides, f"seed={n}", output_dir=tmp_path) for n in range(2)]
    verdict = api.compare("ensemble=stacking", "tracking.enabled=false", output_dir=tmp_path)
    assert "ensemble" in set(verdict.leaderboard()["family"])
    assert len(list((tmp_path / "runs").iterdir())) == len(runs) + 1
    with pytest.raises(ConfigError, match="subgroup is for the page"):
        api.compare("subgroup=camera", output_dir=tmp_path)


@pytest.mark.parametrize(
    ("call", "overrides", "keywords", "said"),
    [
        (api.fit, ["digits"], {"model": "mlp"}, r'^model: .* given as a text, "model=mlp"'),
        (api.sweep, ["digits"], {"minute": 10}, r"^minute: .* keyword \(did you mean minutes\?"),
        (api.sweep, ["digits"], {"budget": 3}, r"^budget: .* \(did you mean minutes=3\?\)\.$"),
        (api.sweep, ["digits"], {"time_limit": 3}, r"\(did you mean minutes=3\?\)\.$"),
        (api.sweep, ["digits"], {"n_trials": 9}, '"budget.trials=9"'),
        (api.fit, ["digits"], {"epochs": 3}, '"trainer.max_epochs=3"'),
        (api.fit, ["digitz"], {}, r"^data is 'digitz': .* \(did you mean digits\?\)"),
        (api.sweep, ["digitz"], {}, r"\(did you mean digits\?\)"),
        (api.fit, ["folders"], {}, r"^data.root is .*folders': there is no such file or folder"),
        (api.compare, [], {"metric": "log_loss"}, '"metric=log_loss"'),
        (api.fit, ["digits", {"model": "mlp"}], {}, r"is no text: settings are given as"),
    ],
)
def test_a_wrong_argument_is_answered_with_how_it_is_given(
    call: Callable[..., object], overrides: list[Any], keywords: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        call(*overrides, **keywords)


def test_plugins_are_named_as_for_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_PLUGINS", "")  # what the call sets goes with the test
    folder = tmp_path / "plugins of a test"
    (folder / "conf" / "recipe").mkdir(parents=True)
    (folder / "conf" / "recipe" / "of_a_test.yaml").write_text(
        "# @package _global_\nseed: 5\n", encoding="utf-8"
    )
    run = api.fit(
        "digits", f"plugins={folder}", *QUICK, "recipe=of_a_test", output_dir=tmp_path / "out"
    )
    assert run.summary.seed == 5
    assert "plugins of a test" in run.summary.command  # which repeats it


def test_the_leaderboard_of_a_race_is_that_of_its_page() -> None:
    trials = [("complete", 0.5), ("pruned", 0.9), ("complete", 0.8), ("failed", 0.95)]
    record = SweepRecord(
        *("s", ("val/accuracy",), ("maximize",), ("cnn",)),
        tuple(
            TrialRecord(
                *(number, "cnn", state, {}),
                curve=((1, value),),
                objectives=(value,) if state == "complete" else None,
            )
            for number, (state, value) in enumerate(trials)
        ),
    )
    board = api.Sweep(cast("Any", None), record).leaderboard()
    assert list(board["trial"]) == [2, 0, 1, 3]
    assert list(board["val/accuracy"]) == [0.8, 0.5, 0.9, 0.95]


@pytest.mark.slow
def test_five_lines_from_pictures_to_a_champion(
    forking: None, outputs: Path, digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(outputs.parent)
    race = api.sweep(
        "digits",
        *("families=[mlp]", "budget.trials=2", "finalists=1", "finalist_seeds=1"),
        *(
            "trainer.max_epochs=2",
            "workers.count=1",
            "tracking.enabled=false",
            "tracking.figures=false",
        ),
        study="api",
        output_dir=outputs.name,
    )
    monkeypatch.chdir(outputs)  # a relative output_dir is that of the call
    board = race.leaderboard()
    assert len(board) == 2 and set(board["candidate"]) == {"mlp-0", "mlp-1"}
    assert board["val/accuracy"].is_monotonic_decreasing
    assert race.verdict().choice in str(race.verdict())
    assert repr(race) == "Sweep('api', trials=2)"
    model = race.select()
    assert api.load(output_dir=outputs).folder == model.folder
    assert repr(model) == f"Model('{model.folder}', 10 classes)"
    table = model.predict(list(digits), coverage=0.8, max_error=0.9)
    served = open_predictor(model.folder / "model")
    trust = Trust(served.certainty, Promise(coverage=0.8, max_error=0.9))
    _, verdicts = served.judge(list(digits), trust)
    assert list(table["label_set"]) == [list(one.label_set or ()) for one in verdicts]
    assert list(table["answered"]) == [one.answered for one in verdicts]
    np.testing.assert_allclose(table["novelty"], [one.novelty for one in verdicts], atol=1e-6)
    assert len(model.predict(list(digits))) == 6
    for wrong in ({"coverage": "0.9"}, {"coverage": 1.5}, {"classwise": True}, {"max_error": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            model.predict(list(digits), **wrong)  # type: ignore[arg-type]


def test_what_is_asked_of_answers_takes_a_calibration(run: api.Run, digits: np.ndarray) -> None:
    assert "novelty" not in run.model().predict(list(digits))
    with pytest.raises(ConfigError, match=r"coverage: .* makes a run the champion"):
        run.model().predict(list(digits), coverage=0.9)


def test_answers_about_pixels_have_no_sets_of_labels(tmp_path: Path) -> None:
    about = {"class_names": ["wall", "crack"], "image_size": [2, 2], "channels": 1}
    settings = {"data": {"target": "dense"}}
    probs = np.full((1, 2, 2, 2), 0.5, np.float32)
    model = api.Model(tmp_path, Predictor(lambda images: probs, about | {"settings": settings}))
    with pytest.raises(ConfigError, match="the model has a class for every pixel: leave them out"):
        model.predict([np.zeros((2, 2), np.uint8)], coverage=0.9)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"text")
    assert list(model.predict(tmp_path)["picture"]) == [str(tmp_path / "b.png")]


def test_long_steps_are_told_as_the_commands_tell_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a script or a notebook nobody else prints what the modules log."""
    monkeypatch.setattr("src.machine.status._LATER_SECONDS", 0.0)
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    for number in range(40):
        folder = tmp_path / "pets" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    overrides = ["tracking=none", "tracking.figures=false", "model.classifier=nearest_mean"]
    run = api.fit(tmp_path / "pets", "model=handcrafted", *overrides, output_dir=tmp_path / "out")
    said = capsys.readouterr().err
    assert "decoding 40 pictures" in said and "extracting features of" in said
    run.model().predict(tmp_path / "pets")
    assert " of 40 pictures labelled, " in capsys.readouterr().err


def test_the_variables_of_mlflow_count_as_for_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    for begin in (api.fit, api.sweep):
        with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI: it must be the address"):
            begin("digits", output_dir=tmp_path)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI: it must be the address"):
        api.compare(output_dir=tmp_path)
    assert not list(tmp_path.iterdir())
