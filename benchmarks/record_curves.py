"""Record learning curves of random configurations, to be replayed by sweep_savings.

python -m benchmarks.record_curves

Half an hour on two cores. The curves lie in benchmarks/curves/.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import optuna

from benchmarks.fashion_part import write_part
from src.race.families import load_families, words_of
from src.race.runner import TrialRunner
from src.search.space import Family, Value
from src.search.workers.process import Ending

__all__ = ["CURVES", "EPOCHS", "FAMILY"]

CURVES = Path(__file__).parent / "curves"
EPOCHS = 27
FAMILY = "mlp"
_CONFIGURATIONS = 120
_FASHION_PICTURES = 3_000


class _Listener:
    """Keeps what a training reports."""

    def __init__(self) -> None:
        self.curve: list[float] = []

    def note(self, **facts: object) -> None:
        return None

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        self.curve.append(round(metrics["val/accuracy"], 5))


def _record(name: str, base: list[str], folder: Path) -> None:
    (family,) = load_families([FAMILY], base)
    runner = TrialRunner()
    recorded = []
    for number in range(_CONFIGURATIONS):
        values = _random_values(family, number)
        listener = _Listener()
        ending = runner(_job(family, base, values, folder), listener)  # type: ignore[arg-type]
        recorded.append({"values": values, "curve": listener.curve, "state": ending.state})
        print(f"{name} {number}: {_last(listener.curve)} {_why(ending)}", flush=True)
        CURVES.mkdir(exist_ok=True)
        (CURVES / f"{name}.json").write_text(
            "[\n" + ",\n".join(json.dumps(one) for one in recorded) + "\n]\n"
        )


def _random_values(family: Family, number: int) -> dict[str, Value]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    return family.draw(study.ask())


def _job(
    family: Family, base: list[str], values: dict[str, Value], folder: Path
) -> dict[str, object]:
    return {
        "do": "train",
        "words": words_of(family, base, values),
        "places": [
            *("tracking=none", "tracking.log_model=false", "tracking.figures=false"),
            *("evaluate_test=false", "trainer.progress=false", f"output_dir={folder / 'runs'}"),
        ],
        "command": "python -m src.train",
        "name": "recorded",
        "tags": {},
        "parent_run_id": "0" * 32,
        "metric": "val/accuracy",
        "direction": "maximize",
    }


def _last(curve: list[float]) -> str:
    return f"{curve[-1]:.4f}" if curve else "nothing"


def _why(ending: Ending) -> str:
    return "" if ending.reason is None else ending.reason


def main() -> None:
    """Record both data sets."""
    usual = [f"trainer.max_epochs={EPOCHS}", "runtime=float32", "runtime.threads=1"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _record("digits", usual, folder)
        write_part(folder, _FASHION_PICTURES)
        part = ["data=fashion_mnist", f"data.root={folder}", f"data.cache_dir={folder / 'cache'}"]
        _record("fashion", [*usual, *part, "data.batch_size=128"], folder)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    main()
