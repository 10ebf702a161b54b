from __future__ import annotations

import math
from pathlib import Path

from src.tracking.history import read_history
from src.tracking.spool import Spool, spool_path


def test_the_last_value_of_each_step_in_order(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.metrics({"val/accuracy": 0.5, "val/loss": 1.0}, step=2)
        spool.metrics({"val/accuracy": 0.25}, step=1)
        spool.metrics({"val/accuracy": math.inf}, step=3)
        spool.metrics({"val/accuracy": 0.75}, step=2, final=True)
    found = read_history(tmp_path, ("val/accuracy", "val/loss", "val/none"))
    assert found["val/accuracy"] == ((1, 0.25), (2, 0.75), (3, math.inf))
    assert found["val/loss"] == ((2, 1.0),) and found["val/none"] == ()


def test_a_torn_line_is_no_value_and_no_record_is_no_history(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.metrics({"a": 1.0}, step=0)
    with spool_path(tmp_path).open("a") as file:
        file.write('nonsense\n{"event": "metrics", "values": {"a": 2.0}, "st')
    assert read_history(tmp_path, ("a",)) == {"a": ((0, 1.0),)}
    assert read_history(tmp_path / "nobody", ("a",)) == {"a": ()}
