"""Any classifier of torchvision and timm, fitted to pictures of any size and number of channels."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torch.nn import functional as F

from .pretrained import adapt_input, check_weights, reason_of
from .stem import keep_detail, takes_pictures
from .weights import (
    PUBLISHED,
    WeightsFile,
    get_weights,
    native_size,
    package_state,
    unknown_network,
)

__all__ = ["Statistics", "TimmNet", "TorchvisionNet", "adapt_first_convolution", "for_channels"]

# Pictures up to this side would be a single point after the first layers of an ImageNet network.
_SMALL = 64
# Tried where a network does not take the pictures' own size.
_SIZES = (32, 64, 96, 128, 224, 299)
Statistics = tuple[list[float], list[float]]


class _NetworkArguments(NamedTuple):
    """Arguments of a network that its library needs."""

    in_channels: int
    num_classes: int
    name: str
    pretrained: bool | str | None
    input_size: int | None
    drop_rate: float | None


class _ZooNet(nn.Module):
    """A library's network, with pictures resized for it where it needs that.

    Args:
        name: the library's name of the network.
        pretrained: True for published weights, wherever they can be had; "hub" and "package" for
            those alone; a path announces weights that are put in later; None or False for none.
        input_size: side in pixels that pictures are resized to, inside the network and on its
            device; None for the size that the network's published weights were trained for where
            it is pretrained, else for the pictures' own, or the smallest one that works.
        stem: "small" takes early reductions out (see `keep_detail`), so that small pictures keep
            their detail; "keep" leaves them; "auto" is small for pictures up to 64 pixels, after
            resizing, that are not given to pretrained weights, wherever these come from.
        drop_rate: dropout before the classifier, in [0, 1), where the network has one; None for the
            library's own.

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
        drop_rate: float | None,
    ) -> None:
        super().__init__()
        self.input_statistics: Statistics | None = None
        if input_size is None and pretrained:
            input_size = native_size(self.library, name)
        arguments = _NetworkArguments(
            in_channels, num_classes, name, pretrained, input_size, drop_rate
        )
        self.backbone = self._make(arguments)
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
        self.input_size = self._fitting_size(image_size, arguments)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) to logits (B, K)."""
        if self.input_size is not None and images.shape[2:] != self.input_size:
            images = F.interpolate(
                images, self.input_size, mode="bilinear", align_corners=False, antialias=True
            )
        return self.backbone(images)

    @abstractmethod
    def _make(self, arguments: _NetworkArguments) -> nn.Module: ...

    def _heads(self) -> Sequence[str]:
        return [_last_layer(self.backbone)]

    def _fitting_size(
        self, image_size: tuple[int, int], arguments: _NetworkArguments
    ) -> tuple[int, int] | None:
        """Return what to resize pictures to, None for nothing; found by trying."""
        if arguments.input_size is not None:
            own = (arguments.input_size, arguments.input_size)
            sizes = [own]
            trained_so = arguments.in_channels == 3 and arguments.pretrained in PUBLISHED
            if trained_so and arguments.input_size == native_size(self.library, arguments.name):
                return None if own == image_size else own  # it is known to take these
        else:
            # The nearest from above, so that no detail is lost; else the largest.
            longer = max(image_size)
            made_for: Any = getattr(self.backbone, "default_cfg", {})
            sides = {*_SIZES, *made_for.get("input_size", ())[-1:]}
            near = sorted(sides, key=lambda side: (side < longer, abs(side - longer)))
            sizes = [image_size, *((side, side) for side in near)]
        for size in sizes:
            if takes_pictures(self.backbone, arguments.in_channels, arguments.num_classes, size):
                return None if size == image_size else size
        tried = ", ".join(f"{height}x{width}" for height, width in sizes)
        side = native_size(self.library, arguments.name)
        hint = "" if side is None else f", such as the network's own {side}"
        # Larger ones are no multiple of its patches or windows.
        is_small = side is None or (arguments.input_size or 0) <= side
        raise ValueError(
            f"{arguments.name} takes pictures of none of these sizes: {tried}; model.input_size "
            f"must be {'larger' if is_small else 'another'}{hint}"
        )


class TorchvisionNet(_ZooNet):
    """Any classifier of torchvision.models."""

    __doc__ = f"{__doc__}\n{_ZooNet.__doc__}"
    library = "torchvision"

    def _make(self, arguments: _NetworkArguments) -> nn.Module:
        from torchvision import models

        name, known = arguments.name, models.list_models(module=models)
        if name not in known:
            raise ValueError(unknown_network(self.library, name, known, arguments.pretrained))
        published = arguments.pretrained in PUBLISHED
        if published:
            network = self._published(arguments)
        else:
            options: dict[str, object] = {"num_classes": arguments.num_classes}
            if name in ("googlenet", "inception_v3"):
                options |= {"aux_logits": False, "init_weights": True}
            network = _made(lambda: models.get_model(name, **options), name)
        if arguments.in_channels != 3:
            adapt_first_convolution(network, arguments.in_channels, keep_weights=published)
        if arguments.drop_rate is not None:
            _set_dropout(network, arguments.drop_rate)
        return network

    def _published(self, arguments: _NetworkArguments) -> nn.Module:
        from torchvision import models

        name = arguments.name
        found = get_weights(self.library, name, arguments.pretrained)
        weights = models.get_model_weights(name).DEFAULT
        # torchvision would run code that is in the file; `_filled` looks for it before.
        network = _filled(lambda: models.get_model(name, weights=weights), name, found)
        preset = weights.transforms()
        expected = preset.mean, preset.std
        if getattr(network, "transform_input", False):
            # These would bring ImageNet's statistics to 0.5 themselves, for RGB alone.
            network.transform_input = False  # type: ignore[assignment]
            expected = [0.5] * 3, [0.5] * 3
        self.input_statistics = for_channels(expected, arguments.in_channels)
        # What is not ImageNet's number of classes cannot be asked for together with its weights.
        _replace_head(network, arguments.num_classes)
        for auxiliary in ("aux1", "aux2", "AuxLogits"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
        if hasattr(network, "aux_logits"):
            network.aux_logits = False  # type: ignore[assignment]
        return network


class TimmNet(_ZooNet):
    """Any classifier of timm."""

    __doc__ = f"{__doc__}\n{_ZooNet.__doc__}"
    library = "timm"

    def _make(self, arguments: _NetworkArguments) -> nn.Module:
        import timm

        name = arguments.name
        if not timm.is_model(name) or ("." in name and name not in timm.list_pretrained()):
            known = [*timm.list_models(), *timm.list_pretrained()]
            raise ValueError(unknown_network(self.library, name, known, arguments.pretrained))
        options: dict[str, Any] = {"in_chans": arguments.in_channels}
        described = timm.get_pretrained_cfg(name)
        if arguments.input_size and described is not None and described.fixed_input_size:
            options["img_size"] = arguments.input_size
        published = arguments.pretrained in PUBLISHED
        found = get_weights(self.library, name, arguments.pretrained) if published else None
        further: dict[str, Any] = {"num_classes": arguments.num_classes}
        if arguments.drop_rate is not None:
            further["drop_rate"] = arguments.drop_rate
        network: nn.Module = _made(lambda: timm.create_model(name, **options, **further), name)
        if found is not None:
            # With the classes of its weights: for others timm would not mind missing tensors.
            whole = _filled(
                lambda: timm.create_model(
                    name,
                    pretrained=True,
                    pretrained_cfg_overlay=_overlay(network, found),
                    **options,
                ),
                name,
                found,
            )
            own = network.state_dict()  # of which a head of another size stays
            fitting = {n: t for n, t in whole.state_dict().items() if own[n].shape == t.shape}
            network.load_state_dict(fitting, strict=False)
            expected: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
            statistics = expected["mean"], expected["std"]
            self.input_statistics = for_channels(statistics, arguments.in_channels)
        return network

    def _heads(self) -> Sequence[str]:
        described = cast("dict[str, Any]", self.backbone.default_cfg)
        heads = described.get("classifier") or _last_layer(self.backbone)
        names = [heads] if isinstance(heads, str) else list(heads)
        present = [n for n, _ in self.backbone.named_parameters()]
        return [name for name in names if any(p.startswith(f"{name}.") for p in present)]


def _made(make: Callable[[], nn.Module], name: str) -> nn.Module:
    """Make a network; what a library says against it becomes one sentence."""
    try:
        return make()
    except Exception as error:  # libraries refuse arguments with any kind of error
        raise ValueError(f"{name} could not be made ({reason_of(error)})") from error


def _filled(make: Callable[[], nn.Module], name: str, found: WeightsFile) -> nn.Module:
    """Make a network with weights that were found; a ValueError says what is wrong with them."""
    remedy = "install it again" if found.source == "package" else "delete it to fetch it again"
    try:
        if not found.custom and found.source != "package":  # which is read with the same care
            check_weights(found.file)
        return make()
    except ValueError as error:
        raise ValueError(f"the weights of {name} ({found.source}): {error}; {remedy}") from error
    except Exception as error:  # names or shapes that the network does not have, a torn file
        raise ValueError(
            f"{found.file} does not hold the weights of {name} ({reason_of(error)}); {remedy}"
        ) from error


def _overlay(network: nn.Module, found: WeightsFile) -> dict[str, Any]:
    """Return the entries of timm's configuration that state where a network's weights are."""
    if found.source != "package":
        return {"file": str(found.file), "custom_load": found.custom}
    return {"state_dict": package_state(found, iter(network.state_dict()))}


def _last_layer(network: nn.Module) -> str:
    """Return the name of the layer that gives the logits: the last linear layer or convolution."""
    return [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]


def _replace_head(network: nn.Module, num_classes: int) -> None:
    name = _last_layer(network)
    old = network.get_submodule(name)
    if isinstance(old, nn.Linear):
        network.set_submodule(name, nn.Linear(old.in_features, num_classes))
    else:
        assert isinstance(old, nn.Conv2d)
        network.set_submodule(name, nn.Conv2d(old.in_channels, num_classes, 1))


def _set_dropout(network: nn.Module, rate: float) -> None:
    """Set the dropouts of a network of torchvision that lie beside its last layer, or at its top.

    Those within, which transformers have in every block, are no part of the classifier.
    """
    classifier = _last_layer(network).partition(".")[0]
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout) and name.partition(".")[0] in (name, classifier):
            module.p = rate


def adapt_first_convolution(network: nn.Module, channels: int, *, keep_weights: bool) -> None:
    """Change the first convolution of a network of torchvision to another number of channels."""
    layer = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    layer.in_channels = channels
    layer.weight = nn.Parameter(adapt_input(layer.weight.detach(), channels))
    if not keep_weights:
        layer.reset_parameters()


def for_channels(
    statistics: tuple[Sequence[float], Sequence[float]], channels: int
) -> Statistics | None:
    """Return mean and deviation of colours for so many channels: their own, or the mean of all."""
    mean, std = (list(map(float, values)) for values in statistics)
    if channels == len(mean):
        return mean, std
    return [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
