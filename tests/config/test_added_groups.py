"""What registers a group of settings refuses."""

from __future__ import annotations

import dataclasses

import pytest

from src.config.checks import ConfigError, Settings
from src.config.features import DESCRIPTORS, descriptor


@dataclasses.dataclass(frozen=True)
class Unchecked:
    bins: int = 1


class Plain(Settings):
    bins: int = 1


@pytest.mark.parametrize("cls", [Unchecked, Plain])
def test_a_class_whose_values_nobody_would_check_is_refused(cls: type) -> None:
    with pytest.raises(ConfigError, match=rf"{cls.__name__}: derive it from Settings.*dataclass"):
        descriptor("unchecked", "somewhere.Descriptor")(cls)
    assert "unchecked" not in DESCRIPTORS
