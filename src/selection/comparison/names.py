"""What makes two runs repeats of one candidate, and what a candidate is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from src.config.compose import leaves
from src.reporting.formatting import settings_text

__all__ = ["candidate_settings", "configuration", "names_of"]

# Of a run's settings: where it was kept, how it was carried out, and what repeats change.
_NOT_THE_CANDIDATE = (
    *("output_dir", "resume", "seed", "evaluate_test", "find_lr", "tracking.", "runtime."),
    *("trainer.progress", "trainer.accelerator", "data.cache_dir", "data.cache_limit_gb"),
    *("data.num_workers", "data.check_content", "data.download", "data.name"),
)
_MOST_DIFFERENCES = 3


def candidate_settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted key, what of a run's settings its repeats share."""
    return {k: v for k, v in leaves(plain).items() if not k.startswith(_NOT_THE_CANDIDATE)}


def configuration(known: Mapping[str, Any]) -> str:
    """Equal for runs that differ in nothing but the seed."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def names_of(
    models: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Of each configuration: its model, and what sets it apart from others of that model.

    Where they differ in many settings, those with the most different values are named, and a mark
    stands for the rest.

    Args:
        models: name of the model, by configuration.
        settings: as `candidate_settings`, by configuration.
    """
    names: dict[str, str] = {}
    for model in dict.fromkeys(models.values()):
        own = {one: settings[one] for one, name in models.items() if name == model}
        differing = _differing(list(own.values()))
        told = differing[:_MOST_DIFFERENCES]
        for one, known in own.items():
            shown = {key.removesuffix(".name"): _short(known[key]) for key in told if key in known}
            mark = f" #{one[:4]}" if len(differing) > len(told) else ""
            names[one] = f"{model} {settings_text(shown)}".rstrip() + mark
    return names


def _short(value: Any) -> Any:
    """Numbers to three digits: names that coincide are told apart by their runs."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys with more than one value, those with the most values first."""
    values: dict[str, set[str]] = {}
    for known in settings:
        for key, value in known.items():
            values.setdefault(key, set()).add(str(value))
    counts = {key: len(found) for key, found in values.items() if "_target_" not in key}
    some = [key for key, known in counts.items() if known > 1 or _missing(key, settings)]
    return sorted(some, key=lambda key: -counts[key])


def _missing(key: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    return any(key not in known for known in settings)
