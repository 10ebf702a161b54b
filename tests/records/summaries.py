"""The summary of a run that never was."""

from __future__ import annotations

from src.records.run import RunSummary

__all__ = ["SUMMARY"]

SUMMARY = RunSummary(
    run_id="0f3a",
    status="FINISHED",
    name="calm-otter",
    model="cnn",
    data="digits",
    seed=1,
    split_fingerprint="ab12",
    metrics={"val/accuracy": 0.5, "cost/latency_ms": 1.25},
    num_parameters=10,
    duration_seconds=2.5,
    checkpoint="/runs/calm-otter/checkpoints/last.ckpt",
    test_measurements=3,
    run_dir="/runs/calm-otter",
    command="python -m src.train model=cnn",
)
