"""admm: alternate between the least-squares weight and its nearest one of the pattern, which tightens slowly.

Fast and Effective Weight Update for Pruned Large Language Models (Boza 2024), fmfi-compbio/admm-pruning 8039208,
lib/admm.py. Departures: any N:M (their code prunes 2:4 whatever it is told).
"""

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics, given
from nmbench.sparsity.pruning.columns import Columns


class Settings(BaseModel):
    """Hyper-parameters."""

    damp: float = Field(0.1, ge=0, description="what is added to the diagonal of X Xᵀ, as a share of its mean")
    iterations: int = Field(20, ge=1, description="updates of the weight")
    tighten: int = Field(15, ge=1, description="updates until the mask has its final density, by a cubic")


class ADMM(Pruner):
    """Computed with inputs of unit norm; the N largest of each group are never pruned on the way."""

    name = "admm"
    needs = frozenset({"gram"})
    settings = Settings

    def prune(self, weight: Tensor, stats: Statistics, columns: Columns) -> tuple[Tensor, Tensor]:
        """(new weight, mask)."""
        gram = given(stats.gram, "gram")
        norm = gram.diagonal().sqrt() + 1e-8
        normal = gram / norm / norm[:, None]
        normal.diagonal().add_(float(self.hyper["damp"]) * normal.diagonal().mean())
        left = weight * norm
        target = left @ normal
        normal.diagonal().add_(1)  # the penalty
        inverse = torch.linalg.inv(normal)
        dual = torch.zeros_like(left)
        mask = columns.top(left.abs())
        for step in range(1, int(self.hyper["iterations"]) + 1):
            if step <= (last := max(1, min(int(self.hyper["tighten"]), int(self.hyper["iterations"])))):
                mask = _tightened((left + dual).abs(), columns, 1 - (1 - step / last) ** 3)
            nearest = (left + dual) * mask
            dual = dual + left - nearest
            left = (target + nearest - dual) @ inverse
        return ((left + dual) * mask) / norm, mask


def _tightened(size: Tensor, columns: Columns, progress: float) -> Tensor:
    """The mask of `size` at `progress` (0: dense, 1: the pattern): the N of each group, and the largest of the rest."""
    protected = columns.top(size)
    pruned = int((size.numel() - int(protected.sum())) * progress)
    if not pruned:
        return torch.ones_like(protected)
    rest = size.masked_fill(protected, torch.inf)
    threshold = rest.flatten().kthvalue(pruned).values
    return protected if progress >= 1 else rest > threshold
