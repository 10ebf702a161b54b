from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from src.records.certainty import Certainty, FeatureSample, FeatureScale


def certainty(count: int = 6, *, sample: bool = True) -> Certainty:
    chance = np.random.default_rng(0)
    features = FeatureSample(
        scale=FeatureScale(
            mean=chance.random(4).astype(np.float32),
            deviation=chance.random(4).astype(np.float32),
            length=chance.random(2).astype(np.float32),
        ),
        rows=chance.random((3, 5)).astype(np.float16),
        distances=chance.random(count).astype(np.float32),
        comparable=False,
    )
    return Certainty(
        source="test",
        refitted=False,
        candidates=2,
        pictures=count + 1,
        num_classes=3,
        targets=np.arange(count) % 3,
        label_probs=chance.random(count).astype(np.float32),
        confidences=chance.random(count).astype(np.float32),
        correct=np.arange(count) % 2 == 0,
        sample=features if sample else None,
    )


@pytest.mark.parametrize("sample", [True, False])
def test_what_is_written_is_read(tmp_path: Path, sample: bool) -> None:
    written = certainty(sample=sample)
    written.write(tmp_path / "certainty.npz")
    read = Certainty.read(tmp_path / "certainty.npz")
    assert read is not None
    _assert_equal(read, written)
    assert (read.sample is None) is not sample
    if read.sample is not None and written.sample is not None:
        _assert_equal(read.sample, written.sample)
        _assert_equal(read.sample.scale, written.sample.scale)


@pytest.mark.parametrize("refitted", [True, False])
def test_distances_that_a_refit_measured_itself_do_not_count(
    tmp_path: Path, refitted: bool
) -> None:
    """Earlier versions let it, and did not say whether distances compare."""
    path = tmp_path / "certainty.npz"
    dataclasses.replace(certainty(), refitted=refitted).write(path)
    with np.load(path) as arrays:
        before = {key: arrays[key] for key in arrays if key != "distances_comparable"}
    np.savez(path, **before)
    read = Certainty.read(path)
    assert read is not None and read.outdated == refitted
    assert (read.sample is None) == refitted


def _assert_equal(read: object, written: object) -> None:
    for field in dataclasses.fields(written):  # type: ignore[arg-type]
        value = getattr(written, field.name)
        if not dataclasses.is_dataclass(value):
            np.testing.assert_array_equal(getattr(read, field.name), value)


def test_a_file_that_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "certainty.npz"
    assert Certainty.read(path) is None
    certainty().write(path)
    whole = path.read_bytes()
    for damaged in (b"", b"no archive", whole[:-50], whole[:300]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="holds no calibration"):
            Certainty.read(path)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "certainty.npz"
    np.savez(path, facts=np.array([{"format": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="holds no calibration"):
        Certainty.read(path)


def test_what_does_not_fit_together_is_refused() -> None:
    found = certainty()
    for reason, change in (
        ("differ in length", {"targets": found.targets[1:]}),
        ("names no class", {"targets": found.targets + 1}),
        ("not finite", {"label_probs": found.label_probs * np.nan}),
        ("out of range", {"source": "train"}),
        ("out of range", {"candidates": 0}),
        ("out of range", {"pictures": 2}),
    ):
        with pytest.raises(ValueError, match=reason):
            dataclasses.replace(found, **change)
