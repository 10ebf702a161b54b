"""Faults of studies: their journals and the records beside them."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage

from src.search.storage import Journal
from src.storage.digests import checked_json
from tests.verification.test_verifying import faults_of, study_of


@pytest.mark.parametrize("garbage", [b"", b"\0\0\0\0", b"garbage", b"[1]", b'{"op_code":5}x'])
def test_a_repaired_journal_gives_no_trial_another_ones_values(
    tmp_path: Path, garbage: bytes
) -> None:
    folder = tmp_path / "sweeps" / "s"
    truth = dict(study_of(folder))
    path = folder / "study.journal"
    whole = path.read_bytes().splitlines()
    for number in range(1, len(whole)):
        lines = [*whole]
        lines[number] = garbage
        path.write_bytes(b"\n".join(lines) + b"\n")
        if number < len(whole) - 1:
            with pytest.raises(ValueError, match=r"src\.verify"):
                Journal(path)
        (fault,) = faults_of(tmp_path, "study=s", "repair=true")
        assert fault.repaired and f"line {number + 1}" in fault.what
        assert faults_of(tmp_path, "study=s") == []
        journal = Journal(path)
        study = optuna.load_study(storage=JournalStorage(journal), study_name="s")
        trials = study.trials
        complete = {one.number: one.value for one in trials if one.state.name == "COMPLETE"}
        assert complete.items() <= truth.items()
        assert len(complete) >= len(truth) - 1
        assert all(len(one.params) == 2 for one in trials if one.state.name == "COMPLETE")
        study.tell(study.ask(), 1.0)
        journal.close()


def test_a_journal_that_has_lost_its_beginning_is_not_repaired(tmp_path: Path) -> None:
    study_of(tmp_path / "sweeps" / "s")
    path = tmp_path / "sweeps" / "s" / "study.journal"
    path.write_bytes(b"x" + path.read_bytes())
    before = path.read_bytes()
    (fault,) = faults_of(tmp_path, "repair=true")
    assert not fault.repaired and "begin a new study" in fault.remedy
    assert path.read_bytes() == before


def test_a_journal_that_lost_its_end_is_told_by_the_record(tmp_path: Path) -> None:
    """Cut between two lines it is whole by itself."""
    folder = tmp_path / "sweeps" / "s"
    states = study_of(folder)
    journal = folder / "study.journal"
    again = Journal(journal)
    storage = JournalStorage(again)
    storage.set_study_system_attr(0, "bakeoff:refits", {"0": {"1": {"run_dir": "x"}}})
    again.close()
    trials = [{"number": number, "state": "complete"} for number, _ in states]
    finalists = [{"trial": 0, "run_dirs": {"1": "x"}}]
    record = checked_json({"trials": trials, "finalists": finalists})
    (folder / "sweep.json").write_bytes(record)
    (folder / "config.yaml").write_text("storage: null\n")
    assert faults_of(tmp_path, "study=s") == []
    lines = journal.read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        journal.write_bytes(b"".join(lines[:count]))
        for overrides in ([], ["repair=true"]):
            (fault,) = faults_of(tmp_path, "study=s", *overrides)
            assert fault.place == journal and not fault.repaired
    journal.unlink()
    assert [fault.what for fault in faults_of(tmp_path, "study=s")] == ["it is gone, with 4 trials"]
    (folder / "config.yaml").write_text("storage: sqlite:///study.db\n")
    assert faults_of(tmp_path, "study=s") == []


@pytest.mark.parametrize(
    ("number", "state", "said"),
    [
        (2, "pruned", "trial 2 is complete in it, and pruned in sweep.json"),
        (4, "failed", "it has 4 trials, and sweep.json tells of 5"),
        (4, "running", "it has 4 trials, and sweep.json tells of 5"),
    ],
)
def test_a_record_of_other_trials_than_the_journal_has(
    tmp_path: Path, number: int, state: str, said: str
) -> None:
    folder = tmp_path / "sweeps" / "s"
    study_of(folder)
    trials = [{"number": number, "state": state}]
    (folder / "sweep.json").write_bytes(checked_json({"trials": trials, "finalists": []}))
    (fault,) = faults_of(tmp_path)
    assert fault.place == folder / "study.journal" and said in fault.what


def test_a_journal_may_be_ahead_of_the_record(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "s"
    study_of(folder)
    trials = [{"number": 0, "state": "complete"}, {"number": 1, "state": "running"}]
    (folder / "sweep.json").write_bytes(checked_json({"trials": trials, "finalists": []}))
    assert faults_of(tmp_path) == []
