"""nowag-p: normalised weights and activations.

NoWag: A Unified Framework for Shape Preserving Compression of Large Language Models (Liu et al. 2025), written from
the description of the method alone: columns and then rows of the weight are brought to unit length, and a weight counts
as its square times the mean square of its input. Their code is under the GPL and was not read, so there is no golden
data; departures cannot be told.
"""

import torch
from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics

_SMALLEST = 1e-12


class NoWagP(Pruner):
    """Rank by the square of the normalised weight times the mean square of its input."""

    name = "nowag-p"

    def score(self, weight: Tensor, stats: Statistics) -> Tensor:
        """Of w brought to unit columns, then to unit rows: w_ij ** 2 * E[x_j ** 2]."""
        unit: Tensor = weight / torch.linalg.vector_norm(weight, dim=0).clamp_min(_SMALLEST)
        unit = unit / torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min(_SMALLEST)
        return unit.square() * stats.norm.square()
