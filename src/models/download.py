"""Download of published weights into the caches of the libraries."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from src.models.pretrained import reason_of

__all__ = ["from_address", "from_hub"]

T = TypeVar("T")

# Seconds that a server may take to be found and to answer at all.
_PATIENCE = 6.0


def from_hub(repository: str, names: Sequence[str]) -> Path:
    """Fetch the first of these files that the repository of the Hugging Face hub has.

    The hub's client would try again for most of a minute; a request beforehand shows within a few
    seconds that the hub cannot be reached.

    Args:
        repository: "owner/name", or "owner/name@revision".
        names: of files in it.

    Returns:
        The file's place in the local Hugging Face cache.

    Raises:
        OSError: no connection, no such repository or file, or no permission.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    for name in names:
        address = hub.hf_hub_url(repository, name, revision=revision or None)
        try:
            _within_patience(partial(hub.get_hf_file_metadata, address, timeout=_PATIENCE))
        except EntryNotFoundError:
            continue
        except Exception as error:
            raise OSError(reason_of(error)) from error
        try:
            return Path(hub.hf_hub_download(repository, name, revision=revision or None))
        except Exception as error:
            raise OSError(reason_of(error)) from error
    raise OSError(f"{repository} holds none of {', '.join(names)}")


def from_address(address: str, file: Path) -> Path:
    """Fetch a file into torch's cache, checked against the digest in its name where it has one.

    Returns:
        `file`.

    Raises:
        OSError: no connection, no such address, or content with another digest.
    """
    from torch import hub

    request = urllib.request.Request(address, method="HEAD")

    def ask() -> None:
        with urllib.request.urlopen(request, timeout=_PATIENCE):
            pass

    digest = hub.HASH_REGEX.search(file.name)
    try:
        _within_patience(ask)
        file.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(address, str(file), digest[1] if digest else None)
    except Exception as error:
        raise OSError(reason_of(error)) from error
    return file


def _within_patience(ask: Callable[[], T]) -> T:
    """Return the result of `ask`, or raise TimeoutError, as looking up a host name has no limit."""
    answers: SimpleQueue[tuple[T | None, Exception | None]] = SimpleQueue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=_PATIENCE)
    except Empty:
        raise TimeoutError(f"no answer within {_PATIENCE:g} seconds") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]
