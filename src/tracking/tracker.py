"""What a training says about itself, said once: to the run folder, and from there to MLflow."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.config.checks import ConfigError
from src.machine.disk import refusal
from src.tracking.addresses import (
    absolute_uri,
    public_uri,
    unused_address,
    without_password,
)
from src.tracking.mirror_process import MirrorProcess
from src.tracking.mirror_state import MirrorState
from src.tracking.spool import Spool
from src.tracking.system_metrics import PREFIX, SystemMonitor

__all__ = ["Tracker", "dotted"]

# Long enough for the import of MLflow and a new database, should a run be as short as that.
_WAIT_SECONDS = 60.0


class Tracker:
    """One run's diary. No method waits for MLflow but `finish`, and none fails because of it.

    Args:
        spool: the run's spool, started.
        mirror: the process that follows it, or None where the run is not mirrored from here.
        owns_mirror: whether to close it with the run.
        output_dir: for the hint how to send the run later.
        uri: absolute tracking URI, for the same hint.
        warn: shows a person one plain line.
        monitor: samples the machine into the spool until the run is over, or None.
    """

    def __init__(
        self,
        spool: Spool,
        mirror: MirrorProcess | None,
        *,
        owns_mirror: bool,
        output_dir: Path,
        uri: str,
        warn: Callable[[str], None],
        monitor: SystemMonitor | None = None,
    ) -> None:
        self._spool = spool
        self._mirror = mirror
        self._owns_mirror = owns_mirror
        self._output_dir = output_dir
        self._uri = uri
        self._warn = warn
        self._monitor = monitor
        self._warned_of_disk = False

    @property
    def run_dir(self) -> Path:
        return self._spool.run_dir

    @property
    def run_id(self) -> str:
        """Our own id of the run."""
        return str(self._spool.run_id)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        *,
        output_dir: Path,
        uri: str | None,
        experiment: str,
        run_id: str,
        run_name: str,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent_run_id: str | None = None,
        enabled: bool = True,
        mirror: MirrorProcess | None = None,
        mirrored_elsewhere: bool = False,
        system_metrics_seconds: float | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Tracker:
        """Begin a run, or go on with the one that is in `run_dir`.

        In the gaps the mirror also sends earlier runs under `output_dir` that are not all there.

        Args:
            run_dir: the run's folder.
            output_dir: the folder that holds all runs and the default database.
            uri: tracking URI; None for the database in `output_dir`.
            experiment: the MLflow experiment.
            run_id: our own id, 32 hex digits; the same again when the run is resumed.
            params: plain values, nested as you like; see `dotted`.
            tags: beside `bakeoff.run_id` and `bakeoff.run_dir`, which are always set.
            parent_run_id: our own id of the run that this one belongs to.
            enabled: False to write the run folder only.
            mirror: a process to share with other runs; None for one of this run's own.
            mirrored_elsewhere: another process (a sweep's) has a mirror follow this folder.
            system_metrics_seconds: between two looks at the machine; None for none at all.
            warn: shows a line to a person; None for standard error.

        Raises:
            ConfigError: another process is writing this run, or the folder is another run's.
            OSError: the run folder cannot be written.
        """
        run_dir, output_dir = run_dir.absolute(), output_dir.absolute()
        full_uri, target = absolute_uri(uri, output_dir), public_uri(uri, output_dir)
        try:
            spool = Spool(run_dir)
        except ValueError as error:
            raise ConfigError(f"{error}: wait for it, or end it.") from None
        try:
            spool.start(
                run_id=run_id,
                run_name=run_name,
                experiment=experiment,
                mirrored=enabled,
                target=target,
                tags={key: without_password(text) for key, text in (tags or {}).items()},
                parent_run_id=parent_run_id,
            )
        except ValueError as error:
            spool.close()
            raise ConfigError(f"{error}.") from None
        follows = enabled and not mirrored_elsewhere
        owns_mirror = follows and mirror is None
        if owns_mirror:
            mirror = MirrorProcess(run_dir / "tracking" / "mirror.log")
        tracker = cls(
            spool,
            mirror if follows else None,
            owns_mirror=owns_mirror,
            output_dir=output_dir,
            uri=full_uri,
            warn=_to_standard_error if warn is None else warn,
            monitor=_monitor(spool, system_metrics_seconds),
        )
        if enabled and parent_run_id is None and (told := unused_address(uri, output_dir)):
            tracker._warn(f"warning: {told}")
        tracker.params(params or {})
        if follows and mirror is not None:
            mirror.follow(run_dir, full_uri, target)
            if owns_mirror:  # whoever shares one asks for this once, not with every run
                mirror.replay(output_dir, full_uri, target)
        return tracker

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters, as nested as you like; see `dotted`."""
        self._spool.params(dotted(values))
        self._show_warnings()

    def tags(self, values: Mapping[str, str]) -> None:
        """Tags of the run."""
        self._spool.tags(values)
        self._show_warnings()

    def metrics(self, values: Mapping[str, float], step: int, *, final: bool = False) -> None:
        """Metrics of one step, by `{split}/{metric}`.

        Args:
            final: these are the run's last words; see `Spool.metrics`.
        """
        self._spool.metrics(values, step, final=final)
        self._show_warnings()

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file or folder inside the run folder, to be found under `folder` in MLflow.

        Raises:
            ValueError: it lies outside of the run folder.
        """
        self._spool.artifact(path, folder)
        self._show_warnings()

    def model(self, path: Path, digest: str, name: str = "model") -> None:
        """The bundle of the trained model or a variant, inside the run folder; see `Spool.model`.

        Raises:
            ValueError: it lies outside of the run folder.
        """
        self._spool.model(path, digest, name)
        self._show_warnings()

    def register(self, card: Path, *, name: str, alias: str, data: str, digest: str) -> None:
        """The run's model becomes a version of a registered model; see `Spool.registration`.

        Raises:
            ValueError: the card lies outside of the run folder.
        """
        self._spool.registration(card, name=name, alias=alias, data=data, digest=digest)
        self._show_warnings()

    def version(self, name: str) -> str | None:
        """Which version of a registered model the run is, as far as MLflow has said it."""
        target = public_uri(self._uri, self._output_dir)
        return MirrorState.read(self.run_dir, target).versions.get(name)

    def dataset(
        self,
        *,
        name: str,
        digest: str,
        source: str,
        profile: Mapping[str, Any],
        context: str = "training",
    ) -> None:
        """The data that the run reads; `profile` has plain values, and the whole fingerprint."""
        self._spool.dataset(
            name=name, digest=digest, source=source, profile=profile, context=context
        )
        self._show_warnings()

    def finish(
        self, status: str, reason: str | None = None, wait_seconds: float = _WAIT_SECONDS
    ) -> str | None:
        """The run is over. Waits a while for MLflow to have it all, but not for one that is away.

        Args:
            status: FINISHED, FAILED or KILLED.
            reason: why it did not finish.
            wait_seconds: the longest wait.

        Returns:
            The run's id in MLflow, or None where it is not known (yet).
        """
        if self._monitor is not None:
            self._monitor.stop()
        self._spool.finish(status, None if reason is None else without_password(reason))
        self._spool.close()
        self._show_warnings()
        if self._mirror is None:
            return None
        away = True
        try:
            run = self._mirror.wait(self.run_dir, wait_seconds)
            away = run.away is not None
        finally:
            if self._owns_mirror:
                self._mirror.close(*((0.0,) if away else ()))
        if run.done:
            for text in run.warnings:
                self._warn(f"warning: {text}")
        else:
            trouble = f"does not answer ({run.away})" if run.away else "has not confirmed it yet"
            self._warn(
                f"warning: the run is complete in {self.run_dir}, but MLflow at "
                f"{without_password(self._uri)} {trouble}. The next run sends it, or: "
                f"{self._replay_command()}"
            )
        return run.mlflow_run_id

    def _show_warnings(self) -> None:
        # Here, in the training's own thread, so that no line falls into a progress bar.
        trouble = self._spool.trouble
        if trouble is not None and not self._warned_of_disk:
            self._warned_of_disk = True
            self._warn(
                f"warning: metrics wait in memory and are lost if the run ends before they can be "
                f"written: {refusal(trouble, self.run_dir) or trouble.strerror}"
            )
        if self._mirror is not None:
            for text in self._mirror.warnings(self.run_dir):
                self._warn(f"warning: {text}")

    def _replay_command(self) -> str:
        words = ["python", "-m", "src.tracking.replay", f"output_dir={self._output_dir}"]
        return shlex.join(words)


def _monitor(spool: Spool, seconds: float | None) -> SystemMonitor | None:
    """Straight into the spool, which takes events from any thread, at no cost to the training's."""
    if seconds is None:
        return None
    # A resumed run goes on counting: of one step the spool keeps the first value.
    return SystemMonitor(
        spool.metrics, seconds=seconds, folder=spool.run_dir, first_step=spool.next_step(PREFIX)
    )


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested plain values as one level of texts: `{"a": {"b": 0.1}}` becomes `{"a.b": "0.1"}`.

    Values look as on the command line (`null`, `true`, `[32, 64]`). Keys with a leading underscore,
    which say how and not what, are left out.
    """
    flat: dict[str, str] = {}
    for key, value in values.items():
        if key.startswith("_"):
            continue
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            flat[f"{prefix}{key}"] = without_password(value)
        else:
            flat[f"{prefix}{key}"] = json.dumps(value, ensure_ascii=False)
    return flat


def _to_standard_error(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal went away; the run goes on
        print(text, file=sys.stderr, flush=True)
