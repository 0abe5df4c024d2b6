"""pruner-zero: a formula that a search over symbolic expressions found.

Pruner-Zero: Evolving Symbolic Pruning Metric from Scratch for Large Language Models (Dong et al. 2024),
pprp/Pruner-Zero db70134, data/best_tree.json. Departures: none in the score; the gradient is that of each batch of
calibration, squared, summed and rooted, where theirs is of each sequence.
"""

from torch import Tensor

from nmbench.sparsity.pruning.base import Pruner, Statistics, given


class PrunerZero(Pruner):
    """Rank by w ** 2 times the gradient, brought to 0..1."""

    name = "pruner-zero"
    needs = frozenset({"gradient"})

    def score(self, weight: Tensor, stats: Statistics) -> Tensor:
        """w_ij ** 2 * (g_ij - min g) / (max g - min g)."""
        gradient = given(stats.gradient, "gradient")
        low, high = gradient.aminmax()
        return weight.square() * (gradient - low) / (high - low + 1e-10)
