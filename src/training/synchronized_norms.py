"""Batch normalisation over the pictures of all devices that train together."""

from __future__ import annotations

from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["SynchronizedNorms"]


class SynchronizedNorms(LayerSync):
    """Replaces batch norms by ones that share their statistics, and puts the originals back.

    torch's own conversion, which Lightning's plugin calls, knows no norm that goes on to an
    activation, as most networks of timm have them: it drops the activation.
    """

    def __init__(self) -> None:
        self._originals: dict[nn.Module, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch norms within `model`; parameters and statistics stay the same."""
        from timm.layers.norm_act import convert_sync_batchnorm

        replaced: dict[nn.Module, nn.Module] = {}  # a norm may have several places
        for module in [*model.modules()]:
            for name, child in module.named_children():
                if isinstance(child, _BatchNorm) and not isinstance(child, nn.SyncBatchNorm):
                    if child not in replaced:
                        replaced[child] = convert_sync_batchnorm(child)
                        self._originals[replaced[child]] = child
                    setattr(module, name, replaced[child])
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the norms that `apply` replaced back into `model`, with what has been trained."""
        for module in [*model.modules()]:
            for name, child in module.named_children():
                original = self._originals.get(child)
                if original is not None:
                    # The tensors may have been replaced, as by moving buffers to a device.
                    for own, tensor in (
                        *child.named_parameters(recurse=False),
                        *child.named_buffers(recurse=False),
                    ):
                        setattr(original, own, tensor)
                    setattr(module, name, original.train(child.training))
        self._originals.clear()
        return model
