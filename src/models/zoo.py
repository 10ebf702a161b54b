"""Any classifier of torchvision and timm, fitted to pictures of any size and number of channels."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.pretrained import adapt_input, check_weights, reason_of
from src.models.stem import keep_detail, takes_pictures
from src.models.weights import (
    WeightsFile,
    get_weights,
    native_size,
    package_state,
    unknown_network,
)

__all__ = ["TimmNet", "TorchvisionNet"]

# Pictures up to this side would be a single point after the first layers of an ImageNet network.
_SMALL = 64
# Tried where a network does not take the pictures' own size.
_SIZES = (32, 64, 96, 128, 224, 299)
# Which published weights a network starts from; a file's are put into it from outside.
_PUBLISHED = (True, "hub", "package")
Statistics = tuple[list[float], list[float]]


class _ZooNet(nn.Module):
    """A library's network, with pictures resized for it where it needs that.

    Args:
        in_channels: C of the pictures.
        num_classes: K, at least 2.
        image_size: height and width in pixels of the pictures.
        name: the library's name of the network.
        pretrained: True for published weights, wherever they can be had; "hub" and "package" for
            those alone; a path announces weights that are put in later; None or False for none.
        input_size: side in pixels that pictures are resized to, inside the network and on its
            device; None for the size that the network's published weights were trained for where
            it is pretrained, else for the pictures' own, or the smallest one that works.
        stem: "small" takes early reductions out (see `keep_detail`), so that small pictures keep
            their detail; "keep" leaves them; "auto" is small for pictures up to 64 pixels, after
            resizing, that are not given to pretrained weights, wherever these come from.
        drop_rate: dropout before the classifier, in [0, 1), where the network has one.

    Attributes:
        input_size: (height, width) that pictures are resized to; None for as they come.
        input_statistics: per channel mean and std that the weights expect; None from scratch.

    Raises:
        ValueError: an unknown name or no weights for it, damaged ones, no connection, a size it
            does not take.
    """

    library: str

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        name: str,
        pretrained: bool | str | None,
        input_size: int | None,
        stem: str,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.input_statistics: Statistics | None = None
        if input_size is None and pretrained:
            input_size = native_size(self.library, name)
        self.backbone = self._make(
            in_channels, num_classes, name, pretrained, input_size, drop_rate
        )
        self.head_prefixes = tuple(f"backbone.{head}." for head in self._heads())
        size = image_size if input_size is None else (input_size, input_size)
        small = max(size) <= _SMALL and not pretrained
        if stem == "small" or (stem == "auto" and small):
            refitted = copy.deepcopy(self.backbone)
            keep_detail(refitted, in_channels, size)
            if takes_pictures(refitted, in_channels, num_classes, size):
                self.backbone = refitted
            elif stem == "small":
                raise ValueError(
                    f"{name} takes no pictures of {size[0]}x{size[1]} pixels with a finer stem: "
                    "model.stem must be auto or keep"
                )
        self.input_size = self._fitting_size(in_channels, num_classes, image_size, input_size, name)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        if self.input_size is not None and images.shape[2:] != self.input_size:
            images = F.interpolate(
                images, self.input_size, mode="bilinear", align_corners=False, antialias=True
            )
        logits: Tensor = self.backbone(images)
        return logits

    @abstractmethod
    def _make(
        self,
        in_channels: int,
        num_classes: int,
        name: str,
        pretrained: bool | str | None,
        input_size: int | None,
        drop_rate: float,
    ) -> nn.Module: ...

    @abstractmethod
    def _heads(self) -> Sequence[str]: ...

    def _fitting_size(
        self,
        channels: int,
        classes: int,
        image_size: tuple[int, int],
        input_size: int | None,
        name: str,
    ) -> tuple[int, int] | None:
        """What to resize pictures to, None for nothing; found by trying."""
        if input_size is not None:
            sizes = [(input_size, input_size)]
        else:
            # The nearest from above, so that no detail is lost; else the largest.
            longer = max(image_size)
            made_for: Any = getattr(self.backbone, "default_cfg", {})
            sides = {*_SIZES, *made_for.get("input_size", ())[-1:]}
            near = sorted(sides, key=lambda side: (side < longer, abs(side - longer)))
            sizes = [image_size, *((side, side) for side in near)]
        for size in sizes:
            if takes_pictures(self.backbone, channels, classes, size):
                return None if size == image_size else size
        tried = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise ValueError(
            f"{name} takes pictures of none of these sizes: {tried}; model.input_size must be "
            f"larger{_native_hint(self.library, name)}"
        )


class TorchvisionNet(_ZooNet):
    """Any classifier of torchvision.models."""

    __doc__ = f"{__doc__}\n{_ZooNet.__doc__}"
    library = "torchvision"

    def _make(
        self,
        in_channels: int,
        num_classes: int,
        name: str,
        pretrained: bool | str | None,
        input_size: int | None,
        drop_rate: float,
    ) -> nn.Module:
        from torchvision import models

        known = models.list_models(module=models)
        if name not in known:
            raise ValueError(unknown_network(self.library, name, known, pretrained))
        if pretrained in _PUBLISHED:
            network = self._published(in_channels, num_classes, name, pretrained)
        else:
            options: dict[str, object] = {"num_classes": num_classes}
            if name in ("googlenet", "inception_v3"):
                options |= {"aux_logits": False, "init_weights": True}
            network = _made(lambda: models.get_model(name, **options), name)
        if in_channels != 3:
            _replace_first_convolution(network, in_channels, keep_weights=pretrained in _PUBLISHED)
        for module in network.modules():
            if isinstance(module, nn.Dropout) and drop_rate > 0:
                module.p = drop_rate
        return network

    def _published(
        self, in_channels: int, num_classes: int, name: str, pretrained: bool | str
    ) -> nn.Module:
        from torchvision import models

        found = get_weights(self.library, name, pretrained)
        weights = models.get_model_weights(name).DEFAULT
        # torchvision would run code that is in the file; `_filled` looks for it before.
        network = _filled(lambda: models.get_model(name, weights=weights), name, found)
        preset = weights.transforms()
        expected = preset.mean, preset.std
        if getattr(network, "transform_input", False):
            # These would bring ImageNet's statistics to 0.5 themselves, for RGB alone.
            network.transform_input = False  # type: ignore[assignment]
            expected = [0.5] * 3, [0.5] * 3
        self.input_statistics = _for_channels(expected, in_channels)
        # What is not ImageNet's number of classes cannot be asked for together with its weights.
        _replace_head(network, num_classes)
        for auxiliary in ("aux1", "aux2", "AuxLogits"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
        if hasattr(network, "aux_logits"):
            network.aux_logits = False  # type: ignore[assignment]
        return network

    def _heads(self) -> Sequence[str]:
        return [_last_layer(self.backbone)]


class TimmNet(_ZooNet):
    """Any classifier of timm."""

    __doc__ = f"{__doc__}\n{_ZooNet.__doc__}"
    library = "timm"

    def _make(
        self,
        in_channels: int,
        num_classes: int,
        name: str,
        pretrained: bool | str | None,
        input_size: int | None,
        drop_rate: float,
    ) -> nn.Module:
        import timm

        if not timm.is_model(name) or ("." in name and name not in timm.list_pretrained()):
            known = [*timm.list_models(), *timm.list_pretrained()]
            raise ValueError(unknown_network(self.library, name, known, pretrained))
        options: dict[str, Any] = {"in_chans": in_channels}
        described = timm.get_pretrained_cfg(name)
        if input_size is not None and described is not None and described.fixed_input_size:
            options["img_size"] = input_size
        found = get_weights(self.library, name, pretrained) if pretrained in _PUBLISHED else None
        dropout: dict[str, Any] = {"drop_rate": drop_rate} if drop_rate > 0 else {}
        network: nn.Module = _made(
            lambda: timm.create_model(name, num_classes=num_classes, **options, **dropout), name
        )
        if found is not None:
            overlay = _overlay(network, name, found)
            # With the classes of its weights: for others timm would not mind missing tensors.
            whole = _filled(
                lambda: timm.create_model(
                    name, pretrained=True, pretrained_cfg_overlay=overlay, **options
                ),
                name,
                found,
            )
            _take_over(network, whole)
            expected: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
            self.input_statistics = _for_channels((expected["mean"], expected["std"]), in_channels)
        return network

    def _heads(self) -> Sequence[str]:
        described = cast("dict[str, Any]", self.backbone.default_cfg)
        heads = described.get("classifier") or _last_layer(self.backbone)
        names = [heads] if isinstance(heads, str) else list(heads)
        present = [n for n, _ in self.backbone.named_parameters()]
        return [name for name in names if any(p.startswith(f"{name}.") for p in present)]


def _native_hint(library: str, name: str) -> str:
    side = native_size(library, name)
    return "" if side is None else f", such as the network's own {side}"


def _made(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """Make a network; what a library says against it becomes one sentence."""
    try:
        return make()
    except Exception as error:  # libraries refuse arguments with any kind of error
        raise ValueError(f"{name} could not be made ({reason_of(error)})") from error


def _filled(make: Callable[[], nn.Module], name: str, found: WeightsFile) -> nn.Module:
    """Make a network with the weights that were found; what is wrong with them is said."""
    remedy = "install it again" if found.source == "package" else "delete it to fetch it again"
    try:
        if not found.custom:
            check_weights(found.file)
        return make()
    except ValueError as error:
        raise ValueError(f"the weights of {name} ({found.source}): {error}; {remedy}") from error
    except Exception as error:  # names or shapes that the network does not have, a torn file
        raise ValueError(
            f"{found.file} does not hold the weights of {name} ({reason_of(error)}); {remedy}"
        ) from error


def _overlay(network: nn.Module, name: str, found: WeightsFile) -> dict[str, Any]:
    """What tells timm where a network's weights are."""
    if found.source != "package":
        return {"file": str(found.file), "custom_load": found.custom}
    try:
        return {"state_dict": package_state(found, iter(network.state_dict()))}
    except ValueError as error:
        raise ValueError(f"the weights of {name} (package): {error}; install it again") from error


def _last_layer(network: nn.Module) -> str:
    """Name of the layer that gives the logits: the last linear layer or convolution."""
    layers = [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1]


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(owner), leaf, module)


def _replace_head(network: nn.Module, num_classes: int) -> None:
    name = _last_layer(network)
    old = network.get_submodule(name)
    if isinstance(old, nn.Linear):
        _replace(network, name, nn.Linear(old.in_features, num_classes))
    else:
        assert isinstance(old, nn.Conv2d)
        _replace(network, name, nn.Conv2d(old.in_channels, num_classes, 1))


def _replace_first_convolution(network: nn.Module, channels: int, *, keep_weights: bool) -> None:
    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    if keep_weights:
        with torch.no_grad():
            new.weight.copy_(adapt_input(old.weight, channels))
            if old.bias is not None and new.bias is not None:
                new.bias.copy_(old.bias)
    _replace(network, name, new)


def _take_over(network: nn.Module, whole: nn.Module) -> None:
    """Copy all weights but those of a head of another size."""
    own, weights = network.state_dict(), whole.state_dict()
    fitting = {n: t for n, t in weights.items() if n in own and own[n].shape == t.shape}
    network.load_state_dict(fitting, strict=False)


def _for_channels(
    statistics: tuple[Sequence[float], Sequence[float]], channels: int
) -> Statistics | None:
    mean, std = (list(map(float, values)) for values in statistics)
    if channels == len(mean):
        return mean, std
    return [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
