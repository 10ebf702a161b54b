"""A folder's seal: what was changed, what was added by a command, and what a kill leaves."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.runs.seal import (
    SEAL,
    amending,
    break_seal,
    changed_since,
    read_checked,
    read_seal,
    refuse_changed,
    seal,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for name in ("config.yaml", "summary.json", "predictions/val.parquet", "figures/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "tracking").mkdir()
    (folder / "tracking" / "spool.jsonl").write_text("goes on")
    (folder / "driver.lock").touch()
    seal(folder, run_id="1", name="run")
    return folder


def test_what_is_sealed_and_what_is_not(folder: Path) -> None:
    sealed = read_seal(folder)
    assert sealed is not None and sealed.identity == {"run_id": "1", "name": "run"}
    names = ["config.yaml", "figures/a.png", "predictions/val.parquet", "summary.json"]
    assert [*sealed.files] == names and changed_since(folder, ["*"]) is None
    assert read_checked(folder, folder / "config.yaml", sealed) == (b"config.yaml", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"summary.jsoN", "other contents"), (b"more", "4 bytes in place of 12"), (None, "is gone")],
)
def test_what_was_changed_is_named(folder: Path, content: bytes | None, said: str) -> None:
    path = folder / "summary.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    clause = changed_since(folder)
    assert clause is not None and "summary.json" in clause and said in clause
    with pytest.raises(ValueError, match="changed=use"):
        refuse_changed(folder, "refuse")
    assert changed_since(folder, ["config.yaml"]) is None


def test_a_changed_folder_can_be_used_all_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "summary.json").write_text("other")
    refuse_changed(folder, "use")
    assert "run was changed after it had been sealed" in capsys.readouterr().err
    (folder / "summary.json").write_text("summary.json")
    refuse_changed(folder, "use")
    assert capsys.readouterr().err == ""


def test_a_file_that_nobody_sealed_is_noticed_when_it_is_read(folder: Path) -> None:
    path = folder / "predictions" / "val-repeat1.parquet"
    path.write_text("planted")
    assert read_checked(folder, path, read_seal(folder)) == (
        b"planted",
        "predictions/val-repeat1.parquet was added",
    )


def test_a_folder_without_a_seal_is_taken_as_it_is(folder: Path) -> None:
    break_seal(folder)
    break_seal(folder)
    assert read_seal(folder) is None and changed_since(folder) is None
    with amending(folder, "*"):
        (folder / "summary.json").write_text("other")
    assert not (folder / SEAL).exists()


def test_a_seal_that_was_deleted_is_missed(folder: Path) -> None:
    (folder / "summary.json").write_text('{"status": "FINISHED", "sealed": true}')
    break_seal(folder)
    assert "seal.json is gone" in str(changed_since(folder))
    with pytest.raises(ValueError, match="changed=use"):
        refuse_changed(folder, "refuse")
    for other in ('{"status": "FINISHED"}', '{"status": "KILLED", "sealed": true}'):
        (folder / "summary.json").write_text(other)  # never sealed; it goes on
        assert changed_since(folder) is None


def test_a_damaged_seal_vouches_for_nothing(folder: Path) -> None:
    content = (folder / SEAL).read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 4
        (folder / SEAL).write_bytes(flipped)
        with pytest.raises(ValueError, match="nothing vouches"):
            read_seal(folder)
    assert "damaged" in str(changed_since(folder))


def test_what_a_command_adds_belongs_to_the_seal(folder: Path) -> None:
    with amending(folder, "predictions/test.parquet", "summary.json", "figures/*"):
        (folder / "predictions" / "test.parquet").write_text("new")
        (folder / "summary.json").write_text("newer")
        (folder / "figures" / "a.png").unlink()
    assert changed_since(folder, ["*"]) is None
    sealed = read_seal(folder)
    assert sealed is not None and "predictions/test.parquet" in sealed.files
    assert "figures/a.png" not in sealed.files and sealed.identity == {"run_id": "1", "name": "run"}


def test_amending_forgives_nothing_but_what_is_written_anew(folder: Path) -> None:
    for name in ("summary.json", "config.yaml", "card.md"):
        (folder / name).write_text("forged")
    with amending(folder, "card.md", updated=["summary.json"]):
        (folder / "summary.json").write_text("forged, and more")
        (folder / "card.md").write_text("card")
    sealed = read_seal(folder)
    assert sealed is not None and sealed.faults(folder).keys() == {"summary.json", "config.yaml"}


def test_a_command_that_is_killed_leaves_no_folder_that_seems_changed(folder: Path) -> None:
    with amending(folder, "summary.json"):
        (folder / "summary.json").write_text("newer")
        content = (folder / SEAL).read_bytes()
    (folder / SEAL).write_bytes(content)  # as a kill would have left it
    assert changed_since(folder) is None
    (folder / "config.yaml").write_text("forged")
    assert "config.yaml" in str(changed_since(folder))
    (folder / "config.yaml").write_text("config.yaml")
    with amending(folder, "card.md"):
        (folder / "card.md").write_text("card")
    assert changed_since(folder) is None, "the process may still be at it"
    with amending(folder, "summary.json"):
        pass
    sealed = read_seal(folder)
    assert sealed is not None and sealed.open == () and sealed.faults(folder) == {}
    (folder / "summary.json").write_text("forged")
    assert sealed.faults(folder).keys() == {"summary.json"}


def test_commands_that_write_at_the_same_time_keep_what_each_of_them_seals(folder: Path) -> None:
    with amending(folder, "exports/*"):
        (folder / "exports").mkdir()
        (folder / "exports" / "a.onnx").write_text("half of it")
        with amending(folder, "predictions/train.parquet", updated=["summary.json"]):
            (folder / "predictions" / "train.parquet").write_text("train")
            (folder / "summary.json").write_text("with train")
        assert changed_since(folder, ["*"]) is None, "the export is not over"
        (folder / "exports" / "a.onnx").write_text("all of it")
    sealed = read_seal(folder)
    assert sealed is not None and sealed.open == () and sealed.faults(folder) == {}
    assert {"exports/a.onnx", "predictions/train.parquet"} <= sealed.files.keys()


def test_commands_that_update_one_file_wait_for_each_other(folder: Path) -> None:
    (folder / "summary.json").write_text("0")
    seal(folder)

    def add(_: int) -> None:
        with amending(folder, updated=["summary.json"]):
            count = int((folder / "summary.json").read_text())
            time.sleep(0.01)
            (folder / "summary.json").write_text(str(count + 1))

    with ThreadPoolExecutor(4) as pool:
        [*pool.map(add, range(8))]
    assert (folder / "summary.json").read_text() == "8" and changed_since(folder, ["*"]) is None


def test_a_seal_that_is_broken_meanwhile_stays_broken(folder: Path) -> None:
    with amending(folder, "card.md"):
        break_seal(folder)
    assert read_seal(folder) is None


def test_a_reader_that_comes_while_a_command_seals_anew_sees_no_change(folder: Path) -> None:
    before = read_seal(folder)
    with amending(folder, "summary.json"):
        (folder / "summary.json").write_text("newer")
    assert read_checked(folder, folder / "summary.json", before) == (b"newer", None)
