"""A network as torch's own exported program."""

from __future__ import annotations

from pathlib import Path

import torch

from src.serving.variants.whole import CannotExport, quiet

__all__ = ["write_pt2"]


def write_pt2(program: torch.export.ExportedProgram, file: Path) -> None:
    """Write a .pt2 archive: the graph as JSON and the weights as plain numbers.

    Nothing is compiled: what AOTInductor would put there is machine code for one processor, made
    by a compiler that few machines have and run unseen by whoever loads the file.

    Raises:
        CannotExport: torch cannot write this graph.
        OSError: the file cannot be written.
    """
    # The pictures it was traced with would be pickled, and nobody needs them.
    program.example_inputs = None
    try:
        with quiet():
            torch.export.save(program, file)
    except OSError:
        raise
    except Exception as error:
        raise CannotExport(error) from error
