"""proxsparse: a trained network is drawn towards 2:4 by proximal steps; the mask of that goes on its weights.

Liu et al. 2025, ProxSparse: Regularized Learning of Semi-Structured Sparsity Masks for Pretrained LLMs; code amazon-
science/ProxSparse 4a558bc (end-to-end/prox_op.py). After each update w becomes the minimum of 0.5 |y - w|^2 + lambda
(|y1 y2 y3| + |y2 y3 y4| + |y3 y4 y1| + |y4 y1 y2|), each four of a group; lambda is not scaled by the learning rate,
as in their trainer. In the end the two largest of each four stay, with the values that they had before.

Two passes: the dense network (that of the dense twin), then this. Departures: evaluation sees the pruned network
throughout; biases, norms and dense layers keep what they learn in the second pass, where theirs go back as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.optim import Optimizer

from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import DENSE, FOLLOW, Method
from nmbench.sparsity.pattern import NMPattern


class Settings(BaseModel):
    """Hyper-parameters."""

    strength: float = Field(0.25, ge=0, description="lambda (0.25 for LLaMA-2-7B, 0.85 for LLaMA-3.1-8B)")
    original: bool = Field(True, description="end with the weights of before; false: with those that it trained")


def _free(sizes: Tensor, free: int, strength: float) -> Tensor:
    """The stationary point where the `free` largest may differ from zero. sizes: (groups, 4), descending."""
    made = torch.zeros_like(sizes)
    for _ in range(100):
        last = made.clone()
        for i in reversed(range(free)):
            others = [made[:, j] for j in range(free) if j != i]
            pull = sum(a * b for a, b in itertools.combinations(others, 2))
            made[:, i] = (sizes[:, i] - strength * pull).clamp_(min=0)
        if (made - last).abs().sum() < 1e-8:
            break
    return made


def proximal(groups: Tensor, strength: float) -> Tensor:
    """The minimum for each group of four; (groups, 4)."""
    sizes, order = groups.abs().sort(1, descending=True)
    two = torch.cat([sizes[:, :2], torch.zeros_like(sizes[:, 2:])], 1)
    found = torch.stack([two, _free(sizes, 3, strength), _free(sizes, 4, strength)])
    triples = sum(found[..., list(three)].prod(2) for three in itertools.combinations(range(4), 3))
    cost = 0.5 * (found - sizes).square().sum(2) + strength * triples
    best = found[cost.argmin(0), torch.arange(len(groups), device=groups.device)]
    return torch.zeros_like(groups).scatter_(1, order, best) * groups.sign()


class ProxSparse(Method):
    """Proximal steps towards 2:4."""

    name = "proxsparse"
    settings = Settings
    phases = 2
    starts_dense = True

    def refuses(self, pattern: NMPattern) -> str:
        """2:4 alone."""
        return "" if (pattern.n, pattern.m) == (2, 4) else "its regulariser is one of 2:4"

    def rule(self, phase: int, step: int) -> str:
        """Dense in the first pass."""
        return FOLLOW if phase > 0 else DENSE

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """The weight itself in training; in evaluation what would be left."""
        if layer.module.training:
            return weight
        values = layer.memory.get("original", weight) if self.hyper["original"] else weight
        return torch.where(layer.mask, values, 0)

    def before(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """Keep the weights that the second pass begins with."""
        for layer in layers if self.now.phase > 0 else ():
            layer.memory.setdefault("original", layer.values.detach().clone())

    def after(self, layers: Sequence[Layer], optimizer: Optimizer | None) -> None:
        """The proximal step."""
        for layer in layers if self.now.phase > 0 else ():
            values = layer.values
            values.copy_(layer.ungrouped(proximal(layer.groups(values), float(self.hyper["strength"]))))
