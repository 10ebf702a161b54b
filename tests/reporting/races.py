"""Records of sweeps that never ran, of any size and with everything that may go wrong in them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from src.records.trials import COMPLETE, FAILED, PRUNED, Finalist, SweepRecord, TrialRecord

EPOCHS = 9
FAMILIES = (
    "cnn", "mlp", "fcn", "gru", "lstm", "renet", "vit", "hog", "resnet", "mixer", "convnext", "rnn",
)  # fmt: skip


def race(
    trials: int,
    families: int = 3,
    *,
    metric: str = "val/accuracy",
    seed: int = 0,
    lost: float = 0.1,
) -> SweepRecord:
    """A study in which a third of the trials is pruned and a share of them `lost`."""
    rng = np.random.default_rng(seed)
    names = FAMILIES[:families]
    minimise = metric in ("val/loss", "cost/latency_ms")
    found = [_trial(n, names[n % families], rng, minimise, lost) for n in range(trials)]
    base = SweepRecord(
        study="fashion",
        metrics=(metric,),
        directions=("minimize" if minimise else "maximize",),
        families=names,
        trials=tuple(found),
        commands={t.number: f"python -m src.train {' '.join(t.overrides)}" for t in found},
        importances={name: _shares(rng) for name in names},
        seconds=sum(t.seconds or 0.0 for t in found),
    )
    ranked = base.ranked()
    if not ranked:
        return base
    finalists = tuple(
        Finalist(t.number, {0: t.value, 1: (t.value or 0.0) - 0.01, 2: None}) for t in ranked[:3]
    )
    test = {"test/accuracy": 0.9512, "test/accuracy_low": 0.9333, "test/accuracy_high": 0.9701}
    return dataclasses.replace(
        base, finalists=finalists, winner=ranked[0].number, test=test, test_measurements=1
    )


def _trial(
    number: int, family: str, rng: np.random.Generator, minimise: bool, lost: float
) -> TrialRecord:
    values: dict[str, Any] = {
        "optimizer.lr": float(f"{10 ** rng.uniform(-4, -1):.4g}"),
        "model.width": int(rng.integers(8, 65)),
        "optimizer": str(rng.choice(["sgd", "adamw", "muon"])),
        "model.hidden": [[64], [128, 64], None][rng.integers(3)],
    }
    if values["optimizer"] == "sgd":
        values["optimizer.momentum"] = float(rng.uniform(0, 0.99))
    top = 0.97 - 0.02 * FAMILIES.index(family) - 0.1 * abs(math.log10(values["optimizer.lr"]) + 2.5)
    noise = rng.normal(0, 0.005, EPOCHS)
    accuracies = [top * (1 - 0.6 * math.exp(-e / 2)) + noise[e] for e in range(EPOCHS)]
    scores = [1 - a if minimise else a for a in accuracies]
    curve = tuple((epoch, float(score)) for epoch, score in enumerate(scores, 1))
    words = (f"model={family}", *(f"{key}={value}" for key, value in values.items()))
    state = FAILED if rng.random() < lost else PRUNED if rng.random() < 0.33 else COMPLETE
    whole = TrialRecord(
        number=number,
        family=family,
        state=state,
        values=values,
        overrides=words,
        curve=curve,
        seconds=float(rng.uniform(2, 20)),
        is_default=number < len(FAMILIES) and FAMILIES[number] == family,
        run_id=f"{number:08x}",
    )
    if state == FAILED:
        told = "the loss became NaN in epoch 2"
        return dataclasses.replace(whole, curve=((1, curve[0][1]), (2, math.nan)), reason=told)
    if state == PRUNED:
        told = "no better than the median at epoch 3"
        return dataclasses.replace(whole, curve=curve[:3], best=curve[2][1], reason=told)
    best = min(scores) if minimise else max(scores)
    figures = {
        "cost/parameters": float(values["model.width"] ** 2 * 100),
        "cost/latency_ms": float(rng.lognormal(0, 1)),
        "cost/flops": float(values["model.width"] ** 2 * 10_000),
    }
    return dataclasses.replace(whole, objectives=(curve[-1][1],), best=float(best), figures=figures)


def _shares(rng: np.random.Generator) -> dict[str, float]:
    keys = ("optimizer.lr", "model.width", "optimizer", "model.hidden")
    return dict(zip(keys, rng.dirichlet(np.ones(len(keys))).tolist()))
