"""sr-ste: STE and a decay on the pruned weights only.

W <- W - lr * ( g(W~) + lambda_w * (1 - E) * W )   (the same paper); the term is part of the gradient that the
optimizer receives, so momentum and Adam see it, and it enters once an optimizer step in units of the mean loss.

The authors' launch sums gradients over 8 ranks with the term inside the backward pass: the 2e-4 of their published runs
acted as 1.6e-3.
"""

from collections.abc import Sequence

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.fast import native as _native
from nmbench.sparsity.methods.base import Method


class Settings(BaseModel):
    """Hyper-parameters."""

    lambda_w: float = Field(2e-4, description="decay of the pruned weights")


class SRSTE(Method):
    """Sparse-refined straight-through estimator; `lambda_w` 2e-4 as in the paper, 0 makes it plain STE."""

    name = "sr-ste"
    settings = Settings

    def gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> None:
        """grad += lambda_w * (1 - mask) * weight."""
        lambda_w = float(self.hyper["lambda_w"])
        if lambda_w and not _native.decay(weight, mask, grad, lambda_w):
            pruned = torch.where(mask, weight.new_zeros(()), weight)
            grad.add_(pruned.to(grad.dtype), alpha=lambda_w)

    def gradients(self, grads: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        """`gradient` for all layers: those on a GPU in one launch, unless a subclass has a `gradient` of its own."""
        rest = list(range(len(grads)))
        if (lambda_w := float(self.hyper["lambda_w"])) and type(self).gradient is SRSTE.gradient:
            rest = _fused.decay(grads, weights, masks, lambda_w)
        for i in rest:
            self.gradient(grads[i], weights[i], masks[i])

    def reference_gradient(self, grad: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        """The formula as the paper has it."""
        return grad + float(self.hyper["lambda_w"]) * (1 - mask.to(weight.dtype)) * weight
