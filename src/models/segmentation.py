"""torchvision's networks with a class for every pixel."""

from __future__ import annotations

from torch import Tensor, nn

from .pretrained import read_weights
from .weights import PUBLISHED, find_weights, place_of_weights, unknown_network
from .zoo import Statistics, adapt_first_convolution, for_channels

__all__ = ["SegmentationNet", "backbone_of"]


def backbone_of(name: str) -> str:
    """Return torchvision's name of the classifier that a network takes its maps from."""
    return name.partition("_")[2]


class SegmentationNet(nn.Module):
    """A network of torchvision.models.segmentation: FCN, DeepLabV3 or LR-ASPP.

    Long et al., "Fully Convolutional Networks for Semantic Segmentation" (CVPR 2015); Chen et al.,
    "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017); Howard et al.,
    "Searching for MobileNetV3" (ICCV 2019). The further head that torchvision trains FCN and
    DeepLabV3 with is left out.

    Args:
        image_size: of no effect: pictures of any size are taken.
        name: torchvision's name of it, such as "lraspp_mobilenet_v3_large".
        pretrained: True, "hub" and "package" put the ImageNet weights of its backbone into it, as
            far as they are on this machine: nothing is fetched. A path announces weights that are
            put in later; None or False for none.

    Attributes:
        input_statistics: per channel mean and std that the weights expect; None from scratch.

    Raises:
        ValueError: an unknown name, or there are no such weights on this machine.
    """

    head_prefixes = ("network.classifier.",)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        name: str,
        pretrained: bool | str | None,
    ) -> None:
        from torchvision import models

        super().__init__()
        known = models.list_models(module=models.segmentation)
        if name not in known:
            raise ValueError(unknown_network("torchvision", name, known, None, kind="segmentation"))
        self.network: nn.Module = models.get_model(
            name, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=False
        )
        published = pretrained in PUBLISHED
        self.input_statistics: Statistics | None = None
        if published:
            self._fill(name, pretrained)
            preset = models.get_model_weights(backbone_of(name)).DEFAULT.transforms()
            self.input_statistics = for_channels((preset.mean, preset.std), in_channels)
        if in_channels != 3:
            adapt_first_convolution(self.network, in_channels, keep_weights=published)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised pictures (B, C, H, W) of any size to logits (B, K, H, W)."""
        return self.network(images)["out"]

    def _fill(self, name: str, pretrained: bool | str | None) -> None:
        """Copy the tensors of a published classifier into the backbone."""
        backbone = backbone_of(name)
        found = None if pretrained == "package" else find_weights("torchvision", backbone)
        if found is None:
            raise ValueError(
                f"the weights of {backbone}, the backbone of {name}, are not on this machine: put "
                f"{place_of_weights(backbone)} there, or set model.pretrained=null"
            )
        maps = self.network.get_submodule("backbone")
        own = maps.state_dict()
        # A classifier's convolutions are a member of it, and here the whole.
        weights = read_weights(found.file)
        stored = {name.removeprefix("features."): tensor for name, tensor in weights.items()}
        missing = [n for n, t in own.items() if n not in stored or stored[n].shape != t.shape]
        if missing:
            raise ValueError(
                f"{found.file} does not hold the weights of {backbone}: it has none for "
                f"{missing[0]}; delete it, or set model.pretrained=null"
            )
        maps.load_state_dict({n: stored[n] for n in own})
