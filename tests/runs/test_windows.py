"""Large pictures with masks: pieces of them in training, and windows over the whole elsewhere."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.data.loading.pieces import Pieces
from src.records.run import Predictions, RunSummary
from src.runs.build import build_data
from src.runs.candidates.choose import load_trained
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder
from src.serving.bundle import open_predictor
from src.serving.masks import PredictedMask, masks_of, predicted_masks
from src.training.sliding_windows import sliding_windows
from tests.data.pictures import write_pair

pytestmark = pytest.mark.usefixtures("blank_figures")

SIDE = 32
SIZES = ((150, 90), (96, 130), (20, 70), (64, 64))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of several sizes, a crack of three rows in each."""
    root, rng = tmp_path_factory.mktemp("windows") / "cracks", np.random.default_rng(0)
    for number in range(16):
        height, width = SIZES[number % len(SIZES)]
        pixels = rng.integers(60, 160, (height, width)).astype(np.uint8)
        classes = np.zeros((height, width), np.uint8)
        row, column, length = *rng.integers(0, (height - 4, width - 14)), 12
        pixels[row : row + 3, column : column + length] = 250
        classes[row : row + 3, column : column + length] = 1
        write_pair(root, number, pixels, classes)
    return root


def settings_of(pictures: Path, *overrides: str) -> RunSettings:
    places = [
        f"data.cache_dir={pictures.parent / 'cache'}",
        f"output_dir={pictures.parent / 'out'}",
    ]
    data = ["data=folder", f"data.root={pictures}", "data.target=dense", "data.fit=windows"]
    model = [] if any(override.startswith("model=") for override in overrides) else ["model=fcn"]
    small = ["model.channels=[8,16]"] if model else []
    return read_run_settings(
        [
            *(*data, *places, *model, *small, f"data.image_size={SIDE}", "data.batch_size=8"),
            *("runtime=float32", "tracking=none", "data.val_fraction=0.2"),
            *("data.test_fraction=0.2", *overrides),
        ]
    )


@pytest.fixture(scope="module")
def opened(pictures: Path) -> PictureData:
    return build_data(settings_of(pictures))


def of_file(root: Path, data: PictureData, index: int) -> tuple[np.ndarray, np.ndarray]:
    assert data.pictures.sample_paths is not None
    name = Path(data.pictures.sample_paths[index]).name
    return tuple(np.array(Image.open(root / folder / name)) for folder in ("images", "masks"))  # type: ignore[return-value]


def test_pieces_are_what_stands_in_the_files(pictures: Path, opened: PictureData) -> None:
    pieces = Pieces(opened.pictures, opened.split.train, seed=0)
    numbers = np.arange(len(pieces))
    images, masks = pieces(3, numbers)
    assert images.shape == (len(pieces), 1, SIDE, SIDE) and masks.shape == (len(pieces), SIDE, SIDE)
    for number, (top, left) in zip(numbers, pieces.corners(3, numbers), strict=True):
        pixels, classes = of_file(pictures, opened, int(pieces.picture[number]))
        inside = slice(top, top + SIDE), slice(left, left + SIDE)
        height, width = pixels[inside].shape
        np.testing.assert_array_equal(images[number, 0, :height, :width], pixels[inside])
        np.testing.assert_array_equal(masks[number, :height, :width], classes[inside])
        assert (masks[number, height:] == 255).all() and width == SIDE  # of a picture of 20 rows


def test_an_epoch_covers_the_area_of_its_pictures(opened: PictureData) -> None:
    pieces = Pieces(opened.pictures, opened.split.train, seed=0)
    sizes = opened.pictures.array_sizes
    for index in opened.split.train.tolist():
        height, width = sizes[index]
        expected = max(1, round(height * width / SIDE**2))
        assert (pieces.picture == index).sum() == expected
    assert opened.samples == len(pieces) > len(opened.split.train)
    batches = opened.batches("train", training=True)
    assert len(batches) == len(pieces) // 8  # type: ignore[arg-type]


def test_pieces_depend_on_epoch_and_number_alone(opened: PictureData) -> None:
    pieces = Pieces(opened.pictures, opened.split.train, seed=0)
    numbers = np.arange(len(pieces))
    corners = pieces.corners(1, numbers)
    np.testing.assert_array_equal(pieces.corners(1, numbers[::-1].copy())[::-1], corners)
    assert (pieces.corners(2, numbers) != corners).any(axis=1).mean() > 0.5
    other = Pieces(opened.pictures, opened.split.train, seed=1)
    assert (other.corners(1, numbers) != corners).any(axis=1).mean() > 0.5


def test_a_third_of_the_pieces_is_about_a_rarer_class(opened: PictureData) -> None:
    large = np.flatnonzero((opened.pictures.array_sizes == (150, 90)).all(axis=1))
    pieces = Pieces(opened.pictures, large[:1], seed=0)
    numbers = np.zeros(1, np.int64)
    places, centres = [], 0
    mask = opened.pictures.read_mask(int(large[0]))
    for epoch in range(3000):
        ((top, left),) = pieces.corners(epoch, numbers).tolist()
        places.append((top, left))
        centres += int(mask[top + SIDE // 2, left + SIDE // 2] == 1)
    room = np.array([150 - SIDE, 90 - SIDE])
    rows, columns = np.nonzero(mask == 1)
    corners = np.stack([rows, columns], axis=1) - SIDE // 2
    if ((corners >= 0) & (corners <= room)).all():  # else a piece ends with the picture
        assert centres / 3000 == pytest.approx(1 / 3, abs=0.05)
    seen = [(mask[t : t + SIDE, lft : lft + SIDE] == 1).any() for t, lft in places]
    assert 1 / 3 < np.mean(seen) < 0.75
    assert (np.array(places) >= 0).all() and (np.array(places) <= room).all()


def test_pictures_too_many_for_the_disk_give_the_same_batches(
    pictures: Path, opened: PictureData, tmp_path: Path
) -> None:
    overrides = ["data.cache_limit_gb=0", f"data.cache_dir={tmp_path}", "data.num_workers=1"]
    streamed = build_data(settings_of(pictures, *overrides))
    assert opened.pictures.images is not None and streamed.pictures.images is None
    for options in ({"part": "train", "training": True}, {"part": "val"}):
        one, other = (list(data.batches(**options)) for data in (opened, streamed))
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine.images, theirs.images, rtol=0, atol=0)
            torch.testing.assert_close(mine.targets, theirs.targets, rtol=0, atol=0)
    copied = pickle.loads(pickle.dumps(opened.pictures))
    assert len(pickle.dumps(opened.pictures)) < 60_000
    np.testing.assert_array_equal(copied.read(0), opened.pictures.read(0))
    np.testing.assert_array_equal(copied.read_mask(0), opened.pictures.read_mask(0))
    np.testing.assert_array_equal(streamed.class_counts, opened.class_counts)


def test_pixels_of_classes_are_those_of_the_masks(opened: PictureData) -> None:
    masks = [opened.pictures.read_mask(int(index)) for index in opened.split.train]
    expected = [sum(int((mask == k).sum()) for mask in masks) for k in (0, 1)]
    assert opened.class_counts.tolist() == expected
    known = opened.pictures.places
    assert known is not None
    for index in range(len(opened.pictures)):
        mask = opened.pictures.read_mask(index)
        for k in (0, 1):
            places = known.of_class(index, k)
            assert len(places) == min(256, (mask == k).sum())
            assert (mask.ravel()[places] == k).all() and len(set(places.tolist())) == len(places)


@pytest.fixture(scope="module")
def trained(pictures: Path) -> RunSummary:
    overrides = ["trainer.max_epochs=12", "loss=cross_entropy_dice", "optimizer.lr=0.02"]
    summary = run_experiment(settings_of(pictures, *overrides))
    assert summary is not None
    return summary


def test_figures_are_of_whole_pictures(trained: RunSummary, pictures: Path) -> None:
    """A crack that is gone at this size when pictures are squeezed is found by windows."""
    data = build_data(settings_of(pictures))
    predictions = Predictions.read(Path(trained.run_dir) / "predictions" / "test.parquet")
    preds, masks = [], []
    for row, index in enumerate(predictions.sample_ids.tolist()):
        answer = np.array(Image.open(io.BytesIO(predictions.probs["map"][row])))
        mask = data.pictures.read_mask(index)
        assert answer.shape == mask.shape
        preds.append(answer[mask != 255])
        masks.append(mask[mask != 255])
    expected = jaccard_score(np.concatenate(masks), np.concatenate(preds), average="macro")
    assert trained.metrics["test/miou"] == pytest.approx(expected)
    assert expected > 0.8
    assert (Path(trained.run_dir) / "figures" / "test_mistakes.png").is_file()


def test_masks_of_files_and_of_a_bundle_are_those_of_the_run(
    trained: RunSummary, pictures: Path
) -> None:
    folder = RunFolder.open(Path(trained.run_dir))
    predictor = load_trained(folder.chosen_checkpoint()).predictor(8)
    predictions = Predictions.read(folder.predictions / "test.parquet")
    assert predictions.paths is not None
    files = [pictures / path for path in predictions.paths]
    served = open_predictor(folder.path / "model")
    whole = list(masks_of(served, [file.read_bytes() for file in files]))
    for row, found in enumerate(predicted_masks(predictor, files)):
        assert isinstance(found, PredictedMask)
        answer = np.array(Image.open(io.BytesIO(predictions.probs["map"][row])))
        height, width = Image.open(files[row]).size[::-1]
        assert found.classes.shape == (height, width)
        np.testing.assert_array_equal(found.classes, answer[:height, :width])
        np.testing.assert_array_equal(found.classes, whole[row])


def test_probabilities_of_windows_are_averaged(trained: RunSummary, pictures: Path) -> None:
    trained_network = load_trained(RunFolder.open(Path(trained.run_dir)).chosen_checkpoint())
    predictor, data = trained_network.predictor(8), build_data(settings_of(pictures))
    image = np.array(data.pictures.read(int(data.split.test[0]))[None])
    task = trained_network.task.eval()  # type: ignore[attr-defined]

    def probabilities(windows: torch.Tensor) -> torch.Tensor:
        whole = task.evaluated(task.normalized(windows)).softmax(1)
        mirrored = task.evaluated(task.normalized(windows.flip(-1))).softmax(1).flip(-1)
        return (
            (whole + mirrored) / 2
            if task.metadata["settings"]["trainer"]["tta"] == "flip"
            else whole
        )

    whole = torch.tensor(image, device=task.device)
    expected = sliding_windows(probabilities, whole, window=(SIDE, SIDE)).cpu()
    np.testing.assert_allclose(predictor.probabilities(image), expected, atol=2e-3)


def test_pictures_are_taken_at_a_scale(pictures: Path, tmp_path: Path) -> None:
    overrides = ["data.scale=0.5", "data.image_size=16", f"output_dir={tmp_path}"]
    data = build_data(settings_of(pictures, *overrides))
    for index, (height, width) in enumerate(data.pictures.original_sizes.tolist()):
        expected = max(16, round(height / 2)), max(16, round(width / 2))
        assert data.pictures.read(index).shape == (1, *expected)
        assert data.pictures.read_mask(index).shape == expected
    summary = run_experiment(settings_of(pictures, *overrides, "trainer.max_epochs=1"))
    assert summary is not None
    folder = RunFolder.open(Path(summary.run_dir))
    files = [pictures / "images" / "0.png", pictures / "images" / "2.png"]
    predictor = load_trained(folder.chosen_checkpoint()).predictor(8)
    for found, size in zip(predicted_masks(predictor, files), SIZES[::2], strict=True):
        assert isinstance(found, PredictedMask) and found.classes.shape == size
        assert found.classes.max() <= 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.target=single", "model=cnn"], "fit is windows, but target is single"),
        (["data.fit=pad", "data.scale=0.5"], "scale is given, but fit is pad"),
        (["data.scale=2"], "scale"),
    ],
)
def test_what_windows_need_is_said(overrides: list[str], message: str, pictures: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(pictures, *overrides)
