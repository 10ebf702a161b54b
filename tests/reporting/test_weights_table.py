from __future__ import annotations

import re
from pathlib import Path

from src.models.weights import Published
from src.reporting.weights_table import format_weights

LITE = Published(
    *("timm", "tf_efficientnet_lite0", "package", 224, 4_652_008, "apache-2.0", 75.1),
    Path("a.pth"),
)
OLD = Published(
    "torchvision", "resnet18", "torch cache", None, 11_689_512, None, None, Path("b.pth")
)


DINO = Published(
    *("timm", "vit_small_patch16_dinov3.lvd1689m", "hugging face cache", 256, 21_586_944),
    *("dinov3-license", None, Path("c.safetensors")),
)


def test_a_row_for_each_network() -> None:
    lines = format_weights([LITE, OLD, DINO], 100).splitlines()
    assert re.split("  +", lines[2].strip()) == [
        *("timm", "tf_efficientnet_lite0", "package", "224", "4.7 M", "75.1 %", "apache-2.0")
    ]
    assert re.split("  +", lines[3].strip()) == [
        *("torchvision", "resnet18", "torch cache", "-", "11.7 M", "-", "-")
    ]
    # Names are whole, since they are to be typed; the licence gives way.
    assert DINO.name in lines[4] and "hub cache" in lines[4] and "dinov3-lic" in lines[4]
    assert max(map(len, lines)) <= 100


def test_how_they_are_named_on_a_command_line() -> None:
    text = format_weights([LITE, OLD], 100)
    assert "model=timm model.name=tf_efficientnet_lite0 model.pretrained=true" in text
    assert "model=embedding model.networks=[tf_efficientnet_lite0" in text
    alone = format_weights([OLD], 100)
    assert "model=torchvision model.name=resnet18 model.pretrained=true" in alone
    assert "model=embedding" not in alone  # which takes networks of timm


def test_nothing_to_load() -> None:
    text = format_weights([], 100)
    assert text.startswith("This machine can load no pretrained network") and "NAME" in text
