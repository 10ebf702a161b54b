"""Feature extractors of batches of pictures: descriptors by name, applied to many pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Protocol

import numpy as np

from ..machine.arrays import Float32Array
from ..machine.imports import import_object
from ..records.pictures import Pixels
from .descriptors.colour import Colour
from .descriptors.hog import Hog
from .descriptors.lbp import Lbp
from .descriptors.raw import Raw
from .descriptors.scattering import Scattering
from .descriptors.texture import Gabor, Haralick

__all__ = ["Described", "Extractor", "Mirrored", "extractors_of"]


class Extractor(Protocol):
    """A function from pictures to features."""

    @property
    def name(self) -> str: ...  # for messages

    @property
    def identity(self) -> dict[str, Any]: ...  # extractors with equal ones give equal numbers

    @property
    def in_processes(self) -> bool: ...  # it keeps one core busy, and can be sent to processes

    @property
    def on_gpu(self) -> bool: ...  # it computes on a GPU, which two threads keep busy

    def __call__(self, images: Pixels) -> Float32Array:
        """Return (N, D) float32 of pictures (N, C, H, W), a row a picture."""


@dataclass(frozen=True)
class Described:
    """A descriptor of one picture, applied to many."""

    name: str
    settings: dict[str, Any]  # its arguments, as plain values
    descriptor: Callable[
        [Float32Array], Float32Array
    ]  # picture (H, W, C) float32 in [0, 1] -> (D,) float32
    target: str | None = None  # import path of what a plugin made it with
    in_processes: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = False

    @property
    def identity(self) -> dict[str, Any]:
        known = {"name": self.name, "scikit-image": version("scikit-image"), **self.settings}
        if self.target is None:
            return known
        from ..config.plugins import code_digest  # a bundle has no settings, and keeps no features

        return {"plugin": [self.target, code_digest(self.target)], "settings": known}

    def mirrored(self) -> Callable[[Float32Array, tuple[int, int]], Float32Array] | None:
        """Return what makes the rows (N, D) of mirrored pictures of those of the pictures.

        Its second argument is the size (H, W) of the pictures. None if the descriptor has none.
        """
        return self.descriptor.mirrored if isinstance(self.descriptor, Scattering) else None

    def __call__(self, images: Pixels) -> Float32Array:
        pictures = images.transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255)
        found = [np.asarray(self.descriptor(picture)) for picture in pictures]
        shapes = {row.shape for row in found}
        if len(shapes) > 1 or len(*shapes) != 1:
            from ..config.checks import ConfigError  # which a bundle has with a plugin

            raise ConfigError(
                f"model.features: {self.name} returns an array {' or '.join(map(str, shapes))} "
                "of a picture: it must be one of numbers, (D,), with one D for all."
            )
        return np.stack(found)


@dataclass(frozen=True)
class Mirrored:
    """An extractor applied to pictures mirrored left to right."""

    extractor: Extractor

    @property
    def name(self) -> str:
        return f"{self.extractor.name} (mirrored)"

    @property
    def identity(self) -> dict[str, Any]:
        return {"mirrored": self.extractor.identity}

    @property
    def in_processes(self) -> bool:
        return self.extractor.in_processes

    @property
    def on_gpu(self) -> bool:
        return self.extractor.on_gpu

    def __call__(self, images: Pixels) -> Float32Array:
        return self.extractor(np.ascontiguousarray(images[..., ::-1]))


def extractors_of(
    names: Sequence[str],
    settings: Mapping[str, dict[str, Any]],
    plugins: Mapping[str, str] | None = None,
) -> list[Described]:
    """Return the descriptors of these names, in order; `hog` is one for each number of cells.

    Args:
        names: of "hog", "lbp", "colour", "gabor", "haralick", "scattering", "raw" and `plugins`.
        settings: by name; see `HandcraftedSettings`.
        plugins: import paths of further descriptors, by name.

    Raises:
        ValueError: a name is unknown.
    """
    found = []
    for name in names:
        given = settings[name]
        if name == "hog":
            for cells in given["cells"]:
                one = given | {"cells": cells}
                found.append(Described(name, one, Hog(**one)))
        elif name in _MAKERS:
            frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
            found.append(Described(name, given, _MAKERS[name](**frozen)))
        elif plugins and name in plugins:
            make = import_object(plugins[name])
            found.append(Described(name, given, make(**given), target=plugins[name]))
        else:
            raise ValueError(f"there is no feature {name!r}: there are hog, {', '.join(_MAKERS)}")
    return found


_MAKERS: dict[str, Callable[..., Callable[[Float32Array], Float32Array]]] = {
    "lbp": Lbp,
    "colour": Colour,
    "gabor": Gabor,
    "haralick": Haralick,
    "scattering": Scattering,
    "raw": Raw,
}
