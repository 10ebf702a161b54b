from __future__ import annotations

from pathlib import Path

import pytest

from src.tracking.spool import read_events, spool_path
from src.tracking.tracker import Tracker


def test_lightning_logs_through_the_tracker(tmp_path: Path) -> None:
    """A real fit: names as they are, no `epoch`, no hyperparameters, and no end of the run."""
    pl = pytest.importorskip("pytorch_lightning")
    import torch

    from src.tracking.logger import SpoolLogger

    class Net(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            loss = self.layer(batch).square().mean()
            self.log("train/loss", loss, on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    tracker = Tracker.start(
        tmp_path / "run",
        output_dir=tmp_path,
        uri=None,
        experiment="e",
        run_id="a" * 32,
        run_name="r",
        enabled=False,
    )
    logger = SpoolLogger(tracker)
    trainer = pl.Trainer(
        max_epochs=2,
        logger=logger,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(8, 3), batch_size=4))
    assert (logger.name, logger.version) == ("run", "a" * 32)
    assert logger.save_dir == str(tmp_path / "run")
    events = [event for event, _ in read_events(spool_path(tmp_path / "run"))]
    assert [event["event"] for event in events] == ["start", "metrics", "metrics"]
    assert [(list(e["values"]), e["step"]) for e in events[1:]] == [
        (["train/loss"], 1),
        (["train/loss"], 3),
    ]
    tracker.finish("FINISHED")
