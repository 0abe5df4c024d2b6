"""maxq: kept weights count double or threefold where they are large in their filter or at their position too.

Xiang et al. 2024, MaxQ: Multi-Axis Query for N:M Sparsity Network; code JingyangXiang/MaxQ 9c6785a
(models/conv_type/mullt_axis_query_v1.py). The forward pass sees w m (1 + a + b): a marks the share N / M of the
largest of each filter, b that of each kernel position over all filters; STE, with SR-STE's decay of the pruned
weights. The factor is baked in at the end.

Departures: the pattern is N:M from the first step (theirs grows sparse over early epochs). Of a linear weight, which
has one position, b is over the whole weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nmbench.sparsity.gradients import ste
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.sr_ste import SRSTE


def largest(rows: Tensor, share: float) -> Tensor:
    """1 where an element is among the `share` of the largest of its row, else 0. rows: (rows, elements)."""
    count = rows.shape[1] - round(share * rows.shape[1])
    return torch.ones_like(rows).scatter_(1, rows.abs().argsort(1)[:, :count], 0.0)


class MaxQ(SRSTE):
    """Multi-axis query."""

    name = "maxq"

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """w m (1 + a + b)."""
        values, share = weight.detach(), layer.pattern.density
        filters = largest(values.flatten(1), share).view(values.shape)
        positions = values.reshape(values.shape[0] * values.shape[1], -1)
        places = largest(positions.t(), share).t().reshape(values.shape)
        return ste(weight, torch.where(layer.mask, values * (1 + filters + places), 0))
