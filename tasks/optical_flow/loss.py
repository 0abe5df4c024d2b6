"""The training loss of RAFT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["sequence_loss"]


def sequence_loss(estimates: Sequence[Tensor], flow: Tensor, valid: Tensor, gamma: float, max_flow: float) -> Tensor:
    """Weighted sum over the updates of the mean L1 distance to the true flow; the last estimate has weight 1.

    Equation 7 of Teed and Deng, RAFT (ECCV 2020). As in the authors' code the mean is over all pixels, those left out
    counting as zero: not `valid`, or moving by `max_flow` or more.

    Args:
        estimates: each (batch, 2, height, width), in px, in the order of the updates.
        flow: (batch, 2, height, width), in px.
        valid: (batch, height, width), bool.
        gamma: the weight of an estimate is gamma to the number of updates after it.
        max_flow: px.
    """
    counted = (valid & (torch.linalg.vector_norm(flow, dim=1) < max_flow))[:, None]
    total = flow.new_zeros(())
    for number, estimate in enumerate(estimates):
        distance = torch.where(counted, (estimate.float() - flow).abs(), 0.0)
        total = total + gamma ** (len(estimates) - 1 - number) * distance.mean()
    return total
