"""Download of published weights into the caches of the libraries."""

from __future__ import annotations

import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TypeVar

from ..machine.disk import NO_ROOM, refusal
from ..machine.failures import DiskRefuses
from .pretrained import reason_of

__all__ = ["from_address", "from_hub"]

T = TypeVar("T")

# Seconds for looking up a server and for its first response.
_PATIENCE = 6.0


def from_hub(repository: str, names: Sequence[str]) -> Path:
    """Return the first of the named files that a repository has, in the local Hugging Face cache.

    The hub's client would try again for most of a minute; a request beforehand shows within a few
    seconds that the hub cannot be reached. `repository` is "owner/name" or "owner/name@revision".

    Raises:
        OSError: no connection, no such repository or file, or no permission.
        DiskRefuses: the file cannot be kept; nothing of it is there.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    for name in names:
        address = hub.hf_hub_url(repository, name, revision=revision or None)
        try:
            try:
                _within_patience(partial(hub.get_hf_file_metadata, address, timeout=_PATIENCE))
            except EntryNotFoundError:
                continue
            with _disk_explained(Path(hub.constants.HF_HUB_CACHE)), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Not enough free disk space")
                return Path(hub.hf_hub_download(repository, name, revision=revision or None))
        except DiskRefuses:
            raise
        except Exception as error:
            raise OSError(reason_of(error)) from error
    raise OSError(f"{repository} holds none of {', '.join(names)}")


def from_address(address: str, file: Path) -> Path:
    """Fetch `file` into torch's cache, checked against the digest in its name where it has one.

    Raises:
        OSError: no connection, no such address, or content with another digest.
        DiskRefuses: the file cannot be kept; nothing of it is there.
    """
    from torch import hub

    request = urllib.request.Request(address, method="HEAD")
    digest = hub.HASH_REGEX.search(file.name)
    try:
        _within_patience(partial(urllib.request.urlopen, request, timeout=_PATIENCE)).close()
        with _disk_explained(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(address, str(file), digest[1] if digest else None)
    except DiskRefuses:
        raise
    except Exception as error:
        raise OSError(reason_of(error)) from error
    return file


@contextmanager
def _disk_explained(folder: Path) -> Iterator[None]:
    """Turn the errors of the disk that a cache lies on into `DiskRefuses`."""
    try:
        yield
    except OSError as error:  # those of connections are some, too
        of_disk = error.errno in NO_ROOM or error.filename is not None
        if of_disk and (reason := refusal(error, folder)):
            raise DiskRefuses(f"the weights cannot be kept: {reason}") from error
        raise


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
