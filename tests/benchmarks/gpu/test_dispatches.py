"""What a step of the speedrun asks for beside its graphs, which are recorded and replayed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.dispatches import dispatches
from src.data.loading.picture_data import PictureData
from tests.recorded_graphs import RecordedGraph, use_recorded_graphs

CPU = torch.device("cpu")
SMALL = ("recipe=speedrun", "runtime=float32", "data.batch_size=16", "model.widths=[4,4,4]")


def counted(folder: Path) -> dict[str, float]:
    """Operations of a step, by phase; "" for all."""
    (row,) = dispatches(CPU, folder, overrides=SMALL, counts={"train": 200, "val": 16})
    whole, _, parts = row.measured.partition(" in ")
    found = re.findall(r"([a-zA-Z ]+) ([\d.]+) in \d+ us", parts)
    assert sum(float(count) for _, count in found) == float(whole)
    return {"": float(whole)} | {phase.strip(): float(count) for phase, count in found}


def live_there(data: PictureData, device: torch.device) -> bool:
    data._resident = torch.tensor(data.pictures.array)
    return True


# The numbers are exact, for what is launched costs time on any GPU: more of it has to be worth it.
def test_a_step_launches_little_beside_its_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_recorded_graphs(monkeypatch)
    monkeypatch.setattr(PictureData, "live_on", live_there)
    found = counted(tmp_path)
    assert RecordedGraph.replays > 50
    assert found == {
        "": 50,
        "gather": 2,
        "augmentation": 22,
        "network": 1,  # the batch's way into the graph
        "loss": 5,
        "metrics": 5,
        "rest of the step": 0,
        "backward": 9,  # of the loss, and its way into the graph
        "optimizer": 3,
        "schedule": 0,
        "Lightning": 2,
        "callback": 1,  # the loss is looked at, on a CPU alone
    }


def test_without_graphs_the_network_counts(tmp_path: Path) -> None:
    found = counted(tmp_path)
    assert found["network"] > 25 and found["backward"] > 30 and found["optimizer"] > 40
