"""Grad-CAM: which places of a picture increase the score of a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.explain.feature_maps import MapLayer, run_plainly

__all__ = ["grad_cam", "weighted_maps"]


def grad_cam(network: nn.Module, layer: MapLayer, images: Tensor, classes: Tensor) -> Tensor:
    """Compute gradient-weighted class activation maps (Selvaraju et al. 2017, arXiv:1610.02391).

    Where a network averages its last maps and classifies the averages by a linear layer, these are
    the class activation maps of Zhou et al. (2016, arXiv:1512.04150), cut off below zero.

    Args:
        network: in evaluation mode, pictures to logits (B, K).
        layer: of `find_map_layer`.
        images: normalised pictures (B, C, H, W).
        classes: (B, M) int64 in [0, K), of each picture.

    Returns:
        (B, M, H, W) float32 in [0, 1], each map in units of its maximum; all zero where no place
        increases the score.
    """
    kept: list[Tensor] = []

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        # The layers before need no graph, and the maps no copy.
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    with torch.enable_grad(), network.get_submodule(layer.name).register_forward_hook(cut):
        scores = run_plainly(network, images).gather(1, classes)
        maps = [
            weighted_maps(
                layer.as_maps(kept[0].detach()),
                layer.as_maps(torch.autograd.grad(score.sum(), kept[0], retain_graph=True)[0]),
            )
            for score in scores.unbind(1)
        ]
    stacked = torch.stack(maps, dim=1).float()
    # The maximum before resizing, which interpolates between the places of a coarse map.
    highest = stacked.amax((2, 3), keepdim=True)
    relative = stacked / highest.clamp_min(torch.finfo(torch.float32).tiny)
    return F.interpolate(relative, images.shape[-2:], mode="bilinear")


def weighted_maps(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return (B, h, w), at least 0: maps (B, D, h, w) weighted by their mean gradients, summed."""
    return (gradients.mean((2, 3), keepdim=True) * maps).sum(1).relu()
