"""wanda: |w| times the norm of its input.

A Simple and Effective Pruning Approach for Large Language Models (Sun et al. 2024), locuslab/wanda 8e8fc87,
lib/prune.py. Departures: N is what stays (their prune_n is what goes).
"""

from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics


class Wanda(Pruner):
    """Rank by |w_ij| * ||x_j||."""

    name = "wanda"

    def score(self, weight: Tensor, stats: Statistics) -> Tensor:
        """|w_ij| * ||x_j||, the norm over all rows of calibration."""
        return weight.abs() * stats.norm
