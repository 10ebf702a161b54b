from __future__ import annotations

import pytest
import torch

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.runs.build import check_devices


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(*overrides: str) -> str | None:
        return check_devices(compose_settings(RunSettings, ["model=mlp", *overrides]))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("src.runs.build.trainer.available_cores", lambda: 2)
    with pytest.raises(ConfigError, match=r"accelerator is gpu, but torch sees no GPU"):
        checked("trainer.accelerator=gpu")
    with pytest.raises(ConfigError, match=r"accelerator is mps, but torch sees no Apple GPU"):
        checked("trainer.accelerator=mps")
    with pytest.raises(ConfigError, match=r"float16, which needs a GPU"):
        checked("runtime.precision=float16")
    assert checked("trainer.devices=2") is None
    remark = checked("trainer.devices=3")
    assert remark is not None and "trainer.devices is 3, with 2 CPU cores" in remark
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="this machine has 2 GPUs"):
        checked("trainer.devices=3")
    assert checked("trainer.devices=2") is None
