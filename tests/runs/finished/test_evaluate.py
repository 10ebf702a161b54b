from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from src.config.checks import ConfigError
from src.runs.finished.evaluate import Revisited, measure
from src.runs.folder import RunFolder


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_model_that_answers_no_numbers_is_not_measured(number: float, tmp_path: Path) -> None:
    probs = np.full((3, 2), 0.5, np.float32)
    probs[1, 0] = number
    answers = (probs, np.zeros(3, np.int64), np.arange(3))
    trained = SimpleNamespace(predict=lambda data, part: answers)
    data = SimpleNamespace(split=SimpleNamespace(val=np.arange(3)))
    folder = RunFolder.create(tmp_path, "mlp", "digits")
    again = Revisited(folder, cast(Any, None), cast(Any, data), cast(Any, trained))
    with pytest.raises(ConfigError, match=r"^run: .* answers with what is no number"):
        measure(again, "val")
    assert not folder.predictions.exists() and not folder.summary.exists()
