"""The model of a finished run, ready to answer."""

from __future__ import annotations

from pathlib import Path

from ...config.checks import input_of
from ...serving.bundle_files import DIGEST
from ...serving.predictor import Predictor

__all__ = ["predictor_of"]


def predictor_of(checkpoint: Path, batch_size: int, changed: str = "refuse") -> Predictor:
    """Return the predictor of a run: of its bundle, which is served too, where it has one.

    A checkpoint belongs to a training, so that Lightning is imported to read it, which takes longer
    than all that answering needs.

    Args:
        checkpoint: the one that the run chose.
        batch_size: pictures at once.
        changed: "use" reads the checkpoint, for that may be what was changed on purpose.

    Raises:
        ConfigError: the model is damaged, or holds code.
    """
    bundle = checkpoint.parents[1] / "model"
    if changed != "use" and (bundle / DIGEST).is_file():
        from ...serving.bundle import open_predictor

        with input_of("run"):
            return open_predictor(bundle, batch_size=batch_size)
    from ..candidates.choose import load_trained

    return load_trained(checkpoint).predictor(batch_size)
