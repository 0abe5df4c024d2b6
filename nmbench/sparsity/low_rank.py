"""Linear layers with a low-rank branch: what stays of one when training by a method that adds it is over."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LowRankLinear(nn.Linear):
    """x w^T + bias + x L R / rank.

    weight: (out, in), sparse. weight_left: L, (in, rank). weight_right: R, (rank, out).
    """

    weight_left: Tensor
    weight_right: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return super().forward(input) + input @ self.weight_left @ self.weight_right / self.weight_left.shape[1]


class BlockLinear(nn.Linear):
    """x w^T + bias + s B^T, s the sums of x over blocks of inputs (see `block_sums`).

    weight: (out, in), sparse. weight_blocks: B, (out, blocks).
    """

    weight_blocks: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return super().forward(input) + F.linear(block_sums(input, self.weight_blocks.shape[1]), self.weight_blocks)


def block_sums(x: Tensor, blocks: int) -> Tensor:
    """(..., in) -> (..., blocks): the sums of ceil(in / blocks) neighbours each; the last ones may be fewer."""
    size = -(-x.shape[-1] // blocks)
    return F.pad(x, (0, blocks * size - x.shape[-1])).unflatten(-1, (blocks, size)).sum(-1)
