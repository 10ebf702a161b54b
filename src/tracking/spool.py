"""The run's own record: `tracking/spool.jsonl` in its folder, one JSON event a line.

The spool is the truth and MLflow its mirror. Everything that can be seen in MLflow was a line here
before, so a mirror that was away, died or was deleted can be made again from the folder alone.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Self

from filelock import FileLock, Timeout

from src.storage.digests import DamagedLine, checked_line, line_content

__all__ = [
    "STATUSES",
    "Spool",
    "find_runs",
    "forget_warnings",
    "is_being_written",
    "last_start",
    "read_events",
    "spool_path",
]

STATUSES = ("FINISHED", "FAILED", "KILLED")
# Folders below output_dir that hold no run folder, but perhaps very many files.
_NO_RUNS = frozenset(
    {
        *("mlartifacts", "checkpoints", "predictions", "figures", "model", "exports"),
        *("cache", "tracking"),
    }
)
_SLICE_BYTES = 1 << 20
_log = logging.getLogger(__name__)
# Damaged lines that this process has spoken of.
_said: set[tuple[Path, int]] = set()


def spool_path(run_dir: Path) -> Path:
    """The spool of a run folder."""
    return run_dir / "tracking" / "spool.jsonl"


def is_being_written(run_dir: Path) -> bool:
    """Whether a process holds the spool of a run folder open for writing at this moment."""
    if not spool_path(run_dir).is_file():
        return False
    lock = _writer_lock(run_dir)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def find_runs(output_dir: Path) -> Iterator[Path]:
    """Every run folder with a spool under `output_dir`, in alphabetical order, parents first."""
    for folder, below, _ in os.walk(output_dir):
        below[:] = sorted(name for name in below if name not in _NO_RUNS and name[0] != ".")
        if spool_path(Path(folder)).is_file():
            yield Path(folder)


def last_start(run_dir: Path) -> dict[str, Any]:
    """The event with which a run began, or went on for the last time; empty where there is none."""
    start: dict[str, Any] = {}
    offset = 0
    while events := read_events(spool_path(run_dir), offset):
        start = next((e for e, _ in reversed(events) if e.get("event") == "start"), start)
        offset = events[-1][1]
    return start


def read_events(path: Path, offset: int = 0) -> list[tuple[dict[str, Any], int]]:
    """Up to some 1 MB of whole events from byte `offset` on, each with the offset behind it.

    A last line without its end is not there yet, and a line that is not what was written (left by a
    power cut, say) comes as `{}`, so that the offsets go on. No file means no events.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            lines = file.readlines(_SLICE_BYTES)
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        if not line.endswith(b"\n"):
            break
        events.append((_event(line, path, offset), offset + len(line)))
        offset += len(line)
    return events


def forget_warnings() -> None:
    """Have damaged lines be spoken of again that this process has spoken of already."""
    _said.clear()


class Spool:
    """The one writer of a run folder's spool; safe to use from several threads.

    Opening cuts a torn last line. In a spool that had events before (a resumed run) a metric whose
    key and step are there is not written again, nor a parameter; a parameter that has changed is
    written as the tag `bakeoff.changed.<key>`, since MLflow keeps the first value.

    Writing never raises: a training must not die of its diary. What a full disk refuses stays in
    memory and is tried again with the next event; meanwhile `trouble` says what went wrong.

    Attributes:
        run_dir: the run folder.
        run_id: our own id of the run, or None before the first `start`.
        finished: whether the last word was `finish`.
        trouble: the error that keeps events from being written, or None.

    Raises:
        ValueError: another process is writing this spool.
        OSError: the folder cannot be written at all.
    """

    def __init__(self, run_dir: Path, wait_seconds: float = 5.0) -> None:
        self.run_dir = run_dir
        self.run_id: str | None = None
        self.finished = False
        self.trouble: OSError | None = None
        self._began_ms = 0
        self._earlier: set[tuple[str, int]] = set()
        self._latest: dict[tuple[str, int], float | str] = {}
        self._known_params: dict[str, str] = {}
        self._waiting: list[bytes] = []
        self._mutex = threading.Lock()
        spool_path(run_dir).parent.mkdir(parents=True, exist_ok=True)
        self._lock = _writer_lock(run_dir)
        try:
            self._lock.acquire(timeout=wait_seconds, poll_interval=0.05)
        except Timeout:
            raise ValueError(f"{run_dir} is being written by another process") from None
        self._file = os.open(spool_path(run_dir), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = self._recover()

    def start(
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
    ) -> None:
        """The run begins, or goes on.

        Args:
            run_id: our own id, 32 hex digits.
            mirrored: False when the run is not meant for MLflow (yet).
            target: public tracking URI, None for the database in the output folder.
            parent_run_id: our own id of the run that this one belongs to.

        Raises:
            ValueError: the spool belongs to another run.
        """
        if self.run_id not in (None, run_id):
            raise ValueError(f"{self.run_dir} holds the run {self.run_id}, not {run_id}")
        self.run_id = run_id
        start_time_ms = _now_ms() if start_time_ms is None else start_time_ms
        self._began_ms = self._began_ms or start_time_ms
        self._write(
            "start",
            run_id=run_id,
            run_name=run_name,
            experiment=experiment,
            mirrored=mirrored,
            target=target,
            tags=dict(tags),
            parent_run_id=parent_run_id,
            start_time_ms=start_time_ms,
        )

    def params(self, values: Mapping[str, str]) -> None:
        """Parameters; those that the spool has already are left out."""
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
        """Tags; a later value of a key replaces the earlier one."""
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
        """Metrics of one step; NaN and infinities are kept as such.

        Args:
            final: the values that the run ends with. They count even where the step has a value
                already, unless that is the same.
        """
        texts = {key: _written(float(value)) for key, value in values.items()}
        new = {
            key: text
            for key, text in texts.items()
            if (
                self._latest.get((key, step)) != text if final else (key, step) not in self._earlier
            )
        }
        if new:
            self._latest.update(((key, step), text) for key, text in new.items())
            timestamp_ms = _now_ms() if timestamp_ms is None else timestamp_ms
            self._write("metrics", values=new, step=step, timestamp_ms=timestamp_ms)

    def next_step(self, prefix: str) -> int:
        """The first step after those of the metrics whose keys begin with `prefix`."""
        return 1 + max((step for key, step in self._latest if key.startswith(prefix)), default=-1)

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file or folder inside the run folder belongs into the run's artifacts.

        Args:
            folder: of the artifacts, like `figures` or `a/b`; empty for the top.

        Raises:
            ValueError: it lies outside of the run folder, or `folder` outside of the artifacts.
        """
        parts = PurePosixPath(folder).parts
        if folder != "/".join(parts) or ".." in parts:
            raise ValueError(
                f"{folder!r} is no folder of artifacts: it must be like figures or a/b"
            )
        self._write("artifact", path=self._relative(path), folder=folder)

    def model(self, path: Path, digest: str, name: str = "model") -> None:
        """A bundle inside the run folder is the run's trained model, or a variant of it.

        Args:
            path: the bundle's folder.
            digest: what `write_bundle` returned: models of one run with the same are one model.
            name: of the model within the run, as in `runs:/ID/NAME`.

        Raises:
            ValueError: it lies outside of the run folder.
        """
        self._write("model", path=self._relative(path), digest=digest, name=name)

    def registration(self, card: Path, *, name: str, alias: str, data: str, digest: str) -> None:
        """The run's model is registered, under an alias as long as it is its data's champion.

        Args:
            card: a text about it inside the run folder.
            name: of the registered model.
            data: name of the data set.
            digest: of the bundle; see `model`.

        Raises:
            ValueError: the card lies outside of the run folder.
        """
        self._write(
            "registration",
            path=self._relative(card),
            name=name,
            alias=alias,
            data=data,
            digest=digest,
            run_id=self.run_id,
        )

    def dataset(
        self,
        *,
        name: str,
        digest: str,
        source: str,
        profile: Mapping[str, Any],
        context: str = "training",
    ) -> None:
        """The data that the run read: digest of at most 36 characters, profile of plain values."""
        self._write(
            "dataset",
            name=name,
            digest=digest[:36],
            source=source,
            profile=dict(profile),
            context=context,
        )

    def finish(
        self, status: str, reason: str | None = None, end_time_ms: int | None = None
    ) -> None:
        """The last word of a run, until it is resumed.

        Raises:
            ValueError: a status that is not FINISHED, FAILED or KILLED.
        """
        if status not in STATUSES:
            raise ValueError(f"status is {status!r}: it must be one of {', '.join(STATUSES)}")
        if end_time_ms is None:  # not before it began, should the clock have been set meanwhile
            end_time_ms = max(_now_ms(), self._began_ms)
        self._write("finish", status=status, reason=reason, end_time_ms=end_time_ms)

    def close(self) -> None:
        """Flush to the disk and let go of the spool; what could not be written is lost."""
        with self._mutex:
            if self._file < 0:
                return
            try:
                self._drain()
                os.fsync(self._file)
            except OSError as error:
                self.trouble = error
            os.close(self._file)
            self._file = -1
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
                self.trouble = None
            except OSError as error:
                self.trouble = error

    def _drain(self) -> None:
        """Write what waits; after a failure the file ends with a whole line, as before."""
        while self._waiting:
            line = self._waiting[0]
            try:
                written = 0
                while written < len(line):  # a disk that is nearly full takes a part
                    written += os.write(self._file, line[written:])
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
            self._size += len(line)
            del self._waiting[0]

    def _recover(self) -> int:
        """Learn what is there, cut a torn last line, and return the size."""
        path, size = spool_path(self.run_dir), 0
        while events := read_events(path, size):
            for event, end in events:
                self._learn(event)
                size = end
        os.ftruncate(self._file, size)
        return size

    def _learn(self, event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        self.finished = kind == "finish"
        if kind == "start":
            self.run_id = self.run_id or event["run_id"]
            self._began_ms = self._began_ms or int(event.get("start_time_ms", 0))
        elif kind == "metrics":
            values = {(key, event["step"]): text for key, text in event["values"].items()}
            self._earlier.update(values)
            self._latest.update(values)
        elif kind == "params":
            self._known_params.update(event["values"])


def _writer_lock(run_dir: Path) -> FileLock:
    # Not bound to a thread: a run may be finished by another thread than it was started by.
    return FileLock(run_dir / "tracking" / "writer.lock", thread_local=False)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _written(value: float) -> float | str:
    """JSON has no NaN and no infinities: as text, which `float` reads."""
    return value if math.isfinite(value) else str(value)


def _event(line: bytes, path: Path, offset: int) -> dict[str, Any]:
    try:
        return line_content(line)
    except DamagedLine as error:
        if (path, offset) not in _said:
            _said.add((path, offset))
            _log.warning(
                "a line of %s at byte %d is damaged (%s) and is left out: "
                "python -m src.verify run=%s repair=true puts it aside",
                path,
                offset,
                error,
                path.parent.parent,
            )
        return {}
