"""Which pictures a study is about."""

from __future__ import annotations

import hashlib
import json

from src.config.checks import ConfigError
from src.config.sweep import SweepSettings
from src.data.quality.audit import survey
from src.data.sources.listing import list_pictures
from src.machine.parallel import available_cores
from src.search.study import SweepStudy
from src.storage.cache import cache_folder

__all__ = ["check_pictures"]

_KEY = "pictures"


def check_pictures(settings: SweepSettings, study: SweepStudy) -> None:
    """Refuse to go on with a study on other pictures than those that it began with.

    Trials are compared on the same pictures, told apart by their place in the list of all. What is
    found out about files is kept for the trainings. Workers of a cluster may be the only ones to
    have the pictures, so there nothing is checked.

    Raises:
        ConfigError: contents, labels, classes or order are others, or the pictures are not there.
    """
    if settings.workers.engine != "local":
        return
    now, before = _fingerprint(settings), study.recall(_KEY)
    if before is None:  # new, or begun before this was noted
        study.remember(_KEY, now)
    elif before != now:
        raise ConfigError(
            f"the pictures are others, or in another order, than those that the study "
            f"{settings.study} began with: bring the earlier ones back, or begin a new study with "
            "study=NAME."
        )


def _fingerprint(settings: SweepSettings) -> str:
    """32 hex digits that name the pictures with their labels and their order."""
    source = list_pictures(settings.data)
    found = survey(
        source,
        findings_dir=cache_folder(settings.data.cache_dir).absolute() / "findings",
        workers=settings.data.num_workers or available_cores(),
    )
    digest = hashlib.blake2b(json.dumps(source.class_names).encode(), digest_size=16)
    digest.update(found.hashes.tobytes())
    digest.update(source.targets.astype("<i8").tobytes())
    return digest.hexdigest()
