"""The exported variants of a run as a person compares them."""

from __future__ import annotations

import shlex
import shutil

from src.records.export import ExportRecord, VariantRecord
from src.reporting.tables import Table

__all__ = ["format_export"]


def format_export(record: ExportRecord, run: str, serving: str | None) -> str:
    """The table, why variants are missing, and what to type next; without a final line break.

    Args:
        record: of the export.
        run: what to call the run on the command line.
        serving: the command that serves the chosen variant, or None.
    """
    sizes = list(record.variants[0].milliseconds)
    headers = ["variant", "size"]
    for size in sizes:
        headers += ["1 picture" if size == 1 else f"{size} pictures", "times faster"]
    headers += ["logits differ by", "equal labels", "accuracy"]
    pictures = "validation" if record.part == "val" else "training"
    threads = "1 thread" if record.threads == 1 else f"{record.threads} threads"
    table = Table(
        f"{run} on {record.pictures:,} {pictures} pictures, {threads}",
        tuple(headers),
        tuple(_cells(variant) for variant in record.variants),
        frozenset(range(1, len(headers))),
    )
    lines = [table.text(max(shutil.get_terminal_size().columns, 120)), ""]
    lines += [f"{name} cannot be had: {reason}" for name, reason in record.missing.items()]
    lines += [_verdict(record)]
    if record.chosen is not None:
        words = ["python", "-m", "src.predict", f"run={run}", f"variant={record.chosen}"]
        lines += [f"predict with it: {shlex.join(words)} images=..."]
    if serving is not None:
        lines += [f"serve it: {serving}"]
    return "\n".join(lines)


def _cells(variant: VariantRecord) -> tuple[str, ...]:
    cells = [variant.name, f"{variant.size_mb:.1f} MB"]
    for size, milliseconds in variant.milliseconds.items():
        median, low, high = variant.speedup[size]
        cells += [f"{milliseconds:.3g} ms", f"{median:.2f} ({low:.2f} to {high:.2f})"]
    shares = [f"{100 * share:.2f} %" for share in (variant.equal_labels, variant.accuracy)]
    return (*cells, f"{variant.largest_difference:.2g}", *shares)


def _verdict(record: ExportRecord) -> str:
    within = f"with at least {100 * record.least_equal:g} % equal labels"
    if record.recommended is None:
        said = f"recommended: the run as it is, no variant {within} is faster"
    else:
        said = f"recommended: {record.recommended}, the fastest {within}"
    if record.chosen == record.recommended:
        return said
    return f"{said}; chosen: {record.chosen or 'the run as it is'}"
