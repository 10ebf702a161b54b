"""Pairs of pictures and masks in folders and tables, and the classes that values stand for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.config.checks import ConfigError, from_plain
from src.config.compose import compose_plain
from src.config.data import DataSettings
from src.data.decoding.mask_files import LEFT_OUT, MOST_CLASSES
from src.data.decoding.opening import open_pictures
from src.data.decoding.picture_store import PictureStore
from src.data.loading.picture_data import PictureData
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source
from tests.data.pictures import png, write

SIZE = (10, 12)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def save(file: Path, pixels: NDArray[Any], mode: str | None = None, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(file, **options)


def picture(file: Path) -> None:
    save(file, np.random.default_rng(len(str(file))).integers(0, 255, (*SIZE, 3), np.uint8))


def mask(file: Path, *values: int) -> None:
    """A mask whose columns have these values in turn."""
    columns = np.array(values, np.uint8)[np.arange(SIZE[1]) % len(values)]
    save(file, np.tile(columns, (SIZE[0], 1)))


def settings(root: Path, **values: Any) -> DataSettings:
    plain = compose_plain(["data=folder", "data.target=dense"], "config")["data"]
    own = {"root": str(root), "cache_dir": str(root.parent / "cache")}
    return from_plain(DataSettings, plain | own | values)


def listed(root: Path, **values: Any) -> Source:
    return list_pictures(settings(root, **values))


def paired(source: Source) -> dict[str, str]:
    assert source.masks is not None and source.sample_paths is not None
    return dict(zip(source.sample_paths, source.masks.files, strict=True))


def masks_of(root: Path, **values: Any) -> PictureStore:
    data = settings(root, image_size=list(SIZE), **values)
    return open_pictures(list_pictures(data), data)


LAYOUTS = {
    "images and masks": ("images/{}.jpg", "masks/{}.png"),
    "parts inside": ("images/{part}/{}.png", "masks/{part}/{}.png"),
    "parts around": ("{part}/images/{}.png", "{part}/masks/{}.png"),
    "other names": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    "side by side": ("any/{}.jpg", "any/{}.png"),
    "with a suffix": ("{}.png", "{}_mask.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mask_has_the_name_of_its_picture(root: Path, layout: str) -> None:
    expected = {}
    for number, part in enumerate(("train", "train", "train", "val", "test")):
        names = [one.format(number, part=part) for one in LAYOUTS[layout]]
        picture(root / names[0])
        mask(root / names[1], 0, number % 2)
        expected[names[0]] = names[1]
    source = listed(root)
    assert paired(source) == expected
    given = source.given_parts
    if "parts" in layout:
        assert given is not None and sorted(given) == ["test", "train", "train", "train", "val"]
    else:
        assert given is None


def test_a_table_names_pictures_and_masks_with_parts_and_groups(root: Path) -> None:
    lines = ["path,mask,split,group"]
    for number, part in enumerate(("train", "val", "test")):
        picture(root / f"a{number}.png")
        mask(root / "seg" / f"m{number}.png", 0, 1)
        lines.append(f"a{number}.png,seg/m{number}.png,{part},g{number}")
    (root / "set.csv").write_text("\n".join(lines))
    source = listed(root / "set.csv")
    assert paired(source) == {f"a{n}.png": f"seg/m{n}.png" for n in range(3)}
    assert source.given_parts is not None and source.given_parts.tolist() == [
        "train",
        "val",
        "test",
    ]
    assert source.groups == ("g0", "g1", "g2")
    (root / "set.csv").write_text("path,mask\na0.png,seg/m9.png\na1.png,seg/m1.png")
    with pytest.raises(ConfigError, match=r"line 2: seg/m9\.png"):
        listed(root / "set.csv")


def test_a_table_that_gives_a_mask_twice_or_none_is_not_taken_silently(root: Path) -> None:
    two(root, 0, 1)
    table = root / "set.csv"
    lines = ["path,mask", "images/0.png,masks/0.png"]
    table.write_text("\n".join([*lines, "images/1.png,masks/0.png"]))
    said = [str(one) for one in listed(table).problems]
    assert any("masks/0.png as the mask of several pictures" in one for one in said), said
    table.write_text("\n".join([*lines, "images/1.png,masks/1.png"]))
    assert not any("several pictures" in str(one) for one in listed(table).problems)
    table.write_text("\n".join([*lines, "images/1.png,"]))
    with pytest.raises(ConfigError, match="line 3: mask is empty"):
        listed(table)
    table.write_text("path,mask,segmentation\nimages/0.png,masks/0.png,masks/0.png")
    with pytest.raises(ConfigError, match="mask and segmentation could each be the masks"):
        listed(table)


@pytest.mark.parametrize("target", ["single", "multi", "ordinal"])
@pytest.mark.parametrize("folder", ["", "train/"])
def test_pictures_and_their_masks_are_no_two_classes(root: Path, target: str, folder: str) -> None:
    for number in range(3):
        for part in ("train", "val") if folder else ("",):
            picture(root / part / "images" / f"{part}{number}.png")
            mask(root / part / "masks" / f"{part}{number}.png", 0, 1)
    order = ["images", "masks"] if target == "ordinal" else None
    with pytest.raises(ConfigError, match=r"images and masks.*set data\.target=dense"):
        listed(root, target=target, order=order)
    for file in root.rglob("masks/*.png"):  # names of their own: two classes, whatever they are
        file.rename(file.with_name(f"other{file.name}"))
    assert set(listed(root, target=target, order=order).class_names) == {"images", "masks"}


@pytest.mark.parametrize("target", ["single", "multi", "ordinal"])
@pytest.mark.parametrize("name", ["{}.png", "{}_mask.jpg", "masks/{}.png"])
def test_masks_in_class_folders_are_no_pictures(root: Path, name: str, target: str) -> None:
    classes = ("mask", "free")  # a class may be called as a folder of masks is
    for seed in range(6):
        label = classes[seed % 2]
        write(root / label / "Imgs" / f"{label}{seed // 2}.jpg", png(seed))
    for number in range(3):
        mask(root / "mask" / "Imgs" / name.format(f"mask{number}"), 0, 1)
    order = classes if target == "ordinal" else None
    source = listed(root, target=target, order=order)
    assert source.sample_paths is not None and len(source) == 6
    assert all(Path(path).stem[-1].isdigit() for path in source.sample_paths)
    assert {Path(path).parent.name for path in source.sample_paths} == {"Imgs"}
    (said,) = map(str, source.problems)
    assert "one of 3 files with the name of another picture" in said


def test_masks_are_left_out_by_their_names_however_many_other_png_files_there_are(
    root: Path,
) -> None:
    for number in range(4):
        picture(root / "cat" / f"{number}.jpg")
        mask(root / "cat" / f"{number}_mask.png", 0, 1)
        for more in "abc":
            picture(root / "dog" / f"{number}{more}.png")
    picture(root / "cat" / "0.webp")  # a second picture of a mask
    source = listed(root, target="single")
    assert source.sample_paths is not None and len(source) == 17
    assert not any("_mask" in path for path in source.sample_paths)


def test_files_of_one_name_are_pictures_where_most_of_their_kind_stand_alone(root: Path) -> None:
    for number in range(3):
        picture(root / "cat" / f"{number}.png")
        picture(root / "dog" / f"{number}.jpg")
    picture(root / "dog" / "0.png")
    source = listed(root, target="single")
    assert len(source) == 7 and not source.problems


@pytest.mark.parametrize(
    "written", ["seg\\m{}.png", "/home/me/set/seg/m{}.png", "m{}", "seg/M{}.PNG"]
)
def test_a_table_names_masks_as_loosely_as_pictures(root: Path, written: str) -> None:
    lines = ["path,mask"]
    for number in range(2):
        picture(root / "img" / f"a{number}.png")
        mask(root / "seg" / f"m{number}.png", 0, 1)
        lines.append(f"img\\a{number}.png,{written.format(number)}")
    (root / "set.csv").write_text("\n".join(lines))
    source = listed(root / "set.csv")
    assert paired(source) == {f"img/a{n}.png": f"seg/m{n}.png" for n in range(2)}
    assert any("masks" in str(problem) for problem in source.problems)


def two(root: Path, *values: int) -> Path:
    """Pictures 0 and 1, with masks of these values and of class 0 alone."""
    for number, own in enumerate((values, (0,))):
        picture(root / "images" / f"{number}.png")
        mask(root / "masks" / f"{number}.png", *own)
    return root


@pytest.mark.parametrize(
    ("values", "options", "names", "classes"),
    [
        ((0, 255), {}, ("background", "foreground"), (0, 1)),
        ((0, 1), {}, ("background", "foreground"), (0, 1)),
        ((0, 3, 7), {}, ("0", "3", "7"), (0, 1, 2)),
        ((0, 2, 255), {"ignore": 255}, ("0", "2"), (0, 1, 255)),
        ((0, 2), {"class_names": ["a", "b", "c"]}, ("a", "b", "c"), (0, 2)),
        ((0, 255), {"class_names": ["good", "bad"]}, ("good", "bad"), (0, 1)),
        ((0, 100, 128, 255), {"mask_threshold": 128}, ("background", "foreground"), (0, 0, 1, 1)),
    ],
)
def test_values_stand_for_classes(
    root: Path,
    values: tuple[int, ...],
    options: dict[str, Any],
    names: tuple[str, ...],
    classes: tuple[int, ...],
) -> None:
    store = masks_of(two(root, *values), **options)
    assert store.class_names == names
    columns = np.array(classes)[np.arange(SIZE[1]) % len(classes)]
    np.testing.assert_array_equal(store.read_mask(0), np.tile(columns, (SIZE[0], 1)))
    held = np.zeros(len(names))
    held[sorted({one for one in classes if one != 255})] = 1
    np.testing.assert_array_equal(store.targets[0], held)


def test_names_come_from_a_file_beside_the_pictures(root: Path) -> None:
    two(root, 0, 1)
    (root / "classes.txt").write_text("road\ncar\nsky\n")
    assert listed(root).class_names == ("road", "car", "sky")
    # Around them may be a folder, as in most archives.
    shutil.copytree(root, root.parent / "outer" / "set")
    assert listed(root.parent / "outer").class_names == ("road", "car", "sky")
    (root / "classes.txt").write_text("道\n车\n空\n", encoding="gb18030")
    with pytest.raises(ConfigError, match=r"classes\.txt is not written in UTF-8: save it so"):
        listed(root)
    (root / "classes.txt").unlink()
    assert listed(root).class_names == ("background", "foreground")


def test_a_palette_and_grey_saved_as_colour_are_read_by_their_numbers(root: Path) -> None:
    two(root, 0, 1)
    pixels = np.tile(np.array([0, 2, 1] * 4, np.uint8), (SIZE[0], 1))
    image = Image.fromarray(pixels)
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    image.save(root / "masks" / "0.png")
    assert listed(root).class_names == ("0", "1", "2")
    save(root / "masks" / "0.png", pixels, "RGB")
    np.testing.assert_array_equal(masks_of(root).read_mask(0), pixels)


def test_a_folder_may_name_the_class_of_the_foreground(root: Path) -> None:
    for kind, white in (("MT_Crack", 255), ("MT_Break", 255), ("MT_Free", 0)):
        picture(root / kind / "Imgs" / "1.jpg")
        mask(root / kind / "Imgs" / "1.png", 0, white)
    store = masks_of(root, mask_class="folder")
    assert store.class_names == ("background", "MT_Break", "MT_Crack")
    assert store.sample_paths is not None
    found = {
        path.partition("/")[0]: sorted(set(store.read_mask(row).ravel().tolist()))
        for row, path in enumerate(store.sample_paths)
    }
    assert found == {"MT_Crack": [0, 2], "MT_Break": [0, 1], "MT_Free": [0]}


@pytest.mark.parametrize("folder", ["", "background/"])
def test_foreground_without_a_class_of_its_own_is_refused(folder: str, root: Path) -> None:
    for kind in ("cat/", folder):
        picture(root / kind / "Imgs" / "1.jpg")
        mask(root / kind / "Imgs" / "1.png", 0, 255)
    with pytest.raises(ConfigError, match=f"^{folder}Imgs/1.jpg is in .*folder of its class"):
        masks_of(root, mask_class="folder")


def test_two_masks_of_one_picture_are_refused(root: Path) -> None:
    picture(root / "images" / "a.jpg")
    mask(root / "masks" / "a.png", 0, 1)
    mask(root / "labels" / "a.png", 1, 0)
    with pytest.raises(
        ConfigError, match=r"labels/a\.png and masks/a\.png are masks of one picture"
    ):
        listed(root)


def test_more_classes_than_masks_hold_are_refused(root: Path) -> None:
    for number in range(MOST_CLASSES):
        save(root / f"images/c{number}/a.png", np.full((2, 2, 3), number, np.uint8))
        save(root / f"masks/c{number}/a.png", np.full((2, 2), 255, np.uint8))
    with pytest.raises(ConfigError, match="256 classes, background, c0, c1"):
        listed(root, mask_class="folder")
    (root / "images/c7/a.png").unlink()  # 255 with the background
    source = listed(root, mask_class="folder")
    assert source.masks is not None and source.masks.tables.max() == LEFT_OUT - 1
    assert np.unique(source.masks.tables[:, 255]).size == MOST_CLASSES
    with pytest.raises(ConfigError, match="300 classes"):
        listed(root, class_names=[f"c{number}" for number in range(300)], ignore=255)


def test_what_masks_mean_is_part_of_the_fingerprints(root: Path) -> None:
    for number in range(12):
        picture(root / f"images/{'x' * number}a.png")
        mask(root / f"masks/{'x' * number}a.png", 0, 80, 160)

    def fingerprints(threshold: int) -> tuple[str, str]:
        how = settings(root, mask_threshold=threshold)
        data = PictureData.open(list_pictures(how), how, native_side=None, batch_size=4, seed=0)
        return data.pictures.fingerprint, data.split.fingerprint

    first = fingerprints(50)
    assert fingerprints(50) == first
    for one, other in zip(first, fingerprints(100), strict=True):
        assert one != other
    mask(root / "masks/a.png", 0, 160, 80)  # the same classes in other places
    for one, other in zip(first, fingerprints(50), strict=True):
        assert one != other


def write_parts(root: Path, *parts: str) -> None:
    for part in parts:
        for name in "ab":
            picture(root / part / "images" / f"{name}.png")
            mask(root / part / "masks" / f"{name}.png", 0, 1)


def test_pictures_beside_parts_are_left_out_and_named(root: Path) -> None:
    write_parts(root, "train", "test", "extra")
    source = listed(root)
    assert source.given_parts is not None and source.sample_paths is not None
    assert source.given_parts.tolist() == [path.split("/")[0] for path in source.sample_paths]
    assert len(source) == 4
    (left,) = source.problems
    assert left.path == "extra/images/a.png" and "one of 2 pictures" in left.reason


def test_one_part_alone_is_none(root: Path) -> None:
    write_parts(root, "train", "extra")
    assert listed(root).given_parts is None and len(listed(root)) == 4


@pytest.mark.parametrize(
    ("parts", "said"),
    [(("train", "eval"), "eval/images/a.png"), (("val", "test"), "no train part")],
)
def test_unclear_parts_of_masks_are_refused(parts: tuple[str, ...], said: str, root: Path) -> None:
    write_parts(root, *parts)
    with pytest.raises(ConfigError, match=said):
        listed(root)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ((0, 4), {"class_names": ["a", "b", "c"]}, r"masks/0\.png has pixels of the value 4"),
        ((0, 1, 255), {}, r"masks/0\.png has pixels of the value 255"),
        ((0,), {}, "only one class"),
        (tuple(range(0, 250, 1))[:12], {"mask_class": "folder"}, "mask_threshold"),
        ((0, 255), {"class_names": ["a", "b", "c"]}, "3 names"),
    ],
)
def test_values_without_a_class_are_refused(
    root: Path, values: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        listed(two(root, *values), **options)


def test_what_does_not_fit_together_is_named(root: Path) -> None:
    two(root, 0, 1)
    save(root / "masks" / "0.png", np.eye(9, 11, dtype=np.uint8))
    with pytest.raises(ConfigError, match=r"1 mask of .* is 9x11 and images/0\.png 10x12"):
        masks_of(root)
    (root / "masks" / "0.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 2 pictures have no mask: images/0\.png"):
        listed(root)
    save(root / "masks" / "0.jpg", np.zeros(SIZE, np.uint8))
    with pytest.raises(ConfigError, match=r"masks/0\.jpg is a JPEG"):
        listed(root)
    (root / "masks" / "0.jpg").unlink()
    save(root / "masks" / "0.png", np.full((*SIZE, 3), (1, 2, 3), np.uint8))
    with pytest.raises(
        ConfigError, match=r"1 mask cannot .*masks/0\.png has colours and no palette"
    ):
        listed(root)


def test_photos_that_are_turned_need_masks_that_are_turned(root: Path) -> None:
    two(root, 0, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(2):
        (root / "images" / f"{number}.png").unlink()
        save(root / "images" / f"{number}.jpg", np.zeros(SIZE, np.uint8), exif=exif)
    with pytest.raises(ConfigError, match=r"is 10x12 and images/0\.jpg 12x10.*as their EXIF says"):
        masks_of(root)


def test_a_mask_that_is_changed_is_read_anew(root: Path) -> None:
    two(root, 0, 1)
    before = masks_of(root)
    mask(root / "masks" / "1.png", 1)
    after = masks_of(root)
    assert before.read_mask(1).max() == 0 and after.read_mask(1).min() == 1
    assert before.fingerprint != after.fingerprint


def test_pictures_of_a_table_that_are_no_files_are_left_out_where_that_is_asked_for(
    root: Path,
) -> None:
    for number in range(4):
        picture(root / f"a{number}.png")
        mask(root / "seg" / f"a{number}.png", 0, 1 + number % 2)
    lines = ["path,mask", *(f"a{number}.png,seg/a{number}.png" for number in range(4))]
    (root / "set.csv").write_text("\n".join(lines))
    (root / "a1.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 4 pictures .*line 3: a1\.png.*on_bad_image=skip"):
        listed(root / "set.csv")
    source = listed(root / "set.csv", on_bad_image="skip")
    assert paired(source) == {f"a{n}.png": f"seg/a{n}.png" for n in (0, 2, 3)}
    np.testing.assert_array_equal(source.targets, [[1, 1, 0], [1, 1, 0], [1, 0, 1]])
    assert any("a1.png" in str(problem) for problem in source.problems)
