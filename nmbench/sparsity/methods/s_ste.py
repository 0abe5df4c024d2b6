"""s-ste: a soft threshold that is continuous in the weight, scaled once; ends sparse without a dense tail.

Hu et al. 2024, S-STE: Continuous Pruning Function for Efficient 2:4 Sparse Pre-training; code huyz2023/2by4-pretrain
9e33012 and thu-ml/2by4-pretrain-acc-examples ff0df22 (v2). Each group is shrunk by its largest pruned magnitude, so
that a weight enters and leaves the mask at zero; beta = <w, S(w)> / <S(w), S(w)> is taken from the initial weights and
stays.

Departures: any N:M, where the authors have 2:4. Convolutions take part with exact gradients; the sampled gradient
(MVUE, `mvue`) is that of linear layers, over groups of 4 rows, the last rows being exact where 4 does not divide them.
FP8 is left to whoever trains in it.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.gradients import Product, ste, two_sided
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.methods.sampling import seen_2_of_4


class Settings(BaseModel):
    """Hyper-parameters."""

    mvue: bool = Field(True, description="make the weight gradient of linear layers from a 2:4 sample, without bias")


def soft_threshold(layer: Layer, weight: Tensor) -> Tensor:
    """sign(w) * max(|w| - t, 0), t the largest magnitude that the mask leaves out of the group."""
    size = weight.abs()
    threshold = layer.blocks(size * ~layer.mask).amax(2, keepdim=True)  # on a CPU half the time of masked_fill
    return layer.unblocked((layer.blocks(size) - threshold).clamp_(min=0)).copysign_(weight)


class SSTE(Method):
    """Soft-thresholded STE."""

    name = "s-ste"
    settings = Settings

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """beta * S(w), the gradient to w unchanged (not times beta)."""
        values = weight.detach()
        soft = soft_threshold(layer, values)
        if "beta" not in layer.memory:
            square = float(soft.square().sum())
            layer.memory["beta"] = float((values * soft).sum()) / square if square else 1.0
        return ste(weight, soft.mul_(layer.memory["beta"]))

    def product(self, layer: Layer, inputs: Tensor, weight: Tensor, base: Product) -> Tensor:
        """As it is, but for the weight gradient of a linear layer."""
        if not (self.hyper["mvue"] and base.linear and torch.is_grad_enabled()):
            return base(inputs, weight)
        return two_sided(inputs, weight, seen=seen_2_of_4(layer, self.now), base=base)
