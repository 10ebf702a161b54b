from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from benchmarks.commands import kept_answer
from benchmarks.rivals import environment, fit_heads
from benchmarks.rivals.contestants import ask_rival, cpu_seconds_of
from benchmarks.rivals.differences import Difference, compare
from benchmarks.rivals.environment import fetch_package, weight_files
from benchmarks.rivals.parts import Parts, deal
from benchmarks.rivals.protocol import Answer, Rates, Request, epochs_that_fit

# --- the difference and its standard error


def _answers(rng: np.random.Generator, names: Sequence[str], chance: float) -> dict[str, bool]:
    return dict(zip(names, (rng.random(len(names)) < chance).tolist(), strict=True))


def _names(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def _difference(first: dict[str, bool], second: dict[str, bool]) -> NDArray[np.float64]:
    return np.array([float(first[name]) - float(second[name]) for name in first])


def test_with_one_seed_it_is_the_standard_error_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    first, second = (_answers(rng, _names(200), chance) for chance in (0.9, 0.8))
    found = compare([first], [second])
    paired = _difference(first, second)
    assert found.mean == pytest.approx(paired.mean())
    assert found.standard_error == pytest.approx(paired.std(ddof=1) / np.sqrt(200))


def test_with_other_pictures_in_each_seed_it_is_that_of_the_means_of_seeds() -> None:
    rng = np.random.default_rng(1)
    # Seeds that differ far more than pictures explain.
    ours = [_answers(rng, _names(300, f"{s}-"), c) for s, c in enumerate((0.95, 0.5, 0.8))]
    theirs = [_answers(rng, _names(300, f"{s}-"), 0.7) for s in range(3)]
    found = compare(ours, theirs)
    means = np.array([_difference(*pair).mean() for pair in zip(ours, theirs, strict=True)])
    assert found.mean == pytest.approx(means.mean())
    assert found.standard_error == pytest.approx(means.std(ddof=1) / np.sqrt(3))


def test_the_same_answers_in_every_seed_are_no_more_evidence_than_one_seed() -> None:
    rng = np.random.default_rng(2)
    first, second = (_answers(rng, _names(150), chance) for chance in (0.8, 0.7))
    once, thrice = compare([first], [second]), compare([first] * 3, [second] * 3)
    assert thrice.mean == pytest.approx(once.mean)
    assert thrice.standard_error == pytest.approx(once.standard_error)


def test_over_pictures_and_seeds_it_is_as_large_as_the_means_scatter() -> None:
    rng = np.random.default_rng(3)
    seeds, names = 12, _names(100)
    means, variances = [], []
    for _ in range(300):
        # Pictures on which one of the two is better in every seed, and seeds good for one of them.
        picture, seed = rng.normal(0, 0.15, len(names)), rng.normal(0, 0.05, seeds)
        ours = [
            dict(zip(names, (rng.random(len(names)) < 0.5 + picture + one).tolist(), strict=True))
            for one in seed
        ]
        theirs = [_answers(rng, names, 0.5) for _ in range(seeds)]
        found = compare(ours, theirs)
        means.append(found.mean)
        variances.append(found.standard_error**2)
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.25)


def test_behind_is_behind_by_more_than_a_standard_error() -> None:
    assert Difference(-0.02, 0.01).is_behind
    assert not Difference(-0.02, 0.03).is_behind
    assert not Difference(0.02, 0.01).is_behind


def test_contestants_that_saw_other_pictures_are_not_compared() -> None:
    with pytest.raises(ValueError, match="same pictures"):
        compare([{"a": True, "b": True}], [{"a": True, "c": True}])
    with pytest.raises(ValueError, match="same pictures"):
        compare([{"a": True, "b": True}] * 2, [{"a": True, "b": True}])


# --- CPU seconds


@given(
    seconds=st.floats(0, 1e4),
    rates=st.builds(Rates, *[st.floats(1e-3, 1)] * 3),
    pictures=st.tuples(st.integers(1, 5000), st.integers(1, 1000)),
    tuned=st.booleans(),
)
def test_as_many_epochs_are_trained_as_fit(
    seconds: float, rates: Rates, pictures: tuple[int, int], tuned: bool
) -> None:
    train, val = pictures

    def cost(epochs: int) -> float:
        head = train * rates.head + val * rates.validation
        whole = train * rates.all_layers + val * rates.validation
        return head + epochs * whole if tuned else epochs * head

    epochs = epochs_that_fit(seconds, rates, train, val, tuned=tuned)
    assert epochs == 0 or cost(epochs) <= seconds * (1 + 1e-9)
    assert cost(epochs + 1) > seconds * (1 - 1e-9)


_BURN = "import time\nwhile time.process_time() < 0.4: pass"


def test_cpu_seconds_are_those_of_all_processes_of_a_command() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_BURN!r}])"
    assert cpu_seconds_of([sys.executable, "-c", child], {}) >= 0.4
    # Waiting is free.
    assert cpu_seconds_of([sys.executable, "-c", "import time; time.sleep(0.5)"], {}) < 0.4


def test_a_command_that_fails_ends_the_measurement_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match=r"(?s)ended with 3.*out of luck"):
        cpu_seconds_of([sys.executable, "-c", "print('out of luck'); exit(3)"], {})


# --- the parts


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes in two parts, where files of both parts have the same name, and one pair."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            place = folder / part / label
            place.mkdir(parents=True)
            for number in range(12):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    twin = folder / "test" / "cat" / "0.png"
    twin.write_bytes((folder / "train" / "cat" / "0.png").read_bytes())
    return folder


def _contents(files: Sequence[Path]) -> list[bytes]:
    return [file.read_bytes() for file in files]


def test_every_picture_is_in_one_part_and_equal_ones_in_the_same(
    pictures: Path, tmp_path: Path
) -> None:
    parts = deal("pets", pictures, tmp_path / "parts", seed=1)
    train, val = (sorted((parts.known / part).glob("*/*")) for part in ("train", "val"))
    test = sorted(parts.test.iterdir())
    assert len(train) + len(val) + len(test) == 48
    assert len(train) > len(val) > 0 and len(test) > 0
    there = [set(_contents(files)) for files in (train, val, test)]
    assert not (there[0] & there[1] or there[0] & there[2] or there[1] & there[2])
    assert set.union(*there) == set(_contents(list(pictures.rglob("*.png"))))


def test_the_test_part_shows_nothing_but_pictures(pictures: Path, tmp_path: Path) -> None:
    parts = deal("pets", pictures, tmp_path / "parts", seed=1)
    names = [file.name for file in sorted(parts.test.rglob("*"))]
    assert names == [f"{number:05d}.png" for number in range(len(names))]
    assert parts.truth.keys() == set(names)
    assert [parts.truth[name] for name in names] != sorted(parts.truth.values())
    # The classes are the pictures' own.
    for name, label in parts.truth.items():
        content = (parts.test / name).read_bytes()
        assert content in _contents(list(pictures.glob(f"*/{label}/*")))


def test_parts_are_dealt_once_for_a_seed_and_otherwise_for_another(
    pictures: Path, tmp_path: Path
) -> None:
    first, again, other = (
        deal("pets", pictures, tmp_path / folder, seed)
        for folder, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.sources == again.sources
    assert set(first.sources.values()) != set(other.sources.values())
    # What lies there already is taken.
    assert deal("pets", tmp_path / "gone", tmp_path / "a", 1) == first


def test_no_picture_of_the_test_part_may_be_left_out() -> None:
    parts = Parts(Path(), Path(), {"0.png": "cat", "1.png": "dog"}, {"0.png": "a", "1.png": "b"})
    assert parts.right({"0.png": "cat", "1.png": "cat"}) == {"a": True, "b": False}
    with pytest.raises(ValueError, match=r"1\.png"):
        parts.right({"0.png": "cat"})


# --- going on


def test_an_answer_is_asked_for_once(tmp_path: Path) -> None:
    answers = iter([Answer({"0.png": "cat"}, 0.5, 10.0, "a guess")])
    file = tmp_path / "kept" / "answer.json"
    first = kept_answer(file, Answer, lambda: next(answers))
    assert kept_answer(file, Answer, lambda: next(answers)) == first


def test_nothing_is_kept_of_a_contestant_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "answer.json"
    with pytest.raises(SystemExit):
        kept_answer(file, Answer, lambda: sys.exit("too few"))
    assert not file.exists()


def test_what_cannot_be_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="there is no uv"):
        fetch_package("some-package", tmp_path / "some")
    failing = tmp_path / "uv"
    failing.write_text("#!/bin/sh\necho no such index >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(SystemExit, match=r"some-package cannot be installed.*no such index"):
        fetch_package("some-package", tmp_path / "some")
    assert not (tmp_path / "some").exists()


# --- scikit-learn's contestant


@dataclass
class _Painted:
    """A network whose features of a picture are its mean colour, or nothing of use."""

    name: str
    file: str
    given_side: int | None

    @property
    def side(self) -> int:
        return self.given_side or 224

    def features(self, files: Sequence[Path]) -> NDArray[np.float32]:
        if self.name == "blind":
            return np.zeros((len(files), 3), np.float32)
        return np.array([np.asarray(Image.open(file)).mean((0, 1)) for file in files], np.float32)

    def seconds_a_picture(self, files: Sequence[Path]) -> float:
        full = {"sees": 1.0, "blind": 2.0}[self.name]
        return full if self.given_side is None else full * (self.given_side / 224) ** 2


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """Dark and bright pictures: 20 to learn from, 10 to choose by, 10 to label."""
    monkeypatch.setattr(fit_heads, "_Network", _Painted)
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("val", 5), ("test", 5)):
        for label, low in (("dark", 0), ("bright", 128)):
            for number in range(count):
                folder = tmp_path / ("test" if part == "test" else f"known/{part}/{label}")
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(low, low + 128, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{label}{number}.png")
    weights = {"sees": "", "blind": ""}
    return Request(tmp_path / "known", tmp_path / "test", weights, 1000.0, seed=0, threads=1)


def _with(request: Request, seconds: float) -> Request:
    # The process has used some before.
    given = seconds + fit_heads.cpu_seconds_used()
    return Request(request.known, request.test, request.weights, given, 0, 1)


def test_the_network_that_validation_names_labels_the_test_part(request_of: Request) -> None:
    answer = fit_heads.Contestant(_with(request_of, 1000.0)).answer()
    assert all(name.startswith(label) for name, label in answer.labels.items())
    assert len(answer.labels) == 10
    assert answer.validation == 1.0
    assert answer.chosen.startswith("sees, 224 pixels") and "2 networks" in answer.chosen


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        # 30 pictures; 15 % of the seconds are kept for fitting.
        (65.0, "sees, 224 pixels"),  # 60 are needed for the larger one, which is blind
        (40.0, "sees, 224 pixels"),
        (20.0, "sees, 160 pixels"),
        (13.0, "sees, 128 pixels"),
    ],
)
def test_networks_and_pictures_are_as_large_as_the_cpu_seconds_allow(
    request_of: Request, seconds: float, chosen: str
) -> None:
    answer = fit_heads.Contestant(_with(request_of, seconds)).answer()
    assert answer.chosen.startswith(chosen)
    assert "1 network " in answer.chosen


def test_too_few_cpu_seconds_are_refused(request_of: Request) -> None:
    with pytest.raises(SystemExit, match="too few"):
        fit_heads.Contestant(_with(request_of, 2.0)).answer()


@pytest.mark.slow
def test_a_frozen_network_of_timm_labels_pictures_in_a_process_of_its_own(
    request_of: Request, tmp_path: Path
) -> None:
    lite0 = next(iter(weight_files(tmp_path / "weights").items()))
    asked = Request(request_of.known, request_of.test, dict([lite0]), 600.0, 0, 2)
    answer = ask_rival("fit_heads", asked, tmp_path / "scratch", Path(sys.executable))
    assert all(name.startswith(label) for name, label in answer.labels.items())
    assert answer.chosen.startswith("tf_efficientnet_lite0, 224 pixels")
    assert 0 < answer.cpu_seconds < 600
