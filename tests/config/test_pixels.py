from __future__ import annotations

import pytest

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.features import PixelsSettings
from src.config.schema import RunSettings


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.sigma_min=4", "model.sigma_max=2"],
        ["model.intensity=false", "model.edges=false", "model.texture=false"],
        ["model.classifier=knn"],
    ],
)
def test_settings_that_make_no_features_are_refused(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=overrides[0].partition("=")[0].partition(".")[2]):
        compose_settings(RunSettings, ["data.target=dense", "model=pixels", *overrides])


def test_only_the_chosen_classifier_has_settings() -> None:
    model = compose_settings(RunSettings, ["data.target=dense", "model=pixels"]).model
    assert isinstance(model, PixelsSettings)
    assert model.is_idle("model.gradient_boosting.rounds") and model.is_idle("optimizer.lr")
    assert not model.is_idle("model.random_forest.trees")
