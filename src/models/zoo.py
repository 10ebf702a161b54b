"""Any classifier of torchvision and timm, fitted to pictures of any size and number of channels."""

from __future__ import annotations

import copy
import difflib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.models.pretrained import adapt_input, package_weights
from src.models.stem import keep_detail, takes_pictures

__all__ = ["TimmNet", "TorchvisionNet"]

# Pictures up to this side would be a single point after the first layers of an ImageNet network.
_SMALL = 64
# Tried where a network does not take the pictures' own size.
_SIZES = (32, 64, 96, 128, 224, 299)
_PACKAGED = "tf_efficientnet_lite0"
Statistics = tuple[list[float], list[float]]


class _ZooNet(nn.Module):
    """A library's network, with pictures resized for it where it needs that.

    Args:
        in_channels: C of the pictures.
        num_classes: K, at least 2.
        image_size: height and width in pixels of the pictures.
        name: the library's name of the network.
        pretrained: True or "hub" for the library's published weights, "package" for those of an
            installed package; anything else starts from scratch.
        input_size: side in pixels that pictures are resized to, inside the network and on its
            device; None for their own size, or the smallest one that works.
        stem: "small" takes early reductions out (see `keep_detail`), so that small pictures keep
            their detail; "keep" leaves them; "auto" is small for pictures up to 64 pixels, after
            resizing, that are not given to pretrained weights, wherever these come from.
        drop_rate: dropout before the classifier, in [0, 1), where the network has one.

    Attributes:
        input_size: (height, width) that pictures are resized to; None for as they come.
        input_statistics: per channel mean and std that the weights expect; None from scratch.

    Raises:
        ValueError: an unknown name or no weights for it, no connection, a size it does not take.
    """

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
        raise ValueError(f"{name} takes pictures of none of these sizes: {tried}")


class TorchvisionNet(_ZooNet):
    """Any classifier of torchvision.models."""

    __doc__ = f"{__doc__}\n{_ZooNet.__doc__}"

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
            raise ValueError(_unknown("torchvision", name, known))
        if pretrained == "package":
            raise ValueError(f"no installed package has weights for torchvision's {name}")
        published = pretrained in (True, "hub")
        options: dict[str, object] = {"weights": "DEFAULT" if published else None}
        # What is not ImageNet's number of classes cannot be asked for together with its weights.
        if not published:
            options["num_classes"] = num_classes
            if name in ("googlenet", "inception_v3"):
                options |= {"aux_logits": False, "init_weights": True}
        network: nn.Module = _fetched(lambda: models.get_model(name, **options), name)
        if published:
            weights = models.get_model_weights(name).DEFAULT
            preset = weights.transforms()
            expected = preset.mean, preset.std
            if getattr(network, "transform_input", False):
                # These would bring ImageNet's statistics to 0.5 themselves, for RGB alone.
                network.transform_input = False  # type: ignore[assignment]
                expected = [0.5] * 3, [0.5] * 3
            self.input_statistics = _for_channels(expected, in_channels)
            _replace_head(network, num_classes)
            for auxiliary in ("aux1", "aux2", "AuxLogits"):
                if hasattr(network, auxiliary):
                    setattr(network, auxiliary, None)
            if hasattr(network, "aux_logits"):
                network.aux_logits = False  # type: ignore[assignment]
        if in_channels != 3:
            _replace_first_convolution(network, in_channels, keep_weights=published)
        for module in network.modules():
            if isinstance(module, nn.Dropout) and drop_rate > 0:
                module.p = drop_rate
        return network

    def _heads(self) -> Sequence[str]:
        return [_last_layer(self.backbone)]


class TimmNet(_ZooNet):
    """Any classifier of timm."""

    __doc__ = f"{__doc__}\n{_ZooNet.__doc__}"

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
            raise ValueError(_unknown("timm", name, known))
        published = pretrained in (True, "hub")
        options: dict[str, Any] = {"in_chans": in_channels, "num_classes": num_classes}
        if drop_rate > 0:
            options["drop_rate"] = drop_rate
        described = timm.get_pretrained_cfg(name)
        if input_size is not None and described is not None and described.fixed_input_size:
            options["img_size"] = input_size
        network: nn.Module = _fetched(
            lambda: timm.create_model(name, pretrained=published, **options), name
        )
        if pretrained == "package":
            if name.partition(".")[0] != _PACKAGED:
                raise ValueError(f"no installed package has weights for {name}")
            whole = timm.create_model(_PACKAGED)
            whole.load_state_dict(package_weights(whole.state_dict()))
            _take_over(network, whole, in_channels)
        if published or pretrained == "package":
            expected: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
            self.input_statistics = _for_channels((expected["mean"], expected["std"]), in_channels)
        return network

    def _heads(self) -> Sequence[str]:
        described = cast("dict[str, Any]", self.backbone.default_cfg)
        heads = described.get("classifier") or _last_layer(self.backbone)
        names = [heads] if isinstance(heads, str) else list(heads)
        present = [n for n, _ in self.backbone.named_parameters()]
        return [name for name in names if any(p.startswith(f"{name}.") for p in present)]


def _unknown(library: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"; near are {', '.join(near)}" if near else ""
    return f"{library} has no classifier {name!r}{hint}"


def _fetched(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """Make a network, or say plainly that its weights could not be had."""
    try:
        return make()
    except ValueError:
        raise
    # urllib, requests and the hub's client each have errors of their own.
    except Exception as error:
        raise ValueError(
            f"{name} could not be made ({type(error).__name__}: {error}); published weights need a "
            "connection: without one give a file, model.pretrained=PATH, or use "
            "model=efficientnet_lite0, whose weights come as a package"
        ) from error


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


def _take_over(network: nn.Module, whole: nn.Module, channels: int) -> None:
    """Copy all weights but those of a head of another size; fit the first kernel to `channels`."""
    own, weights = network.state_dict(), whole.state_dict()
    fitting = {n: t for n, t in weights.items() if own[n].shape == t.shape}
    first = next(n for n, t in weights.items() if t.ndim == 4)
    if first not in fitting:
        fitting[first] = adapt_input(weights[first], channels)
    network.load_state_dict(fitting, strict=False)


def _for_channels(
    statistics: tuple[Sequence[float], Sequence[float]], channels: int
) -> Statistics | None:
    mean, std = (list(map(float, values)) for values in statistics)
    if channels == len(mean):
        return mean, std
    return [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
