"""fst: fully sparse training. Both products of a layer are 2:4 sparse, and the last sixth is trained dense.

Hu et al. 2024, Accelerating Transformer Pre-training with 2:4 Sparsity; code huyz2023/2by4-pretrain 9e33012 and thu-
ml/2by4-pretrain-acc-examples ff0df22 (v1). The mask is the best of the 90 tiles of 4 x 4 that are 2:4 both ways, by
the sum of magnitudes, renewed every 40 steps; pruned weights decay by alpha in the gradient, which the authors add
after clipping; the weight gradient of linear layers is made from an unbiased 2:4 sample. It leaves a dense network.

Departures: the authors prune the feed-forward layers of transformers alone; here `layers` says which. Convolutions have
exact gradients.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.gradients import Product, two_sided
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import DENSE, FOLLOW, KEEP, Method
from nmbench.sparsity.methods.sampling import seen_2_of_4
from nmbench.sparsity.methods.transposable import tile_mask
from nmbench.sparsity.pattern import NMPattern


class Settings(BaseModel):
    """Hyper-parameters."""

    every: int = Field(40, ge=1, description="optimizer steps from one mask to the next")
    alpha: float = Field(6e-5, ge=0, description="decay of the pruned weights (6e-5 to 2e-4 for GPT-2, 1e-3 for DeiT)")
    dense_from: float = Field(5 / 6, ge=0, le=1, description="share of training after which it is dense")
    mvue: bool = Field(True, description="make the weight gradient of linear layers from a 2:4 sample, without bias")


class FST(Method):
    """2:4 both ways, with a dense end."""

    name = "fst"
    settings = Settings
    sparse = False

    def refuses(self, pattern: NMPattern) -> str:
        """2:4 alone."""
        return "" if (pattern.n, pattern.m, pattern.axis) == (2, 4, "input") else "its tiles are 2:4 both ways"

    def rule(self, phase: int, step: int) -> str:
        """A new mask every so many steps; dense in the end."""
        if step >= self.now.at(float(self.hyper["dense_from"])):
            return DENSE
        return KEEP if step % int(self.hyper["every"]) else FOLLOW

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """The best of the 90 tiles."""
        return tile_mask(layer, weight)

    def product(self, layer: Layer, inputs: Tensor, weight: Tensor, base: Product) -> Tensor:
        """As it is, but for the weight gradient of a linear layer."""
        if not (self.hyper["mvue"] and base.linear and torch.is_grad_enabled()):
            return base(inputs, weight)
        return two_sided(inputs, weight, seen=seen_2_of_4(layer, self.now), base=base)

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """grad += alpha * (1 - mask) * weight."""
        grad.add_(torch.where(mask, 0, weight).to(grad.dtype), alpha=float(self.hyper["alpha"]))

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """The formula."""
        return grad + float(self.hyper["alpha"]) * (1 - mask.to(weight.dtype)) * weight
