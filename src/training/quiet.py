"""Keeps Lightning's advice for its own users away from ours."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet_lightning"]

# What Lightning says about things we do on purpose: our own loaders, books and checkpoints.
_ADVICE = (
    r".*does not have many workers.*",
    r".*is smaller than the logging interval.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*The `srun` command is available.*",
    r".*You're resuming from a checkpoint that ended before the epoch ended.*",
    r"Found \d+ module\(s\) in eval mode.*",
    r".*lr_scheduler\.step\(\).* before .*optimizer\.step\(\).*",
)


def quiet_lightning() -> None:
    """Silence the banner, the tips and the advice; errors and our own messages stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in _ADVICE:
        warnings.filterwarnings("ignore", message=message)
