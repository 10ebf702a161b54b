from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from src.config.after import PredictSettings
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.data.listing import Listing
from src.finished.labelling import label_pictures
from tests.features.classifiers import IMAGES, classifier


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    words = ["run=x", "images=x", "top_k=2"]
    composed = compose_settings(PredictSettings, words, config_name="predict")
    return dataclasses.replace(composed, out=str(tmp_path / "labels.csv"))


def test_a_classifier_on_features_labels_but_has_nothing_to_show(
    settings: PredictSettings, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "model.skops"
    classifier("model.features=[raw]").save(checkpoint)
    files = []
    for index in range(3):
        files.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(IMAGES[index, 0]).save(files[-1])
    with pytest.raises(ConfigError, match="in handcrafted no value belongs to a place"):
        label_pictures(checkpoint, Listing(files), dataclasses.replace(settings, explain=True))
    assert not (tmp_path / "labels.csv").exists()
    assert label_pictures(checkpoint, Listing(files), settings) == (
        f"3 pictures labelled, written to {tmp_path}/labels.csv and shown in labels.png, 0 skipped"
    )
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [[f, str(i)] for i, f in enumerate(files)]
    assert not (tmp_path / "labels_explained.png").exists()
