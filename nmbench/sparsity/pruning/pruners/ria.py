"""ria: relative importance and activations.

Plug-and-Play: An Efficient Post-training Pruning Method for Large Language Models (Zhang et al. 2024),
biomedical-cybernetics/Relative-importance-and-activation-pruning 7bc55b0, lib/prune.py. Departures: channels are
permuted through the graph or not at all (their reallocation maps the mask back, so that no N:M is left in memory); a
row or column of zeros counts as unimportant, not as NaN.
"""

from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics


class Settings(BaseModel):
    """Hyper-parameters."""

    a: float = Field(0.5, ge=0, description="power of the norm of the inputs")


class RIA(Pruner):
    """Rank by the weight's share of its column and of its row, times the norm of its input to the power `a`."""

    name = "ria"
    settings = Settings

    def score(self, weight: Tensor, stats: Statistics) -> Tensor:
        """(|w_ij| / sum of its column + |w_ij| / sum of its row) * ||x_j|| ** a."""
        size = weight.abs()
        share = size / size.sum(0) + size / size.sum(1, keepdim=True)
        return share.nan_to_num(nan=0.0) * stats.norm ** float(self.hyper["a"])
