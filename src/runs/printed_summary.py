"""What a finished run prints: its figures, how they were measured, and where they are shown."""

from __future__ import annotations

from ..config.models import NetworkSettings
from ..config.overrides import output_overrides
from ..config.schema import RunSettings
from ..machine.package import CHECKOUT, command
from ..records.run import RunSummary
from ..reporting.terminal import format_summary
from ..tracking.addresses import without_password

__all__ = ["print_summary", "show_finished"]


def print_summary(summary: RunSummary, settings: RunSettings) -> None:
    """Print the summary of a run with these settings."""
    print(format_summary(summary, _ui_command(settings), _measured_with(settings)))


def show_finished(summary: RunSummary, settings: RunSettings, parent: object | None) -> RunSummary:
    """Print and return the summary of a finished run; nothing is measured or written.

    Of a run with a parent nothing is printed: the larger run has lines of its own.
    """
    if parent is None:
        name = summary.name
        print(f"{name} is finished, and there is nothing left to do: its record is as it was")
        print_summary(summary, settings)
    return summary


def _measured_with(settings: RunSettings) -> str | None:
    """Return how a network's accuracies differ from those that its epochs showed, if they do."""
    if not isinstance(settings.model, NetworkSettings):
        return None
    trainer, parts = settings.trainer, []
    if trainer.final_weights == "best":
        parts.append("the weights of the best epoch")
    if trainer.tta not in ("auto", "none"):
        parts.append(f"the mean of several views of a picture (trainer.tta={trainer.tta})")
    if not parts:
        return None
    return f"{' and '.join(parts)}; each epoch above with its own weights and one view"


def _ui_command(settings: RunSettings) -> str:
    """Return the command that shows the run in MLflow, or where its pictures are."""
    if not settings.tracking.enabled:
        return "not tracked; the pictures are in figures/ of the run folder"
    overrides = output_overrides(settings.output_dir)
    if settings.tracking.uri is not None:
        overrides.append(f"tracking.uri={settings.tracking.uri}")
    if CHECKOUT is not None and not overrides:
        return "make ui"
    return without_password(command("ui", *overrides))
