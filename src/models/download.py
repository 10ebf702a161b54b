"""Download of published weights into the caches of the libraries."""

from __future__ import annotations

import errno
import hashlib
import re
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeVar

from .pretrained import reason_of

__all__ = ["from_address", "from_hub", "remove_fetched"]

T = TypeVar("T")

# Errors of a cache that cannot be written, and not of a connection.
_OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOTDIR}
)
# The name that the hub's cache gives a large file: the digest that its server states.
_SHA256 = re.compile("[0-9a-f]{64}")
# Seconds for looking up a server and for its first response.
_PATIENCE = 6.0


def from_hub(repository: str, names: Sequence[str]) -> Path:
    """Return the first of the named files that a repository has, in the local Hugging Face cache.

    The hub's client would try again for most of a minute; a request beforehand shows within a few
    seconds that the hub cannot be reached. `repository` is "owner/name" or "owner/name@revision".

    Raises:
        OSError: no connection, no such repository or file, no permission, or content with another
            digest; one with an `errno` where the cache's disk refuses the file. Nothing of it is
            kept.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    for name in names:
        address = hub.hf_hub_url(repository, name, revision=revision or None)
        with _reasons_given(Path(hub.constants.HF_HUB_CACHE)):
            try:
                _within_patience(partial(hub.get_hf_file_metadata, address, timeout=_PATIENCE))
            except EntryNotFoundError:
                continue
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Not enough free disk space")
                file = Path(hub.hf_hub_download(repository, name, revision=revision or None))
            stated = file.resolve().name
            if _SHA256.fullmatch(stated) and _sha256(file) != stated:  # the client looks at sizes
                remove_fetched(file)
                raise OSError(f"{name} arrived damaged: its SHA-256 is not the one that was stated")
            return file
    raise OSError(f"{repository} holds none of {', '.join(names)}")


def from_address(address: str, file: Path) -> Path:
    """Fetch `file` into torch's cache, checked against the digest in its name where it has one.

    Raises:
        OSError: no connection, no such address, or content with another digest; as of `from_hub`
            where the disk refuses the file.
    """
    from torch import hub

    request = urllib.request.Request(address, method="HEAD")
    digest = hub.HASH_REGEX.search(file.name)
    with _reasons_given(file.parent):
        _within_patience(partial(urllib.request.urlopen, request, timeout=_PATIENCE)).close()
        file.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(address, str(file), digest[1] if digest else None)
    return file


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_fetched(file: Path) -> None:
    """Remove a file from a cache, with what it is a link to in that of the hub."""
    file.resolve().unlink(missing_ok=True)
    file.unlink(missing_ok=True)


@contextmanager
def _reasons_given(cache: Path) -> Iterator[None]:
    """Turn errors into an OSError with the reason alone; those of the cache's disk stay."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            error.filename = error.filename or str(cache)
            raise
        raise OSError(reason_of(error)) from error


def _within_patience(ask: Callable[[], T]) -> T:
    """Return the result of `ask`, or raise TimeoutError, as looking up a host name has no limit."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    if not wait([answer], timeout=_PATIENCE).done:
        raise TimeoutError(f"no answer within {_PATIENCE:g} seconds")
    return answer.result()
