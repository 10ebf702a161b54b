"""What is said of models on small sets of pictures, held against thousands of further pictures.

Each draw is a set of 1,000 pictures of Fashion-MNIST. Three candidates are trained, compared and
selected by the functions that the commands call, and what is said with a probability is counted
against 4,000 pictures that are in no draw.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from benchmarks.commands import environment
from benchmarks.table import Row
from src.api import Model, compare, fit, load
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.finished import SelectSettings
from src.data.sources.fashion_mnist import load as fashion_mnist
from src.records.run import RunSummary
from src.selection.choice import choose
from src.selection.select import select

__all__ = ["measure"]

_PICTURES, _TRUTH, _COVERAGE, _ERROR = 1000, 4000, 0.9, 0.1
_MLP = ("model=mlp", "model.hidden=[64]", "augment=none", "data.batch_size=32")
_FLAT = ("model=handcrafted", "model.features=[raw]", "data.mirror_ok=false")
_CANDIDATES = (
    (*_MLP, "trainer.max_epochs=6"),
    (*_FLAT, "model.classifier=logistic"),
    (*_FLAT, "model.classifier=nearest_mean"),
)
_PARTS = ("data.val_fraction=0.2", "data.test_fraction=0.3")
_LONG = (*_MLP, "trainer.max_epochs=15")
_FOLDED = (*_LONG, "cv.folds=5", "data.test_fraction=0")
_FURTHER = ("tracking=none", "tracking.figures=false", "evaluate_test=false")

Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class _Found:
    """What held in one draw.

    Attributes:
        winner, lines, behind: whether its interval, all, and all distances to the best hold.
        kept: whether the truly best candidate is among the tied.
        corrected, measured: by what the winner's corrected and measured figures are too good.
        tested: whether the interval of the test accuracy holds the champion's true one.
        covered: share of true labels that the champion's sets hold.
        error: share of wrong answers among those with a guaranteed error; None where none is given.
    """

    winner: bool
    lines: bool
    behind: bool
    kept: bool
    corrected: float
    measured: float
    tested: bool
    covered: float
    error: float | None


def measure(draws: int = 40, folded: int = 10, described: int = 4) -> list[Row]:
    """Counts over draws.

    Args:
        draws: of three candidates each.
        folded: draws of a network that is cross-validated and refitted.
        described: draws of a classifier on the features of a network of the same training part.
    """
    with tempfile.TemporaryDirectory() as name, environment(BAKEOFF_CACHE=f"{name}/cache"):
        folder = Path(name)
        truth, pool = _divided(folder)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            found = [_drawn(folder, truth, pool, draw) for draw in range(draws)]
            flagged = [_flagged(folder, truth, pool, draw) for draw in range(folded)]
            own = [_described(folder, truth, pool, draw) for draw in range(described)]
    return [*_counts(found), *_means(found, flagged, [one[0] for one in own]), _too_sure(own)]


def _divided(folder: Path) -> tuple[Pictures, Pictures]:
    source = fashion_mnist(None, folder, True)
    images, labels = np.asarray(source.arrays)[:, 0], np.asarray(source.targets)
    order = np.random.default_rng(0).permutation(len(labels))
    first, rest = order[:_TRUTH], order[_TRUTH:]
    return (images[first], labels[first]), (images[rest], labels[rest])


def _written(folder: Path, pool: Pictures, draw: int) -> str:
    drawn = np.random.default_rng(draw).permutation(len(pool[1]))[:_PICTURES]
    file = folder / f"set{draw}.npz"
    np.savez(file, images=pool[0][drawn], labels=pool[1][drawn])
    return str(file)


def _drawn(folder: Path, truth: Pictures, pool: Pictures, draw: int) -> _Found:
    root, out = _written(folder, pool, draw), folder / f"out{draw}"
    common = (*_PARTS, *_FURTHER, f"data.split_seed={draw}", f"seed={draw}")
    runs = [fit(root, *one, *common, output_dir=out) for one in _CANDIDATES]
    true = {str(run.folder): _accuracy(run.model(), truth) for run in runs}
    comparison = compare(*runs, output_dir=out).comparison
    figures = [true[one.run_dirs[0]] for one in comparison.entrants]
    lines = [one.standing for one in comparison.entrants]
    behind = [
        one.behind.low <= figure - max(figures[:at] + figures[at + 1 :]) <= one.behind.high
        for at, (one, figure) in enumerate(zip(lines, figures, strict=True))
    ]
    held = [figure in one.interval for one, figure in zip(lines, figures, strict=True)]
    model = _selected(f"run={comparison.entrants[0].run_dirs[0]}", f"output_dir={out}")
    own, metrics = _accuracy(model, truth), RunSummary.read(model.folder / "summary.json").metrics
    sets = model.predict(list(truth[0]), coverage=_COVERAGE)["label_set"]
    return _Found(
        winner=held[0],
        lines=all(held),
        behind=all(behind),
        kept=lines[int(np.argmax(figures))].tied,
        corrected=comparison.verdict.corrected - figures[0],
        measured=lines[0].figure - figures[0],
        tested=metrics["test/accuracy_low"] <= own <= metrics["test/accuracy_high"],
        covered=float(np.mean([str(k) in one for k, one in zip(truth[1], sets, strict=True)])),
        error=_answered_error(model, truth),
    )


def _selected(*overrides: str) -> Model:
    asked = compose_settings(SelectSettings, [*overrides])
    return load(select(choose(asked), asked).run, output_dir=asked.output_dir)


def _accuracy(model: Model, truth: Pictures) -> float:
    names = np.array([int(name) for name in model.class_names])
    preds = names[model.probabilities(list(truth[0])).argmax(axis=1)]
    return float((preds == truth[1]).mean())


def _answered_error(model: Model, truth: Pictures) -> float | None:
    try:
        found = model.predict(list(truth[0]), max_error=_ERROR)
    except ConfigError:  # the test pictures do not suffice
        return None
    answered = found["answered"].to_numpy(bool)
    wrong = found["label"].to_numpy() != truth[1].astype(str)
    return float(wrong[answered].mean()) if answered.any() else 0.0


def _flagged(folder: Path, truth: Pictures, pool: Pictures, draw: int) -> float:
    """Return the share of new pictures that a network flags that folds calibrate."""
    root, out = _written(folder, pool, draw), folder / f"folded{draw}"
    run = fit(root, *_FOLDED, *_FURTHER, f"data.split_seed={draw}", output_dir=out)
    model = _selected(f"run={run.folder}", f"output_dir={out}", "refit=true")
    return float(model.predict(list(truth[0]))["unlike"].mean())


def _described(folder: Path, truth: Pictures, pool: Pictures, draw: int) -> tuple[float, float]:
    """Return the share of new pictures flagged, and by what probabilities exceed the accuracy.

    Of a classifier on the features of a network that was trained on the same pictures.
    """
    root, out = _written(folder, pool, draw), folder / f"described{draw}"
    common = (*_PARTS, *_FURTHER, f"data.split_seed={draw}", f"seed={draw}")
    network = fit(root, *_LONG, *common, output_dir=out)
    model = ("model=embedding", f"model.run={network.folder}", "model.classifier=logistic")
    run = fit(root, *model, *common, output_dir=out)
    answers = _selected(f"run={run.folder}", f"output_dir={out}").predict(list(truth[0]))
    right = answers["label"].to_numpy() == truth[1].astype(str)
    return float(answers["unlike"].mean()), float(answers["probability"].mean() - right.mean())


def _too_sure(own: Sequence[tuple[float, float]]) -> Row:
    points = ", ".join(f"{100 * one[1]:.0f}" for one in own)
    return Row(
        "probabilities of such a classifier exceed the share of right answers by",
        f"{points} points",
        "said by the run",
        True,
    )


def _counts(found: Sequence[_Found]) -> list[Row]:
    count = len(found)
    most = int(binom.ppf(0.975, count, 0.05))  # more of one in twenty are no chance
    errors = [one.error for one in found if one.error is not None]
    misses = {
        "the winner's interval misses": [not one.winner for one in found],
        "one of all intervals misses": [not one.lines for one in found],
        "one of all distances to the best does": [not one.behind for one in found],
        "the truly best is left out of the tied": [not one.kept for one in found],
        "the interval of the test accuracy misses": [not one.tested for one in found],
        f"an error of 10 %, guaranteed in {len(errors)}, is exceeded": [e > _ERROR for e in errors],
    }
    return [
        Row(f"{name}, of {count} draws", str(sum(one)), f"{most} at most", sum(one) <= most)
        for name, one in misses.items()
    ]


def _means(
    found: Sequence[_Found], flagged: Sequence[float], described: Sequence[float]
) -> list[Row]:
    measured = 100 * np.mean([one.measured for one in found])
    figures = {
        f"corrected figure, too good by ({measured:+.1f} as measured)": (
            [one.corrected for one in found],
            0,
        ),
        "sets of labels at 90 %, coverage": ([one.covered for one in found], 90),
        "new pictures flagged by a refit of folds": (flagged, 1),
        "the same by a classifier on features of its own network": (described, 1),
    }
    rows = []
    for name, (values, wanted) in figures.items():
        mean = 100 * float(np.mean(values))
        error = 100 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
        rows.append(
            Row(
                f"{name}, mean of {len(values)} draws (standard error)",
                f"{mean:.1f} ({error:.1f}) %",
                f"{wanted} %, but for two standard errors",
                bool(abs(mean - wanted) <= 2 * error),
            )
        )
    return rows
