"""magnitude: the largest weights of each group stay. The control of every other pruner; it needs no calibration."""

from nmbench.sparsity.pruning.base import Pruner


class Magnitude(Pruner):
    """Rank by |w|."""

    name = "magnitude"
    needs = frozenset()
