"""The count of measurements of a test part, each of which makes the next one less unbiased."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from ...config.checks import ConfigError
from ...machine.disk import named_file, refusal
from ...machine.regular_files import file_fault
from ...storage.digests import DamagedLine, checked_line, line_content

__all__ = [
    "anything_measured",
    "count_test_measurement",
    "count_test_measurement_once",
    "measurements_file",
    "past_test_measurements",
    "refuse_uncountable",
]

_log = logging.getLogger(__name__)
_FILE = "test_measurements.jsonl"


def count_test_measurement(output_dir: Path, fingerprint: str, run_id: str) -> int:
    """Record one measurement of the test part of a split; return how many there are now.

    Args:
        output_dir: the folder whose runs share the count.
        fingerprint: of the split's test part.
        run_id: of the run that measured.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    file = measurements_file(output_dir)
    line = checked_line({"split": fingerprint, "run_id": run_id, "time": int(time.time())})
    # One write in append mode: processes that count at once cannot mix their lines.
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        with named_file(file):
            os.write(handle, line)
    finally:
        os.close(handle)
    return past_test_measurements(output_dir, fingerprint)


def count_test_measurement_once(output_dir: Path, fingerprint: str, run_id: str) -> int:
    """Record that a run measured a test part, unless that is; return how many measurements are.

    For what a worker has measured that counts in a folder of its own if it shares no disk.
    Arguments are those of `count_test_measurement`.
    """
    if any(line.get("run_id") == run_id for line in _measurements(output_dir, fingerprint)):
        return past_test_measurements(output_dir, fingerprint)
    return count_test_measurement(output_dir, fingerprint, run_id)


def measurements_file(output_dir: Path) -> Path:
    """Return the path of the counts, which may be missing.

    Raises:
        ConfigError: it is no file, such as a pipe that one would wait for.
    """
    file = output_dir / _FILE
    if file.exists() and (fault := file_fault(file)):
        raise ConfigError(f"{file} {fault}: move it away, or put a copy of the file back.")
    return file


def refuse_uncountable(output_dir: Path) -> None:
    """Refuse a count that a measurement of the test part could not be added to.

    For commands that measure only after they have trained or predicted.

    Raises:
        ConfigError: with the remedy.
    """
    file = measurements_file(output_dir)
    try:
        os.close(os.open(file, os.O_RDWR | os.O_APPEND))
    except FileNotFoundError:
        return  # it is made, where the folder can be written to
    except OSError as error:
        reason = refusal(error) or error.strerror
        raise ConfigError(
            f"the measurements of test parts cannot be counted in {file}: {reason}."
        ) from error


def anything_measured(output_dir: Path) -> bool:
    """Return whether runs under `output_dir` have measured the test part of any split."""
    return (output_dir / _FILE).exists()


def past_test_measurements(output_dir: Path, fingerprint: str) -> int:
    """Return how often runs under `output_dir` have measured the test part with this fingerprint.

    A damaged line counts, since it may have been about this one.
    """
    return len(_measurements(output_dir, fingerprint))


def _measurements(output_dir: Path, fingerprint: str) -> list[dict[str, Any]]:
    """Return the lines about this test part; a damaged one is empty."""
    try:
        lines = measurements_file(output_dir).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            content = line_content(line, strict=True)
        except DamagedLine as error:  # a line cut by a crash was a measurement too
            found.append({})
            _log.warning(
                "line %d of %s is damaged (%s): it counts as a measurement of this test part",
                number,
                output_dir / _FILE,
                error,
            )
            continue
        if content.get("split") == fingerprint:
            found.append(content)
    return found
