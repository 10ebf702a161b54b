"""What is done with finished runs on a disk that is full: one sentence, and every file is whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from tests.entries.conftest import Train
from tests.entries.small_disk import on_a_full_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def finished(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the smallest finished run."""
    overrides = ["model=mlp", "model.hidden=[32]", "trainer.max_epochs=1", "runtime=float32"]
    return train(
        tmp_path_factory.mktemp("finished"), *overrides, "tracking=none", "tracking.figures=false"
    )


@pytest.mark.parametrize(
    "command",
    [
        "src.predict run=DISK/runs/RUN images=PICTURE out=DISK/labels.csv",
        "src.compare output_dir=DISK tracking.enabled=false",
        "src.select run=RUN output_dir=DISK tracking.enabled=false",
        "src.export run=DISK/runs/RUN variants=[pt2]",
        "src.evaluate run=DISK/runs/RUN split=val",
        "src.push run=DISK/runs/RUN to=DISK/pushed",
    ],
    ids=lambda value: str(value).partition(" ")[0],
)
def test_it_is_one_sentence_and_what_was_there_is_whole(
    command: str, finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    module, *overrides = (
        argument.replace("RUN", finished.name).replace("PICTURE", str(tmp_path / "a.png"))
        for argument in command.split()
    )
    folder = tmp_path / "mounted"
    folder.mkdir()
    result, disk, kept = on_a_full_disk(
        "300m", folder, environment, module, *overrides, outputs=finished.parents[1]
    )
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "no room for another file in" in last, result.stderr
    assert str(disk) in last and "Traceback" not in result.stderr
    before, after = _digests(finished.parents[1]), _digests(kept)
    assert {name: after.get(name) for name in before} == before
    left = [name for name in after.keys() - before.keys() if kept.joinpath(name).stat().st_size]
    assert not left, "half of something was left"


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
