from __future__ import annotations

import pytest

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.config.stored import stored_settings


def test_a_run_that_is_older_than_some_keys_is_read_as_what_it_was() -> None:
    now = compose_settings(RunSettings, ["model=mlp", "trainer.tta=none"])
    plain = to_plain(now)
    del plain["cv"], plain["data"]["train_on_val"], plain["trainer"]["stop_after"]
    del plain["tracking"]["figures"]
    before = repr(plain)
    assert stored_settings(plain) == now
    assert repr(plain) == before, "what was read stays as it is"


def test_what_it_says_counts_and_what_is_wrong_is_refused() -> None:
    plain = to_plain(compose_settings(RunSettings, ["cv.folds=4"]))
    assert stored_settings(plain).cv.folds == 4
    del plain["optimizer"]["lr"]
    with pytest.raises(ConfigError, match=r"optimizer\.lr is not set"):
        stored_settings(plain)


def test_a_descriptor_that_came_later_was_not_used() -> None:
    now = compose_settings(
        RunSettings, ["model=handcrafted", "model.features=[hog,raw]", "model.whitening=0"]
    )
    plain = to_plain(now)
    del plain["model"]["scattering"], plain["model"]["whitening"]
    assert stored_settings(plain) == now


def test_a_run_that_is_older_than_crops_and_policies_had_none() -> None:
    now = compose_settings(RunSettings, ["model=mlp", "augment=strong"])
    plain = to_plain(now)
    for key in [key for key in plain["augment"] if key.startswith(("crop_", "policy"))]:
        del plain["augment"][key]
    stored = stored_settings(plain)
    assert stored == now
    assert stored.augment.crop_probability == 0 and stored.augment.policy == "none"


def test_a_network_that_is_older_than_its_ways_of_tuning_began_with_a_random_head() -> None:
    plain = to_plain(compose_settings(RunSettings, ["model=efficientnet_lite0"]))
    for key in ("layer_decay", "head_start", "freeze_norm", "frozen_stages", "stored_views"):
        del plain["model"][key]
    model = stored_settings(plain).model
    assert isinstance(model, NetworkSettings) and model.head_start == "random"
    assert (model.layer_decay, model.freeze_norm, model.frozen_stages) == (1.0, False, 0)
