"""Optimizers, and the learning rate and weight decay of each parameter of a network.

`parameter_groups` sorts the parameters; a factory (`adamw`, `sgd`, `Muon`, `MuonSGD`) takes the
groups as `params` and its own settings as keyword arguments. Learning rate and weight decay stand
in the groups alone, so that `LambdaLR` scales each group's own rate.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .cuda_graphs import GraphedUpdate, on_gpu
from .freezing import parameter_depths

__all__ = [
    "Muon",
    "MuonSGD",
    "adamw",
    "orthogonalize",
    "parameter_groups",
    "sgd",
]

ParamGroup = dict[str, Any]
Built = TypeVar("Built", bound=torch.optim.Optimizer)

# Learned tables and tokens that are bare parameters of networks: torchvision's class_token and
# relative_position_bias_table, timm's pos_embed, cls_token, reg_token and their like.
_TABLE_NAME = re.compile(r"token|embed|pos(ition)?_|bias|mask|scale|gamma")
_TABLE_OWNERS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
_MATRIX_OWNERS = (nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.modules.conv._ConvNd)


def parameter_groups(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    backbone_lr_scale: float = 1.0,
    layer_decay: float = 1.0,
    head_prefixes: Iterable[str] = (),
) -> list[ParamGroup]:
    """Sort the parameters of `network` into groups with a rate and a decay.

    Matrices and convolution kernels decay; biases, norms, one-dimensional parameters, embeddings,
    class tokens and position embeddings do not. Frozen parameters are included, as they may be
    trained later.

    Args:
        network: its parameters are taken once each, in `named_parameters` order.
        lr: learning rate of the head, and of the rest times `backbone_lr_scale`.
        weight_decay: of the decaying parameters.
        backbone_lr_scale: above 0.
        layer_decay: in (0, 1]; the rate of the level that stands n levels before the head is
            multiplied by its n-th power (Clark et al., "ELECTRA", ICLR 2020; Bao et al., "BEiT",
            ICLR 2022). Levels are those of `parameter_depths`.
        head_prefixes: names of the modules or parameters that make up the head, a trailing dot
            allowed; empty when the network has no head of its own.

    Returns:
        Groups with keys name, params, lr, weight_decay, without empty ones, those of the head last.
        Names are backbone.matrices, backbone.vectors, head.matrices, head.vectors; where rates
        differ by depth, backbone.0.matrices and so on, from the input to the head.

    Raises:
        ValueError: a head prefix that fits no parameter.
    """
    heads = [prefix.rstrip(".") for prefix in head_prefixes]
    tables = set(_declared_tables(network))
    depths = parameter_depths(network) if layer_decay < 1 else {}
    sorted_names: dict[tuple[bool, int, str], list[nn.Parameter]] = defaultdict(list)
    unused = set(heads)
    for name, parameter in network.named_parameters():
        under = [head for head in heads if name == head or name.startswith(f"{head}.")]
        unused.difference_update(under)
        matrix = name not in tables and _is_matrix(network, name, parameter)
        depth = 0 if under else depths.get(name, 0)
        kind = "matrices" if matrix else "vectors"
        sorted_names[bool(under), depth, kind].append(parameter)
    if unused:
        raise ValueError(f"no parameter of the network is under the head {sorted(unused)[0]!r}.")
    top = 1 + max((depth for head, depth, _ in sorted_names if not head), default=0)
    groups = []
    for head, depth, kind in sorted(sorted_names):
        level = f".{depth}" if depths and not head else ""
        below = backbone_lr_scale * layer_decay ** (top - depth)
        groups.append(
            {
                "name": f"{'head' if head else 'backbone'}{level}.{kind}",
                "params": sorted_names[head, depth, kind],
                "lr": lr if head else lr * below,
                "weight_decay": weight_decay if kind == "matrices" else 0.0,
            }
        )
    return groups


def adamw(params: Sequence[ParamGroup], *, betas: Sequence[float], eps: float) -> torch.optim.AdamW:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    The decays of the two averages, `betas`, are in [0, 1); `eps` is above 0.
    """
    beta1, beta2 = betas
    fused = _can_fuse(params) or None
    return _portable(_AdamW(params, betas=(beta1, beta2), eps=eps, fused=fused))


def sgd(params: Sequence[ParamGroup], *, momentum: float, nesterov: bool) -> torch.optim.SGD:
    """Return stochastic gradient descent with (Nesterov's) momentum (Sutskever et al. 2013).

    Weight decay is the classical one, a part of the gradient. `momentum` is in [0, 1); Nesterov's
    is above 0.
    """
    fused = _can_fuse(params) or None
    return _portable(torch.optim.SGD(params, momentum=momentum, nesterov=nesterov, fused=fused))


class _AdamW(torch.optim.AdamW):
    """AdamW whose step does not ask whether a graph of it is being captured; none ever is.

    Where there is no GPU, torch would look for NVIDIA's library on the disk in every step, after
    Lightning has set PYTORCH_NVML_BASED_CUDA_CHECK: 58 us, of some 3.5 ms of a small network.
    """

    def _accelerator_graph_capture_health_check(self) -> None:
        pass


class _Orthogonalized(torch.optim.Optimizer, ABC):
    """Momentum orthogonalised by Newton-Schulz for hidden matrices, another optimizer for the rest.

    Muon (Jordan et al. 2024) updates the matrices of the backbone's groups; convolution kernels
    count as matrices of (out, in * kh * kw). `torch.optim.Muon` takes neither kernels nor other
    parameters, and one matrix at a time; matrices of one shape are orthogonalised together here,
    and on a GPU the steps of all are one CUDA graph. A subclass says which optimizer takes the
    rest, and how far a step goes.

    Args:
        params: groups of `parameter_groups`; those of the rest have its settings.
        momentum: decay of the gradient average, in [0, 1); the look-ahead is Nesterov's.
    """

    def __init__(self, params: Sequence[ParamGroup], *, momentum: float, **defaults: Any) -> None:
        super().__init__(params, {"momentum": momentum, **defaults})
        self._set_halves()
        _portable(self)

    @abstractmethod
    def _made_rest(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        """Return the optimizer of the groups without hidden matrices, and on these very groups."""

    @abstractmethod
    def _size(self, rows: int, columns: int) -> float:
        """Return the singular values of a step of a rate of one."""

    def _prepare(self, matrices: list[Tensor]) -> None:
        """Change matrices before they are moved; most are moved as they are."""

    def _set_halves(self) -> None:
        """Build the other half on this optimizer's own groups and state, as they share a dict."""
        groups = [g for g in self.param_groups if not _is_hidden(g)]
        self._hidden = [g for g in self.param_groups if _is_hidden(g)]
        self._rates: list[Tensor] = []
        self._graphed = GraphedUpdate(self._step_hidden)
        self._rest: torch.optim.Optimizer | None = None
        if groups:
            self._rest = self._made_rest(groups)
            self._rest.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Loading and unpickling replace groups and state, which the other half shares.
        super().__setstate__(state)
        self._set_halves()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Make one step of both halves; `closure`, if given, computes gradients and loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if trained := [p for g in self._hidden for p in g["params"] if p.grad is not None]:
            self._step_trained(trained)
        if self._rest is not None:
            self._rest.step()
        return loss

    def _step_trained(self, trained: Sequence[Tensor]) -> None:
        for p in trained:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        if not on_gpu(trained[0]):
            for group in self._hidden:
                self._step_matrices(group, group["lr"])
            return
        if not self._rates:  # what a graph reads must lie on the device
            self._rates = [trained[0].new_zeros((), dtype=torch.float32) for _ in self._hidden]
        for rate, group in zip(self._rates, self._hidden, strict=True):
            rate.fill_(group["lr"])
        decays = tuple(group["weight_decay"] for group in self._hidden)
        buffers = [self.state[p]["momentum_buffer"] for p in trained]
        grads = [p.grad for p in trained if p.grad is not None]
        self._graphed((decays, *(t.data_ptr() for t in (*trained, *grads, *buffers))))

    def _step_hidden(self) -> None:
        for group, rate in zip(self._hidden, self._rates, strict=True):
            self._step_matrices(group, rate)

    def _step_matrices(self, group: ParamGroup, lr: float | Tensor) -> None:
        momentum = group["momentum"]
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        grads = [p.grad for p in params]
        averages = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_lerp_(averages, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, averages, momentum)
        self._prepare(params)
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        members: dict[torch.Size, list[int]] = defaultdict(list)
        for i, p in enumerate(params):
            members[p.shape].append(i)
        for some in members.values():
            found = orthogonalize(torch.stack([ahead[i] for i in some]).flatten(2))
            # As float32, in which a device adds all to all at once.
            found = found.to(torch.float32, memory_format=torch.contiguous_format)
            updates = [u.view(params[i].shape) for i, u in zip(some, found, strict=True)]
            scale = -self._size(*found.shape[1:])
            if isinstance(lr, Tensor):
                found.mul_(lr * scale)
                torch._foreach_add_([params[i] for i in some], updates)
            else:
                torch._foreach_add_([params[i] for i in some], updates, alpha=lr * scale)


class Muon(_Orthogonalized):
    """Muon for hidden matrices and kernels, AdamW for the rest, as one.

    The step of an (m, n) matrix is scaled by 0.2 * sqrt(max(m, n)) (Liu et al. 2025), which gives
    it the size of an AdamW step: one learning rate and one weight decay serve both halves.

    Args:
        params: groups of `parameter_groups`.
        momentum: of the matrices: decay of the gradient average, in [0, 1).
        betas, eps: of AdamW.
    """

    def __init__(
        self, params: Sequence[ParamGroup], *, momentum: float, betas: Sequence[float], eps: float
    ) -> None:
        super().__init__(params, momentum=momentum, betas=tuple(betas), eps=eps)

    def _made_rest(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        return _AdamW(groups, fused=_can_fuse(groups) or None)

    def _size(self, rows: int, columns: int) -> float:
        return 0.2 * max(rows, columns) ** 0.5


class MuonSGD(_Orthogonalized):
    """Muon for hidden matrices and kernels that keep their norm, SGD for the rest, as one.

    For networks that normalise what each hidden matrix or kernel gives, whose outputs its norm
    does not change: it is set to the root of the number of its rows before each step, so that
    steps stay as large in proportion, and nothing decays it. All singular values of a step are
    near the learning rate. The rest follows SGD with Nesterov's momentum, biases and head by rates
    of their own; the head's matrices decay as with `sgd`. After Jordan's `airbench94_muon` (2024).

    Args:
        params: groups of `parameter_groups`.
        momentum: of SGD, in (0, 1).
        matrix_momentum: decay of the average of the matrices' gradients, in [0, 1).
        vectors_lr_scale, head_lr_scale: above 0; factors of the rates of biases and other vectors,
            and of the head's matrices.
    """

    def __init__(
        self,
        params: Sequence[ParamGroup],
        *,
        momentum: float,
        matrix_momentum: float,
        vectors_lr_scale: float,
        head_lr_scale: float,
    ) -> None:
        own: list[ParamGroup] = []
        for group in params:
            if _is_hidden(group):
                own.append({**group, "weight_decay": 0.0, "momentum": matrix_momentum})
            else:
                vectors = group["name"].endswith(".vectors")
                scale = vectors_lr_scale if vectors else head_lr_scale
                own.append({**group, "lr": scale * group["lr"]})
        super().__init__(
            own,
            momentum=momentum,
            matrix_momentum=matrix_momentum,
            vectors_lr_scale=vectors_lr_scale,
            head_lr_scale=head_lr_scale,
        )

    def _made_rest(self, groups: list[ParamGroup]) -> torch.optim.Optimizer:
        momentum = self.defaults["momentum"]
        return torch.optim.SGD(
            groups, momentum=momentum, nesterov=True, fused=_can_fuse(groups) or None
        )

    def _size(self, rows: int, columns: int) -> float:
        return 1.0

    def _prepare(self, matrices: list[Tensor]) -> None:
        norms = torch._foreach_norm(matrices)
        torch._foreach_clamp_min_(norms, 1e-7)  # what starts as zero has no direction yet
        torch._foreach_div_(norms, [len(matrix) ** 0.5 for matrix in matrices])
        torch._foreach_div_(matrices, norms)


def _is_hidden(group: ParamGroup) -> bool:
    """Return whether a group holds matrices that are neither the head's nor tables."""
    name: str = group["name"]
    return name.startswith("backbone.") and name.endswith(".matrices")


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices (N, m, n) float with singular values near 1, as bfloat16.

    Five Newton-Schulz steps with the quintic of Jordan et al. (2024), which does not converge to 1
    but into about [0.7, 1.2] quickly; bfloat16 is enough for it.
    """
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT  # the smaller Gram matrix
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(5):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445
        )
    return x.mT if tall else x


def _is_matrix(network: nn.Module, name: str, parameter: Tensor) -> bool:
    owner_name, _, own_name = name.rpartition(".")
    owner = network.get_submodule(owner_name)
    if parameter.ndim < 2 or isinstance(owner, _TABLE_OWNERS):
        return False
    if isinstance(owner, _MATRIX_OWNERS):
        return True
    # A bare parameter: (1, 1, D) tokens and (C, 1, 1) scales are vectors whatever they are called.
    return sum(size > 1 for size in parameter.shape) > 1 and not _TABLE_NAME.search(own_name)


def _declared_tables(network: nn.Module) -> Iterator[str]:
    """Yield the full names of parameters that timm's networks exclude from decay."""
    for name, module in network.named_modules():
        declared = getattr(module, "no_weight_decay", None)
        if callable(declared):
            yield from (f"{name}.{own}" if name else own for own in declared())


def _can_fuse(groups: Iterable[ParamGroup]) -> bool:
    """Return whether the fused step is possible: 3 times as fast on the CPU for small networks."""
    return all(
        p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point()
        for g in groups
        for p in g["params"]
    )


def _portable(optimizer: Built) -> Built:
    """Let a fused optimizer be clipped under autocast and loaded into another memory layout."""
    # Fused optimizers offer to unscale float16 gradients themselves, for which Lightning refuses
    # to clip them; without the offer the scaler does it before the step.
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    optimizer.register_load_state_dict_post_hook(_match_layout)
    return optimizer


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give each parameter's state the memory layout of the parameter.

    The fused kernels on the CPU ignore strides: moments saved from a contiguous network would
    silently be paired with the wrong weights of a channels_last one.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            moment = torch.is_tensor(value) and value.shape == parameter.shape
            if moment and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
