"""slope: a fixed mask, pruned a second time for the backward product, and a low-rank branch for the end of training.

Mozaffari et al. 2024, SLoPe: Double-Pruned Sparse Plus Lazy Low-Rank Adapter Pretraining of LLMs; code Mohammad-
Mozaffari/slope 451f0bc (slope/slope.py). The mask is that of the initial weights; the gradient to the inputs is made
with the weight pruned along the outputs as well (bi-mask's second mask, outputs in their own order); pruned weights
have neither gradient nor state. For the last `lora` share of training x L R / rank is added, R = 0 at first; it
survives finalize().

Departures: any N:M (their kernels are 2:4), convolutions too, without a branch; layers with an aspect ratio above 5,
which they leave dense, are a matter of `layers`. The branch sees all samples (in their
accuracy experiments it sees the first of a batch). The initial mask is by magnitude, as their code has it.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from nmbench.sparsity.gradients import Product
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.low_rank import LowRankLinear
from nmbench.sparsity.methods.base import HOLD, Method
from nmbench.sparsity.methods.bi_mask import BiMask, backward_mask


class Settings(BaseModel):
    """Hyper-parameters."""

    rank: int = Field(8, ge=0, description="rank of the branch of linear layers; 0: none")
    lora: float = Field(0.01, ge=0, le=1, description="last share of training, which has the branch")


class SLoPe(BiMask):
    """Double-pruned, with a lazy low-rank branch."""

    name = "slope"
    settings = Settings  # type: ignore[assignment] # it has no decay

    def rule(self, phase: int, step: int) -> str:
        """The mask of the start, held."""
        return HOLD

    gradients = Method.gradients

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """Pruned weights get no gradient."""
        grad.masked_fill_(~mask, 0)

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """E * g."""
        return grad * mask

    def extra(self, layer: Layer) -> dict[str, nn.Parameter]:
        """left (in, rank), random; right (rank, out), zero; of plain linear layers."""
        if any(type(module) is not nn.Linear for module, _ in layer.uses) or not self.hyper["rank"]:
            return {}
        rank, (outputs, inputs), weight = int(self.hyper["rank"]), layer.values.shape, layer.values
        left = torch.randn(inputs, rank, generator=layer.generator(), device=weight.device) / math.sqrt(inputs)
        return {"left": nn.Parameter(left.to(weight.dtype)), "right": nn.Parameter(weight.new_zeros(rank, outputs))}

    def survivor(self, layer: Layer) -> type[nn.Module] | None:
        """A linear layer with the branch."""
        return LowRankLinear if layer.extra else None

    def back(self, layer: Layer, masked: Tensor) -> Tensor:
        """The weight of the backward pass; its mask is made once."""
        if "back" not in layer.memory:
            layer.memory["back"] = backward_mask(layer, masked)
        return torch.where(layer.memory["back"], masked, 0)

    def product(self, layer: Layer, inputs: Tensor, weight: Tensor, base: Product) -> Tensor:
        """The doubly pruned product, and late in training the branch."""
        made = super().product(layer, inputs, weight, base)
        if not layer.extra or self.now.step < self.now.at(1 - float(self.hyper["lora"])):
            return made
        left, right = layer.extra["left"], layer.extra["right"]
        return made + inputs @ left @ right / left.shape[1]
