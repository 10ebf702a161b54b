"""The spool: the record of a run in its folder, `tracking/spool.jsonl`, one JSON event per line.

Everything in MLflow was an event of the spool first, so the run in MLflow can be made again from
the folder alone: after a server was away, a mirror died, or a database was deleted.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

from filelock import Timeout

from ..storage.digests import checked_line
from ..storage.locks import ProcessLock, holder_of, if_free
from .events import read_events, spool_path

__all__ = ["Spool", "is_being_written", "mirror_lock", "writer_lock"]

_STATUSES = ("FINISHED", "FAILED", "KILLED")


def _steady_ns() -> int:
    """Return nanoseconds of a clock that only moves forward, where possible in sleep as well."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()


_BEGAN, _BEGAN_STEADY = time.time_ns(), _steady_ns()


def is_being_written(run_dir: Path) -> bool:
    """Return whether a process has the spool of a run folder open for writing."""
    if not spool_path(run_dir).is_file():
        return False
    with if_free(writer_lock(run_dir)) as free:
        return not free


def writer_lock(run_dir: Path) -> Path:
    """Return the path of the lock that the writer of a run folder's spool holds."""
    return run_dir / "tracking" / "writer.lock"


def mirror_lock(run_dir: Path) -> Path:
    """Return the path of the lock that whoever sends a run folder's spool holds."""
    return run_dir / "tracking" / "mirror.lock"


class Spool:
    """The one writer of a run folder's spool; safe to use from several threads.

    Opening cuts a torn last line. In a spool that had events before (a resumed run) a metric whose
    key and step are there is not written again, nor a parameter; a parameter that has changed is
    written as the tag `bakeoff.changed.<key>`, since MLflow keeps the first value. So is a tag of
    the run's start, as by another command or other code.

    Writing never raises, as a training must not fail because of its record. Events that a full disk
    refuses stay in memory and are written with the next one; meanwhile `error` is the reason.

    Attributes:
        run_id: the project's id of the run; empty before the first `begin`.
        finished: whether the last event is the run's end.
        error: keeps events from being written, or None.

    Raises:
        ValueError: another process is writing this spool.
        OSError: the folder cannot be written at all.
    """

    def __init__(self, run_dir: Path, wait_seconds: float = 5.0) -> None:
        self.run_dir = run_dir
        self.run_id = ""
        self.finished = False
        self.error: OSError | None = None
        self._began_ms = 0
        self._ended_ms: int | None = None
        self._last_ms = 0  # of the events that say when they were
        self._start: dict[str, Any] = {}  # of the last event of a start, its fields
        self._amends: dict[str, Any] | None = None  # the run's end, as arguments of `end`
        self._earlier: set[tuple[str, int]] = set()
        self._latest: dict[tuple[str, int], float | str] = {}
        self._known_params: dict[str, str] = {}
        self._waiting: list[bytes] = []
        self._mutex = threading.Lock()
        spool_path(run_dir).parent.mkdir(parents=True, exist_ok=True)
        # Not bound to a thread: a run may be finished by another thread than it was started by.
        self._lock = ProcessLock(writer_lock(run_dir), thread_local=False)
        try:
            self._lock.acquire(timeout=wait_seconds, poll_interval=0.05)
        except Timeout:
            raise ValueError(f"{run_dir} is being written by {holder_of(self._lock)}") from None
        # With the rights that other files get from the umask: a group may share the folder.
        self._file = os.open(spool_path(run_dir), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._size = self._recover()

    def begin(
        self,
        *,
        run_id: str,
        run_name: str,
        experiment: str,
        mirrored: bool,
        target: str | None,
        tags: Mapping[str, str],
        parent_run_id: str | None = None,
        start_time_ms: int | None = None,
        amends: str | None = None,
    ) -> None:
        """Record that the run begins, is resumed, or is added to after its end.

        Args:
            run_id: the project's id, 32 hex digits, as is that of the parent.
            mirrored: False when the run is not meant for MLflow (yet).
            target: public tracking URI, None for the database in the output folder.
            amends: status with which the run has ended and which it keeps: what is added now does
                not make it last longer, nor does a kill meanwhile make it KILLED.

        Raises:
            ValueError: the spool belongs to another run.
        """
        if self.run_id not in ("", run_id):
            raise ValueError(
                f"{self.run_dir} holds the run {self.run_id}, not {run_id}: what was begun there "
                "has lost its run.json or study.journal; put a copy of it back, or use another name"
            )
        self.run_id = run_id
        start_time_ms = _now_ms() if start_time_ms is None else start_time_ms
        self._began_ms = self._began_ms or start_time_ms
        ended = {"status": amends, "end_time_ms": self._ended_ms or self._last_ms or None}
        self._amends = None if amends is None else ended
        earlier: Mapping[str, str] | None = self._start.get("tags")
        self._start = {
            "run_id": run_id,
            "run_name": run_name,
            "experiment": experiment,
            "mirrored": mirrored,
            "target": target,
            "tags": dict(tags),
            "parent_run_id": parent_run_id,
            "start_time_ms": start_time_ms,
            "amends": self._amends,
        }
        self._write("start", **self._start)
        if earlier is not None:  # MLflow has those of the start that made the run
            changed = {key: text for key, text in tags.items() if earlier.get(key) != text}
            changed.pop("mlflow.note.content", None)  # it is written anew at the end
            self.tags(
                {
                    f"bakeoff.changed.{key}" if key in earlier else key: text
                    for key, text in changed.items()
                }
            )

    def params(self, values: Mapping[str, str]) -> None:
        """Record parameters; those that the spool has already are left out."""
        new = {key: text for key, text in values.items() if key not in self._known_params}
        changed = {
            f"bakeoff.changed.{key}": text
            for key, text in values.items()
            if self._known_params.get(key, text) != text
        }
        if new:
            self._known_params |= new
            self._write("params", values=new)
        if changed:
            self.tags(changed)

    def tags(self, values: Mapping[str, str]) -> None:
        """Record tags; a later value of a key replaces the earlier one."""
        if values:
            self._write("tags", values=dict(values))

    def metrics(
        self,
        values: Mapping[str, float],
        step: int,
        *,
        final: bool = False,
        timestamp_ms: int | None = None,
    ) -> None:
        """Record metrics of one step, by `{split}/{metric}`; NaN and infinities are kept as such.

        Values at the end of the run (`final`) are recorded even where the step has another one.
        """
        # NaN and infinities, which JSON lacks, as text that `float` reads.
        texts = {k: float(v) if math.isfinite(v) else str(float(v)) for k, v in values.items()}
        if final:
            new = {k: text for k, text in texts.items() if self._latest.get((k, step)) != text}
        else:
            new = {k: text for k, text in texts.items() if (k, step) not in self._earlier}
        if new:
            self._latest.update(((key, step), text) for key, text in new.items())
            when = _now_ms() if timestamp_ms is None else timestamp_ms
            self._write("metrics", values=new, step=step, timestamp_ms=when)

    def next_step(self, prefix: str) -> int:
        """Return the first step after those of the metrics whose keys begin with `prefix`."""
        return 1 + max((step for key, step in self._latest if key.startswith(prefix)), default=-1)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file inside the run folder as an artifact, under `folder` in MLflow.

        Whoever replaces a file records it once more: it may have been sent before, or just then.

        Raises:
            ValueError: it is a folder, or lies outside of the run folder, or `folder` outside of
                the artifacts.
        """
        if path.is_dir():
            raise ValueError(f"{path} is a folder: its files are to be recorded one by one")
        parts = PurePosixPath(folder).parts
        if folder != "/".join(parts) or ".." in parts:
            raise ValueError(f"{folder!r} is no folder of artifacts, like figures or a/b")
        self._write("artifact", path=self._relative(path), folder=folder)

    def model(self, path: Path, digest: str, name: str = "model") -> None:
        """Record a bundle inside the run folder as the run's trained model, or a variant of it.

        Models of one run with equal digests (of `write_bundle`) are one model.

        Raises:
            ValueError: it lies outside of the run folder.
        """
        self._write("model", path=self._relative(path), digest=digest, name=name)

    def register(self, card: Path, *, name: str, alias: str, data: str, digest: str) -> None:
        """Register the run's model under a name, with an alias while it is its data's champion.

        The card is a text about it inside the run folder; for the digest see `model`.

        Raises:
            ValueError: the card lies outside of the run folder.
        """
        about = {"name": name, "alias": alias, "data": data, "digest": digest}
        self._write("registration", path=self._relative(card), **about, run_id=self.run_id)

    def dataset(self, *, name: str, digest: str, source: str, profile: Mapping[str, Any]) -> None:
        """Record the data of the run: digest of at most 36 characters, profile of plain values."""
        about = {"name": name, "digest": digest[:36], "source": source, "profile": dict(profile)}
        self._write("dataset", **about, context="training")

    def end(self, status: str, reason: str | None = None, end_time_ms: int | None = None) -> None:
        """Record the end of the run, until it is resumed.

        Raises:
            ValueError: a status that is not FINISHED, FAILED or KILLED.
        """
        if status not in _STATUSES:
            raise ValueError(f"status is {status!r}: it must be one of {', '.join(_STATUSES)}")
        if end_time_ms is None and self._amends is not None:
            end_time_ms = self._amends["end_time_ms"]
        if end_time_ms is None:  # not before what is recorded, if the clock was set back
            end_time_ms = max(_now_ms(), self._began_ms, self._last_ms, self._ended_ms or 0)
        self._write("finish", status=status, reason=reason, end_time_ms=end_time_ms)

    def end_lost(self, reason: str) -> None:
        """Record the end of a run whose process died, unless it has one.

        It is that with which the run had ended before something was added to it, else that of a
        summary which says that the run finished, else KILLED at the time of the last event.
        """
        if not self.finished:
            lost = {"status": "KILLED", "reason": reason, "end_time_ms": self._last_ms or None}
            self.end(**(self._amends or self._summarized_end() or lost))

    def correct_end(self) -> None:
        """Record that the run finished, as its summary says, in the place of no end or another."""
        end = self._summarized_end()
        if end is None:
            return
        if self.finished:  # what MLflow shows of the other end goes with a new start
            self._write("start", **{**self._start, "amends": end})
        elif self._amends is not None:
            end = self._amends
        self.end(**end)

    def close(self) -> None:
        """Flush to the disk and release the spool; events that could not be written are lost."""
        with self._mutex:
            if self._file < 0:
                return
            try:
                self._drain()
                os.fsync(self._file)
            except OSError as error:
                self.error = error
            os.close(self._file)
            self._file = -1
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _summarized_end(self) -> dict[str, Any] | None:
        """Return the end of a run that has finished by its summary; None for any other."""
        from ..records.run import RunSummary  # which imports NumPy

        try:
            summary = RunSummary.read(self.run_dir / "summary.json")
        except (OSError, ValueError):
            return None
        if summary.status != "FINISHED":  # it may be of an earlier try
            return None
        took_ms = round(1000 * summary.duration_seconds)
        end_time_ms = max(self._start.get("start_time_ms", 0) + took_ms, self._last_ms)
        return {"status": "FINISHED", "end_time_ms": end_time_ms if self._start else None}

    def _relative(self, path: Path) -> str:
        root = self.run_dir.resolve()
        if not path.resolve().is_relative_to(root):
            raise ValueError(f"{path} does not lie in the run folder {self.run_dir}")
        return path.resolve().relative_to(root).as_posix()

    def _write(self, event: str, **fields: Any) -> None:
        line = checked_line({"event": event, **fields})
        with self._mutex:
            self.finished = event == "finish"
            self._waiting.append(line)
            try:
                self._drain()
                self.error = None
            except OSError as error:
                self.error = error

    def _drain(self) -> None:
        """Write waiting events; after a failure the file ends with a whole line, as before."""
        while self._waiting:
            line = self._waiting[0]
            try:
                written = 0
                while written < len(line):  # a disk that is nearly full writes a part
                    written += os.write(self._file, line[written:])
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
            self._size += len(line)
            del self._waiting[0]

    def _recover(self) -> int:
        """Read what is recorded, cut a torn last line, and return the size."""
        path, size = spool_path(self.run_dir), 0
        while events := read_events(path, size):
            for event, end in events:
                self._restore(event)
                size = end
        os.ftruncate(self._file, size)
        return size

    def _restore(self, event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        self.finished = kind == "finish"
        if kind == "start":
            self.run_id = self.run_id or event["run_id"]
            began_ms = int(event.get("start_time_ms", 0))
            self._began_ms = self._began_ms or began_ms
            self._amends = event.get("amends")
            if self._amends is None:
                self._last_ms = max(self._last_ms, began_ms)
                self._start = {key: value for key, value in event.items() if key != "event"}
        elif kind == "finish":
            self._ended_ms = int(event["end_time_ms"])
        elif kind == "metrics":
            if self._amends is None:
                self._last_ms = max(self._last_ms, int(event.get("timestamp_ms", 0)))
            values = {(key, event["step"]): text for key, text in event["values"].items()}
            self._earlier.update(values)
            self._latest.update(values)
        elif kind == "params":
            self._known_params.update(event["values"])


def _now_ms() -> int:
    """Return milliseconds since 1970, by the clock as it stood when this process began.

    One that is set meanwhile would make a run take days, or end before it began.
    """
    return (_BEGAN + _steady_ns() - _BEGAN_STEADY) // 1_000_000
