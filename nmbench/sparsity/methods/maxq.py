"""maxq: kept weights count double or threefold where they are large in their filter or at their position too.

Xiang et al. 2024, MaxQ: Multi-Axis Query for N:M Sparsity Network; code JingyangXiang/MaxQ 9c6785a
(models/conv_type/mullt_axis_query_v1.py). The forward pass sees w m (1 + a + b): a marks the share N / M of the
largest of each filter, b that of each kernel position over all filters; STE, with SR-STE's decay of the pruned
weights. The factor is baked in at the end.

With `grow` (`mullt_axis_query_v2_pro.py`) the groups with the smallest magnitudes stay whole at first, fewer and fewer,
none from that share of training on; 0, as their arguments have it, is N:M from the first step.

Departures: of a linear weight, which has one position, b is over the whole weight. Their second version's sigmoid in
place of the steps is left out.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from nmbench.sparsity.gradients import ste
from nmbench.sparsity.layer import Layer
from nmbench.sparsity.methods.sr_ste import SRSTE
from nmbench.sparsity.methods.sr_ste import Settings as Decay


def largest(rows: Tensor, share: float) -> Tensor:
    """1 where an element is among the `share` of the largest of its row, else 0. rows: (rows, elements)."""
    count = rows.shape[1] - round(share * rows.shape[1])
    return torch.ones_like(rows).scatter_(1, rows.abs().argsort(1)[:, :count], 0.0)


class Settings(Decay):
    """Hyper-parameters."""

    grow: float = Field(0.0, ge=0, le=1, description="share of training until no group is whole (0.25 for ImageNet)")


class MaxQ(SRSTE):
    """Multi-axis query."""

    name = "maxq"
    settings = Settings  # type: ignore[assignment] # a wider one

    def mask(self, layer: Layer, weight: Tensor) -> Tensor:
        """N:M, but for the groups that are whole still."""
        kept = super().mask(layer, weight)
        until = self.now.at(float(self.hyper["grow"]))
        if self.now.step >= until:
            return kept
        rows, sizes = layer.groups(kept), layer.groups(weight.abs()).sum(1)
        whole = sizes.argsort()[: int((1 - self.now.step / until) * len(sizes))]
        return layer.ungrouped(rows.index_fill(0, whole, 1)) > 0

    def forward(self, layer: Layer, weight: Tensor) -> Tensor:
        """w m (1 + a + b)."""
        values, share = weight.detach(), layer.pattern.density
        filters = largest(values.flatten(1), share).view(values.shape)
        positions = values.reshape(values.shape[0] * values.shape[1], -1)
        places = largest(positions.t(), share).t().reshape(values.shape)
        return ste(weight, torch.where(layer.mask, values * (1 + filters + places), 0))
