"""What a method builds its gradients from.

ste        a value forward, the gradient to the weight unchanged
two_sided  a product whose gradient to the inputs reads another weight, and whose gradient to the weight is filtered
Product    the product of one layer: linear or convolution of any kind, grouped and transposed ones too
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Seen = Callable[[Tensor], Tensor]


def ste(weight: Tensor, value: Tensor) -> Tensor:
    """`value`, exactly, with a gradient that goes to `weight` unchanged. Both of one shape."""
    made = weight.view_as(weight)  # a view hands its gradient on as it is; its numbers are set beside autograd
    made.data = value.detach().to(weight.dtype)
    return made


@dataclass(frozen=True)
class Product:
    """A layer's own operation, `product(inputs, weight)`, with its bias.

    spatial: dimensions of the kernel, 0 for a linear layer. turned: a linear weight that lies as (in, out).
    """

    bias: Tensor | None = None
    spatial: int = 0
    turned: bool = False
    transposed: bool = False
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1

    def __call__(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """inputs: (..., in), or (batch, in, *space), batch may be missing."""
        if not self.spatial:
            return F.linear(inputs, weight.t() if self.turned else weight, self.bias)
        if inputs.dim() == self.spatial + 1:
            return self(inputs[None], weight)[0]
        bias, to = self.bias, (self.padding, self.dilation, self.transposed, self.output_padding, self.groups)
        return torch.convolution(inputs, weight, bias, self.stride, *to)

    @property
    def linear(self) -> bool:
        """Is it that of a linear layer?"""
        return not self.spatial

    def backward(
        self, grad: Tensor, inputs: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, ...]:
        """Gradients to (inputs, weight, bias), those that are `wanted`, in the dtype of `grad`."""
        inputs, weight = inputs.to(grad.dtype), weight.to(grad.dtype)
        if self.spatial:
            batched = inputs.dim() == self.spatial + 2
            at = (self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups)
            size = None if self.bias is None else list(self.bias.shape)
            lifted = (grad, inputs) if batched else (grad[None], inputs[None])
            made = torch.ops.aten.convolution_backward(*lifted, weight, size, *at, list(wanted))
            return made[0] if batched or made[0] is None else made[0][0], made[1], made[2]
        rows, columns = grad.flatten(0, -2) if grad.dim() > 1 else grad[None], inputs.reshape(-1, inputs.shape[-1])
        to_weight = (columns.t() @ rows if self.turned else rows.t() @ columns) if wanted[1] else None
        to_inputs = (grad @ (weight.t() if self.turned else weight)) if wanted[0] else None
        return to_inputs, to_weight, rows.sum(0) if wanted[2] else None


class _TwoSided(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, back: Tensor, seen: Seen | None, product: Product
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, back)
        ctx.seen, ctx.product = seen, product
        return product(inputs, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, back = ctx.saved_tensors
        to_inputs, to_weight, to_bias = ctx.needs_input_grad[:3]
        made: list[Tensor | None] = [None] * 6
        if back is weight and ctx.seen is None:
            made[:3] = ctx.product.backward(grad, inputs, weight, (to_inputs, to_weight, to_bias))
        else:
            made[0] = ctx.product.backward(grad, inputs, back, (to_inputs, False, False))[0]
            made[2] = ctx.product.backward(grad, inputs, weight, (False, False, to_bias))[2]
            seen = grad if ctx.seen is None or not to_weight else ctx.seen(grad)
            made[1] = ctx.product.backward(seen, inputs, weight, (False, to_weight, False))[1]
        kinds = inputs, weight, inputs
        made[:3] = [g if g is None else g.to(like.dtype) for g, like in zip(made[:2], kinds, strict=False)] + [made[2]]
        return tuple(made)


def two_sided(
    inputs: Tensor, weight: Tensor, back: Tensor | None = None, seen: Seen | None = None, base: Product | None = None
) -> Tensor:
    """The layer's product, whose backward pass is another.

    Args:
        inputs, weight: of the product.
        back: the weight that the gradient to the inputs is made with, of the weight's shape; None: the weight.
        seen: makes of the output's gradient, (..., out) or (batch, out, *space), what the weight's gradient is made
            with; None: as it is.
        base: the layer's own operation; None: a linear layer without bias.
    """
    base = base or Product()
    product = base if base.bias is None else replace(base, bias=base.bias.detach())
    other = weight.detach() if back is None else back.detach()
    made: Tensor = _TwoSided.apply(inputs, weight, base.bias, other, seen, product)
    return made
