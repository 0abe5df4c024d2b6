"""ast-slorb: ast with its low-rank branch, which stands in for what is pruned and stays after training.

Huang et al. 2024 (see nmbench.sparsity.methods.adaptive), SLoRB: beside the sparse product runs one with the sums of
each `block` inputs. It begins as the mean of the block's pruned weights, so that where a block's inputs are equal the
layer gives at first what it gave dense; then it learns. Of plain linear layers, in blocks of nearly equal size.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nmbench.sparsity.gradients import Product
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.low_rank import BlockLinear, block_sums
from nmbench.sparsity.mask import torch_mask
from nmbench.sparsity.methods import adaptive


class Settings(adaptive.Settings):
    """Hyper-parameters."""

    block: int = Field(16, ge=2, description="most inputs that share a weight of the branch")


class ASTWithSLoRB(adaptive.AST):
    """Adaptive sparse trainer, with a branch of block means."""

    name = "ast-slorb"
    settings = Settings

    def extra(self, layer: Layer) -> dict[str, nn.Parameter]:
        """blocks: (out, blocks of inputs), the means of what is pruned."""
        if any(type(module) is not nn.Linear for module, _ in layer.uses):
            return {}
        weight = layer.values.detach()
        pruned = weight.masked_fill(torch_mask(weight, layer.asked, layer.grouping), 0)
        blocks = -(-weight.shape[1] // int(self.hyper["block"]))
        inputs = block_sums(weight.new_ones(weight.shape[1]), blocks)
        return {"blocks": nn.Parameter(block_sums(pruned, blocks) / inputs)}

    def survivor(self, layer: Layer) -> type[nn.Module] | None:
        """A linear layer with the branch."""
        return BlockLinear if layer.extra else None

    def product(self, layer: Layer, inputs: Tensor, weight: Tensor, base: Product) -> Tensor:
        """Both products."""
        made = base(inputs, weight)
        if not layer.extra:
            return made
        means = layer.extra["blocks"]
        return made + F.linear(block_sums(inputs, means.shape[1]), means)
