"""Verification of the models that MLflow keeps beside an output folder's runs, file by file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..storage.digests import DamagedLine, file_digest, line_content
from ..storage.files import write_atomically
from ..tracking.logged_models import BUNDLE, CODE_FILE, CONTENTS
from .runs import Fault

__all__ = ["verify_models"]

# Where MLflow keeps logged models: without a server, and below an experiment with one.
_PLACES = ("models/m-*/artifacts", "*/models/m-*/artifacts")
_COPY = "put a copy of it back, or delete the model in MLflow and train again"


def verify_models(output_dir: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of the models in MLflow's folder of artifacts.

    `repair` copies a damaged file from the bundle that the model was made of, where that still has
    what was packed.
    """
    for place in _PLACES:
        for folder in sorted((output_dir / "mlartifacts").glob(place)):
            yield from _model(folder, output_dir, repair=repair)


def _model(folder: Path, output_dir: Path, *, repair: bool) -> Iterator[Fault]:
    try:
        packed = line_content((folder / CONTENTS).read_bytes(), strict=True)
        files, bundle = dict(packed["files"]), Path(packed["bundle"])
    except FileNotFoundError:
        if (folder / BUNDLE).is_dir():  # else it is no model of ours
            yield Fault(folder / CONTENTS, "it is gone", _COPY)
        return
    except (OSError, DamagedLine, LookupError, TypeError, ValueError) as error:
        yield Fault(folder / CONTENTS, str(error), _COPY)
        return
    for name, digest in files.items():
        if (what := _fault(folder / name, digest)) is None:
            continue
        whole = _same_file(name, bundle, output_dir) if repair else None
        if whole is None or _fault(whole, digest) is not None:
            yield Fault(folder / name, what, _COPY)
            continue
        write_atomically(folder / name, whole.read_bytes())
        yield Fault(folder / name, what, f"copied from {whole}", True)


def _fault(path: Path, digest: Any) -> str | None:
    try:
        return None if file_digest(path) == digest else "it has other contents"
    except FileNotFoundError:
        return "it is gone"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


def _same_file(name: str, bundle: Path, output_dir: Path) -> Path | None:
    """Return the file that a file of a model was copied from; None for what MLflow made itself.

    Args:
        name: of the file, relative to the model's folder.
        bundle: that was packed: in the folder of a run, which may have been moved.
        output_dir: where the runs are now.
    """
    if name == CODE_FILE.name:
        inside = CODE_FILE
    elif name.startswith(f"{BUNDLE}/{bundle.name}/"):
        inside = Path(name).relative_to(BUNDLE, bundle.name)
    else:
        return None
    parts = bundle.parts
    if "runs" in parts and not bundle.is_dir():
        after = len(parts) - parts[::-1].index("runs")
        bundle = output_dir / "runs" / Path(*parts[after:])
    return bundle / inside
