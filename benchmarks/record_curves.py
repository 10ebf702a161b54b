"""Record learning curves of random configurations, to be replayed by sweep_savings.

python -m benchmarks.record_curves [TABLE ...]

Some twenty minutes of one core a table; a recording that was stopped goes on. The curves lie in
benchmarks/curves/.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna

from benchmarks.fashion_part import write_part
from src.search.jobs import Ending, Job
from src.search.space import Family, Value
from src.sweeps.families import load_families, trial_overrides
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import Train, plain_task

__all__ = ["CURVES", "EPOCHS", "FAMILY"]

CURVES = Path(__file__).parent / "curves"
EPOCHS = 27
FAMILY = "mlp"


@dataclass(frozen=True)
class _Table:
    """What is recorded together.

    Attributes:
        configurations: random ones.
        overrides: that all trainings share; a key named here is not searched.
        fashion_pictures: of Fashion-MNIST's training part that are used; 0 for the digits.
    """

    configurations: int
    overrides: tuple[str, ...] = ()
    fashion_pictures: int = 0


_TABLES = {
    "digits": _Table(200),
    # Few and small pictures to train with, so that hundreds of full trainings are cheap; twice as
    # many to validate with, so that the best of them is no lucky one.
    "fashion_mnist": _Table(
        300,
        ("data=fashion_mnist", "data.image_size=14", "data.val_fraction=0.67"),
        fashion_pictures=3_300,
    ),
}


class _Listener:
    """Keeps what a training reports."""

    def __init__(self) -> None:
        self.curve: list[float] = []

    def note(self, **facts: object) -> None:
        return None

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.curve.append(round(metrics["val/accuracy"], 5))


def record(name: str) -> None:
    """Train every configuration of a table to its end; what is written already is kept."""
    table, path = _TABLES[name], CURVES / f"{name}.json"
    recorded = json.loads(path.read_text()) if path.exists() else []
    runner = TrialRunner()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        base = _base(table, folder)
        (family,) = load_families([FAMILY], base)
        for number in range(len(recorded), table.configurations):
            values = _random_values(family, number)
            listener = _Listener()
            job = _job(family, base, values, folder)
            ending = runner(job, listener)
            if ending.state == "interrupted":
                return
            recorded.append({"values": values, "curve": listener.curve, "state": ending.state})
            print(f"{name} {number}: {_told(listener.curve, ending)}", flush=True)
            path.parent.mkdir(exist_ok=True)
            path.write_text("[\n" + ",\n".join(json.dumps(one) for one in recorded) + "\n]\n")


def _base(table: _Table, folder: Path) -> list[str]:
    overrides = [
        f"trainer.max_epochs={EPOCHS}",
        "runtime=float32",
        "runtime.threads=1",
        *table.overrides,
    ]
    if not table.fashion_pictures:
        return overrides
    write_part(folder, table.fashion_pictures)
    places = [f"data.root={folder}", f"data.cache_dir={folder / 'cache'}"]
    return [*overrides, *places, "data.batch_size=64"]


def _random_values(family: Family, number: int) -> dict[str, Value]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return family.draw(study.ask())


def _job(family: Family, base: list[str], values: dict[str, Value], folder: Path) -> Job:
    task = Train(
        places=[
            *("tracking=none", "tracking.log_model=false", "tracking.figures=false"),
            *("evaluate_test=false", "trainer.progress=false", f"output_dir={folder / 'runs'}"),
        ],
        family=family.name,
        trial=0,
        name="recorded",
        tags={},
        parent_run_id="0" * 32,
        metric="val/accuracy",
        direction="maximize",
    )
    return Job(plain_task(task), EPOCHS, overrides=trial_overrides(family, base, values))


def _told(curve: list[float], ending: Ending) -> str:
    return f"{curve[-1] if curve else 'nothing'} {ending.reason or ''}"


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for asked in sys.argv[1:] or _TABLES:
        record(asked)
