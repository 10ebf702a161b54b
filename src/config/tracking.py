"""Settings of the tracking group: where runs are mirrored to."""

from __future__ import annotations

from dataclasses import dataclass

from src.config.checks import Settings, setting

__all__ = ["TrackingSettings"]


@dataclass(frozen=True)
class TrackingSettings(Settings):
    """The MLflow experiment that mirrors the run folders."""

    uri: str | None = setting(
        "tracking URI of MLflow, taken literally; null for sqlite:///<output_dir>/mlflow.db"
    )
    experiment: str = setting("name of the MLflow experiment")
