"""Channel permutation: the channels of a network reordered so that an N:M pattern keeps more, its function unchanged.

permute   a model, in place: before pruning once (one-shot, asp, any pruner), or as `prune(..., permute=True)`
find      the order of the columns of one matrix
"""

from nmbench.sparsity.permutation.apply import PermutationReport, permute, permute_model
from nmbench.sparsity.permutation.search import deal, find, kept

__all__ = ["PermutationReport", "deal", "find", "kept", "permute", "permute_model"]
