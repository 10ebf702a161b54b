"""Sends one run's spool to MLflow, from where it stopped, as often as it takes.

Everything is sent at least once and shows exactly once: MLflow drops a metric whose key, step,
timestamp and value it has, a tag or artifact replaces itself, and a run that was made but not noted
here is found again by its tag `bakeoff.run_id`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout

from src.records.champions import Champion
from src.tracking.mirror_state import MirrorState, mirror_lock
from src.tracking.mlflow_store import Rejected, ServerAway, Store
from src.tracking.spool import Spool, read_events, spool_path

__all__ = ["Entry", "Follower", "batches", "is_complete"]

# MLflow's limits of a batch, with some room in the bytes for the request around it.
_MOST_ENTRIES = 1000
_MOST_OF_KIND = {"metric": 1000, "param": 100, "tag": 100}
_MOST_BYTES = 900_000
_LONGEST = {"param": 6000, "tag": 8000}

# kind ("metric", "param", "tag"), key, value, step, timestamp_ms (the last two for metrics alone)
Entry = tuple[str, str, Any, int, int]


def batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Cut into pieces that MLflow takes at once, in order."""
    batch: list[Entry] = []
    counts = dict.fromkeys(_MOST_OF_KIND, 0)
    size = 0
    for entry in entries:
        kind = entry[0]
        weight = len(json.dumps(entry)) + 50
        if (
            len(batch) == _MOST_ENTRIES
            or counts[kind] == _MOST_OF_KIND[kind]
            or (batch and size + weight > _MOST_BYTES)
        ):
            yield batch
            batch, counts, size = [], dict.fromkeys(_MOST_OF_KIND, 0), 0
        batch.append(entry)
        counts[kind] += 1
        size += weight
    if batch:
        yield batch


def is_complete(run_dir: Path, target: str | None) -> bool:
    """Whether all of the spool was sent to `target` once; asks nobody."""
    return _all_sent(run_dir, MirrorState.read(run_dir, target))


class Follower:
    """One run on its way to one tracking database or server.

    Attributes:
        run_dir, target: see `Spool.start`.
        uri: where to, with its password.
        status, mlflow_run_id: see `MirrorState`.
        given_up: why the run is left as it is in MLflow, or None.
    """

    def __init__(
        self, run_dir: Path, uri: str, target: str | None, warn: Callable[[str], None]
    ) -> None:
        self.run_dir = run_dir
        self.uri = uri
        self.target = target
        self.given_up: str | None = None
        self._warn = warn
        self._state = MirrorState.read(run_dir, target)
        self._lock = mirror_lock(run_dir)
        self._parent: str | None = None
        self._restarted = False
        self._closed = False

    @property
    def mlflow_run_id(self) -> str | None:
        return self._state.mlflow_run_id

    @property
    def status(self) -> str | None:
        return self._state.status

    @property
    def finished(self) -> bool:
        """Whether all of the spool was sent, with its last word, and nothing is kept for later."""
        return _all_sent(self.run_dir, self._state)

    def take(self) -> bool:
        """Become the one that sends this run; False while another is, or there is no spool yet."""
        if self._lock.is_locked:
            return True
        if not spool_path(self.run_dir).exists():
            return False
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        # Whoever held it before has moved on.
        self._state = MirrorState.read(self.run_dir, self.target)
        return True

    def release(self) -> None:
        """Let another process send this run."""
        self._lock.release()

    def close_lost(self) -> bool:
        """Write the last word of a run whose process died without one; False while it lives.

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
            if not spool.finished:
                last_written = spool_path(self.run_dir).stat().st_mtime_ns // 1_000_000
                reason = "the process ended without a word (killed, or the machine stopped)"
                spool.finish("KILLED", reason, last_written)
        self._closed = True
        return True

    def restart_if_missing(self, store: Store) -> None:
        """Begin again if MLflow does not know the run any more (its database was replaced)."""
        if self.mlflow_run_id is not None and store.stage(self.mlflow_run_id) is None:
            self._state = MirrorState(self.target)

    def step(self, store: Store) -> bool:
        """Send a slice of what is new; False if there was nothing.

        Raises:
            ServerAway: it goes on from the same place later.
        """
        before = self._state.offset
        events = read_events(spool_path(self.run_dir), before)
        if not events:
            return self._send_pending(store)
        try:
            self._send(store, events)
        except Rejected as error:
            self._doubt(store, error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.given_up = f"its spool is damaged ({type(error).__name__}: {error})"
        finally:
            if self._state.offset != before:
                self._state.write(self.run_dir)
        return True

    def _send(self, store: Store, events: list[tuple[dict[str, Any], int]]) -> None:
        # A slice's metrics, parameters and tags go together; of a tag only the last value.
        metrics: list[Entry] = []
        texts: dict[tuple[str, str], Entry] = {}
        for event, end in events:
            kind = event.get("event")
            if kind == "metrics":
                metrics.extend(_entries(event))
            elif kind in ("params", "tags"):
                texts.update((entry[:2], entry) for entry in _entries(event))
            else:
                self._send_entries(store, [*metrics, *texts.values()])
                metrics, texts = [], {}
                self._send_other(store, event)
                self._state.offset = end
        self._send_entries(store, [*metrics, *texts.values()])
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
                    else:
                        self._send_file(store, event)
                except Rejected as error:
                    if store.stage(self._run()) != "active":
                        raise
                    self._warn(f"MLflow refuses the {kind}: {error}")

    def _start(self, store: Store, event: Mapping[str, Any]) -> None:
        self._state.status = None
        known = self._state.mlflow_run_id or store.find(event["run_id"])
        self._parent = event["parent_run_id"]
        if known is not None:
            self._state.mlflow_run_id = known
            store.resume(known)
        else:
            tags = {
                **event["tags"],
                "bakeoff.run_id": event["run_id"],
                "bakeoff.run_dir": str(self.run_dir),
            }
            parent = self._parent and store.find(self._parent)
            if parent:
                tags["mlflow.parentRunId"] = parent
            self._state.mlflow_run_id = store.create_run(
                experiment=event["experiment"],
                name=event["run_name"],
                start_time_ms=event["start_time_ms"],
                tags={key: _cut(text, _LONGEST["tag"]) for key, text in tags.items()},
            )
            self._state.write(self.run_dir)

    def _finish(self, store: Store, event: Mapping[str, Any]) -> None:
        tags = {}
        if event["reason"]:
            tags["bakeoff.reason"] = event["reason"]
        # A parent that was not there at the start (sent by another process, or later) may be now.
        parent = self._parent and store.find(self._parent)
        if parent:
            tags["mlflow.parentRunId"] = parent
        self._send_entries(store, [("tag", key, text, 0, 0) for key, text in tags.items()])
        store.finish(self._run(), event["status"], event["end_time_ms"])
        self._state.status = event["status"]

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
            # One entry that MLflow will not have must not keep the others out: find it by halves.
            if len(batch) == 1:
                self._warn(f"MLflow refuses the {batch[0][0]} {batch[0][1]!r}: {error}")
                return
            middle = len(batch) // 2
            self._send_batch(store, batch[:middle])
            self._send_batch(store, batch[middle:])

    def _send_file(self, store: Store, event: Mapping[str, Any]) -> None:
        """Send it, or keep it for later: a store of artifacts may be away while MLflow is not."""
        kind, path = event["event"], event["path"]
        file = self.run_dir / path
        if not file.resolve().is_relative_to(self.run_dir.resolve()):
            self._warn(f"the {kind} {path!r} is not inside the run folder, and is left out")
        elif not file.exists():
            self._warn(f"the {kind} {path!r} is not there any more, and is left out")
        else:
            try:
                self._log_file(store, event)
            except ServerAway as error:
                self._warn(f"the {kind} {path!r} cannot be sent yet: {error}")
                if event not in self._state.pending:
                    self._state.pending.append(dict(event))

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
        name = event["name"]
        version = store.register(self._run(), name, event["digest"], card)
        # What is sent late, or again, must not take the alias from a later champion.
        champion = Champion.read(self.run_dir.parents[1], event["data"])
        if champion is not None and champion.run_id == event["run_id"]:
            store.set_alias(name, event["alias"], version)
        self._state.versions[name] = version
        self._state.write(self.run_dir)

    def _send_pending(self, store: Store) -> bool:
        """Try again what could not be sent, once the rest is; True if something went."""
        pending, sent = self._state.pending, 0
        if self.status is None or not pending:
            return False
        try:
            for event in pending:
                if (self.run_dir / event["path"]).exists():
                    self._log_file(store, event)
                sent += 1
        finally:
            if sent:
                self._state.pending = pending[sent:]
                self._state.write(self.run_dir)
        return True

    def _doubt(self, store: Store, error: Rejected) -> None:
        """What was refused as a whole: the run is gone, or the spool cannot be sent at all."""
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


def _all_sent(run_dir: Path, state: MirrorState) -> bool:
    if state.status is None or state.pending:
        return False
    try:
        return state.offset == spool_path(run_dir).stat().st_size
    except FileNotFoundError:
        return False


def _entries(event: Mapping[str, Any]) -> Iterator[Entry]:
    kind = event["event"].removesuffix("s")
    step, timestamp_ms = event.get("step", 0), event.get("timestamp_ms", 0)
    for key, value in event["values"].items():
        known = float(value) if kind == "metric" else _cut(value, _LONGEST[kind])
        yield kind, key, known, step, timestamp_ms


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
