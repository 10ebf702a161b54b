"""Settings of what is made of finished runs, without training any again."""

from __future__ import annotations

from dataclasses import dataclass

from src.config.checks import setting, variant
from src.config.models import ModelSettings

__all__ = ["EnsembleSettings"]


@variant(ModelSettings, "src.ensembles.combine.combine")
@dataclass(frozen=True)
class EnsembleSettings(ModelSettings):
    """Several runs that answer as one."""

    runs: list[str] = setting("folders, ids or names of the runs to choose from, two at least")
    way: str = setting(
        "greedy: a weighted mean of probabilities; stacking: of their logarithms; best: the one of "
        "these two that does better; soup: one network whose weights are the mean of several's",
        options=("best", "greedy", "stacking", "soup"),
    )
    at_most: int = setting(
        "runs that the ensemble is made of, at most; each has to answer every picture", at_least=1
    )

    def idle_keys(self) -> tuple[str, ...]:
        training = ("optimizer", "scheduler", "loss", "augment", "recipe", "find_lr", "trainer")
        return (*training, "runtime", "data.batch_size")
