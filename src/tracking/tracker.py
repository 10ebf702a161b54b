"""The tracker of a run: writes what the run reports to its folder, and has MLflow mirror it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.checks import ConfigError
from ..config.nested import leaves
from ..config.tracking import RUN_NAME, TrackingSettings, environment_tags
from ..machine.disk import refusal
from ..machine.interruption import Interrupted, signals_so_far
from ..machine.package import command
from ..machine.status import doing
from .addresses import absolute_uri, public_uri, without_password
from .mirror_process import CLOSE_SECONDS, MirrorProcess
from .mirror_state import MirrorState
from .spool import Spool
from .system_metrics import PREFIX, THREAD_NAME, SystemMonitor

__all__ = ["NOTE", "Tracker", "dotted"]

# The tag of a run that MLflow shows as its description, read as Markdown.
NOTE = "mlflow.note.content"
# Long enough for the import of MLflow and a new database, should a run be as short as that.
_WAIT_SECONDS = 60.0
_INTERRUPT = "(Ctrl-C: the next run sends the rest)"


class Tracker(Spool):
    """The spool of a run that is mirrored; made by `start`, ended by `finish`.

    Only `finish` waits for MLflow, and no method fails because of it.
    """

    def __init__(
        self, run_dir: Path, output_dir: Path, uri: str | None, warn: Callable[[str], None] | None
    ) -> None:
        super().__init__(run_dir)
        self._output_dir = output_dir
        self._uri, self._target = absolute_uri(uri, output_dir), public_uri(uri, output_dir)
        self._warn = warn or _to_standard_error
        self._mirror: MirrorProcess | None = None
        self.is_sent = True
        self._monitor: SystemMonitor | None = None
        self._warned_of_disk = False

    @classmethod
    def start(
        cls,
        run_dir: Path,
        tracking: TrackingSettings,
        *,
        output_dir: Path,
        run_id: str,
        run_name: str,
        tags: Mapping[str, str] | None = None,
        parent_run_id: str | None = None,
        amends: str | None = None,
        nice: bool = True,
        prepare: Callable[[], None] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Tracker:
        """Begin a run, or resume the one in `run_dir`.

        When idle, the mirror also sends earlier runs under `output_dir` that are incomplete.

        Args:
            tracking: whether and where the run is mirrored, and how often the machine is sampled.
            output_dir: the folder that holds all runs and the default database.
            run_id: the project's id, 32 hex digits; the same when the run is resumed.
            tags: beside `bakeoff.run_id` and `bakeoff.run_dir`, which are always set;
                `bakeoff.data` names the experiment where `tracking` does not.
            parent_run_id: the project's id of the parent run, such as a sweep, whose mirror follows
                this folder as well.
            amends: status of a run that has ended, to which something is added; see `Spool.begin`.
            nice: see `MirrorProcess`; without a parent one is started for this run and for those
                that are passed to `follow`.
            prepare: changes the run's folder once no other process writes it, before it begins.
            warn: shows a line to the user; None for standard error.

        Raises:
            ConfigError: another process is writing this run, or the folder is another run's.
            OSError: the run folder cannot be written.
        """
        run_dir, output_dir = run_dir.absolute(), output_dir.absolute()
        try:
            tracker = cls(run_dir, output_dir, tracking.uri, warn)
        except ValueError as error:
            raise ConfigError(f"{error}: wait for it, or end it.") from None
        try:
            if prepare is not None:
                prepare()
        except BaseException:
            tracker.close()
            raise
        own_tags = {} if tracker.run_id else environment_tags()
        all_tags = {k: without_password(v) for k, v in (own_tags | dict(tags or {})).items()}
        try:
            tracker.begin(
                run_id=run_id,
                run_name=run_name if parent_run_id else tracker._name_of_environment(run_name),
                experiment=tracking.experiment or _experiment_of(all_tags),
                mirrored=tracking.enabled,
                target=tracker._target,
                tags=all_tags,
                parent_run_id=parent_run_id,
                amends=amends,
            )
        except ValueError as error:
            tracker.close()
            raise ConfigError(f"{error}.") from None
        if tracking.system_metrics_seconds is not None:
            tracker._monitor = SystemMonitor(
                tracker.metrics,
                seconds=tracking.system_metrics_seconds,
                folder=run_dir,
                # A resumed run counts on: the spool keeps the first value of a step.
                first_step=tracker.next_step(PREFIX),
            )
        if tracking.enabled and parent_run_id is None:
            mirror = MirrorProcess(run_dir / "tracking" / "mirror.log", nice=nice)
            tracker._mirror = mirror
            tracker.follow(run_dir)
            mirror.replay(output_dir, tracker._uri, tracker._target)
        return tracker

    def _name_of_environment(self, name: str) -> str:
        """Return the name that MLflow's variable gives a new run, and say so; else `name`."""
        own = os.environ.get(RUN_NAME, "").strip()
        if not own or self.run_id:
            return name
        self._warn(f"from MLflow's environment variables: the run is called {own}")
        return own

    def follow(self, run_dir: Path) -> None:
        """Have the run in a folder, such as one that is part of this, mirrored as this one is."""
        if self._mirror is not None:
            self._mirror.follow(run_dir, self._uri, self._target)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, nested plain values; see `dotted`."""
        super().params(dotted(values))

    def version(self, name: str) -> str | None:
        """Return the version of the run's model in a registered model, if it is known yet."""
        return MirrorState.read(self.run_dir, self._target).versions.get(name)

    def finish(
        self,
        status: str,
        reason: str | None = None,
        wait_seconds: float = _WAIT_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> str | None:
        """End the run, and wait a while until MLflow has all of it, unless the server is away.

        Then its mirror, where it has one, gets `close_seconds` for the runs that it follows;
        from then on `is_sent` says whether MLflow has them all.

        Returns:
            The run's id in MLflow, or None where it is not known (yet).
        """
        if self._monitor is not None:
            self._monitor.stop()
        self.end(status, None if reason is None else without_password(reason))
        self.close()
        self._show_warnings()
        if self._mirror is None:
            return None
        hasty, signals = True, signals_so_far()
        try:
            with doing(f"waiting for MLflow {_INTERRUPT}") as show:
                run = self._mirror.wait(
                    self.run_dir,
                    wait_seconds,
                    lambda progress: show(f"{progress} {_INTERRUPT}"),
                )
            hasty = run.away is not None or signals_so_far() > signals
        except (Interrupted, KeyboardInterrupt):
            self._warn(f"nothing is lost: the record is in {self.run_dir}, and {self._later}")
            raise
        finally:
            with doing(f"sending the rest to MLflow {_INTERRUPT}"):
                self.is_sent = self._mirror.close(0.0 if hasty else close_seconds)
        if run.done:
            for text in run.warnings:
                self._warn(f"warning: {text}")
        else:
            state = f"does not answer ({run.away})" if run.away else "has not confirmed it yet"
            self._warn(
                f"warning: the record of the run is in {self.run_dir}, but MLflow at "
                f"{without_password(self._uri)} {state}. T{self._later[1:]}"
            )
        return run.mlflow_run_id

    @property
    def _later(self) -> str:
        return f"the next run sends it, or: {command('replay', f'output_dir={self._output_dir}')}"

    def _write(self, event: str, **fields: Any) -> None:
        super()._write(event, **fields)
        # In the training's own thread, so that no line is written into a progress bar.
        if threading.current_thread().name != THREAD_NAME:
            self._show_warnings()

    def _show_warnings(self) -> None:
        if self.error is not None and not self._warned_of_disk:
            self._warned_of_disk = True
            self._warn(
                f"warning: metrics wait in memory and are lost if the run ends before they can be "
                f"written: {refusal(self.error, self.run_dir) or self.error.strerror}"
            )
        if self._mirror is not None:
            for text in self._mirror.warnings(self.run_dir):
                self._warn(f"warning: {text}")


def _experiment_of(tags: Mapping[str, str]) -> str:
    """Return the name of the experiment of all runs on a data set, whose figures are comparable."""
    data = tags.get("bakeoff.data")
    return f"bakeoff-{data}" if data else "bakeoff"


def dotted(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested plain values as one level of texts: `{"a": {"b": 0.1}}` as `{"a.b": "0.1"}`.

    Values are written as on the command line (`null`, `true`, `[32, 64]`). Keys with a leading
    underscore, such as `_target_`, are left out.
    """
    return {
        key: without_password(
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
        for key, value in leaves(values).items()
        if not any(part.startswith("_") for part in key.split("."))
    }


def _to_standard_error(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal is gone; the run goes on
        print(text, file=sys.stderr, flush=True)
