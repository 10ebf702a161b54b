"""Compare the finished runs that the settings name, and group them into candidates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...config.checks import ConfigError
from ...config.finished import ComparisonSettings
from ...data.sources.costs import CostTable
from ...data.splitting.splits import Split
from ...data.splitting.test_usage import anything_measured, past_test_measurements
from ...machine.package import command
from ...machine.spare_cores import SpareCores
from ...machine.text import nearest
from ...metrics.summary import metric_name
from ...records.comparison import Comparison, Entrant, FoldTest, Pair, Recommendation, Standing
from ...reporting.formatting import settings_text
from ...runs.folder import RunFolder, finished_summary
from ...statistics.candidates import Candidate, Scale, candidates_of
from ...statistics.paired_tests import corrected_resampled_t
from ...statistics.screening import Screening
from ...statistics.verdict import judge
from ...targets import kind_of
from .differing_pictures import difference
from .find_runs import FoundRuns, find_runs, study_measure
from .read_runs import FinishedRun, picture_orders, read_runs
from .remarks import remarks_on

__all__ = ["compared", "compared_runs", "differing_settings", "pair_of", "wanted_measure"]

_ACCURACY = "val/accuracy"
_MOST_DIFFERENCES = 6
_POINT = 0.01


def compared(
    settings: ComparisonSettings,
    made: Sequence[str] = (),
    spare: SpareCores | None = None,
) -> Comparison:
    """Read the runs and judge them.

    Args:
        settings: which runs are meant.
        made: folders of runs that were made of these, to be judged with them.
        spare: to read many of them by; None for threads of this process.

    Raises:
        ConfigError: no such runs, or none that were measured on the same pictures.
        RunFailed: MLflow, which was asked for them, does not answer.
    """
    output_dir = Path(settings.output_dir).absolute()
    found = find_runs(settings, output_dir)
    added = tuple(RunFolder.open(Path(path)) for path in made)
    found = replace(found, folders=tuple(dict.fromkeys([*found.folders, *added])))
    return compared_runs(found, settings, *wanted_measure(settings), spare)


def wanted_measure(settings: ComparisonSettings) -> tuple[str | None, CostTable | None]:
    """Return the measure that is asked for, or that of the study, and its table of costs.

    None for a measure that is neither, and for costs that it does not go by.

    Raises:
        ConfigError: the file holds no table of costs.
    """
    if settings.costs is not None:
        return settings.metric, CostTable.read(Path(settings.costs))
    if settings.sweep is None or settings.metric is not None:
        return settings.metric, None
    return study_measure(Path(settings.output_dir).absolute(), settings.sweep)


def compared_runs(
    found: FoundRuns,
    settings: ComparisonSettings,
    measure: str | None,
    costs: CostTable | None = None,
    spare: SpareCores | None = None,
) -> Comparison:
    """Judge runs that were found.

    Args:
        found: the runs.
        settings: how they are compared.
        measure: of `RANKING`; None for the primary one of the runs' kind of targets.
        costs: for the measure "cost"; any other takes none.
        spare: as of `compared`.

    Raises:
        ConfigError: as `compared`.
    """
    costs = costs if measure == "cost" else None
    read = partial(read_runs, settings=settings, costs=costs, spare=spare)
    all_runs, damaged = read(found.folders, measure=measure)
    faults = [*found.damaged, *damaged]
    if not all_runs and settings.data is not None:
        _refuse_unknown_data(settings.data, found)
    if damaged and settings.runs is not None:
        raise ConfigError(f"runs: {damaged[0]}")
    runs = _on_the_same_pictures(all_runs, settings, faults)
    left_out = [one for one in all_runs if one not in runs]
    names = {run.measured.configuration: run.summary.candidate for run in reversed(runs)}
    trials, _ = read(found.screened, measure=runs[0].measure)
    verdict = _verdict(runs, names, trials, found, settings)
    by_id = {run.folder.run_id: run for run in runs}
    differing = differing_settings(
        {run.measured.configuration: _family(run) for run in runs},
        {run.measured.configuration: run.known for run in runs},
    )
    entrants = [
        _entrant(standing, [by_id[one] for one in dict.fromkeys(standing.run_ids)], differing)
        for standing in verdict.standings
    ]
    # A combination of cross-validations has no folds of its own, but its members have.
    folds = next((run.folds for run in runs if run.folds is not None), None)
    ranks = {standing.name: standing.rank for standing in verdict.standings}
    ranked = sorted(runs, key=lambda run: ranks.get(names[run.measured.configuration], 0))
    return Comparison(
        verdict=verdict,
        entrants=tuple(entrants),
        pair=pair_of(ranked, [names[run.measured.configuration] for run in ranked]),
        remarks=(
            *remarks_on(verdict, runs, found, settings, left_out),
            *faults,
        ),
        part=settings.part,
        data=runs[0].summary.data,
        runs=len(runs),
        test_measurements=_test_measurements(runs),
        folds=folds,
        pixels=any(kind_of(run.target).pixels for run in all_runs),
    )


def _refuse_unknown_data(data: str, found: FoundRuns) -> None:
    """Raise a ConfigError if finished runs are on other data sets only."""
    finished = filter(None, map(finished_summary, found.folders))
    known = sorted({summary.data for summary in finished})
    if known and data not in known:
        raise ConfigError(
            f"data is {data!r}, and the finished runs are on {', '.join(known)}"
            f"{nearest(data, known)}."
        )


def _on_the_same_pictures(
    runs: Sequence[FinishedRun], settings: ComparisonSettings, faults: Sequence[str]
) -> list[FinishedRun]:
    """Return the runs on those pictures that most of them were measured on.

    Args:
        runs: that could be read.
        settings: how they are compared; of runs that were named none is left out.
        faults: of those that could not be read.

    Raises:
        ConfigError: there are none, or named ones were measured on different pictures, or on the
            same in different orders.
    """
    if not runs:
        first = "train or sweep first"
        if settings.part == "test":
            first = f"{command('evaluate', 'run=RUN', 'split=test')} measures a run there"
        raise ConfigError(
            f"there is no finished run to compare in {Path(settings.output_dir).absolute()} (with "
            f"stored predictions of the {settings.part} part): {first}."
            f"{''.join(f' {one}' for one in faults[:1])}"
        )
    ((pictures, _),) = Counter(run.pictures for run in runs).most_common(1)
    same = [run for run in runs if run.pictures == pictures]
    orders = picture_orders(same)
    ((order, _),) = Counter(orders).most_common(1)
    kept = [run for run, one in zip(same, orders) if one == order]
    if settings.runs is not None and (others := [run for run in runs if run not in kept]):
        raise ConfigError(f"runs: {difference(kept[0], others[0])}.")
    return kept


def _verdict(
    runs: Sequence[FinishedRun],
    names: Mapping[str, str],
    trials: Sequence[FinishedRun],
    found: FoundRuns,
    settings: ComparisonSettings,
) -> Recommendation:
    """Return the verdict on runs of the same pictures.

    Args:
        runs: to judge.
        names: of the candidates, by configuration.
        trials: that finalists among them were chosen from.
        found: how they were found.
        settings: how they are compared.

    Raises:
        ConfigError: they cannot be compared.
    """
    measured = [replace(one, name=names[one.configuration]) for run in runs for one in run.repeats]
    gap, band = _differences(settings, measured[0].scale)
    try:
        candidates = candidates_of(measured)
        tested = _over_folds(runs, runs[0].measure)
        verdict = judge(
            candidates,
            scale=measured[0].scale,
            # Runs of older versions did not keep the groups of their pictures.
            groups=next((run.groups for run in measured if run.groups is not None), None),
            over_folds=None if tested is None else (candidates[0].name, tested),
            screening=_screening(candidates, runs, trials),
            look=found.look,
            left_out=[one.name for one in candidates if set(one.run_ids) & set(found.left_out)],
            gap=gap,
            band=band,
        )
    except ValueError as error:
        raise ConfigError(f"compare: {error}") from error
    return replace(
        verdict,
        sets=any(kind_of(run.target).sets for run in runs),
        copies=any(run.copies for run in measured),
    )


def _differences(settings: ComparisonSettings, scale: Scale) -> tuple[float, float]:
    """Return the difference that matters, and the one that is practically equivalent.

    A point is a hundredth of what a wrong answer costs, where right ones cost nothing: of other
    costs, which may be in any unit, a hundredth of their range is taken for it.

    Raises:
        ConfigError: no two figures can have such a difference, as one in percent is.
    """
    lowest, highest = scale.ends
    point = _POINT * (highest - lowest if scale.measure == "cost" else 1)
    gap = point if settings.gap is None else settings.gap
    band = point / 2 if settings.band is None else settings.band
    for key, wanted in (("gap", gap), ("band", band)):
        if wanted >= highest - lowest:
            unit = "" if scale.lowest is None else ", where one point is 0.01"
            raise ConfigError(
                f"{key} is {wanted:g}: of {metric_name(scale.measure)} it must be below "
                f"{highest - lowest:g}{unit}."
            )
    return gap, band


def _screening(
    candidates: Sequence[Candidate],
    runs: Sequence[FinishedRun],
    trials: Sequence[FinishedRun],
) -> Screening | None:
    """Return the trials of the study whose finalists are judged; None where it has none.

    Trials whose predictions no longer exist do not count, and of a cross-validated one its first
    repeat does.
    """
    same = {run.measured.configuration: run for run in trials if run.pictures == runs[0].pictures}
    if not same:
        return None
    place = {configuration: index for index, configuration in enumerate(same)}
    singles = [replace(run.measured, name=configuration) for configuration, run in same.items()]
    own = {run.folder.run_id: run.measured.configuration for run in runs}
    chosen_by = {one.name: place.get(own[one.run_ids[0]]) for one in candidates}
    known = {name: index for name, index in chosen_by.items() if index is not None}
    return Screening(candidates_of(singles), known)


def _family(run: FinishedRun) -> str:
    return run.summary.family or run.summary.model


def _entrant(
    standing: Standing, runs: Sequence[FinishedRun], differing: Mapping[str, str]
) -> Entrant:
    return Entrant(
        standing=standing,
        family=_family(runs[0]),
        settings=differing[runs[0].measured.configuration],
        size=_size(runs[0].known.get("model.input_size") or runs[0].known.get("data.image_size")),
        start=runs[0].summary.start,
        weights=runs[0].summary.weights,
        parameters=runs[0].summary.num_parameters,
        training_seconds=_mean([run.summary.metrics for run in runs], "cost/training_seconds"),
        run_dirs=tuple(str(run.folder.path) for run in runs),
        command=runs[0].summary.command,
        disturbed=any("cost/latency_others" in run.summary.metrics for run in runs),
    )


def _size(stated: Any) -> tuple[int, int] | None:
    """Return (H, W) of a run's settings; None if it is not set."""
    if isinstance(stated, int):
        return stated, stated
    return None if stated is None else (int(stated[0]), int(stated[1]))


def _mean(metrics: Sequence[Mapping[str, float]], key: str) -> float | None:
    values = [one[key] for one in metrics if key in one]
    return sum(values) / len(values) if values else None


def _test_measurements(runs: Sequence[FinishedRun]) -> int:
    """Return how often the test part of their split has been measured, as far as known."""
    places = {run.folder.output_dir for run in runs}
    noted = max((run.summary.test_measurements or 0 for run in runs), default=0)
    if not any(map(anything_measured, places)):  # a split of many pictures takes a while to read
        return noted
    try:
        fingerprint = Split.read(runs[0].folder.split).test_fingerprint
    except (OSError, ValueError):
        return noted
    return max(noted, sum(past_test_measurements(place, fingerprint) for place in places))


def differing_settings(
    families: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return the settings of each configuration that differ from the others of its family.

    Where they differ in many, those with the most different values are taken.

    Args:
        families: by configuration.
        settings: of the candidates by dotted key, by configuration.
    """
    found: dict[str, str] = {}
    for family in dict.fromkeys(families.values()):
        own = {one: settings[one] for one, name in families.items() if name == family}
        keys = _differing(list(own.values()))[:_MOST_DIFFERENCES]
        for one, known in own.items():
            shown = {key.removesuffix(".name"): _short(known[key]) for key in keys if key in known}
            found[one] = settings_text(shown)
    return found


def _short(value: Any) -> Any:
    """Return numbers to three digits, which is enough to read."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys with more than one value, those with the most values first."""
    values: dict[str, set[str]] = {}
    seen: dict[str, Any] = {}  # the last value: most are one object in all runs
    for known in settings:
        for key, value in known.items():
            if key not in seen or value is not seen[key]:
                seen[key] = value
                values.setdefault(key, set()).add(str(value))
    counts = {key: len(found) for key, found in values.items() if "_target_" not in key}
    some = [key for key, known in counts.items() if known > 1 or _missing(key, settings)]
    return sorted(some, key=lambda key: -counts[key])


def _missing(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    return any(key not in known for known in settings)


def pair_of(runs: Sequence[FinishedRun], names: Sequence[str]) -> Pair | None:
    """Return on which pictures two trained networks differ.

    None unless there are exactly two, and where the answers are masks.

    Args:
        runs: measured on the same pictures, in the order of their candidates' ranks, since
            sentences call them the first and the second.
        names: of their candidates.
    """
    if len(runs) != 2 or any(run.folds is not None for run in runs):
        return None
    if kind_of(runs[0].target).pixels:  # hardly ever are all pixels of a picture right
        return None
    first, second = runs
    if names[0] == names[1]:
        ends = [f"seed {run.summary.seed}, {run.folder.run_id[:6]}" for run in runs]
        names = [f"{name} ({end})" for name, end in zip(names, ends)]
    ours, theirs = first.measured.right, second.measured.right
    return Pair(
        names[0],
        names[1],
        first_alone=int((ours & ~theirs).sum()),
        second_alone=int((theirs & ~ours).sum()),
        repeats=first.measured.configuration == second.measured.configuration
        and first.summary.seed != second.summary.seed,
    )


def _over_folds(runs: Sequence[FinishedRun], measure: str) -> FoldTest | None:
    """Return the difference of two cross-validations over their folds; None for anything else.

    A combination of cross-validations has no folds of its own.

    Raises:
        ConfigError: the summary of a cross-validation lacks those of its folds.
    """
    if len(runs) != 2 or measure != "accuracy" or None in (runs[0].folds, runs[1].folds):
        return None
    first, second = runs
    if first.measured.configuration == second.measured.configuration:
        return None
    ours, theirs = (_accuracies(run) for run in runs)
    if first.folds != second.folds or len(ours) != len(theirs) or first.folds is None:
        return None
    differences = [one - other for one, other in zip(ours, theirs)]
    return corrected_resampled_t(differences, 1 / first.folds)


def _accuracies(run: FinishedRun) -> list[float]:
    """Return the accuracy of each fold of all repeats, in order.

    Raises:
        ConfigError: the run's summary lacks them.
    """
    values = (run.summary.folds or {}).get(_ACCURACY)
    if values is None:
        raise ConfigError(f"{run.folder.summary} does not hold the accuracies of the folds.")
    return values
