"""How a picture is fitted into the network's size is the same wherever the network is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.decoding.decode import decode_picture
from src.runs import build
from src.runs.candidates.network import TrainedNetwork
from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_exported_bundle
from src.serving.export_formats import exportable, outputs_note, traced, write_pt2
from src.serving.mlflow_model import PictureClassifier
from src.serving.predictor import Labelled
from src.storage.digests import checked_line
from tests.data.pictures import tree

FITS = ("squeeze", "crop", "pad")
OVERRIDES = [
    *("model=mlp", "runtime=float32", "augment=none", "trainer.tta=none"),
    *("trainer.accelerator=cpu", "data=folder", "data.image_size=[16,12]"),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tall ones and wide ones."""
    root = tmp_path_factory.mktemp("pictures") / "of two classes"
    tree(root, {"tall": 6}, height=40, width=21)
    return tree(root, {"wide": 6}, seed=6, height=19, width=50)


@pytest.mark.parametrize("fit", FITS)
def test_the_same_pixels_reach_a_network_in_training_in_prediction_and_when_it_is_served(
    fit: str, pictures: Path, tmp_path: Path
) -> None:
    overrides = [f"data.root={pictures}", f"data.cache_dir={tmp_path / 'cache'}", f"data.fit={fit}"]
    settings = compose_settings(RunSettings, [*OVERRIDES, *overrides])
    data = build.build_data(settings)
    task = build.build_task(settings, data)
    arrived: list[Tensor] = []

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        # The network of a bundle has a class of this name from the code of the bundle.
        if type(module).__name__ == type(task.network).__name__:
            arrived.append(given[0].detach().clone())

    def reached() -> Tensor:
        found = torch.cat(arrived)
        arrived.clear()
        return found

    hook = register_module_forward_pre_hook(look)
    try:
        (batch,) = data.batches("train", training=True)
        task.training_step(batch, 0)
        trained_on = reached()
        names = data.pictures.sample_paths
        assert names is not None
        files = [pictures / names[number] for number in batch.sample_ids.tolist()]
        others = [decode_picture(files[0], replace(data.pictures.format, fit=f)) for f in FITS]
        assert len({other.tobytes() for other in others}) == 3, "it makes a difference here"

        trained = TrainedNetwork(task, torch.device("cpu"))
        labelled = [*trained.predictor(5).label(files)]
        torch.testing.assert_close(reached(), trained_on, rtol=0, atol=0)

        bundle = tmp_path / "model" / "artifacts" / "bundle"
        trained.write_bundle(bundle, data.pictures.read(0))
        # As what packs a bundle for MLflow writes it, of the files around it.
        (tmp_path / "model" / "digests.json").write_bytes(checked_line({"files": {}}))
        served, context = PictureClassifier(), SimpleNamespace(artifacts={"bundle": str(bundle)})
        served.load_context(context)
        answers = served.predict(context, pd.DataFrame({"image": [f.read_bytes() for f in files]}))
        torch.testing.assert_close(reached(), trained_on, rtol=0, atol=0)
    finally:
        hook.remove()

    # An exported graph calls no module: what it was given shows in its answers.
    network = exportable(task.evaluated, task.metadata, "contiguous")
    shape = (data.pictures.channels, *data.pictures.image_size)
    note = outputs_note(task.metadata)
    write_pt2(traced(network, shape), tmp_path / "network.pt2", note)
    folder = tmp_path / "exported"
    write_exported_bundle(folder, tmp_path / "network.pt2", task.metadata, data.pictures.read(0))
    exported = open_predictor(folder).answer(files)
    for row, one, answer in zip(exported, labelled, answers["probabilities"], strict=True):
        assert isinstance(one, Labelled)
        predicted = dict(zip(one.labels, one.probabilities, strict=True))
        by_name = dict(zip(data.pictures.class_names, row.tolist(), strict=True))
        assert predicted == pytest.approx(by_name, abs=1e-6)
        assert answer == pytest.approx(by_name, abs=1e-6)
    assert np.ptp(exported[:, 0]) > 1e-3, "each picture has an answer of its own"
