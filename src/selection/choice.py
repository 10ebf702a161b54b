"""Choose the run that becomes the champion: the one named, or the one a comparison recommends.

Imports no torch, so that mistakes in the settings and the verdict show without delay.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ..config.checks import ConfigError, input_of
from ..config.finished import SelectSettings
from ..config.overrides import without_keys
from ..config.plugins import plugin_overrides
from ..config.schema import RunSettings, stored_settings
from ..data.sources.costs import CostTable
from ..machine.package import command
from ..records.comparison import Comparison, Recommendation, Standing
from ..records.run import RunSummary
from ..reporting.comparison_verdict import caution_sentences, verdict_sentences
from ..reporting.formatting import below_each_other
from ..runs.folder import FOLDS, RunFolder, refuse_unfinished
from ..runs.seal import refuse_changed
from ..runs.settings import seen_from_here
from .comparison import compared
from .comparison.judge import wanted_measure
from .turns import in_turns

__all__ = ["ChosenRun", "choice_command", "choose", "read_chosen"]


@dataclass(frozen=True)
class ChosenRun:
    """A chosen run with the reasons.

    Attributes:
        folder: of the run.
        settings: of its configuration file.
        summary: its own.
        reasons: sentences; none for a run that was named.
        measure: of `RANKING`, that the comparison or the study went by; None for the primary one.
        costs: of the measure "cost".
    """

    folder: RunFolder
    settings: RunSettings
    summary: RunSummary
    reasons: tuple[str, ...] = ()
    measure: str | None = None
    costs: CostTable | None = None


def choose(settings: SelectSettings) -> ChosenRun:
    """Return the run that the settings name, or that the comparison recommends.

    Of the repeats of a configuration the one with the lowest seed is taken, which is unbiased.

    Raises:
        ConfigError: there is no such run, none to compare, it did not finish, or it is a
            cross-validation and no refit is asked for.
    """
    if settings.run is not None:
        run = settings.run if settings.sweep is None else f"{settings.run}:{settings.sweep}"
        with input_of("run"):
            folder = RunFolder.find(run, Path(settings.output_dir))
        chosen = read_chosen(folder, changed=settings.changed)
        print(f"chosen: {chosen.folder.name}")
        return _with_a_model(chosen, settings)
    comparison = compared(settings)
    if settings.choose != "winner":
        comparison = in_turns(comparison, settings.choose)
    standing, why = _taken(comparison.verdict, settings.choose)
    (entrant,) = (one for one in comparison.entrants if one.standing.name == standing.name)
    sentences = verdict_sentences(comparison)
    repeats = [
        read_chosen(RunFolder.open(Path(place)), sentences, changed=settings.changed)
        for place in entrant.run_dirs
    ]
    chosen = min(repeats, key=lambda one: one.summary.seed)
    # `compare` prints all of the verdict, and the model card has it.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if cautions := caution_sentences(comparison.verdict):
        print(below_each_other(cautions, width))
    name = chosen.folder.name
    print(f"chosen: {name if name == standing.name else f'{standing.name} ({name})'}, {why}")
    return _with_a_model(chosen, settings)


def _taken(verdict: Recommendation, rule: str) -> tuple[Standing, str]:
    """Return the candidate that a rule of `select` takes, and why, to be read after its name."""
    faster = "at least 1.5 times as fast as the winner"
    standing, why = {
        "one_se": (verdict.choice, f"{faster} and practically equivalent"),
        "cheapest": (verdict.cheapest or verdict.winner, f"{faster} and statistically tied"),
        "winner": (verdict.winner, ""),
    }[rule]
    if standing is not verdict.winner:
        return standing, why
    alone = len(verdict.standings) == 1
    return standing, "the only candidate" if alone else "the winner of the comparison"


def choice_command(
    comparison: Comparison, part: str, overrides: Sequence[str], made: RunSummary | None = None
) -> str | None:
    """Return the command line that makes the choice of a comparison the champion.

    None if the test part was compared, which must not decide a choice.

    Args:
        comparison: of finished runs.
        part: "val" or "test", that they were compared on.
        overrides: of the command that compared.
        made: the combination among the candidates that the same command made, if it did.
    """
    if part != "val":
        return None
    given = without_keys(overrides, ["ensemble", "subgroup"])
    if made is not None and made.run_dir in comparison.choice.run_dirs:
        place = [one for one in given if one.startswith(("output_dir=", "tracking."))]
        given = [f"run={Path(made.run_dir).name}", *place]
    # Each fold has a model, and none is trained on all pictures.
    folded = (Path(comparison.choice.run_dirs[0]) / FOLDS).is_file()
    return command("select", *plugin_overrides(), *given, *["refit=true"] * folded)


def _with_a_model(chosen: ChosenRun, settings: SelectSettings) -> ChosenRun:
    if chosen.settings.cv.is_whole and not settings.refit:
        raise ConfigError(
            f"run: {chosen.folder.name} is a cross-validation with a model for each fold: set "
            "refit=true to train one on all of their pictures."
        )
    if settings.run is not None and settings.sweep is None:  # nothing was compared
        return chosen
    measure, costs = wanted_measure(settings)
    return replace(chosen, measure=measure, costs=costs if measure == "cost" else None)


def read_chosen(
    folder: RunFolder, reasons: tuple[str, ...] = (), *, changed: str = "refuse"
) -> ChosenRun:
    """Read what is needed of a run that becomes the champion.

    Args:
        folder: of the run.
        reasons: sentences that say why it was taken.
        changed: "refuse", or "use" for one whose files were changed after it had been sealed.

    Raises:
        ConfigError: it did not finish, has no trained model, or was changed and is refused.
    """
    with input_of("run"):
        refuse_unfinished(folder)
    try:
        summary = replace(RunSummary.read(folder.summary), run_dir=str(folder.path))
        plain = folder.plain_settings()
        settings = seen_from_here(stored_settings(plain), folder)
        if not settings.cv.is_whole:
            folder.chosen_checkpoint()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"run: {folder.name} has no trained model to take: {error}.") from error
    with input_of("run"):
        refuse_changed(folder.path, changed)
    if settings.cv.fold is not None:
        raise ConfigError(
            f"run: {folder.name} is a fold of a cross-validation: name the whole "
            "cross-validation, with refit=true."
        )
    return ChosenRun(folder, settings, summary, reasons)
