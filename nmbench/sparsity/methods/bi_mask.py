"""bi-mask: the backward product is N:M too, by a second mask along the outputs, whose rows are put in a better order.

Zhang et al. 2023, Bi-directional Masks for Efficient N:M Sparse Training; code zyxxmu/Bi-Mask e63cd37
(CnnModels/utils/conv_type.py). The gradient to the inputs is made with w * m_b: of the weight that is masked already,
the N largest of each M outputs, in an order of the outputs that keeps most weights of `tries` random ones, drawn every
100 steps. The gradient to the weight is whole, with SR-STE's decay.

Departures: groups of the forward mask run as the pattern says (theirs along the flattened kernel). The order stays
within the groups of a grouped convolution, is drawn by a generator of its own and saved.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from nmbench.sparsity.gradients import Product, two_sided
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.mask import mask_of
from nmbench.sparsity.methods.sr_ste import SRSTE
from nmbench.sparsity.methods.sr_ste import Settings as Decay
from nmbench.sparsity.pattern import NMPattern


class Settings(Decay):
    """Hyper-parameters."""

    every: int = Field(100, ge=1, description="optimizer steps from one order of the outputs to the next")
    tries: int = Field(100, ge=0, description="random orders that are compared; 0: the outputs as they are")


def backward_mask(layer: Layer, masked: Tensor, order: Tensor | None = None) -> Tensor:
    """The non-zeros of `masked`, N of each M outputs at most, these taken in `order`; bool, of its shape.

    order: of the dimension of the outputs (out, or out / groups of a transposed convolution); None: as they are.
    """
    outputs, dim = layer.outputs, layer.outputs.dim
    turned = masked if order is None else masked.index_select(dim, order)
    kept = mask_of(turned, layer.pattern, outputs) & (turned != 0)
    return kept if order is None else torch.empty_like(kept).index_copy_(dim, order, kept)


class BiMask(SRSTE):
    """Two masks."""

    name = "bi-mask"
    settings = Settings  # type: ignore[assignment] # a wider one

    def refuses(self, pattern: NMPattern) -> str:
        """A second axis is needed."""
        return "its second mask runs along the outputs" if pattern.axis == "kernel" else ""

    def product(self, layer: Layer, inputs: Tensor, weight: Tensor, base: Product) -> Tensor:
        """The layer's own forward pass, with the gradient to the inputs through the second mask."""
        if not torch.is_grad_enabled():
            return base(inputs, weight)
        return two_sided(inputs, weight, back=self.back(layer, weight.detach()), base=base)

    def back(self, layer: Layer, masked: Tensor) -> Tensor:
        """The weight of the backward pass, masked twice."""
        order = self._order(layer, masked)
        return torch.where(backward_mask(layer, masked, order), masked, 0)

    def _order(self, layer: Layer, masked: Tensor) -> Tensor | None:
        step, every = self.now.step, int(self.hyper["every"])
        if step % every == 0 and step and self.hyper["tries"] and layer.memory.get("ordered") != step:
            generator = layer.generator(self.now.phase, step)
            size, groups = masked.shape[layer.outputs.dim], layer.outputs.groups
            orders = [_shuffled(size, groups, generator) for _ in range(int(self.hyper["tries"]))]
            kept = [int(backward_mask(layer, masked, order).sum()) for order in orders]
            layer.memory.update(order=orders[kept.index(max(kept))], ordered=step)
        order: Tensor | None = layer.memory.get("order")
        return order


def _shuffled(size: int, groups: int, generator: torch.Generator) -> Tensor:
    """A random order of `size` outputs, each within its group."""
    part = size // groups
    device = generator.device
    orders = [torch.randperm(part, generator=generator, device=device) + i * part for i in range(groups)]
    return torch.cat(orders)
