"""domino: how many of M each layer keeps is searched for, from a dense network on; then SR-STE with what was found.

Sun et al. 2021, DominoSearch: Find Layer-Wise Fine-Grained N:M Sparse Schemes from Dense Neural Networks; code NM-
sparsity/DominoSearch 4c6badd (devkit/sparse_ops, devkit/core/sparsity_utils.py). Each group has a threshold, the mean
of the smaller half of its magnitudes when the search begins. The forward pass keeps the n largest, the gradient is
masked, and every 5th step the kept ones decay by `decay` f. Every 100 steps a layer whose groups have, in 75 % of
them, fewer than n weights above their threshold loses one of n. The search ends where the weights of all layers
together are as sparse as N:M asks; a layer then keeps the power of two up to its n.

Two passes: the dense network (that of the dense twin), then search and training. Departures: f is what a layer lacks
of its Erdos-Renyi kernel share alone, not less than 0, without their half by operations; `decay` does not double. In
a search of fewer than 100 M steps votes come more often. Where the search has not arrived when its
share of training is over, the layers that lack most go down until it has. It runs with the optimizer of the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from nmbench.sparsity.allocation import kernel_shares
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import DENSE, FOLLOW
from nmbench.sparsity.methods.sr_ste import SRSTE
from nmbench.sparsity.methods.sr_ste import Settings as Decay
from nmbench.sparsity.pattern import NMPattern


class Settings(Decay):
    """Hyper-parameters."""

    lambda_w: float = Field(2e-4, ge=0, description="decay of the pruned weights after the search")
    search: float = Field(
        0.1, ge=0, le=1, description="share of the second pass at which the search ends at the latest"
    )
    decay: float = Field(0.1, ge=0, description="decay of the kept weights while it searches")
    every: int = Field(100, ge=1, description="steps between votes, at most; a short search has M votes")
    decay_every: int = Field(5, ge=1, description="optimizer steps from one decay to the next")
    votes: float = Field(0.75, ge=0, le=1, description="share of groups that must be for it")


class Domino(SRSTE):
    """Layer-wise N:M, searched."""

    name = "domino"
    settings = Settings  # type: ignore[assignment] # a wider one
    phases = 2
    starts_dense = True
    layerwise = False

    def rule(self, phase: int, step: int) -> str:
        """Dense in the first pass."""
        return FOLLOW if phase > 0 else DENSE

    @property
    def searching(self) -> bool:
        """Is the search going on?"""
        return self.now.phase > 0 and "found" not in self.memory

    def pattern(self, layer: Layer, step: int) -> NMPattern:
        """The layer's n of M; M of M when the search begins."""
        return layer.asked if self.now.phase == 0 else replace(layer.asked, n=_kept(layer))

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """The masked weight, with a masked gradient while it searches."""
        return torch.where(layer.mask, weight, 0) if self.searching else super().forward(layer, weight)

    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Decay of the kept weights in the search, of the pruned ones after it; nothing in the dense pass."""
        if self.now.phase == 0:
            return None
        if not self.searching:
            return super().before(layers, optimizer)
        for layer in layers if self.now.step % int(self.hyper["decay_every"]) == 0 else ():
            self._threshold(layer)
            kept = torch.where(layer.mask, layer.values.detach(), 0)
            if (grad := layer.grad) is not None:
                grad.add_(kept.to(grad.dtype), alpha=float(self.hyper["decay"]) * layer.memory.get("factor", 1.0))
        return None

    @staticmethod
    def _threshold(layer: Layer) -> Tensor:
        if "threshold" not in layer.memory:
            ordered = layer.groups(layer.values.detach().abs()).sort(1).values
            layer.memory["threshold"] = ordered[:, : layer.asked.m // 2].mean(1, keepdim=True)
        threshold: Tensor = layer.memory["threshold"]
        return threshold

    def after(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """The votes of the groups, and the end of the search."""
        if not self.searching:
            return
        for layer in layers if self.now.step % self._interval(layers[0].asked.m) == 0 else ():
            above = (layer.groups(layer.values.detach().abs()) > self._threshold(layer)).sum(1)
            if float((above < _kept(layer)).float().mean()) >= float(self.hyper["votes"]) and _kept(layer) > 1:
                layer.memory["n"] = _kept(layer) - 1
        targets = kernel_shares([tuple(layer.values.shape) for layer in layers], 1 - layers[0].asked.density)
        lack = [t / (max(targets) or 1.0) - 1 + _kept(x) / x.asked.m for t, x in zip(targets, layers, strict=True)]
        for layer, factor in zip(layers, lack, strict=True):
            layer.memory["factor"] = max(factor, 0.0)
        over = self.now.step >= self.now.at(float(self.hyper["search"]))
        if over or _density(layers) <= layers[0].asked.density + 1e-3:
            self._end(layers, targets)

    def _interval(self, m: int) -> int:
        """Steps from one vote to the next: in the search each layer can come down from M to one."""
        return max(1, min(int(self.hyper["every"]), self.now.at(float(self.hyper["search"])) // m))

    def _end(self, layers: Sequence[Layer], targets: Sequence[float]) -> None:
        for layer in layers:
            layer.memory["n"] = 2 ** int(math.log2(_kept(layer)))
        while _density(layers) > layers[0].asked.density + 1e-9:
            open_ = [(_kept(x) / x.asked.m - 1 + t, i) for i, (x, t) in enumerate(zip(layers, targets, strict=True))]
            most = max((gap, i) for gap, i in open_ if _kept(layers[i]) > 1)[1]
            layers[most].memory["n"] = _kept(layers[most]) // 2
        self.memory["found"] = self.now.step


def _kept(layer: Layer) -> int:
    return int(layer.memory.get("n", layer.asked.m))


def _density(layers: Sequence[Layer]) -> float:
    """Share of weights that the layers' patterns keep, over all of them."""
    total = sum(layer.values.numel() for layer in layers)
    return sum(layer.values.numel() * _kept(layer) / layer.asked.m for layer in layers) / total
