"""A linear layer with a low-rank branch: what stays of it when training by a method that adds one is over."""

from __future__ import annotations

from torch import Tensor, nn


class LowRankLinear(nn.Linear):
    """x w^T + bias + x L R / rank.

    weight: (out, in), sparse. weight_left: L, (in, rank). weight_right: R, (rank, out).
    """

    weight_left: Tensor
    weight_right: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return super().forward(input) + input @ self.weight_left @ self.weight_right / self.weight_left.shape[1]
