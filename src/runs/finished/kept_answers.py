"""What a call of `predict` has answered before it was killed, for the same call to go on with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ...config.finished import PredictSettings
from ...data.sources.source import Problem
from ...machine.package import package_version
from ...machine.text import counted
from ...serving.predictor import Labelled
from ...serving.trust import JudgedAnswer
from ...storage.growing import GrowingFile, has_blocks

__all__ = ["UNFINISHED", "KeptAnswers", "kept_answers", "labelled_of"]

T = TypeVar("T")
A = TypeVar("A")

# The end of the name of the folder.
UNFINISHED = ".unfinished"
# What a call that is killed loses at most.
_BLOCK_PICTURES = 200


class KeptAnswers:
    """Answers to the first pictures of a call, in blocks.

    Args:
        folder: for these alone; one process at a time works in it. None to keep none.
        call: see `_identity_of_call`. The answers of another call go.
    """

    def __init__(self, folder: Path | None, call: str) -> None:
        self._folder, self._call = folder, call

    def continued(
        self,
        pictures: Sequence[T],
        answers: Callable[[Sequence[T]], Iterable[A]],
        *,
        plain: Callable[[A], Any],
        read: Callable[[Any], A],
    ) -> Iterator[A]:
        """Yield the answers to all pictures, of which those that are kept are not asked for.

        An answer is kept when the next one is taken: what was to be done with it is done then.

        Args:
            pictures: of the call, in its order.
            answers: yields the answer to each picture that it is given, in order.
            plain: makes plain values for JSON of an answer.
            read: makes an answer of these.

        Raises:
            OSError: they cannot be written.
        """
        if self._folder is None:
            yield from answers(pictures)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = GrowingFile(self._folder / "answers.jsonl", self._call)
        done = sum(block["pictures"] for block in file.blocks)
        if done:
            what = f"going on after {counted(done, 'answer')} of {len(pictures):,}"
            print(f"{what}, which an earlier call has left", file=sys.stderr)
        for content in file.contents() if done else ():
            yield from map(read, json.loads(content))
        waiting: list[Any] = []
        for answer in answers(pictures[done:]):
            yield answer
            waiting.append(plain(answer))
            if len(waiting) == _BLOCK_PICTURES:
                file.add(json.dumps(waiting).encode(), {"pictures": len(waiting)})
                waiting.clear()


@contextmanager
def kept_answers(
    folder: Path | None, model: Path, pictures: Iterable[str], settings: PredictSettings
) -> Iterator[KeptAnswers]:
    """Yield the answers that a call has kept in a folder; they go when the block has ended.

    They stay where the block ends by an exception, or the process is killed.

    Args:
        folder: as of `KeptAnswers`.
        model, pictures, settings: of the call, see `_identity_of_call`.
    """
    if folder is None:
        yield KeptAnswers(None, "")
        return
    try:
        yield KeptAnswers(folder, _identity_of_call(model, pictures, settings))
    except BaseException:
        if has_blocks(folder):
            print("the answers so far are kept: the same command goes on", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _identity_of_call(model: Path, pictures: Iterable[str], settings: PredictSettings) -> str:
    """Return a hash, 32 hex digits, of all that the answers of a call depend on.

    That is the version of this package, the settings, and place, size and time of change of each
    picture and of the files of the model.

    Args:
        model: a run's checkpoint, or the bundle of an exported variant.
        pictures: files, in their order.
        settings: of the call.
    """
    files = model.rglob("*") if model.is_dir() else model.parents[1].glob("model/*")
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{package_version()} {settings!r}".encode("utf-8", "backslashreplace"))
    for path in (model, *sorted(files), *map(Path, pictures)):
        digest.update(b"\0" + os.fsencode(path))
        try:
            status = os.stat(path)
        except OSError:  # said when it is opened
            continue
        digest.update(f" {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def labelled_of(plain: dict[str, Any]) -> Labelled | Problem:
    """Return the answer of which `dataclasses.asdict`, and then JSON, made plain values."""
    if "reason" in plain:
        return Problem(**plain)
    judged = plain.pop("judged")
    trusted = None if judged is None else JudgedAnswer(**_with_tuples(judged))
    return Labelled(**_with_tuples(plain), judged=trusted)


def _with_tuples(plain: dict[str, Any]) -> dict[str, Any]:
    """Return values with tuples for lists, as JSON knows lists alone."""
    return {key: tuple(x) if isinstance(x, list) else x for key, x in plain.items()}
