"""Make faster variants of a trained run, check them on its pictures, and keep the best one.

python -m src.export run=ID
python -m src.export run=ID "variants=[onnx,pt2]" choose=onnx
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # it was given as a file, in which no import finds the others
    print("error: run python -m src.export in the checkout, not a path", file=sys.stderr)
    sys.exit(2)

from .config.checks import input_of
from .config.command_line import run_command
from .config.finished import ExportSettings
from .config.overrides import output_overrides
from .config.plugins import plugin_overrides
from .machine.ending import leave
from .machine.status import doing
from .runs.folder import predict_command, trained_run
from .runs.seal import refuse_changed


def export(settings: ExportSettings, overrides: Sequence[str]) -> None:
    """Write the variants beside the run, print how they compare, and log the choice."""
    with input_of("run"):
        folder, checkpoint = trained_run(settings.run, Path(settings.output_dir))
        refuse_changed(folder.path, settings.changed)

    from .runs.finished.refusals import refuse_export

    refuse_export(folder, settings)

    with doing("loading PyTorch"):
        from .reporting.export_report import format_export
        from .runs.finished.export import export_run

    record, serving = export_run(folder, checkpoint, settings)
    run = str(folder.path) if output_overrides(folder.output_dir) else folder.name
    target = folder.plain_settings()["data"].get("target", "single")
    label = predict_command(run, target, f"variant={record.chosen}", *plugin_overrides())
    print(format_export(record, run, label, serving))
    print(f"written: {folder.exports}", flush=True)


def main() -> int:
    """Return the exit code of the command line."""
    return run_command(__doc__, ExportSettings, export)


if __name__ == "__main__":
    leave(main())
