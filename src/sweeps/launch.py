"""Launch a sweep: choose its families, open its study, and run its race."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..config.checks import ConfigError, not_written
from ..config.sweep import SweepSettings, base_overrides, read_sweep_settings
from ..data.sources.costs import CostTable
from ..data.splitting.test_usage import refuse_uncountable
from ..machine.disk import refusal, refusal_of_folder
from ..machine.failures import RunFailed, explained
from ..machine.interruption import Interrupted, Interruption
from ..machine.package import command
from ..machine.status import doing
from ..records.trials import SweepRecord
from ..search.samplers import check_sampler
from ..search.space import Family
from ..search.study import StudyBusy, StudyChanged, SweepStudy
from ..search.workers.slots import refuse_machine
from ..tracking.addresses import without_password
from .earlier_command import keep_command, shorter_command
from .families import load_families
from .parent_run import ParentRun
from .race import Race
from .study_pictures import checked_costs, choose_families, describe_judging
from .sweep_study import resuming_command, study_spec
from .tasks import SweepJobs

__all__ = ["run_sweep"]


def run_sweep(settings: SweepSettings, overrides: Sequence[str], config_name: str) -> SweepRecord:
    """Run or resume a study, and return its record.

    Args:
        settings: as `read_sweep_settings` makes them of the other arguments.
        overrides: of the command line.
        config_name: name of a file in sweeps/.

    Raises:
        ConfigError: the input is wrong, or the study was begun with other settings.
        Interrupted: Ctrl-C or SIGTERM; the same command resumes the study.
        RunFailed: the sweep cannot continue.
    """
    if settings.workers.engine == "local" and not settings.study_folder.exists():
        refuse_machine(settings.trainer.accelerator)
    if reason := refusal_of_folder(Path(settings.output_dir).absolute()):
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {reason}.")
    if settings.evaluate_test:
        refuse_uncountable(Path(settings.output_dir))
    costs = checked_costs(settings)
    chosen_overrides = list(overrides)
    if isinstance(settings.families, str):
        chosen = choose_families(settings, overrides)
        remark = chosen.reason
        chosen_overrides += chosen.overrides
        if chosen.overrides:
            settings = read_sweep_settings(chosen_overrides, config_name)
        settings = replace(settings, families=list(chosen.names))
    else:
        remark = describe_judging(settings, overrides)
    base = base_overrides(chosen_overrides, config_name)
    with doing("reading the search spaces"):
        families = load_families(list(settings.families), base, settings.search)
    line = command("sweep", "--config-name", config_name, *overrides)
    study = _opened_study(settings, families, base, costs)
    with study, Interruption() as interruption:
        try:
            with explained(settings.study_folder):
                keep_command(settings.study_folder, overrides, config_name)
            parent = ParentRun(settings, study, line)
            by_name = {family.name: family for family in families}
            jobs = SweepJobs(settings, study, by_name, base, {}, parent.run_id, costs)
            return Race(jobs, parent, interruption, remark).run()
        except Interrupted:
            with suppress(OSError, ValueError):  # the terminal went away
                again = shorter_command(settings) or line
                print(f"resume with: {without_password(again)}", file=sys.stderr, flush=True)
            raise
        except StudyBusy as error:
            raise RunFailed(str(error)) from error


def _opened_study(
    settings: SweepSettings,
    families: Sequence[Family],
    base: Sequence[str],
    costs: CostTable | None,
) -> SweepStudy:
    """Begin the study, or open the one that was begun; raises as `run_sweep`."""
    try:
        check_sampler(settings.sampler.name, families, len(settings.metrics))
        spec = study_spec(settings, families, base, costs)
        return SweepStudy(settings.study_folder, spec, settings.storage)
    except StudyChanged as error:
        # It names the table of costs, which may be what has changed.
        earlier = None if costs is not None else resuming_command(settings, error.begun)
        going_on = "take the old settings"
        if earlier is not None:
            going_on = f"resume it: {without_password(earlier)}"
        raise ConfigError(f"{error}. Begin a new one with study=NAME, or {going_on}") from error
    except ValueError as error:  # StudyBusy as well
        raise ConfigError(f"{str(error).rstrip('.')}.") from error
    except OSError as error:
        reason = refusal(error, settings.study_folder) or str(error)
        raise not_written(error, f"the study cannot be kept: {reason}.") from error
