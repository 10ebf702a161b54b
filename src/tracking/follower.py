"""Sending of one run's spool to MLflow, from the event where it stopped before.

Everything is sent at least once and exists exactly once: MLflow drops a metric whose key, step,
timestamp and value it has, a tag or artifact replaces itself, and a run that was created but not
recorded in `MirrorState` is found by its tag `bakeoff.run_id`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from filelock import Timeout

from ..machine.text import encodable
from ..records.champions import ALIAS, Champion, champions
from ..storage.locks import ProcessLock
from .entries import LONGEST, Entry, batches, cut, entries_of, is_system
from .events import read_events, spool_path
from .mirror_state import MirrorState
from .mlflow_store import (
    MLFLOW_PARENT_TAG,
    PARENT_TAG,
    Rejected,
    ServerAway,
    Store,
    Unsupported,
)
from .spool import Spool, mirror_lock

__all__ = ["FilesAway", "Follower"]

# Number of failures after which the files wait: an artifact store that is away takes long to fail.
_MOST_FAILURES = 3
# Milliseconds that system metrics wait for the first others: a page of MLflow's begins with the
# metric that came first, and an epoch may take hours.
_LONGEST_WAIT_MS = 300_000

# An event, and the offset in the spool after it.
_Event = tuple[dict[str, Any], int]


class FilesAway(ServerAway):
    """Files of one run cannot be sent now, while MLflow itself answers."""


class Follower:
    """Sends one run to one tracking database or server.

    Args:
        progress: called after each file with how many of how many events of a slice are sent.

    Attributes:
        run_dir: of the run.
        uri, target: of the database or server, and as it is recorded; see `MirrorState`.
        given_up: why the run is not sent any further, or None.
    """

    def __init__(
        self,
        run_dir: Path,
        uri: str,
        target: str | None,
        warn: Callable[[str], None],
        progress: Callable[[int, int], None] = lambda count, of: None,
    ) -> None:
        self.run_dir = run_dir
        self.uri = uri
        self.target = target
        self.given_up: str | None = None
        self._warn = cache(warn)  # once a text
        self._progress = progress
        self._state = MirrorState.read(run_dir, target)
        self._lock = ProcessLock(mirror_lock(run_dir), thread_local=False)
        self._parent: str | None = None
        self._restarted = False
        self._closed = False
        self._measured = False  # whether metrics of the model were among the events

    @property
    def mlflow_run_id(self) -> str | None:
        return self._state.mlflow_run_id

    @property
    def status(self) -> str | None:
        return self._state.status

    @property
    def finished(self) -> bool:
        """Whether all of the spool was sent, with the run's end, and no file is kept for later."""
        return self._state.is_whole(self.run_dir)

    def take(self) -> bool:
        """Lock this run for sending; return False while another process does, or with no spool."""
        if self._lock.is_locked:
            return True
        if not spool_path(self.run_dir).exists():
            return False
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        # The last holder of the lock may have sent more.
        self._state = MirrorState.read(self.run_dir, self.target)
        return True

    def release(self) -> None:
        """Let another process send this run."""
        self._lock.release()

    def close_lost(self) -> bool:
        """Record the end of a run whose process died; return False while that is alive.

        Raises:
            OSError: the run folder cannot be written.
        """
        if self._closed or not spool_path(self.run_dir).exists():
            return True
        try:
            spool = Spool(self.run_dir, wait_seconds=0)
        except ValueError:
            return False
        with spool:
            spool.end_lost("the process ended without a result (killed, or the machine stopped)")
        self._closed = True
        return True

    def restart_if_missing(self, store: Store) -> None:
        """Begin again if the run does not exist in MLflow any more (its database was replaced)."""
        if self.mlflow_run_id is not None and store.stage(self.mlflow_run_id) is None:
            self._state = MirrorState(self.target)

    def retry_unsupported(self) -> None:
        """Send once more what the server did not support: it may be a newer one now."""
        self._state.pending += self._state.unsupported
        self._state.unsupported = []

    def step(self, store: Store) -> bool:
        """Send a slice of new events; return False if there was none.

        Raises:
            ServerAway: the next call begins with the same events.
        """
        before = self._state.offset
        events = self._in_turn(read_events(spool_path(self.run_dir), before))
        if not events:
            return self._send_pending(store)
        try:
            self._send(store, events)
        except Rejected as error:
            self._handle_rejection(store, error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.given_up = f"its spool is damaged ({type(error).__name__}: {error})"
        finally:
            if self._state.offset != before:
                self._state.write(self.run_dir)
        return True

    def _in_turn(self, events: list[_Event]) -> list[_Event]:
        """Return the events up to system metrics that have to wait for metrics of the model."""
        system = [index for index, (event, _) in enumerate(events) if is_system(event)]
        known = [event.get("event") for event, _ in events if not is_system(event)]
        self._measured |= "metrics" in known or "finish" in known
        if self._measured or not system:
            return events
        first, last = (events[index][0].get("timestamp_ms", 0) for index in (system[0], system[-1]))
        return events if last - first > _LONGEST_WAIT_MS else events[: system[0]]

    def _send(self, store: Store, events: list[_Event]) -> None:
        # Metrics, parameters and tags of a slice are sent together; of a tag only the last value.
        metrics: list[Entry] = []
        system: list[Entry] = []
        texts: dict[tuple[str, str], Entry] = {}
        for count, (event, end) in enumerate(events):
            kind = event.get("event")
            if kind == "metrics":
                (system if is_system(event) else metrics).extend(entries_of(event))
            elif kind in ("params", "tags"):
                texts.update((entry[:2], entry) for entry in entries_of(event))
            else:
                self._send_entries(store, [*metrics, *texts.values()])
                metrics, texts = [], {}
                if kind == "finish":
                    self._send_entries(store, system)
                    system = []
                self._send_other(store, event)
                if kind != "start":
                    self._progress(count + 1, len(events))
                if not system:
                    self._state.offset = end
        self._send_entries(store, [*metrics, *texts.values(), *system])
        self._state.offset = events[-1][1]

    def _send_other(self, store: Store, event: Mapping[str, Any]) -> None:
        match event.get("event"):
            case "start":
                self._start(store, event)
            case "finish":
                self._finish(store, event)
            case "artifact" | "model" | "dataset" | "registration" as kind:
                try:
                    if kind == "dataset":
                        store.log_dataset(self._run(), event)
                    elif self._is_there(event):
                        self._send_file(store, event)
                except Rejected as error:
                    self._leave_out(store, event, error)

    def _start(self, store: Store, event: Mapping[str, Any]) -> None:
        self._state.status = None
        known = self._state.mlflow_run_id or store.find(event["run_id"])
        self._parent = event["parent_run_id"]
        if known is not None:
            self._state.mlflow_run_id = known
            amended = event.get("amends") or {}
            store.resume(known, amended.get("status"))
            store.adopt(known, event["run_id"])
            self._withdraw(store, event["run_id"])
            return
        own = {"bakeoff.run_id": event["run_id"], "bakeoff.run_dir": str(self.run_dir)}
        above = self._parent_tag(store)
        if self._parent and not above:
            above = {PARENT_TAG: self._parent}
        tags = event["tags"] | own | above
        created = self._state.mlflow_run_id = store.create_run(
            experiment=encodable(event["experiment"]),
            name=encodable(event["run_name"]),
            start_time_ms=event["start_time_ms"],
            tags={key: cut(text, LONGEST["tag"]) for key, text in tags.items()},
        )
        self._state.write(self.run_dir)
        # Two processes may send a sweep's runs, so that one is whole before its parent begins. One
        # that begins only now finds its parent at its own end.
        store.adopt(created, event["run_id"])

    def _withdraw(self, store: Store, run_id: str) -> None:
        """Take the alias of a champion from what was registered of a run that is none any more.

        Not where no record tells: of a copy while the run itself is there, or of a run without
        whole records beside it.
        """
        known = champions(self.run_dir.parents[1])
        if known is None or self._is_copy():
            return
        reigning = {one.registered_model for one in known if one.run_id == run_id}
        for name, version in self._state.versions.items():
            if name not in reigning:
                store.take_alias(name, ALIAS, version)

    def _is_copy(self) -> bool:
        """Return whether the run lies where its summary was written, and here as well."""
        try:
            summary = json.loads((self.run_dir / "summary.json").read_bytes())
            noted = Path(summary["run_dir"])
            return not noted.samefile(self.run_dir)
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return False

    def _finish(self, store: Store, event: Mapping[str, Any]) -> None:
        # The parent may have been sent since the start, by another process.
        tags = self._parent_tag(store)
        if event["reason"]:
            tags["bakeoff.reason"] = cut(event["reason"], LONGEST["tag"])
        self._send_entries(store, [("tag", key, text, 0, 0) for key, text in tags.items()])
        store.finish(self._run(), event["status"], event["end_time_ms"])
        self._state.status = event["status"]

    def _parent_tag(self, store: Store) -> dict[str, str]:
        parent = self._parent and store.find(self._parent)
        return {MLFLOW_PARENT_TAG: parent} if parent else {}

    def _send_entries(self, store: Store, entries: Iterable[Entry]) -> None:
        for batch in batches(entries):
            self._send_batch(store, batch)

    def _send_batch(self, store: Store, batch: list[Entry]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        try:
            store.log(
                self._run(),
                metrics=[
                    Metric(k, v, when, step) for what, k, v, step, when in batch if what == "metric"
                ],
                params=[Param(k, v) for what, k, v, *_ in batch if what == "param"],
                tags=[RunTag(k, v) for what, k, v, *_ in batch if what == "tag"],
            )
        except Rejected as error:
            if store.stage(self._run()) != "active":
                raise
            # One entry that MLflow refuses must not hold back the others: find it by halving.
            if len(batch) == 1:
                self._warn(f"MLflow refuses the {batch[0][0]} {batch[0][1]!r}: {error}")
                return
            middle = len(batch) // 2
            self._send_batch(store, batch[:middle])
            self._send_batch(store, batch[middle:])

    def _is_there(self, event: Mapping[str, Any]) -> bool:
        kind, path = event["event"], event["path"]
        file = self.run_dir / path
        if not file.resolve().is_relative_to(self.run_dir.resolve()):
            self._warn(f"the {kind} {path!r} is not inside the run folder, and is left out")
        elif not file.exists():
            self._warn(f"the {kind} {path!r} is not there any more, and is left out")
        else:
            try:
                if file.is_file():
                    file.open("rb").close()
            except OSError as error:
                reason = error.strerror or error
                self._warn(f"the {kind} {path!r} cannot be read ({reason}), and is left out")
            else:
                return True
        return False

    def _send_file(self, store: Store, event: Mapping[str, Any]) -> None:
        """Send a file, or keep it for later: the artifact store may be away while MLflow is not."""
        try:
            self._log_file(store, event)
        except ServerAway as error:
            self._warn(f"the {event['event']} {event['path']!r} cannot be sent yet: {error}")
            if event not in self._state.pending:
                self._state.pending.append(dict(event))

    def _leave_out(self, store: Store, event: Mapping[str, Any], error: Rejected) -> None:
        """Go on without what MLflow refuses; raise the error where the run itself is gone."""
        if store.stage(self._run()) != "active":
            raise error
        if not isinstance(error, Unsupported):
            self._warn(f"MLflow refuses the {event['event']}: {error}")
            return
        self._warn(str(error))
        if event not in self._state.unsupported:
            self._state.unsupported.append(dict(event))

    def _log_file(self, store: Store, event: Mapping[str, Any]) -> None:
        file = self.run_dir / event["path"]
        match event["event"]:
            case "model":
                store.log_model(self._run(), file, event["digest"], event.get("name", "model"))
            case "registration":
                self._register(store, event, file.read_text(encoding="utf-8"))
            case _:
                store.log_artifact(self._run(), file, event["folder"])

    def _register(self, store: Store, event: Mapping[str, Any], card: str) -> None:
        name, digest = event["name"], event["digest"]
        models = [kept["digest"] for kept in self._state.pending if kept["event"] == "model"]
        if digest in models:
            raise ServerAway("the model itself is not there yet")
        # A version that is sent late, or again, must not take the alias from a later champion.
        champion = Champion.read(self.run_dir.parents[1], event["data"])
        reigns = champion is not None and champion.run_id == event["run_id"]
        alias = event["alias"] if reigns else None
        version = store.register(self._run(), name, digest, card, alias)
        self._state.versions[name] = version
        self._state.write(self.run_dir)

    def _send_pending(self, store: Store) -> bool:
        """Send files kept for later, once everything else is sent; return whether there are any.

        Raises:
            FilesAway: some are still kept.
        """
        state = self._state
        if self.status is None or not state.pending:
            return False
        try:
            # MLflow takes files of a run that was deleted, or that its database does not have.
            if store.stage(self._run()) != "active":
                raise Rejected("the run is not in MLflow any more")
            if failures := self._try_each(store, state.pending):
                state.pending.sort(key=lambda event: event["event"] == "registration")
                raise FilesAway(failures[0])
        except Rejected as error:
            self._handle_rejection(store, error)
        finally:
            if state is self._state:  # else all of the run is sent anew
                state.write(self.run_dir)
        return True

    def _try_each(self, store: Store, pending: list[dict[str, Any]]) -> list[str]:
        """Send files, take those out that are sent or refused, and return why others are kept."""
        failures: list[str] = []
        for event in [*pending]:
            try:
                if self._is_there(event):
                    self._log_file(store, event)
            except Rejected as error:
                self._leave_out(store, event, error)
            except ServerAway as error:
                failures.append(f"the {event['event']} {event['path']!r}: {error}")
                pending.append(event)  # others come first the next time
            pending.remove(event)
            if len(failures) == _MOST_FAILURES:
                break
        return failures

    def _handle_rejection(self, store: Store, error: Rejected) -> None:
        """Begin again if the run is gone from MLflow, else give up."""
        stage = None if self.mlflow_run_id is None else store.stage(self.mlflow_run_id)
        if stage == "deleted":
            self.given_up = "the run was deleted in MLflow and is left alone there"
        elif self.mlflow_run_id is not None and stage is None and not self._restarted:
            self._restarted = True
            self._state = MirrorState(self.target)
        else:
            self.given_up = str(error)

    def _run(self) -> str:
        if self._state.mlflow_run_id is None:
            raise Rejected(f"the spool of {self.run_dir} does not begin with its start")
        return self._state.mlflow_run_id
